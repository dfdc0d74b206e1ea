"""Send order: a session's start goes before its spans and updates, and the calls of one session keep their order.

Everything else may be sent out of order, even while another item of the same session is in flight.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from hh_jupyter.delivery.sending.item import Batch, Item

MAX_BATCH: Final = 512
MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
"""Maximum number of spans and encoded bytes in one request. A backlog is sent in larger requests."""

LOOKED_AT: Final = 64
"""Number of sessions whose calls are compared by age; among these, the oldest call is sent first."""

Moment = Callable[[Item], float]
"""Returns when an item is due, on the `time.monotonic` clock."""


class Order:
    """The queue of one destination. Guarded by the outbox's lock.

    Attributes:
        max_spans: maximum number of spans in one request.
        max_bytes: maximum size of one request in bytes; reduced when the backend rejects a request as too large.
    """

    def __init__(self, due: Moment) -> None:
        self._due = due
        self.max_spans, self.max_bytes = MAX_BATCH, MAX_BATCH_BYTES
        self._calls: dict[str, deque[Item]] = {}
        self._busy: dict[str, Item] = {}
        self._spans: deque[Item] = deque()
        self._batches: list[Batch] = []
        self._starts: dict[str, list[Item]] = {}

    def append(self, item: Item) -> None:
        """Add an item to the end of the queue."""
        if item.kind == "spans":
            self._spans.append(item)
            return
        self._calls.setdefault(item.session_id, deque()).append(item)
        if item.kind == "session_start":
            self._starts.setdefault(item.session_id, []).append(item)

    def put_back(self, items: Sequence[Item]) -> None:
        """Return items that were in flight to the front of the queue."""
        if items[0].kind != "spans":
            (item,) = items
            self._calls.setdefault(item.session_id, deque()).appendleft(item)
            if item.gave_way:  # Let other sessions go first from now on.
                self._calls[item.session_id] = self._calls.pop(item.session_id)
            return
        self._spans.extendleft(reversed(items))

    def put_back_batch(self, batch: Batch) -> None:
        """Queue a batch of spans that stay together."""
        self._batches.append(batch)
        self._batches.sort(key=lambda batch: batch.serial)

    def end_flight(self, item: Item) -> None:
        """Mark an item as no longer in flight. Call it after `put_back`, so that the session keeps its position."""
        if self._busy.get(item.session_id) is item:
            del self._busy[item.session_id]
        if item.kind != "spans" and not self._calls.get(item.session_id, True):
            del self._calls[item.session_id]

    def end_start(self, item: Item) -> None:
        """Let a session's start no longer block the other items of its session."""
        item.gave_way = True
        found = self._starts.get(item.session_id, [])
        if item in found:
            found.remove(item)
        if not found:
            self._starts.pop(item.session_id, None)

    def same_start(self, item: Item) -> bool:
        """Return whether an identical start of the session is already pending."""
        return any(start.body == item.body for start in self._starts.get(item.session_id, ()))

    # Take items

    def due_call(self, now: float) -> Item | None:
        """Return the next call to send without removing it: the oldest among the first sessions with a due call."""
        due = (self._due_of(queue, now) for session, queue in self._calls.items() if session not in self._busy)
        first = itertools.islice((item for item in due if item is not None), LOOKED_AT)
        return min(first, key=lambda item: (item.gave_way, item.serial), default=None)

    def _due_of(self, queue: Iterable[Item], now: float) -> Item | None:
        for item in queue:
            if self._moment_of(item) <= now:
                return item
            if not item.gave_way:  # Later calls of this session must not overtake it.
                break
        return None

    def take_call(self, now: float) -> Item | None:
        """Remove and return the next call to send."""
        item = self.due_call(now)
        if item is not None:
            self._calls[item.session_id].remove(item)
            if not item.gave_way:
                self._busy[item.session_id] = item
        return item

    def due_spans(self, now: float, enough: int) -> bool:
        """Return whether spans may be sent: a refused batch is due, enough spans wait, or one waited long enough."""
        if any(batch.not_before <= now for batch in self._batches):
            return True
        spans = 0
        for item in self._spans:
            if item.session_id in self._starts or item.not_before > now:
                continue
            spans += item.spans
            if spans >= min(enough, self.max_spans) or self._due(item) <= now:
                return True
        return False

    def take_spans(self, now: float, enough: int, *, loose_first: bool) -> list[Item] | Batch | None:
        """Remove and return the spans of the next request.

        Args:
            enough: number of spans that are sent without waiting for more.
            loose_first: send spans that were not refused yet before refused ones.
        """
        batch = self._take_batch(now)
        if batch is not None and not loose_first:
            return batch
        loose = self._take_loose(now, enough)
        if batch is not None and loose:
            self.put_back_batch(batch)
            return loose
        return loose or batch

    def _take_batch(self, now: float) -> Batch | None:
        due = [batch for batch in self._batches if batch.not_before <= now]
        if not due:
            return None
        found = min(due, key=lambda batch: (batch.tries, batch.serial))
        self._batches.remove(found)
        return found

    def _take_loose(self, now: float, enough: int) -> list[Item]:
        """Remove and return the first spans not blocked by a start. Stops once a request is full."""
        taken: list[Item] = []
        held: list[Item] = []
        spans = size = 0
        full = False
        while self._spans and spans < self.max_spans:
            item = self._spans.popleft()
            if item.session_id in self._starts or item.not_before > now:
                held.append(item)
                continue
            size += item.size
            if taken and (spans + item.spans > self.max_spans or size > self.max_bytes):
                held.append(item)
                full = True
                break
            taken.append(item)
            spans += item.spans
        full = full or spans >= min(enough, self.max_spans) or size > self.max_bytes
        if taken and not full and self._due(taken[0]) > now:
            held, taken = sorted([*taken, *held], key=lambda item: item.serial), []
        self._spans.extendleft(reversed(held))
        return taken

    # Inspect and drain

    def __iter__(self) -> Iterator[Item]:
        for queue in self._calls.values():
            yield from queue
        yield from self._spans
        for batch in self._batches:
            yield from batch.items

    def loose_spans(self) -> deque[Item]:
        """Return the spans that were not refused yet, oldest first."""
        return self._spans

    def hurry(self) -> None:
        """Clear all retry delays."""
        for item in self:
            item.not_before = 0.0
        for batch in self._batches:
            batch.not_before = 0.0

    def next_moment(self) -> float | None:
        """Return when the next item becomes due; None if no item does."""
        moments = [batch.not_before for batch in self._batches]
        for session_id, queue in self._calls.items():
            if session_id not in self._busy:
                for item in queue:
                    moments.append(self._moment_of(item))
                    if not item.gave_way:
                        break
        free = (item for item in self._spans if item.session_id not in self._starts)
        first = next(free, None)
        if first is not None:
            moments.append(max(self._due(first), first.not_before))
        return min(moments, default=None)

    def drain(self) -> list[Item]:
        """Remove and return all items in order of arrival."""
        found = sorted(self, key=lambda item: item.serial)
        self._calls.clear()
        self._spans.clear()
        self._batches.clear()
        self._starts.clear()
        return found

    def drop_oldest(self) -> Item | None:
        """Remove and return the next item to drop: spans that were not refused, then refused ones, then calls."""
        if self._spans:
            return self._spans.popleft()
        if self._batches:
            batch = self._batches[0]
            item = batch.items.pop(0)
            if not batch.items:
                self._batches.remove(batch)
            return item
        for session_id, queue in self._calls.items():
            if queue:
                item = queue.popleft()
                if not queue and session_id not in self._busy:
                    del self._calls[session_id]
                if item.kind == "session_start":
                    self.end_start(item)
                return item
        return None

    def _moment_of(self, item: Item) -> float:
        return max(self._due(item), item.not_before)
