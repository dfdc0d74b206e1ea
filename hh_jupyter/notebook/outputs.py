"""One output per traced cell: shown once, as the last output of the cell, and updated in place afterwards.

Nothing here prints or displays from a background thread: a front end files a new output under whichever cell runs at
that moment. Updates of an output that is already shown may come from any thread.
"""

from __future__ import annotations

import queue
import secrets
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from IPython.core.error import UsageError

from hh_jupyter.display.content import Detail, span_details
from hh_jupyter.display.live_report import LiveReport, shown_reports
from hh_jupyter.display.media import ImageCollector
from hh_jupyter.display.preview import previews
from hh_jupyter.display.search import HitCounter, search_reply
from hh_jupyter.display.snippet import python_code
from hh_jupyter.display.view import CellView
from hh_jupyter.notebook.cells import CellFrame
from hh_jupyter.notebook.frontend import PAUSE_FACTOR, LazyHub, RunningCells
from hh_jupyter.notebook.guard import guarded, note_failure
from hh_jupyter.notebook.places import FrontEnd, Place
from hh_jupyter.notebook.sessions import NotebookSessions, SessionStore
from hh_jupyter.notebook.status import is_final, sending_result
from hh_jupyter.notebook.transfer import add_to_dataset, save
from hh_jupyter.notebook.views import (
    SESSION_VIEW_PREFIX,
    CellOutput,
    OutputState,
    SessionViews,
    Views,
    view_id_of,
)
from hh_jupyter.records import prices
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.records.log import SpanLog
from hh_jupyter.records.record import SpanDetails, SpanRecord
from hh_jupyter.records.selection import cell_number, latest_run, run_of_variant
from hh_jupyter.settings import display_settings
from hh_jupyter.threads import evict_oldest, start_thread
from hh_jupyter.tracing import registry
from hh_jupyter.tracing.events import FeedbackWriter
from hh_jupyter.tracing.span_store import detail_store
from hh_jupyter.tracing.tracer import HoneyHiveTracer

if TYPE_CHECKING:  # Late: most notebooks need neither.
    from hh_jupyter.notebook.again import Again
    from hh_jupyter.notebook.diffs import Pair, RunDiffs


# The thread that updates outputs in place after their cell has ended: late spans, export state, prices.

T = TypeVar("T")

PAUSE_SECONDS: Final = 0.25
"""Between two rounds of updates: an output changes at most 4 times a second. The last change is never skipped.

After a round with much to draw it is `PAUSE_FACTOR` times the processor time of that, up to the longest interval below.
What it waited for others does not count: on a busy machine, outputs would change every 5 seconds only.
"""

POLL_SECONDS: Final = (0.5, 5.0)
"""Between two checks of outputs whose spans are not all exported: the first interval, and the longest."""


class OutputUpdater(Generic[T]):
    """Refreshes outputs on request, and polls those that are not final.

    Args:
        refresh: updates one output in place; returns whether the output is final, that is, needs no polling.
    """

    def __init__(self, refresh: Callable[[T], bool]) -> None:
        self._refresh = refresh
        # SimpleQueue.put is re-entrant: records arrive on any thread, also inside a garbage collection.
        self._requests: queue.SimpleQueue[T | None] = queue.SimpleQueue()
        self._not_final: dict[int, T] = {}
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._runs_on: int | None = None
        self._drawing_seconds = 0.0

    def request(self, output: T) -> None:
        """Refresh this output soon. Thread-safe."""
        self._requests.put(output)

    def start(self) -> None:
        """Start the thread if it is not running. Called on the main thread when an output has been shown.

        If no thread can be started, make the requested updates now.
        """
        if self._thread is None and not self._closing.is_set():
            self._thread = start_thread(self._run, "hh-outputs")
            if self._thread is None:
                self._update_here()

    def _update_here(self) -> None:
        self._runs_on = threading.get_ident()
        for output in {id(output): output for output in (*self._not_final.values(), *self._next(0))}.values():
            self._refresh_one(output)
        self._runs_on = None

    def note_drawing(self, seconds: float) -> None:
        """Count processor time that an update took; the next pause depends on it. The first drawing loads modules."""
        if self.on_own_thread():
            self._drawing_seconds += seconds

    def on_own_thread(self) -> bool:
        """Whether the updater is calling: on its thread, where slow work delays no cell, if there is one."""
        return threading.get_ident() == self._runs_on

    def close(self) -> None:
        """Process pending requests, then end the thread; waits at most 2 seconds."""
        self._closing.set()
        self._requests.put(None)
        if self._thread is not None:
            self._thread.join(2)
        else:
            self._update_here()

    def _run(self) -> None:
        self._runs_on = threading.get_ident()
        poll = POLL_SECONDS[0]
        while True:
            requested = self._next(poll if self._not_final else None)
            poll = POLL_SECONDS[0] if requested else min(poll * 2, POLL_SECONDS[1])
            self._drawing_seconds = 0.0
            for output in requested or tuple(self._not_final.values()):
                self._refresh_one(output)
            if self._closing.is_set() and self._requests.empty():
                return
            self._closing.wait(max(PAUSE_SECONDS, min(self._drawing_seconds * PAUSE_FACTOR, POLL_SECONDS[1])))

    def _next(self, timeout: float | None) -> tuple[T, ...]:
        """Return the requested outputs, each once; wait for the first. Empty after `timeout` seconds without one."""
        requested: dict[int, T] = {}
        try:
            while True:
                output = self._requests.get(timeout=timeout)
                if output is not None:
                    requested[id(output)] = output
                timeout = 0
        except queue.Empty:
            return tuple(requested.values())

    def _refresh_one(self, output: T) -> None:
        try:
            final = self._refresh(output)
        except Exception as error:  # boundary: an output that cannot be drawn stays as it is
            note_failure("Outputs.refresh", error)
            final = True
        if final:
            self._not_final.pop(id(output), None)
        else:
            self._not_final[id(output)] = output


# Spans per cell, and lookup by cell number.

PRICED_KINDS: Final = frozenset({"llm", "embedding", "reranker"})


class CellIndex:
    """Counts spans per cell run and resolves cell numbers. Runs are ordered by their first span.

    Args:
        log: records of this kernel.
    """

    def __init__(self, log: SpanLog) -> None:
        self._log = log
        self._counts: Counter[str] = Counter()
        self._unpriced: set[str | None] = set()

    def add(self, records: Sequence[SpanRecord]) -> Mapping[str, int]:
        """Count new records and return how many belong to each run. Called on the thread that processed the spans."""
        new = Counter(record.cell for record in records if record.cell is not None)
        for key, number in new.items():
            self._counts[key] += number
        if not prices.ready():
            self._unpriced.update(record.cell for record in records if _unpriced(record))
        return new

    def span_count(self, key: str) -> int:
        """Number of spans of a run, including those that the log has evicted."""
        return self._counts[key]

    def variants(self, key: str) -> int:
        """Number of calls of a run that were made again with changes."""
        return sum(run_of_variant(one) == key for one in tuple(self._counts))

    def needs_prices(self, key: str | None) -> bool:
        """Whether a cost of this run cannot be computed until the price table is loaded; None: spans outside cells."""
        return key in self._unpriced and not prices.ready()

    def labels(self) -> list[str]:
        """Numbers of the cells that have spans, sorted."""
        return sorted(set(map(cell_number, self._counts)), key=lambda label: (len(label), label))

    def run(self, label: str) -> str | None:
        """Return the key of the latest run of a cell given by its number or as "last"; None if it has no spans."""
        return latest_run(label, self._counts)

    def resolve(self, label: str) -> str | None:
        """Return the number of a cell given by its number or as "last"; None if it has no spans."""
        key = self.run(label)
        return None if key is None else cell_number(key)

    def key(self, label: str) -> str:
        """Return the key of the latest run of the cell with this number.

        Raises:
            KeyError: the cell has no spans.
        """
        key = self.run(label)
        if key is None:
            raise KeyError(label)
        return key

    def records(self, label: str) -> tuple[SpanRecord, ...]:
        """Return the records of the latest run of the cell with this number, in the order in which they ended.

        Raises:
            KeyError: the cell has no spans.
        """
        return self._log.records(cell=self.key(label))


def _unpriced(record: SpanRecord) -> bool:
    return record.facts.kind in PRICED_KINDS and prices.needs_table(record.facts)


# How long a cell that has ended waits for the export of its spans.

LONG_WAIT_SECONDS: Final = 2.0
"""For headless runs, where no user waits, and for kernels that keep unsent spans in memory only."""
SHORT_WAIT_SECONDS: Final = 0.1
"""After cells that used up their budget."""


class DeliveryWait:
    """Waits for the export after each cell, for as long as the settings and previous waits allow.

    Args:
        tracer: tracer of the kernel.
    """

    def __init__(self, tracer: HoneyHiveTracer) -> None:
        self._tracer = tracer
        self._budget = FlushBudget()

    def wait(self, *, headless: bool) -> None:
        """Flush every tracer, within the time that is allowed.

        Args:
            headless: the notebook is executed without a front end.
        """
        seconds = self._budget.seconds(self._allowed(headless=headless))
        if seconds <= 0 or self._tracer.destination is None:
            return
        start = time.monotonic()
        registry.flush_all(seconds, asked=False)  # The output shows the result; the user's next flush reports it.
        self._budget.note(seconds, time.monotonic() - start)

    def _allowed(self, *, headless: bool) -> float:
        """Return the wait in seconds: the setting if it was set, else longer in the cases of LONG_WAIT_SECONDS."""
        settings, spool = display_settings(), self._tracer.spool
        if settings.origins.get("cell_flush_seconds") != "default":
            return settings.cell_flush_seconds
        return LONG_WAIT_SECONDS if headless or spool is None or spool.problem else settings.cell_flush_seconds


class FlushBudget:
    """Time that a cell may wait for the export: 0.1 s after two cells in a row used up theirs, until one is fast."""

    def __init__(self) -> None:
        self._used_up = 0

    def seconds(self, allowed: float) -> float:
        """Return the wait of the next cell in seconds, at most `allowed`."""
        return min(allowed, SHORT_WAIT_SECONDS) if self._used_up >= 2 else allowed

    def note(self, allowed: float, taken: float) -> None:
        """Record how many of the allowed seconds a wait took."""
        self._used_up = self._used_up + 1 if taken >= 0.9 * allowed else 0


# Replies to the interactive view: a view, the details of a span, and the results of its send and save buttons.

SEND_SECONDS: Final = 2.0


class HubSource:
    """Serves the requests of the hub, on any thread; implements `hub.ViewSource`.

    Args:
        sessions: sessions of the notebook.
        log: records of this kernel.
        views: builds the views of outputs.
        shown: returns the output with a view id, or None.
        running: returns a span of a running cell by view id and span id, or None.
        running_records: returns the ended spans of a running cell by view id, or None.
        refresh: requests an update of every output.

    Attributes:
        again: makes calls again; set by the extension.
    """

    again: Callable[[], Again]

    def __init__(
        self,
        sessions: NotebookSessions,
        log: SpanLog,
        views: Views,
        *,
        shown: Callable[[str], CellOutput | None],
        running: Callable[[str, int], tuple[SpanRecord, SpanDetails | None] | None],
        running_records: Callable[[str], Sequence[SpanRecord] | None],
        refresh: Callable[[], None],
    ) -> None:
        self._sessions, self._tracer, self._log = sessions, sessions.tracer, log
        self._views = views
        self._session_views = SessionViews(sessions, log)
        self._shown, self._running, self._refresh = shown, running, refresh
        self._running_records = running_records
        self._hits = HitCounter(detail_store().candidates)
        self._feedback = FeedbackWriter(self._tracer)

    def view_of(self, view_id: str) -> CellView | None:
        """Return the current view; None if this kernel has none with this id."""
        output = self._output(view_id)
        return self._views.view(output) if output is not None else None

    def report_of(self, view_id: str) -> LiveReport | None:
        """Return the displayed report with this id; None if this kernel has none."""
        return shown_reports.get(view_id)

    def static_view(self, view_id: str) -> CellView | None:
        """Return the view for static rendering; None if this kernel has none with this id."""
        output = self._shown(view_id)
        return self._views.static_view(output) if output is not None else None

    def details(self, view_id: str, span_id: str, images: ImageCollector | None = None) -> dict[str, Any] | None:
        """Return the content of one span for the detail pane; None when it is no longer kept.

        Args:
            view_id: view that contains the span.
            span_id: 16 hexadecimal digits.
            images: collects the images to show.
        """
        found = self._span(view_id, int(span_id, 16))
        return span_details(*found, images) if found is not None else None

    def python(self, view_id: str, span_id: str) -> str | None:
        """Return Python code that gets a span in this kernel; None when it is no longer kept.

        Args:
            view_id: view that contains the span.
            span_id: 16 hexadecimal digits.
        """
        view, found = self.view_of(view_id), self._span(view_id, int(span_id, 16))
        return python_code(view, *found) if view is not None and found is not None else None

    def diff(self, view_id: str, old: str | None, new: str | None) -> dict[str, Any] | None:
        """Return the difference of two runs of the cell of a view; see `hub.ViewSource`.

        Args:
            view_id: id of the view.
            old, new: keys of the runs; None: the ones to show first.
        """
        output = self._output(view_id)
        if output is None:
            return None
        if output.pair is not None and old is None and new is None:
            return self._diffs.of_pair(view_id, output.pair)
        key = output.key or (output.pair.key if output.pair is not None else "")
        return self._diffs.of_runs(key, old, new) if key else None

    def diff_span(self, diff_id: str, row: int) -> dict[str, Any] | None:
        """Return what differs of a span; None when the difference is no longer kept.

        Args:
            diff_id: id of the difference.
            row: index of the span's row.
        """
        return self._diffs.span(diff_id, row)

    @cached_property
    def _diffs(self) -> RunDiffs:
        from hh_jupyter.notebook.diffs import RunDiffs  # Late: most runs are never compared.

        return RunDiffs()

    def previews(self, view_id: str, span_ids: Sequence[str]) -> dict[str, str]:
        """Return what rows show of the content of these spans, by span id; those without anything are left out."""
        wanted = {int(span_id, 16) for span_id in span_ids}
        records = [record for record in self._records(view_id) or () if record.span_id in wanted]
        return {f"{span_id:016x}": text for span_id, text in previews(records, detail_store().load_all).items()}

    def search(self, view_id: str, text: str) -> dict[str, Any] | None:
        """Return the hits of a text; None if this kernel does not know the view."""
        records = self._records(view_id)
        if records is None:
            return None
        return search_reply(self._hits, records, text)

    def feedback(self, view_id: str, span_id: str, given: Mapping[str, Any]) -> str:
        """Give feedback to a span; return why it could not be saved, or an empty text."""
        wanted = int(span_id, 16)
        record = next((one for one in self._records(view_id) or () if one.span_id == wanted), None)
        record = record or self.again().model_span(wanted)
        if record is None:
            return "Not saved: the span is no longer in memory."
        of_row = view_id.startswith(SESSION_VIEW_PREFIX) and record.parent_id is None
        try:
            self._feedback.give(record, given, of_session=of_row)
        except ValueError as error:
            return f"Not saved: {error}."
        self._tracer.wait_processed()
        return ""

    def make_again(self, message: Mapping[str, Any], push: Callable[[Mapping[str, Any]], None]) -> Any:
        """Answer a message about a model call that is made again; None if the span is no longer kept.

        Args:
            message: as `display/hub.py` lists them.
            push: sends a variant to the page, as it arrives and when it has ended.
        """
        output, span = self._output(str(message["view"])), self._span(str(message["view"]), int(message["span"], 16))
        if span is None or output is None:
            return None
        return self.again().answer(message, span, output.begin_replay, push)

    def save(self, view_id: str) -> str:
        """Save the sessions of a view to a file in the working directory; return one sentence about the result."""
        view = self.view_of(view_id)
        ids = {node.record.session_id for node in view.tree.nodes} - {None} if view is not None else set()
        name = time.strftime("hh-spans-%Y%m%d-%H%M%S.jsonl")
        try:
            return save([name, *sorted(map(str, ids))], SessionStore(self._sessions, self._log)).removeprefix("hh: ")
        except UsageError as error:
            return str(error)

    def add_to_dataset(self, view_id: str, file: str) -> str:
        """Append the row of a session's view to a dataset; return one sentence about the result."""
        row = next((record for record in self._records(view_id) or () if record.parent_id is None), None)
        return add_to_dataset(row, file)

    def send(self) -> str:
        """Retry everything that is unsent; return one sentence about the result."""
        self._tracer.send_again()
        self._tracer.force_flush(int(SEND_SECONDS * 1000))
        self._refresh()
        return sending_result(self._tracer.export_state())

    def _output(self, view_id: str) -> CellOutput | None:
        return self._shown(view_id) or self._session_views.output(view_id)

    def _records(self, view_id: str) -> Sequence[SpanRecord] | None:
        """Return the records of a view; None if this kernel does not know it."""
        running, output = self._running_records(view_id), self._output(view_id)
        return running if running is not None or output is None else self._views.records(output)

    def _span(self, view_id: str, span_id: int) -> tuple[SpanRecord, SpanDetails] | None:
        """Return a span with its details; None when the details are no longer kept."""
        output = self._output(view_id)
        found = self._running(view_id, span_id)
        if found is None and output is not None:
            found = self._views.details(output, span_id)
        return (found[0], found[1]) if found is not None and found[1] is not None else None


# The outputs themselves.

MAX_CELLS_WITHOUT_SPANS: Final = 100
"""Cells that ended without spans and may still get an output, when one of their spans ends later."""

COMPARE_SECONDS: Final = (0.25, 3.0)
"""A cell is compared with its run before this long after its end: at least, and while other cells run."""

MAX_FIXED_OUTPUTS: Final = 20
"""Interactive outputs of anything but one cell; older ones keep their static form only."""


class Outputs:
    """The outputs of this kernel, by cell run and by view.

    Args:
        sessions: sessions of the notebook.
        log: records of this kernel.
        front_end: shows the outputs.

    Attributes:
        cells: cells that have spans.
        hub_source: serves the requests of interactive views.
        busy: returns whether a cell runs; set by the extension.
    """

    def __init__(self, sessions: NotebookSessions, log: SpanLog, front_end: FrontEnd) -> None:
        self._tracer = sessions.tracer
        self._log = log
        self._front_end = front_end
        self.busy: Callable[[], bool] = lambda: False
        self.cells = CellIndex(log)
        self._by_view: dict[str, CellOutput] = {}
        self._by_key: dict[str, list[CellOutput]] = defaultdict(list)
        self._without_spans: dict[str, tuple[CellFrame, Place]] = {}
        self._views = Views(sessions, log, self.cells.span_count, self.cells.variants)
        self._delivery = DeliveryWait(self._tracer)
        self._updater: OutputUpdater[CellOutput] = OutputUpdater(self._refresh)
        self._drawing = threading.RLock()
        self.hub_source = HubSource(
            sessions,
            log,
            self._views,
            shown=self._by_view.get,
            running=lambda *of: self._running.details(*of),  # noqa: PLW0108  # Assigned below.
            running_records=lambda view_id: self._running.records(view_id),  # noqa: PLW0108
            refresh=self.refresh,
        )
        self._hub = LazyHub(self.hub_source)
        self._running = RunningCells(log, self._hub, self._views.running, lambda: self._tracer.settings)
        self._listener = guarded(self._on_records)
        log.listen(self._listener)
        self._watcher = guarded(self._on_late_changes)
        log.listen_to_changes(self._watcher)

    def begin(self, frame: CellFrame) -> None:
        """Start to follow a cell, so that the interactive view can show it while it runs."""
        if frame.cell_id and frame.info.store_history and self._front_end.can_update:
            self._running.begin(frame)

    def finish(self, frame: CellFrame, *, error: BaseException | None, interrupted: bool) -> None:
        """Show the spans of a cell that has just ended, then wait for their export within the budget."""
        ended_ns = time.time_ns()
        thread_errors, frame.thread_errors = frame.thread_errors, []  # The frame may be kept, their tracebacks not.
        registry.wait_all_processed()
        self._running.end(frame.key)
        place = self._front_end.place_below()
        later = place.later() if place is not None else None
        if later is not None:
            self._without_spans[frame.key] = (frame, later)
        if not self.cells.span_count(frame.key):
            evict_oldest(self._without_spans, MAX_CELLS_WITHOUT_SPANS)
            return
        self._without_spans.pop(frame.key, None)
        output = self._add_for(frame, place)
        output.raised, output.interrupted = error is not None, interrupted
        output.ending = self._views.ending(ended_ns, error, thread_errors)
        for replayed in frame.replays:
            output.refusal = output.refusal or replayed.refusal
            output.unrecorded += len(replayed.missed)
            output.begin_replay = replayed.begin_again
        if not self._hub.wanted and self.cells.needs_prices(output.key):
            prices.load()  # A headless run: no user waits, and an update after the last cell would be lost.
        if not self._hub.wanted:
            self._compare(output)  # For the same reason, and in a terminal, where nothing is updated.
        if self._front_end.can_update:
            self._draw(output)
        try:
            self._delivery.wait(headless=self._front_end.can_update and not frame.cell_id)
        finally:
            self._after_flush(output)

    def show_again(
        self,
        label: str,
        view_id: str,
        *,
        detail: Detail | None = None,
        errors_only: bool = False,
        on_change: Callable[[str], None] | None = None,
    ) -> None:
        """Show the spans of a cell again, expanded, below the running cell.

        Args:
            label: number of the cell.
            view_id: id of the new output.
            detail: how much span content to include; None: as the setting says.
            errors_only: show only spans in error and their ancestors.
            on_change: see `CellOutput`; with it, nothing is displayed.

        Raises:
            KeyError: the cell has no spans.
        """
        key = self.cells.key(label)
        output = self._add(key, label, view_id, "tree", self._front_end.place())
        output.end_like(self._by_key[key][0])
        output.asked, output.detail, output.errors_only, output.on_change = True, detail, errors_only, on_change
        self._show(output)

    def show_records(
        self,
        view: CellView,
        export: Callable[[], ExportState],
        *,
        interactive: bool,
        detail: Detail | None = None,
        on_change: Callable[[str], None] | None = None,
    ) -> None:
        """Show a fixed set of spans, not those of one cell, below the running cell.

        Args:
            view: view of the spans.
            export: returns their current export state.
            interactive: the front end is a notebook and can show the interactive view.
            detail: how much span content to include; None: as the setting says.
            on_change: see `CellOutput`; with it, nothing is displayed.
        """
        output = self._add_fixed(view, export, self._front_end.place(), interactive=interactive)
        output.detail, output.on_change = detail, on_change
        self._show(output)

    def show_diff(
        self,
        data: Mapping[str, str],
        pair: Pair,
        view: CellView,
        export: Callable[[], ExportState],
        *,
        interactive: bool,
    ) -> None:
        """Show a difference below the running cell. Its static form is not updated.

        Args:
            data: text and HTML by mime type.
            pair: the spans that are compared.
            view: view of the new spans.
            export: returns their current export state.
            interactive: the front end is a notebook and can show the interactive view.
        """
        output = self._add_fixed(view, export, None, interactive=interactive)
        output.pair = pair
        self.show_data(data, view.view_id)
        self._show(output)

    def _add_fixed(
        self, view: CellView, export: Callable[[], ExportState], place: Place | None, *, interactive: bool
    ) -> CellOutput:
        self.want_hub(interactive=interactive)
        output = self._add("", view.label, view.view_id, view.mode, place)
        output.fixed, output.export = view, export
        displayed = [shown for shown in self._by_key[""] if shown.on_change is None]
        for old in displayed[:-MAX_FIXED_OUTPUTS]:
            self.forget(old.view_id)
        return output

    def show_data(self, data: Mapping[str, str], view_id: str) -> None:
        """Show an output that is not updated, below the running cell.

        Args:
            data: text and HTML by mime type.
            view_id: id of the output's element in the page.
        """
        self._front_end.place().publish(data, view_id, f"{view_id}-{secrets.token_hex(3)}", update=False)

    def want_hub(self, *, interactive: bool) -> None:
        """Open the hub with the next update, if the front end is a notebook and can show the interactive view."""
        self._hub.wanted |= interactive and self._front_end.can_update

    def open_hub(self, *, interactive: bool) -> None:
        """Open the hub on a thread if it is not open, for an output that is not one of spans; see `want_hub`."""
        self.want_hub(interactive=interactive)
        if self._hub.needs_opening:
            start_thread(self._hub.open, "hh-hub")

    def forget(self, view_id: str) -> None:
        """Stop updating an output; what is displayed stays as it is."""
        output = self._by_view.pop(view_id, None)
        if output is not None:
            self._by_key[output.key].remove(output)
            if output.on_change is not None:
                self._hub.changed(view_id)

    def _show(self, output: CellOutput) -> None:
        self._draw(output)
        if self._front_end.can_update:
            self._updater.request(output)
            self._updater.start()

    @property
    def in_terminal(self) -> bool:
        """Whether outputs are printed to a terminal, so that the user sits at this machine."""
        return not self._front_end.can_update

    def refresh(self) -> None:
        """Request an update of every output."""
        for output in tuple(self._by_view.values()):
            self._updater.request(output)

    def close(self) -> None:
        """Make pending updates, then stop all threads and listeners."""
        self._log.unlisten(self._listener)
        self._log.unlisten(self._watcher)
        self._running.close()
        self._updater.close()
        self._hub.close()

    def _add_for(self, frame: CellFrame, place: Place | None) -> CellOutput:
        cell_id = frame.cell_id
        self.want_hub(interactive=bool(cell_id))
        mode = frame.show or display_settings().display
        return self._add(frame.key, frame.label, view_id_of(cell_id, frame.label), mode, place)

    def _add(self, key: str, label: str, view_id: str, mode: str, place: Place | None) -> CellOutput:
        output = CellOutput(key, label, view_id, f"hh-{key}-{secrets.token_hex(3)}", mode, place)
        self.forget(view_id)
        self._by_view[view_id] = output
        self._by_key[key].append(output)
        return output

    def _after_flush(self, output: CellOutput) -> None:
        output.overdue = not is_final(self._views.export(output))
        if not self._front_end.can_update:
            self._draw(output)
            return
        done = self._refresh(output)
        if not done or self._hub.needs_opening or self._needs_comparison(output) or self.cells.needs_prices(output.key):
            self._updater.request(output)
        self._updater.start()

    def _refresh(self, output: CellOutput) -> bool:
        """Update an output in place if its state has changed; return True when it needs no polling."""
        if self._by_view.get(output.view_id) is not output:
            return True  # The cell was run again and has a new output.
        if self._updater.on_own_thread() and self.cells.needs_prices(output.key):
            prices.load()
        compared = self._compare_later(output) if self._updater.on_own_thread() else True
        self._draw(output)
        if self._updater.on_own_thread():
            self._hub.open()
        self._hub.changed(output.view_id)
        if output.on_change is not None:
            output.on_change(output.view_id)
        now = self._state(output)
        # A change during the drawing still has to be shown, even if it was the last one.
        return compared and now == output.state and is_final(now.export)

    def _compare(self, output: CellOutput) -> None:
        """Compare a cell with its run before, if its spans have changed since the last comparison."""
        if self._needs_comparison(output):
            output.compared = self._compared_state(output)
            output.delta = self._views.delta(output)

    def _compare_later(self, output: CellOutput) -> bool:
        """Compare when no cell has to wait for it: it takes milliseconds. Returns False if it is still to be done."""
        ended = output.ending.ended_ns if output.ending is not None else 0
        seconds = (time.time_ns() - ended) / 1e9
        if seconds >= COMPARE_SECONDS[0] and (not self.busy() or seconds >= COMPARE_SECONDS[1]):
            self._compare(output)
        return not self._needs_comparison(output)

    def _needs_comparison(self, output: CellOutput) -> bool:
        own = not output.asked and output.fixed is None and output.mode != "off"
        return own and output.compared != self._compared_state(output)

    def _compared_state(self, output: CellOutput) -> tuple[int, int]:
        return self.cells.span_count(output.key), output.changes

    def _draw(self, output: CellOutput) -> None:
        """Show or update an output. One thread at a time, or an older state might be shown last."""
        with self._drawing:
            state = self._state(output)
            if state == output.state:
                return
            output.state = state
            place = output.place
            if place is None or output.mode == "off" or output.on_change is not None:
                return
            if not output.shown or place.can_update:
                began = time.thread_time()
                place.show(self._views.static_view(output), output.display_id, update=output.shown)
                output.shown = True
                self._updater.note_drawing(time.thread_time() - began)

    def _state(self, output: CellOutput) -> OutputState:
        spans, export = self.cells.span_count(output.key), self._views.export(output)
        variants = self.cells.variants(output.key)
        return OutputState(spans, export, prices.ready(), output.overdue, output.changes, output.delta, variants)

    def _on_records(self, records: tuple[SpanRecord, ...]) -> None:
        """Count new records and request updates. Called on the thread that processed the spans."""
        for key, number in self.cells.add(records).items():
            self._show_late(key)
            for output in tuple(self._by_key.get(key, ())):
                output.late += number
                self._updater.request(output)
            for output in tuple(self._by_key.get(run_of_variant(key) or "", ())):
                self._updater.request(output)
        if any(map(self.cells.needs_prices, {record.cell for record in records})):
            prices.load_in_background()

    def _on_late_changes(self, records: tuple[SpanRecord, ...]) -> None:
        """Update the outputs of records that late events have changed. Called on the thread that processed them."""
        for key in {record.cell for record in records if record.cell is not None}:
            for output in tuple(self._by_key.get(key, ())):
                output.changes += 1
                self._updater.request(output)

    def _show_late(self, key: str) -> None:
        """Give a cell that ended without spans its output, since one of its spans has ended now."""
        frame, place = self._without_spans.pop(key, (None, None))
        if frame is not None and display_settings().display != "off":
            self._add_for(frame, place)
            self._updater.start()
