"""One SQLite file of the spool.

A file belongs to the process that created it, which opens it once and keeps it open. Its journal mode is WAL with
normal locks, so another process can read it at any time. Two locks of the operating system show that its owner is
alive; both end with the process, however it ends:

- SQLite's shared lock on the file: an exclusive transaction cannot begin. Readers hold this lock as well.
- The owner's lock on one byte that SQLite does not use, which tells a living owner from a reader.

On POSIX, closing any handle of a file releases all locks that the process holds on it. So the owner never opens its
file a second time. With `synchronous=OFF`, writes stay in the operating system's cache; they survive the process, but
not a machine crash. SQLite is imported when the first file is opened: some Python builds lack it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from hh_jupyter.export.spool_folder import LOCAL, PREFIX, SUFFIX, SpoolFault, Trouble, regular_file, remove

if TYPE_CHECKING:
    import sqlite3

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows.
    fcntl = None

T = TypeVar("T")

VERSION: Final = 2
"""Version of the table below. Files of version 1 are converted; other versions are left to their release."""

PAGE_BYTES: Final = 4096
NAMES_TRIED: Final = 5

OWNER_TIMEOUT_MILLIS: Final = 1000
"""Time for which the owner waits for a lock. Readers take one that delays it only for some microseconds, if at all."""

OWNED: Final[set[Path]] = set()
"""Files that this process or a parent it was forked from has created and opened; they must not be opened again."""

_CLAIM_DIGITS: Final = 7
"""Hexadecimal digits of a claim: SQLite has room for 32 bits with a sign."""

_OWNER_BYTE: Final = 0x40000000 + 512
"""Offset of the owner's lock, after the bytes that SQLite locks."""

_COLUMNS: Final = "key, destination, kind, session_id, cell, spans, added, sent, reason"
_VALUES: Final = "(?,?,?,?,?,?,?,?,?,?)"
_UPDATE: Final = "UPDATE records SET sent = ?, reason = ?"
_REDIRECT: Final = "UPDATE records SET destination = ?, sent = 0, reason = NULL"
_DELETE: Final = "DELETE FROM records"

VALUES_AT_ONCE: Final = 900
"""Values in one statement; old versions of SQLite take 999.

Each statement gives up the interpreter, and beside threads that compute it takes some 20 ms to get it back: a statement
for each record would take seconds.
"""

_TABLE: Final = """CREATE TABLE records (
    key INTEGER PRIMARY KEY, destination TEXT NOT NULL, kind TEXT NOT NULL, session_id TEXT NOT NULL, cell TEXT,
    spans INTEGER NOT NULL, added REAL NOT NULL, sent INTEGER NOT NULL, reason TEXT, body BLOB NOT NULL)"""
_ODD: Final = """SELECT 1 FROM records WHERE (typeof(destination), typeof(kind), typeof(session_id), typeof(spans),
    typeof(added), typeof(sent), typeof(body)) <> ('text', 'text', 'text', 'integer', 'real', 'integer', 'blob')
    OR typeof(cell) NOT IN ('text', 'null') OR typeof(reason) NOT IN ('text', 'null')
    OR added NOT BETWEEN 0 AND 1e11 OR spans < 0 LIMIT 1"""
"""Finds a row of another kind, which only a damaged file has: SQLite has neither strict types nor checksums."""

_FROM_VERSION_1: Final = (
    "ALTER TABLE records RENAME COLUMN parked TO reason",
    "ALTER TABLE records ADD COLUMN sent INTEGER NOT NULL DEFAULT 0",
    f"PRAGMA user_version={VERSION}",
)

_CODES: Final[dict[int, Trouble]] = {
    1: "broken",  # ERROR: no such table; another program wrote the file.
    5: "busy",
    6: "busy",  # LOCKED
    15: "busy",  # PROTOCOL: a race of two openers.
    13: "full",
    11: "broken",  # CORRUPT
    26: "broken",  # NOTADB
    10 | 1 << 8: "broken",  # IOERR_READ
    10 | 2 << 8: "broken",  # IOERR_SHORT_READ: the file was truncated.
    10 | 3 << 8: "full",  # IOERR_WRITE: a quota or the process's own limit was reached.
    10 | 19 << 8: "full",  # IOERR_SHMSIZE
    10 | 33 << 8: "broken",  # IOERR_CORRUPTFS
}
"""Numbers of SQLite's errors. The lowest byte is the primary code."""


class Record(NamedTuple):
    """A row of the table.

    Attributes:
        added: time at which it was added, in Unix seconds.
        sent: 0 or 1. SQLite stores both in no bytes, so the body is not written again when a row was sent.
        reason: why it was rejected, or None.
    """

    key: int
    destination: str
    kind: str
    session_id: str
    cell: str | None
    spans: int
    added: float
    sent: int
    reason: str | None
    body: bytes


@contextmanager
def faults() -> Iterator[None]:
    """Convert SQLite errors to `SpoolFault`."""
    import sqlite3

    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0)
        if not code and isinstance(error, sqlite3.OperationalError):  # Python's own.
            raise SpoolFault("broken", "a text is not UTF-8") from error
        raise SpoolFault(_CODES.get(code) or _CODES.get(code & 0xFF, "other"), str(error)) from error


class SpoolFile:
    """An open file. Every method may raise `SpoolFault`.

    Args:
        path: path of an existing file.
        mode: "rw" or "ro".
        timeout: time in seconds to wait for locks of other processes.
        handle: handle for the owner's lock, if this process creates the file.
    """

    def __init__(self, path: Path, mode: str = "rw", timeout: float = 0.0, handle: int | None = None) -> None:
        self.path, self._handle, self._pid = path, handle, os.getpid()
        self._db = self._connected(mode, timeout)

    def _connected(self, mode: str, timeout: float) -> sqlite3.Connection:
        import sqlite3

        with faults():
            # These modes never create the file: one deleted just now would come back empty and readable by other users.
            address = f"{self.path.as_uri()}?mode={mode}"
            db = sqlite3.connect(address, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False)
        # A reference cycle that only `close` breaks: SQLite holds the method, and the method holds the connection.
        # Otherwise a forked child would close its copy at interpreter exit, and delete the WAL file of its parent.
        db.create_function("hh_jupyter_keep", 0, db.interrupt)
        return db

    # Opening

    @classmethod
    def create(cls, directory: Path, max_bytes: int) -> SpoolFile:
        """Create a file with a random name and take ownership.

        Args:
            directory: folder of the spool.
            max_bytes: size limit of the folder, from which that of the WAL file follows.

        Raises:
            OSError: the file cannot be created in the folder.
        """
        for _ in range(NAMES_TRIED):
            path = directory / f"{PREFIX}{secrets.token_hex(8)}{SUFFIX}"
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)  # SQLite's other files get the same mode.
            file, ready = None, False
            try:
                file = cls(path, timeout=OWNER_TIMEOUT_MILLIS / 1000, handle=handle)
                file._set_up(handle, max_bytes)
                ready = path.exists()  # Before it was locked, another process may have deleted it as a dead one's.
            except SpoolFault as fault:
                if fault.trouble != "busy" and path.exists():
                    raise
            finally:
                if not ready:
                    remove(path)
                    os.close(handle) if file is None else file.close()
            if ready and file is not None:
                OWNED.add(path)
                return file
        raise SpoolFault("other", "every new file was locked by another process")

    def _set_up(self, handle: int, max_bytes: int) -> None:
        pages = min(1000, max(8, max_bytes // 64 // 1024))
        with faults():
            self._db.execute(f"PRAGMA page_size={PAGE_BYTES}")
            self._db.execute("PRAGMA synchronous=OFF")
            self._db.execute("PRAGMA secure_delete=OFF")  # Some builds zero deleted data; see `rewrite`.
            self._db.execute(f"PRAGMA wal_autocheckpoint={pages}")
            self._db.execute(f"PRAGMA journal_size_limit={pages * PAGE_BYTES}")
            if not self._starts_wal():  # Then no other process can read it.
                self._db.close()
                self._db = self._connected("rw", 0.0)
                self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
                self._db.execute("PRAGMA journal_mode=PERSIST")
                self._db.execute("PRAGMA synchronous=OFF")
            self._db.execute("BEGIN EXCLUSIVE")
            self._make_table()
            self._db.execute("COMMIT")
        # Not earlier: when SQLite releases its last lock, it releases all that the process holds on the file.
        try:
            if fcntl is not None:
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _OWNER_BYTE)
        except OSError as error:
            raise SpoolFault("busy" if isinstance(error, BlockingIOError) else "other", str(error)) from error

    def _starts_wal(self) -> bool:
        try:
            with faults():
                if self._one("PRAGMA journal_mode=WAL") != "wal":
                    return False
                self._db.execute("BEGIN IMMEDIATE")  # The answer is "wal" even if the shared memory cannot be opened.
                self._db.execute("COMMIT")
                return True
        except SpoolFault as fault:
            if fault.trouble != "other":
                raise
            return False  # For example, the file system has no shared memory.

    def _make_table(self) -> None:
        self._db.execute(_TABLE)
        self._db.execute(f"PRAGMA user_version={VERSION}")

    @classmethod
    def open_other(cls, path: Path, *, exclusive: bool = False, living: bool = False) -> SpoolFile | None:
        """Open the file of another process; return None if it is gone, or has no table yet.

        Args:
            path: path of the file.
            exclusive: lock it for changes. Without, it can be read; this delays neither its owner nor other readers.
            living: whether its owner is alive. If not, opening the file recovers what is only in its WAL file.
        """
        if not path.exists():
            return None
        file, ready = cls(path, "ro" if living else "rw", 0.0 if exclusive else 0.25), False
        try:
            with faults():
                version = file._locked() if exclusive else file._begun()
                if version not in (0, VERSION):
                    raise SpoolFault("version", "the file has another version")
                if version == VERSION and file._one(_ODD) is not None:
                    raise SpoolFault("broken", "a row of the file has another kind of value")
            ready = version == VERSION and path.exists()  # One deleted while we waited for its lock still has its rows.
        finally:
            if not ready:
                file.close()
        return file if ready else None

    def _locked(self) -> int:
        self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute("BEGIN EXCLUSIVE")
        version = self._version()
        if version == 0:  # The owner died before creating the table.
            self._make_table()
        elif version == 1:
            for statement in _FROM_VERSION_1:
                self._db.execute(statement)
        self._db.execute("COMMIT")  # The lock is held until the file is closed.
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # Its rows may be about to be copied to a nearly full disk.
        return VERSION if version in (0, 1) else version

    def _begun(self) -> int:
        self._db.execute("PRAGMA query_only=1")
        self._db.execute("BEGIN")
        return self._version()

    def _version(self) -> int:
        version: int = self._one("PRAGMA user_version")
        if version == 0 and self._one("SELECT count(*) FROM sqlite_master") == 0:
            if self.path.stat().st_size not in (0, PAGE_BYTES):
                raise SpoolFault("broken", "the file has lost its beginning")
            return 0
        return version or -1

    def _one(self, query: str, values: Sequence[Any] = ()) -> Any:
        found = self._db.execute(query, values).fetchone()
        return None if found is None else found[0]

    # Changing

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with faults():
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:  # The next transaction must be able to begin.
                if self._db.in_transaction:  # With a full disk, SQLite has already rolled back.
                    self._db.execute("ROLLBACK")
                raise

    def _change(self, statements: Sequence[tuple[str, Sequence[Any]]]) -> None:
        """Execute statements, all or none. A single one needs no transaction around it."""
        if len(statements) == 1:
            with faults():
                self._db.execute(*statements[0])
        elif statements:
            with self._transaction() as db:
                for statement in statements:
                    db.execute(*statement)

    def insert(self, records: Sequence[Record]) -> None:
        """Insert records, all or none."""
        self._change(
            [
                (f"INSERT INTO records ({_COLUMNS}, body) VALUES {marks(_VALUES, part)}", [*chain.from_iterable(part)])  # noqa: S608
                for part in parts(records, VALUES_AT_ONCE // len(Record._fields))
            ]
        )

    def mark(self, changes: Iterable[tuple[int, str | None, str | None]]) -> None:
        """Set state and reason of records by key, in order; the state None deletes them. Unknown keys are ignored."""
        changes = [*changes]
        deleted = {key for key, state, _ in changes if state is None}
        last = {
            key: (int(state == "sent"), (reason or "") if state == "rejected" else None)
            for key, state, reason in changes
        }
        same: dict[tuple[int, str | None], list[int]] = {}
        for key, values in last.items():
            if key not in deleted:
                same.setdefault(values, []).append(key)
        updates = [statement for values, keys in same.items() for statement in _for_keys(_UPDATE, values, keys)]
        self._change([*_for_keys(_DELETE, (), [*deleted]), *updates])

    def redirect(self, keys: Iterable[int], destination: str) -> None:
        """Set the destination of records; rejected ones wait again."""
        self._change(_for_keys(_REDIRECT, (destination,), [*keys]))

    def delete_where(self, where: str, values: Sequence[Any] = (), *, size: int | None = None) -> tuple[int, int]:
        """Delete matching records, the oldest first, until their bodies have `size` bytes; None for all of them.

        Returns the numbers of deleted spans that are sent or local, and of those that are unsent.
        """
        keys: list[int] = []
        freed, counts = 0, [0, 0]
        with self._transaction() as db:
            query = (
                f"SELECT key, length(body), spans, NOT sent AND destination <> '{LOCAL}' FROM records "  # noqa: S608
                f"WHERE {where} ORDER BY key"
            )
            for key, length, spans, unsent in db.execute(query, values):
                if size is not None and freed >= size:
                    break
                keys.append(key)
                freed += length
                counts[unsent] += spans
            for statement in _for_keys(_DELETE, (), keys):
                db.execute(*statement)
        return counts[0], counts[1]

    def claim(self, name: int) -> None:
        """Write into the file which process adopts its records: `claim_of` its file; 0 if none does."""
        with faults():
            self._db.execute(f"PRAGMA application_id={name}")

    def rewrite(self) -> None:
        """Rewrite the file without deleted data: this shrinks it and removes deleted text from the disk."""
        with faults():
            self._db.execute("VACUUM")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def truncate_wal(self) -> bool:
        """Write the WAL file back and empty it; return False if another process is reading it."""
        with faults():
            self._db.execute("PRAGMA busy_timeout=0")
            blocked = self._one("PRAGMA wal_checkpoint(TRUNCATE)")
            self._db.execute(f"PRAGMA busy_timeout={OWNER_TIMEOUT_MILLIS}")
            return not blocked

    # Reading

    def records(self, where: str, values: Sequence[Any] = (), *, size: int | None = None) -> list[Record]:
        """Return the matching records in key order; with `size`, only the first that have that many bytes together."""
        with faults():
            if size is not None:
                last = None
                query = f"SELECT key, length(body) FROM records WHERE {where} ORDER BY key"  # noqa: S608
                for key, length in self._db.execute(query, values):
                    last, size = key, size - length
                    if size <= 0:
                        break
                where, values = f"({where}) AND key <= ?", (*values, last)
            query = f"SELECT {_COLUMNS}, body FROM records WHERE {where} ORDER BY key"  # noqa: S608
            return list(map(Record._make, self._db.execute(query, values)))

    def bodies(self, where: str, values: Sequence[Any] = ()) -> list[bytes]:
        """Return the bodies of the matching records in key order."""
        with faults():
            query = f"SELECT body FROM records WHERE {where} ORDER BY key"  # noqa: S608
            return [body for (body,) in self._db.execute(query, values)]

    def spans(self, session_id: str | None = None) -> Iterator[tuple[str, str | None, float, bytes]]:
        """Yield session id, cell, time and body of each row of spans in key order, reading one at a time.

        Args:
            session_id: only rows of this session; None for all.
        """
        query = """SELECT session_id, cell, added, body FROM records
            WHERE kind = 'spans' AND session_id = coalesce(?, session_id) ORDER BY key"""
        with faults():
            yield from self._db.execute(query, (session_id,))

    def load(self, keys: Iterable[int]) -> dict[int, bytes]:
        """Return bodies by key; missing keys are left out."""
        with faults():
            found = {key: self._one("SELECT body FROM records WHERE key = ?", (key,)) for key in keys}
        return {key: bytes(body) for key, body in found.items() if body is not None}

    def sessions(self) -> list[tuple[str, str, float, float, int, int]]:
        """Return id, destination, first and last time, spans and unsent spans of each session and destination."""
        with faults():
            query = """SELECT session_id, destination, min(added), max(added), sum(spans),
                sum(spans * NOT sent) FROM records GROUP BY 1, 2"""
            return list(self._db.execute(query))

    def runs(self) -> list[tuple[str, str, float]]:
        """Return key, session and first time of each run of a notebook cell that has spans."""
        with faults():
            query = (
                "SELECT cell, session_id, min(added) FROM records WHERE cell IS NOT NULL AND spans > 0 GROUP BY 1, 2"
            )
            return list(self._db.execute(query))

    def claimed(self) -> int:
        """Return `claim_of` the file of the process that adopts the records; 0 if none does."""
        with faults():
            return int(self._one("PRAGMA application_id"))

    def is_empty(self) -> bool:
        """Return whether the file has no records."""
        with faults():
            return self._one("SELECT 1 FROM records LIMIT 1") is None

    def used_bytes(self) -> int:
        """Return the size of the file without its free pages, and of its WAL file."""
        with faults():
            pages = self._one("PRAGMA page_count") - self._one("PRAGMA freelist_count")
        about = regular_file(Path(f"{self.path}-wal"))
        return int(pages) * PAGE_BYTES + (about.st_size if about is not None else 0)

    # Ending

    def close(self) -> None:
        """Close the file; it stays on disk for the next process. In a forked child, it is left to the parent."""
        if self._pid != os.getpid():
            return
        import sqlite3

        OWNED.discard(self.path)
        try:
            self._db.close()
        except sqlite3.Error:
            pass  # The file is not used again.
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def delete(self) -> None:
        """Close and delete the file.

        It is deleted before its lock is released, where the system allows that, so that no other process opens it. The
        database goes first: without its WAL file, deleted records would come back.
        """
        try:
            remove(self.path)
        except OSError:  # Windows does not delete open files.
            self.close()
            remove(self.path)
        self.close()


def claim_of(path: Path) -> int:
    """Return the number that stands for a file in a claim: its name begins with these 28 random bits."""
    return int(path.name[len(PREFIX) :][:_CLAIM_DIGITS], 16)


def has_living_owner(claim: int, directory: Path, own: Path | None) -> bool:
    """Return whether a running process other than this one owns the file that a claim stands for."""
    found = directory.glob(f"{PREFIX}{claim:0{_CLAIM_DIGITS}x}*{SUFFIX}") if claim else ()
    return any(path != own and (path in OWNED or owner_lives(path)) for path in found)


def marks(mark: str, values: Sequence[Any]) -> str:
    """Return a mark for each value, for a statement."""
    return ",".join([mark] * len(values))


def parts(values: Sequence[T], size: int) -> list[Sequence[T]]:
    """Return the values in parts of at most `size`."""
    return [values[at : at + size] for at in range(0, len(values), size)]


def _for_keys(query: str, values: Sequence[Any], keys: Sequence[int]) -> list[tuple[str, Sequence[Any]]]:
    """Return a statement for the records with these keys, as several if they are many."""
    return [(f"{query} WHERE key IN ({marks('?', part)})", (*values, *part)) for part in parts(keys, VALUES_AT_ONCE)]


def owner_lives(path: Path) -> bool:
    """Return whether a running process owns the file. This process must neither own it nor have it open."""
    if fcntl is None:
        try:
            file = SpoolFile.open_other(path, exclusive=True)
        except SpoolFault as fault:
            return fault.trouble == "busy"
        if file is not None:
            file.close()
        return False
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.lockf(handle, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, _OWNER_BYTE)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
