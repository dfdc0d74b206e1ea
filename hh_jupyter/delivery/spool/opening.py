"""Open a spool file: a new one for this process, or one that a dead process left.

The owner opens its file once and holds SQLite's exclusive lock until it ends; the operating system then releases the
lock, however the process ended. So if an exclusive transaction can begin on a file, its owner is dead. The journal mode
is PERSIST, not WAL: when a forked child closes its copy of the connection, a WAL's content is lost. With
`synchronous=OFF`, writes stay in the operating system's cache; they survive the process, but not a machine crash.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from hh_jupyter.delivery.spool.directory import PREFIX, SUFFIX
from hh_jupyter.delivery.spool.record import SpoolFault, Trouble

VERSION: Final = 1
"""Version of the table below. Files of another version are left to the release that created them."""

PAGE_BYTES: Final = 16 * 1024
NAMES_TRIED: Final = 5

OWNED: Final[set[Path]] = set()
"""Files that this process or a parent it was forked from has created and opened; they must not be opened again."""

_TABLE: Final = """CREATE TABLE records (
    key INTEGER PRIMARY KEY, destination TEXT NOT NULL, kind TEXT NOT NULL, session_id TEXT NOT NULL, cell TEXT,
    spans INTEGER NOT NULL, added REAL NOT NULL, parked TEXT, body BLOB NOT NULL)"""
_PRAGMAS: Final = (
    f"page_size={PAGE_BYTES}",
    "locking_mode=EXCLUSIVE",
    "journal_mode=PERSIST",
    f"journal_size_limit={4 * 1024 * 1024}",
    "synchronous=OFF",
    "secure_delete=OFF",  # Some builds zero deleted data, which doubles the work; see `SpoolFile.rewrite`.
)
_CODES: Final[dict[int, Trouble]] = {
    sqlite3.SQLITE_ERROR: "broken",  # No such table: another program wrote the file.
    sqlite3.SQLITE_BUSY: "busy",
    sqlite3.SQLITE_LOCKED: "busy",
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_CORRUPT: "broken",
    sqlite3.SQLITE_NOTADB: "broken",
    sqlite3.SQLITE_IOERR: "broken",  # Reading a truncated file raises this.
    sqlite3.SQLITE_IOERR_WRITE: "full",  # A quota was reached.
    sqlite3.SQLITE_IOERR_LOCK: "other",
    sqlite3.SQLITE_IOERR_RDLOCK: "other",
}


@contextmanager
def faults() -> Iterator[None]:
    """Convert SQLite errors to `SpoolFault`."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0)  # The lowest byte is the primary code.
        raise SpoolFault(_CODES.get(code) or _CODES.get(code & 0xFF, "other"), str(error)) from error


def connect(path: Path) -> sqlite3.Connection:
    """Connect to an existing file; the connection may be used from any thread.

    Raises:
        SpoolFault: the file does not exist.
    """
    with faults():
        # mode=rw never creates the file: one deleted just now would come back empty and readable by other users.
        address = f"{path.as_uri()}?mode=rw"
        made = sqlite3.connect(address, uri=True, timeout=0, isolation_level=None, check_same_thread=False)
        # A reference cycle that only `close` breaks: SQLite holds the method, and the method holds the connection.
        # Otherwise a forked child would close its copy at interpreter exit and roll back the parent's transaction.
        made.create_function("hh_jupyter_keep", 0, made.interrupt)
        return made


def create(directory: Path, max_bytes: int) -> tuple[Path, sqlite3.Connection]:
    """Create and lock a new file with a random name; return its path and the connection.

    Raises:
        OSError: the file cannot be created in the folder.
        SpoolFault: SQLite cannot use the file, for example because the file system has no locks.
    """
    for _ in range(NAMES_TRIED):
        path = directory / f"{PREFIX}{secrets.token_hex(8)}{SUFFIX}"
        made = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)  # The journal gets the same mode.
        inode = os.fstat(made).st_ino
        os.close(made)  # Close before locking: closing any handle of the file releases the process's locks.
        connection: sqlite3.Connection | None = None
        try:
            connection = connect(path)
            _set_up(connection, max_bytes)
        except SpoolFault as fault:
            if connection is not None:
                connection.close()
            if fault.trouble == "busy" or not path.exists():
                continue
            path.unlink()
            raise
        # Before it was locked, another process may have deleted it as an empty file of a dead process.
        if path.exists() and path.stat().st_ino == inode:
            OWNED.add(path)
            return path, connection
        connection.close()
    raise SpoolFault("other", "every new file was locked by somebody else")


def _set_up(connection: sqlite3.Connection, max_bytes: int) -> None:
    with faults():
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN EXCLUSIVE")
        _make_table(connection)
        connection.execute("COMMIT")
    limit(connection, max_bytes)


def _make_table(connection: sqlite3.Connection) -> None:
    connection.execute(_TABLE)
    connection.execute(f"PRAGMA user_version={VERSION}")


def limit(connection: sqlite3.Connection, max_bytes: int) -> None:
    """Limit the file's growth to `max_bytes`; a larger file keeps its size."""
    with faults():
        connection.execute(f"PRAGMA max_page_count={max(8, max_bytes // PAGE_BYTES)}")


def open_left(path: Path) -> sqlite3.Connection | None:
    """Open and lock a dead process's file; return None if its owner is alive or the file has another version.

    Raises:
        SpoolFault: the file is damaged or is not a spool file.
    """
    connection: sqlite3.Connection | None = None
    try:
        connection = connect(path)
        if _take_over(path, connection):
            return connection
        connection.close()
    except SpoolFault as fault:
        if connection is not None:
            connection.close()
        if fault.trouble != "busy" and path.exists():
            raise
    return None


def _take_over(path: Path, connection: sqlite3.Connection) -> bool:
    with faults():
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("BEGIN EXCLUSIVE")  # Also rolls back what its owner had not committed.
        version = _one(connection, "PRAGMA user_version")
        if version == 0 and not _one(connection, "SELECT count(*) FROM sqlite_master"):
            if path.stat().st_size:
                raise SpoolFault("broken", "the file has lost its beginning")
            _make_table(connection)  # The owner died before creating it.
            version = VERSION
        connection.execute("COMMIT")  # The lock is held until the file is closed.
    return bool(version == VERSION)


def _one(connection: sqlite3.Connection, query: str) -> Any:
    return connection.execute(query).fetchone()[0]
