"""Comparison of two runs, by the backend or locally: `compare_runs`."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter, deque
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any, Final, Literal, get_args

from hh_jupyter.errors import SettingError, SettingTypeError
from hh_jupyter.experiments.dataset import LOCAL_PREFIX, own_id
from hh_jupyter.experiments.local_runs import find_run
from hh_jupyter.experiments.metrics import (
    LARGEST,
    Kind,
    finite,
    is_score,
    kind_of,
    mean_of,
    names_a_score,
    usable_number,
)
from hh_jupyter.experiments.results import (
    ExperimentResultSummary,
    MetricChange,
    RowChange,
    RowState,
    RunComparisonResult,
    aggregated,
)
from hh_jupyter.experiments.rows import ResultRow, clusters_of, joined_trials, scores_by_metric
from hh_jupyter.experiments.runs import HoneyHive, get_run_result, local_spool, resolve_query
from hh_jupyter.experiments.statistics import Mean, paired_difference
from hh_jupyter.export.backend import BackendClient

RELATIVE_TOLERANCE: Final = 1e-9
"""Scores are the same if they differ by less than this, relative to the larger one."""


def pairs_of(new: ExperimentResultSummary, old: ExperimentResultSummary) -> list[tuple[ResultRow, ResultRow]]:
    """Rows of both runs that are the same data point, (new, old).

    They have the same id. Rows without an id of their own have one that depends on their position; they are the same if
    their content is. Of repeated ids or contents, the first is paired with the first, and so on.
    """
    pairs: dict[int, ResultRow] = {}
    rest_old = list(old.rows)
    for key in (_id_key, _content_key):
        before: dict[str, deque[ResultRow]] = {}
        for row in rest_old:
            before.setdefault(key(row), deque()).append(row)
        for index, row in enumerate(new.rows):
            found = before.get(key(row)) if index not in pairs and key(row) else None
            if found:
                pairs[index] = found.popleft()
        taken = {id(row) for row in pairs.values()}
        rest_old = [row for row in rest_old if id(row) not in taken]
    return [(row, pairs[index]) for index, row in enumerate(new.rows) if index in pairs]


def _id_key(row: ResultRow) -> str:
    return row.datapoint_id.removeprefix(LOCAL_PREFIX)


def _content_key(row: ResultRow) -> str:
    return row.content


def metric_deltas(
    pairs: Sequence[tuple[ResultRow, ResultRow]], function: str, lower_is_better: Collection[str]
) -> dict[str, dict[str, Any]]:
    """Changes by metric of data points that have it in both runs, in the format of the backend's comparison.

    A data point that has the metric in one run, and failed in the other, is degraded or improved.
    """
    names = dict.fromkeys(name for pair in pairs for row in pair for name in row.metrics)
    deltas = {name: _delta(name, pairs, function, lower=name in lower_is_better) for name in names}
    return {name: delta for name, delta in deltas.items() if delta["found_count"] or any(map(delta.get, _LISTS))}


_LISTS: Final = ("improved", "degraded", "same", "changed")


def _delta(name: str, pairs: Sequence[tuple[ResultRow, ResultRow]], function: str, *, lower: bool) -> dict[str, Any]:
    lists: dict[str, list[str]] = {word: [] for word in _LISTS}
    both, once = [], 0
    for new, old in pairs:
        if name in new.metrics and name in old.metrics:
            both.append((new.metrics[name], old.metrics[name]))
            lists[classify_change(*both[-1], lower=lower)].append(new.datapoint_id)
        elif name in old.metrics and _failed(name, new):
            lists["degraded"].append(new.datapoint_id)
        elif name in new.metrics and _failed(name, old):
            lists["improved"].append(new.datapoint_id)
        elif name in new.metrics or name in old.metrics:
            once += 1
    values = {"new_values": [new for new, _ in both], "old_values": [old for _, old in both]}
    return {
        "old_aggregate": _aggregate(values["old_values"], function),
        "new_aggregate": _aggregate(values["new_values"], function),
        "found_count": len(both),
        "found_once_count": once,
        **{f"{word}_count": len(lists[word]) for word in ("improved", "degraded", "same")},
        **lists,
        **values,
    }


def _failed(name: str, row: ResultRow) -> bool:
    """Whether an exception is the reason why the row lacks a metric."""
    return bool(row.error) or any(name == one or name.startswith(f"{one}_") for one in row.evaluator_errors)


def classify_change(new: Any, old: Any, *, lower: bool) -> str:
    """Return `improved`, `degraded` or `same`; `changed` for different values that have no order."""
    if isinstance(new, int | float) and isinstance(old, int | float):
        if new == old or math.isclose(new, old, rel_tol=RELATIVE_TOLERANCE) or (new != new and old != old):
            return "same"
        if new != new or old != old:
            return "changed"
        return "improved" if (new > old) is not lower else "degraded"
    return "same" if new == old else "changed"


def _aggregate(values: list[Any], function: str) -> float | None:
    found = aggregated([value for value in values if isinstance(value, int | float)], function)
    return None if found is None or (isinstance(found, int) and abs(found) > LARGEST) else float(found)


def config_changes(new: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Changed keys with (old, new) values. A missing value is None; nested keys are joined by dots."""
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


COUNT_FIELDS: Final = ("found_count", "improved_count", "degraded_count", "same_count")
LIST_FIELDS: Final = ("improved", "degraded", "same", "old_values", "new_values")


def compare_runs(
    client: HoneyHive | ExperimentResultSummary | str | None = None,
    new_run_id: ExperimentResultSummary | str | None = None,
    old_run_id: ExperimentResultSummary | str | None = None,
    project_id: str | None = None,
    aggregate_function: str = "average",
    *,
    api_key: str | None = None,
    server_url: str | None = None,
) -> RunComparisonResult:
    """Compare a run with an older one: `compare_runs(new, old)`, or `compare_runs(client, new, old)`.

    A run is an id or a result. The backend compares two ids. If one of them is a result, or a run of local mode, the
    comparison is computed locally.

    Example:
        >>> compare_runs(new.run_id, old.run_id).list_degraded_metrics()  # doctest: +SKIP

    Args:
        client: a `HoneyHive`; optional.
        project_id: ignored; the API key determines the project.
        aggregate_function: how the values of a metric are aggregated: average, sum, min, max.
        api_key, server_url: default: those of the current tracer, else of the environment.

    Raises:
        SettingError: there is no API key, or an id is missing.
        BackendError: a run does not exist, or the backend returns no usable response.
    """
    given = [run for run in (client, new_run_id, old_run_id) if run is not None and not isinstance(run, HoneyHive)]
    if len(given) == 2 and any(_is_local(run) for run in given):
        backend_client = client if isinstance(client, HoneyHive) else None
        new, old = (_load_result(run, backend_client, aggregate_function, api_key, server_url) for run in given)
        return compare_results(new, old)
    ids = [_id_only(run) for run in (new_run_id, old_run_id)]
    first = client if isinstance(client, HoneyHive) else _id_only(client)
    settings, (new_id, old_id) = resolve_query(
        "compare_runs", first, tuple(ids), api_key=api_key, server_url=server_url
    )
    with BackendClient(settings) as backend:
        return _comparison_from_answer(new_id, old_id, backend.run_comparison(new_id, old_id, aggregate_function))


def compare_results(
    new: ExperimentResultSummary, old: ExperimentResultSummary | str, lower_is_better: Sequence[str] = ()
) -> RunComparisonResult:
    """Compare two results locally, by data point."""
    if isinstance(lower_is_better, str) or not isinstance(lower_is_better, Collection):
        raise SettingTypeError(f"compare: lower_is_better must be a list of metrics; got {lower_is_better!r:.60}.")
    given: Any = old
    if not isinstance(given, ExperimentResultSummary | str):
        kinds = "a result, or the id or name of a run"
        raise SettingTypeError(f"compare: the older run must be {kinds}; got {type(given).__name__}.")
    before = given if isinstance(given, ExperimentResultSummary) else get_run_result(given)
    names = [dict.fromkeys(name for row in result.rows for name in row.metrics) for result in (new, before)]
    _check_names(lower_is_better, names[0] | names[1])
    by_evaluators = [name for result in (new, before) for name in result.lower_is_better if name in names[0] | names[1]]
    lower_is_better = tuple(dict.fromkeys([*lower_is_better, *by_evaluators]))
    joined = [dataclasses.replace(result, rows=joined_trials(result.rows)) for result in (new, before)]
    pairs = pairs_of(joined[0], joined[1])
    deltas = metric_deltas(pairs, new.metrics.aggregation_function, lower_is_better)
    paired = {id(row) for pair in pairs for row in pair}
    added, missing = ([row.datapoint_id for row in one.rows if id(row) not in paired] for one in joined)
    scores = _comparable(deltas)
    changes = row_changes(joined[0], joined[1], pairs, scores, lower_is_better)
    by_state = {state: [one.datapoint_id for one in changes if one.state == state] for state in ROW_STATES}
    return RunComparisonResult(
        new_run_id=new.run_id,
        old_run_id=before.run_id,
        common_datapoints=len(pairs),
        new_only_datapoints=len(added),
        old_only_datapoints=len(missing),
        newly_failed=by_state["newly failed"],
        newly_wrong=by_state["newly wrong"],
        newly_passed=by_state["newly right"],
        added=added,
        missing=missing,
        metric_deltas=deltas,
        new_only_metrics=[name for name in names[0] if name not in names[1] and name not in deltas],
        old_only_metrics=[name for name in names[1] if name not in names[0] and name not in deltas],
        config_changes=config_changes(new.config, before.config),
        new=new,
        old=before,
        pairs=pairs,
        lower_is_better=lower_is_better,
        changes=metric_changes(new, before, pairs, scores, lower_is_better),
        row_changes=changes,
    )


# Row by row


def _comparable(deltas: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The metrics that have numbers or labels only. Explanations cannot be compared; a score's label says the same."""
    values = {name: (*delta["new_values"], *delta["old_values"]) for name, delta in deltas.items()}
    scores = {name: found for name, found in values.items() if all(is_score(name, value) for value in found)}
    return {name: deltas[name] for name, found in scores.items() if not names_a_score(name, found, scores)}


STATE_RANKS: Final = {"failed": 0, "wrong": 1, "unclear": 2, "passed": 2}
"""An exception is worse than a wrong answer, which is worse than any other."""

ROW_STATES: Final[tuple[RowState, ...]] = get_args(RowState)
"""The states of rows in the order in which they are listed."""

_WORDS: Final[Mapping[str, Literal["better", "worse", "changed"]]] = {
    "improved": "better", "degraded": "worse", "changed": "changed"
}  # fmt: skip


def row_changes(
    new: ExperimentResultSummary,
    old: ExperimentResultSummary,
    pairs: Sequence[tuple[ResultRow, ResultRow]],
    deltas: Mapping[str, Mapping[str, Any]],
    lower_is_better: Collection[str],
) -> tuple[RowChange, ...]:
    """Every data point of both runs by state, those of one state by the size of the change."""
    reach = {name: _range([*delta["new_values"], *delta["old_values"]]) for name, delta in deltas.items()}
    found = []
    for row, before in pairs:
        both = [name for name in deltas if name in row.metrics and name in before.metrics]
        words = {
            name: classify_change(row.metrics[name], before.metrics[name], lower=name in lower_is_better)
            for name in both
        }
        metrics = {name: _WORDS[word] for name, word in words.items() if word != "same"}
        change = RowChange(
            datapoint_id=row.datapoint_id, state=_state(row, before, metrics), new=row, old=before, metrics=metrics
        )
        found.append((ROW_STATES.index(change.state), -_size(row, before, metrics, reach), change))
    paired = {id(row) for pair in pairs for row in pair}
    missing, added = ([row for row in one.rows if id(row) not in paired] for one in (old, new))
    alone = [RowChange(datapoint_id=row.datapoint_id, state="missing", old=row) for row in missing]
    alone += [RowChange(datapoint_id=row.datapoint_id, state="added", new=row) for row in added]
    found += [(ROW_STATES.index(change.state), 0.0, change) for change in alone]
    return tuple(change for *_, change in sorted(found, key=lambda item: item[:2]))


def _state(new: ResultRow, old: ResultRow, metrics: Mapping[str, str]) -> RowState:
    rank, before = STATE_RANKS[new.state], STATE_RANKS[old.state]
    if rank < before:
        return "newly failed" if rank == 0 else "newly wrong"
    if new.state == "passed" and before < rank:
        return "newly right"
    if rank == before and rank < 2:
        return "failed in both" if rank == 0 else "wrong in both"
    if before == 0:
        return "better"  # From an exception to a wrong answer, or to one that may be good or bad.
    if first := next((word for word in metrics.values() if word != "changed"), None):
        return "better" if first == "better" else "worse"
    same = (new.outputs, new.outputs_digest) == (old.outputs, old.outputs_digest) and not metrics
    return "same" if same else "changed"


def _size(new: ResultRow, old: ResultRow, metrics: Mapping[str, str], reach: Mapping[str, float]) -> float:
    """The largest change of a score, in relation to the range of its metric."""
    largest = 0.0
    for name in metrics:
        after, before = usable_number(new.metrics[name]), usable_number(old.metrics[name])
        if after is not None and before is not None and reach[name]:
            largest = max(largest, abs(after - before) / reach[name])
    return largest


def _range(values: Sequence[Any]) -> float:
    numbers = finite(values)
    return max(numbers) - min(numbers) if numbers else 0.0


# Metric by metric


def metric_changes(
    new: ExperimentResultSummary,
    old: ExperimentResultSummary,
    pairs: Sequence[tuple[ResultRow, ResultRow]],
    deltas: Mapping[str, Mapping[str, Any]],
    lower_is_better: Collection[str],
) -> tuple[MetricChange, ...]:
    """The change of each metric, then of time and cost for each row that ran in both.

    Args:
        new, old: results whose rows may be trials.
        pairs: of joined trials.
    """
    clusters = pair_clusters(pairs)
    sides = [scores_by_metric(one.rows) for one in (new, old)]
    found = []
    for name, delta in deltas.items():
        scores = list(zip(delta["new_values"], delta["old_values"], strict=True))
        values = [value for side in sides if name in side for value in side[name].values]
        means = [mean_of(*side[name]) if name in side else None for side in sides]
        groups = None
        if clusters is not None:
            paired = (name in row.metrics and name in before.metrics for row, before in pairs)
            groups = list(itertools.compress(clusters, paired))
        lower = name in lower_is_better
        found.append(_metric_change(name, kind_of(values), means[0], means[1], scores, groups, lower=lower))
    ran = [number for number, pair in enumerate(pairs) if not any(row.error for row in pair)]
    dollars: Kind = "estimated dollars" if new.cost_estimated or old.cost_estimated else "dollars"
    usage: tuple[tuple[str, str, Kind], ...] = (("time a row", "seconds", "seconds"), ("cost a row", "cost", dollars))
    for name, field, kind in usage:
        both = {number: (getattr(pairs[number][0], field), getattr(pairs[number][1], field)) for number in ran}
        both = {number: pair for number, pair in both.items() if None not in pair}
        if both:
            groups = None if clusters is None else [clusters[number] for number in both]
            means = [mean_of([pair[side] for pair in both.values()], clusters=groups) for side in (0, 1)]
            found.append(_metric_change(name, kind, means[0], means[1], list(both.values()), groups, lower=True))
    return tuple(found)


def pair_clusters(pairs: Sequence[tuple[ResultRow, ResultRow]]) -> list[Hashable] | None:
    """The clusters of pairs: those of the new run, or else of the old one; None if neither has any."""
    return clusters_of([new for new, _ in pairs]) or clusters_of([old for _, old in pairs])


def _metric_change(
    name: str,
    kind: Kind,
    new: Mean | None,
    old: Mean | None,
    scores: Sequence[tuple[Any, Any]],
    clusters: Sequence[Hashable] | None,
    *,
    lower: bool,
) -> MetricChange:
    """The change of a metric. Its rows are paired: a row that has the score in one run only does not count.

    Args:
        scores: (new, old) of each pair, and `clusters` its cluster, if the runs have any.
    """
    words = Counter(classify_change(*pair, lower=lower) for pair in scores)
    after, before = ([usable_number(pair[side]) for pair in scores] for side in (0, 1))
    known = [None not in pair for pair in zip(after, before, strict=True)]
    change = MetricChange(
        name=name,
        kind=kind,
        old=old,
        new=new,
        n=len(scores) if kind == "label" else sum(known),
        better=words["improved"],
        worse=words["degraded"],
        changed=words["changed"],
        lower_is_better=lower,
    )
    if kind == "label":
        return dataclasses.replace(change, verdict="changed" if change.changed else "same" if scores else "")
    if not any(known):
        return change
    groups = None if clusters is None else list(itertools.compress(clusters, known))
    olds, news = ([one for one in itertools.compress(side, known) if one is not None] for side in (before, after))
    rounded = [
        old if classify_change(new, old, lower=lower) == "same" else new for old, new in zip(olds, news, strict=True)
    ]
    found = paired_difference(olds, rounded, groups)
    same = not (change.better or change.worse)
    verdict = "same" if same else found.verdict(lower_is_better=lower)
    return dataclasses.replace(change, difference=found.value, low=found.low, high=found.high, verdict=verdict)


def _check_names(names: Sequence[str], known: Collection[str]) -> None:
    from difflib import get_close_matches

    for name in names:
        if name not in known:
            similar = get_close_matches(str(name), known, n=1)
            hint = f"Did you mean {similar[0]!r}?" if similar else f"Metrics: {', '.join(known) or 'none'}."
            raise SettingError(f"compare: lower_is_better: the runs have no metric {name!r:.60}. {hint}")


def _is_local(run: Any) -> bool:
    return isinstance(run, ExperimentResultSummary) or find_run(str(run), local_spool()) is not None


def _load_result(
    run: Any, client: HoneyHive | None, aggregate_function: str, api_key: str | None, server_url: str | None
) -> ExperimentResultSummary:
    if isinstance(run, ExperimentResultSummary):
        return run
    return get_run_result(
        client, str(run), aggregate_function=aggregate_function, api_key=api_key, server_url=server_url
    )


def _id_only(run: ExperimentResultSummary | HoneyHive | str | None) -> str | None:
    if isinstance(run, ExperimentResultSummary):
        return run.run_id
    return None if run is None or isinstance(run, HoneyHive) else str(run)


def _comparison_from_answer(new: str, old: str, answer: Mapping[str, Any]) -> RunComparisonResult:
    metrics = [item for item in answer.get("metrics") or () if item.get("metric_name")]
    deltas = {str(item["metric_name"]): _delta_from_answer(item) for item in metrics}
    scores = _comparable(deltas)
    return RunComparisonResult(
        new_run_id=new,
        old_run_id=old,
        common_datapoints=len(answer.get("commonDatapoints") or ()),
        metric_deltas=deltas,
        changes=tuple(_change_from_delta(name, delta) for name, delta in scores.items()),
        row_changes=_rows_from_deltas(scores),
    )


def _change_from_delta(name: str, delta: Mapping[str, Any]) -> MetricChange:
    """The change of a metric that the backend has compared, by its aggregates."""
    old, new = (delta[f"{side}_aggregate"] for side in ("old", "new"))
    n, found = int(delta["found_count"]), finite([old, new])
    means = [Mean(value, None, n) for value in found] if len(found) == 2 else [None, None]
    return MetricChange(
        name=name,
        kind=kind_of([*delta["old_values"], *delta["new_values"]] or [old, new]),
        old=means[0],
        new=means[1],
        difference=found[1] - found[0] if len(found) == 2 else None,
        n=n,
        better=int(delta["improved_count"]),
        worse=int(delta["degraded_count"]),
    )


def _rows_from_deltas(deltas: Mapping[str, Mapping[str, Any]]) -> tuple[RowChange, ...]:
    words: dict[str, dict[str, Literal["better", "worse", "changed"]]] = {}
    for name, delta in deltas.items():
        for field in ("degraded", "improved"):
            for one in delta[field]:
                words.setdefault(own_id(str(one)), {})[name] = _WORDS[field]
    states: dict[str, RowState] = {
        one: "worse" if "worse" in found.values() else "better" for one, found in words.items()
    }
    found = [RowChange(datapoint_id=one, state=states[one], metrics=words[one]) for one in words]
    return tuple(sorted(found, key=lambda change: ROW_STATES.index(change.state)))


def _delta_from_answer(item: Mapping[str, Any]) -> dict[str, Any]:
    """The delta of one metric. Fields that are missing in the response get empty values."""
    return {
        "old_aggregate": item.get("old_aggregate"),
        "new_aggregate": item.get("new_aggregate"),
        **{name: item.get(name) or 0 for name in COUNT_FIELDS},
        **{name: item.get(name) or [] for name in LIST_FIELDS},
    }
