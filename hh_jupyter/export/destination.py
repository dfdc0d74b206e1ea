"""A destination: what is sent to it when, and what a result means for rows.

Only the worker and the sender threads call the methods, with the lock of `Destinations`, unless a method says
otherwise.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from hh_jupyter.export.circuit import Circuit, back_off
from hh_jupyter.export.counts import Count
from hh_jupyter.export.endpoint import Endpoint, SpanTarget, host_of
from hh_jupyter.export.flights import Flights
from hh_jupyter.export.flush import Flush
from hh_jupyter.export.follow_ups import FollowUps
from hh_jupyter.export.model import Row
from hh_jupyter.export.queue import FAMILY_REJECTIONS, Batch, Family
from hh_jupyter.export.rows import Rows
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.threads import evict_oldest

if TYPE_CHECKING:
    from hh_jupyter.export.http import Connection, Result
    from hh_jupyter.export.spool import Spool

MAX_BYTES: Final = 32 * 1024 * 1024
"""Limit for unsent bodies in memory. Above it, bodies stay in the spool only, or the oldest are dropped and counted."""

SMALLEST_REQUEST: Final = 64 * 1024
"""Lower bound of the size limit, in bytes, when the backend rejects requests as too large."""

LINGER_SECONDS: Final = 0.1
"""Pause after an export, so that the next one holds more spans. Neither full requests nor a flush wait for it."""

START_TRIES: Final = 3
"""Failures after which a session's start no longer blocks its spans, if the backend answers at all."""

REQUEST_TRIES: Final = 5
"""Failures after which a request is given up, if others were accepted in the meantime."""

GIVEN_UP_SECONDS: Final = 30.0
"""Interval at which requests that were given up are tried again in the background."""

SERVER_ERRORS: Final = 5
"""Number of 5xx answers after which a batch is split, to find the span that causes them."""

MAX_OTHER_IDS: Final = 10_000
"""Number of sessions whose backend-assigned id is kept."""

FAILURES_TO_LOG: Final = 2
"""Failures in a row that count as an outage. A retry usually fixes a single failure."""


class Destination:
    """Where rows of one tracer are sent; or, without a host, where the spans of this machine are counted.

    Args:
        follow_ups: receive what is to be done without the lock.
        settings: determine the requests.
        endpoint: builds the requests; None for rows that stay on this machine.
        spool: holds the rows on disk, if configured.

    Attributes:
        stored_as: URL and key, which name the destination in the spool; None for rows that stay on this machine.
        host: host of the backend; None for rows that stay on this machine.
        rows: those that wait or were rejected.
        other_ids: session ids assigned by the backend, by the original id.
        overdue: a flush ran out of time while requests were in flight, which did not end since.
    """

    def __init__(
        self,
        follow_ups: FollowUps,
        settings: Any,
        endpoint: Endpoint | None,
        spool: Spool | None,
    ) -> None:
        self.stored_as = None if endpoint is None else endpoint.address(settings)
        self.host = None if self.stored_as is None else host_of(self.stored_as[0])
        self.spool, self._endpoint, self._follow_ups = spool, endpoint, follow_ups
        self._accepts_requests = endpoint is None or endpoint.accepts_requests
        self.rows = Rows(follow_ups, settings, spool, need_session=self._accepts_requests)
        self._queue = self.rows.queue
        self.overdue = False
        self._circuit = Circuit()
        self._trouble: str | None = None
        self._deferred: dict[str, Row] = {}
        self._flights = Flights()
        self._cutting: list[Batch] = []
        self.other_ids: dict[str, str] = {}
        self._successor: Destination | None = None
        self._next_key: Destination | None = None
        self._outage: str | None = None

    # Any thread, without the lock

    def state(self, cell: str | None = None) -> ExportState:
        """Return the export state of one cell's spans, or of all spans."""
        spans = self.rows.counts.spans(cell)
        requests = self.rows.counts.requests() if cell is None else Count()
        rejected = (spans.rejected_reason or requests.rejected_reason) if spans.rejected or requests.rejected else None
        dropped = (spans.dropped_reason or requests.dropped_reason) if spans.dropped or requests.dropped else None
        failing = bool(self._circuit.failures or self.rows.key_rejected)
        return ExportState(
            destination=self.host,
            made=spans.made,
            sent=spans.sent,
            waiting=spans.waiting if self.host else 0,
            rejected=spans.rejected,
            dropped=spans.dropped,
            reason=(self._trouble if failing else None) or rejected or dropped,
            failing=failing,
            requests_waiting=requests.waiting,
            requests_rejected=requests.rejected,
            requests_dropped=requests.dropped,
            rejected_reason=rejected,
            dropped_reason=dropped,
            exported_elsewhere=spans.elsewhere,
        )

    def worth_waiting(self) -> bool:
        """Return whether waiting for a result makes sense: the backend answers, or a retry is due."""
        return not self.overdue and self.rows.key_rejected is None and self._circuit.may_send(time.monotonic())

    @property
    def settings(self) -> Any:
        """Settings of the requests; changes apply to the next one."""
        return self._queue.settings

    @settings.setter
    def settings(self, settings: Any) -> None:
        self._queue.settings = settings

    @property
    def in_flight(self) -> bool:
        """Whether a request is in flight."""
        return bool(self._flights.batches)

    @property
    def final(self) -> Destination:
        """This destination, or the one that has taken its rows over."""
        return self if self._successor is None else self._successor.final

    def target_is_among(self, targets: Sequence[SpanTarget]) -> bool:
        """Return whether other exporters that send to these targets send here."""
        return self._endpoint is not None and self._endpoint.target(self.settings).is_among(targets)

    def connect(self) -> Connection:
        """Return a connection for one sender thread."""
        from hh_jupyter.export.http import Connection

        assert self._endpoint is not None
        return Connection(self._endpoint)

    # Incoming rows

    def count_made(self, cell: str | None, spans: int, *, elsewhere: bool = False, exported: bool = True) -> None:
        """Count finalized spans before they are added, or those that another exporter or none sends."""
        counts = self.rows.counts
        count = counts.elsewhere if elsewhere else counts.made if exported else counts.not_exported
        count(cell, spans)

    def note_lost(self, reason: str) -> None:
        """Record data that was lost before it became a row. The next flush returns False."""
        self._trouble = reason
        self.rows.lost(reason)

    def defer(self, start: Row) -> None:
        """Keep a session's start until the session's first span or update. An unused session is never sent."""
        if self._accepts_requests:
            self._deferred[start.session_id] = start

    def deferred(self) -> list[Row]:
        """Return the starts that wait for the first span of their session."""
        return list(self._deferred.values())

    def take_deferred(self, session_ids: Iterable[str]) -> list[Row]:
        """Remove and return the deferred starts of these sessions, whose first rows are about to be added."""
        found = (self._deferred.pop(session_id, None) for session_id in dict.fromkeys(session_ids))
        return [start for start in found if start is not None]

    def accepts(self, kind: str) -> bool:
        """Return whether rows of this kind are sent here."""
        return kind == "spans" or self._accepts_requests

    def add(self, rows: Iterable[Row]) -> None:
        """Queue rows in order."""
        if self.host is not None:
            self.rows.add(rows)

    # The next request

    def take(self, now: float) -> Batch | None:
        """Return the next request, or None if none is due. The caller passes its result to `settle`."""
        if self._pause(now):
            return None
        self.rows.retry((row for row in self.rows.given_up() if row.not_before <= now), background=True)
        if not self._circuit.may_send(now):
            return None
        spans_first = self._circuit.failed_kind not in (None, "spans")  # The other endpoint may answer.
        batch = self._take_spans(now) if spans_first else self._queue.take_request(now)
        batch = batch or (self._queue.take_request(now) if spans_first else self._take_spans(now))
        if batch is not None:
            self._flights.begin(batch, now, probe=self._circuit.open)
            self._circuit.probing = self._circuit.probing or batch.probe
        return batch

    def _take_spans(self, now: float) -> Batch | None:
        return self._queue.take_spans(now, exporting=self._flights.any_spans, new_first=self._circuit.open)

    def begin(self, batch: Batch) -> None:
        """Note that the connection is ready. The time before is not the backend's."""
        batch.sending_since = time.monotonic()

    def more_due(self, now: float) -> bool:
        """Return whether another request could be sent now, beside those in flight."""
        if self._pause(now) or not self._circuit.may_send(now):
            return False
        exporting = self._flights.any_spans
        return self._queue.due_request(now) is not None or self._queue.spans_due(now, exporting=exporting)

    def next_moment(self, now: float) -> float | None:
        """Return when the next request may be due, on the `time.monotonic` clock; None if that takes an event."""
        if (pause := self._pause(now)) and next(self._queue.waiting(), None) is not None:
            return now + pause
        moments = [row.not_before for row in self.rows.given_up()]
        if not (self._circuit.open and self._circuit.probing):
            moments += [
                max(moment, self._circuit.next_moment())
                for moment in self._queue.moments(exporting=self._flights.any_spans)
            ]
        return min(moments, default=None)

    def _pause(self, now: float) -> float:
        """Return the seconds until another request may be sent beside those in flight: 0 if now."""
        return self._flights.pause(now, one_at_a_time=self.settings.requests_session is not None)  # Not thread-safe.

    # Results

    def body_to_send(self, row: Row, body: bytes) -> bytes:
        """Return a row's body with the session id that the backend assigned."""
        other = self.other_ids.get(row.session_id)
        if other is None or row.kind == "session_start":
            return body
        return body.replace(row.session_id.encode(), other.encode())

    def settle(self, batch: Batch, result: Result) -> None:
        """Apply the result of a request from `take`."""
        self._end_flight(batch)
        self.overdue = False
        if batch.of_spans and not self._queue.hurried:
            self._queue.linger_until = time.monotonic() + LINGER_SECONDS
        if result.outcome == "retry":
            self._failed(batch, result)
        else:
            self._answered(batch, result)
        for row in batch.rows:
            self._queue.end_flight(row)
        if self.rows.key_rejected is not None and self._next_key is not None:
            self.move_to(self._next_key.final)
        self.rows.flushes.check()

    def _end_flight(self, batch: Batch) -> None:
        self._flights.end(batch)
        self._circuit.probing = self._circuit.probing and not batch.probe

    def _failed(self, batch: Batch, result: Result) -> None:
        reason = self._trouble = result.reason or "rejected"
        self._circuit.failed(batch.rows[0].kind, result, batch.taken)
        if self._circuit.failures >= FAILURES_TO_LOG and self._outage is None:
            self._outage = reason
            kept = "spans are kept and will be sent when it is reachable again"
            self._follow_ups.log(logging.WARNING, f"{reason}; {kept}")
        self._retry(batch, result, reason)

    def _answered(self, batch: Batch, result: Result) -> None:
        self._circuit.answered(batch.rows[0].kind)
        if result.outcome == "sent":
            self._sent(batch, result)
        elif result.outcome == "split" and self._may_split(batch, result):
            self._trouble = result.reason
            self._split(batch)
        else:
            reason = self._trouble = result.reason or "rejected"
            if result.outcome == "key_rejected":
                self.rows.reject_waiting(reason)
            for row in batch.rows:
                self.rows.reject(row, reason)

    def lose(self, batch: Batch, rows: Collection[Row], reason: str) -> None:
        """Drop the rows of a request whose bodies cannot be read any more, and put the others back."""
        self._end_flight(batch)
        for row in rows:
            self.rows.drop(row, reason)
            self._queue.end_flight(row)
        batch.rows = [row for row in batch.rows if row not in rows]
        if batch.rows:
            self._queue.put_back(batch)
        self.rows.flushes.check()

    def _sent(self, batch: Batch, result: Result) -> None:
        if self._outage is not None:
            self._outage = None
            self._follow_ups.log(logging.INFO, f"{self.host} is reachable again")
        self._circuit.accepted(batch.rows[0].kind)
        self.rows.sent(batch, result.rejected, result.reason)
        if batch.family is not None:
            batch.family.accepted = True
            batch.family.rejections_left += FAMILY_REJECTIONS // 2
        created = frozenset[str]().union(*(row.creates for row in batch.rows))
        if created:  # Updates that came before their event were rejected.
            self.rows.retry([row for row in self.rows.rejected if row.updates in created], background=True)
        if batch.rows[0].kind == "session_start":
            self._session_started(batch.rows[0], result.other_session)

    def _session_started(self, row: Row, other_id: str | None) -> None:
        if other_id is None:
            self.other_ids.pop(row.session_id, None)
        else:
            self.other_ids[row.session_id] = other_id
            evict_oldest(self.other_ids, MAX_OTHER_IDS)
            text = f"the backend stores session {row.session_id} as {other_id}; its spans are sent under that id"
            self._follow_ups.log(logging.INFO, text)
        self.rows.retry(self.rows.given_up(), background=True)

    def _retry(self, batch: Batch, result: Result, reason: str) -> None:
        if self.rows.key_rejected is not None:
            for row in batch.rows:
                self.rows.reject(row, self.rows.key_rejected)
            return
        if not batch.of_spans:
            self._retry_request(batch.rows[0], result, reason)
            return
        self._note_failure(batch)
        batch.server_errors += result.server_error
        works = self._circuit.accepted_since(batch.failed_at, spans=True)
        if batch.server_errors < SERVER_ERRORS:
            self._queue.put_back(batch)
        elif batch.spans > 1 and (batch.family is None or batch.family.accepted or works):
            self._split(batch)
        elif batch.spans == 1 and works:
            self.rows.reject(batch.rows[0], reason)
        else:
            self._queue.put_back(batch)

    def _retry_request(self, row: Row, result: Result, reason: str) -> None:
        self._note_failure(row)
        works = self._circuit.accepted_since(row.failed_at)
        is_start = row.kind == "session_start"
        if row.background or (works and row.tries > (START_TRIES if is_start else REQUEST_TRIES)):
            self.rows.reject(row, reason, stored=True)
            row.background, row.not_before = True, time.monotonic() + GIVEN_UP_SECONDS
            return
        if is_start and row.tries >= START_TRIES and (result.reached or result.timed_out or works):
            self._queue.end_blocking(row)
            if not self._circuit.has_failed(spans=True):
                self._circuit.discount()  # The next export decides the state of the circuit.
        self._queue.put_back_request(row)

    def _note_failure(self, failed: Row | Batch) -> None:
        now = time.monotonic()
        failed.tries += 1
        failed.failed_at = failed.failed_at or now
        # While the circuit is open, its pause applies alone; otherwise the row would wait twice.
        failed.not_before = self._circuit.retry_at if self._circuit.open else now + back_off(failed.tries)

    # Splitting, to find the span that the backend rejects

    def _may_split(self, batch: Batch, result: Result) -> bool:
        batch.family = batch.family or Family()
        batch.family.rejections_left -= 1
        if batch.spans < 2 or batch.family.rejections_left < 0:
            return False
        if result.too_large:
            half = sum(row.size for row in batch.rows) // 2
            self._queue.max_request_bytes = max(SMALLEST_REQUEST, min(self._queue.max_request_bytes, half))
        return True

    def _split(self, batch: Batch) -> None:
        batch.family = batch.family or Family()
        self._circuit.discount()
        if len(batch.rows) == 1:
            self._cutting.append(batch)
            self._follow_ups.cut(self, batch)
            return
        for rows in batch.halves():
            self._put_part(batch, rows)

    def _put_part(self, batch: Batch, rows: list[Row]) -> None:
        part = Batch(rows, family=batch.family, failed_at=time.monotonic() if batch.server_errors else 0.0)
        # A single span must fail as often as the whole batch did before it is rejected.
        part.server_errors = SERVER_ERRORS - 1 if batch.server_errors and part.spans > 1 else 0
        self._queue.put_back(part)

    def put_pieces(self, batch: Batch, pieces: Sequence[Row]) -> None:
        """Queue the pieces of the single row of a batch; without pieces, it cannot be cut and is rejected."""
        row = batch.rows[0]
        self._cutting.remove(batch)
        if pieces:
            self.rows.replace(row, pieces)
        else:
            self.rows.reject(row, self._trouble or "rejected")
        for piece in pieces:
            if self.rows.key_rejected is None:
                self._put_part(batch, [piece])
            else:
                self.rows.reject(piece, self.rows.key_rejected)
        self.rows.flushes.check()

    # Changes from outside

    def release(self) -> None:
        """Retry everything that was rejected, given up or paused, because the answer may be another one now."""
        self.rows.key_rejected = None
        self._circuit.reset()
        self._queue.make_due()
        self.rows.retry(self.rows.rejected, background=False)

    def hurry(self) -> None:
        """Send all rows from now on without waiting for more, because the program is ending."""
        self._queue.hurried, self._queue.linger_until = True, 0.0
        self.make_due()

    def flush(self, flush: Flush) -> None:
        """Make everything due, and let a flush wait for it."""
        self.rows.flushes.join(flush, [row for row in self.unsettled() if not row.background])
        self.make_due()

    def make_due(self) -> None:
        """Make everything due: one attempt at once, despite earlier failures; then the pauses apply again."""
        self._circuit.hurry()
        self._queue.make_due()

    def follow_key(self, successor: Destination) -> None:
        """Name the destination with a new key of the same backend.

        The rows move there when the backend has rejected this destination's key; rows that it accepts are sent with it.
        """
        self._next_key = successor
        if self.rows.key_rejected is not None:
            self.move_to(successor)

    def reopen(self) -> None:
        """Take rows again, because the settings name this destination once more."""
        self._successor = self._next_key = None

    def move_to(self, successor: Destination) -> None:
        """Give all rows, and those still to come, to the destination with the new key."""
        self._successor = successor
        self._follow_ups.move(successor, self.all_rows())
        rows = self.rows.take_all()
        for row in rows:
            if row.kind == "spans":
                successor.count_made(row.cell, row.spans)
        for start in self._deferred.values():
            successor.defer(start)
        self._deferred.clear()
        successor.add(rows)
        self.rows.flushes.follow(successor.rows.flushes)

    def unsettled(self) -> Iterator[Row]:
        """Yield the rows that wait or are in flight."""
        yield from self._queue.waiting()
        for batch in itertools.chain(self._flights.batches, self._cutting):
            yield from batch.rows

    def all_rows(self) -> list[Row]:
        """Return all rows: those that wait, are in flight or were rejected."""
        return [*self.unsettled(), *self.rows.rejected]

    def delete(self, session_ids: Collection[str]) -> None:
        """Delete the rows of these sessions that wait or were rejected, in memory. No flush reports them as lost."""
        for session_id in session_ids:
            self._deferred.pop(session_id, None)
        self.rows.delete(session_ids)


class Destinations:
    """The destinations of this process.

    Args:
        follow_ups: receive what is to be done without the lock.

    Attributes:
        changed: guards everything here. Only the worker and the senders take it: the program's threads never do.
        active: those that senders serve.
    """

    def __init__(self, follow_ups: FollowUps) -> None:
        self.changed = threading.Condition(threading.Lock())
        self.active: list[Destination] = []
        self.follow_ups = follow_ups

    def keep_within(self, max_bytes: int) -> None:
        """Limit the bodies in memory: forget those that the spool holds, then drop the oldest rows."""
        held = [one.rows for one in self.active]
        total = sum(rows.bytes for rows in held)
        for rows in held if total > max_bytes else ():
            total -= rows.forget_bodies(total - max_bytes)
        while total > max_bytes:
            fullest = max(held, key=lambda rows: rows.bytes)
            dropped = fullest.drop_oldest()
            if not dropped:
                return
            total -= dropped
