"""The destinations of rows: what waits, is in flight or was rejected.

Only the worker and the sender threads call the methods, with the lock of `Destinations`, unless a method says
otherwise.
"""

from __future__ import annotations

import itertools
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from hh_jupyter.export import process
from hh_jupyter.export.circuit import Circuit, back_off
from hh_jupyter.export.counts import Count, Counts
from hh_jupyter.export.model import Row, State
from hh_jupyter.export.queue import FAMILY_REJECTIONS, Batch, Family, Queue
from hh_jupyter.export.worker import Answer
from hh_jupyter.records.export_state import ExportState

if TYPE_CHECKING:
    from hh_jupyter.export.http import Connection, Endpoint, Result, SpanTarget
    from hh_jupyter.export.spool import Spool

logger = logging.getLogger(__name__)

MAX_BYTES: Final = 32 * 1024 * 1024
"""Limit for unsent bodies in memory. Above it, bodies stay in the spool only, or the oldest are dropped and counted."""

SMALLEST_REQUEST: Final = 64 * 1024
"""Lower bound of the size limit, in bytes, when the backend rejects requests as too large."""

LINGER_SECONDS: Final = 0.1
"""Pause after an export, so that the next one holds more spans. Neither full requests nor a flush wait for it."""

MAX_CONCURRENT: Final = 4
"""Number of requests at once, once the backend is slow."""

SLOW_SECONDS: Final = 0.02
"""If a request takes longer than this, others are sent beside it until the backend is fast again."""

POLL_SECONDS: Final = 0.01
"""Pause before the next look while all requests in flight are still preparing their connection."""

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

MAX_REASONS: Final = 20
"""Number of reasons that are logged per destination, because a backend may vary the text of each."""

FAILURES_TO_LOG: Final = 2
"""Failures in a row that count as an outage. A retry usually fixes a single failure."""

TOO_MUCH: Final = "the in-memory limit for unsent spans was reached"
NO_SESSION: Final = "the span has no session"
DELETED: Final = "deleted by %hh clear"


class Flush:
    """A wait for the results of everything that some destinations held when it began.

    Args:
        seconds: time limit of the caller, who does not wait longer for the answer.
        asked: the caller reports the answer. If not, failures stay recorded for the next flush.

    Attributes:
        answer: True if everything was accepted and nothing was rejected or lost since the last flush that was asked.
        deadline: when the time limit has passed, on the `time.monotonic` clock.
    """

    def __init__(self, seconds: float, *, asked: bool) -> None:
        self.answer: Answer[bool] = Answer()
        self.asked = asked
        self.deadline = time.monotonic() + seconds
        self._waiting: set[Row] = set()
        self._destinations: list[Destination] = []
        self._bad = 0
        self._seen: dict[Destination, int] = {}

    @property
    def expired(self) -> bool:
        """Whether the time limit has passed."""
        return time.monotonic() > self.deadline

    @property
    def answered(self) -> bool:
        """Whether the answer is given."""
        return self.answer.given

    def begin(self, destinations: Sequence[Destination]) -> None:
        """Make everything at these destinations due, and wait for it."""
        if self.expired:
            return
        self._destinations = list(destinations)
        for destination in destinations:
            self._waiting.update(row for row in destination.unsettled() if not row.background)
            destination.make_due()
            if self.asked:
                self._bad += destination.bad - destination.reported
                self._seen[destination] = destination.bad
            destination.flushes.append(self)
        self.check()

    def settled(self, row: Row, bad: bool) -> None:
        """Note the result of a row."""
        self._waiting.discard(row)
        self._bad += bad and self.asked

    def replaced(self, row: Row, pieces: Iterable[Row]) -> None:
        """Wait for the pieces of a row that was cut."""
        if row in self._waiting:
            self._waiting.discard(row)
            self._waiting.update(pieces)

    def lost(self) -> None:
        """Note data that was lost before it became a row."""
        self._bad += self.asked

    def see(self, destination: Destination) -> None:
        """Count what this destination has rejected or dropped so far as part of the answer, if there is still time."""
        if self.asked and not self.expired:
            self._seen[destination] = destination.bad

    def report(self) -> None:
        """Note that the caller has the answer. If an interrupt ended its wait, the next flush reports the same."""
        for destination, bad in self._seen.items():
            destination.reported = max(destination.reported, bad)

    def follow(self, successor: Destination) -> None:
        """Wait for rows that have moved to another destination."""
        if successor not in self._destinations:
            self._destinations.append(successor)
            successor.flushes.append(self)

    def check(self) -> None:
        """Answer if everything is settled or the time limit has passed."""
        if self._waiting and not self.expired:
            return
        done = not self._waiting and not self._bad and not any(one.held_back for one in self._destinations)
        for destination in self._destinations:
            if self in destination.flushes:
                destination.flushes.remove(self)
        self.answer.give(done)


class Destinations:
    """The destinations of this process, and what they share.

    Args:
        ring: makes the worker call `take_changes` and `take_cuts` soon.

    Attributes:
        changed: guards everything here. Only the worker and the senders take it: the program's threads never do.
        active: those that senders serve.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        self.changed = threading.Condition(threading.Lock())
        self.active: list[Destination] = []
        self._ring = ring
        self._serials = itertools.count(1)
        self._changes: list[tuple[Spool, int, State | None, str | None]] = []
        self._cuts: list[tuple[Destination, Batch]] = []
        self._moves: list[tuple[Destination, list[int]]] = []
        self._news: deque[tuple[int, str]] = deque()

    def next_serial(self) -> int:
        """Return the next position in the order of arrival."""
        return next(self._serials)

    def note_change(self, spool: Spool | None, row: Row, state: State | None, reason: str | None) -> None:
        """Note the new state of a row for the spool; None deletes it."""
        if spool is not None and row.key is not None:
            if not self._changes:
                self._ring()
            self._changes.append((spool, row.key, state, reason))

    def take_changes(self) -> list[tuple[Spool, int, State | None, str | None]]:
        """Remove and return the changes for the spool."""
        with self.changed:
            changes, self._changes = self._changes, []
            return changes

    def note_move(self, destination: Destination, keys: Iterable[int]) -> None:
        """Note that the rows with these keys belong to another destination."""
        self._moves.append((destination, list(keys)))
        self._ring()

    def take_moves(self) -> list[tuple[Destination, list[int]]]:
        """Remove and return the moves, which come after all changes so far."""
        with self.changed:
            moves, self._moves = self._moves, []
            return moves

    def note_cut(self, destination: Destination, batch: Batch) -> None:
        """Ask the worker to cut the single row of a batch in two; see `Destination.put_pieces`."""
        self._cuts.append((destination, batch))
        self._ring()

    def take_cuts(self) -> list[tuple[Destination, Batch]]:
        """Remove and return the batches whose row must be cut."""
        with self.changed:
            cuts, self._cuts = self._cuts, []
            return cuts

    def keep_within(self, max_bytes: int) -> None:
        """Limit the bodies in memory: forget those that the spool holds, then drop the oldest rows."""
        total = sum(one.bytes for one in self.active)
        for destination in self.active if total > max_bytes else ():
            total -= destination.forget_bodies(total - max_bytes)
        while total > max_bytes:
            fullest = max(self.active, key=lambda one: one.bytes)
            dropped = fullest.drop_oldest()
            if not dropped:
                return
            total -= dropped

    def log(self, level: int, text: str) -> None:
        """Log a line as soon as the lock is released, because a log handler may run any code."""
        self._news.append((level, text))

    def tell(self) -> None:
        """Write the log lines. Do not hold the lock here."""
        while self._news:
            try:
                level, text = self._news.popleft()
            except IndexError:  # Another thread has written it.
                return
            quiet = _log_is_quiet or _KERNEL in sys.modules
            if not _log_is_off:
                with process.taking_shared_locks(), suppress(Exception):  # boundary: a handler of the program's.
                    logger.log(logging.DEBUG if quiet else level, "%s", text)


_KERNEL: Final = "ipykernel.kernelapp"
"""If this module is loaded, log output of a thread would appear under whichever cell is running."""

_log_is_quiet = _log_is_off = False


def set_log_quiet(quiet: bool) -> None:
    """Set whether the notebook extension shows the state of the export. If so, threads log at debug level only."""
    global _log_is_quiet
    _log_is_quiet = quiet


def switch_log_off() -> None:
    """Log nothing from now on: a signal may have stopped the main thread inside a log handler's lock."""
    global _log_is_off
    _log_is_off = True


class Destination:
    """Where the rows of one tracer go: their queue, the rows in flight, the rejected rows, and the counts.

    Args:
        destinations: what all destinations of this process share.
        host: host of the backend; None for rows that stay on this machine.
        endpoint: builds the requests; None for rows that stay on this machine.
        stored_as: URL and key, which name the destination in the spool; None for rows that stay on this machine.
        spool: holds the rows on disk, if configured.
        accepts_requests: accepts session starts, updates and events. A plain OpenTelemetry backend accepts only spans.

    Attributes:
        key_rejected: why nothing is sent, after the backend rejected the key; None if it did not.
        bad, reported: number of rows that were rejected or dropped, and how many of these a flush has reported.
        bytes: total size of the bodies in memory.
        other_ids: session ids assigned by the backend, by the original id.
        overdue: a flush ran out of time while requests were in flight, which did not end since.
    """

    def __init__(
        self,
        destinations: Destinations,
        host: str | None,
        settings: Any,
        *,
        endpoint: Endpoint | None = None,
        stored_as: tuple[str, str] | None = None,
        spool: Spool | None = None,
        accepts_requests: bool = True,
    ) -> None:
        self.host, self.stored_as, self.spool = host, stored_as, spool
        self._endpoint = endpoint
        self.key_rejected: str | None = None
        self.bad = self.reported = self.bytes = 0
        self.overdue = False
        self.flushes: list[Flush] = []
        self._destinations, self._accepts_requests = destinations, accepts_requests
        self._circuit = Circuit()
        self._queue = Queue(settings)
        self._trouble: str | None = None
        self._counts = Counts()
        self._deferred: dict[str, Row] = {}
        self._rejected: deque[Row] = deque()
        self._flights: list[Batch] = []
        self._cutting: list[Batch] = []
        self._slow = False
        self.other_ids: dict[str, str] = {}
        self._successor: Destination | None = None
        self._next_key: Destination | None = None
        self._outage: str | None = None
        self._logged: set[str] = set()

    # Any thread, without the lock

    def state(self, cell: str | None = None) -> ExportState:
        """Return the export state of one cell's spans, or of all spans."""
        spans = self._counts.spans(cell)
        requests = self._counts.requests() if cell is None else Count()
        rejected = (spans.rejected_reason or requests.rejected_reason) if spans.rejected or requests.rejected else None
        dropped = (spans.dropped_reason or requests.dropped_reason) if spans.dropped or requests.dropped else None
        failing = bool(self._circuit.failures or self.key_rejected)
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
        return not self.overdue and self.key_rejected is None and self._circuit.may_send(time.monotonic())

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
        return bool(self._flights)

    @property
    def held_back(self) -> bool:
        """Whether rows are kept until there is another key."""
        return self.key_rejected is not None and bool(self._rejected)

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

    def count_made(self, cell: str | None, spans: int, *, elsewhere: bool = False) -> None:
        """Count finalized spans before they are added, or spans that another exporter sends to this destination."""
        count = self._counts.elsewhere if elsewhere else self._counts.made
        count(cell, spans)

    def note_lost(self, reason: str) -> None:
        """Record data that was lost before it became a row. The next flush returns False."""
        self._note_bad(None)
        self._trouble = reason
        self._log_reason(reason)

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
        for row in rows if self.host is not None else ():
            if row.kind == "session_start" and self._queue.has_start(row):
                self._destinations.note_change(self.spool, row, None, None)
                continue
            if row.kind != "spans":
                self._counts.request_made()
            self._enter(row)
            if not row.session_id and self._accepts_requests:
                self._drop(row, NO_SESSION)
            elif self.key_rejected is not None:
                self._reject(row, self.key_rejected)
            else:
                self._queue.append(row)
        self._destinations.keep_within(MAX_BYTES)

    def adopt(self, rows: Iterable[Row]) -> None:
        """Queue rows from disk. Those with a reason stay rejected, and are no failure of the next flush."""
        for row in rows:
            if row.kind == "spans":
                self.count_made(row.cell, row.spans)
            if row.reason is None:
                self.add([row])
                continue
            if row.kind != "spans":
                self._counts.request_made()
            self._enter(row)
            row.background = True
            self._reject(row, row.reason, stored=True)

    def _enter(self, row: Row) -> None:
        row.added = time.monotonic()
        row.serial = self._destinations.next_serial()
        self.bytes += len(row.body)

    # The next request

    def take(self, now: float) -> Batch | None:
        """Return the next request, or None if none is due. The caller passes its result to `settle`."""
        if self._pause(now):
            return None
        self._again([row for row in self._rejected if row.background and 0.0 < row.not_before <= now], background=True)
        if not self._circuit.may_send(now):
            return None
        spans_first = self._circuit.failed_kind not in (None, "spans")  # The other endpoint may answer.
        batch = self._take_spans(now) if spans_first else self._queue.take_request(now)
        batch = batch or (self._queue.take_request(now) if spans_first else self._take_spans(now))
        if batch is not None:
            batch.taken, batch.sending_since, batch.probe = now, 0.0, self._circuit.open
            self._circuit.probing = self._circuit.probing or batch.probe
            self._flights.append(batch)
        return batch

    def _take_spans(self, now: float) -> Batch | None:
        return self._queue.take_spans(now, exporting=self._exporting, new_first=self._circuit.open)

    @property
    def _exporting(self) -> bool:
        return any(batch.of_spans for batch in self._flights)

    def begin(self, batch: Batch) -> None:
        """Note that the connection is ready. The time before is not the backend's."""
        batch.sending_since = time.monotonic()

    def more_due(self, now: float) -> bool:
        """Return whether another request could be sent now, beside those in flight."""
        if self._pause(now) or not self._circuit.may_send(now):
            return False
        return self._queue.due_request(now) is not None or self._queue.spans_due(now, exporting=self._exporting)

    def next_moment(self, now: float) -> float | None:
        """Return when the next request may be due, on the `time.monotonic` clock; None if that takes an event."""
        if (pause := self._pause(now)) and next(self._queue.waiting(), None) is not None:
            return now + pause
        moments = [row.not_before for row in self._rejected if row.background and row.not_before]
        if not (self._circuit.open and self._circuit.probing):
            moments += [
                max(moment, self._circuit.next_moment()) for moment in self._queue.moments(exporting=self._exporting)
            ]
        if not moments:
            return None
        return min(moments)

    def _pause(self, now: float) -> float:
        """Return the seconds until another request may be sent beside those in flight: 0 if now."""
        if not self._flights:
            return 0.0
        most = 1 if self.settings.requests_session is not None else MAX_CONCURRENT  # It may not be thread-safe.
        if len(self._flights) >= most:
            return POLL_SECONDS * 10
        if self._slow:
            return 0.0
        moments = [batch.sending_since for batch in self._flights if batch.sending_since]
        if not moments:
            return POLL_SECONDS
        left = min(moments) + SLOW_SECONDS - now
        self._slow = left <= 0
        return max(0.0, left)

    # Results

    def body_to_send(self, row: Row, body: bytes) -> bytes:
        """Return a row's body with the session id that the backend assigned."""
        other = self.other_ids.get(row.session_id)
        if other is None or row.kind == "session_start":
            return body
        return body.replace(row.session_id.encode(), other.encode())

    def settle(self, batch: Batch, result: Result) -> None:
        """Apply the result of a request from `take`."""
        self._flights.remove(batch)
        self.overdue = False
        self._circuit.probing = self._circuit.probing and not batch.probe
        if batch.sending_since:
            self._slow = time.monotonic() - batch.sending_since >= SLOW_SECONDS
        if batch.of_spans and not self._queue.hurried:
            self._queue.linger_until = time.monotonic() + LINGER_SECONDS
        if result.outcome == "retry":
            self._failed(batch, result)
        else:
            self._answered(batch, result)
        for row in batch.rows:
            self._queue.end_flight(row)
        if self.key_rejected is not None and self._next_key is not None:
            self.move_to(self._next_key.final)
        for flush in list(self.flushes):
            flush.check()

    def _failed(self, batch: Batch, result: Result) -> None:
        reason = self._trouble = result.reason or "rejected"
        self._circuit.failed(batch.rows[0].kind, result, batch.taken)
        if self._circuit.failures >= FAILURES_TO_LOG and self._outage is None:
            self._outage = reason
            kept = "spans are kept and will be sent when it is reachable again"
            self._destinations.log(logging.WARNING, f"{reason}; {kept}")
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
                self.key_rejected = reason
            for row in [*batch.rows, *(self._queue.drain() if self.key_rejected else ())]:
                self._reject(row, reason)

    def lose(self, batch: Batch, rows: Collection[Row], reason: str) -> None:
        """Drop the rows of a request whose bodies cannot be read any more, and put the others back."""
        self._flights.remove(batch)
        self._circuit.probing = self._circuit.probing and not batch.probe
        for row in rows:
            self._drop(row, reason)
            self._queue.end_flight(row)
        batch.rows = [row for row in batch.rows if row not in rows]
        if batch.rows:
            self._queue.put_back(batch)
        for flush in list(self.flushes):
            flush.check()

    def _sent(self, batch: Batch, result: Result) -> None:
        if self._outage is not None:
            self._outage = None
            self._destinations.log(logging.INFO, f"{self.host} is reachable again")
        self._circuit.accepted(batch.rows[0].kind)
        self._counts.sent(batch.rows, result.rejected, result.reason)
        if result.rejected:
            self._note_bad(None)
            self._log_reason(result.reason or "")
        for row in batch.rows:
            self.bytes -= len(row.body)
            self._queue.end_start(row)
            lost = result.reason if result.rejected else None
            self._destinations.note_change(self.spool, row, "rejected" if lost else "sent", lost)
            for flush in self.flushes:
                flush.settled(row, bad=False)
        if batch.family is not None:
            batch.family.accepted = True
            batch.family.rejections_left += FAMILY_REJECTIONS // 2
        if batch.rows[0].kind == "session_start":
            self._session_started(batch.rows[0], result.other_session)

    def _session_started(self, row: Row, other_id: str | None) -> None:
        if other_id is None:
            self.other_ids.pop(row.session_id, None)
        else:
            self.other_ids[row.session_id] = other_id
            if len(self.other_ids) > MAX_OTHER_IDS:
                del self.other_ids[next(iter(self.other_ids))]
            text = f"the backend stores session {row.session_id} as {other_id}; its spans are sent under that id"
            self._destinations.log(logging.INFO, text)
        self._again([one for one in self._rejected if one.background and one.not_before], background=True)

    def _retry(self, batch: Batch, result: Result, reason: str) -> None:
        if self.key_rejected is not None:
            for row in batch.rows:
                self._reject(row, self.key_rejected)
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
            self._reject(batch.rows[0], reason)
        else:
            self._queue.put_back(batch)

    def _retry_request(self, row: Row, result: Result, reason: str) -> None:
        self._note_failure(row)
        works = self._circuit.accepted_since(row.failed_at)
        is_start = row.kind == "session_start"
        if row.background or (works and row.tries > (START_TRIES if is_start else REQUEST_TRIES)):
            self._reject(row, reason, stored=True)
            row.background, row.not_before = True, time.monotonic() + GIVEN_UP_SECONDS
            return
        if is_start and row.tries >= START_TRIES and (result.reached or result.timed_out or works):
            self._queue.end_start(row)
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
            self._destinations.note_cut(self, batch)
            return
        middle = _middle(batch.rows)
        for rows in (batch.rows[:middle], batch.rows[middle:]):
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
        if not pieces:
            self._reject(row, self._trouble or "rejected")
        self.bytes -= len(row.body) if pieces else 0
        for piece in pieces:
            piece.added, piece.serial = row.added, row.serial
            self.bytes += len(piece.body)
            if self.key_rejected is None:
                self._put_part(batch, [piece])
            else:
                self._reject(piece, self.key_rejected)
        for flush in list(self.flushes):
            flush.replaced(row, pieces)
            flush.check()

    # Rows that are not sent

    def _reject(self, row: Row, reason: str, *, stored: bool = False) -> None:
        """Keep a row without retrying it. With `stored`, its row on disk stays as it is."""
        self._note_bad(row)
        self._queue.end_start(row)
        row.reason, row.not_before = reason, 0.0
        self._rejected.append(row)
        self._counts.rejected(row, reason)
        self._log_reason(reason)
        if not stored:
            self._destinations.note_change(self.spool, row, "rejected", reason)

    def _drop(self, row: Row, reason: str) -> None:
        """Lose a row, and count it."""
        self._note_bad(row)
        self._queue.end_start(row)
        self.bytes -= len(row.body)
        row.body = b""
        self._counts.dropped(row, reason)
        self._log_reason(f"dropped: {reason}")
        self._destinations.note_change(self.spool, row, "rejected", reason)

    def _note_bad(self, row: Row | None) -> None:
        """Let the flush that waits for the row report it, or else the next one."""
        if row is not None and row.background:
            return
        self.bad += 1
        for flush in self.flushes:
            if row is not None:
                flush.settled(row, bad=True)
            else:
                flush.lost()
            flush.see(self)

    def _again(self, rows: Sequence[Row], *, background: bool) -> None:
        """Queue rejected rows once more."""
        if not rows:
            return
        chosen = set(rows)
        self._rejected = deque(row for row in self._rejected if row not in chosen)
        for row in sorted(rows, key=lambda row: row.serial):
            self._counts.no_longer_rejected(row)
            row.reason, row.background, row.gave_way = None, background, False
            row.added = row.not_before = row.failed_at = 0.0
            row.tries, row.serial = 0, self._destinations.next_serial()
            self._destinations.note_change(self.spool, row, "waiting", None)
            self._queue.append(row)

    # Changes from outside

    def release(self) -> None:
        """Retry everything that was rejected, given up or paused, because the answer may be another one now."""
        self.key_rejected = None
        self._circuit.reset()
        self._queue.make_due()
        self._again(list(self._rejected), background=False)

    def hurry(self) -> None:
        """Send all rows from now on without waiting for more, because the program is ending."""
        self._queue.hurried, self._queue.linger_until = True, 0.0
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
        if self.key_rejected is not None:
            self.move_to(successor)

    def reopen(self) -> None:
        """Take rows again, because the settings name this destination once more."""
        self._successor = self._next_key = None

    def move_to(self, successor: Destination) -> None:
        """Give all rows, and those still to come, to the destination with the new key."""
        self._successor = successor
        self._destinations.note_move(successor, self.rows_on_disk())
        rows = sorted([*self._rejected, *self._queue.drain()], key=lambda row: row.serial)
        for row in self._rejected:
            self._counts.no_longer_rejected(row)
        self._rejected.clear()
        for row in rows:
            self._counts.moved(row)
            self.bytes -= len(row.body)
            row.reason, row.background, row.gave_way = None, False, False
            row.not_before = row.failed_at = 0.0
            row.tries = 0
            if row.kind == "spans":
                successor.count_made(row.cell, row.spans)
        for start in self._deferred.values():
            successor.defer(start)
        self._deferred.clear()
        successor.add(rows)
        for flush in self.flushes:
            flush.follow(successor)

    def unsettled(self) -> Iterator[Row]:
        """Yield the rows that wait or are in flight."""
        yield from self._queue.waiting()
        for batch in itertools.chain(self._flights, self._cutting):
            yield from batch.rows

    def rows(self) -> list[Row]:
        """Return all rows: those that wait, are in flight or were rejected."""
        return [*self.unsettled(), *self._rejected]

    def rows_on_disk(self) -> Collection[int]:
        """Return the keys of the rows that the spool holds."""
        return [row.key for row in self.rows() if row.key is not None]

    # Memory

    def forget_bodies(self, size: int) -> int:
        """Forget up to `size` bytes of bodies that the spool holds, the newest first; return the number of bytes."""
        freed = 0
        for row in itertools.chain(self._queue.newest_first(), self._rejected):
            if freed >= size:
                break
            if row.key is not None and row.body:
                freed += len(row.body)
                row.body = b""
        self.bytes -= freed
        return freed

    def delete(self, session_ids: Collection[str]) -> None:
        """Delete the rows of these sessions that wait or were rejected, in memory. No flush reports them as lost."""
        for session_id in session_ids:
            self._deferred.pop(session_id, None)
        rejected = [row for row in self._rejected if row.session_id in session_ids]
        for row in rejected:
            self._rejected.remove(row)
            self._counts.no_longer_rejected(row)
        for row in [*self._queue.take_sessions(session_ids), *rejected]:
            self._queue.end_start(row)
            self.bytes -= len(row.body)
            row.body = b""
            self._counts.dropped(row, DELETED)
            for flush in self.flushes:
                flush.settled(row, bad=False)
        for flush in list(self.flushes):
            flush.check()

    def drop_oldest(self) -> int:
        """Drop the oldest row: of those rejected, then spans, then requests. Return its size in memory, 0 for none."""
        row = next((row for row in itertools.chain(self._rejected, self._queue.waiting()) if row.body), None)
        if row is None:
            return 0
        size = len(row.body)
        if row.reason is not None and row in self._rejected:
            self._rejected.remove(row)
            self._counts.no_longer_rejected(row)
        else:
            self._queue.remove(row)
        self._drop(row, TOO_MUCH)
        return size

    # Log

    def _log_reason(self, reason: str) -> None:
        """Log a reason once."""
        if reason not in self._logged and len(self._logged) < MAX_REASONS:
            self._logged.add(reason)
            self._destinations.log(logging.WARNING, reason)


def _middle(rows: Sequence[Row]) -> int:
    """Return the index that leaves about half of the spans, and at least one row, on either side."""
    half, seen = sum(row.spans for row in rows) / 2, 0
    for index, row in enumerate(rows[:-1], 1):
        seen += row.spans
        if seen >= half:
            return index
    return len(rows) - 1
