"""This process's own file of the spool: made when first needed, written at once, never the cause of an exception."""

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
"""After a file could not be made, so long nobody tries again."""


class _Work(NamedTuple):
    """Something to be done to the file; `failed` is called when it was not done. `fresh`: worth a new file."""

    do: Callable[[SpoolFile], None]
    failed: Callable[[], None] | None = None
    fresh: bool = False


class OwnFile:
    """The file and its lock. Every method may be called from any thread, and in a destructor inside any other.

    Args:
        directory: of the spool.
        max_bytes: what all files of the folder may have together.

    Attributes:
        problem: what is wrong, one sentence; None when nothing is.
        broken: names of damaged files that were set aside.
        forgotten: spans of local records that made room.
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
        """In a forked child: the file is the parent's, and its copy here is never touched again, not even closed."""
        self.lock = ReentrantCondition()
        self._works: deque[_Work] = deque()
        self._open: SpoolFile | None = None
        self.pid = os.getpid()

    def new_key(self) -> int:
        """A key that no other record of this process has or had."""
        return next(self._keys)

    # Changing

    def put(self, records: Sequence[Stored], failed: Callable[[], None]) -> None:
        """Keep records; `failed` is called if they could not be kept."""
        self._do(_Work(lambda file: self._insert(file, records), failed, fresh=True))

    def put_now(self, records: Sequence[Stored], *, instead_of: Path) -> bool:
        """Keep records that are deleted from another file afterwards; False if they could not be kept."""
        kept: list[bool] = []

        def insert(file: SpoolFile) -> None:
            self._insert(file, records, instead_of)
            kept.append(True)

        self._do(_Work(insert, fresh=True))
        return bool(kept)

    def change(self, do: Callable[[SpoolFile], None]) -> None:
        """Do something to the file, if there is one."""
        self._do(_Work(do))

    def _do(self, work: _Work) -> None:
        if self.pid != os.getpid():  # A fork that Python was not told of.
            self.abandon()
        self._works.append(work)
        if self.lock.held():  # A destructor, inside one of the methods here, whose end takes care of it.
            return
        with self.lock:
            self._work_off()

    def _work_off(self) -> None:
        while self._works:
            work = self._works.popleft()
            done = False
            try:
                done = self._attempt(work)
            finally:  # A Ctrl-C, too, leaves no record that believes itself on disk.
                if not done and work.failed is not None:
                    work.failed()

    def ask(self, question: Callable[[SpoolFile], T], otherwise: T) -> T:
        """An answer from the file, or `otherwise` if there is none."""
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
        except Exception:  # boundary: whatever a disk does, it must not stop spans from being sent.
            logger.exception("the spool failed inside hh_jupyter")
            self.problem = "an internal error, see the log"
        return False

    def _note(self, fault: SpoolFault) -> None:
        if fault.trouble == "full":
            self.problem = f"{self.directory} has no room left for what is still to be sent"
        else:
            self.problem = str(fault) if fault.trouble == "other" else f"{self.directory}: {fault}"

    def _insert(self, file: SpoolFile, records: Sequence[Stored], instead_of: Path | None = None) -> None:
        """Insert, making room where there is none: local records go, the oldest first."""
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
        """Bytes that the own file may have: what others leave, but never less than an eighth of all."""
        others = sum(size for path, size in spool_files(self.directory) if path not in without)
        return max(self._max_bytes - others, self._max_bytes // 8)

    # The file itself

    def _file(self, fresh: bool) -> SpoolFile | None:
        if self._open is not None and not self._open.path.exists():
            self._open.close()  # Somebody deleted it, with what was in it.
            self._open = None
        if self._open is None and fresh and not self.closed and time.monotonic() >= self._retry_at:
            self._open = self._made()
        return self._open

    def _made(self) -> SpoolFile:
        from hh_jupyter.delivery.spool.file import SpoolFile  # Loads SQLite: not before there is something to keep.

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
        """A new file with what can still be read of one that something else has damaged."""
        self._open = None
        try:
            new = self._made()
        except SpoolFault:
            damaged.close()  # It stays as it is, for a process that can save it.
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
        """Give the file up: deleted when nothing is left in it, else there for the next process."""
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
