"""Comparisons of runs hide nothing: rows that newly fail, are wrong, pass, are missing or added come first."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from hh_jupyter.experiments import RunComparisonResult
from hh_jupyter.experiments.comparison import ROW_STATES
from hh_jupyter.experiments.results import ExperimentResultSummary
from tests.experiments.runs import run

ROWS: list[dict[str, Any]] = [{"id": f"q{n}", "inputs": {"n": n}} for n in range(10)]


def scored(score: Callable[[int], Any], rows: Any = ROWS, name: str = "near", **arguments: Any) -> Any:
    """A run that returns the number of each row, and scores it. A score that is an exception is raised."""

    def evaluator(outputs: int) -> Any:
        found = score(outputs)
        if isinstance(found, Exception):
            raise found
        return found

    evaluator.__name__ = name
    return run(None, lambda datapoint: datapoint["inputs"]["n"], rows, evaluators=[evaluator], **arguments)


def fails_below(limit: int, rows: Any = ROWS, score: float = 1.0) -> ExperimentResultSummary:
    def task(datapoint: dict[str, Any]) -> int:
        if datapoint["inputs"]["n"] < limit:
            raise ValueError("too small")
        return int(datapoint["inputs"]["n"])

    def near(outputs: int) -> float:
        return score

    return run(None, task, rows, evaluators=[near])


STATES = "|".join(ROW_STATES)


def groups(found: RunComparisonResult) -> dict[str, int]:
    """Numbers of rows by state as the page lists them, in order; the text must list the same."""
    table = found._repr_html_().partition(">State</td>")[2]
    page = re.findall(rf"<td[^>]*>(?:<b>)?({STATES})(?:</b>)?</td>", table)
    text = re.findall(rf"^\S \S+ +({STATES})(?:  |$)", repr(found), re.MULTILINE)
    assert text == page[:10]
    return dict(Counter(page))


def test_rows_that_newly_fail_are_worse_than_any_score_and_listed_first() -> None:
    old, new = fails_below(0), fails_below(5)
    found = new.compare(old)
    assert found.newly_failed == ["q0", "q1", "q2", "q3", "q4"]
    assert found.list_degraded_metrics() == ["near"]
    assert [found.metric_deltas["near"][f"{word}_count"] for word in ("degraded", "same", "found")] == [5, 5, 5]
    assert "5 newly failed" in repr(found).splitlines()[0]
    assert groups(found) == {"newly failed": 5}
    assert "right → ValueError: too small" in repr(found)
    assert ">▲</span>" in found._repr_html_().split("</div>")[0]
    back = old.compare(new)
    assert (back.newly_passed, back.list_improved_metrics()) == (found.newly_failed, ["near"])
    assert groups(back) == {"newly right": 5}


def test_a_run_in_which_all_fail_is_compared_too() -> None:
    found = fails_below(99).compare(fails_below(0), lower_is_better=["near"])
    delta = found.metric_deltas["near"]
    assert (len(found.newly_failed), delta["degraded_count"], delta["new_aggregate"]) == (10, 10, None)


def test_better_scores_do_not_hide_rows_that_failed() -> None:
    found = fails_below(8, score=0.9).compare(fails_below(0, score=0.5))
    assert "8 newly failed" in repr(found).splitlines()[0]
    assert "near 2 better, 0 worse of 2 rows. 8 of 10 rows failed in a run and are not paired." in repr(found)
    assert "Better: " not in repr(found)


def test_missing_and_added_rows_are_listed() -> None:
    found = fails_below(3, ROWS[2:]).compare(fails_below(0, ROWS[:8]))
    assert (found.missing, found.added, found.newly_failed) == (["q0", "q1"], ["q8", "q9"], ["q2"])
    assert groups(found) == {"newly failed": 1, "missing": 2, "added": 2}
    assert "6 rows in both" in repr(found).splitlines()[0]
    assert "Rows: 2 missing, 2 added" in repr(found)
    nothing = fails_below(0, ROWS[:2]).compare(fails_below(0, ROWS[8:]))
    assert (nothing.common_datapoints, groups(nothing)) == (0, {"missing": 2, "added": 2})


def test_rows_without_ids_are_paired_by_content_wherever_they_stand() -> None:
    rows = [{"inputs": {"n": n}} for n in (1, 2, 2, 3)]
    shifted = [{"inputs": {"n": 9}}, *rows[::-1]]
    found = fails_below(2, shifted).compare(fails_below(0, rows))
    assert (found.common_datapoints, len(found.added), len(found.missing), len(found.newly_failed)) == (4, 1, 0, 1)


def test_repeated_ids_are_paired_in_order() -> None:
    twice = [{"id": "same", "inputs": {"n": n}} for n in (1, 5)]
    found = fails_below(3, twice).compare(fails_below(0, [*twice, twice[1]]))
    assert (found.common_datapoints, found.newly_failed, found.missing) == (2, ["same"], ["same"])
    assert groups(found) == {"newly failed": 1, "missing": 1}


def test_an_evaluator_that_newly_fails_is_a_regression() -> None:
    found = scored(lambda n: RuntimeError("no judge") if n < 2 else 1).compare(scored(lambda n: 1))
    assert (found.newly_failed, found.metric_deltas["near"]["degraded"]) == (["q0", "q1"], ["q0", "q1"])
    assert "right → near: RuntimeError: no judge" in repr(found)


@pytest.mark.parametrize("before", [RuntimeError("x"), False])
def test_a_row_whose_score_may_mean_no_does_not_newly_pass(before: Any) -> None:
    found = scored(lambda n: 0).compare(scored(lambda n: before))
    assert (found.newly_passed, "newly passed" in repr(found)) == ([], False)
    assert groups(found) == ({} if before is False else {"better": 10})


def test_wrong_answers_are_counted_by_what_they_were_before() -> None:
    def old_score(n: int) -> Any:
        return RuntimeError("x") if n == 2 else n != 0

    found = scored(lambda n: n not in (1, 2)).compare(scored(old_score))
    assert (found.newly_passed, found.newly_wrong, found.newly_failed) == (["q0"], ["q1"], [])
    assert groups(found) == {"newly wrong": 1, "newly right": 1, "better": 1}  # From an exception to a wrong answer.
    assert "near: RuntimeError: x → wrong" in repr(found)


@pytest.mark.parametrize(
    ("old", "new", "group"),
    [
        (0.5, 0.25, "worse"),
        (1, 2, "better"),
        ("good", "bad", "changed"),
        (0.5, "bad", "changed"),
        (float("nan"), 0.5, "changed"),
        (True, False, "newly wrong"),
    ],
)
def test_changed_scores_of_every_kind_are_listed(old: Any, new: Any, group: str) -> None:
    found = scored(lambda n: new if n == 0 else old).compare(scored(lambda n: old))
    assert groups(found) == {group: 1}


def test_lower_may_be_better_in_the_list_too() -> None:
    found = scored(lambda n: n + 2).compare(scored(lambda n: n + 1), lower_is_better=["near"])
    assert groups(found) == {"worse": 10}


def test_scores_in_one_run_only_are_mentioned() -> None:
    found = scored(lambda n: None if n < 3 else 1).compare(scored(lambda n: 1))
    assert (groups(found), found.metric_deltas["near"]["found_once_count"]) == ({}, 3)
    assert "near: 3 rows with a score in one run only" in repr(found)
    other = scored(lambda n: 1, name="other").compare(scored(lambda n: 1))
    assert (other.new_only_metrics, other.old_only_metrics) == (["other"], ["near"])
    for shown in (repr(other), other._repr_html_()):
        assert "only the new run has other" in shown
        assert "only the old run has near" in shown


def test_runs_that_agree_have_a_check_and_no_groups() -> None:
    found = scored(lambda n: n).compare(scored(lambda n: n))
    assert groups(found) == {}
    assert ">✓</span>" in found._repr_html_().split("</div>")[0]
