"""The queue of items for one backend, and their delivery status.

Order is partial: a session's start goes before its spans and updates, and the calls of one session keep their order.
Everything else may be sent out of order. The counts kept here are the single source for delivery status in displays.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Final

from hh_jupyter.delivery.sending.circuit import Circuit
from hh_jupyter.delivery.sending.counts import Counts
from hh_jupyter.delivery.sending.departures import Departures
from hh_jupyter.delivery.sending.intake import Intake
from hh_jupyter.delivery.sending.item import Call, Flight, Item, Kind
from hh_jupyter.delivery.sending.order import Order
from hh_jupyter.delivery.sending.outage import Outage
from hh_jupyter.delivery.sending.parked import Parked
from hh_jupyter.delivery.sending.settlement import Settlement
from hh_jupyter.delivery.sending.spooling import Kept, Spool, SpoolNews
from hh_jupyter.delivery.sending.target import Target
from hh_jupyter.delivery.sending.verdict import Verdict
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.records.log import ReentrantCondition

__all__ = ["Call", "Item", "Kind", "Outbox", "Spool"]

MAX_BYTES: Final = 64 * 1024 * 1024
"""Limit for unsent bodies in memory. Above it, bodies stay in the spool only, or the oldest are dropped and counted."""

CALL_DELAY: Final = 0.1
"""Seconds that a call waits before it is sent. Also keeps the sender's imports from slowing the caller's start."""


class Outbox:
    """Queues items for the sender. All methods are thread-safe.

    Args:
        destination: host of the backend; None in local mode, where the outbox stays empty.
        batch_size: number of spans that are sent without waiting for more.
        flush_interval: seconds that spans wait for their batch to fill.
        spool: holds copies of items on disk, if configured.
        calls: accept session starts, updates and events. A plain OpenTelemetry backend accepts only spans.
        guard: lock shared with other outboxes that get the same spans.

    Attributes:
        on_work: callback for new items; set by the sender.
        target: returns the target that spans are sent to; set along with the sender.
    """

    def __init__(
        self,
        destination: str | None,
        batch_size: int,
        flush_interval: float,
        spool: Spool | None = None,
        *,
        calls: bool = True,
        guard: ReentrantCondition | None = None,
    ) -> None:
        self.destination, self.batch_size, self.flush_interval = destination, batch_size, flush_interval
        self.changed = guard or ReentrantCondition()
        self._spool = spool
        self._news, self._outage = SpoolNews(spool), Outage(destination)
        self._counts, self._circuit, self._parked = Counts(), Circuit(), Parked()
        self._order = Order(self._due)
        self._departures = Departures(self._order, self._circuit)
        self._settlement = Settlement(self._order, self._counts, self._circuit, self._parked, self._news, self._outage)
        self._intake = Intake(self._order, self._counts, self._settlement, calls=calls)
        self.on_work: Callable[[], None] | None = None
        self.target: Callable[[], Target] | None = None
        self._heir: Outbox | None = None
        self._flush_up_to = 0
        self._hurried = False
        self._overdue = False

    @property
    def max_batch(self) -> int:
        """Maximum number of spans in one request."""
        return self._order.max_spans

    @max_batch.setter
    def max_batch(self, spans: int) -> None:
        self._order.max_spans = spans

    # Incoming items

    def left_to(self, others: tuple[Target, ...]) -> bool:
        """Return whether spans that other exporters send to these targets arrive here and must not be sent twice."""
        return bool(others) and self.target is not None and self.target().among(others)

    def count_made(self, cells: Counter[str | None], by_others: tuple[Target, ...] = ()) -> None:
        """Count sealed spans by cell. `by_others` are the targets that other exporters send all of them to."""
        if self._heir is not None:
            self._heir.count_made(cells, by_others)
            return
        left = self.left_to(by_others)
        with self.changed:
            self._counts.left(cells) if left else self._counts.made(cells)

    def note_lost(self, reason: str) -> None:
        """Record an item that could not be queued. The next flush returns False."""
        with self.changed:
            self._settlement.note_lost(reason)
        self._tell()

    def defer_start(self, item: Item) -> None:
        """Keep a session's start until the session's first span or update. An unused session is never sent."""
        if self._heir is not None:
            self._heir.defer_start(item)
            return
        with self.changed:
            self._intake.defer(item)

    def take_deferred(self, session_ids: Collection[str]) -> list[Item]:
        """Remove and return the deferred starts of these sessions, whose first items are about to be added."""
        if self._heir is not None:
            return self._heir.take_deferred(session_ids)
        with self.changed:
            return self._intake.take_deferred(session_ids)

    def adopt(self, kept: Sequence[Kept]) -> None:
        """Queue items loaded from disk. Refused items stay parked until `release`."""
        if not kept:
            return
        with self.changed:
            self._intake.adopt(kept)
        self.add(())

    def add(self, items: Sequence[Item]) -> None:
        """Queue items in order, except those that other exporters send here."""
        if self.destination is None:
            return
        items = [item for item in items if not self.left_to(item.by_others)]
        if self._heir is not None:
            self._heir.add(items)
            return
        self._intake.put(items)
        if self.changed.held():  # Called by a destructor inside another method; the next `add` or `take` queues them.
            return
        with self.changed:
            self._take_in()
            self._call_for_sender()
        self._tell()

    def _call_for_sender(self) -> None:
        self.changed.notify_all()
        if self.on_work is not None:
            self.on_work()

    def _take_in(self) -> None:
        self._intake.take_in(MAX_BYTES, spooled=self._spool is not None)

    # Outgoing requests

    def take(self) -> list[Item]:
        """Return the items of the next request, or an empty list if nothing is due. Multiple items are always spans.

        The caller must pass the verdict to `settle`.
        """
        with self.changed:
            self._take_in()
            now = time.monotonic()
            self._intake.again(self._parked.take_due(now), background=True)
            return self._departures.take(now, self.batch_size)

    def more_due(self) -> bool:
        """Return whether another request could be sent now, in parallel with those in flight."""
        with self.changed:
            return self._departures.more_due(time.monotonic(), self.batch_size)

    def seconds_to_next(self) -> float | None:
        """Return how long the sender may sleep, in seconds; None if no item will become due."""
        with self.changed:
            moments = (self._departures.next_moment(), self._parked.next_moment())
            first = min((moment for moment in moments if moment is not None), default=None)
            return None if first is None else max(0.01, first - time.monotonic())

    def _due(self, item: Item) -> float:
        if item.serial <= self._flush_up_to or self._hurried:
            return 0.0
        return item.added + (self.flush_interval if item.kind == "spans" else CALL_DELAY)

    def body_of(self, item: Item) -> bytes:
        """Return the body to send: from the spool if not in memory, with the session id that the backend assigned.

        Raises:
            OSError, KeyError: if the spool cannot read the body.
        """
        body = item.body
        if not body and item.key is not None and self._spool is not None:
            body = self._spool.load(item)
        other = self.other_ids.get(item.session_id)
        if other is None or item.kind == "session_start":
            return body
        return body.replace(item.session_id.encode(), other.encode())

    def settle(self, items: Sequence[Item], verdict: Verdict) -> bool:
        """Apply the verdict on a request from `take`.

        Returns:
            True if the request must be split. The caller then calls `split` with its halves.
        """
        with self.changed:
            flight = self._departures.landed(items)
            self._overdue = False
            wants_split = self._settlement.settle(flight, verdict)
            if wants_split:
                self._departures.keep(flight)
            else:
                self._end_flight(flight)
        self._tell()
        return wants_split

    def split(self, items: Sequence[Item], parts: tuple[list[Item], list[Item]] | None) -> None:
        """Queue the halves of a request. If `parts` is None, the request cannot be split and is parked."""
        with self.changed:
            flight = self._departures.landed(items)
            self._settlement.split(flight, parts)
            self._end_flight(flight)
        self._tell()

    def lose(self, items: Sequence[Item], reason: str) -> None:
        """Drop items from `take` whose bodies are no longer available."""
        with self.changed:
            flight = self._departures.landed(items)
            for item in flight.items:
                self._settlement.drop(item, reason)
            self._end_flight(flight)
        self._tell()

    def _end_flight(self, flight: Flight) -> None:
        for item in flight.items:
            self._order.end_flight(item)
        revived, self._settlement.revived = self._settlement.revived, []
        self._intake.again(revived, background=True)
        if not self._waits_before(self._flush_up_to):
            self._flush_up_to = 0
        self.changed.notify_all()

    def _tell(self) -> None:
        """Update the spool, write log messages and forward items to the replacing outbox, without the lock."""
        if self._heir is not None:
            self._pass_on(self._heir)
        self._news.tell()
        self._outage.tell()

    # Retries

    def release(self) -> None:
        """Retry everything that was refused, given up or paused, after a settings change or on request."""
        with self.changed:
            self._settlement.paused = None
            self._circuit.reset()
            self._order.hurry()
            self._intake.again(self._parked.take_all(), background=False)
            self._call_for_sender()

    @property
    def other_ids(self) -> dict[str, str]:
        """Session ids assigned by the backend, by the original id."""
        return self._settlement.other_ids

    @property
    def paused(self) -> str | None:
        """Why sending is paused until the settings change; None if it is not paused."""
        return self._settlement.paused

    def hand_to(self, heir: Outbox) -> None:
        """Move all waiting and refused items, and forward all future ones, to another outbox."""
        with self.changed:
            self._heir = heir
        self._pass_on(heir)

    def _pass_on(self, heir: Outbox) -> None:
        with self.changed:
            self._take_in()
            moved, deferred = self._intake.move_out(self._parked.take_all())
            self.changed.notify_all()
        if not moved and not deferred:
            return
        with heir.changed:
            heir._intake.move_in(moved, deferred)
        if heir._spool is not None:
            heir._spool.take_over(moved)
        heir.add(())

    # State and flush

    def deferred(self) -> tuple[Item, ...]:
        """Return the starts that wait for the first span of their session."""
        return self._intake.deferred()

    def worth_waiting(self) -> bool:
        """Return whether waiting for a verdict makes sense: the backend answers, or a retry is due."""
        with self.changed:
            return not self._overdue and self._settlement.paused is None and self._circuit.may_send(time.monotonic())

    def hurry(self) -> None:
        """Send all items from now on without waiting for batches to fill, because the program is exiting."""
        with self.changed:
            self._hurried = True
            self._circuit.hurry()
            self._order.hurry()
            self.changed.notify_all()

    def flush(self, deadline: float, *, asked: bool = True) -> bool:
        """Make all queued items due and wait for their verdicts.

        Args:
            deadline: on the `time.monotonic` clock.
            asked: the caller reports the result. If False, failures stay recorded for the next flush.

        Returns:
            True if nothing waits, no item is held back by a refused key, and nothing was parked or dropped since the
            previous call with `asked=True`.
        """
        with self.changed:
            self._take_in()
            mark = self._flush_up_to = self._intake.serial
            self._circuit.hurry()  # One attempt at once, despite earlier failures; then the delays apply again.
            self._order.hurry()
            self.changed.notify_all()
            while self._waits_before(mark) and (left := deadline - time.monotonic()) > 0:
                self.changed.wait(left)
            done = not self._waits_before(mark)
            self._overdue = bool(self._departures) and not done
            held_back = self._settlement.paused is not None and len(self._parked) > 0
            good = done and not self._settlement.bad and not held_back
            self._settlement.bad = 0 if asked else self._settlement.bad
            return good

    def _waits_before(self, serial: int) -> bool:
        everything = itertools.chain(self._departures, self._order)
        return any(item.serial <= serial and not item.background for item in everything)

    def state(self, cell: str | None = None) -> ExportState:
        """Return the export state of one cell's spans, or of all spans."""
        with self.changed:
            failing = bool(self._circuit.failures or self._settlement.paused)
            trouble = self._settlement.trouble if failing else None
            return self._counts.state(self.destination, cell, trouble=trouble, failing=failing)
