"""Two results beside each other, counted here: what each metric did, on which data points."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, Final

from hh_jupyter.experiments.results import AGGREGATES, ExperimentResultSummary, Row

EQUAL: Final = 1e-9
"""Two scores that differ by less, relative to the larger, are the same."""


def metric_deltas(
    new: ExperimentResultSummary, old: ExperimentResultSummary, lower_is_better: Collection[str]
) -> dict[str, dict[str, Any]]:
    """By metric that both runs have, in the form in which the backend compares.

    Only data points that have the metric in both runs are compared. A text has no better or worse: it is the same,
    or it is in neither list.
    """
    pairs = _pairs(new, old)
    names = dict.fromkeys(name for row in new.rows for name in row.metrics)
    known = {name for row in old.rows for name in row.metrics}
    return {
        name: _delta(name, pairs, new.metrics.aggregation_function, lower=name in lower_is_better)
        for name in names
        if name in known
    }


def _pairs(new: ExperimentResultSummary, old: ExperimentResultSummary) -> list[tuple[Row, Row]]:
    before = {row.datapoint_id: row for row in old.rows}
    return [(row, before[row.datapoint_id]) for row in new.rows if row.datapoint_id in before]


def _delta(name: str, pairs: list[tuple[Row, Row]], function: str, *, lower: bool) -> dict[str, Any]:
    lists: dict[str, list[str]] = {"improved": [], "degraded": [], "same": []}
    both = [(new, old) for new, old in pairs if name in new.metrics and name in old.metrics]
    for new, old in both:
        word = verdict(new.metrics[name], old.metrics[name], lower=lower)
        if word:
            lists[word].append(new.datapoint_id)
    values = {
        "new_values": [new.metrics[name] for new, _ in both],
        "old_values": [old.metrics[name] for _, old in both],
    }
    return {
        "old_aggregate": _aggregate(values["old_values"], function),
        "new_aggregate": _aggregate(values["new_values"], function),
        "found_count": len(both),
        **{f"{word}_count": len(ids) for word, ids in lists.items()},
        **lists,
        **values,
    }


def verdict(new: Any, old: Any, *, lower: bool) -> str:
    """`improved`, `degraded` or `same`; empty for values that have no order."""
    if isinstance(new, int | float) and isinstance(old, int | float):
        if new == old or math.isclose(new, old, rel_tol=EQUAL) or (new != new and old != old):
            return "same"
        if new != new or old != old:
            return ""
        return "improved" if (new > old) is not lower else "degraded"
    return "same" if new == old else ""


def _aggregate(values: list[Any], function: str) -> float | None:
    numbers = [value for value in values if isinstance(value, int | float)]
    aggregate = AGGREGATES.get(function)
    return float(aggregate(numbers)) if numbers and aggregate is not None else None


def config_changes(new: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Keys whose value is another one now, with (old, new), None where there is none; nested keys joined by dots."""
    after, before = _flat(new), _flat(old)
    return {
        key: (before.get(key), after.get(key))
        for key in dict.fromkeys([*before, *after])
        if before.get(key) != after.get(key)
    }


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
