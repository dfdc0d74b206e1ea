"""Trials and clusters: rows are run several times, and rows that depend on each other are no independent evidence."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import pytest

import hh_jupyter as hh
from hh_jupyter.errors import SettingError, SettingTypeError
from hh_jupyter.experiments.results import ExperimentResultSummary
from hh_jupyter.experiments.rows import ResultRow, joined_trials
from hh_jupyter.testing import Backend
from tests.experiments.runs import calls, run

ROWS = [{"id": f"q{n}", "inputs": {"n": n, "doc": f"d{n // 4}"}} for n in range(24)]


def echo(datapoint: dict[str, Any]) -> int:
    return int(datapoint["inputs"]["n"])


class Scores:
    """An evaluator whose score depends on the row and on the trial."""

    def __init__(self, step: float = 1.0, gain: float = 0.0) -> None:
        self.seen: Counter[int] = Counter()
        self.step, self.gain = step, gain

    def __call__(self, outputs: Any) -> float:
        self.seen[outputs] += 1
        return float(outputs) + self.step * (self.seen[outputs] - 1) + self.gain


def scored(step: float = 1.0, gain: float = 0.0, **arguments: Any) -> ExperimentResultSummary:
    score = Scores(step, gain)
    score.__name__ = "score"  # type: ignore[attr-defined]
    return run(None, echo, arguments.pop("dataset", ROWS), evaluators=[score], max_workers=1, **arguments)


def test_each_row_is_run_as_often_as_there_are_trials_and_the_result_says_which_one() -> None:
    result = scored(trials=3)

    assert [(row.datapoint_id, row.trial) for row in result.rows[:4]] == [("q0", 1), ("q0", 2), ("q0", 3), ("q1", 1)]
    assert len({row.session_id for row in result.rows}) == result.planned == 72
    assert "3 trials of 24 rows each" in repr(result)
    assert "q0 trial 2" in repr(result)
    assert list(result.to_pandas()["trial"][:4]) == [1, 2, 3, 1]
    assert len(result.passed) == 24, "ids of rows, not of trials"


def test_the_error_of_a_mean_is_over_rows_and_the_spread_of_trials_stands_beside_it() -> None:
    once, often = scored(), scored(trials=3)

    error = math.sqrt(sum((n - 11.5) ** 2 for n in range(24)) / 23 / 24)
    assert f"± {error:.1f}" in repr(once)
    line = next(line for line in repr(often).splitlines() if line.startswith("score"))
    assert line.split()[1:5] == ["12.5", "±", f"{error:.1f}", "1"]
    assert "Within a row" in repr(often)
    assert "Within a row" not in repr(once)


def test_two_runs_are_compared_by_the_means_of_their_trials() -> None:
    found = scored(trials=3, gain=0.5).compare(scored(trials=2))

    assert (found.common_datapoints, len(found.row_changes), found.missing) == (24, 24, [])
    change = next(change for change in found.changes if change.name == "score")
    assert (change.n, change.better, change.verdict) == (24, 24, "better")
    assert change.difference == pytest.approx(1.0)  # Means of n, n+1, n+2 and half, and of n, n+1.


def test_a_yes_or_no_metric_of_trials_stays_one() -> None:
    odd = itertools.count()

    def right(outputs: Any) -> bool:
        return next(odd) % 2 == 0

    def always(outputs: Any) -> bool:
        return True

    first = run(None, echo, ROWS, evaluators=[right, always], max_workers=1, trials=2)
    second = run(None, echo, ROWS, evaluators=[right, always], max_workers=1, trials=2)
    changes = {change.name: change for change in second.compare(first).changes}
    assert (changes["right"].kind, changes["right"].verdict) == ("yes or no", "same")
    assert "50 %" in repr(second.compare(first)).replace("\N{NO-BREAK SPACE}", " ")
    assert first.failed == tuple(f"q{n}" for n in range(24)), "half of the trials are wrong: the worse counts"


def row(trial: int, **fields: Any) -> ResultRow:
    return ResultRow(index=0, datapoint_id="q", session_id=f"s{trial}", trial=trial, **{"passed": True, **fields})


def test_joined_trials_have_the_state_of_most_of_them() -> None:
    failed = {"error": "ValueError: no", "passed": False}
    (joined,) = joined_trials([row(1), row(2, metrics={"m": 3}), row(3, **failed)])
    assert (joined.state, joined.session_id, joined.metrics) == ("passed", "s1", {"m": 3})
    (joined,) = joined_trials([row(1, metrics={"m": 3}), row(2, **failed), row(3, **failed)])
    assert (joined.state, joined.session_id, joined.metrics) == ("failed", "s2", {})


@pytest.mark.parametrize(
    ("scores", "joined"),
    [
        ([True, True], True),
        ([True, False], 0.5),
        (["a", "b", "b"], "b"),
        ([1, None, 2], 1.5),
        ([math.nan, 2.0], 2.0),
        ([math.inf, 10**400], math.inf),
        (["a", 1], 1.0),
    ],
)
def test_joined_scores_are_means_or_the_most_frequent_label(scores: list[Any], joined: Any) -> None:
    rows = [row(number, metrics={} if one is None else {"m": one}) for number, one in enumerate(scores)]
    (found,) = joined_trials(rows)
    assert found.metrics["m"] == joined
    assert type(found.metrics["m"]) is type(joined)


def test_joined_scores_that_are_all_nan_are_nan() -> None:
    (found,) = joined_trials([row(number, metrics={"m": float("nan")}) for number in range(2)])
    assert math.isnan(found.metrics["m"])


def test_trials_have_sessions_of_their_own_that_name_them(backend: Backend) -> None:
    run(backend, echo, iter(ROWS[:2]), trials=2)
    assert sorted(session["metadata"]["trial"] for session in backend.sessions()) == [1, 1, 2, 2]
    (end,) = [call.body for call in calls(backend, "PUT", calls_path(backend))]
    assert end["datapoint_ids"] == ["EXT-q0", "EXT-q1"]
    assert len(end["event_ids"]) == 4


def calls_path(backend: Backend) -> str:
    return next(request.path for request in backend.requests if request.method == "PUT" and "/runs/" in request.path)


def test_one_trial_is_nothing_special(backend: Backend) -> None:
    result = run(backend, echo, ROWS[:2])
    assert all("trial" not in session["metadata"] for session in backend.sessions())
    assert "trial" not in result.to_pandas().columns


def test_rows_of_a_cluster_widen_the_error_of_a_mean() -> None:
    plain, by_key = scored(), scored(cluster="doc")
    by_function = scored(cluster=lambda datapoint: datapoint["inputs"]["n"] // 4)

    sums = [sum(n - 11.5 for n in range(start, start + 4)) for start in range(0, 24, 4)]
    error = math.sqrt(sum(one**2 for one in sums)) / 24
    for result in (by_key, by_function):
        assert f"± {error:.1f}" in repr(result)
        assert "errors over 6 clusters of rows" in repr(result)
    assert f"± {error:.1f}" not in repr(plain)
    assert list(by_key.to_pandas()["cluster"][:5]) == ["d0"] * 4 + ["d1"]


def test_a_comparison_counts_clusters_if_one_of_the_runs_has_them() -> None:
    def noisy(gain: float, **arguments: Any) -> ExperimentResultSummary:
        def score(outputs: Any) -> float:
            return float(gain if outputs // 4 % 2 else -gain / 2)

        return run(None, echo, ROWS, evaluators=[score], **arguments)

    def change(new: ExperimentResultSummary, old: ExperimentResultSummary) -> Any:
        return next(one for one in new.compare(old).changes if one.name == "score")

    alone = change(noisy(1), noisy(0))
    for new, old in ((noisy(1, cluster="doc"), noisy(0)), (noisy(1), noisy(0, cluster="doc"))):
        found = change(new, old)
        assert found.high - found.low > 1.5 * (alone.high - alone.low)
        assert "errors over 6 clusters of rows" in repr(new.compare(old))


def test_clusters_outlive_the_process_with_the_run() -> None:
    result = scored(cluster="doc", trials=2)
    again = hh.get_run_result(result.run_id)
    assert [(one.cluster, one.trial) for one in again.rows] == [(one.cluster, one.trial) for one in result.rows]
    assert again.trials == 2


def test_a_row_without_a_cluster_is_its_own() -> None:
    rows = [*ROWS[:20], {"id": "alone", "inputs": {"n": 30}}, {"id": "none", "inputs": {"n": 31, "doc": None}}]
    assert "errors over 7 clusters of rows" in repr(scored(dataset=rows, cluster="doc"))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"trials": 0}, SettingError, "trials must be 1 or more; got 0"),
        ({"trials": True}, SettingTypeError, "trials must be a whole number"),
        ({"cluster": 3}, SettingTypeError, "cluster must be a key of inputs or a function of a row; got int"),
        ({"cluster": "dok"}, SettingError, "no row has a value for 'dok'; inputs have 'n', 'doc'"),
        ({"cluster": lambda row: row["no"]}, SettingError, "cluster raised KeyError for dataset[0]"),
    ],
)
def test_a_mistake_is_named_before_anything_runs(arguments: dict[str, Any], error: type, words: str) -> None:
    seen: list[Any] = []
    with pytest.raises(error) as raised:
        run(None, seen.append, ROWS, **arguments)
    assert words in str(raised.value)
    assert not seen


def test_a_cluster_function_that_raises_for_a_row_of_an_iterator_fails_that_row() -> None:
    rows = iter([*ROWS[:2], {"id": "bad", "inputs": {"n": 9}}])
    result = run(None, echo, rows, cluster=lambda row: row["inputs"]["doc"])
    assert [error.datapoint_id for error in result.errors] == ["bad"]
    assert "cluster raised KeyError for dataset[2]" in result.errors[0].error
