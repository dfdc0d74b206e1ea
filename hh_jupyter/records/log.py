"""The bounded log of this process's span records."""

from __future__ import annotations

import dataclasses
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hh_jupyter.records.record import SpanDetails, SpanRecord


class ReentrantCondition(threading.Condition):
    """A condition with a re-entrant lock and a test whether the calling thread holds it.

    Garbage collection can run a destructor at any allocation, also while the lock is held, and that destructor may end
    a span. A thread that already holds the lock must therefore not change the guarded data: it checks `held()` and
    leaves the work to another thread.
    """

    def __init__(self) -> None:
        super().__init__(threading.RLock())

    def held(self) -> bool:
        """Whether the calling thread holds the lock."""
        return bool(self._is_owned())  # type: ignore[attr-defined]  # Condition's own test, absent from its stub.


Listener = Callable[[tuple["SpanRecord", ...]], None]


class SpanLog:
    """Records of finished spans; the oldest are evicted first.

    Args:
        max_rows: number of records to keep; `evicted` counts the removed ones.
    """

    def __init__(self, max_rows: int = 20_000) -> None:
        self.evicted = 0
        self.load_details: Callable[[SpanRecord], SpanDetails | None] = lambda record: None
        self._max_rows = max_rows
        self._rows: deque[SpanRecord] = deque()
        self._by_cell: dict[str, deque[SpanRecord]] = {}
        self.lock = ReentrantCondition()
        self._listeners: list[Listener] = []
        self._change_listeners: list[Listener] = []

    def extend(self, rows: Iterable[SpanRecord]) -> None:
        """Append records in the order in which their spans ended, then notify the listeners."""
        added = tuple(rows)
        with self.lock:
            self._rows.extend(added)
            for row in added:
                if row.cell is not None:
                    self._by_cell.setdefault(row.cell, deque()).append(row)
            self._evict_oldest()
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener(added)

    def find(self, trace_id: int, span_id: int) -> SpanRecord | None:
        """The latest record of this span; None if it is not in the log."""
        with self.lock:
            ids = trace_id, span_id
            return next((row for row in reversed(self._rows) if (row.trace_id, row.span_id) == ids), None)

    def replace(self, row: SpanRecord, **changes: Any) -> None:
        """Replace a record by a changed copy if it is still in the log, then notify the change listeners."""
        changed = dataclasses.replace(row, **changes)
        with self.lock:
            for rows in (self._rows, self._by_cell.get(row.cell or "", ())):
                index = next((index for index, kept in enumerate(rows) if kept is row), None)
                if index is not None and isinstance(rows, deque):
                    rows[index] = changed
            listeners = tuple(self._change_listeners)
        for listener in listeners:
            listener((changed,))

    def records(self, *, cell: str | None = None, session_id: str | None = None) -> tuple[SpanRecord, ...]:
        """Records of one cell run, of one session, of both, or all, in the order in which the spans ended."""
        with self.lock:
            rows = tuple(self._rows if cell is None else self._by_cell.get(cell, ()))
        return rows if session_id is None else tuple(row for row in rows if row.session_id == session_id)

    def _evict_oldest(self) -> None:
        while len(self._rows) > self._max_rows:
            row = self._rows.popleft()
            self.evicted += 1
            if row.cell is not None:
                of_cell = self._by_cell[row.cell]
                of_cell.popleft()  # The oldest record is also the oldest of its cell.
                if not of_cell:
                    del self._by_cell[row.cell]

    def details(self, record: SpanRecord) -> SpanDetails | None:
        """Everything that the record omits; None if it is no longer stored."""
        return self.load_details(record)

    def listen(self, listener: Listener) -> None:
        """Call `listener(records)` after each addition, on the thread that adds. It must neither block nor raise."""
        with self.lock:
            self._listeners.append(listener)

    def listen_to_changes(self, listener: Listener) -> None:
        """Call `listener(records)` after each change of existing records; the rules are those of `listen`."""
        with self.lock:
            self._change_listeners.append(listener)

    def unlisten(self, listener: Listener) -> None:
        """Undo `listen` and `listen_to_changes`; unknown listeners are ignored."""
        with self.lock:
            for listeners in (self._listeners, self._change_listeners):
                if listener in listeners:
                    listeners.remove(listener)

    def resize(self, max_rows: int) -> None:
        """Keep at most this many records from now on."""
        with self.lock:
            self._max_rows = max_rows
            self._evict_oldest()

    def clear(self) -> None:
        """Remove all records."""
        with self.lock:
            self._rows.clear()
            self._by_cell.clear()
            self.evicted = 0
