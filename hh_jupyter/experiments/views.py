"""From a result to what the displays are given, in words.

A notebook is saved, committed and mailed: what is shown holds names, numbers and errors without secrets, and of inputs
and outputs their beginnings only with the setting `saved_detail`. They are in `result.to_pandas()`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TextIO

from hh_jupyter.display import format as fmt
from hh_jupyter.display import live
from hh_jupyter.display.runs import html, text
from hh_jupyter.display.runs.view import Mark, RowView, RunView
from hh_jupyter.experiments.hiding import text_without_secrets
from hh_jupyter.experiments.results import COMPLETED, INTERRUPTED, LOCAL_ONLY, ExperimentResultSummary, Row
from hh_jupyter.experiments.spread import is_label, metric_views, number
from hh_jupyter.tracing.default import current_tracer

MOST_ROWS: Final = 60
MOST_COLUMNS: Final = 6
"""Metrics that have a column of their own among the data points; more have their place inside of each."""

CONFIG_LENGTH: Final = 40
SHORT_ID: Final = 8
_HASH: Final = frozenset("0123456789abcdef")


def result_html(result: ExperimentResultSummary) -> str:
    """The result as static HTML."""
    return html.render(view_of(result))


def result_text(result: ExperimentResultSummary, name: str | None = None, stream: TextIO | None = None) -> str:
    """The result as text, for this stream, ending in a line break."""
    encoding = "utf-8" if stream is None else (getattr(stream, "encoding", None) or "utf-8")
    unicode = encoding.lower().replace("-", "") == "utf8"
    return text.render(view_of(result, name), unicode=unicode) + "\n"


def bundle(result: ExperimentResultSummary) -> dict[str, str]:
    """Data of the output."""
    return {"text/plain": result_text(result).rstrip("\n"), "text/html": result_html(result)}


def view_of(result: ExperimentResultSummary, name: str | None = None) -> RunView:
    """Everything about one result, decided before anything is drawn."""
    rows = result.rows
    columns = _columns(rows)
    failed = sum(map(_failed, rows)) or len(result.failed)
    ordered = sorted(rows, key=lambda row: (not _failed(row), not row.error, row.index))
    return RunView(
        mark=_mark(result, failed),
        name=name or result.name or f"run {result.run_id[:SHORT_ID]}",
        duration=fmt.duration(round(result.seconds * 1e9)) if result.seconds is not None else "",
        facts=_facts(result),
        failures=f"{failed:,} failed" if failed else "",
        delivery=result.delivery,
        run_id=result.run_id,
        aggregate=result.metrics.aggregation_function.capitalize(),
        metrics=metric_views(result),
        columns=columns,
        rows=[_row(row, columns, result) for row in ordered[:MOST_ROWS]],
        total=len(rows),
        notes=_notes(result),
        command=f"%hh send {_quoted(result)}" if result.delivery == LOCAL_ONLY and live.offered() else "",
    )


def label_of(row: Row) -> str:
    """A data point's own id, or its number and the beginning of the hash that it has instead."""
    own = row.datapoint_id.removeprefix("EXT-")
    hashed = row.datapoint_id.startswith("EXT-") and len(own) == 16 and set(own) <= _HASH
    return f"#{row.index + 1} {own[:6]}" if hashed else own


def _quoted(result: ExperimentResultSummary) -> str:
    return result.name if result.name.isidentifier() or result.name.replace("-", "").isalnum() else result.run_id[:8]


def _mark(result: ExperimentResultSummary, failed: int) -> Mark:
    if result.status == INTERRUPTED:
        return "stopped"
    return "error" if failed or result.errors else "ok"


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
    """`~$0.0044+`; empty when nothing is known."""
    return "" if cost is None else fmt.usd(cost, estimated=estimated) + ("" if complete else "+")


def _notes(result: ExperimentResultSummary) -> list[str]:
    of_run = [text_without_secrets(error.error) for error in result.errors if not error.datapoint_id]
    config = ", ".join(f"{key}={_short(value)}" for key, value in list(result.config.items())[:MOST_COLUMNS])
    return [*of_run, *([config] if config else [])]


def _short(value: Any) -> str:
    text = text_without_secrets(str(value))
    return text if len(text) <= CONFIG_LENGTH else f"{text[: CONFIG_LENGTH - 1]}…"


def _columns(rows: Sequence[Row]) -> list[str]:
    names = dict.fromkeys(name for row in rows for name, value in row.metrics.items() if _shown(name, value))
    return list(names)[:MOST_COLUMNS]


def _shown(name: str, value: Any) -> bool:
    """Numbers and short labels; an explanation may quote what was asked and answered."""
    return not isinstance(value, str) or is_label(name, value)


def _failed(row: Row) -> bool:
    return row.passed is False or bool(row.error or row.evaluator_errors)


def _row(row: Row, columns: Sequence[str], result: ExperimentResultSummary) -> RowView:
    own = [("the function", row.error)] if row.error else []
    errors = [(where, text_without_secrets(what)) for where, what in [*own, *row.evaluator_errors.items()]]
    more = {name: value for name, value in row.metrics.items() if name not in columns and _shown(name, value)}
    return RowView(
        label=label_of(row),
        failed=_failed(row),
        scores=[score_text(row.metrics, name) for name in columns],
        time=fmt.duration(round(row.seconds * 1e9)) if row.seconds is not None else "",
        cost="" if row.cost is None else fmt.usd(row.cost, estimated=result.cost_estimated),
        note=f"{row.attempts} attempts" if row.attempts > 1 else "",
        errors=errors,
        session=row.session_id[:SHORT_ID],
        view_id=f"hh-session-{row.session_id}" if row.session_id else None,
        details=[*((name, score_text(more, name)) for name in more), *_content(row)],
    )


def _content(row: Row) -> list[tuple[str, str]]:
    """The beginnings of what was asked and answered, where somebody wants such things in the saved file."""
    tracer = current_tracer()
    if tracer is None or tracer.settings.saved_detail == "summary":
        return []
    given = (("inputs", row.inputs), ("outputs", row.outputs))
    return [(name, text_without_secrets(text)) for name, text in given if text]


def score_text(metrics: Mapping[str, Any], name: str) -> str:
    """One score in a few characters; empty where there is none."""
    value = metrics.get(name)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number(value)
    return value if isinstance(value, str) and is_label(name, value) else ""
