"""The order in which the rows of one destination are sent.

Order is partial: a session's start goes before its spans and updates, what creates an event goes before the updates of
that event, and the requests of one session or event keep their order. Everything else may be sent out of order, even
while another row of the same session is in flight.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Container, Iterable, Iterator
from typing import Any, Final

from hh_jupyter.export.model import Row

MAX_REQUEST_BYTES: Final = 4 * 1024 * 1024
"""Maximum number of encoded bytes in one request."""

REQUEST_DELAY: Final = 0.1
"""Seconds that a request other than spans waits, so that the sender's imports do not slow the start of a program."""

LOOKED_AT: Final = 64
"""Number of sessions whose requests are compared by age; among these, the oldest request is sent first."""

FAMILY_REJECTIONS: Final = 32
"""Rejected parts of one batch after which the rest is rejected unsplit. Finding one bad span in 512 takes 10."""


SERIALS: Final = itertools.count(1)
"""Positions in the order of arrival."""


class Family:
    """All batches that one rejected batch was split into.

    Attributes:
        rejections_left: rejections allowed before the remaining batches are rejected unsplit. The limit avoids one
            request per span to a backend that rejects everything.
        accepted: one of the batches was accepted, so the backend works.
    """

    def __init__(self) -> None:
        self.rejections_left = FAMILY_REJECTIONS
        self.accepted = False


class Batch:
    """The rows of one request: one that is no span, or spans. Spans that failed together stay together.

    Attributes:
        taken: when it was taken to be sent, on the `time.monotonic` clock.
        sending_since: when the connection was ready; 0 before.
        probe: sent to check whether the backend is reachable again.
        server_errors: number of 5xx answers to exactly these spans.
        tries, not_before, failed_at: number of failures, earliest time of the next attempt, time of the first failure.
        family: shared by all batches split from the same batch; None before the first split.
    """

    def __init__(self, rows: list[Row], family: Family | None = None, failed_at: float = 0.0) -> None:
        self.rows, self.family, self.failed_at = rows, family, failed_at
        self.taken = self.sending_since = self.not_before = 0.0
        self.probe = False
        self.server_errors = self.tries = 0

    @property
    def of_spans(self) -> bool:
        """Whether it holds spans."""
        return self.rows[0].kind == "spans"

    @property
    def spans(self) -> int:
        """Number of spans."""
        return sum(row.spans for row in self.rows)

    @property
    def serial(self) -> int:
        """Position in the order of arrival."""
        return self.rows[0].serial

    def halves(self) -> tuple[list[Row], list[Row]]:
        """Return its rows in two parts, each with about half of the spans and at least one row."""
        half, seen = self.spans / 2, 0
        for index, row in enumerate(self.rows[:-1], 1):
            seen += row.spans
            if seen >= half:
                return self.rows[:index], self.rows[index:]
        return self.rows[:-1], self.rows[-1:]


class Queue:
    """The rows of one destination that wait to be sent.

    Attributes:
        settings: determine the size of requests and how long spans wait for more.
        hurried: the program is ending, so nothing waits for more.
        linger_until: moment before which only full requests of spans are sent, on the `time.monotonic` clock.
        max_request_bytes: limit of a request; reduced when the backend rejects one as too large.
    """

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self.hurried = False
        self.linger_until = 0.0
        self.max_request_bytes = MAX_REQUEST_BYTES
        self._requests: dict[str, deque[Row]] = {}
        self._busy: dict[str, Row] = {}
        self._starts: dict[str, list[Row]] = {}
        self._creators: dict[str, set[Row]] = {}
        self._loose: deque[Row] = deque()
        self._batches: list[Batch] = []

    def has_start(self, row: Row) -> bool:
        """Return whether the same start of a session waits already or is in flight."""
        return any(one.body == row.body for one in self._starts.get(row.session_id, ()))

    def put_back_request(self, row: Row) -> None:
        """Return a request that was in flight to the front of its session."""
        self._requests.setdefault(row.session_id, deque()).appendleft(row)
        if row.gave_way:  # Let other sessions go first from now on.
            self._requests[row.session_id] = self._requests.pop(row.session_id)

    def make_due(self) -> None:
        """Let everything that waits be sent at once."""
        for row in itertools.chain(self._loose, *self._requests.values()):
            row.added = row.not_before = 0.0
        for batch in self._batches:
            batch.not_before = 0.0

    def newest_first(self) -> Iterator[Row]:
        """Yield the rows that wait: spans, the newest first, then those that have failed, then requests."""
        yield from reversed(self._loose)
        for batch in reversed(self._batches):
            yield from batch.rows
        yield from itertools.chain(*self._requests.values())

    def oldest_first(self) -> Iterator[Row]:
        """Yield the rows that wait: spans, the oldest first, then requests."""
        failed = itertools.chain.from_iterable(batch.rows for batch in self._batches)
        yield from heapq.merge(self._loose, failed, key=lambda row: row.serial)
        yield from itertools.chain(*self._requests.values())

    def append(self, row: Row) -> None:
        """Add a row to the end of the queue."""
        self.block_updates(row)
        if row.kind == "spans":
            self._loose.append(row)
            return
        self._requests.setdefault(row.session_id, deque()).append(row)
        if row.kind == "session_start":
            self._starts.setdefault(row.session_id, []).append(row)

    def block_updates(self, row: Row) -> None:
        """Hold back the later updates of the events that a row creates, until `end_blocking`."""
        for event_id in row.creates:
            self._creators.setdefault(event_id, set()).add(row)

    def _is_blocked(self, row: Row) -> bool:
        """Return whether it updates an event whose creation was queued before it and has not ended."""
        if row.updates is None:
            return False
        return any(creator.serial < row.serial for creator in self._creators.get(row.updates, ()))

    def end_blocking(self, row: Row) -> None:
        """Let a row no longer block updates of what it creates, or, as a session's start, the spans of its session."""
        for event_id in row.creates:
            creators = self._creators.get(event_id, set())
            creators.discard(row)
            if not creators:
                self._creators.pop(event_id, None)
        if row.kind == "session_start":
            row.gave_way = True
            found = self._starts.get(row.session_id, [])
            if row in found:
                found.remove(row)
            if not found:
                self._starts.pop(row.session_id, None)

    def put_back(self, batch: Batch) -> None:
        """Queue spans that failed together and stay together."""
        self._batches.append(batch)
        self._batches.sort(key=lambda one: one.serial)

    def end_flight(self, row: Row) -> None:
        """Let the next request of its session go. The row has been put back before, so the session keeps its place."""
        if row.kind == "spans":
            return
        if self._busy.get(row.session_id) is row:
            del self._busy[row.session_id]
        if not self._requests.get(row.session_id, True):
            del self._requests[row.session_id]

    def take_request(self, now: float) -> Batch | None:
        """Remove and return the next request other than spans."""
        row = self.due_request(now)
        if row is None:
            return None
        self._requests[row.session_id].remove(row)
        if not row.gave_way:
            self._busy[row.session_id] = row
        return Batch([row])

    def due_request(self, now: float) -> Row | None:
        """Return the next request other than spans: the oldest among the first sessions with one that is due."""
        due = (self._due_of(rows, now) for session, rows in self._requests.items() if session not in self._busy)
        first = itertools.islice((row for row in due if row is not None), LOOKED_AT)
        return min(first, key=lambda row: (row.gave_way, row.serial), default=None)

    def _due_of(self, rows: Iterable[Row], now: float) -> Row | None:
        for row in rows:
            if self._is_blocked(row):
                break
            if self._due(row) <= now:
                return row
            if not row.gave_way:  # Later requests of this session must not overtake it.
                break
        return None

    def _due(self, row: Row) -> float:
        """Return when a row may be sent without waiting for more."""
        wait = self.settings.flush_interval if row.kind == "spans" else REQUEST_DELAY
        return max(row.not_before, 0.0 if self.hurried or not row.added else row.added + wait)

    def take_spans(self, now: float, *, exporting: bool, new_first: bool) -> Batch | None:
        """Remove and return the spans of the next request.

        Args:
            exporting: spans are in flight.
            new_first: prefer spans that have not failed to those that have.
        """
        due = [batch for batch in self._batches if batch.not_before <= now]
        failed = min(due, key=lambda batch: (batch.tries, batch.serial), default=None)
        batch = self._take_loose(now, exporting) if failed is None or new_first else None
        if batch is None and failed is not None:
            self._batches.remove(failed)
            batch = failed
        return batch

    def _take_loose(self, now: float, exporting: bool) -> Batch | None:
        """Remove and return the first spans that no start blocks, up to the limits of a request."""
        moment = self._loose_moment(exporting)
        if moment is None or moment > now:
            return None
        taken: list[Row] = []
        held: list[Row] = []
        spans = size = 0
        while self._loose and spans < self._max_spans:
            row = self._loose.popleft()
            if row.session_id in self._starts:
                held.append(row)
                continue
            if taken and (spans + row.spans > self._max_spans or size + row.size > self.max_request_bytes):
                held.append(row)
                break
            taken.append(row)
            spans, size = spans + row.spans, size + row.size
        self._loose.extendleft(reversed(held))
        return Batch(taken) if taken else None

    def _loose_moment(self, exporting: bool) -> float | None:
        """Return when the spans that have not failed may be sent; None if there are none, or starts block them."""
        first, spans = None, 0
        for row in self._loose:
            if row.session_id not in self._starts:
                first = first or row
                spans += row.spans
                if spans >= self._max_spans:
                    return 0.0
        if first is None or not first.added:
            return None if first is None else first.not_before
        return max(self.linger_until, 0.0 if spans >= self._enough(exporting) else self._due(first))

    def spans_due(self, now: float, *, exporting: bool) -> bool:
        """Return whether spans may be sent now."""
        loose = self._loose_moment(exporting)
        return (loose is not None and loose <= now) or any(batch.not_before <= now for batch in self._batches)

    def _enough(self, exporting: bool) -> int:
        """Return the number of spans that are sent without waiting: during an export, those of a full request."""
        return self._max_spans if exporting else min(self.settings.batch_size, self._max_spans)

    @property
    def _max_spans(self) -> int:
        return int(self.settings.max_export_batch_size)

    def moments(self, *, exporting: bool) -> Iterator[float]:
        """Yield when the next requests are due, on the `time.monotonic` clock."""
        for batch in self._batches:
            yield batch.not_before
        for session_id, rows in self._requests.items():
            if session_id not in self._busy:
                for row in rows:
                    if self._is_blocked(row):
                        break
                    yield self._due(row)
                    if not row.gave_way:
                        break
        loose = self._loose_moment(exporting)
        if loose is not None:
            yield loose

    def waiting(self) -> Iterator[Row]:
        """Yield the rows that wait."""
        yield from self._loose
        for batch in self._batches:
            yield from batch.rows
        yield from itertools.chain(*self._requests.values())

    def drain(self) -> list[Row]:
        """Remove and return all rows that wait, in order of arrival."""
        rows = list(self.waiting())
        self._requests.clear()
        self._loose.clear()
        self._batches.clear()
        for row in rows:  # What is in flight still goes before the rows that need it.
            self.end_blocking(row)
        return sorted(rows, key=lambda row: row.serial)

    def take_sessions(self, session_ids: Container[str]) -> list[Row]:
        """Remove and return the rows of these sessions that wait."""
        taken = [row for row in self.waiting() if row.session_id in session_ids]
        gone = set(taken)
        self._loose = deque(row for row in self._loose if row not in gone)
        for batch in self._batches:
            batch.rows = [row for row in batch.rows if row not in gone]
        self._batches = [batch for batch in self._batches if batch.rows]
        for session_id in {row.session_id for row in taken if row.kind != "spans"}:
            self._requests[session_id].clear()
            if session_id not in self._busy:
                del self._requests[session_id]
        return taken

    def remove(self, row: Row) -> None:
        """Remove the first row that waits, or any of a request or of spans that have failed."""
        if self._loose and self._loose[0] is row:
            self._loose.popleft()
            return
        for batch in [batch for batch in self._batches if row in batch.rows]:
            batch.rows.remove(row)
            if not batch.rows:
                self._batches.remove(batch)
        rows = self._requests.get(row.session_id)
        if rows is not None and row in rows:
            rows.remove(row)
            if not rows and row.session_id not in self._busy:
                del self._requests[row.session_id]
