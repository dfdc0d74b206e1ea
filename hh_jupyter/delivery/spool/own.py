"""This process's own spool file: created when first needed, written immediately, never raising an error."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from hh_jupyter.delivery.spool.directory import prepare, set_aside, spool_files
from hh_jupyter.delivery.spool.record import SpoolFault, Stored
from hh_jupyter.records.log import ReentrantCondition

if TYPE_CHECKING:
    from hh_jupyter.delivery.spool.file import SpoolFile

logger = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_SECONDS: Final = 30.0
"""Pause in seconds before creating a file is retried after a failure."""


class _Work(NamedTuple):
    """An operation on the file. `failed` is called if it fails; `fresh`: create the file if there is none."""

    do: Callable[[SpoolFile], None]
    failed: Callable[[], None] | None = None
    fresh: bool = False


class OwnFile:
    """The file and its lock. Thread-safe; a destructor may call any method while another method is running.

    Args:
        directory: folder of the spool.
        max_bytes: size limit of all files in the folder together.

    Attributes:
        problem: the current problem as one sentence; None if there is none.
        broken: names of damaged files that were set aside.
        forgotten: number of spans of local records that were deleted to make room.
    """

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self.directory, self._max_bytes = directory, max_bytes
        self.problem: str | None = None
        self.broken: list[str] = []
        self.forgotten = 0
        self.closed = False
        self._keys = itertools.count(1)
        self._retry_at = 0.0
        self.abandon()

    def abandon(self) -> None:
        """Start without a file. A forked child must not even close the inherited one, which belongs to its parent."""
        self.lock = ReentrantCondition()
        self._works: deque[_Work] = deque()
        self._open: SpoolFile | None = None
        self.pid = os.getpid()

    def new_key(self) -> int:
        """Return a key that this process has not used before."""
        return next(self._keys)

    # Changing

    def put(self, records: Sequence[Stored], failed: Callable[[], None]) -> None:
        """Insert records; `failed` is called if that fails."""
        self._do(_Work(lambda file: self._insert(file, records), failed, fresh=True))

    def put_now(self, records: Sequence[Stored], *, instead_of: Path) -> bool:
        """Insert records that the caller then deletes from the file `instead_of`; return False if that fails."""
        kept: list[bool] = []

        def insert(file: SpoolFile) -> None:
            self._insert(file, records, instead_of)
            kept.append(True)

        self._do(_Work(insert, fresh=True))
        return bool(kept)

    def change(self, do: Callable[[SpoolFile], None]) -> None:
        """Call `do` with the file, if there is one."""
        self._do(_Work(do))

    def _do(self, work: _Work) -> None:
        if self.pid != os.getpid():  # A fork that bypassed Python's fork hooks.
            self.abandon()
        self._works.append(work)
        if self.lock.held():  # In a destructor: the method it interrupted runs the work.
            return
        with self.lock:
            self._work_off()

    def _work_off(self) -> None:
        while self._works:
            work = self._works.popleft()
            done = False
            try:
                done = self._attempt(work)
            finally:  # Also after Ctrl-C, records not on disk must not keep a key.
                if not done and work.failed is not None:
                    work.failed()

    def ask(self, question: Callable[[SpoolFile], T], otherwise: T) -> T:
        """Return the result of a query on the file, or `otherwise` if there is none."""
        if self.pid != os.getpid() or self.lock.held():
            return otherwise
        answers: list[T] = []
        self._do(_Work(lambda file: answers.append(question(file))))
        return answers[-1] if answers else otherwise

    def _attempt(self, work: _Work) -> bool:
        try:
            file = self._file(work.fresh)
            if file is None:
                return False
            try:
                work.do(file)
            except SpoolFault as fault:
                if fault.trouble != "broken":
                    raise
                work.do(self._renewed(file))
            if work.fresh:
                self.problem = None
            return True
        except SpoolFault as fault:
            self._note(fault)
        except ImportError:
            self.problem = "this Python has no SQLite"
        except Exception:  # boundary: a failing disk must not prevent spans from being sent.
            logger.exception("the spool failed inside hh_jupyter")
            self.problem = "an internal error, see the log"
        return False

    def _note(self, fault: SpoolFault) -> None:
        if fault.trouble == "full":
            self.problem = f"{self.directory} has no room left for what is still to be sent"
        else:
            self.problem = str(fault) if fault.trouble == "other" else f"{self.directory}: {fault}"

    def _insert(self, file: SpoolFile, records: Sequence[Stored], instead_of: Path | None = None) -> None:
        """Insert records; if there is no room, delete local records, the oldest first."""
        need = sum(record.size for record in records)
        for attempt in itertools.count():
            try:
                file.insert(records)
                return
            except SpoolFault as fault:
                if fault.trouble != "full" or need > self._max_bytes:
                    raise
                if attempt == 0:
                    file.limit(self._room(file.path, instead_of))
                    continue
                removed = file.remove_oldest(max(need, self._max_bytes // 16), local_only=True)
                if removed is None:
                    raise
                self.forgotten += removed

    def _room(self, *without: Path | None) -> int:
        """Return the size limit of our file in bytes: what other files leave, but at least an eighth of the total."""
        others = sum(size for path, size in spool_files(self.directory) if path not in without)
        return max(self._max_bytes - others, self._max_bytes // 8)

    # The file itself

    def _file(self, fresh: bool) -> SpoolFile | None:
        if self._open is not None and not self._open.path.exists():
            self._open.close()  # It was deleted, with its records.
            self._open = None
        if self._open is None and fresh and not self.closed and time.monotonic() >= self._retry_at:
            self._open = self._made()
        return self._open

    def _made(self) -> SpoolFile:
        from hh_jupyter.delivery.spool.file import SpoolFile  # Imported late: it loads SQLite.

        self._retry_at = time.monotonic() + RETRY_SECONDS
        prepare(self.directory)
        try:
            made = SpoolFile.create(self.directory, self._room())
        except OSError as error:
            text = f"{self.directory} takes no file ({error.strerror or error})"
            raise SpoolFault("other", text) from error
        except SpoolFault as fault:
            if fault.trouble == "full":
                raise
            text = f"{self.directory} is on a file system without locks, or one that SQLite cannot use ({fault})"
            raise SpoolFault("other", text) from fault
        self._retry_at = 0.0
        return made

    def _renewed(self, damaged: SpoolFile) -> SpoolFile:
        """Replace a damaged file: return a new one with the records that are still readable."""
        self._open = None
        try:
            new = self._made()
        except SpoolFault:
            damaged.close()  # It stays unchanged for a process that can repair it.
            raise
        try:
            for record in damaged.readable():
                new.insert([record])
        finally:
            damaged.close()
            aside = set_aside(damaged.path)
            self.broken.append(aside.name if aside is not None else damaged.path.name)
            self._open = new
        return new

    def close(self) -> None:
        """Close the file; delete it if it is empty, otherwise leave it for the next process."""
        if self.pid != os.getpid():
            self.abandon()
        self.change(_end)
        self._open, self.closed = None, True


def _end(file: SpoolFile) -> None:
    try:
        empty = file.is_empty()
    except SpoolFault:
        empty = False
    if empty:
        file.delete()
    else:
        file.close()
