"""Accepts new items: numbers them in order of arrival and adds a session's deferred start before its first span."""

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
    """Accepts items for one destination. Guarded by the outbox's lock, except for `put`.

    Args:
        calls: the destination accepts session starts, updates and events.

    Attributes:
        serial: serial number of the latest item.
    """

    def __init__(self, order: Order, counts: Counts, settlement: Settlement, *, calls: bool) -> None:
        self._order, self._counts, self._settlement, self._takes_calls = order, counts, settlement, calls
        self._incoming: deque[Item] = deque()
        self._deferred: dict[str, Item] = {}
        self.serial = 0

    def put(self, items: Iterable[Item]) -> None:
        """Add items for the next `take_in`. Needs no lock."""
        self._incoming.extend(items)

    def defer(self, start: Item) -> None:
        """Keep a session's start until another item of that session arrives."""
        if self._takes_calls:
            self._deferred[start.session_id] = start

    def deferred(self) -> tuple[Item, ...]:
        """Return the deferred starts."""
        return tuple(self._deferred.values())

    def take_deferred(self, session_ids: Iterable[str]) -> list[Item]:
        """Remove and return the deferred starts of these sessions. The caller adds them with the items they precede."""
        return [start for session_id in session_ids if (start := self._deferred.pop(session_id, None)) is not None]

    def adopt(self, kept: Iterable[Kept]) -> None:
        """Add items loaded from disk. Items that are already parked do not count as failures for the next flush."""
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
        """Queue the items added by `put` and keep memory below `most_bytes`."""
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
        """Queue parked items for a retry."""
        for item in items:
            self._counts.unparked(item)
            item.fresh()
            item.background = background
            self._number(item)
            self._order.append(item)

    def move_out(self, parked: Sequence[Item]) -> tuple[list[Item], list[Item]]:
        """Remove all waiting and parked items and the deferred starts, and subtract them from the counts.

        Returns:
            The items in order of arrival, and the deferred starts.
        """
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
        """Add items and deferred starts from another outbox."""
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
