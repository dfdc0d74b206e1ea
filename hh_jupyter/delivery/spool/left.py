"""The files that dead processes left in the spool's folder: read, repaired, kept within their bounds."""

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
"""Bodies are copied from file to file in pieces of this size."""


class LeftFiles:
    """Files of dead processes, opened one at a time; those of living ones are never read.

    Attributes:
        dropped: spans that were to be sent and were deleted, for their age or because there was no room.
        forgotten: spans of the local trace store that went the same way.
        broken: names of damaged files that were set aside.
        problem: why the folder cannot be used; None if it can.
        lock: held while a file is open.
    """

    def __init__(self, directory: Path, max_bytes: int, max_age_seconds: float) -> None:
        self._directory, self._max_bytes, self._max_age = directory, max_bytes, max_age_seconds
        self.dropped = self.forgotten = 0
        self.broken: list[str] = []
        self.problem: str | None = None
        self.lock = threading.RLock()

    def visit(self, work: Callable[[SpoolFile], T]) -> list[T]:
        """What `work` returns for each dead process's file, the longest unchanged first; empty files are deleted."""
        return self._visit(work)[0]

    def visit_in_turns(self, work: Callable[[SpoolFile], T]) -> None:
        """The same with several tries: two that start at once find each other's files busy, in step."""
        for _ in range(TRIES):
            _, passed_over = self._visit(work)
            if not passed_over:
                return
            time.sleep(random.uniform(*PAUSE_SECONDS))

    def _visit(self, work: Callable[[SpoolFile], T]) -> tuple[list[T], int]:
        """The results, and how many files could not be opened: their owners live, or somebody visits them too."""
        results: list[T] = []
        files = spool_files(self._directory)
        if not files or not self._usable():
            return results, 0
        from hh_jupyter.delivery.spool.opening import OWNED  # Loads SQLite: not before there is something to read.

        with self.lock:
            left = [path for path, _ in files if path not in OWNED]
            for path in left:
                results += self._visit_one(path, work)
        return results, len(left) - len(results)

    def _usable(self) -> bool:
        try:
            prepare(self._directory)
            import sqlite3  # noqa: F401  # Some builds of Python have none; who writes says so.
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
                return []  # As it was, for the next time.
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
        """Copy what can be read of a damaged file into a new one, and set it aside; None if nothing could be read."""
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
        """Delete what is too old or too much: local records first, of those the oldest; what is deleted is counted."""
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
        """Bytes by which the whole folder is above its bound."""
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
