"""What a cell is doing while it runs: drawn in the page after a second, told by a thread, at most 4 times a second.

There is no output before the body ends: it would split what the cell itself prints [measured]. So this goes through the
hub only, and where there is none nothing is shown.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hh_jupyter.delivery.sealing.batch import redactor_of
from hh_jupyter.notebook.boundary import note_failure
from hh_jupyter.notebook.cell_output import view_id_of
from hh_jupyter.records.record import SpanDetails, SpanRecord
from hh_jupyter.records.record_of import record_of
from hh_jupyter.redaction import Redactor
from hh_jupyter.redaction_with import RedactorWith
from hh_jupyter.settings import Settings
from hh_jupyter.tracing.open_spans import open_spans

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import Span

    from hh_jupyter.display.view import CellView
    from hh_jupyter.notebook.cell_frame import CellFrame
    from hh_jupyter.notebook.page import Page
    from hh_jupyter.records.log import SpanLog

FIRST: Final = 1.0
"""Seconds that a cell runs before it is shown."""
PAUSE: Final = 0.25
SHARE: Final = 20
"""A round pauses for so many times what it took: the interpreter is the user's."""
MOST_SOURCE: Final = 20_000


@dataclass(frozen=True, slots=True)
class RunningCell:
    """A cell whose body runs.

    Attributes:
        began: by the monotonic clock, in seconds.
    """

    frame: CellFrame
    view_id: str
    began: float


class RunningCells:
    """Follows one cell at a time, from its first span to its end.

    Args:
        log: rows of what has ended.
        page: where it is shown.
        view: makes the view of a cell from its rows.
        settings: those in force now.
    """

    def __init__(
        self,
        log: SpanLog,
        page: Page,
        view: Callable[[RunningCell, list[SpanRecord], int], CellView],
        settings: Callable[[], Settings],
    ) -> None:
        self._log, self._page, self._view, self._settings = log, page, view, settings
        self._cells: dict[str, RunningCell] = {}
        self._open = open_spans()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._redactor: tuple[Settings, Redactor | RedactorWith] | None = None

    def begin(self, frame: CellFrame) -> None:
        """A cell of a notebook that has a page starts."""
        if self._closing.is_set():
            return
        self._open.wanted = True
        self._cells[frame.key] = RunningCell(frame, view_id_of(frame.info.cell_id, frame.label), time.monotonic())
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="hh-running", daemon=True)
            self._thread.start()

    def end(self, key: str) -> None:
        """It has ended; its output follows."""
        if self._cells.pop(key, None) is not None:
            self._open.forget(key)

    def details(self, view_id: str, span_id: int) -> tuple[SpanRecord, SpanDetails | None] | None:
        """A span of a cell that runs: its row, and of one that runs itself what it was given so far, redacted."""
        cell = next((cell for cell in self._cells.values() if cell.view_id == view_id), None)
        if cell is None:
            return None
        for span in self._open.of(cell.frame.key):
            if span.context.span_id == span_id:
                attributes, redacted = self._rules.attributes(dict(span.attributes or {}))
                return dataclasses.replace(self._row(span, cell), redacted=redacted), SpanDetails(attributes=attributes)
        found = (row for row in self._log.records(cell=cell.frame.key) if row.span_id == span_id)
        row = next(found, None)
        return None if row is None else (row, self._log.details(row))

    def close(self) -> None:
        """End the thread; waits 2 seconds at most."""
        self._open.wanted = False
        self._cells.clear()
        self._closing.set()
        self._open.cells.put(None)
        if self._thread is not None:
            self._thread.join(2)

    def _run(self) -> None:
        while not self._closing.is_set():
            key = self._open.cells.get()
            cell = self._cells.get(key) if key is not None else None
            try:
                if cell is not None and self._shown(cell):
                    self._follow(cell)
            except Exception as error:  # boundary: what is shown meanwhile is not worth an error
                note_failure("RunningCells", error)

    def _shown(self, cell: RunningCell) -> bool:
        return (cell.frame.show or self._settings().display) != "off"

    def _follow(self, cell: RunningCell) -> None:
        """Tell the page whenever something started or ended, until the cell has ended."""
        key, told, pause = cell.frame.key, None, FIRST - (time.monotonic() - cell.began)
        while not self._closing.wait(max(pause, PAUSE)) and key in self._cells:
            self._page.wanted = True
            self._page.open()
            began = time.monotonic()
            state = (self._open.started, len(self._log.records(cell=key)), self._page.looks)
            if state != told and self._page.seen:
                self._tell(cell)
                told = state
            pause = (time.monotonic() - began) * SHARE
        self._page.ended(cell.view_id)

    def _tell(self, cell: RunningCell) -> None:
        key, now = cell.frame.key, time.time_ns()
        rows = [*self._log.records(cell=key), *(self._row(span, cell) for span in self._open.of(key))]
        if rows:
            view = self._view(cell, rows, now)
            elapsed_ms = (now - view.tree.start_ns) / 1e6
            self._page.running(view, cell.frame.info.raw_cell[:MOST_SOURCE], elapsed_ms)

    def _row(self, span: Span, cell: RunningCell) -> SpanRecord:
        row = record_of(span, cell=cell.frame.key)
        # One that ended this very moment has not been sealed, so that only its row will tell how it went.
        return dataclasses.replace(row, name=self._rules.text(row.name)[0], error=None, status="running", end_ns=None)

    @property
    def _rules(self) -> Redactor | RedactorWith:
        settings = self._settings()
        if self._redactor is None or self._redactor[0] is not settings:
            self._redactor = settings, redactor_of(settings)
        return self._redactor[1]
