"""Copies on disk of unsent records, and the local trace store.

Each process has one file that only it opens (`own`, `file`), and adopts the files of dead processes (`left`). If the
disk does not work, the spool raises no error: it keeps nothing, and `problem` gives the reason.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hh_jupyter.delivery.spool import forks
from hh_jupyter.delivery.spool.adoption import Adoption
from hh_jupyter.delivery.spool.directory import broken_files, default_directory
from hh_jupyter.delivery.spool.left import LeftFiles
from hh_jupyter.delivery.spool.own import OwnFile
from hh_jupyter.delivery.spool.record import (
    LOCAL,
    LeftOver,
    SpoolFault,
    Storable,
    Stored,
    StoredSession,
    in_order,
    text_of,
)
from hh_jupyter.delivery.spool.sessions import merged, sessions_of

if TYPE_CHECKING:
    from hh_jupyter.delivery.spool.file import SpoolFile

MAX_BYTES: Final = 256 * 1024 * 1024
MAX_AGE_SECONDS: Final = 14 * 24 * 3600.0
BODY_BYTES: Final = 32 * 1024 * 1024
"""Memory limit for the bodies that adoption returns; further bodies stay on disk."""


class Spool:
    """The records that one process keeps on disk. Thread-safe; only `load` raises, if a body is missing.

    A change made from a destructor while its thread is inside the spool is applied as soon as the thread leaves it. Do
    not call the spool while holding a lock that ending a span may need.

    Args:
        directory: folder of the spool; None for the platform's default.
        max_bytes: size limit of all files in the folder together.
        max_age_seconds: age above which records of dead processes are deleted.
    """

    def __init__(self, directory: Path | None, max_bytes: int, max_age_seconds: float) -> None:
        self._missing: str | None = None
        try:
            directory = directory or default_directory()
        except SpoolFault as fault:
            self._missing, directory = str(fault), Path(os.devnull)
        self.directory = Path(os.path.abspath(os.path.expanduser(directory)))  # noqa: PTH100, PTH111  # Follows no links, never raises.
        self._own = OwnFile(self.directory, max_bytes)
        self._left = LeftFiles(self.directory, max_bytes, max_age_seconds)
        forks.watch(self)

    @classmethod
    def open(
        cls,
        directory: Path | None = None,
        *,
        max_bytes: int = MAX_BYTES,
        max_age_seconds: float = MAX_AGE_SECONDS,
    ) -> Spool:
        """Open a spool in this folder; folder and file are created with the first record."""
        return cls(directory, max_bytes, max_age_seconds)

    @property
    def problem(self) -> str | None:
        """The current problem as one sentence; None if there is none."""
        if why := self._missing or self._own.problem or self._left.problem:
            return f"no copy on disk: {why}"
        if broken := [*self._own.broken, *self._left.broken]:
            return f"a damaged file was set aside as {broken[-1]} in {self.directory}"
        return None

    @property
    def dropped(self) -> int:
        """Number of unsent spans that were deleted because of their age or the size limit."""
        return self._left.dropped

    @property
    def forgotten(self) -> int:
        """Number of spans of the local trace store that were deleted for the same reasons."""
        return self._own.forgotten + self._left.forgotten

    def held(self) -> bool:
        """Return True if the calling thread is inside the spool, which means that it runs a destructor."""
        return self._own.lock.held()

    # Unsent records

    def add(self, destination: str, records: Sequence[Storable]) -> None:
        """Write records to disk, all or none, before returning; a record that is not on disk has no `key`."""
        if self._missing or self._own.closed or not records:
            return
        now = time.time()
        stored = []
        for record in records:
            record.key = self._own.new_key()
            about = (record.kind, text_of(record.session_id), record.cell and text_of(record.cell), record.spans)
            stored.append(Stored(record.key, destination, *about, now, None, len(record.body), record.body))
        self._own.put(stored, failed=partial(_forget_keys, records))

    def remove(self, records: Sequence[Storable]) -> None:
        """Delete records that were accepted or are no longer needed."""
        if keys := _keys(records):
            _forget_keys(records)
            self._own.change(lambda file: file.remove(keys))

    def park(self, records: Sequence[Storable], reason: str | None) -> None:
        """Store why records were rejected; None makes them pending again."""
        if keys := _keys(records):
            self._own.change(lambda file: file.park(keys, reason and text_of(reason)))

    def redirect(self, records: Sequence[Storable], destination: str) -> None:
        """Assign another destination to records; parked ones become pending again."""
        if keys := _keys(records):
            self._own.change(lambda file: file.send_to(keys, destination))

    def load(self, record: Storable) -> bytes:
        """Return the body of a record whose body is no longer in memory.

        Raises:
            KeyError: the body is not on disk.
        """
        key = record.key
        found = None if key is None else self._own.ask(lambda file: file.body(key), None)
        if found is None:
            raise KeyError(key)
        return found

    # Records of dead processes

    def adopt(self, destination: str, *, include_parked: bool = False, body_bytes: int = BODY_BYTES) -> list[Stored]:
        """Move the records that dead processes left for a destination into this process's file.

        Also deletes records above the age and size limits, so call it in local mode too, where nothing is adopted.

        Args:
            destination: destination of the records; nothing is adopted for `LOCAL`.
            include_parked: whether parked records are retried; if not, they are adopted and stay parked.
            body_bytes: memory limit for bodies; further bodies stay on disk.

        Returns:
            The records in order, but each session's start before its other records.
        """
        self._left.keep_bounds()
        if destination == LOCAL:
            return []

        def choose(record: Stored) -> bool:
            return record.destination == destination

        adoption = Adoption(self._own, choose, destination, include_parked, body_bytes)
        self._left.visit_in_turns(adoption.take_left)
        return in_order(adoption.taken)

    def take_local(
        self, session_ids: Collection[str], destination: str, *, body_bytes: int = BODY_BYTES
    ) -> list[Stored]:
        """Assign a destination to all local records of these sessions, and return them as `adopt` does."""
        wanted = {text_of(session_id) for session_id in session_ids}

        def choose(record: Stored) -> bool:
            return record.destination == LOCAL and record.session_id in wanted

        adoption = Adoption(self._own, choose, destination, True, body_bytes)
        self._left.visit_in_turns(adoption.take_left)
        self._own.change(adoption.take_own)
        return in_order(adoption.taken)

    def left_over(self) -> dict[str, LeftOver]:
        """Return the numbers of records and spans that dead processes left, by destination."""
        total: dict[str, LeftOver] = {}
        for counts in self._left.visit(lambda file: file.counts()):
            for destination, count in counts.items():
                total[destination] = total.get(destination, LeftOver()) + count
        return total

    # The local trace store

    def sessions(self) -> list[StoredSession]:
        """Return all sessions stored by this process or by dead ones, the earliest first."""
        own: list[StoredSession] = self._own.ask(lambda file: sessions_of(file, here=True), [])
        left = self._left.visit(lambda file: sessions_of(file, here=False))
        return merged([*own, *(row for rows in left for row in rows)])

    def bodies(self, session_id: str) -> list[bytes]:
        """Return the encoded spans of a session, in order, those of dead processes first."""
        session_id = text_of(session_id)
        left = self._left.visit(lambda file: file.span_bodies(session_id))
        own: list[bytes] = self._own.ask(lambda file: file.span_bodies(session_id), [])
        return [body for bodies in (*left, own) for body in bodies]

    def bodies_of(self, kind: str) -> list[bytes]:
        """Return the bodies of all records of one kind, those of dead processes first."""
        left = self._left.visit(lambda file: [row.body for row in file.rows("kind = ?", (kind,))])
        own: list[bytes] = self._own.ask(lambda file: [row.body for row in file.rows("kind = ?", (kind,))], [])
        return [body for bodies in (*left, own) for body in bodies]

    def clear(self, session_ids: Collection[str] | None = None) -> int:
        """Delete records of these sessions, or all, of this process and of dead ones; return the number of spans."""
        wanted = None if session_ids is None else {text_of(session_id) for session_id in session_ids}
        deleted: Counter[str] = Counter()

        def delete(file: SpoolFile) -> None:
            found = [row for row in file.rows(bodies=False) if wanted is None or row.session_id in wanted]
            file.remove([row.key for row in found if row.key is not None])
            file.rewrite()
            deleted["spans"] += sum(row.spans for row in found)

        self._own.change(delete)
        self._left.visit(delete)
        if wanted is None:
            for path in broken_files(self.directory):
                try:
                    path.unlink(missing_ok=True)
                except OSError:
                    pass  # Another program has it open; it is deleted when it is too old.
        return deleted["spans"]

    def close(self) -> None:
        """Close this process's file; delete it if it is empty, otherwise leave it for the next process."""
        self._own.close()
        forks.forget(self)

    def after_fork_in_child(self) -> None:
        """Start the child without records; never touch the parent's file. May be called more than once."""
        if self._own.pid != os.getpid():
            self._own.abandon()
            self._left.lock = threading.RLock()

    def locks(self) -> list[forks.Lock]:
        """Return the locks that are held while this process uses SQLite, in the order of acquisition."""
        return [self._left.lock, self._own.lock]


def _keys(records: Sequence[Storable]) -> list[int]:
    return [record.key for record in records if record.key is not None]


def _forget_keys(records: Sequence[Storable]) -> None:
    for record in records:
        record.key = None
