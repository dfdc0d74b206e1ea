"""The bounded log of this process's span records.

One thread at a time adds records and changes them: the worker of the export. Any thread may read, without a lock, so
that an interrupt or a destructor on a program's thread never stops the worker.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from hh_jupyter.threads import copied, evict_oldest

if TYPE_CHECKING:
    from hh_jupyter.records.record import SpanDetails, SpanRecord

logger = logging.getLogger(__name__)

MAX_INCOMPLETE: Final = 1_000
"""Cell runs of which the log knows that it has evicted records; the latest ones."""

Listener = Callable[[tuple["SpanRecord", ...]], None]


class SpanLog:
    """Records of finished spans; the oldest are evicted first.

    Args:
        max_rows: number of records to keep; `evicted` counts the removed ones.

    Attributes:
        changes: number of records that were replaced.
    """

    def __init__(self, max_rows: int = 20_000) -> None:
        self.evicted = self.changes = 0
        self.load_details: Callable[[SpanRecord], SpanDetails | None] = lambda record: None
        self._max_rows = max_rows
        self._rows: deque[SpanRecord] = deque()
        self._by_cell: dict[str, deque[SpanRecord]] = {}
        self._with_event_id: deque[SpanRecord] = deque()
        self._incomplete: dict[str, None] = {}
        self._listeners: tuple[Listener, ...] = ()
        self._change_listeners: tuple[Listener, ...] = ()

    # The worker

    def extend(self, rows: Iterable[SpanRecord]) -> None:
        """Append records in the order in which their spans ended, then notify the listeners."""
        added = tuple(rows)
        self._rows.extend(added)
        self._with_event_id.extend(row for row in added if row.event_id is not None)
        for row in added:
            if row.cell is not None:
                self._by_cell.setdefault(row.cell, deque()).append(row)
        while len(self._rows) > self._max_rows:
            self._evict_oldest()
        _notify(self._listeners, added)

    def replace(self, row: SpanRecord, **changes: Any) -> None:
        """Replace a record by a changed copy if it is still in the log, then notify the change listeners."""
        changed = dataclasses.replace(row, **changes)
        for rows in (self._rows, self._with_event_id, self._by_cell.get(row.cell or "", deque())):
            index = next((index for index, kept in enumerate(rows) if kept is row), None)
            if index is not None:
                rows[index] = changed
        self.changes += 1
        _notify(self._change_listeners, (changed,))

    def _evict_oldest(self) -> None:
        row = self._rows.popleft()
        self.evicted += 1
        if self._with_event_id and self._with_event_id[0] is row:
            self._with_event_id.popleft()
        of_cell = self._by_cell.get(row.cell or "")
        if of_cell:
            of_cell.popleft()  # The oldest record is also the oldest of its cell.
            self._incomplete[row.cell or ""] = None
            evict_oldest(self._incomplete, MAX_INCOMPLETE)
            if not of_cell:
                del self._by_cell[row.cell or ""]

    # Any thread

    def find(self, trace_id: int, span_id: int) -> SpanRecord | None:
        """The latest record of this span; None if it is not in the log."""
        ids = trace_id, span_id
        return next((row for row in reversed(copied(self._rows)) if (row.trace_id, row.span_id) == ids), None)

    def find_event(self, event_id: str) -> SpanRecord | None:
        """The latest record of a span whose code chose this id for its event; None if it is not in the log."""
        wanted = bare_event_id(event_id)
        found = reversed(copied(self._with_event_id))
        return next((row for row in found if bare_event_id(row.event_id or "") == wanted), None)

    def records(self, *, cell: str | None = None, session_id: str | None = None) -> tuple[SpanRecord, ...]:
        """Records of one cell run, of one session, of both, or all, in the order in which the spans ended."""
        rows = copied(self._rows if cell is None else self._by_cell.get(cell, deque()))
        return rows if session_id is None else tuple(row for row in rows if row.session_id == session_id)

    def cells(self) -> tuple[str, ...]:
        """The keys of the cell runs that have records, in the order of their first ones."""
        return copied(self._by_cell)

    def is_complete(self, cell: str) -> bool:
        """Whether no record of this cell run was evicted, as far as known."""
        return cell not in self._incomplete

    def details(self, record: SpanRecord) -> SpanDetails | None:
        """Everything that the record omits; None if it is no longer stored."""
        return self.load_details(record)

    def listen(self, listener: Listener) -> None:
        """Call `listener(records)` after each addition, on the thread that adds. It must neither block nor raise."""
        self._listeners = (*self._listeners, listener)

    def listen_to_changes(self, listener: Listener) -> None:
        """Call `listener(records)` after each change of existing records; the rules are those of `listen`."""
        self._change_listeners = (*self._change_listeners, listener)

    def unlisten(self, listener: Listener) -> None:
        """Undo `listen` and `listen_to_changes`; unknown listeners are ignored."""
        self._listeners = _without(self._listeners, listener)
        self._change_listeners = _without(self._change_listeners, listener)

    def resize(self, max_rows: int) -> None:
        """Keep at most this many records from the next addition on."""
        self._max_rows = max_rows

    def clear(self) -> None:
        """Remove all records."""
        self._rows, self._by_cell, self._incomplete, self.evicted = deque(), {}, {}, 0
        self._with_event_id = deque()


def bare_event_id(event_id: str) -> str:
    """The id of an event as text that is equal for all ways to write it: without hyphens, in lower case."""
    return event_id.replace("-", "").lower()


def _notify(listeners: Iterable[Listener], rows: tuple[SpanRecord, ...]) -> None:
    for listener in listeners:
        try:
            listener(rows)
        except Exception:  # boundary: a display that fails must not affect the export.
            logger.debug("a listener of the span log failed", exc_info=True)


def _without(listeners: tuple[Listener, ...], listener: Listener) -> tuple[Listener, ...]:
    if listener not in listeners:
        return listeners
    index = listeners.index(listener)
    return listeners[:index] + listeners[index + 1 :]
