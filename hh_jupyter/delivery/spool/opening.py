"""Opening a file of the spool: a new one for this process, or one that a dead process left.

The owner opens its file once and holds SQLite's exclusive lock until it dies; the operating system gives the lock back
then, however the process ended. So a file whose exclusive transaction can begin is a dead process's file. The journal
is PERSIST, not WAL: when a forked child closes its copy of the connection, a WAL's content is lost. `synchronous=OFF`
leaves the writes with the operating system, which survives the process; only a failure of the machine can lose them.
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
"""Of the table below. Files of another version are left to the release that made them."""

PAGE_BYTES: Final = 16 * 1024
NAMES_TRIED: Final = 5

OWNED: Final[set[Path]] = set()
"""Files that this process, or one it was forked from, made and has open: none of them is to be opened once more."""

_TABLE: Final = """CREATE TABLE records (
    key INTEGER PRIMARY KEY, destination TEXT NOT NULL, kind TEXT NOT NULL, session_id TEXT NOT NULL, cell TEXT,
    spans INTEGER NOT NULL, added REAL NOT NULL, parked TEXT, body BLOB NOT NULL)"""
_PRAGMAS: Final = (
    f"page_size={PAGE_BYTES}",
    "locking_mode=EXCLUSIVE",
    "journal_mode=PERSIST",
    f"journal_size_limit={4 * 1024 * 1024}",
    "synchronous=OFF",
    "secure_delete=OFF",  # Some builds zero what is deleted, which doubles the work; see `SpoolFile.rewrite`.
)
_CODES: Final[dict[int, Trouble]] = {
    sqlite3.SQLITE_ERROR: "broken",  # No such table: something else has written the file.
    sqlite3.SQLITE_BUSY: "busy",
    sqlite3.SQLITE_LOCKED: "busy",
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_CORRUPT: "broken",
    sqlite3.SQLITE_NOTADB: "broken",
    sqlite3.SQLITE_IOERR: "broken",  # A truncated file reads as one.
    sqlite3.SQLITE_IOERR_WRITE: "full",  # A quota.
    sqlite3.SQLITE_IOERR_LOCK: "other",
    sqlite3.SQLITE_IOERR_RDLOCK: "other",
}


@contextmanager
def faults() -> Iterator[None]:
    """Every error of SQLite leaves as a `SpoolFault`."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0)  # Its lowest byte is the class.
        raise SpoolFault(_CODES.get(code) or _CODES.get(code & 0xFF, "other"), str(error)) from error


def connect(path: Path) -> sqlite3.Connection:
    """A connection to a file that exists, for any thread.

    Raises:
        SpoolFault: there is no such file.
    """
    with faults():
        # Never made anew: a file that somebody deletes just now would come back empty, and readable for others.
        address = f"{path.as_uri()}?mode=rw"
        made = sqlite3.connect(address, uri=True, timeout=0, isolation_level=None, check_same_thread=False)
        # SQLite holds the method and the method the connection: only `close` ends that circle. A forked child that ends
        # its interpreter would else close its copy of the connection, and roll the parent's transaction back.
        made.create_function("hh_jupyter_keep", 0, made.interrupt)
        return made


def create(directory: Path, max_bytes: int) -> tuple[Path, sqlite3.Connection]:
    """A new file with a random name, locked.

    Raises:
        OSError: the folder takes no file.
        SpoolFault: SQLite cannot use it, for one because the file system has no locks.
    """
    for _ in range(NAMES_TRIED):
        path = directory / f"{PREFIX}{secrets.token_hex(8)}{SUFFIX}"
        made = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)  # SQLite gives the journal the same mode.
        inode = os.fstat(made).st_ino
        os.close(made)  # Before the lock is taken: closing any handle of the file gives up the process's locks.
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
        # Another process may have deleted it as a dead one's empty file, before it was locked.
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
    """Let the file grow to so many bytes; one that is larger keeps its size."""
    with faults():
        connection.execute(f"PRAGMA max_page_count={max(8, max_bytes // PAGE_BYTES)}")


def open_left(path: Path) -> sqlite3.Connection | None:
    """A dead process's file, locked as by its owner; None if the owner lives, or the file is of another version.

    Raises:
        SpoolFault: it is damaged, or no file of ours.
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
        connection.execute("BEGIN EXCLUSIVE")  # Also undoes what its owner had not finished.
        version = _one(connection, "PRAGMA user_version")
        if version == 0 and not _one(connection, "SELECT count(*) FROM sqlite_master"):
            if path.stat().st_size:
                raise SpoolFault("broken", "the file has lost its beginning")
            _make_table(connection)  # Its owner died before it did.
            version = VERSION
        connection.execute("COMMIT")  # The lock stays until the file is closed.
    return bool(version == VERSION)


def _one(connection: sqlite3.Connection, query: str) -> Any:
    return connection.execute(query).fetchone()[0]
