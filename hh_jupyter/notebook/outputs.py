"""One output per traced cell: shown once, last, and changed in place afterwards.

Nothing here prints or displays from a thread: a new output would land under whichever cell runs then [measured]. What
is shown already may be changed from one.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Final

from hh_jupyter.display.view import CellView, Detail
from hh_jupyter.notebook.answers import Answers
from hh_jupyter.notebook.boundary import guarded
from hh_jupyter.notebook.cell_frame import CellFrame
from hh_jupyter.notebook.cell_output import CellOutput, OutputState, view_id_of
from hh_jupyter.notebook.delivery_wait import DeliveryWait
from hh_jupyter.notebook.delivery_words import settled
from hh_jupyter.notebook.page import Page
from hh_jupyter.notebook.running import RunningCells
from hh_jupyter.notebook.screen import Screen
from hh_jupyter.notebook.sessions import Sessions
from hh_jupyter.notebook.traced_cells import TracedCells
from hh_jupyter.notebook.updates import Updates
from hh_jupyter.notebook.views import Views
from hh_jupyter.records import cost
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.records.log import SpanLog
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.tracing import registry

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
        log.watch(self._watcher)

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
            cost.load()  # Nobody is waiting at a screen, and an update after the last cell would be lost.
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
            cost.load()
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
        return OutputState(arrived, export, cost.ready(), output.overdue, output.changes)

    def _arrived(self, rows: tuple[SpanRecord, ...]) -> None:
        """New rows in the log, on whichever thread sealed them: count, and leave the rest to others."""
        for key, number in self.cells.add(rows).items():
            self._wake(key)
            for output in tuple(self._by_key.get(key, ())):
                output.late += number
                self._updates.request(output)
        if any(map(self.cells.wants_price, {row.cell for row in rows})):
            cost.load_in_background()

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
