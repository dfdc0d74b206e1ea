"""The front end: a kernel's or a terminal's output, the page that the hub is opened in, and cells while they run."""

from __future__ import annotations

import dataclasses
import logging
import os
import secrets
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from opentelemetry.sdk.trace import Span

from hh_jupyter.delivery.sealing.batch import redactor_of
from hh_jupyter.display import text
from hh_jupyter.display.html import METADATA_KEY, mime_bundle
from hh_jupyter.display.view import CellView
from hh_jupyter.notebook.cells import CellFrame, Cells
from hh_jupyter.notebook.guard import note_failure
from hh_jupyter.notebook.views import RunningCell, view_id_of
from hh_jupyter.records.log import SpanLog
from hh_jupyter.records.record import SpanDetails, SpanRecord, record_of
from hh_jupyter.redaction import Redactor, RedactorWithFunction
from hh_jupyter.settings import Settings
from hh_jupyter.tracing.processor import open_spans

if TYPE_CHECKING:
    from hh_jupyter.display.hub import Hub, Source


class Screen(Protocol):
    """What `Outputs` needs of a front end.

    Attributes:
        live: an output that is shown can be changed in place.
    """

    live: bool

    def show(self, view: CellView, display_id: str, *, update: bool) -> None:
        """Show the view under this id, or change what is shown under it."""

    def publish(self, data: Mapping[str, str], view_id: str, display_id: str, *, update: bool) -> None:
        """Show these mime types under this id, or change what is shown under it."""

    def place(self) -> object:
        """What `show_at` needs to show something under the cell that runs now; None where that cannot be done."""

    def show_at(self, place: object, view: CellView, display_id: str) -> None:
        """Show a first output under a cell that has ended."""


class KernelScreen:
    """A kernel's clients. Only `update` may be called from a thread: a new output would land under another cell."""

    live = True

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        # A `%%capture` that runs meanwhile puts its own publisher in this one's place.
        self._publisher = shell.display_pub

    def show(self, view: CellView, display_id: str, *, update: bool) -> None:
        """Publish text/html and text/plain."""
        self.publish(mime_bundle(view), view.view_id, display_id, update=update)

    def publish(self, data: Mapping[str, str], view_id: str, display_id: str, *, update: bool) -> None:
        """Publish, marked as ours."""
        publisher = self._publisher if update else self._shell.display_pub
        publisher.publish(
            data=dict(data),
            metadata={METADATA_KEY: {"view_id": view_id}},
            transient={"display_id": display_id},
            update=update,
        )

    def place(self) -> object:
        """The request's header; outputs are filed under the request that they name as their parent."""
        return self._publisher.parent_header

    def show_at(self, place: object, view: CellView, display_id: str) -> None:
        """Publish with that parent; `publish` itself would name the request that runs now."""
        publisher = self._publisher
        content = {
            "data": mime_bundle(view),
            "metadata": {METADATA_KEY: {"view_id": view.view_id}},
            "transient": {"display_id": display_id},
        }
        message = publisher.session.msg("display_data", content, parent=place)
        publisher.session.send(publisher.pub_socket, message, ident=publisher.topic)


class TerminalScreen:
    """IPython in a terminal: one line when all is well, the tree on an error or by request."""

    live = False

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    def place(self) -> object:
        """Nowhere: a terminal only goes on."""
        return None

    def show_at(self, place: object, view: CellView, display_id: str) -> None:
        """Never called, since there is no place."""

    def publish(self, data: Mapping[str, str], view_id: str, display_id: str, *, update: bool) -> None:
        """Print the text; what is printed cannot be changed."""
        if not update:
            print(data["text/plain"])

    def show(self, view: CellView, display_id: str, *, update: bool) -> None:
        """Print the view; what is printed cannot be changed, so updates are left out."""
        if update:
            return
        draw = text.render if view.open else text.summary
        width = shutil.get_terminal_size().columns
        print(draw(view, unicode=_carries_unicode(sys.stdout), color=self._colored(sys.stdout), width=width))

    def _colored(self, stream: Any) -> bool:
        """Somebody sees it, and nobody asked for none (no-color.org: set to anything but nothing)."""
        plain = str(getattr(self._shell, "colors", "")).lower() == "nocolor"
        return bool(stream.isatty()) and not os.environ.get("NO_COLOR") and not plain


def _carries_unicode(stream: Any) -> bool:
    encoding = getattr(stream, "encoding", None) or ""
    return encoding.lower().replace("-", "").replace("_", "") in ("utf8", "cp65001")


def screen_of(shell: Any) -> Screen:
    """The screen of this IPython."""
    return KernelScreen(shell) if getattr(shell, "kernel", None) is not None else TerminalScreen(shell)


# The hub, opened late and only where a page can take it: without one, static outputs stay as they are.

logger = logging.getLogger(__name__)


class Page:
    """The front end's page, made interactive by the hub.

    Attributes:
        wanted: a cell of a notebook was traced. Headless runs tell no cell id and get no hub: its state would be saved.
    """

    def __init__(self, source: Source) -> None:
        self.wanted = False
        self._source = source
        self._hub: Hub | None = None
        self._tried = False
        self._opening = threading.Lock()

    @property
    def unopened(self) -> bool:
        """`open` has something to do."""
        return self.wanted and not self._tried

    def open(self) -> None:
        """Open the hub if it is wanted and was not tried before. It imports for 0.3 s: not for a cell's own time."""
        with self._opening:
            if not self.unopened:
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
        """Tell the page that a view has changed."""
        if self._hub is not None:
            self._hub.changed(view_id)

    @property
    def seen(self) -> bool:
        """Somebody looks at the page, as far as it says."""
        return self._hub is not None and self._hub.seen

    @property
    def looks(self) -> int:
        """See `Hub.looks`."""
        return self._hub.looks if self._hub is not None else 0

    def running(self, view: CellView, source: str, elapsed_ms: float) -> None:
        """Show what a cell that still runs has done so far; see `Hub.running`."""
        if self._hub is not None:
            self._hub.running(view, source, elapsed_ms)

    def ended(self, view_id: str) -> None:
        """A cell that was shown as running has ended."""
        if self._hub is not None:
            self._hub.ended(view_id)

    def close(self) -> None:
        """Close the hub's model; the page goes back to the static outputs."""
        hub, self._hub, self._tried = self._hub, None, True
        if hub is not None:
            hub.close()


# What a cell is doing while it runs: drawn in the page after a second, told by a thread, at most 4 times a second.
#
# There is no output before the body ends: it would split what the cell itself prints [measured]. So this goes through
# the hub only, and where there is none nothing is shown.

FIRST: Final = 1.0
"""Seconds that a cell runs before it is shown."""
PAUSE: Final = 0.25
SHARE: Final = 20
"""A round pauses for so many times what it took: the interpreter is the user's."""
MOST_SOURCE: Final = 20_000


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
        self._redactor: tuple[Settings, Redactor | RedactorWithFunction] | None = None

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
    def _rules(self) -> Redactor | RedactorWithFunction:
        settings = self._settings()
        if self._redactor is None or self._redactor[0] is not settings:
            self._redactor = settings, redactor_of(settings)
        return self._redactor[1]


# Outputs that change while their cell runs: given to whoever draws something that takes a while, such as a run.
#
# They take the place of the summary of the cell's spans, so that the cell has one output.


class LiveOutputs:
    """Opens them under the running cell.

    Args:
        cells: tells which cell that is.
        screen: where outputs go.
    """

    def __init__(self, cells: Cells, screen: Screen) -> None:
        self._cells, self._screen = cells, screen

    def open(self) -> CellLiveOutput | None:
        """One under the running cell; None in a terminal, and where no cell runs."""
        frame = self._cells.running()
        if frame is None or not self._screen.live:
            return None
        frame.show = frame.show or "off"
        return CellLiveOutput(frame, self._cells, self._screen)


class CellLiveOutput:
    """See `hh_jupyter.display.live.LiveOutput`."""

    def __init__(self, frame: CellFrame, cells: Cells, screen: Screen) -> None:
        self._frame, self._cells, self._screen = frame, cells, screen
        self._id = f"hh-live-{frame.key}-{secrets.token_hex(3)}"
        # Running the cell again must not change more of the saved file than what it shows.
        self._view_id = f"{view_id_of(frame.cell_id, frame.label)}-run"
        self._drawn = False

    def draw(self, bundle: Mapping[str, str]) -> None:
        """Show it, or change what is shown."""
        self._screen.publish(bundle, self._view_id, self._id, update=self._drawn)
        self._drawn = True

    def in_force(self) -> bool:
        """The cell still runs, and it is this one that asks."""
        return self._cells.running() is self._frame
