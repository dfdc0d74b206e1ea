"""What the displays of a run are given: everything decided and in words, before anything is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Mark = Literal["ok", "error", "running", "stopped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """How the values of a metric lie.

    Attributes:
        shares: part of all values in each of equal bins from `low` to `high`.
    """

    low: str
    high: str
    shares: Sequence[float]
    kind: Literal["numbers", "yes_no", "labels"] = "numbers"
    labels: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricView:
    """One metric, in words.

    Attributes:
        value: what the run's aggregate function made of it.
        spread: standard deviation, or for yes and no how many are yes.
        range: smallest to largest.
        count: how many data points have it.
    """

    name: str
    value: str
    spread: str
    range: str
    count: str
    distribution: Distribution | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RowView:
    """One data point, in words.

    Attributes:
        scores: one for each column; empty where there is none.
        errors: (where, what), the function's first.
        session: beginning of the session's id, to be typed after `%hh show`.
        view_id: of the place in the page where its spans are shown; None where nobody could show them.
    """

    label: str
    failed: bool
    scores: Sequence[str]
    time: str
    cost: str
    note: str
    errors: Sequence[tuple[str, str]]
    session: str
    view_id: str | None
    details: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A result as data. The same view gives the same output.

    Attributes:
        facts: after the name, in the order of their importance.
        failures: "3 failed", or empty.
        columns: names of the metrics that rows have a column for.
        rows: failures first, then in the order of the dataset; not more than anybody could look at.
        total: how many rows there are altogether.
        notes: sentences below everything.
        command: what to type to deliver the run.
    """

    mark: Mark
    name: str
    duration: str
    facts: Sequence[str]
    failures: str
    delivery: str
    run_id: str
    aggregate: str
    metrics: Sequence[MetricView]
    columns: Sequence[str]
    rows: Sequence[RowView]
    total: int
    notes: Sequence[str] = ()
    command: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressView:
    """A run that goes on.

    Attributes:
        share: of the data points that are done, from 0 to 1; None when nobody knows how many there are.
        facts: rate, cost, time left.
        doing: what happens, once all data points are done.
    """

    name: str
    done: str
    share: float | None
    facts: Sequence[str]
    failures: str
    doing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaView:
    """One metric of two runs, in words.

    Attributes:
        arrow: "▲", "▼" or "=": where the value went, which need not be better or worse.
        change: "+0.12", or empty.
        verdict: what it means; a text has none.
        improved, degraded, same: how many data points.
    """

    name: str
    old: str
    new: str
    arrow: str
    change: str
    verdict: Literal["better", "worse", "same", ""]
    improved: int
    degraded: int
    same: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedRowView:
    """One data point that changed.

    Attributes:
        changes: (metric, old, new, arrow, verdict).
    """

    label: str
    changes: Sequence[tuple[str, str, str, str, str]]
    sessions: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonView:
    """Two runs beside each other.

    Attributes:
        config: (key, old, new), of the keys that changed.
        degraded, improved: data points, those that changed most first; `more` of each are left out.
    """

    new: str
    old: str
    facts: Sequence[str]
    config: Sequence[tuple[str, str, str]]
    metrics: Sequence[DeltaView]
    degraded: Sequence[ChangedRowView]
    improved: Sequence[ChangedRowView]
    more_degraded: int = 0
    more_improved: int = 0
    notes: Sequence[str] = ()
