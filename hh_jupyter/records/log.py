"""The bounded log of this process's records, and where their details can be had."""

from __future__ import annotations

import dataclasses
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hh_jupyter.records.record import SpanDetails, SpanRecord

# Locks that may be met again on the same thread.
#
# Garbage collection can run a destructor at any allocation, also while one of our locks is held, and that destructor
# may end a span. Structures guarded here are therefore never changed by a thread that is already inside: such a
# thread asks `held()` first and leaves the work to somebody else.


class Guard(threading.Condition):
    """A re-entrant condition that can tell whether this thread is inside it."""

    def __init__(self) -> None:
        super().__init__(threading.RLock())

    def held(self) -> bool:
        """True if the calling thread holds the lock."""
        return bool(self._is_owned())  # type: ignore[attr-defined]  # Condition's own test, absent from its stub.


Listener = Callable[[tuple["SpanRecord", ...]], None]


class SpanLog:
    """Rows of finished spans, the oldest forgotten first.

    Args:
        max_rows: how many rows are kept; those forgotten are counted in `forgotten`.
    """

    def __init__(self, max_rows: int = 20_000) -> None:
        self.forgotten = 0
        self.load_details: Callable[[SpanRecord], SpanDetails | None] = lambda record: None
        self._max_rows = max_rows
        self._rows: deque[SpanRecord] = deque()
        self._by_cell: dict[str, deque[SpanRecord]] = {}
        self.lock = Guard()
        self._listeners: list[Listener] = []
        self._watchers: list[Listener] = []

    def extend(self, rows: Iterable[SpanRecord]) -> None:
        """Append rows in the order in which their spans ended, then tell the listeners."""
        added = tuple(rows)
        with self.lock:
            self._rows.extend(added)
            for row in added:
                if row.cell is not None:
                    self._by_cell.setdefault(row.cell, deque()).append(row)
            self._forget_above_bound()
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener(added)

    def find(self, trace_id: int, span_id: int) -> SpanRecord | None:
        """The latest row of this span; None if it is not kept."""
        with self.lock:
            ids = trace_id, span_id
            return next((row for row in reversed(self._rows) if (row.trace_id, row.span_id) == ids), None)

    def replace(self, row: SpanRecord, **changes: Any) -> None:
        """Put a changed copy in the place of a row that is still kept, then tell the watchers."""
        changed = dataclasses.replace(row, **changes)
        with self.lock:
            for rows in (self._rows, self._by_cell.get(row.cell or "", ())):
                place = next((place for place, kept in enumerate(rows) if kept is row), None)
                if place is not None and isinstance(rows, deque):
                    rows[place] = changed
            watchers = tuple(self._watchers)
        for watcher in watchers:
            watcher((changed,))

    def records(self, *, cell: str | None = None, session_id: str | None = None) -> tuple[SpanRecord, ...]:
        """Rows of one cell's run, of one session, of both, or all, in the order in which they ended."""
        with self.lock:
            rows = tuple(self._rows if cell is None else self._by_cell.get(cell, ()))
        return rows if session_id is None else tuple(row for row in rows if row.session_id == session_id)

    def _forget_above_bound(self) -> None:
        while len(self._rows) > self._max_rows:
            row = self._rows.popleft()
            self.forgotten += 1
            if row.cell is not None:
                of_cell = self._by_cell[row.cell]
                of_cell.popleft()  # The oldest row of all is the oldest of its cell.
                if not of_cell:
                    del self._by_cell[row.cell]

    def details(self, record: SpanRecord) -> SpanDetails | None:
        """What the row leaves out, or None when it is no longer kept."""
        return self.load_details(record)

    def listen(self, listener: Listener) -> None:
        """Call `listener(rows)` on the sealer's thread after each addition. It must not block and must not raise."""
        with self.lock:
            self._listeners.append(listener)

    def watch(self, watcher: Listener) -> None:
        """Call `watcher(rows)` after each change of rows that were there already; otherwise as `listen`."""
        with self.lock:
            self._watchers.append(watcher)

    def unlisten(self, listener: Listener) -> None:
        """Undo `listen` and `watch`; unknown listeners are ignored."""
        with self.lock:
            for listeners in (self._listeners, self._watchers):
                if listener in listeners:
                    listeners.remove(listener)

    def resize(self, max_rows: int) -> None:
        """Keep at most this many rows from now on."""
        with self.lock:
            self._max_rows = max_rows
            self._forget_above_bound()

    def clear(self) -> None:
        """Forget every row."""
        with self.lock:
            self._rows.clear()
            self._by_cell.clear()
            self.forgotten = 0
