"""The verdict of each row: failed, wrong, unclear or passed, under the ids that the user gave."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import pytest

import hh_jupyter as hh
from hh_jupyter.experiments.results import ExperimentResultSummary
from hh_jupyter.experiments.rows import ResultRow
from hh_jupyter.testing import Backend
from tests.experiments.runs import KEY, run, updates

ROWS: list[dict[str, Any]] = [{"id": f"q{n}", "inputs": {"n": n}} for n in range(4)]


def number(datapoint: dict[str, Any]) -> int:
    n: int = datapoint["inputs"]["n"]
    if n == 3:
        raise ValueError("three")
    return n


def odd(outputs: int) -> bool:
    return outputs % 2 == 1


def marks(result: ExperimentResultSummary) -> list[str]:
    """Mark and id of each row as the page and the text show them, which must agree."""
    text = [" ".join(line.split()[:2]) for line in repr(result).splitlines() if re.match(r"[▲✗✓·] q\d", line)]
    page = re.sub(r"<[^>]*>", "", result._repr_html_())
    assert re.findall(r"[▲✗✓·] q\d", page) == text
    return text


def test_failures_come_first_then_wrong_answers_and_neither_has_a_check() -> None:
    result = run(None, number, ROWS, evaluators=[odd])
    assert marks(result) == ["▲ q3", "✗ q0", "✗ q2", "✓ q1"]
    assert (result.passed, result.failed) == (("q1",), ("q0", "q2", "q3"))
    assert repr(result).startswith("▲ test run  ")
    assert "1 failed  2 wrong" in repr(result)
    assert re.findall(r">(\d (?:failed|wrong))</b>", result._repr_html_()) == ["1 failed", "2 wrong"]
    frame = result.to_pandas()
    assert list(zip(frame["datapoint_id"], frame["passed"], strict=True)) == [
        ("q0", False), ("q1", True), ("q2", False), ("q3", False)
    ]  # fmt: skip


def test_a_run_of_wrong_answers_only_is_no_success_on_screen() -> None:
    result = run(None, lambda datapoint: 0, ROWS, evaluators=[odd])
    assert (repr(result)[0], result.passed, result.success) == ("✗", (), True)  # Nothing raised.


def pair(outputs: int) -> dict[str, Any]:
    return {"score": 0.5, "cached": False}


@pytest.mark.parametrize(
    ("evaluators", "mark"),
    [
        ([], "✓"),
        ([lambda outputs: None], "·"),
        ([lambda outputs: None, lambda outputs: True], "✓"),
        ([lambda outputs: True], "✓"),
        ([lambda outputs: 0.3], "✓"),
        ([pair], "✓"),  # A False beside the score is no verdict.
        ([lambda outputs: "yes"], "✓"),
        ([lambda outputs: True, lambda outputs: 0], "✓"),
        ([lambda outputs: False], "✗"),
        ([lambda outputs: True, lambda outputs: False], "✗"),
        ([lambda outputs: {"score": False, "explanation": "because"}], "✗"),
        ([lambda outputs: 0], "·"),
        ([lambda outputs: 0.0, lambda outputs: "No"], "·"),
        ([lambda outputs: "incorrect"], "·"),
    ],
)
def test_a_row_whose_evaluators_all_say_no_has_no_check(evaluators: list[Callable[..., Any]], mark: str) -> None:
    result = run(None, lambda datapoint: 1, ROWS[:1], evaluators=evaluators)
    assert marks(result) == [f"{mark} q0"]
    assert repr(result)[0] == mark
    assert result.passed == (("q0",) if mark == "✓" else ())
    assert result.failed == (("q0",) if mark == "✗" else ())


def test_rows_with_all_scores_zero_come_before_the_others() -> None:
    result = run(None, lambda datapoint: datapoint["inputs"]["n"], ROWS, evaluators=[lambda outputs: outputs % 2])
    assert marks(result) == ["· q0", "· q2", "✓ q1", "✓ q3"]
    assert "all scores are 0 or no" in repr(result)


@pytest.mark.parametrize(
    ("given", "own", "wire"),
    [
        ("q0", "q0", "EXT-q0"),
        (0, "0", "EXT-0"),
        ("EXT-mine", "EXT-mine", "EXT-mine"),
        ("0123456789abcdef", "0123456789abcdef", "EXT-0123456789abcdef"),
    ],
)
def test_results_have_the_ids_of_the_user_and_requests_those_of_the_backend(
    backend: Backend, given: Any, own: str, wire: str
) -> None:
    rows = [{"id": given, "inputs": {"n": 3}}]
    for result in (run(backend, number, rows, evaluators=[odd]), run(backend, number, iter(rows))):
        assert (result.rows[0].datapoint_id, result.errors[0].datapoint_id, result.failed) == (own, own, (own,))
        assert own in repr(result)
    assert list(updates(backend)) == [wire] * len(updates(backend))
    requests = [request for request in backend.requests if "/v1/runs" in request.path and request.method != "GET"]
    assert [request.body["datapoint_ids"] for request in requests if request.body.get("datapoint_ids")] == [[wire]] * 2


def test_ids_in_a_result_of_the_backend_are_those_of_the_user() -> None:
    answer = {
        "passed": ["EXT-q0"],
        "failed": ["EXT-q1"],
        "datapoints": [{"datapoint_id": "EXT-q0", "passed": True}, {"datapoint_id": "EXT-q1", "passed": False}],
        "metrics": {"details": [{"metric_name": "odd", "datapoints": {"passed": ["EXT-q0"], "failed": ["EXT-q1"]}}]},
    }
    with Backend(result=answer) as backend:
        for found in (
            run(backend, lambda datapoint: 1, ROWS[:2]),
            hh.get_run_result("run", api_key=KEY, server_url=backend.url),
        ):
            assert (found.passed, found.failed) == (("q0",), ("q1",))
            assert [point.datapoint_id for point in found.datapoints] == ["q0", "q1"]
            assert found.metrics.details[0].datapoints == {"passed": ("q0",), "failed": ("q1",)}
            assert marks(found) == ["✗ q1", "✓ q0"]


# Evaluators that prefer lower scores, and those that give none


def row_of(*evaluators: Any) -> ResultRow:
    (row,) = run(None, lambda datapoint: "some answer", [{"id": "q", "inputs": {}}], evaluators=evaluators).rows
    return row


def lower(returned: Any, name: str = "toxic") -> Any:
    @hh.evaluator(lower_is_better=True)
    def score(outputs: Any) -> Any:
        return returned

    score.__name__ = name
    return score


@pytest.mark.parametrize(("returned", "state"), [(True, "wrong"), (False, "passed"), (0, "passed"), (0.4, "passed")])
def test_yes_is_wrong_for_an_evaluator_that_prefers_lower_scores(returned: Any, state: str) -> None:
    assert row_of(lower(returned)).state == state


def test_an_evaluator_says_itself_that_lower_is_better() -> None:
    class Distance:
        lower_is_better = True

        def __call__(self, outputs: Any) -> float:
            return float(outputs)

    rows = [{"id": f"q{n}", "inputs": {"n": n}} for n in range(20)]

    def scored(offset: int) -> ExperimentResultSummary:
        evaluators = [Distance(), functools.partial(Distance()), lower(offset == 2)]
        return run(None, lambda datapoint: datapoint["inputs"]["n"] * 2 + offset, rows, evaluators=evaluators)

    old, new = scored(1), scored(2)
    assert new.lower_is_better == ("Distance", "Distance_2", "toxic")
    assert "less is better" in repr(new)
    assert "yes or no, no is better" in repr(new)
    assert "✗ yes" in repr(new)
    for found in (new.compare(old), hh.get_run_result(new.run_id).compare(hh.get_run_result(old.run_id))):
        changes = {change.name: change for change in found.changes}
        assert (changes["Distance"].verdict, changes["Distance"].worse, changes["toxic"].worse) == ("worse", 20, 20)
        assert set(found.newly_wrong) == {f"q{n}" for n in range(20)}


def test_a_row_that_no_evaluator_scores_is_neither_right_nor_wrong() -> None:
    def none(outputs: Any) -> None: ...

    def explained(outputs: Any) -> dict[str, str]:
        return {"explanation": "nothing to score"}

    def right(outputs: Any) -> bool:
        return True

    assert row_of(none).state == row_of(none, explained).state == "unclear"
    assert row_of(none, right).state == "passed"
    assert row_of().state == "passed", "without evaluators, a row passes if it does not fail"
    result = run(None, lambda datapoint: 1, [{"inputs": {}}], evaluators=[none])
    assert "· no evaluator gave a score" in repr(result)
