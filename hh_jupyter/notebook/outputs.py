"""One output per traced cell: shown once, last, and changed in place afterwards.

Nothing here prints or displays from a thread: a new output would land under whichever cell runs then [measured]. What
is shown already may be changed from one.
"""

from __future__ import annotations

import queue
import secrets
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

from IPython.core.error import UsageError

from hh_jupyter.display.content import Detail, span_details
from hh_jupyter.display.media import Images
from hh_jupyter.display.snippet import python_code
from hh_jupyter.display.view import CellView
from hh_jupyter.notebook.cells import CellFrame
from hh_jupyter.notebook.frontend import Page, RunningCells, Screen
from hh_jupyter.notebook.guard import guarded, note_failure
from hh_jupyter.notebook.sessions import Sessions, SessionStore
from hh_jupyter.notebook.status import sending_result, settled
from hh_jupyter.notebook.transfer import save
from hh_jupyter.notebook.views import CellOutput, OutputState, SessionViews, Views, view_id_of
from hh_jupyter.records import prices
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.records.log import SpanLog
from hh_jupyter.records.record import SpanDetails, SpanRecord
from hh_jupyter.tracing import registry
from hh_jupyter.tracing.tracer import HoneyHiveTracer

# The one thread that changes outputs in place after their cell has ended: late spans, delivery, prices.

T = TypeVar("T")

PAUSE: Final = 0.25
"""Seconds between two rounds: an output changes at most 4 times a second, and the last change is always made."""

POLL: Final = (0.5, 5.0)
"""Seconds between two looks at outputs whose spans are not all delivered: the first, and the most it grows to."""


class Updates(Generic[T]):
    """Refreshes outputs when asked, and those that are not settled from time to time.

    Args:
        refresh: changes one output in place; tells whether it is settled, so that nothing will change by itself.
    """

    def __init__(self, refresh: Callable[[T], bool]) -> None:
        self._refresh = refresh
        # SimpleQueue.put is re-entrant: rows arrive on any thread, also inside a garbage collection.
        self._requests: queue.SimpleQueue[T | None] = queue.SimpleQueue()
        self._unsettled: dict[int, T] = {}
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def request(self, output: T) -> None:
        """Refresh this output soon. May be called from any thread."""
        self._requests.put(output)

    def start(self) -> None:
        """Start the thread if it does not run yet. Called from the main thread, when a first output was shown."""
        if self._thread is None and not self._closing.is_set():
            self._thread = threading.Thread(target=self._run, name="hh-outputs", daemon=True)
            self._thread.start()

    def here(self) -> bool:
        """The caller is this thread, where time is nobody's."""
        return threading.current_thread() is self._thread

    def close(self) -> None:
        """Make the last changes, then end the thread; waits 2 seconds at most."""
        self._closing.set()
        self._requests.put(None)
        if self._thread is not None:
            self._thread.join(2)

    def _run(self) -> None:
        poll = POLL[0]
        while True:
            asked = self._next(poll)
            poll = POLL[0] if asked else min(poll * 2, POLL[1])
            for output in asked or tuple(self._unsettled.values()):
                self._refresh_one(output)
            if self._closing.is_set() and self._requests.empty():
                return
            self._closing.wait(PAUSE)

    def _next(self, poll: float) -> tuple[T, ...]:
        """Everything asked for so far, each once; waits for the first. Empty when it is time to look around."""
        asked: dict[int, T] = {}
        timeout = poll if self._unsettled else None
        try:
            while True:
                output = self._requests.get(timeout=timeout)
                if output is not None:
                    asked[id(output)] = output
                timeout = 0
        except queue.Empty:
            return tuple(asked.values())

    def _refresh_one(self, output: T) -> None:
        try:
            settled = self._refresh(output)
        except Exception as error:  # boundary: an output that fails stays as it is
            note_failure("Outputs.refresh", error)
            settled = True
        if settled:
            self._unsettled.pop(id(output), None)
        else:
            self._unsettled[id(output)] = output


# Which cells have spans: how many arrived of each run, whether their prices are known, and what a number names.

PRICED_KINDS: Final = frozenset({"llm", "embedding", "reranker"})


class TracedCells:
    """The runs of cells that have spans, by key, in the order of their first ones.

    Args:
        log: rows of this kernel.
    """

    def __init__(self, log: SpanLog) -> None:
        self._log = log
        self._counts: Counter[str] = Counter()
        self._unpriced: set[str | None] = set()

    def add(self, rows: Sequence[SpanRecord]) -> Mapping[str, int]:
        """Count new rows, on whichever thread sealed them; how many there are of each run."""
        new = Counter(row.cell for row in rows if row.cell is not None)
        for key, number in new.items():
            self._counts[key] += number
        if not prices.ready():
            self._unpriced.update(row.cell for row in rows if _unpriced(row))
        return new

    def arrived(self, key: str) -> int:
        """How many spans of a run there were, also of those that are no longer kept."""
        return self._counts[key]

    def wants_price(self, key: str | None) -> bool:
        """Something of a run, or of no cell, has a price that is not known before the prices are loaded."""
        return key in self._unpriced and not prices.ready()

    def labels(self) -> list[str]:
        """Numbers of the cells, in order."""
        return sorted(set(map(_label, self._counts)), key=lambda label: (len(label), label))

    def named(self, label: str) -> str | None:
        """Number of the cell that is meant, "last" for the last one with spans; None if it has no spans."""
        labels = [_label(key) for key in self._counts]
        if label == "last":
            return labels[-1] if labels else None
        return label if label in labels else None

    def key(self, label: str) -> str:
        """Key of the latest run of a cell with this number.

        Raises:
            KeyError: it has no spans.
        """
        keys = [key for key in self._counts if _label(key) == label]
        if not keys:
            raise KeyError(label)
        return keys[-1]

    def rows(self, label: str) -> tuple[SpanRecord, ...]:
        """Rows of the latest run of a cell with this number, in the order in which they ended.

        Raises:
            KeyError: it has no spans.
        """
        return self._log.records(cell=self.key(label))


def _label(key: str) -> str:
    return key.rpartition("-")[0]


def _unpriced(row: SpanRecord) -> bool:
    return row.facts.kind in PRICED_KINDS and prices.needs_table(row.facts)


# How long a cell that has ended waits for the delivery of its spans.

PATIENT_SECONDS: Final = 2.0
"""Where a second more harms nobody, or where waiting is all that there is."""
IMPATIENT_SECONDS: Final = 0.1


class DeliveryWait:
    """Waits after each cell of a kernel, as long as its settings and the cells before allow.

    Args:
        tracer: of the kernel.
    """

    def __init__(self, tracer: HoneyHiveTracer) -> None:
        self._tracer = tracer
        self._budget = FlushBudget()

    def wait(self, *, headless: bool) -> None:
        """Wait until every tracer has delivered, or the time is up.

        Args:
            headless: nobody looks on.
        """
        seconds = self._budget.seconds(self._allowed(headless=headless))
        if seconds <= 0 or self._tracer.destination is None:
            return
        start = time.monotonic()
        registry.flush_all(seconds)
        self._budget.note(seconds, time.monotonic() - start)

    def _allowed(self, *, headless: bool) -> float:
        """Seconds: more where nobody looks on, or nothing but this kernel has the spans."""
        settings, spool = self._tracer.settings, self._tracer.spool
        if settings.origins.get("cell_flush_seconds") != "default":
            return settings.cell_flush_seconds
        return PATIENT_SECONDS if headless or spool is None or spool.problem else settings.cell_flush_seconds


class FlushBudget:
    """How long a cell waits for delivery: after two cells in a row that used it up, 0.1 s until one is fast."""

    def __init__(self) -> None:
        self._used_up = 0

    def seconds(self, allowed: float) -> float:
        """Seconds for the next cell, `allowed` at most."""
        return min(allowed, IMPATIENT_SECONDS) if self._used_up >= 2 else allowed

    def note(self, allowed: float, taken: float) -> None:
        """What the wait came to, in seconds."""
        self._used_up = self._used_up + 1 if taken >= 0.9 * allowed else 0


# What a page is told when it asks about a view: the view, one of its spans, and what became of sending and saving.

SEND_SECONDS: Final = 2.0


class Answers:
    """Answers the hub, on any thread; see `hub.Source`.

    Args:
        sessions: of the notebook.
        log: rows of this kernel.
        views: makes the views of outputs.
        shown: the output with this view id; None if there is none.
        running: a span of a cell that runs, by view id and span id; None for any other.
        refresh: brings every output up to date soon.
    """

    def __init__(
        self,
        sessions: Sessions,
        log: SpanLog,
        views: Views,
        *,
        shown: Callable[[str], CellOutput | None],
        running: Callable[[str, int], tuple[SpanRecord, SpanDetails | None] | None],
        refresh: Callable[[], None],
    ) -> None:
        self._sessions, self._tracer, self._log = sessions, sessions.tracer, log
        self._views = views
        self._session_views = SessionViews(sessions, log)
        self._shown, self._running, self._refresh = shown, running, refresh

    def view_of(self, view_id: str) -> CellView | None:
        """The view as it is now; None for one that is not of this kernel."""
        output = self._output(view_id)
        return self._views.view(output) if output is not None else None

    def drawn(self, view_id: str) -> CellView | None:
        """The view as its static forms show it; None for one that is not of this kernel."""
        output = self._shown(view_id)
        return self._views.drawn(output) if output is not None else None

    def details(self, view_id: str, span_id: str, images: Images | None = None) -> dict[str, Any] | None:
        """Everything about one span, for the detail pane; None when it is no longer kept.

        Args:
            view_id: of the output it is shown in.
            span_id: 16 hexadecimal digits.
            images: takes the images that are drawn.
        """
        found = self._span(view_id, int(span_id, 16))
        return span_details(*found, images) if found is not None else None

    def python(self, view_id: str, span_id: str) -> str | None:
        """Code that gets a span in this kernel; None for one that is not of this kernel.

        Args:
            view_id: of the output it is shown in.
            span_id: 16 hexadecimal digits.
        """
        view, found = self.view_of(view_id), self._span(view_id, int(span_id, 16))
        return python_code(view, *found) if view is not None and found is not None else None

    def save(self, view_id: str) -> str:
        """Write the sessions that a view shows to a file beside the notebook; one sentence about where they are."""
        view = self.view_of(view_id)
        ids = {node.record.session_id for node in view.tree.nodes} - {None} if view is not None else set()
        name = time.strftime("hh-spans-%Y%m%d-%H%M%S.jsonl")
        try:
            return save([name, *sorted(map(str, ids))], SessionStore(self._sessions, self._log)).removeprefix("hh: ")
        except UsageError as error:
            return str(error)

    def send(self) -> str:
        """Try to deliver what waits; one sentence about how it went."""
        self._tracer.send_again()
        self._tracer.force_flush(int(SEND_SECONDS * 1000))
        self._refresh()
        return sending_result(self._tracer.export_state())

    def _output(self, view_id: str) -> CellOutput | None:
        return self._shown(view_id) or self._session_views.output(view_id)

    def _span(self, view_id: str, span_id: int) -> tuple[SpanRecord, SpanDetails] | None:
        """A span and what its row leaves out; None when that is no longer kept."""
        output = self._output(view_id)
        found = self._running(view_id, span_id)
        if found is None and output is not None:
            found = self._views.details(output, span_id)
        return (found[0], found[1]) if found is not None and found[1] is not None else None


SEAL_SECONDS: Final = 2.0
QUIET_CELLS: Final = 100
"""Cells without spans that may still get an output when one of theirs ends at last."""

FIXED_OUTPUTS: Final = 20
"""Outputs that show something else than one cell; of older ones the page keeps the static form."""


class Outputs:
    """The outputs of this kernel, by cell and by view.

    Attributes:
        cells: those that have spans.
        answers: to what a page asks about a view.
    """

    def __init__(self, sessions: Sessions, log: SpanLog, screen: Screen) -> None:
        self._tracer = sessions.tracer
        self._log = log
        self._screen = screen
        self.cells = TracedCells(log)
        self._by_view: dict[str, CellOutput] = {}
        self._by_key: dict[str, list[CellOutput]] = defaultdict(list)
        self._quiet: dict[str, tuple[CellFrame, object]] = {}
        self._views = Views(sessions, log, self.cells.arrived)
        self._delivery = DeliveryWait(self._tracer)
        self._updates: Updates[CellOutput] = Updates(self._refresh)
        self._drawing = threading.RLock()
        self.answers = Answers(
            sessions,
            log,
            self._views,
            shown=self._by_view.get,
            running=lambda *of: self._running.details(*of),  # noqa: PLW0108  # Made last: it needs the page.
            refresh=self.refresh,
        )
        self._page = Page(self.answers)
        self._running = RunningCells(log, self._page, self._views.running, lambda: self._tracer.settings)
        self._listener = guarded(self._arrived)
        log.listen(self._listener)
        self._watcher = guarded(self._changed)
        log.listen_to_changes(self._watcher)

    def begin(self, frame: CellFrame) -> None:
        """A cell starts; while it runs, a page shows what it does."""
        if frame.cell_id and frame.info.store_history and self._screen.live:
            self._running.begin(frame)

    def finish(self, frame: CellFrame, *, raised: bool, interrupted: bool) -> None:
        """Show what was traced in a cell that has just ended, then wait for its delivery within the budget."""
        ended_ns = time.time_ns()
        registry.seal_all(SEAL_SECONDS)
        self._running.end(frame.key)
        self._quiet[frame.key] = (frame, self._screen.place())
        if not self.cells.arrived(frame.key):
            while len(self._quiet) > QUIET_CELLS:
                self._quiet.pop(next(iter(self._quiet)), None)
            return
        del self._quiet[frame.key]
        output = self._add_for(frame)
        output.end(ended_ns, raised=raised, interrupted=interrupted)
        if not self._page.wanted and self.cells.wants_price(output.key):
            prices.load()  # Nobody is waiting at a screen, and an update after the last cell would be lost.
        if self._screen.live:
            self._draw(output, update=False)
        try:
            self._delivery.wait(headless=self._screen.live and not frame.cell_id)
        finally:
            self._after_flush(output)

    def show_again(
        self,
        label: str,
        view_id: str,
        *,
        detail: Detail | None = None,
        errors_only: bool = False,
        told: Callable[[str], None] | None = None,
    ) -> None:
        """Show the spans of a cell once more, opened, below the cell that asks.

        Args:
            label: number of the cell.
            view_id: of this output.
            detail: how much of what spans said is in it; None leaves it to the setting.
            errors_only: show only what failed.
            told: see `CellOutput`; nothing is drawn then.

        Raises:
            KeyError: the cell has no spans.
        """
        key = self.cells.key(label)
        output = self._add(key, label, view_id, "tree")
        output.end_like(self._by_key[key][0])
        output.asked, output.detail, output.errors_only, output.told = True, detail, errors_only, told
        self._show(output)

    def show_rows(
        self,
        view: CellView,
        export: Callable[[], ExportState],
        *,
        interactive: bool,
        detail: Detail | None = None,
        told: Callable[[str], None] | None = None,
    ) -> None:
        """Show spans that are not those of one cell, below the cell that asks; they stay the same.

        Args:
            view: what to show.
            export: tells what became of them, then and later.
            interactive: the front end is a notebook, whose page may be made interactive.
            detail: how much of what spans said is in it; None leaves it to the setting.
            told: see `CellOutput`; nothing is drawn then.
        """
        self._page.wanted |= interactive and self._screen.live
        output = self._add("", view.label, view.view_id, view.mode)
        output.fixed, output.export, output.detail, output.told = view, export, detail, told
        drawn = [shown for shown in self._by_key[""] if shown.told is None]
        for old in drawn[:-FIXED_OUTPUTS]:
            self.forget(old.view_id)
        self._show(output)

    def forget(self, view_id: str) -> None:
        """Nothing shows this any more, or its static form is enough."""
        output = self._by_view.pop(view_id, None)
        if output is not None:
            self._by_key[output.key].remove(output)

    def _show(self, output: CellOutput) -> None:
        self._draw(output, update=False)
        if self._screen.live:
            self._updates.start()
            self._updates.request(output)

    @property
    def in_terminal(self) -> bool:
        """They are printed, and the person sits at this machine."""
        return not self._screen.live

    def refresh(self) -> None:
        """Bring every output up to date soon."""
        for output in tuple(self._by_view.values()):
            self._updates.request(output)

    def close(self) -> None:
        """Make the last changes and let go of everything."""
        self._log.unlisten(self._listener)
        self._log.unlisten(self._watcher)
        self._running.close()
        self._updates.close()
        self._page.close()

    def _add_for(self, frame: CellFrame) -> CellOutput:
        cell_id = frame.cell_id
        self._page.wanted |= bool(cell_id) and self._screen.live
        mode = frame.show or self._tracer.settings.display
        return self._add(frame.key, frame.label, view_id_of(cell_id, frame.label), mode)

    def _add(self, key: str, label: str, view_id: str, mode: str) -> CellOutput:
        output = CellOutput(key, label, view_id, f"hh-{key}-{secrets.token_hex(3)}", mode)
        self.forget(view_id)
        self._by_view[view_id] = output
        self._by_key[key].append(output)
        return output

    def _after_flush(self, output: CellOutput) -> None:
        output.overdue = not settled(self._views.export(output))
        if not self._screen.live:
            self._draw(output, update=False)
            return
        self._updates.start()
        done = self._refresh(output)
        if not done or self._page.unopened or self.cells.wants_price(output.key):
            self._updates.request(output)

    def _refresh(self, output: CellOutput) -> bool:
        """Change an output in place if there is something new; True when nothing will change by itself."""
        if self._by_view.get(output.view_id) is not output:
            return True  # The cell ran again: its output is another one now.
        if self._updates.here() and self.cells.wants_price(output.key):
            prices.load()
        self._draw(output, update=True)
        if self._updates.here():
            self._page.open()
        self._page.changed(output.view_id)
        if output.told is not None:
            output.told(output.view_id)
        now = self._state(output)
        # What changed while it was drawn is still to be shown, also if nothing changes after that.
        return now == output.state and settled(now.export)

    def _draw(self, output: CellOutput, *, update: bool) -> None:
        """Show it, or what is new about it; one thread at a time, else the older picture might come last."""
        with self._drawing:
            state = self._state(output)
            if update and state == output.state:
                return
            output.state = state
            if output.place is not None:
                place, output.place = output.place, None
                self._screen.show_at(place, self._views.drawn(output), output.display_id)
            elif output.mode != "off" and output.told is None:
                self._screen.show(self._views.drawn(output), output.display_id, update=update)

    def _state(self, output: CellOutput) -> OutputState:
        arrived, export = self.cells.arrived(output.key), self._views.export(output)
        return OutputState(arrived, export, prices.ready(), output.overdue, output.changes)

    def _arrived(self, rows: tuple[SpanRecord, ...]) -> None:
        """New rows in the log, on whichever thread sealed them: count, and leave the rest to others."""
        for key, number in self.cells.add(rows).items():
            self._wake(key)
            for output in tuple(self._by_key.get(key, ())):
                output.late += number
                self._updates.request(output)
        if any(map(self.cells.wants_price, {row.cell for row in rows})):
            prices.load_in_background()

    def _changed(self, rows: tuple[SpanRecord, ...]) -> None:
        """Update the outputs of rows that late events have changed. Called on the thread that sealed these."""
        for key in {row.cell for row in rows if row.cell is not None}:
            for output in tuple(self._by_key.get(key, ())):
                output.changes += 1
                self._updates.request(output)

    def _wake(self, key: str) -> None:
        """A cell that ended without spans has one now: it gets its output, under itself."""
        frame, place = self._quiet.pop(key, (None, None))
        if frame is not None and place is not None and self._tracer.settings.display != "off":
            output = self._add_for(frame)
            output.place = place
            self._updates.start()
