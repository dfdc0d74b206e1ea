"""Rows of a result: one for each data point, or for each trial of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import fsum
from typing import Any, Final, Literal, NamedTuple, get_args

from hh_jupyter.experiments.metrics import finite

State = Literal["failed", "wrong", "unclear", "passed"]
STATES: Final[tuple[State, ...]] = get_args(State)
"""The states of rows, the worst first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow:
    """One data point of a result, with everything that this process has measured.

    Attributes:
        index: position in the dataset.
        trial: number of the trial of the data point, from 1 on; None if each data point is run once.
        cluster: name of the group of data points that depend on each other; empty for none.
        datapoint_id: the id that the user gave, or a generated one.
        content: hash of the row if it has no id of its own; see `Datapoint`.
        passed: False if something raised or an evaluator returned False; None if no evaluator gave a score, or all
            scores are 0 or a text such as "no", which may be good or bad; else True. Or the backend's verdict.
        error: "Type: text" of an exception of the function. No evaluator ran then.
        evaluator_errors: by evaluator, "Type: text" of its exception, or why its return value is not a score.
        seconds: duration of the function, all attempts together; None if it did not run in this process.
        cost, tokens: of the model calls of the function, the cost in US dollars as far as known; None if unknown.
        judge_cost: cost of the model calls of the evaluators, likewise.
        attempts: 1, plus the number of retries of function and evaluators.
        inputs, expected, outputs: the first characters, as text.
        outputs_digest: hash of the whole output if `outputs` is cut; else empty.
    """

    index: int
    datapoint_id: str
    session_id: str
    metrics: Mapping[str, Any] = field(default_factory=dict)
    passed: bool | None = None
    error: str | None = None
    evaluator_errors: Mapping[str, str] = field(default_factory=dict)
    seconds: float | None = None
    cost: float | None = None
    tokens: int | None = None
    judge_cost: float | None = None
    attempts: int = 1
    inputs: str = ""
    expected: str = ""
    outputs: str = ""
    outputs_digest: str = ""
    content: str = ""
    trial: int | None = None
    cluster: str = ""

    @property
    def state(self) -> State:
        """`failed` if something raised, else by `passed`: `wrong`, `unclear` or `passed`."""
        if self.error or self.evaluator_errors:
            return "failed"
        return "unclear" if self.passed is None else "passed" if self.passed else "wrong"


def clusters_of(rows: Sequence[ResultRow]) -> list[Hashable] | None:
    """The cluster of each row; None if no row has one. A row without one is a cluster of its own."""
    return [row.cluster or row.index for row in rows] if any(row.cluster for row in rows) else None


class Scores(NamedTuple):
    """The scores of one metric: the values, and of each the number of its data point and its cluster."""

    values: list[Any]
    rows: list[int]
    clusters: list[Hashable] | None


def scores_by_metric(rows: Sequence[ResultRow]) -> dict[str, Scores]:
    """The scores of each metric, in the order of the rows."""
    found: dict[str, Scores] = {}
    clusters = clusters_of(rows)
    for number, row in enumerate(rows):
        for name, value in row.metrics.items():
            if name not in found:
                found[name] = Scores([], [], None if clusters is None else [])
            scores = found[name]
            scores.values.append(value)
            scores.rows.append(number if row.trial is None else row.index)
            if clusters is not None and scores.clusters is not None:
                scores.clusters.append(clusters[number])
    return found


def joined_trials(rows: Sequence[ResultRow]) -> Sequence[ResultRow]:
    """One row for each data point, with the means of its trials.

    It has the state that most trials have, of two equally frequent ones the worse, and error, texts and session of the
    first trial in that state. If the function failed in most trials, it has no scores.
    """
    if all(row.trial is None for row in rows):
        return rows
    trials: dict[int, list[ResultRow]] = {}
    for row in rows:
        trials.setdefault(row.index, []).append(row)
    return [_joined(each) for each in trials.values()]


def _joined(trials: Sequence[ResultRow]) -> ResultRow:
    states = Counter(row.state for row in trials)
    state = max(STATES, key=lambda one: states[one])
    shown = next(row for row in trials if row.state == state)
    names = () if shown.error else dict.fromkeys(name for row in trials for name in row.metrics)
    tokens = _mean(row.tokens for row in trials)
    return replace(
        shown,
        trial=None,
        metrics={name: _joined_score([row.metrics[name] for row in trials if name in row.metrics]) for name in names},
        seconds=_mean(row.seconds for row in trials),
        cost=_mean(row.cost for row in trials),
        judge_cost=_mean(row.judge_cost for row in trials),
        tokens=None if tokens is None else round(tokens),
        attempts=max(row.attempts for row in trials),
    )


def _joined_score(values: Sequence[Any]) -> Any:
    """The mean of scores; of labels, the most frequent one. Equal scores stay what they are, such as bools."""
    if all(value is values[0] or (type(value), value) == (type(values[0]), values[0]) for value in values):
        return values[0]
    numbers = finite(values)
    if numbers:
        return fsum(numbers) / len(numbers)
    texts = Counter(value for value in values if isinstance(value, str))
    return texts.most_common(1)[0][0] if texts else values[0]  # NaN, or infinite.


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fsum(known) / len(known) if known else None
