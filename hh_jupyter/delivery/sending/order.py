"""Who goes next: a session's start before its spans and updates, the calls of one session in their order.

Everything else may overtake, also while something of the same session is under way elsewhere.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from hh_jupyter.delivery.sending.item import Batch, Item

MAX_BATCH: Final = 512
MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
"""Spans and encoded bytes in one request at most: a backlog goes in larger requests than a trickle."""

LOOKED_AT: Final = 64
"""Sessions whose calls are compared for their age: so far ahead calls go in the order in which they were made."""

Moment = Callable[[Item], float]
"""When an item is due, on the clock of `time.monotonic`."""


class Order:
    """What waits for one destination. Guarded by the outbox's lock.

    Attributes:
        max_spans: of one request at most.
        max_bytes: the same in bytes; smaller once a backend found that too large.
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
        """Queue an item behind everything else."""
        if item.kind == "spans":
            self._spans.append(item)
            return
        self._calls.setdefault(item.session_id, deque()).append(item)
        if item.kind == "session_start":
            self._starts.setdefault(item.session_id, []).append(item)

    def put_back(self, items: Sequence[Item]) -> None:
        """Queue items that were under way, before everything that came after them."""
        if items[0].kind != "spans":
            (item,) = items
            self._calls.setdefault(item.session_id, deque()).appendleft(item)
            if item.gave_way:  # Others have their turn first from now on.
                self._calls[item.session_id] = self._calls.pop(item.session_id)
            return
        self._spans.extendleft(reversed(items))

    def put_back_batch(self, batch: Batch) -> None:
        """Queue spans that stay together."""
        self._batches.append(batch)
        self._batches.sort(key=lambda batch: batch.serial)

    def end_flight(self, item: Item) -> None:
        """An item is no longer under way; comes after `put_back`, so that its session keeps its turn."""
        if self._busy.get(item.session_id) is item:
            del self._busy[item.session_id]
        if item.kind != "spans" and not self._calls.get(item.session_id, True):
            del self._calls[item.session_id]

    def end_start(self, item: Item) -> None:
        """A session's start stops holding back its session."""
        item.gave_way = True
        found = self._starts.get(item.session_id, [])
        if item in found:
            found.remove(item)
        if not found:
            self._starts.pop(item.session_id, None)

    def same_start(self, item: Item) -> bool:
        """A start that says the same already waits."""
        return any(start.body == item.body for start in self._starts.get(item.session_id, ()))

    # Taking

    def due_call(self, now: float) -> Item | None:
        """The next call that may go, left where it is: the oldest of the first sessions that have one."""
        due = (self._due_of(queue, now) for session, queue in self._calls.items() if session not in self._busy)
        first = itertools.islice((item for item in due if item is not None), LOOKED_AT)
        return min(first, key=lambda item: (item.gave_way, item.serial), default=None)

    def _due_of(self, queue: Iterable[Item], now: float) -> Item | None:
        for item in queue:
            if self._moment_of(item) <= now:
                return item
            if not item.gave_way:  # What comes later for this session must not overtake.
                break
        return None

    def take_call(self, now: float) -> Item | None:
        """The same, taken."""
        item = self.due_call(now)
        if item is not None:
            self._calls[item.session_id].remove(item)
            if not item.gave_way:
                self._busy[item.session_id] = item
        return item

    def due_spans(self, now: float, enough: int) -> bool:
        """Spans may go: a batch is full, or the oldest waited long enough."""
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
        """The spans of the next request.

        Args:
            enough: so many need not wait for more.
            loose_first: those that were not refused yet before those that were.
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
        """The first spans that no start holds back; only as many are looked at as a request may hold."""
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

    # Looking

    def __iter__(self) -> Iterator[Item]:
        for queue in self._calls.values():
            yield from queue
        yield from self._spans
        for batch in self._batches:
            yield from batch.items

    def loose_spans(self) -> deque[Item]:
        """Spans that were not refused yet, the oldest first."""
        return self._spans

    def hurry(self) -> None:
        """Forget all pauses."""
        for item in self:
            item.not_before = 0.0
        for batch in self._batches:
            batch.not_before = 0.0

    def next_moment(self) -> float | None:
        """When something becomes due by itself; None if nothing does."""
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
        """Take everything out, in the order of arrival."""
        found = sorted(self, key=lambda item: item.serial)
        self._calls.clear()
        self._spans.clear()
        self._batches.clear()
        self._starts.clear()
        return found

    def drop_oldest(self) -> Item | None:
        """Take out what is to be lost next: spans that nobody refused, then refused ones, then calls."""
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
