"""The table of `%hh sessions`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from hh_jupyter.display.format import count
from hh_jupyter.notebook.stored_sessions import KnownSession
from hh_jupyter.records.export_state import ExportState

MOST_ROWS: Final = 30
HEADINGS: Final = ("session", "id", "spans", "last span", "where", "kernel")


def sessions_text(known: Sequence[KnownSession]) -> str:
    """The table of `%hh sessions`, the newest last; what has no row is counted."""
    if not known:
        return "hh: no session has spans here yet."
    rows = [HEADINGS, *(_cells(session) for session in known[-MOST_ROWS:])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    hidden = max(0, len(known) - MOST_ROWS)
    note = [f"({count(hidden, 'older session')} not shown)"] if hidden else []
    head, *lines = [_line(row, widths) for row in rows]
    return "\n".join([head, *note, *lines])


def _cells(session: KnownSession) -> tuple[str, ...]:
    return (
        session.shown_title,
        session.short_id,
        f"{session.spans:,}",
        datetime.fromtimestamp(session.last).astimezone().strftime("%Y-%m-%d %H:%M"),
        _where(session.export),
        "this one" if session.here else "earlier",
    )


def _where(export: ExportState) -> str:
    return "here only" if export.destination is None else f"{export.destination}: {export.word.lower()}"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
    numbers = HEADINGS.index("spans")
    cells[numbers] = row[numbers].rjust(widths[numbers])
    return "  ".join(cells).rstrip()
