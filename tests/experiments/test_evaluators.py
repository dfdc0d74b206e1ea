"""What an evaluator returns, as metrics."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from hh_jupyter.experiments.evaluators import named, score
from tests.experiments.runs import ROWS, run


class NumpyBool:
    """A scalar as numpy makes it: no bool, but it has one."""

    shape = ()

    def item(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("returned", "metrics"),
    [
        (1, {"e": 1}),
        (0.5, {"e": 0.5}),
        (False, {"e": False}),
        ("good", {"e": "good"}),
        ([0.25], {"e": 0.25}),
        (({"score": 1},), {"e": 1}),
        ({"score": 1, "explanation": "why", "length": 3}, {"e": 1, "e_explanation": "why", "e_length": 3}),
        ({"detail": 3}, {"e_detail": 3}),
        ({"score": None}, {}),
        (NumpyBool(), {"e": True}),
        (None, {}),
    ],
)
def test_scalars_and_dicts_are_metrics(returned: Any, metrics: dict[str, Any]) -> None:
    found = score("e", returned)
    assert dict(found.metrics) == metrics
    assert found.problem is None


@pytest.mark.parametrize("returned", [(1, 2), [], object()])
def test_anything_else_is_no_score_and_that_is_said(returned: Any) -> None:
    found = score("e", returned)
    assert not found.metrics
    assert found.problem is not None
    assert f"returned a {type(returned).__name__}" in found.problem


def test_an_extra_that_is_no_scalar_is_left_out_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    def nested(outputs: Any, inputs: Any, ground_truth: Any = None) -> dict[str, Any]:
        return {"score": 1, "nested": {"no": 1}}

    result = run(None, lambda datapoint: 1, ROWS, evaluators=[nested])
    assert result.success
    assert [record.getMessage() for record in caplog.records] == [
        "evaluate: nested returns extras that are no number, bool or text, left out: nested"
    ]


def test_evaluators_of_the_same_name_replace_none_of_each_other() -> None:
    def exact() -> None: ...

    assert list(named([exact, functools.partial(exact), len, exact])) == ["exact", "exact_2", "len", "exact_3"]
