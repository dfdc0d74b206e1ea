"""Apply verdicts: update the queue, counts, circuit breaker and spool."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from hh_jupyter.delivery.sending.circuit import Circuit, back_off
from hh_jupyter.delivery.sending.counts import Counts
from hh_jupyter.delivery.sending.item import Batch, Family, Flight, Item
from hh_jupyter.delivery.sending.order import Order
from hh_jupyter.delivery.sending.outage import Outage
from hh_jupyter.delivery.sending.parked import Parked
from hh_jupyter.delivery.sending.spooling import SpoolNews
from hh_jupyter.delivery.sending.verdict import Verdict

START_TRIES: Final = 3
"""Failures after which a session's start no longer blocks its spans, if the backend answers at all."""

CALL_TRIES: Final = 5
"""Failures after which a call is parked, if other requests were accepted in the meantime."""

POISON_TRIES: Final = 5
"""Number of 5xx answers after which a batch is split, to find the span that causes them."""

FAMILY_REFUSALS: Final = 32
"""Refused parts of one batch after which the rest is parked unsplit. Finding one bad span in 512 takes 10."""

TOO_MUCH: Final = "the in-memory limit for unsent spans was reached"

MOST_IDS: Final = 10_000
"""Maximum number of sessions whose backend-assigned id is kept."""

SMALLEST_REQUEST: Final = 64 * 1024
"""Lower bound for the request size limit, in bytes, when the backend rejects requests as too large."""


class Settlement:
    """Applies verdicts. Guarded by the outbox's lock.

    Attributes:
        paused: why sending is paused; set when the key is refused.
        trouble: reason of the latest failure.
        bad: number of items parked or dropped since the last flush that reported them.
        bytes: total size of the bodies in memory.
        other_ids: session ids assigned by the backend, by the original id.
        revived: calls to retry, because their endpoint answers again.
    """

    def __init__(
        self, order: Order, counts: Counts, circuit: Circuit, parked: Parked, news: SpoolNews, outage: Outage
    ) -> None:
        self._order, self._counts, self._circuit, self._parked = order, counts, circuit, parked
        self._news, self._outage = news, outage
        self.paused: str | None = None
        self.trouble: str | None = None
        self.bad = 0
        self.bytes = 0
        self.other_ids: dict[str, str] = {}
        self.revived: list[Item] = []

    # One item

    def park(self, item: Item, reason: str, *, again: bool = False) -> None:
        """Keep an item without retrying it. With `again`, retry it periodically in the background."""
        self.bad += 0 if item.background else 1
        self._end_start(item)
        self._counts.parked(item, reason)
        self._parked.add(item, reason, again=again)
        self._outage.refused(reason)
        if not again:
            self._news.note(item, reason)

    def drop(self, item: Item, reason: str) -> None:
        """Drop an item and count it as lost."""
        self.bad += 1
        self.bytes -= len(item.body)
        self._end_start(item)
        self._counts.dropped(item, reason)
        self._outage.refused(f"dropped: {reason}")
        self._news.note(item, reason)

    def note_lost(self, reason: str) -> None:
        """Record data that was lost before it became an item."""
        self.bad += 1
        self.trouble = reason
        self._outage.refused(reason)

    def _end_start(self, item: Item) -> None:
        if item.kind == "session_start":
            self._order.end_start(item)

    def keep_within(self, most_bytes: int, *, spooled: bool) -> None:
        """Limit the bodies in memory: release those that the spool holds, then drop the oldest items."""
        if self.bytes <= most_bytes:
            return
        for item in (*self._parked, *reversed(self._order.loose_spans())) if spooled else ():
            if self.bytes > most_bytes and item.key is not None:
                self.bytes -= len(item.body)
                item.body = b""
        while self.bytes > most_bytes and (item_to_lose := self._oldest()) is not None:
            self.drop(item_to_lose, TOO_MUCH)

    def _oldest(self) -> Item | None:
        parked = self._parked.drop_oldest()
        if parked is None:
            return self._order.drop_oldest()
        self._counts.unparked(parked)
        return parked

    # One request

    def settle(self, flight: Flight, verdict: Verdict) -> bool:
        """Apply the verdict. Return True if the request must be split; its items then have no verdict yet."""
        if verdict.outcome == "retry":
            self._note_failure(flight, verdict)
            return self._retry(flight, verdict)
        self._circuit.good(flight.items[0].kind)
        if verdict.outcome == "sent":
            self._sent(flight, verdict)
        elif verdict.outcome == "split" and self._may_split(flight, verdict):
            return True
        else:
            self.trouble = verdict.reason
            for item in flight.items:
                self.park(item, verdict.reason or "refused")
        if verdict.outcome == "paused":
            self._pause(verdict.reason or "refused")
        return False

    def _note_failure(self, flight: Flight, verdict: Verdict) -> None:
        self.trouble = verdict.reason
        self._circuit.bad(flight.items[0].kind, verdict, flight.began)
        self._outage.trouble(verdict.reason or "", self._circuit.failures)

    def _sent(self, flight: Flight, verdict: Verdict) -> None:
        self._outage.over()
        self._circuit.accepted(flight.items[0].kind)
        reason = verdict.reason or ""
        if verdict.refused:
            self.bad += 1
            self._counts.partly(flight.items, verdict.refused, reason)
            self._outage.refused(reason)
        for item in flight.items:
            self.bytes -= len(item.body)
            self._end_start(item)
            self._news.note(item, reason if verdict.refused else None)
            if not verdict.refused:
                self._counts.sent(item)
        if flight.batch is not None and flight.batch.family is not None:
            flight.batch.family.accepted = True
            flight.batch.family.refusals_left += FAMILY_REFUSALS // 2
        if flight.items[0].kind == "session_start":
            self._started(flight.items[0], verdict.other_session)

    def _started(self, item: Item, other_id: str | None) -> None:
        if other_id is None:
            self.other_ids.pop(item.session_id, None)
        else:
            self.other_ids[item.session_id] = other_id
            if len(self.other_ids) > MOST_IDS:
                del self.other_ids[next(iter(self.other_ids))]
            text = f"the backend stores session {item.session_id} as {other_id}; its spans are sent under that id"
            self._outage.inform(text)
        self.revived.extend(self._parked.take_given_up())

    def _pause(self, reason: str) -> None:
        """Park everything that waits, because the key was refused."""
        self.paused = reason
        for item in self._order.drain():
            self.park(item, reason)

    # Retries

    def _retry(self, flight: Flight, verdict: Verdict) -> bool:
        reason = verdict.reason or "refused"
        if self.paused is not None:
            for item in flight.items:
                self.park(item, self.paused)
            return False
        if flight.items[0].kind != "spans":
            self._retry_call(flight.items[0], verdict, reason)
            return False
        if flight.batch is None and not verdict.server_error:
            self._note_tries(flight.items, verdict)
            self._order.put_back(flight.items)
            return False
        batch = flight.batch or Batch(list(flight.items))
        self._note_tries([batch], verdict)
        batch.refusals += verdict.server_error
        proven = self._circuit.accepted_since(batch.failed_at, spans=True)
        may_split = batch.family is None or batch.family.accepted or proven
        if batch.refusals < POISON_TRIES:
            self._order.put_back_batch(batch)
        elif batch.spans > 1 and may_split:
            flight.batch = batch
            return True
        elif batch.spans == 1 and proven:
            self.park(flight.items[0], reason)
        else:
            self._order.put_back_batch(batch)
        return False

    def _retry_call(self, item: Item, verdict: Verdict, reason: str) -> None:
        self._note_tries([item], verdict)
        proven = self._circuit.accepted_since(item.failed_at)
        start = item.kind == "session_start"
        if item.background or (proven and item.tries > (START_TRIES if start else CALL_TRIES)):
            self.park(item, reason, again=True)
            return
        if start and item.tries >= START_TRIES and (verdict.reached or verdict.timed_out or proven):
            self._order.end_start(item)
            if not self._circuit.has_failed(spans=True):
                self._circuit.ask_afresh()  # The next span request decides the state of the circuit.
        self._order.put_back([item])

    def _note_tries(self, things: Sequence[Item | Batch], verdict: Verdict) -> None:
        now = time.monotonic()
        for thing in things:
            thing.tries += 1
            thing.failed_at = thing.failed_at or now
            # While the circuit is open, its delay applies alone; otherwise the item would wait twice.
            thing.not_before = self._circuit.retry_at if self._circuit.open else now + back_off(thing.tries)

    # Splitting

    def _may_split(self, flight: Flight, verdict: Verdict) -> bool:
        batch = flight.batch or Batch(list(flight.items))
        batch.family = batch.family or Family(FAMILY_REFUSALS)
        batch.family.refusals_left -= 1
        if batch.spans < 2 or batch.family.refusals_left < 0:
            return False
        flight.batch = batch
        if verdict.too_large:
            half = sum(item.size for item in flight.items) // 2
            self._order.max_bytes = max(SMALLEST_REQUEST, min(self._order.max_bytes, half))
        return True

    def split(self, flight: Flight, parts: tuple[list[Item], list[Item]] | None) -> None:
        """Queue both halves as batches. If `parts` is None, the request cannot be split and is parked."""
        batch = flight.batch
        assert batch is not None
        if parts is None:
            for item in flight.items:
                self.park(item, self.trouble or "refused")
            return
        if len(flight.items) == 1:  # The item itself was cut: the pieces now hold its bytes.
            self.bytes += sum(len(item.body) for part in parts for item in part) - len(flight.items[0].body)
            flight.items[0].body = b""
        self._circuit.ask_afresh()
        family = batch.family or Family(FAMILY_REFUSALS)
        for part in parts:
            half = Batch(part, family=family, failed_at=time.monotonic() if batch.refusals else 0.0)
            # A single span must fail as often as the whole batch did before it is parked.
            half.refusals = POISON_TRIES - 1 if batch.refusals and half.spans > 1 else 0
            self._order.put_back_batch(half)
