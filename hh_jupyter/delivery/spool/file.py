"""Operations on an open spool file: insert, read, change, delete and count records."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from hh_jupyter.delivery.spool.directory import JOURNAL
from hh_jupyter.delivery.spool.opening import OWNED, connect, create, faults, limit, open_left
from hh_jupyter.delivery.spool.record import LOCAL, SPANS, LeftOver, Stored

_NO_BODY: Final = "x''"
_ABOUT: Final = "key, destination, kind, session_id, cell, spans, added, parked, length(body)"


class SpoolFile:
    """An open spool file. Not thread-safe; every method may raise `SpoolFault`.

    Args:
        path: path of the file.
        connection: connection that holds the file's exclusive lock.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path, self._db = path, connection

    @classmethod
    def create(cls, directory: Path, max_bytes: int) -> SpoolFile:
        """Create a new file; raises the same errors as `opening.create`."""
        return cls(*create(directory, max_bytes))

    @classmethod
    def open_left(cls, path: Path) -> SpoolFile | None:
        """Open a dead process's file; return None if its owner is alive or the file has another version."""
        connection = open_left(path)
        return None if connection is None else cls(path, connection)

    @classmethod
    def open_damaged(cls, path: Path) -> SpoolFile:
        """Open a damaged file without locking it, to read the records that are still readable."""
        return cls(path, connect(path))

    def limit(self, max_bytes: int) -> None:
        """Limit the file's growth to `max_bytes`; a larger file keeps its size."""
        limit(self._db, max_bytes)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with faults():
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:  # Including Ctrl-C: the next transaction must be able to begin.
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        try:
            self._db.execute("ROLLBACK")
        except sqlite3.Error:
            pass  # SQLite has already rolled back, as it does when the disk is full.

    def _one(self, query: str, values: Sequence[Any] = ()) -> Any:
        found = self._db.execute(query, values).fetchone()
        return None if found is None else found[0]

    # Changing

    def insert(self, records: Iterable[Stored]) -> None:
        """Insert records with their bodies and keys, all or none."""
        rows = (
            (r.key, r.destination, r.kind, r.session_id, r.cell, r.spans, r.added, r.parked, r.body) for r in records
        )
        with self._transaction() as db:
            db.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def remove(self, keys: Iterable[int]) -> None:
        """Delete records; unknown keys are ignored."""
        with self._transaction() as db:
            db.executemany("DELETE FROM records WHERE key = ?", ((key,) for key in keys))

    def park(self, keys: Iterable[int], reason: str | None) -> None:
        """Store why records were rejected; None makes them pending again."""
        with self._transaction() as db:
            db.executemany("UPDATE records SET parked = ? WHERE key = ?", ((reason, key) for key in keys))

    def send_to(self, keys: Iterable[int], destination: str) -> None:
        """Assign another destination to records; parked ones become pending again."""
        with self._transaction() as db:
            query = "UPDATE records SET destination = ?, parked = NULL WHERE key = ?"
            db.executemany(query, ((destination, key) for key in keys))

    def rewrite(self) -> None:
        """Rewrite the file without deleted data: this shrinks it and removes deleted text from the disk."""
        with faults():
            self._db.execute("VACUUM")

    def remove_oldest(self, size: int, *, local_only: bool) -> int | None:
        """Delete the oldest records until `size` bytes are free; return the number of spans, None without records."""
        keys, freed, spans = [], 0, 0
        with faults():
            query = "SELECT key, length(body), spans FROM records WHERE destination = ? OR NOT ? ORDER BY key"
            for key, length, number in self._db.execute(query, (LOCAL, local_only)):
                keys.append(key)
                freed, spans = freed + length, spans + number
                if freed >= size:
                    break
        self.remove(keys)
        return spans if keys else None

    def remove_older(self, added: float) -> tuple[int, int]:
        """Delete records added before this Unix time in seconds; return the numbers of local and of unsent spans."""
        with self._transaction() as db:
            query = "SELECT coalesce(sum(spans), 0) FROM records WHERE added < ? AND (destination = ?) = ?"
            counts = [db.execute(query, (added, LOCAL, local)).fetchone()[0] for local in (1, 0)]
            db.execute("DELETE FROM records WHERE added < ?", (added,))
        return counts[0], counts[1]

    # Reading

    def rows(self, where: str = "1", values: Sequence[Any] = (), *, bodies: bool = True) -> list[Stored]:
        """Return the records that match an SQL condition, in key order."""
        with faults():
            query = f"SELECT {_ABOUT}, {'body' if bodies else _NO_BODY} FROM records WHERE {where} ORDER BY key"  # noqa: S608  # Conditions are ours.
            return [Stored(*row) for row in self._db.execute(query, values)]

    def body(self, key: int) -> bytes | None:
        """Return the body of one record; None if there is no such record."""
        with faults():
            found = self._one("SELECT body FROM records WHERE key = ?", (key,))
            return None if found is None else bytes(found)  # In a damaged file it may have any type.

    def is_empty(self) -> bool:
        """Return whether the file has no records."""
        with faults():
            return self._one("SELECT 1 FROM records LIMIT 1") is None

    def counts(self) -> dict[str, LeftOver]:
        """Return the numbers of records and spans for each destination."""
        with faults():
            query = "SELECT destination, count(*), sum(spans) FROM records GROUP BY destination"
            return {name: LeftOver(records, spans) for name, records, spans in self._db.execute(query)}

    def sessions(self) -> list[tuple[str, str, float, float, int]]:
        """Return id, destination, first and last Unix time, and number of spans of each session and destination."""
        with faults():
            query = "SELECT session_id, destination, min(added), max(added), sum(spans) FROM records GROUP BY 1, 2"
            return list(self._db.execute(query))

    def span_bodies(self, session_id: str) -> list[bytes]:
        """Return the encoded spans of a session, in key order."""
        return [row.body for row in self.rows("session_id = ? AND kind = ?", (session_id, SPANS))]

    def readable(self) -> Iterator[Stored]:
        """Yield a damaged file's readable records: from the first up to the damage, then from the last back to it."""
        seen: set[int] = set()
        for order in ("ASC", "DESC"):
            try:
                for row in self._db.execute(f"SELECT {_ABOUT}, body FROM records ORDER BY key {order}"):  # noqa: S608
                    if row[0] in seen:
                        return
                    seen.add(row[0])
                    yield Stored(*row)
            except sqlite3.Error:
                continue

    # Ending

    def close(self) -> None:
        """Close the file; it stays on disk for the next process."""
        OWNED.discard(self.path)
        try:
            self._db.close()
        except sqlite3.Error:
            pass  # The file is not used again.

    def delete(self) -> None:
        """Close and delete the file.

        It is deleted before its lock is released, where the system allows that, so that no other process opens it.
        """
        for path in (self.path, Path(f"{self.path}{JOURNAL}")):
            try:
                path.unlink(missing_ok=True)
            except OSError:  # Windows does not delete open files.
                self.close()
                path.unlink(missing_ok=True)
        self.close()
