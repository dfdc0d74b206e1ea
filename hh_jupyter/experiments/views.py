"""Views of results and comparisons: all content of a display, before it is rendered as text or HTML.

Notebooks are saved, committed and mailed. So a view holds names, numbers and redacted errors; the first characters of
inputs and outputs only with the setting `saved_detail`. `result.to_pandas()` has everything.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any, Final, Literal, TextIO

from hh_jupyter.display import comparison as comparison_display
from hh_jupyter.display import experiments as run_display
from hh_jupyter.display import format as fmt
from hh_jupyter.display import updatable_output
from hh_jupyter.display.experiments import (
    STATE_MARKS,
    ChangedGroup,
    ChangedRowView,
    ComparisonView,
    DeltaView,
    Distribution,
    MetricView,
    RowView,
    RunView,
)
from hh_jupyter.display.view import Mark
from hh_jupyter.experiments.comparison import STATE_RANKS, classify_change, newly_passes
from hh_jupyter.experiments.dataset import LOCAL_PREFIX, is_generated, own_id
from hh_jupyter.experiments.results import (
    AGGREGATES,
    COMPLETED,
    INTERRUPTED,
    LOCAL_ONLY,
    ExperimentResultSummary,
    ResultRow,
    RunComparisonResult,
)
from hh_jupyter.experiments.runs import text_without_secrets
from hh_jupyter.settings import display_settings

# Metrics: aggregate, spread, range, distribution

BINS: Final = 12
LABEL_LENGTH: Final = 24
MAX_LABELS: Final = 8
SHOWN_LABELS: Final = 3
EXPLANATION: Final = "_explanation"


def metric_views(result: ExperimentResultSummary) -> list[MetricView]:
    """Views of all metrics of numbers, bools or a few labels. Metrics of the aggregated result come first."""
    details = result.metrics.get_all_metrics()
    values: dict[str, list[Any]] = {}
    for row in result.rows:
        for name, value in row.metrics.items():
            values.setdefault(name, []).append(value)
    views = []
    for name in dict.fromkeys([*details, *values]):
        detail = details.get(name)
        found = values.get(name) or list(detail.values if detail is not None else ())
        known = detail.aggregate if detail is not None else None
        view = _metric_view(name, found, known, result.metrics.aggregation_function)
        if view is not None:
            views.append(view)
    return views


def is_label(name: str, value: str) -> bool:
    """Whether a text score is a short label, not an explanation."""
    return len(value) <= LABEL_LENGTH and "\n" not in value and not name.endswith(EXPLANATION)


def number(value: float) -> str:
    """Format a number: `0.8125`, `12`, `1,204`, `3.1e-07`."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or (math.isfinite(value) and value == int(value) and abs(value) < 1e15):
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 1_000 else f"{value:.4g}"


def _metric_view(name: str, values: Sequence[Any], known: Any, function: str) -> MetricView | None:
    numbers = [value for value in values if isinstance(value, int | float) and math.isfinite(value)]
    if not numbers:
        return (
            _aggregate_view(name, known) if not values else _label_view(name, [v for v in values if isinstance(v, str)])
        )
    aggregate = AGGREGATES.get(function)
    value = known if isinstance(known, int | float) else aggregate(numbers) if aggregate is not None else None
    yes_no = all(isinstance(value, bool) for value in numbers)
    return MetricView(
        name=name,
        value="-" if value is None else number(value),
        spread=_spread(numbers, yes_no=yes_no),
        range="" if yes_no else f"{number(min(numbers))} to {number(max(numbers))}",
        count=f"{len(numbers):,}",
        distribution=_yes_no(numbers) if yes_no else _bins(numbers),
    )


def _aggregate_view(name: str, known: Any) -> MetricView | None:
    if known is None:
        return None
    value = number(known) if isinstance(known, int | float) else str(known)[:LABEL_LENGTH]
    return MetricView(name=name, value=value, spread="", range="", count="", distribution=None)


def _label_view(name: str, values: Sequence[str]) -> MetricView | None:
    counted = Counter(values)
    if not counted or len(counted) > MAX_LABELS or not all(is_label(name, value) for value in counted):
        return None
    common = counted.most_common(SHOWN_LABELS)
    labels = [f"{label} {times:,}" for label, times in common]
    if len(counted) > len(common):
        labels.append(f"{len(counted) - len(common)} more")
    shares = [times / len(values) for _, times in common]
    distribution = Distribution(low="", high="", shares=shares, kind="labels", labels=labels)
    return MetricView(name=name, value="", spread="", range="", count=f"{len(values):,}", distribution=distribution)


def _spread(numbers: Sequence[float], *, yes_no: bool) -> str:
    if yes_no:
        return f"{sum(numbers):,.0f} of {len(numbers):,}"
    return f"± {number(stdev(numbers))}" if len(numbers) > 1 else ""


def _yes_no(numbers: Sequence[float]) -> Distribution:
    return Distribution(low="no", high="yes", shares=[fmean(numbers)], kind="yes_no")


def _bins(numbers: Sequence[float]) -> Distribution:
    low, high = min(numbers), max(numbers)
    width = (high - low) / BINS
    if not (width > 0 and math.isfinite(width)):
        return Distribution(low=number(low), high=number(high), shares=[1.0])
    counts = [0] * BINS
    for value in numbers:
        counts[min(int((value - low) / width), BINS - 1)] += 1
    return Distribution(low=number(low), high=number(high), shares=[count / len(numbers) for count in counts])


MAX_ROWS: Final = 60
MAX_COLUMNS: Final = 6
"""Metrics with a column in the table of data points; others are in the details of each data point."""

CONFIG_LENGTH: Final = 40
SHORT_ID: Final = 8


def result_html(result: ExperimentResultSummary) -> str:
    """The result as static HTML."""
    return run_display.result_html(result_view(result))


def result_text(result: ExperimentResultSummary, name: str | None = None, stream: TextIO | None = None) -> str:
    """The result as text in the encoding of `stream`, with a final newline."""
    encoding = "utf-8" if stream is None else (getattr(stream, "encoding", None) or "utf-8")
    unicode = encoding.lower().replace("-", "") == "utf8"
    return run_display.result_text(result_view(result, name), unicode=unicode) + "\n"


def result_bundle(result: ExperimentResultSummary) -> dict[str, str]:
    """MIME bundle of a result."""
    return {"text/plain": result_text(result).rstrip("\n"), "text/html": result_html(result)}


def result_view(result: ExperimentResultSummary, name: str | None = None) -> RunView:
    """The view of a result."""
    rows = result.rows
    columns = _columns(rows)
    failed, wrong = (sum(row.state == state for row in rows) for state in ("failed", "wrong"))
    failed = failed or (0 if wrong else len(result.failed))
    ordered = sorted(rows, key=lambda row: (_rank(row), row.index))
    return RunView(
        mark=_mark(result, failed, wrong),
        name=name or result.name or f"run {result.run_id[:SHORT_ID]}",
        duration=fmt.duration(round(result.seconds * 1e9)) if result.seconds is not None else "",
        facts=_facts(result),
        failures=f"{failed:,} failed" if failed else "",
        wrong=f"{wrong:,} wrong" if wrong else "",
        delivery=result.delivery,
        run_id=result.run_id,
        aggregate=result.metrics.aggregation_function.capitalize(),
        metrics=metric_views(result),
        columns=columns,
        rows=[_row_view(row, columns, result) for row in ordered[:MAX_ROWS]],
        total=len(rows),
        notes=_notes(result),
        command=f"%hh send {_send_argument(result)}"
        if result.delivery == LOCAL_ONLY and updatable_output.notebook_loaded()
        else "",
    )


def label_of(row: ResultRow) -> str:
    """The id of a data point. If it is a generated hash, its number and the first characters of the hash."""
    if not is_generated(row.datapoint_id):
        return row.datapoint_id
    return f"#{row.index + 1} {row.datapoint_id.removeprefix(LOCAL_PREFIX)[:6]}"


def _send_argument(result: ExperimentResultSummary) -> str:
    return result.name if result.name.isidentifier() or result.name.replace("-", "").isalnum() else result.run_id[:8]


def _mark(result: ExperimentResultSummary, failed: int, wrong: int) -> Mark:
    if result.status == INTERRUPTED:
        return "stopped"
    if failed or result.errors or wrong:
        return "error" if failed or result.errors else "wrong"
    return "unclear" if result.rows and all(row.state == "unclear" for row in result.rows) else "ok"


def _facts(result: ExperimentResultSummary) -> list[str]:
    done = len(result.rows) or len(result.datapoints)
    part = result.planned is not None and done < result.planned
    points = f"{done:,} of {result.planned:,} data points" if part else fmt.count(done, "data point")
    return [
        "interrupted" if result.status == INTERRUPTED else "" if result.status == COMPLETED else result.status,
        points,
        cost_text(result.cost, complete=result.cost_complete, estimated=result.cost_estimated),
        fmt.count(result.tokens, "token") if result.tokens else "",
    ]


def cost_text(cost: float | None, *, complete: bool, estimated: bool) -> str:
    """Format a cost: `~$0.0044+`; empty if unknown."""
    return "" if cost is None else fmt.usd(cost, estimated=estimated) + ("" if complete else "+")


def _notes(result: ExperimentResultSummary) -> list[str]:
    of_run = [text_without_secrets(error.error) for error in result.errors if not error.datapoint_id]
    config = ", ".join(f"{key}={_short(value)}" for key, value in list(result.config.items())[:MAX_COLUMNS])
    unclear = f"{STATE_MARKS['unclear']} all scores are 0 or no, which the metric may mean as good or bad"
    return [
        *of_run,
        *([config] if config else []),
        *([unclear] if any(r.state == "unclear" for r in result.rows) else []),
    ]


def _short(value: Any) -> str:
    return fmt.shorten(text_without_secrets(str(value)), CONFIG_LENGTH)


def _columns(rows: Sequence[ResultRow]) -> list[str]:
    names = dict.fromkeys(name for row in rows for name, value in row.metrics.items() if _is_displayable(name, value))
    return list(names)[:MAX_COLUMNS]


def _is_displayable(name: str, value: Any) -> bool:
    """Whether a score is a number or a label. Explanations may quote inputs and outputs."""
    return not isinstance(value, str) or is_label(name, value)


def _rank(row: ResultRow) -> int:
    """The position of a row among others: failures of the function, of an evaluator, wrong, unclear, the rest."""
    return 0 if row.error else 1 + ("failed", "wrong", "unclear", "passed").index(row.state)


def _row_view(row: ResultRow, columns: Sequence[str], result: ExperimentResultSummary) -> RowView:
    own = [("the function", row.error)] if row.error else []
    errors = [(where, text_without_secrets(what)) for where, what in [*own, *row.evaluator_errors.items()]]
    more = {name: value for name, value in row.metrics.items() if name not in columns and _is_displayable(name, value)}
    return RowView(
        label=label_of(row),
        state=row.state,
        scores=[score_text(row.metrics, name) for name in columns],
        time=fmt.duration(round(row.seconds * 1e9)) if row.seconds is not None else "",
        cost="" if row.cost is None else fmt.usd(row.cost, estimated=result.cost_estimated),
        note=f"{row.attempts} attempts" if row.attempts > 1 else "",
        errors=errors,
        session=row.session_id[:SHORT_ID],
        view_id=f"hh-session-{row.session_id}" if row.session_id else None,
        details=[*((name, score_text(more, name)) for name in more), *_content(row)],
    )


def _content(row: ResultRow) -> list[tuple[str, str]]:
    """The first characters of inputs and outputs, if the setting `saved_detail` allows them in saved notebooks."""
    if display_settings().saved_detail == "summary":
        return []
    given = (("inputs", row.inputs), ("outputs", row.outputs))
    return [(name, text_without_secrets(text)) for name, text in given if text]


def score_text(metrics: Mapping[str, Any], name: str) -> str:
    """Format a score; empty if there is none."""
    value = metrics.get(name)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number(value)
    return value if isinstance(value, str) and is_label(name, value) else ""


# Comparisons

MAX_CHANGED_ROWS: Final = 20
"""Most data points that are listed of each group."""

_VALUE_LENGTH: Final = 80
_WORDS: Final[Mapping[str, Literal["better", "worse", "same", ""]]] = {
    "improved": "better", "degraded": "worse", "same": "same", "changed": ""
}  # fmt: skip


def comparison_html(found: RunComparisonResult) -> str:
    """The comparison as static HTML."""
    return comparison_display.comparison_html(comparison_view(found))


def comparison_text(found: RunComparisonResult, stream: TextIO | None = None) -> str:
    """The comparison as text in the encoding of `stream`, with a final newline."""
    encoding = "utf-8" if stream is None else (getattr(stream, "encoding", None) or "utf-8")
    return (
        comparison_display.comparison_text(comparison_view(found), unicode=encoding.lower().replace("-", "") == "utf8")
        + "\n"
    )


def comparison_view(found: RunComparisonResult) -> ComparisonView:
    """The view of a comparison."""
    metrics = [
        _delta_view(name, delta, lower=name in found.lower_is_better)
        for name, delta in found.metric_deltas.items()
        if _is_comparable(name, delta)
    ]
    worse = any(metric.verdict == "worse" for metric in metrics)
    return ComparisonView(
        new=_run_name(found.new, found.new_run_id),
        old=_run_name(found.old, found.old_run_id),
        mark="error" if found.newly_failed else "wrong" if found.newly_wrong or found.missing or worse else "ok",
        facts=_comparison_facts(found, metrics),
        failures=f"{len(found.newly_failed):,} newly failed" if found.newly_failed else "",
        wrong=f"{len(found.newly_wrong):,} newly wrong" if found.newly_wrong else "",
        config=[(key, _value(old), _value(new)) for key, (old, new) in found.config_changes.items()],
        metrics=metrics,
        groups=_groups(found),
        notes=_comparison_notes(found),
    )


def _comparison_notes(found: RunComparisonResult) -> list[str]:
    if found.new is None:
        return ["Compared by the backend: scores only, so data points that failed in a run are not counted"]
    notes = [_direction(found.lower_is_better)]
    for which, names in (("new", found.new_only_metrics), ("old", found.old_only_metrics)):
        if names:
            notes.append(f"Only the {which} run has {', '.join(names)}")
    notes += [
        f"{name}: {fmt.count(delta['found_once_count'], 'data point')} with a score in one run only"
        for name, delta in found.metric_deltas.items()
        if delta.get("found_once_count")
    ]
    return notes


def _direction(lower_is_better: Sequence[str]) -> str:
    if not lower_is_better:
        return "Higher is assumed to be better; use lower_is_better=[...] to change that"
    return f"Lower is better for {', '.join(lower_is_better)}; higher for all others"


def _run_name(result: ExperimentResultSummary | None, run_id: str) -> str:
    return result.name if result is not None and result.name else f"run {run_id[:SHORT_ID]}"


def _comparison_facts(found: RunComparisonResult, metrics: Sequence[DeltaView]) -> list[str]:
    counts = (
        (len(found.newly_passed), "newly passed"),
        (found.old_only_datapoints, "missing"),
        (found.new_only_datapoints, "added"),
    )
    facts = [f"{number:,} {what}" for number, what in counts if number]
    facts.append(fmt.count(found.common_datapoints, "data point") + " in both")
    verdicts = Counter(metric.verdict for metric in metrics)
    facts += [f"{fmt.count(verdicts[word], 'metric')} {word}" for word in ("better", "worse") if verdicts[word]]
    results = [result for result in (found.old, found.new) if result is not None]
    times = [fmt.duration(round(one.seconds * 1e9)) for one in results if one.seconds is not None]
    costs = [fmt.usd(one.cost, estimated=one.cost_estimated) for one in results if one.cost is not None]
    return [*facts, *(" → ".join(pair) for pair in (times, costs) if len(pair) == 2)]


def _is_comparable(name: str, delta: Mapping[str, Any]) -> bool:
    """Whether a metric has numbers or labels only. Explanations cannot be compared."""
    values = [*delta["new_values"], *delta["old_values"]]
    return not values or all(not isinstance(value, str) or is_label(name, value) for value in values)


def _delta_view(name: str, delta: Mapping[str, Any], *, lower: bool) -> DeltaView:
    old, new = delta["old_aggregate"], delta["new_aggregate"]
    numeric = isinstance(old, int | float) and isinstance(new, int | float)
    change = new - old if numeric else 0.0
    word = _WORDS[classify_change(new, old, lower=lower)] if numeric else ""
    return DeltaView(
        name=name,
        old="" if old is None else number(old) if numeric else str(old),
        new="" if new is None else number(new) if numeric else str(new),
        arrow=_arrow(new, old),
        change=f"{change:+.4g}" if numeric and word not in ("same", "") else "",
        verdict=_by_counts(delta, word),
        improved=int(delta["improved_count"]),
        degraded=int(delta["degraded_count"]),
        same=int(delta["same_count"]),
    )


def _arrow(new: Any, old: Any) -> str:
    if not isinstance(new, int | float) or not isinstance(old, int | float):
        return ""
    return "=" if classify_change(new, old, lower=False) == "same" else "▲" if new > old else "▼"


def _by_counts(
    delta: Mapping[str, Any], word: Literal["better", "worse", "same", ""]
) -> Literal["better", "worse", "same", ""]:
    """Derive the verdict from the counts if all changed data points agree, or some failed, else use `word`."""
    better, worse = delta["improved_count"], delta["degraded_count"]
    failed = better + worse + delta["same_count"] + len(delta.get("changed", ())) > delta["found_count"] > 0
    if better and worse and not failed:
        return word
    return "better" if better > worse else "worse" if worse > better else word


def _groups(found: RunComparisonResult) -> list[ChangedGroup]:
    """Data points that changed, each in the first group that applies."""
    ranks = [(STATE_RANKS[row.state], STATE_RANKS[old.state], (row.datapoint_id, row, old)) for row, old in found.pairs]
    rows: dict[str, list[tuple[str, ResultRow | None, ResultRow | None]]] = {
        "Newly failed": [item for rank, before, item in ranks if rank == 0 < before],
        "Newly wrong": [item for rank, before, item in ranks if rank == 1 < before],
        "Newly passed": [(row.datapoint_id, row, old) for row, old in found.pairs if newly_passes(row, old)],
    }
    listed = {one for group in rows.values() for one, _, _ in group}
    new = {row.datapoint_id: (row, old) for row, old in found.pairs}
    rows["Missing"] = [
        (row.datapoint_id, None, row) for row in _unpaired(found.old, {id(old) for _, old in found.pairs})
    ]
    rows["Added"] = [(row.datapoint_id, row, None) for row in _unpaired(found.new, {id(one) for one, _ in found.pairs})]
    for title, word in (("Worse", "degraded"), ("Better", "improved"), ("Changed", "changed")):
        ids = dict.fromkeys(str(one) for delta in found.metric_deltas.values() for one in delta.get(word, ()))
        group = [(one, *new.get(one, (None, None))) for one in ids if one not in listed]
        listed |= set(ids)
        rows[title] = sorted(group, key=lambda item: -_change_size(found, *item[1:]))
    return [
        ChangedGroup(
            title=title,
            rows=[_changed_row(*item, found) for item in group[:MAX_CHANGED_ROWS]],
            more=max(0, len(group) - MAX_CHANGED_ROWS),
        )
        for title, group in rows.items()
        if group
    ]


def _unpaired(result: ExperimentResultSummary | None, paired: set[int]) -> list[ResultRow]:
    return [row for row in result.rows if id(row) not in paired] if result is not None else []


def _changed_row(one: str, new: ResultRow | None, old: ResultRow | None, found: RunComparisonResult) -> ChangedRowView:
    changes: list[tuple[str, str, str, str, str]] = []
    if new is None or old is None:
        row = new or old
        if row is not None:
            changes.append(("", _state_text(old), _state_text(new), "", ""))
    elif new.state != old.state:
        rank, before_rank = STATE_RANKS[new.state], STATE_RANKS[old.state]
        verdict = "worse" if rank < before_rank else "better" if rank > before_rank else ""
        changes.append(("", _state_text(old), _state_text(new), "", verdict))
    for name, delta in found.metric_deltas.items():
        word = next((word for word in ("degraded", "improved", "changed") if one in delta.get(word, ())), "")
        values = [row.metrics.get(name) if row is not None else None for row in (new, old)]
        if word and (not found.pairs or None not in values):
            before, after = (score_text(row.metrics, name) if row is not None else "" for row in (old, new))
            changes.append((name, before, after, _arrow(*values), _WORDS[word]))
    sessions = [(which, row.session_id) for which, row in (("new", new), ("old", old)) if row is not None]
    row = new or old
    label = label_of(row) if row is not None else own_id(one)
    return ChangedRowView(label=label, changes=changes, sessions=[pair for pair in sessions if pair[1]])


def _state_text(row: ResultRow | None) -> str:
    """The state of a row; of a failed one, its first error."""
    if row is None:
        return "-"
    errors = [row.error] if row.error else [f"{where}: {what}" for where, what in row.evaluator_errors.items()]
    return text_without_secrets(errors[0] or "") if errors else row.state


def _change_size(found: RunComparisonResult, new: ResultRow | None, old: ResultRow | None) -> float:
    """The largest change of a data point, relative to the range of the metric."""
    if new is None or old is None:
        return 0.0
    sizes = [0.0]
    for name, delta in found.metric_deltas.items():
        after, before = new.metrics.get(name), old.metrics.get(name)
        if isinstance(after, int | float) and isinstance(before, int | float):
            values = [v for v in (*delta["new_values"], *delta["old_values"]) if isinstance(v, int | float)]
            reach = max(values) - min(values)
            sizes.append(abs(after - before) / reach if reach else 0.0)
    return max(sizes)


def _value(value: Any) -> str:
    """A value of `config`, truncated so that two of them fit into the table."""
    return "-" if value is None else fmt.shorten(text_without_secrets(str(value)), _VALUE_LENGTH)
