"""From a comparison to what the displays are given, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TextIO

from hh_jupyter.display import format as fmt
from hh_jupyter.display.runs import comparison_html as html
from hh_jupyter.display.runs import comparison_text as text
from hh_jupyter.display.runs.view import ChangedRowView, ComparisonView, DeltaView
from hh_jupyter.experiments.comparison import RunComparisonResult
from hh_jupyter.experiments.deltas import verdict
from hh_jupyter.experiments.hiding import text_without_secrets
from hh_jupyter.experiments.results import ExperimentResultSummary, Row
from hh_jupyter.experiments.spread import is_label, number
from hh_jupyter.experiments.views import SHORT_ID, label_of, score_text

MOST_ROWS: Final = 20
"""Data points that became worse, and as many that became better, which are listed."""

_VALUE_LENGTH: Final = 80
_WORDS: Final[Mapping[str, Literal["better", "worse", "same", ""]]] = {
    "improved": "better", "degraded": "worse", "same": "same", "": ""
}  # fmt: skip


def comparison_html(found: RunComparisonResult) -> str:
    """The comparison as static HTML."""
    return html.render(view_of(found))


def comparison_text(found: RunComparisonResult, stream: TextIO | None = None) -> str:
    """The comparison as text, for this stream, ending in a line break."""
    encoding = "utf-8" if stream is None else (getattr(stream, "encoding", None) or "utf-8")
    return text.render(view_of(found), unicode=encoding.lower().replace("-", "") == "utf8") + "\n"


def view_of(found: RunComparisonResult) -> ComparisonView:
    """Everything about one comparison, decided before anything is drawn."""
    degraded, improved = _changed(found, "degraded"), _changed(found, "improved")
    return ComparisonView(
        new=_name(found.new, found.new_run_id),
        old=_name(found.old, found.old_run_id),
        facts=_facts(found),
        config=[(key, _value(old), _value(new)) for key, (old, new) in found.config_changes.items()],
        metrics=[
            _metric(name, delta, lower=name in found.lower_is_better)
            for name, delta in found.metric_deltas.items()
            if _is_shown(name, delta)
        ],
        degraded=degraded[:MOST_ROWS],
        improved=improved[:MOST_ROWS],
        more_degraded=max(0, len(degraded) - MOST_ROWS),
        more_improved=max(0, len(improved) - MOST_ROWS),
        notes=[_direction(found.lower_is_better)] if found.new is not None else [],
    )


def _direction(lower_is_better: Sequence[str]) -> str:
    if not lower_is_better:
        return "More is better, as nothing else was said: lower_is_better=[...]"
    return f"Less is better for {', '.join(lower_is_better)}; more for all others"


def _name(result: ExperimentResultSummary | None, run_id: str) -> str:
    return result.name if result is not None and result.name else f"run {run_id[:SHORT_ID]}"


def _facts(found: RunComparisonResult) -> list[str]:
    facts = [fmt.count(found.common_datapoints, "data point") + " in both"]
    for what, many in (("new", found.new_only_datapoints), ("old", found.old_only_datapoints)):
        if many:
            facts.append(f"{many:,} only in the {what} one")
    results = [result for result in (found.old, found.new) if result is not None]
    times = [fmt.duration(round(one.seconds * 1e9)) for one in results if one.seconds is not None]
    costs = [fmt.usd(one.cost, estimated=one.cost_estimated) for one in results if one.cost is not None]
    return [*facts, *(" → ".join(pair) for pair in (times, costs) if len(pair) == 2)]


def _is_shown(name: str, delta: Mapping[str, Any]) -> bool:
    """Numbers and labels; explanations differ from run to run and say nothing as a metric."""
    values = [*delta["new_values"], *delta["old_values"]]
    return not values or all(not isinstance(value, str) or is_label(name, value) for value in values)


def _metric(name: str, delta: Mapping[str, Any], *, lower: bool) -> DeltaView:
    old, new = delta["old_aggregate"], delta["new_aggregate"]
    numeric = isinstance(old, int | float) and isinstance(new, int | float)
    change = new - old if numeric else 0.0
    word = _WORDS[verdict(new, old, lower=lower)] if numeric else ""
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
    return "=" if verdict(new, old, lower=False) == "same" else "▲" if new > old else "▼"


def _by_counts(
    delta: Mapping[str, Any], word: Literal["better", "worse", "same", ""]
) -> Literal["better", "worse", "same", ""]:
    """Which direction is better, the counts know where they all say the same, whoever counted."""
    if delta["improved_count"] and not delta["degraded_count"]:
        return "better"
    if delta["degraded_count"] and not delta["improved_count"]:
        return "worse"
    return word


def _changed(found: RunComparisonResult, word: str) -> list[ChangedRowView]:
    """Data points on which some metric did that, those with the largest change first."""
    ids = dict.fromkeys(str(one) for delta in found.metric_deltas.values() for one in delta[word])
    new, old = (_by_id(result) for result in (found.new, found.old))
    order = sorted(ids, key=lambda one: -_size(found, new.get(one), old.get(one)))
    return [_row(one, found, new.get(one), old.get(one)) for one in order]


def _by_id(result: ExperimentResultSummary | None) -> dict[str, Row]:
    return {row.datapoint_id: row for row in result.rows} if result is not None else {}


def _row(one: str, found: RunComparisonResult, new: Row | None, old: Row | None) -> ChangedRowView:
    changes = []
    for name, delta in found.metric_deltas.items():
        word = next((word for word in ("degraded", "improved") if one in delta[word]), "")
        if word:
            before, after = (score_text(row.metrics, name) if row is not None else "" for row in (old, new))
            arrow = _arrow(*(row.metrics.get(name) if row is not None else None for row in (new, old)))
            changes.append((name, before, after, arrow, _WORDS[word]))
    sessions = [(which, row.session_id) for which, row in (("new", new), ("old", old)) if row is not None]
    label = label_of(new) if new is not None else one.removeprefix("EXT-")
    return ChangedRowView(label=label, changes=changes, sessions=[pair for pair in sessions if pair[1]])


def _size(found: RunComparisonResult, new: Row | None, old: Row | None) -> float:
    """The largest change of the data point, in parts of the range of its metric."""
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
    """A value of the config, cut where two long ones would fill the table."""
    shown = "-" if value is None else text_without_secrets(str(value))
    return shown if len(shown) <= _VALUE_LENGTH else f"{shown[: _VALUE_LENGTH - 1]}…"
