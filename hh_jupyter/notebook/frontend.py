"""What cells show beside their outputs: the interactive hub, cells while they run, and outputs that show progress."""

from __future__ import annotations

import dataclasses
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from opentelemetry.sdk.trace import Span

from hh_jupyter.display.view import CellView
from hh_jupyter.export.finalize import redactor_of
from hh_jupyter.notebook.cells import CellFrame, Cells
from hh_jupyter.notebook.guard import note_failure
from hh_jupyter.notebook.places import CapturedPlace, FrontEnd, Place
from hh_jupyter.notebook.views import RunningCell, view_id_of
from hh_jupyter.records.log import SpanLog
from hh_jupyter.records.record import SpanDetails, SpanRecord, record_of
from hh_jupyter.redaction import Redactor, RedactorWithFunction
from hh_jupyter.settings import Settings, display_settings
from hh_jupyter.threads import start_thread
from hh_jupyter.tracing.processor import open_spans

if TYPE_CHECKING:
    from hh_jupyter.display.hub import Hub, ViewSource


# The interactive hub. Where it cannot be opened, the static outputs stay as they are.

logger = logging.getLogger(__name__)


class LazyHub:
    """The hub of a kernel, opened when it is first needed; does nothing until then, or if it cannot be opened.

    Args:
        source: serves the requests of the hub.

    Attributes:
        wanted: a cell of a notebook was traced. Headless runs send no cell ids and get no hub: widget state would be
            saved in the notebook.
    """

    def __init__(self, source: ViewSource) -> None:
        self.wanted = False
        self._source = source
        self._hub: Hub | None = None
        self._tried = False
        self._opening = threading.Lock()

    @property
    def needs_opening(self) -> bool:
        """Whether `open` would try to open the hub."""
        return self.wanted and not self._tried

    def open(self) -> None:
        """Open the hub if it is wanted, once. Its imports take 0.3 s: do not call this while a cell waits."""
        with self._opening:
            if not self.needs_opening:
                return
            self._tried = True
            self._open()

    def _open(self) -> None:
        try:
            from hh_jupyter.display.hub import Hub

            hub = Hub(self._source)
            hub.open()
        except Exception:  # boundary: the widget libraries may be missing, old or broken; the outputs are complete
            logger.debug("no interactive view", exc_info=True)
            return
        self._hub = hub

    def changed(self, view_id: str) -> None:
        """Notify the page that a view has changed."""
        if self._hub is not None:
            self._hub.changed(view_id)

    @property
    def seen(self) -> bool:
        """Whether the page is visible, as far as it reports."""
        return self._hub is not None and self._hub.page_visible

    @property
    def looks(self) -> int:
        """See `Hub.visibility_reports`."""
        return self._hub.visibility_reports if self._hub is not None else 0

    def running(self, view: CellView, source: str, elapsed_ms: float) -> None:
        """Show the current state of a running cell; see `Hub.running`."""
        if self._hub is not None:
            self._hub.running(view, source, elapsed_ms)

    def ended(self, view_id: str) -> None:
        """Notify the page that a cell that was shown as running has ended."""
        if self._hub is not None:
            self._hub.ended(view_id)

    def close(self) -> None:
        """Close the hub; the page shows the static outputs again."""
        hub, self._hub, self._tried = self._hub, None, True
        if hub is not None:
            hub.close()


# Cells while they run: shown after a second and updated from a thread, at most 4 times a second.
#
# A display output before the cell ends would split the cell's own printed output, so that running cells are shown
# through the hub only.

SHOW_AFTER_SECONDS: Final = 1.0
PAUSE_SECONDS: Final = 0.25
PAUSE_FACTOR: Final = 20
"""Pause at least this many times the processor time of the last update, to leave the interpreter to the user's code."""
MAX_SOURCE_CHARS: Final = 20_000


class RunningCells:
    """Shows a cell in the interactive view, from its first span to its end. Follows one cell at a time.

    Args:
        log: records of spans that have ended.
        hub: shows the cells.
        view: builds the view of a running cell from its records and the current time.
        settings: returns the current settings.
    """

    def __init__(
        self,
        log: SpanLog,
        hub: LazyHub,
        view: Callable[[RunningCell, list[SpanRecord], int], CellView],
        settings: Callable[[], Settings],
    ) -> None:
        self._log, self._hub, self._view, self._settings = log, hub, view, settings
        self._cells: dict[str, RunningCell] = {}
        self._open = open_spans()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._redactor: tuple[Settings, Redactor | RedactorWithFunction] | None = None

    def begin(self, frame: CellFrame) -> None:
        """Start to follow a cell of a notebook."""
        if self._closing.is_set():
            return
        self._thread = self._thread or start_thread(self._run, "hh-running")
        if self._thread is not None:
            self._open.wanted = True
            self._cells[frame.key] = RunningCell(frame, view_id_of(frame.info.cell_id, frame.label), time.monotonic())

    def end(self, key: str) -> None:
        """Stop following a cell, since it has ended and gets its output."""
        if self._cells.pop(key, None) is not None:
            self._open.discard_cell(key)

    def details(self, view_id: str, span_id: int) -> tuple[SpanRecord, SpanDetails | None] | None:
        """Return a span of a running cell with its details; for a span that is open, those set so far, redacted."""
        cell = next((cell for cell in self._cells.values() if cell.view_id == view_id), None)
        if cell is None:
            return None
        for span in self._open.in_cell(cell.frame.key):
            if span.context.span_id == span_id:
                attributes, redacted = self._rules.attributes(dict(span.attributes or {}))
                record = dataclasses.replace(self._record(span, cell), redacted=redacted)
                return record, SpanDetails(attributes=attributes)
        for record in self._log.records(cell=cell.frame.key):
            if record.span_id == span_id:
                return record, self._log.details(record)
        return None

    def records(self, view_id: str) -> Sequence[SpanRecord] | None:
        """Return the records of the spans of a running cell that have ended; None if it does not run."""
        cell = next((cell for cell in self._cells.values() if cell.view_id == view_id), None)
        return None if cell is None else self._log.records(cell=cell.frame.key)

    def close(self) -> None:
        """End the thread; waits at most 2 seconds."""
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
                if cell is not None and self._is_displayed(cell):
                    self._follow(cell)
            except Exception as error:  # boundary: showing a running cell must not fail the cell
                note_failure("RunningCells", error)

    def _is_displayed(self, cell: RunningCell) -> bool:
        return (cell.frame.show or display_settings().display) != "off"

    def _follow(self, cell: RunningCell) -> None:
        """Update the page whenever a span starts or ends, until the cell has ended."""
        key, shown, pause = cell.frame.key, None, SHOW_AFTER_SECONDS - (time.monotonic() - cell.started)
        while not self._closing.wait(max(pause, PAUSE_SECONDS)) and key in self._cells:
            self._hub.wanted = True
            self._hub.open()
            began = time.thread_time()
            state = (self._open.started, len(self._log.records(cell=key)), self._hub.looks)
            if state != shown and self._hub.seen:
                self._show(cell)
                shown = state
            pause = (time.thread_time() - began) * PAUSE_FACTOR
        self._hub.ended(cell.view_id)

    def _show(self, cell: RunningCell) -> None:
        key, now = cell.frame.key, time.time_ns()
        records = [*self._log.records(cell=key), *(self._record(span, cell) for span in self._open.in_cell(key))]
        if records:
            view = self._view(cell, records, now)
            elapsed_ms = (now - view.tree.start_ns) / 1e6
            self._hub.running(view, cell.frame.info.raw_cell[:MAX_SOURCE_CHARS], elapsed_ms)

    def _record(self, span: Span, cell: RunningCell) -> SpanRecord:
        record = record_of(span, cell=cell.frame.key)
        # A span that has just ended may not be processed yet: its status comes with its own record.
        return dataclasses.replace(
            record, name=self._rules.text(record.name)[0], error=None, status="running", end_ns=None
        )

    @property
    def _rules(self) -> Redactor | RedactorWithFunction:
        settings = self._settings()
        if self._redactor is None or self._redactor[0] is not settings:
            self._redactor = settings, redactor_of(settings)
        return self._redactor[1]


# Outputs that are updated while their cell runs, for example the progress of an experiment. They replace the summary
# of the cell's spans, so that a cell has one output.


class UpdatableOutputs:
    """Opens updatable outputs under the running cell.

    Args:
        cells: knows the running cell.
        front_end: shows the outputs.
    """

    def __init__(self, cells: Cells, front_end: FrontEnd) -> None:
        self._cells, self._front_end = cells, front_end

    def open(self) -> CellUpdatableOutput | None:
        """Open an output under the running cell; None in a terminal or when no cell runs."""
        frame = self._cells.running()
        if frame is None or not self._front_end.can_update:
            return None
        frame.show = frame.show or "off"
        return CellUpdatableOutput(frame, self._cells, self._front_end.place())


class CellUpdatableOutput:
    """See `hh_jupyter.display.updatable_output.UpdatableOutput`."""

    def __init__(self, frame: CellFrame, cells: Cells, place: Place) -> None:
        self._frame, self._cells, self._place = frame, cells, place
        self._id = f"hh-live-{frame.key}-{secrets.token_hex(3)}"
        # Stable, so that running the cell again changes nothing in the saved file but the content.
        self._view_id = f"{view_id_of(frame.cell_id, frame.label)}-run"
        self._drawn = False

    @property
    def can_update(self) -> bool:
        """Whether more than one update can be shown."""
        return self._place.can_update

    def update(self, bundle: Mapping[str, str]) -> None:
        """Show these mime types, or update the output with them."""
        self._place.publish(bundle, self._view_id, self._id, update=self._drawn)
        self._drawn = True

    def cell_running(self) -> bool:
        """Whether the output's cell is the one that runs."""
        return self._cells.running() is self._frame

    def withdraw(self) -> bool:
        """Remove the output if it is only captured; return whether it was removed."""
        return isinstance(self._place, CapturedPlace) and self._place.remove(self._id)
