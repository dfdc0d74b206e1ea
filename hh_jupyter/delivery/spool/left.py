"""Read, repair and limit the files that dead processes left in the spool's folder."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from hh_jupyter.delivery.spool.directory import broken_files, prepare, set_aside, spool_files, tidy
from hh_jupyter.delivery.spool.record import SpoolFault, Stored

if TYPE_CHECKING:
    from hh_jupyter.delivery.spool.file import SpoolFile

T = TypeVar("T")

TRIES: Final = 3
PAUSE_SECONDS: Final = (0.02, 0.15)

CHUNK_BYTES: Final = 8 * 1024 * 1024
"""Records are copied between files in chunks of this size."""


class LeftFiles:
    """The files of dead processes, opened one at a time; files of live processes are never read.

    Attributes:
        dropped: number of unsent spans that were deleted because of their age or the size limit.
        forgotten: number of spans of the local trace store that were deleted for the same reasons.
        broken: names of damaged files that were set aside.
        problem: why the folder cannot be used; None if there is no problem.
        lock: held while a file is open.
    """

    def __init__(self, directory: Path, max_bytes: int, max_age_seconds: float) -> None:
        self._directory, self._max_bytes, self._max_age = directory, max_bytes, max_age_seconds
        self.dropped = self.forgotten = 0
        self.broken: list[str] = []
        self.problem: str | None = None
        self.lock = threading.RLock()

    def visit(self, work: Callable[[SpoolFile], T]) -> list[T]:
        """Call `work` with each dead process's file and return the results, the least recently modified file first.

        Files that are empty afterwards are deleted.
        """
        return self._visit(work)[0]

    def visit_in_turns(self, work: Callable[[SpoolFile], T]) -> None:
        """Like `visit`, with retries after random pauses: two processes that start together may block each other."""
        for _ in range(TRIES):
            _, passed_over = self._visit(work)
            if not passed_over:
                return
            time.sleep(random.uniform(*PAUSE_SECONDS))

    def _visit(self, work: Callable[[SpoolFile], T]) -> tuple[list[T], int]:
        """Return the results and the number of skipped files, usually in use by their owner or another visitor."""
        results: list[T] = []
        files = spool_files(self._directory)
        if not files or not self._usable():
            return results, 0
        from hh_jupyter.delivery.spool.opening import OWNED  # Imported late: it loads SQLite.

        with self.lock:
            left = [path for path, _ in files if path not in OWNED]
            for path in left:
                results += self._visit_one(path, work)
        return results, len(left) - len(results)

    def _usable(self) -> bool:
        try:
            prepare(self._directory)
            import sqlite3  # noqa: F401  # Some Python builds lack it; `OwnFile` reports that.
        except ImportError:
            return False
        except SpoolFault as fault:
            self.problem = str(fault)
            return False
        return True

    def _visit_one(self, path: Path, work: Callable[[SpoolFile], T]) -> list[T]:
        try:
            return self._open_and_do(path, work)
        except SpoolFault as fault:
            if fault.trouble != "broken":
                return []  # Leave it unchanged for the next attempt.
        try:
            repaired = self._repaired(path)
            return self._open_and_do(repaired, work) if repaired is not None else []
        except (SpoolFault, OSError):
            return []

    def _open_and_do(self, path: Path, work: Callable[[SpoolFile], T]) -> list[T]:
        from hh_jupyter.delivery.spool.file import SpoolFile

        file = SpoolFile.open_left(path)
        if file is None:
            return []
        try:
            done = work(file)
            if file.is_empty():
                file.delete()
            return [done]
        finally:
            file.close()

    def _repaired(self, path: Path) -> Path | None:
        """Copy the readable records of a damaged file to a new one and set the damaged one aside; return the new path.

        Returns None if nothing could be read.
        """
        from hh_jupyter.delivery.spool.file import SpoolFile

        damaged = SpoolFile.open_damaged(path)
        try:
            new = self._copied(damaged)
        finally:
            damaged.close()
        aside = set_aside(path)
        if aside is not None:
            self.broken.append(aside.name)
        return new

    def _copied(self, damaged: SpoolFile) -> Path | None:
        from hh_jupyter.delivery.spool.file import SpoolFile

        new: SpoolFile | None = None
        chunk: list[Stored] = []
        try:
            for record in damaged.readable():
                new = new or SpoolFile.create(self._directory, self._max_bytes)
                chunk.append(record)
                if sum(one.size for one in chunk) > CHUNK_BYTES:
                    new.insert(chunk)
                    chunk = []
            if new is not None:
                new.insert(chunk)
        finally:
            if new is not None:
                new.close()
        return None if new is None else new.path

    def keep_bounds(self) -> None:
        """Delete and count records above the age limit, then the size limit (local before unsent, oldest first)."""
        if self._directory.is_dir() and self._usable():
            tidy(self._directory, self._max_age)
        self.visit(self._expire)
        for local_only in (True, False):
            if self._excess() > 0:
                self.visit(lambda file, local_only=local_only: self._shrink(file, local_only))  # type: ignore[misc]

    def _expire(self, file: SpoolFile) -> None:
        local, others = file.remove_older(time.time() - self._max_age)
        self.forgotten += local
        self.dropped += others

    def _excess(self) -> int:
        """Return by how many bytes the folder exceeds its size limit."""
        try:
            aside = sum(path.lstat().st_size for path in broken_files(self._directory))
        except OSError:
            aside = 0
        return aside + sum(size for _, size in spool_files(self._directory)) - self._max_bytes

    def _shrink(self, file: SpoolFile, local_only: bool) -> None:
        excess = self._excess()
        if excess <= 0:
            return
        removed = file.remove_oldest(excess, local_only=local_only)
        if removed is None:
            return
        if local_only:
            self.forgotten += removed
        else:
            self.dropped += removed
        file.rewrite()
