"""A span as Python code: the line that fetches it in this kernel, and the call of a model or a tool."""

from __future__ import annotations

from typing import Final

from hh_jupyter.display.call_code import call_code
from hh_jupyter.display.view import CellView
from hh_jupyter.records.record import SpanDetails, SpanRecord

MAX_CHARACTERS: Final = 200_000
"""Maximum length of the code; a longer request is left out."""


def python_code(view: CellView, record: SpanRecord, details: SpanDetails | None) -> str:
    """Return code that runs in a cell of this kernel.

    Args:
        view: the output that shows the span.
        record: the span.
        details: its content; None leaves out the call.
    """
    line = f"import hh_jupyter\n\n{_fetch_code(view, record)}"
    again = call_code(record, details) if details is not None else ""
    code = f"{line}\n\n{again}" if again else line
    return code if len(code) <= MAX_CHARACTERS else line


def _fetch_code(view: CellView, record: SpanRecord) -> str:
    if view.file is not None:
        return (
            f"trace = hh_jupyter.SpanList.from_otlp({view.file!r})\n"
            f"span = next(span for span in trace if span.span_id == {record.span_id:#018x})"
        )
    return f"span = hh_jupyter.spans({_arguments(view, record)})[{_index(view, record)}]"


def _arguments(view: CellView, record: SpanRecord) -> str:
    """Arguments that select the span: cell number and name, else session and name, else the name alone."""
    named = f"name={record.name!r}"
    if view.cell is not None:
        return f"cell={view.cell}, {named}"
    return f"session={record.session_id!r}, {named}" if record.session_id else named


def _index(view: CellView, record: SpanRecord) -> int:
    """Index of the span among the selected ones of this name, in order of their start."""
    same = [node.record for node in view.tree.nodes if node.record.name == record.name]
    if view.cell is None:
        same = [other for other in same if other.session_id == record.session_id]
    same.sort(key=lambda other: (other.start_ns, other.span_id))
    return [other.span_id for other in same].index(record.span_id)
