"""A flush: the wait for the results of everything that some destinations held when it began."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from hh_jupyter.export.model import Row
from hh_jupyter.export.worker import Answer


class Flush:
    """A wait for the results of everything that some destinations held when it began.

    Args:
        seconds: time limit of the caller, who does not wait longer for the answer.
        asked: the caller reports the answer. If not, failures stay recorded for the next flush.

    Attributes:
        begun: given when everything that was put before the flush is handled: with a spool, it is on disk.
        answer: True if everything was accepted and nothing was rejected or lost since the last flush that was asked.
        deadline: when the time limit has passed, on the `time.monotonic` clock.
    """

    def __init__(self, seconds: float, *, asked: bool) -> None:
        self.begun: Answer[None] = Answer()
        self.answer: Answer[bool] = Answer()
        self.asked = asked
        self.deadline = time.monotonic() + seconds
        self._waiting: set[Row] = set()
        self._joined: list[Flushes] = []
        self._failures = 0
        self._seen: dict[Flushes, int] = {}

    @property
    def expired(self) -> bool:
        """Whether the time limit has passed."""
        return time.monotonic() > self.deadline

    def report(self) -> None:
        """Note that the caller has the answer. If an interrupt ended its wait, the next flush reports the same."""
        for flushes, failures in self._seen.items():
            flushes.reported = max(flushes.reported, failures)

    def check(self) -> None:
        """Answer if everything is settled or the time limit has passed."""
        if self._waiting and not self.expired:
            return
        done = not self._waiting and not self._failures and not any(one.held_back() for one in self._joined)
        for flushes in self._joined:
            flushes.leave(self)
        self.answer.give(done)


class Flushes:
    """The flushes that wait for one destination, and its failures that none has reported yet.

    Args:
        held_back: whether the destination keeps rows until there is another key.

    Attributes:
        reported: the number of failures that a flush has reported.
    """

    def __init__(self, held_back: Callable[[], bool]) -> None:
        self.held_back = held_back
        self.reported = self._failures = 0
        self._flushes: list[Flush] = []

    def join(self, flush: Flush, rows: Iterable[Row] = ()) -> None:
        """Let a flush wait for these rows of the destination."""
        if self in flush._joined:
            return
        flush._joined.append(self)
        flush._waiting.update(rows)
        if flush.asked:
            flush._failures += self._failures - self.reported
            flush._seen[self] = self._failures
        self._flushes.append(flush)

    def leave(self, flush: Flush) -> None:
        """Let a flush no longer wait."""
        if flush in self._flushes:
            self._flushes.remove(flush)

    def settled(self, row: Row) -> None:
        """Note that a row was accepted, or deleted on request."""
        for flush in self._flushes:
            flush._waiting.discard(row)

    def failed(self, row: Row | None = None) -> None:
        """Let the flush that waits for a row report that it failed, or else the next one; None if it became no row."""
        self._failures += 1
        for flush in self._flushes:
            if row is not None:
                flush._waiting.discard(row)
            if flush.asked:
                flush._failures += 1
                if not flush.expired:
                    flush._seen[self] = self._failures

    def replaced(self, row: Row, pieces: Iterable[Row]) -> None:
        """Let flushes wait for the pieces of a row that was cut."""
        for flush in self._flushes:
            if row in flush._waiting:
                flush._waiting.discard(row)
                flush._waiting.update(pieces)

    def follow(self, other: Flushes) -> None:
        """Let flushes wait for the rows that have moved to another destination."""
        for flush in self._flushes:
            if other not in flush._joined:
                flush._joined.append(other)
                other._flushes.append(flush)

    def check(self) -> None:
        """Answer the flushes whose rows are settled, or whose time limit has passed."""
        for flush in list(self._flushes):
            flush.check()
