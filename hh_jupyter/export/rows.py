"""The rows of one destination: those that wait, those that were rejected, and their counts.

Each change of a row's state is made here, so that queue, counts, flushes and spool agree. Only the worker and the
sender threads call the methods, with the lock of `Destinations`.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from hh_jupyter.export.counts import Counts
from hh_jupyter.export.flush import Flushes
from hh_jupyter.export.follow_ups import FollowUps
from hh_jupyter.export.model import Row
from hh_jupyter.export.queue import SERIALS, Batch, Queue

if TYPE_CHECKING:
    from hh_jupyter.export.spool import Spool

MAX_REASONS: Final = 20
"""Number of reasons that are logged per destination, because a backend may vary the text of each."""

TOO_MUCH: Final = "the in-memory limit for unsent spans was reached"
NO_SESSION: Final = "the span has no session"
DELETED: Final = "deleted by %hh clear"


class Rows:
    """The rows of one destination, except for those in flight.

    Args:
        follow_ups: receive what is to be done without the lock.
        settings: of the requests.
        spool: holds the rows on disk, if configured.
        need_session: drop rows without a session.

    Attributes:
        queue: those that wait.
        rejected: those that are kept without being retried, or are retried in the background.
        counts: of all rows.
        flushes: those that wait for rows of this destination.
        key_rejected: why all rows are rejected until there is another key; None if they are not.
        bytes: total size of the bodies in memory, also of those in flight.
    """

    def __init__(self, follow_ups: FollowUps, settings: Any, spool: Spool | None, *, need_session: bool) -> None:
        self.queue, self.counts = Queue(settings), Counts()
        self.rejected: deque[Row] = deque()
        self.key_rejected: str | None = None
        self.flushes = Flushes(lambda: self.key_rejected is not None and bool(self.rejected))
        self.bytes = 0
        self._follow_ups, self._spool, self._need_session = follow_ups, spool, need_session
        self._logged: set[str] = set()

    # Incoming

    def add(self, rows: Iterable[Row]) -> None:
        """Queue rows in order. Their spans were counted when they were finalized."""
        for row in rows:
            if row.kind == "session_start" and self.queue.has_start(row):
                self._follow_ups.mark(self._spool, row, None)
                continue
            self._enter(row)
            if not row.session_id and self._need_session:
                self.drop(row, NO_SESSION)
            elif self.key_rejected is not None:
                self.reject(row, self.key_rejected)
            else:
                self.queue.append(row)

    def adopt(self, rows: Iterable[Row]) -> None:
        """Queue rows from disk. Those with a reason stay rejected, and are no failure of the next flush."""
        for row in rows:
            if row.kind == "spans":
                self.counts.made(row.cell, row.spans)
            if row.reason is None:
                self.add([row])
            else:
                self._enter(row)
                row.background = True
                self.reject(row, row.reason, stored=True)

    def _enter(self, row: Row) -> None:
        if row.kind != "spans":
            self.counts.request_made()
        row.added, row.serial = time.monotonic(), next(SERIALS)
        self.bytes += len(row.body)

    # Results

    def sent(self, batch: Batch, rejected: int, reason: str | None) -> None:
        """Forget the rows of an accepted request.

        Args:
            rejected: number of its spans that the backend rejected without naming them.
            reason: why it rejected them.
        """
        self.counts.sent(batch.rows, rejected, reason)
        if rejected:
            self.lost(reason or "")
        for row in batch.rows:
            self.bytes -= len(row.body)
            self.queue.end_blocking(row)
            self._follow_ups.mark(self._spool, row, "rejected" if rejected else "sent", reason if rejected else None)
            self.flushes.settled(row)

    def lost(self, reason: str) -> None:
        """Let the next flush report data that was lost, and log the reason."""
        self.flushes.failed()
        self._log_reason(reason)

    def reject(self, row: Row, reason: str, *, stored: bool = False) -> None:
        """Keep a row without retrying it. With `stored`, its row on disk stays as it is."""
        self._note_failed(row)
        row.reason, row.not_before = reason, 0.0
        self.rejected.append(row)
        self.counts.rejected(row, reason)
        self._log_reason(reason)
        if not stored:
            self._follow_ups.mark(self._spool, row, "rejected", reason)

    def reject_waiting(self, reason: str) -> None:
        """Reject everything until there is another key."""
        self.key_rejected = reason
        for row in self.queue.drain():
            self.reject(row, reason)

    def drop(self, row: Row, reason: str) -> None:
        """Lose a row, and count it."""
        self._note_failed(row)
        self._forget_body(row)
        self.counts.dropped(row, reason)
        self._log_reason(f"dropped: {reason}")
        self._follow_ups.mark(self._spool, row, "rejected", reason)

    def replace(self, row: Row, pieces: Sequence[Row]) -> None:
        """Put the pieces of a row that was cut in its place; the caller queues them."""
        self.bytes += sum(len(piece.body) for piece in pieces) - len(row.body)
        for piece in pieces:
            piece.added, piece.serial, piece.creates = row.added, row.serial, row.creates
            self.queue.block_updates(piece)
        self.queue.end_blocking(row)
        self.flushes.replaced(row, pieces)

    def _note_failed(self, row: Row) -> None:
        if not row.background:
            self.flushes.failed(row)
        self.queue.end_blocking(row)

    def _forget_body(self, row: Row) -> None:
        self.bytes -= len(row.body)
        row.body = b""

    def _log_reason(self, reason: str) -> None:
        """Log a reason once."""
        if reason not in self._logged and len(self._logged) < MAX_REASONS:
            self._logged.add(reason)
            self._follow_ups.log(logging.WARNING, reason)

    # Rejected rows

    def retry(self, rows: Iterable[Row], *, background: bool) -> None:
        """Queue rejected rows once more. A flush does not wait for those in the background."""
        chosen = set(rows)
        if not chosen:
            return
        self.rejected = deque(row for row in self.rejected if row not in chosen)
        for row in sorted(chosen, key=lambda row: row.serial):
            self.counts.no_longer_rejected(row)
            row.start_over()
            row.background, row.added, row.serial = background, 0.0, next(SERIALS)
            self._follow_ups.mark(self._spool, row, "waiting")
            self.queue.append(row)

    def given_up(self) -> list[Row]:
        """Return the rejected rows that are retried in the background, from `not_before` on."""
        return [row for row in self.rejected if row.background and row.not_before]

    def take_all(self) -> list[Row]:
        """Remove and return all rows in order of arrival, because another destination counts them from now on."""
        rows = sorted([*self.rejected, *self.queue.drain()], key=lambda row: row.serial)
        for row in self.rejected:
            self.counts.no_longer_rejected(row)
        self.rejected.clear()
        for row in rows:
            self.counts.moved(row)
            self.bytes -= len(row.body)
            row.start_over()
            row.background = False
        return rows

    def delete(self, session_ids: Collection[str]) -> None:
        """Delete the rows of these sessions, in memory. No flush reports them as lost."""
        rejected = [row for row in self.rejected if row.session_id in session_ids]
        for row in rejected:
            self.rejected.remove(row)
            self.counts.no_longer_rejected(row)
        for row in [*self.queue.take_sessions(session_ids), *rejected]:
            self.queue.end_blocking(row)
            self._forget_body(row)
            self.counts.dropped(row, DELETED)
            self.flushes.settled(row)
        self.flushes.check()

    # Memory

    def forget_bodies(self, size: int) -> int:
        """Forget up to `size` bytes of bodies that the spool holds, the newest first; return the number of bytes."""
        before = self.bytes
        for row in itertools.chain(self.queue.newest_first(), self.rejected):
            if before - self.bytes >= size:
                break
            if row.key is not None:
                self._forget_body(row)
        return before - self.bytes

    def drop_oldest(self) -> int:
        """Drop the oldest row: of those rejected, then spans, then requests. Return its size in memory, 0 for none."""
        row = next((row for row in itertools.chain(self.rejected, self.queue.oldest_first()) if row.body), None)
        if row is None:
            return 0
        size = len(row.body)
        if row.reason is not None and row in self.rejected:
            self.rejected.remove(row)
            self.counts.no_longer_rejected(row)
        else:
            self.queue.remove(row)
        self.drop(row, TOO_MUCH)
        return size
