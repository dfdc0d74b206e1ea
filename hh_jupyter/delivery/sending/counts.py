"""Export counters per cell and in total; the single source for delivery status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from hh_jupyter.delivery.sending.item import Item
from hh_jupyter.records.export_state import ExportState


@dataclass(slots=True)
class _Tally:
    """Counters of spans or calls, for one cell or in total. Made but not sent, parked or dropped means waiting.

    Attributes:
        left: spans that another exporter sends to this destination; not included in `made`.
    """

    made: int = 0
    sent: int = 0
    parked: int = 0
    dropped: int = 0
    left: int = 0

    @property
    def waiting(self) -> int:
        return self.made - self.sent - self.parked - self.dropped


@dataclass(slots=True)
class _Why:
    """The latest reason for parking and for dropping."""

    parked: str | None = None
    dropped: str | None = None


class Counts:
    """Counters of one destination, in total and by cell. Guarded by the outbox's lock."""

    def __init__(self) -> None:
        self._spans: dict[str, _Tally] = {}
        self._all, self._calls = _Tally(), _Tally()
        self._why: dict[str, _Why] = {}
        self._why_all = _Why()

    def made(self, cells: Counter[str | None]) -> None:
        """Count sealed spans by cell. Spans are counted before their items are queued."""
        for cell, number in cells.items():
            self._all.made += number
            if cell is not None:
                self._of(cell).made += number

    def left(self, cells: Counter[str | None]) -> None:
        """Count sealed spans that another exporter sends to this destination."""
        for cell, number in cells.items():
            self._all.left += number
            if cell is not None:
                self._of(cell).left += number

    def queued(self, item: Item) -> None:
        """Count a queued call. Spans are counted by `made`."""
        if item.kind != "spans":
            self._calls.made += 1

    def sent(self, item: Item) -> None:
        """Count an accepted item."""
        for tally, number in self._columns(item):
            tally.sent += number

    def parked(self, item: Item, reason: str) -> None:
        """Count an item that was refused or given up, and is kept."""
        for tally, number in self._columns(item):
            tally.parked += number
        for why in self._whys(item):
            why.parked = reason

    def unparked(self, item: Item) -> None:
        """Count a parked item as waiting again."""
        for tally, number in self._columns(item):
            tally.parked -= number

    def dropped(self, item: Item, reason: str) -> None:
        """Count a lost item."""
        for tally, number in self._columns(item):
            tally.dropped += number
        for why in self._whys(item):
            why.dropped = reason

    def partly(self, items: Iterable[Item], refused: int, reason: str) -> None:
        """Count a request that was accepted except for `refused` of its spans, which the backend did not identify.

        Each cell shows the worst possible case; only the total is exact.
        """
        by_cell: Counter[str] = Counter()
        total = 0
        for item in items:
            total += item.spans
            if item.cell is not None:
                by_cell[item.cell] += item.spans
        tallies = [(self._all, self._why_all, total)]
        tallies += [(self._of(cell), self._why_of(cell), number) for cell, number in by_cell.items()]
        for tally, why, number in tallies:
            lost = min(refused, number)
            tally.sent += number - lost
            tally.dropped += lost
            why.dropped = reason

    def moved_out(self, item: Item) -> None:
        """Remove a waiting item that moves to another destination."""
        for tally, number in self._columns(item):
            tally.made -= number

    def moved_in(self, item: Item) -> None:
        """Add an item that comes from another destination. A call is counted when it is queued."""
        for tally, number in self._columns(item) if item.kind == "spans" else ():
            tally.made += number

    def state(self, destination: str | None, cell: str | None, *, trouble: str | None, failing: bool) -> ExportState:
        """Return the counts of one cell's spans, or of all spans.

        Args:
            trouble: why waiting items cannot be sent; None if nothing blocks them.
            failing: the last attempt to send failed.
        """
        spans = self._all if cell is None else self._of(cell)
        why = self._why_all if cell is None else self._why_of(cell)
        parked_why = why.parked if spans.parked or (cell is None and self._calls.parked) else None
        dropped_why = why.dropped if spans.dropped or (cell is None and self._calls.dropped) else None
        return ExportState(
            destination=destination,
            made=spans.made,
            sent=spans.sent,
            waiting=spans.waiting if destination else 0,
            parked=spans.parked,
            dropped=spans.dropped,
            reason=trouble or parked_why or dropped_why,
            failing=failing,
            calls_waiting=self._calls.waiting if cell is None else 0,
            calls_parked=self._calls.parked if cell is None else 0,
            calls_dropped=self._calls.dropped if cell is None else 0,
            parked_reason=parked_why,
            dropped_reason=dropped_why,
            exported_elsewhere=spans.left,
        )

    def _columns(self, item: Item) -> tuple[tuple[_Tally, int], ...]:
        if item.kind != "spans":
            return ((self._calls, 1),)
        if item.cell is None:  # Spans outside cells are never reported separately.
            return ((self._all, item.spans),)
        return ((self._all, item.spans), (self._of(item.cell), item.spans))

    def _whys(self, item: Item) -> tuple[_Why, ...]:
        return (self._why_all,) if item.cell is None else (self._why_all, self._why_of(item.cell))

    def _of(self, cell: str) -> _Tally:
        found = self._spans.get(cell)
        if found is None:
            found = self._spans[cell] = _Tally()
        return found

    def _why_of(self, cell: str) -> _Why:
        found = self._why.get(cell)
        if found is None:
            found = self._why[cell] = _Why()
        return found
