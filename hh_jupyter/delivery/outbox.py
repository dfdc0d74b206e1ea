"""What is to be sent to one backend, in which order, and what became of it.

Order is partial: a session's start goes before its spans and updates, and the calls of one session keep their order.
Everything else may overtake. Counts kept here are the only source of what displays say about delivery.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from hh_jupyter.records.export_state import ExportState
from hh_jupyter.records.reentry import Guard

MAX_BYTES: Final = 64 * 1024 * 1024
"""Bytes of unsent bodies kept in memory; above it the oldest spans are dropped, counted and shown."""

MAX_BATCH: Final = 512
MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
"""Spans and encoded bytes in one request at most: a backlog goes in larger requests than a trickle."""

CALL_DELAY: Final = 0.1
"""Seconds a call waits for others like it; also keeps the sender's imports off the caller's first moments."""

START_TRIES: Final = 3
"""After so many tries a session's start no longer holds back its spans."""

Kind = Literal["session_start", "event_update", "event_create", "spans"]
Outcome = Literal["sent", "parked", "retry"]


class Call(NamedTuple):
    """A call to the backend that is still to be redacted and encoded.

    Attributes:
        session_id: of the session, or of the event, whose calls keep their order.
        document: plain data, as JSON can hold it.
        defer: send it only before the session's first span or update.
    """

    kind: Kind
    session_id: str
    document: Mapping[str, Any]
    defer: bool = False


@dataclass(slots=True, eq=False)
class Item:
    """One body to send. `spans` is how many it holds, `cell` the notebook cell they started in."""

    kind: Kind
    session_id: str
    body: bytes
    spans: int = 0
    cell: str | None = None
    added: float = field(default_factory=time.monotonic)
    serial: int = 0
    tries: int = 0
    not_before: float = 0.0


class _Counts:
    """What became of the spans of one cell, or of all."""

    __slots__ = ("dropped", "made", "parked", "sent")

    def __init__(self) -> None:
        self.made = self.sent = self.parked = self.dropped = 0


class Outbox:
    """Items waiting for the sender; every method may be called from any thread.

    Args:
        destination: host of the backend, or None in local mode, where nothing is ever kept here.
        batch_size: so many spans are sent without waiting for more.
        flush_interval: seconds that spans wait for their batch to fill.
    """

    def __init__(self, destination: str | None, batch_size: int, flush_interval: float) -> None:
        self.destination, self.batch_size, self.flush_interval = destination, batch_size, flush_interval
        self.reason: str | None = None
        self.failing = False
        self.changed = Guard()
        self._incoming: deque[Item] = deque()
        self._calls: deque[Item] = deque()
        self._spans: deque[Item] = deque()
        self._taken: list[Item] = []
        self._parked: deque[Item] = deque()
        self._starting: dict[str, Item] = {}
        self._deferred: dict[str, Item] = {}
        self._counts: dict[str | None, _Counts] = {}
        self._all = _Counts()
        self._bytes = 0
        self._serial = 0
        self._flush_up_to = 0
        self._not_before = 0.0
        self._bad_since_flush = 0
        self._spans_accepted = False

    # What comes in

    def count_made(self, cells: Counter[str | None]) -> None:
        """Count spans that were sealed, by cell."""
        with self.changed:
            for cell, number in cells.items():
                self._all.made += number
                self._counts_of(cell).made += number

    def note_lost(self, reason: str) -> None:
        """Something that should have been queued could not be; the next flush says so."""
        with self.changed:
            self._bad_since_flush += 1
            self.reason = reason

    def defer_start(self, item: Item) -> None:
        """Keep a session's start until the session's first span or update; an unused session leaves no trace."""
        with self.changed:
            self._deferred[item.session_id] = item

    def add(self, items: Sequence[Item]) -> None:
        """Queue items in their order."""
        if self.destination is None:
            return
        self._incoming.extend(items)
        if self.changed.held():  # A destructor, inside one of the methods here; the next one takes them in.
            return
        with self.changed:
            self._take_in()
            self.changed.notify_all()

    def _take_in(self) -> None:
        while self._incoming:
            item = self._incoming.popleft()
            if not item.session_id:
                self._drop(item, "they belong to no session")
                continue
            start = self._deferred.pop(item.session_id, None)
            if start is not None:
                self._append(start)
            self._append(item)
        self._drop_above_bound()

    def _append(self, item: Item) -> None:
        self._serial += 1
        item.serial, item.added = self._serial, time.monotonic()
        self._bytes += len(item.body)
        (self._spans if item.kind == "spans" else self._calls).append(item)
        if item.kind == "session_start":
            self._starting.setdefault(item.session_id, item)

    def _drop_above_bound(self) -> None:
        while self._bytes > MAX_BYTES and (self._parked or self._spans):
            parked = bool(self._parked)
            item = (self._parked or self._spans).popleft()
            self._bytes -= len(item.body)
            self._drop(item, "more spans were waiting than memory may hold", parked=parked)

    def _drop(self, item: Item, reason: str, *, parked: bool = False) -> None:
        self._bad_since_flush += 1
        self.reason = reason
        for counts in (self._all, self._counts_of(item.cell)):
            counts.dropped += item.spans
            counts.parked -= item.spans if parked else 0

    # What goes out

    def take(self) -> list[Item]:
        """The next request's items, or an empty list when nothing is due. Several items are always spans."""
        with self.changed:
            self._take_in()
            if time.monotonic() < self._not_before:
                return []
            call = self._next_call()
            items = [call] if call is not None else self._next_spans()
            self._taken = items
            return items

    def _next_call(self) -> Item | None:
        now = time.monotonic()
        passed_over: set[str] = set()
        for item in self._calls:
            free = item.session_id not in passed_over
            if free and max(self._due(item, CALL_DELAY), item.not_before) <= now:
                self._calls.remove(item)
                return item
            if item.kind != "session_start" or self._starting.get(item.session_id) is item:
                passed_over.add(item.session_id)  # What comes later for it must not overtake.
        return None

    def _next_spans(self) -> list[Item]:
        """The first spans that no start holds back; only as many are looked at as a request may hold."""
        batch: list[Item] = []
        held: list[Item] = []
        spans = size = 0
        while self._spans and spans < MAX_BATCH:
            item = self._spans.popleft()
            if item.session_id in self._starting:
                held.append(item)
                continue
            size += len(item.body)
            if batch and (spans + item.spans > MAX_BATCH or size > MAX_BATCH_BYTES):
                held.append(item)
                break
            batch.append(item)
            spans += item.spans
        full = spans >= self.batch_size or size > MAX_BATCH_BYTES
        due = batch and (full or self._due(batch[0], self.flush_interval) <= time.monotonic())
        if not due:
            held, batch = sorted([*batch, *held], key=lambda item: item.serial), []
        self._spans.extendleft(reversed(held))
        return batch

    def seconds_to_next(self) -> float | None:
        """How long the sender may sleep; None when nothing can become due by itself."""
        with self.changed:
            moments = [max(self._due(item, CALL_DELAY), item.not_before) for item in self._calls]
            free = (item for item in self._spans if item.session_id not in self._starting)
            first = next(free, None)
            if first is not None:
                moments.append(self._due(first, self.flush_interval))
            if not moments:
                return None
            return max(0.01, max(min(moments), self._not_before) - time.monotonic())

    def _due(self, item: Item, delay: float) -> float:
        return 0.0 if item.serial <= self._flush_up_to else item.added + delay

    def settle(
        self, items: Sequence[Item], outcome: Outcome, reason: str | None, wait: float = 0.0, *, reached: bool = True
    ) -> None:
        """Note the verdict on a request.

        Args:
            items: of the request, as taken.
            outcome: sent, parked (kept and not tried again) or retry.
            reason: what went wrong, one sentence; None when sent.
            wait: seconds before these items, or after a failure to reach the backend anything, is tried again.
            reached: the backend answered at all.
        """
        with self.changed:
            self._taken = []
            self.failing, self.reason = outcome != "sent", reason
            again = time.monotonic() + wait
            self._not_before = again if not reached or items[0].kind == "spans" else 0.0
            self._spans_accepted = self._spans_accepted or (outcome == "sent" and items[0].kind == "spans")
            for item in reversed(items) if outcome == "retry" else items:
                item.not_before = again
                self._settle_one(item, outcome)
            if not self._waits_before(self._flush_up_to):
                self._flush_up_to = 0
            self.changed.notify_all()

    def _settle_one(self, item: Item, outcome: Outcome) -> None:
        item.tries += 1
        if item.kind == "session_start" and item.tries > START_TRIES and self._spans_accepted:
            outcome = "parked"  # The backend takes spans but not this start: trying on would not help.
        given_up = outcome != "retry" or item.tries >= START_TRIES
        if given_up and self._starting.get(item.session_id) is item:
            del self._starting[item.session_id]
        if outcome == "retry":
            (self._spans if item.kind == "spans" else self._calls).appendleft(item)
            return
        if outcome == "parked":
            self._parked.append(item)
            self._bad_since_flush += 1
        else:
            self._bytes -= len(item.body)
        for counts in (self._all, self._counts_of(item.cell)):
            counts.parked += item.spans if outcome == "parked" else 0
            counts.sent += item.spans if outcome == "sent" else 0

    # What may be asked

    def deferred(self) -> tuple[Item, ...]:
        """Starts that wait for their session's first span."""
        return tuple(self._deferred.values())

    def flush(self, deadline: float, *, asked: bool = True) -> bool:
        """Make everything queued so far due and wait for its verdicts.

        Args:
            deadline: on the clock of `time.monotonic`.
            asked: somebody hears the answer; else what went wrong stays to be told.

        Returns:
            True if nothing waits and nothing was parked or dropped since the previous call.
        """
        with self.changed:
            self._take_in()
            mark = self._flush_up_to = self._serial
            self._not_before = 0.0  # One try at once, whatever failed before; then the pauses apply again.
            for item in self._calls:
                item.not_before = 0.0
            self.changed.notify_all()
            while self._waits_before(mark) and (left := deadline - time.monotonic()) > 0:
                self.changed.wait(left)
            good = not self._waits_before(mark) and not self._bad_since_flush
            self._bad_since_flush = 0 if asked else self._bad_since_flush
            return good

    def _waits_before(self, serial: int) -> bool:
        return any(item.serial <= serial for queue in (self._calls, self._spans, self._taken) for item in queue)

    def state(self, cell: str | None = None) -> ExportState:
        """Counts of one cell's spans, or of all."""
        with self.changed:
            counts = self._all if cell is None else self._counts_of(cell)
            waiting = counts.made - counts.sent - counts.parked - counts.dropped
            return ExportState(
                destination=self.destination,
                made=counts.made,
                sent=counts.sent,
                waiting=waiting if self.destination else 0,
                parked=counts.parked,
                dropped=counts.dropped,
                reason=self.reason,
                failing=self.failing,
            )

    def _counts_of(self, cell: str | None) -> _Counts:
        found = self._counts.get(cell)
        if found is None:
            found = self._counts[cell] = _Counts()
        return found
