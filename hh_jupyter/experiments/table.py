"""The result of a run as plain text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from hh_jupyter.experiments.results import DatapointError, ExperimentResultSummary

MAX_ROWS: Final = 20
"""Data points and errors that are listed; the rest is counted."""

MAX_TEXT: Final = 100
"""Characters of one error; the whole text is in the result."""


def table_text(result: ExperimentResultSummary, run_name: str) -> str:
    """Run, metrics, the first data points and the errors, ending in a line break."""
    return "\n".join(_lines(result, run_name)) + "\n"


def _lines(result: ExperimentResultSummary, run_name: str) -> Iterator[str]:
    yield f"Evaluation: {run_name}"
    counts = f"{len(result.passed)} passed, {len(result.failed)} failed"
    scored = result.passed or result.failed
    yield f"Run {result.run_id}, {result.status}, {counts if scored else 'no data point scored'}"
    if result.metrics.details:
        rows = [(d.metric_name, _number(d.aggregate), d.metric_type) for d in result.metrics.details]
        yield ""
        yield from _table((f"Metric ({result.metrics.aggregation_function})", "Value", "Type"), rows)
    if result.datapoints:
        words = {True: "passed", False: "failed", None: "-"}
        shown = result.datapoints[:MAX_ROWS]
        yield ""
        yield from _table(
            ("Data point", "Session", "Status"), [(p.datapoint_id, p.session_id or "-", words[p.passed]) for p in shown]
        )
        yield from _more(len(result.datapoints), "data points")
    if result.errors:
        yield ""
        yield from _table(("Error in", "Data point", "What"), [_error_row(e) for e in result.errors[:MAX_ROWS]])
        yield from _more(len(result.errors), "errors")


def _error_row(error: DatapointError) -> tuple[str, str, str]:
    text = _line(error.error)
    return error.evaluator or "the function", error.datapoint_id, text[:MAX_TEXT] + "..." * (len(text) > MAX_TEXT)


def _more(number: int, what: str) -> Iterator[str]:
    if number > MAX_ROWS:
        yield f"... {number - MAX_ROWS} more {what}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    lines = [header, *([_line(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for index, line in enumerate(lines):
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        if index == 0:
            yield "  ".join("-" * width for width in widths)


def _line(text: str) -> str:
    """One line without control characters: names and errors come from data, and this may be a terminal."""
    return "".join(character if character.isprintable() else " " for character in str(text))


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else "-" if value is None else str(value)
