"""What is to be sent to one backend, and what became of it.

Order is partial: a session's start goes before its spans and updates, and the calls of one session keep their order.
Everything else may overtake. Counts kept here are the only source of what displays say about delivery.
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
"""Bytes of unsent bodies kept in memory; above it the spool's copy has to do, or the oldest are dropped and counted."""

CALL_DELAY: Final = 0.1
"""Seconds a call waits for others like it; also keeps the sender's imports off the caller's first moments."""


class Outbox:
    """Items waiting for the sender; every method may be called from any thread.

    Args:
        destination: host of the backend, or None in local mode, where nothing is ever kept here.
        batch_size: so many spans are sent without waiting for more.
        flush_interval: seconds that spans wait for their batch to fill.
        spool: where items have their copy on disk, if they have one.
        calls: it takes session starts, updates and events; a plain OpenTelemetry backend takes spans alone.
        guard: shared with other outboxes that get the same spans.

    Attributes:
        on_work: called when something came that is to be sent; whoever sends sets it.
        target: tells where spans are sent to; whoever sends sets it.
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
        """Spans in one request at most."""
        return self._order.max_spans

    @max_batch.setter
    def max_batch(self, spans: int) -> None:
        self._order.max_spans = spans

    # What comes in

    def left_to(self, others: tuple[Target, ...]) -> bool:
        """Whether spans that others send to these targets arrive here by that, and are not to be sent twice."""
        return bool(others) and self.target is not None and self.target().among(others)

    def count_made(self, cells: Counter[str | None], by_others: tuple[Target, ...] = ()) -> None:
        """Count spans that were sealed, by cell; all of them are sent to the same targets by others."""
        if self._heir is not None:
            self._heir.count_made(cells, by_others)
            return
        left = self.left_to(by_others)
        with self.changed:
            self._counts.left(cells) if left else self._counts.made(cells)

    def note_lost(self, reason: str) -> None:
        """Something that should have been queued could not be; the next flush says so."""
        with self.changed:
            self._settlement.note_lost(reason)
        self._tell()

    def defer_start(self, item: Item) -> None:
        """Keep a session's start until the session's first span or update; an unused session leaves no trace."""
        if self._heir is not None:
            self._heir.defer_start(item)
            return
        with self.changed:
            self._intake.defer(item)

    def take_deferred(self, session_ids: Collection[str]) -> list[Item]:
        """The starts that were kept for these sessions: something of theirs is about to be added."""
        if self._heir is not None:
            return self._heir.take_deferred(session_ids)
        with self.changed:
            return self._intake.take_deferred(session_ids)

    def adopt(self, kept: Sequence[Kept]) -> None:
        """Queue what came back from disk; what was refused stays so, until somebody asks for another try."""
        if not kept:
            return
        with self.changed:
            self._intake.adopt(kept)
        self.add(())

    def add(self, items: Sequence[Item]) -> None:
        """Queue items in their order, but not those that others send here."""
        if self.destination is None:
            return
        items = [item for item in items if not self.left_to(item.by_others)]
        if self._heir is not None:
            self._heir.add(items)
            return
        self._intake.put(items)
        if self.changed.held():  # A destructor, inside one of the methods here; the next one takes them in.
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

    # What goes out

    def take(self) -> list[Item]:
        """The next request's items, or an empty list when nothing is due. Several items are always spans.

        Whoever takes them calls `settle` with the verdict.
        """
        with self.changed:
            self._take_in()
            now = time.monotonic()
            self._intake.again(self._parked.take_due(now), background=True)
            return self._departures.take(now, self.batch_size)

    def more_due(self) -> bool:
        """Another request could go out at once, beside those under way."""
        with self.changed:
            return self._departures.more_due(time.monotonic(), self.batch_size)

    def seconds_to_next(self) -> float | None:
        """How long the sender may sleep; None when nothing can become due by itself."""
        with self.changed:
            moments = (self._departures.next_moment(), self._parked.next_moment())
            first = min((moment for moment in moments if moment is not None), default=None)
            return None if first is None else max(0.01, first - time.monotonic())

    def _due(self, item: Item) -> float:
        if item.serial <= self._flush_up_to or self._hurried:
            return 0.0
        return item.added + (self.flush_interval if item.kind == "spans" else CALL_DELAY)

    def body_of(self, item: Item) -> bytes:
        """The body to send: from the spool if the item gave up its own, and of the session's other id if it has one.

        Raises:
            OSError, KeyError: the spool cannot read it any more.
        """
        body = item.body
        if not body and item.key is not None and self._spool is not None:
            body = self._spool.load(item)
        other = self.other_ids.get(item.session_id)
        if other is None or item.kind == "session_start":
            return body
        return body.replace(item.session_id.encode(), other.encode())

    def settle(self, items: Sequence[Item], verdict: Verdict) -> bool:
        """Note the verdict on a request, as taken.

        Returns:
            True if the request is to be split: the caller then calls `split` with its halves.
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
        """Put back the halves of a request that must be split; None: it cannot be, and is parked."""
        with self.changed:
            flight = self._departures.landed(items)
            self._settlement.split(flight, parts)
            self._end_flight(flight)
        self._tell()

    def lose(self, items: Sequence[Item], reason: str) -> None:
        """Give up items that were taken and whose bodies cannot be had any more."""
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
        """Pass on what happened, outside of the lock."""
        if self._heir is not None:
            self._pass_on(self._heir)
        self._news.tell()
        self._outage.tell()

    # Second chances

    def release(self) -> None:
        """Try everything again that was refused, given up or paused: somebody mended something, or asks for it."""
        with self.changed:
            self._settlement.paused = None
            self._circuit.reset()
            self._order.hurry()
            self._intake.again(self._parked.take_all(), background=False)
            self._call_for_sender()

    @property
    def other_ids(self) -> dict[str, str]:
        """Ids that the backend gave to sessions, by the ids they were made with."""
        return self._settlement.other_ids

    @property
    def paused(self) -> str | None:
        """Why nothing is tried until the settings change; None while things are tried."""
        return self._settlement.paused

    def hand_to(self, heir: Outbox) -> None:
        """Give everything that waits or was refused, and all that still comes, to another destination."""
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

    # What may be asked

    def deferred(self) -> tuple[Item, ...]:
        """Starts that wait for their session's first span."""
        return self._intake.deferred()

    def worth_waiting(self) -> bool:
        """Waiting for a verdict makes sense: the backend answers, or it is time for another try."""
        with self.changed:
            return not self._overdue and self._settlement.paused is None and self._circuit.may_send(time.monotonic())

    def hurry(self) -> None:
        """From now on nothing waits for others like it: this is the end of the program."""
        with self.changed:
            self._hurried = True
            self._circuit.hurry()
            self._order.hurry()
            self.changed.notify_all()

    def flush(self, deadline: float, *, asked: bool = True) -> bool:
        """Make everything queued so far due and wait for its verdicts.

        Args:
            deadline: on the clock of `time.monotonic`.
            asked: somebody hears the answer; else what went wrong stays to be told.

        Returns:
            True if nothing waits, a refused key holds nothing back, and nothing was parked or dropped since the
            previous call.
        """
        with self.changed:
            self._take_in()
            mark = self._flush_up_to = self._intake.serial
            self._circuit.hurry()  # One try at once, whatever failed before; then the pauses apply again.
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
        """Counts of one cell's spans, or of all."""
        with self.changed:
            failing = bool(self._circuit.failures or self._settlement.paused)
            trouble = self._settlement.trouble if failing else None
            return self._counts.state(self.destination, cell, trouble=trouble, failing=failing)
