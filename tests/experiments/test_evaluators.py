"""What an evaluator returns, as metrics."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from hh_jupyter.experiments.evaluators import by_unique_name, score
from tests.experiments.runs import ROWS, run


class NumpyBool:
    """A scalar like numpy's: it is not a bool, but converts to one."""

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
def test_other_return_values_are_a_problem(returned: Any) -> None:
    found = score("e", returned)
    assert not found.metrics
    assert found.problem is not None
    assert f"returned a value of type {type(returned).__name__};" in found.problem


def test_an_entry_that_is_not_a_scalar_is_ignored_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    def nested(outputs: Any, inputs: Any, ground_truth: Any = None) -> dict[str, Any]:
        return {"score": 1, "nested": {"no": 1}}

    result = run(None, lambda datapoint: 1, ROWS, evaluators=[nested])
    assert result.success
    assert [record.getMessage() for record in caplog.records if record.name.startswith("hh_jupyter")] == [
        "evaluate: ignoring entries of nested that are not a number, bool or text: nested"
    ]


def test_evaluators_with_the_same_name_get_numbered_names() -> None:
    def exact() -> None: ...

    assert list(by_unique_name([exact, functools.partial(exact), len, exact])) == ["exact", "exact_2", "len", "exact_3"]
