"""How items come in: numbered in order of arrival, with the start that was kept for a session's first span."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence

from hh_jupyter.delivery.sending.counts import Counts
from hh_jupyter.delivery.sending.item import Item
from hh_jupyter.delivery.sending.order import Order
from hh_jupyter.delivery.sending.settlement import Settlement
from hh_jupyter.delivery.sending.spooling import Kept


class Intake:
    """The door of one destination. Guarded by the outbox's lock, but for `put`.

    Args:
        calls: it takes session starts, updates and events.

    Attributes:
        serial: of the item that came last.
    """

    def __init__(self, order: Order, counts: Counts, settlement: Settlement, *, calls: bool) -> None:
        self._order, self._counts, self._settlement, self._takes_calls = order, counts, settlement, calls
        self._incoming: deque[Item] = deque()
        self._deferred: dict[str, Item] = {}
        self.serial = 0

    def put(self, items: Iterable[Item]) -> None:
        """Leave items at the door; needs no lock."""
        self._incoming.extend(items)

    def defer(self, start: Item) -> None:
        """Keep a session's start until something of that session comes."""
        if self._takes_calls:
            self._deferred[start.session_id] = start

    def deferred(self) -> tuple[Item, ...]:
        """Starts that are kept so."""
        return tuple(self._deferred.values())

    def take_deferred(self, session_ids: Iterable[str]) -> list[Item]:
        """Give the starts of these sessions up: they are about to come through the door with what they wait for."""
        return [start for session_id in session_ids if (start := self._deferred.pop(session_id, None)) is not None]

    def adopt(self, kept: Iterable[Kept]) -> None:
        """Take in what came back from disk; nobody who flushes from now on parked what is parked already."""
        bad = self._settlement.bad
        for item, parked in kept:
            self._counts.moved_in(item)
            if parked is None:
                self.put([item])
            else:
                self._counts.queued(item)
                self._settlement.bytes += len(item.body)
                self._number(item)
                self._settlement.park(item, parked)
        self._settlement.bad = bad

    def take_in(self, most_bytes: int, *, spooled: bool) -> None:
        """Queue what is at the door, and keep memory within its bound."""
        while self._incoming:
            item = self._incoming.popleft()
            if item.kind != "spans" and not self._takes_calls:
                continue
            if not item.session_id and self._takes_calls:
                self._settlement.bytes += len(item.body)
                self._settlement.drop(item, "the span has no session")
                continue
            start = self._deferred.pop(item.session_id, None)
            for entering in (item,) if start is None else (start, item):
                self._append(entering)
        self._settlement.keep_within(most_bytes, spooled=spooled)

    def again(self, items: Iterable[Item], *, background: bool) -> None:
        """Queue parked items for another try."""
        for item in items:
            self._counts.unparked(item)
            item.fresh()
            item.background = background
            self._number(item)
            self._order.append(item)

    def move_out(self, parked: Sequence[Item]) -> tuple[list[Item], list[Item]]:
        """Take out everything that waits or is parked, and the starts that are kept; forget that it was here."""
        for item in parked:
            self._counts.unparked(item)
        moved = sorted([*self._order.drain(), *parked], key=lambda item: item.serial)
        for item in moved:
            self._settlement.bytes -= len(item.body)
            self._counts.moved_out(item)
            item.fresh()
        deferred, self._deferred = self._deferred, {}
        return moved, list(deferred.values())

    def move_in(self, items: Sequence[Item], deferred: Iterable[Item]) -> None:
        """Leave at the door what another outbox had."""
        for item in items:
            self._counts.moved_in(item)
        for start in deferred:
            self.defer(start)
        self.put(items)

    def _append(self, item: Item) -> None:
        if item.kind == "session_start" and self._order.same_start(item):
            return
        self._counts.queued(item)
        self._settlement.bytes += len(item.body)
        item.added = time.monotonic()
        self._number(item)
        if self._settlement.paused is not None:
            self._settlement.park(item, self._settlement.paused)
        else:
            self._order.append(item)

    def _number(self, item: Item) -> None:
        self.serial += 1
        item.serial = self.serial
