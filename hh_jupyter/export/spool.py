"""The rows on disk: what is not sent yet survives the process, and sessions can be read later.

Each process has one file, and adopts the files of dead processes. Only the exporter's worker runs this code. If the
disk does not work, nothing raises an error: rows are not kept, and `problem` gives the reason.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial, wraps
from pathlib import Path
from typing import Any, Concatenate, Final, NamedTuple, ParamSpec, TypeVar, cast

from hh_jupyter import attributes as keys
from hh_jupyter.export.model import Row, State
from hh_jupyter.export.spool_file import (
    OWNED,
    VALUES_AT_ONCE,
    Record,
    SpoolFile,
    claim_of,
    has_living_owner,
    marks,
    owner_lives,
    parts,
)
from hh_jupyter.export.spool_folder import (
    LOCAL,
    SpoolFault,
    Trouble,
    broken_files,
    destination_id,
    prepare,
    set_aside,
    spool_files,
    tidy,
)
from hh_jupyter.records.log import bare_event_id
from hh_jupyter.values import valid_utf8

logger = logging.getLogger(__name__)

T = TypeVar("T")
P = ParamSpec("P")

BODY_BYTES: Final = 32 * 1024 * 1024
"""Memory limit for the bodies that one adoption returns; further bodies stay on disk."""

CHUNK_BYTES: Final = 8 * 1024 * 1024
RETRY_SECONDS: Final = 30.0
"""Pause in seconds before creating a file is retried after a failure."""

ADOPT_PASSES: Final = 10
PASSES: Final = 3
"""Attempts to open files that other processes use: two that start together may block each other."""

CLAIM_SECONDS: Final = 10.0
"""Seconds to wait while another process adopts a file: it may leave rows for our destination, or die."""

_NO_SQLITE: Final = "this Python has no SQLite"
_SENT: Final = "sent"
_LOCAL: Final = f"destination = '{LOCAL}'"
_DELETED_FIRST: Final = (_SENT, _LOCAL, "1")


class StoredRow(Row):
    """A row read from the spool. `body` is empty if it was left on disk; `Spool.load` returns it."""

    __slots__ = ("destination", "state")

    def __init__(self, record: Record) -> None:
        super().__init__(
            record.kind,
            record.session_id,
            record.body,
            record.spans,
            record.cell,
            record.key,
            creates=_events_in(record),
        )
        self.reason, self.destination = record.reason, record.destination
        self.state: State = "sent" if record.sent else "waiting" if record.reason is None else "rejected"


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session in the spool; there is one for each destination of its rows.

    Attributes:
        name: name from its start document; None if that is not stored.
        first, last: times at which its first and last row were added, in Unix seconds.
        spans: number of stored spans.
        unsent: number of spans that wait or were rejected.
        here: whether some of its rows are in this process's file.
        living: whether some of its rows are in the file of another running process.
    """

    session_id: str
    name: str | None
    first: float
    last: float
    spans: int
    unsent: int
    destination: str
    here: bool
    living: bool


class StoredSpans(NamedTuple):
    """A row of spans in the spool.

    Attributes:
        session_id: empty without a session.
        cell: key of the run of the cell; None outside cells.
        added: time at which the row was added, in Unix seconds.
        body: the encoded spans.
    """

    session_id: str
    cell: str | None
    added: float
    body: bytes


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run of a notebook cell that has spans in the spool.

    Attributes:
        key: as its spans carry it.
        session_name: name of its session; None if that is not stored.
        first: time at which its first row was added, in Unix seconds.
    """

    key: str
    session_name: str | None
    first: float


class _NotStored(Exception):  # noqa: N818
    """Rows could not be moved into our file; `problem` gives the reason."""


class _Claimed(Exception):  # noqa: N818
    """Another process is adopting the rows of a file."""


def _on_worker(
    method: Callable[Concatenate[Spool, P], T],
) -> Callable[Concatenate[Spool, P], T]:
    """Let any thread call the method: it runs on the worker, and the caller waits."""

    @wraps(method)
    def call(self: Spool, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return cast("T", self._run(partial(method, self, *args, **kwargs)))

    return call


class Spool:
    """The rows that one process keeps on disk, and what other processes left.

    Methods run on the worker, except `take_local`, `sessions`, `bodies`, `search`, `bodies_of`, `events_of`, `runs`,
    `bodies_of_cell`, `add_document` and `clear`, which any thread may call.

    Args:
        directory: folder of the spool, created with the first row; None for the platform's default.
        max_bytes: size limit of all files in the folder together.
        max_age_seconds: age above which rows of dead processes are deleted.
        run: runs a function on the worker and returns its result.
        read_only: damaged files are not set aside: nothing in the folder is changed.

    Attributes:
        directory: absolute path of the folder.
        dropped: number of unsent spans that were deleted because of their age or the size limit.
        forgotten: number of sent and local spans that were deleted for the same reasons.
        unread: files of other processes whose rows are missing in what was read, and why.
    """

    def __init__(
        self,
        directory: Path | None,
        max_bytes: int = 256 * 1024 * 1024,
        max_age_seconds: float = 14 * 24 * 3600.0,
        run: Callable[[Callable[[], Any]], Any] = lambda do: do(),
        *,
        read_only: bool = False,
    ) -> None:
        self._missing: str | None = None
        try:
            directory = directory or _default_directory()
        except RuntimeError:
            self._missing, directory = "there is no home directory", Path(os.devnull)
        self.directory = Path(os.path.abspath(os.path.expanduser(directory)))  # noqa: PTH100, PTH111  # Follows no links, never raises.
        self.dropped = self.forgotten = 0
        self.unread: dict[Path, Trouble] = {}
        self._read_only = read_only
        self._max_bytes, self._max_age, self._run = max_bytes, max_age_seconds, run
        self._own_problem: str | None = None
        self._folder_problem: str | None = None
        self._broken: str | None = None
        self._keys = itertools.count(1)
        self._closed = False
        self.abandon()

    def abandon(self) -> None:
        """Start without a file in a forked child. The inherited connection is not even closed: it is the parent's."""
        self._file: SpoolFile | None = None
        self._pid = os.getpid()
        self._room = self._max_bytes
        self._retry_at = 0.0
        self._unmarked: list[tuple[int, State | None, str | None]] = []
        self._lost = False
        self._names: dict[tuple[str, str | None], str] = {}
        self._unmeasured = 0

    @property
    def problem(self) -> str | None:
        """The current problem as one sentence; None if there is none."""
        if why := self._missing or self._own_problem or self._folder_problem:
            return f"no copy on disk: {why}"
        if self._broken:
            return f"a damaged file was set aside as {self._broken} in {self.directory}"
        return None

    def destination_name(self, url: str, key: str | None) -> str:
        """Return the name of a backend on disk, without its key; `LOCAL` if the key is None.

        It changes with the folder's salt, when a folder that was deleted is created again.
        """
        name = self._names.get((url, key))
        if name is None:
            name = self._names[url, key] = destination_id(url, key, None if self._missing else self.directory)
        return name

    def take_lost(self) -> bool:
        """Return whether this process's file was lost since the last call, so that its rows are no longer on disk."""
        lost, self._lost = self._lost, False
        if lost:
            self._names.clear()
        return lost

    # Rows of this process

    def add(self, destination: str, rows: Sequence[Row]) -> None:
        """Write rows to disk, all or none, and set their keys; rows that are not on disk have none."""
        if rows:
            records = [self._record(destination, row) for row in rows]
            stored = self._own(lambda file: self._insert(file, records), False, create=True)
            for row, record in zip(rows, records, strict=True):
                row.key = record.key if stored else None

    def _record(self, destination: str, row: Row) -> Record:
        cell = row.cell and valid_utf8(row.cell)
        about = (destination, row.kind, valid_utf8(row.session_id), cell, row.spans, time.time(), 0, None)
        return Record(next(self._keys), *about, row.body)

    def mark(self, changes: Sequence[tuple[int, State | None, str | None]]) -> None:
        """Set the state and reason of rows by key; the state None deletes them. Repeated later if the disk is full."""
        changes = [*self._unmarked, *((key, state, reason and valid_utf8(reason)) for key, state, reason in changes)]
        self._unmarked = changes

        def mark(file: SpoolFile) -> None:
            file.mark(changes)
            self._unmarked = []

        self._own(mark, None)
        if self._file is None:
            self._unmarked = []

    def redirect(self, keys: Iterable[int], destination: str) -> None:
        """Set the destination of rows; rejected ones wait again."""
        self._own(lambda file: file.redirect(keys, destination), None)

    def load(self, keys: Iterable[int]) -> dict[int, bytes]:
        """Return the bodies of rows by key, without those that are not on disk."""
        return self._own(lambda file: file.load(keys), {})

    @_on_worker
    def add_document(self, kind: str, id: str, body: bytes) -> None:  # noqa: A002
        """Keep a local document that is not a span, such as an experiment's run."""
        self.add(LOCAL, [Row(kind, id, body)])

    def close(self) -> None:
        """Close this process's file; delete it if it is empty, otherwise leave it for the next process."""
        self._own(lambda file: file.delete() if file.is_empty() else file.close(), None)
        self._file, self._closed = None, True

    def _own(self, do: Callable[[SpoolFile], T], otherwise: T, *, create: bool = False) -> T:
        """Return the result of an operation on this process's file, or `otherwise` if there is no file or it fails."""
        try:
            if (file := self._own_file(create)) is None:
                return otherwise
            try:
                result = do(file)
            except SpoolFault as fault:
                if fault.trouble != "broken":
                    raise
                file.close()
                self._set_aside(file.path)
                self._file, self._lost = None, True
                if (file := self._own_file(create)) is None:
                    return otherwise
                result = do(file)
            if create:
                self._own_problem = None
            return result
        except SpoolFault as fault:
            self._own_problem = self._sentence(fault)
        except ImportError:
            self._own_problem = _NO_SQLITE
        except Exception:  # boundary: a failing disk must not prevent spans from being sent.
            logger.exception("the spool failed inside hh_jupyter")
            self._own_problem = "an internal error, see the log"
        return otherwise

    def _sentence(self, fault: SpoolFault) -> str:
        if fault.trouble == "full":
            return f"{self.directory} has no room left for what is still to be sent"
        return str(fault) if fault.trouble == "other" else f"{self.directory}: {fault}"

    def _own_file(self, create: bool) -> SpoolFile | None:
        if self._pid != os.getpid():  # A fork that bypassed Python's fork hooks.
            self.abandon()
        if self._file is not None and not self._file.path.exists():
            self._file.close()  # It was deleted, with its rows.
            self._file, self._lost = None, True
        create = create and not (self._closed or self._missing)
        if self._file is None and create and time.monotonic() >= self._retry_at:
            self._file = self._created()
        return self._file

    def _created(self) -> SpoolFile:
        self._retry_at = time.monotonic() + RETRY_SECONDS
        prepare(self.directory)
        try:
            made = SpoolFile.create(self.directory, self._max_bytes)
        except OSError as error:
            raise SpoolFault("other", f"{self.directory} takes no file ({error.strerror or error})") from error
        except SpoolFault as fault:
            if fault.trouble == "full":
                raise
            text = f"{self.directory} is on a file system without locks, or one that SQLite cannot use ({fault})"
            raise SpoolFault("other", text) from fault
        self._retry_at = 0.0
        self._room = self._room_beside(made.path)
        return made

    def _room_beside(self, *paths: Path | None) -> int:
        """Return the size limit of our file in bytes: what other files leave, but at least an eighth of the total."""
        others = sum(size for path, size in spool_files(self.directory) if path not in paths)
        return max(self._max_bytes - others, self._max_bytes // 8)

    def _set_aside(self, path: Path) -> None:
        aside = set_aside(path)
        self._broken = (aside or path).name

    def _insert(self, file: SpoolFile, records: Sequence[Record], instead_of: Path | None = None) -> bool:
        """Insert records; without room for them, delete sent and local ones, the oldest first."""
        need = sum(len(record.body) for record in records)
        self._unmeasured += need
        if self._unmeasured > self._max_bytes // 256:  # Each question to the file gives up the interpreter for a while.
            self._unmeasured = 0
            if file.used_bytes() + need > self._room:
                self._make_room(file, need, instead_of)
        try:
            file.insert(records)
        except SpoolFault as fault:
            if fault.trouble != "full":
                raise
            self._make_room(file, need, instead_of, disk_full=True)
            file.insert(records)
        return True

    def _make_room(self, file: SpoolFile, need: int, instead_of: Path | None, *, disk_full: bool = False) -> None:
        self._room = self._room_beside(file.path, instead_of)
        # While a reader holds the WAL file, deleting adds to it: then only what was sent goes.
        for where in _DELETED_FIRST[:2] if file.truncate_wal() else _DELETED_FIRST[:1]:
            missing = need if disk_full else file.used_bytes() + need - self._room
            if missing <= 0 or need > self._room:
                break
            self.forgotten += file.delete_where(where, size=max(missing, self._max_bytes // 16))[0]
            file.truncate_wal()
        if not disk_full and file.used_bytes() + need > self._room:
            raise SpoolFault("full", "the spool is full")

    # Files of other processes

    def _others(self) -> list[Path]:
        """Return the files of other processes, the least recently modified first."""
        if self._missing or not os.path.lexists(self.directory):
            return []
        try:
            prepare(self.directory)
            if others := [path for path, _ in spool_files(self.directory) if path not in OWNED]:
                import sqlite3  # noqa: F401  # Some Python builds lack it.
            return others
        except SpoolFault as fault:
            self._folder_problem = str(fault)
        except ImportError:
            self._own_problem = _NO_SQLITE
        return []

    def _visit(self, path: Path, work: Callable[[SpoolFile], object]) -> bool:
        """Call `work` with the file of a dead process; return False if another process has it open.

        Files of living processes are skipped; files that are empty afterwards are deleted.
        """
        try:
            if owner_lives(path) or (file := SpoolFile.open_other(path, exclusive=True)) is None:
                return True
            try:
                work(file)
                if file.is_empty():
                    file.delete()
            finally:
                file.close()
        except SpoolFault as fault:
            if fault.trouble == "broken":
                self._set_aside(path)
            return fault.trouble != "busy"
        except OSError:
            pass  # The folder changed; the next visit sees it.
        return True

    def _visit_all(self, work: Callable[[Path], bool]) -> None:
        """Call `work` with each path, again after a pause for those where it returned False."""
        waiting = self._others()
        for _ in range(PASSES):
            waiting = [path for path in waiting if not work(path)]
            if not waiting:
                return
            time.sleep(random.uniform(0.02, 0.1))

    def _move(
        self, path: Path, where: str, values: Sequence[Any], destination: str, *, claims: bool = False
    ) -> list[StoredRow] | None:
        """Move up to `CHUNK_BYTES` of rows from a dead process's file into ours; return None if it is in use.

        They are deleted there after they were committed here, so a crash in between duplicates them, but loses none.

        Args:
            claims: claim the file while it may have further rows, so that one process sends all of them, in order.

        Raises:
            _Claimed: a running process has claimed the file; only with `claims`.
            _NotStored: our file does not take them; they stay where they are.
        """
        moved: list[StoredRow] = []

        def move(file: SpoolFile) -> None:
            if claims and has_living_owner(file.claimed(), self.directory, self._own_path):
                raise _Claimed
            old = file.records(where, values, size=CHUNK_BYTES)
            new = [record._replace(key=next(self._keys), destination=destination) for record in old]
            stored = not new or self._own(lambda own: self._insert(own, new, path), False, create=True)
            if claims:
                has_more = stored and sum(len(record.body) for record in old) >= CHUNK_BYTES
                self._claim(file, has_more)
            if not stored:
                raise _NotStored
            file.mark([(record.key, None, None) for record in old])
            moved.extend(map(StoredRow, new))

        return moved if self._visit(path, move) else None

    def _claim(self, file: SpoolFile, has_more: bool) -> None:
        """Claim a file for this process if it has further rows; release it if not."""
        claim = claim_of(self._own_path) if has_more and self._own_path is not None else 0
        if file.claimed() != claim:
            file.claim(claim)

    @property
    def _own_path(self) -> Path | None:
        return None if self._file is None else self._file.path

    def adopt(self, destination: str) -> Iterator[list[StoredRow]]:
        """Move the unsent rows that dead processes left for a destination into this process's file.

        Each step moves a chunk of one file and yields its rows in order, but session starts first. An empty list means
        that the worker should do other work, and continue after a short pause. Rejected rows stay rejected.
        """
        if destination == LOCAL:
            return
        left, passes, patience = BODY_BYTES, ADOPT_PASSES, time.monotonic() + CLAIM_SECONDS
        where = "destination = ? AND NOT sent"
        waiting = self._others()
        try:
            while waiting and passes:
                busy, claimed = [], False
                for path in waiting:
                    try:
                        while moved := self._move(path, where, (destination,), destination, claims=True):
                            left = _trim(moved, left)
                            yield sorted(moved, key=lambda row: row.kind != "session_start")
                    except _Claimed:
                        moved, claimed = None, True
                    if moved is None:
                        busy.append(path)
                    yield []
                waiting = busy
                passes -= not (claimed and time.monotonic() < patience)
        except _NotStored:
            return

    def keep_bounds(self) -> Iterator[None]:
        """Delete and count rows of dead processes above the limits of age and size: sent, then local, then unsent.

        Each step visits one file.
        """
        paths = self._others()
        if not self.problem:
            tidy(self.directory, self._max_age)
        oldest, full = time.time() - self._max_age, False

        def expire(file: SpoolFile) -> None:
            self._count(file.delete_where("added < ?", (oldest,)))

        def shrink(file: SpoolFile, where: str) -> None:
            nonlocal full
            self._count(deleted := file.delete_where(where, size=self._excess()))
            if any(deleted):
                full = True  # Unless the file can be rewritten.
                file.rewrite()
                full = False

        for path in paths:
            self._visit(path, expire)
            yield
        for where in _DELETED_FIRST:
            for path in self._others():
                if full or self._excess() <= 0:
                    return
                self._visit(path, partial(shrink, where=where))
                yield

    def _excess(self) -> int:
        files = (*spool_files(self.directory), *broken_files(self.directory))
        return sum(size for _, size in files) - self._max_bytes

    def _count(self, deleted: tuple[int, int]) -> None:
        self.forgotten += deleted[0]
        self.dropped += deleted[1]

    # Sessions

    @_on_worker
    def take_local(self, session_ids: Collection[str], destination: str) -> list[StoredRow]:
        """Assign a destination to all local rows of these sessions, move them into our file, and return them.

        Session starts come first, and updates of events follow their spans. The empty id means the rows of this process
        without a session.
        """
        taken: list[StoredRow] = []
        for condition, values in [*_of_sessions(session_ids), *_of_sessions(self._events_of(session_ids))]:
            self._take_local(f"{_LOCAL} AND {condition}", values, destination, taken)
        return sorted(taken, key=lambda row: row.kind != "session_start")

    def _take_local(self, where: str, values: Sequence[Any], destination: str, taken: list[StoredRow]) -> None:
        """Assign a destination to matching rows, of dead processes and of our own file, and add them to `taken`."""
        elsewhere = f"session_id != '' AND {where}"

        def take(rows: list[StoredRow] | None) -> bool:
            _trim(rows or (), BODY_BYTES - sum(len(row.body) for row in taken))
            taken.extend(rows or ())
            return bool(rows)

        def move(path: Path) -> bool:
            while take(moved := self._move(path, elsewhere, values, destination)):
                pass
            return moved is not None

        def redirect(file: SpoolFile) -> list[StoredRow]:
            records = file.records(where, values, size=CHUNK_BYTES)
            file.redirect([record.key for record in records], destination)
            return [StoredRow(record._replace(destination=destination, reason=None)) for record in records]

        try:
            self._visit_all(move)
        except _NotStored:
            pass
        none: list[StoredRow] = []
        while take(self._own(redirect, none)):
            pass

    @_on_worker
    def sessions(self, living: bool = False) -> list[StoredSession]:
        """Return the sessions in our file, those of dead processes and, if requested, of living ones, by start."""
        found: dict[tuple[str, str], StoredSession] = {}
        names: dict[str, str] = {}

        def collect(file: SpoolFile, here: bool, alive: bool) -> None:
            for record in file.records("kind = 'session_start'"):
                if name := _name(record.body):
                    names.setdefault(record.session_id, name)
            for session_id, destination, first, last, spans, unsent in file.sessions():
                row = StoredSession(session_id, None, first, last, spans, unsent, destination, here, alive)
                other = found.get((session_id, destination))
                if other is not None:
                    row = replace(
                        row,
                        first=min(first, other.first),
                        last=max(last, other.last),
                        spans=spans + other.spans,
                        unsent=unsent + other.unsent,
                        here=here or other.here,
                        living=alive or other.living,
                    )
                found[session_id, destination] = row

        self._read(collect, living)
        rows = [replace(row, name=names.get(row.session_id)) for row in found.values()]
        return sorted(rows, key=lambda row: row.first)

    @_on_worker
    def bodies(self, session_id: str, living: bool = False) -> list[bytes]:
        """Return the encoded spans of a session with the updates of their events, those of other processes first."""
        where, values = "session_id = ? AND kind = 'spans'", (valid_utf8(session_id),)
        read = self._read(lambda file, *_: file.bodies(where, values), living)
        updated = self._updater(living)
        return [updated(body) for bodies in read for body in bodies]

    @_on_worker
    def search(
        self,
        may_match: Callable[[bytes], bool],
        max_bytes: int,
        session_id: str | None = None,
        living: bool = False,
    ) -> tuple[list[StoredSpans], int]:
        """Return the rows of spans that may match, of this process and of others, the latest first.

        Args:
            may_match: tells of encoded spans whether to return them.
            max_bytes: maximum size of the bodies together.
            session_id: only rows of this session; None for all.
            living: also read the files of running processes.

        Returns:
            The rows, and how many older ones were left out because of the size.
        """
        updates: list[Record] = []
        search = partial(self._search, may_match, max_bytes, session_id, living)
        found = search(lambda body: body, updates)
        # With a thousand files, to open them takes most of the time: that is done again only where it matters.
        return search(_updater(updates)) if updates else found

    def _search(
        self,
        may_match: Callable[[bytes], bool],
        max_bytes: int,
        session_id: str | None,
        living: bool,
        updated: Callable[[bytes], bytes],
        updates: list[Record] | None = None,
    ) -> tuple[list[StoredSpans], int]:
        """Search the spans as `updated` returns them, and add the stored updates of events to `updates`."""
        found: list[StoredSpans] = []
        left_out, wanted = 0, None if session_id is None else valid_utf8(session_id)

        def scan(file: SpoolFile, *_: bool) -> None:
            nonlocal found, left_out
            if updates is not None:
                updates.extend(_updates_in(file))
            size = 0
            for of_session, cell, added, stored in file.spans(wanted):
                if may_match(body := updated(stored)):
                    found.append(StoredSpans(of_session, cell, added, body))
                    size += len(body)
                if size > max_bytes:
                    found, more = _latest(found, max_bytes)
                    left_out, size = left_out + more, 0

        self._read(scan, living)
        found, more = _latest(found, max_bytes)
        return found, left_out + more

    @_on_worker
    def bodies_of(self, kind: str, living: bool = False) -> list[bytes]:
        """Return the bodies of all rows of one kind, those of other processes first."""
        read = self._read(lambda file, *_: file.bodies("kind = ?", (kind,)), living)
        return [body for bodies in read for body in bodies]

    @_on_worker
    def events_of(self, session_ids: Collection[str]) -> list[str]:
        """Return the ids of events of these sessions with stored updates.

        The row of such an update names its event where other rows name their session.
        """
        return self._events_of(session_ids)

    def _events_of(self, session_ids: Collection[str]) -> list[str]:
        stored = {row.session_id for rows in self._read(_updates_in) for row in rows}.difference(session_ids)
        if not stored:
            return []
        found: set[str] = set()

        def collect(file: SpoolFile, here: bool, *_: bool) -> None:
            ids = session_ids if here else [one for one in session_ids if one]
            for condition, values in _of_sessions(ids):
                for record in file.records(f"kind IN ('spans', 'event_create') AND {condition}", values):
                    found.update(_events_in(record))

        self._read(collect)
        return sorted(one for one in stored if bare_event_id(one) in found)

    def _updater(self, living: bool = False) -> Callable[[bytes], bytes]:
        """Return a function that adds the stored updates of events to encoded spans, which are kept as they ended."""
        return _updater([row for rows in self._read(_updates_in, living) for row in rows])

    @_on_worker
    def runs(self) -> list[StoredRun]:
        """Return the runs of cells that have spans in our file or those of dead processes, by start."""
        found: dict[str, tuple[float, str]] = {}
        names: dict[str, str] = {}

        def collect(file: SpoolFile, *_: bool) -> None:
            for record in file.records("kind = 'session_start'"):
                if name := _name(record.body):
                    names.setdefault(record.session_id, name)
            for key, session_id, first in file.runs():
                found[key] = min(found.get(key, (first, session_id)), (first, session_id))

        self._read(collect)
        runs = [StoredRun(key, names.get(session_id), first) for key, (first, session_id) in found.items()]
        return sorted(runs, key=lambda run: run.first)

    @_on_worker
    def bodies_of_cell(self, key: str) -> list[bytes]:
        """Return the encoded spans of one run of a cell, as `bodies` does those of a session."""
        read = self._read(lambda file, *_: file.bodies("cell = ? AND kind = 'spans'", (valid_utf8(key),)))
        updated = self._updater()
        return [updated(body) for bodies in read for body in bodies]

    def _read(self, work: Callable[[SpoolFile, bool, bool], T], living: bool = False) -> list[T]:
        """Call `work(file, here, living)` with each file that may be read, and return the results."""
        results: list[T] = []
        for path in self._others():
            alive = owner_lives(path)
            if alive and not living:
                continue
            try:
                if (file := SpoolFile.open_other(path, living=alive)) is not None:
                    try:
                        results.append(work(file, False, alive))
                    finally:
                        file.close()
            except SpoolFault as fault:
                self.unread[path] = fault.trouble
                if fault.trouble == "broken" and not alive and not self._read_only:
                    self._set_aside(path)
        return self._own(lambda file: [*results, work(file, True, False)], results)

    @_on_worker
    def clear(self, session_ids: Collection[str] | None = None) -> int:
        """Delete the rows of these sessions, or all, of this process and of dead ones; return the number of spans.

        Their text is gone from the disk afterwards, also that of updates of their events. The empty id means the rows
        of this process without a session.
        """
        deleted = 0
        if session_ids is not None:
            session_ids = [*session_ids, *self._events_of(session_ids)]

        def delete(ids: Collection[str] | None, file: SpoolFile) -> None:
            nonlocal deleted
            conditions = [("1", ())] if ids is None else list(_of_sessions(ids))
            deleted += sum(sum(file.delete_where(where, values)) for where, values in conditions)
            file.rewrite()

        named = None if session_ids is None else [one for one in session_ids if one]
        self._own(partial(delete, session_ids), None)
        self._visit_all(lambda path: self._visit(path, partial(delete, named)))
        if session_ids is None:
            for path, _ in broken_files(self.directory):
                try:
                    path.unlink(missing_ok=True)
                except OSError:
                    pass  # Another program has it open; it is deleted when it is too old.
        return deleted


def _events_in(record: Record) -> Collection[str]:
    """Return the ids of the events that a row creates, as far as code chose them; see `bare_event_id`."""
    if record.kind == "event_create":
        event = _document(record.body).get("event")
        found = event.get("event_id") if isinstance(event, dict) else None
        return [bare_event_id(found)] if isinstance(found, str) else []
    if record.kind != "spans" or keys.EVENT_ID.encode() not in record.body:
        return []
    from hh_jupyter.export import otlp  # Loads protobuf.

    return otlp.event_ids(record.body)


def _updates_in(file: SpoolFile, *_: bool) -> list[Record]:
    return file.records("kind = 'event_update'")


def _updater(rows: Iterable[Record]) -> Callable[[bytes], bytes]:
    updates: dict[str, list[Any]] = {}
    for row in rows:
        updates.setdefault(bare_event_id(row.session_id), []).append(_document(row.body))
    if not updates:
        return lambda body: body
    from hh_jupyter.export import otlp  # Loads protobuf.

    return lambda body: otlp.with_updates(body, updates)


def _of_sessions(session_ids: Iterable[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield conditions for the rows of these sessions, each with its values: SQLite limits their number."""
    texts = list(map(valid_utf8, session_ids))
    for values in parts(texts, VALUES_AT_ONCE):
        yield f"session_id IN ({marks('?', values)})", tuple(values)


def _default_directory() -> Path:
    import platformdirs

    return platformdirs.user_data_path("hh_jupyter", appauthor=False) / "spool"


def _latest(rows: Iterable[StoredSpans], max_bytes: int) -> tuple[list[StoredSpans], int]:
    """Return the latest rows that have `max_bytes` together, the latest first, and the number of the others."""
    ordered, size = sorted(rows, key=lambda row: row.added, reverse=True), 0
    for index, row in enumerate(ordered):
        size += len(row.body)
        if size > max_bytes and index:
            return ordered[:index], len(ordered) - index
    return ordered, 0


def _trim(rows: Iterable[StoredRow], left: int) -> int:
    """Leave bodies on disk that do not fit into `left` bytes; return what is left."""
    for row in rows:
        if row.size > left:
            row.body = b""
        left -= len(row.body)
    return left


def _name(body: bytes) -> str | None:
    session = _document(body).get("session")
    name = session.get("session_name") if isinstance(session, dict) else None
    return name if isinstance(name, str) else None


def _document(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a row; an empty one if the row does not hold an object."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
