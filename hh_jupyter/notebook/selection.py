"""Which spans are meant: those of a cell, of a session, all of this kernel, or those of no cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from IPython.core.error import UsageError

from hh_jupyter.notebook.outputs import Outputs
from hh_jupyter.notebook.session_export import export_of
from hh_jupyter.notebook.sessions import Sessions
from hh_jupyter.notebook.stored_sessions import KnownSession, SessionStore
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.tracing.recorded import span_log

LAST: Final = "last"
ALL: Final = "all"
BACKGROUND: Final = "background"


@dataclass(frozen=True, slots=True)
class Selection:
    """Spans that were named.

    Attributes:
        label: names them again.
        rows: at least one.
        export: tells what became of them, then and later.
        session: theirs, if they are those of one.
        cell: number of the cell, if they are those of one.
        forgotten: spans that would belong to them and are no longer kept.
    """

    label: str
    rows: Sequence[SpanRecord]
    export: Callable[[], ExportState]
    session: KnownSession | None = None
    cell: str | None = None
    forgotten: int = 0

    @property
    def words(self) -> str:
        """What they are, for a sentence. Example: "cell 4"."""
        if self.cell is not None:
            return f"cell {self.cell}"
        return (
            self.session.shown_title if self.session is not None else {ALL: "this kernel"}.get(self.label, self.label)
        )

    @property
    def failed(self) -> bool:
        """One of them has an error."""
        return any(row.status == "error" for row in self.rows)


def select(label: str, command: str, outputs: Outputs, store: SessionStore, sessions: Sessions) -> Selection:
    """The spans that a word names.

    Args:
        label: number of a cell, "last", "all", "background", or a session.
        command: that asks, for the messages.

    Raises:
        UsageError: there are none, or no such cell or session.
    """
    tracer, log = sessions.tracer, span_log()
    tracer.seal()
    if label in (ALL, BACKGROUND):
        rows = [row for row in log.records() if label == ALL or row.cell is None]
        if not rows:
            raise UsageError(f"%hh {command}: no spans {'yet' if label == ALL else 'outside cells'}.")
        return Selection(label, rows, lambda: export_of(rows, tracer), forgotten=log.forgotten if label == ALL else 0)
    cell = outputs.cells.named(label)
    if cell is not None:
        number, own = cell, outputs.cells.rows(cell)
        return Selection(label, own, lambda: export_of(own, tracer), cell=number)
    if label == LAST or label.isdecimal():
        raise UsageError(f"%hh: {_no_cell(label, outputs.cells.labels())}")
    session = store.find(label, command)
    rows = list(store.rows(session))
    if not rows:
        raise UsageError(f"%hh {command}: the spans of {session.shown_title} cannot be read any more.")
    return Selection(session.short_id, rows, lambda: store.export(session), session=session)


def _no_cell(label: str, labels: Sequence[str]) -> str:
    known = f"Cells with spans: {', '.join(labels)}." if labels else "No cell has spans yet."
    return f"no spans for {'any cell' if label == LAST else f'cell {label}'}. {known}"
