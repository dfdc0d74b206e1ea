"""What follows from results outside the lock of the destinations: changes on disk, rows to cut, lines in the log.

The senders note it with the lock; the worker takes what concerns the disk.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from hh_jupyter.export import process
from hh_jupyter.export.model import Row, State
from hh_jupyter.export.queue import Batch

if TYPE_CHECKING:
    from hh_jupyter.export.spool import Spool

logger = logging.getLogger(__name__)

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


class RowOwner(Protocol):
    """What the worker needs of a destination."""

    @property
    def spool(self) -> Spool | None: ...
    @property
    def stored_as(self) -> tuple[str, str] | None: ...
    def put_pieces(self, batch: Batch, pieces: Sequence[Row]) -> None: ...


class Changes:
    """What the worker has to do, in this order.

    Attributes:
        marks: new states of rows by spool and key; None deletes the row.
        moves: keys of rows that belong to another destination from now on.
        cuts: batches of a single row, which must be cut in two; see `RowOwner.put_pieces`.
    """

    def __init__(self) -> None:
        self.marks: list[tuple[Spool, int, State | None, str | None]] = []
        self.moves: list[tuple[RowOwner, list[int]]] = []
        self.cuts: list[tuple[RowOwner, Batch]] = []


class FollowUps:
    """What follows from results, until the worker or the thread that settled them does it.

    Args:
        ring: makes the worker take the changes soon.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._changes = Changes()
        self._lines: deque[tuple[int, str]] = deque()
        self._writing: list[int] = []
        """The threads that are inside a log handler, once for each call."""
        self._forking: set[int] = set()

    def mark(self, spool: Spool | None, row: Row, state: State | None, reason: str | None = None) -> None:
        """Note the new state of a row for the spool; None deletes it."""
        if spool is not None and row.key is not None:
            if not self._changes.marks:
                self._ring()
            self._changes.marks.append((spool, row.key, state, reason))

    def move(self, owner: RowOwner, rows: Iterable[Row]) -> None:
        """Note that these rows belong to another destination."""
        self._changes.moves.append((owner, [row.key for row in rows if row.key is not None]))
        self._ring()

    def cut(self, owner: RowOwner, batch: Batch) -> None:
        """Ask for two pieces of the single row of a batch."""
        self._changes.cuts.append((owner, batch))
        self._ring()

    def take(self) -> Changes:
        """Remove and return the changes. With the lock of the destinations."""
        changes, self._changes = self._changes, Changes()
        return changes

    def log(self, level: int, text: str) -> None:
        """Note a line for the log, which is written without the lock, because a log handler may run any code."""
        self._lines.append((level, text))

    def write_log(self) -> None:
        """Write the log lines; during a fork, leave them for later. Do not hold the lock here."""
        while self._lines:
            self._writing.append(threading.get_ident())  # Before the question: `hold_log` asks in the other order.
            try:
                if self._forking:
                    return
                self._write_line()
            finally:
                self._writing.remove(threading.get_ident())

    def _write_line(self) -> None:
        try:
            level, text = self._lines.popleft()
        except IndexError:  # Another thread has written it.
            return
        quiet = _log_is_quiet or _KERNEL in sys.modules
        if not _log_is_off:
            with process.taking_shared_locks(), suppress(Exception):  # boundary: a handler of the program's.
                logger.log(logging.DEBUG if quiet else level, "%s", text)

    def hold_log(self, seconds: float) -> None:
        """Before a fork: wait until no other thread is inside a log handler, and let none in until `release_log`.

        A forked child would wait forever for what such a thread had locked, such as the buffer of standard error.

        Args:
            seconds: longest wait: a handler of the program's may take any time.
        """
        own, deadline = threading.get_ident(), time.monotonic() + seconds
        self._forking.add(own)
        while any(one != own for one in tuple(self._writing)) and time.monotonic() < deadline:
            time.sleep(0.001)

    def release_log(self) -> None:
        """After the fork, in the parent: what was left is written when a sender tries again, or spans arrive."""
        self._forking.discard(threading.get_ident())
