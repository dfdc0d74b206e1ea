"""The counts of one destination: of all its spans, of the spans of each cell, and of its requests.

They are the single source for the export state in displays. Every count is an immutable tuple, so that any thread reads
all of it at one moment; only the holder of the destinations' lock changes counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from hh_jupyter.export.model import Row
from hh_jupyter.threads import evict_oldest

MAX_CELLS: Final = 10_000
"""Number of cells whose spans are counted separately; the oldest is forgotten."""

_ALL: Final = "\0all"
_REQUESTS: Final = "\0requests"
"""Keys of the counts of all spans and of all requests. No cell has such a name."""

_NO_REASONS: Final[Mapping[str, str | None]] = MappingProxyType({})


NOT_EXPORTED: Final = "otlp_enabled was off when they were made"


class Count(NamedTuple):
    """What happened to some spans or requests."""

    made: int = 0
    sent: int = 0
    rejected: int = 0
    dropped: int = 0
    elsewhere: int = 0
    rejected_reason: str | None = None
    dropped_reason: str | None = None

    @property
    def waiting(self) -> int:
        """The number of those that wait or are in flight."""
        return self.made - self.sent - self.rejected - self.dropped


class Counts:
    """Counts by cell, and in total."""

    def __init__(self) -> None:
        self._totals = {_ALL: Count(), _REQUESTS: Count()}
        self._cells: dict[str, Count] = {}

    def spans(self, cell: str | None = None) -> Count:
        """Return the count of one cell's spans, or of all spans."""
        return self._totals[_ALL] if cell is None else self._cells.get(cell, Count())

    def requests(self) -> Count:
        """Return the count of session starts, updates and events."""
        return self._totals[_REQUESTS]

    def made(self, cell: str | None, spans: int) -> None:
        """Count spans that were finalized; a negative number takes them back."""
        self._see(cell)
        for key in _keys(cell):
            self._add(key, made=spans)

    def elsewhere(self, cell: str | None, spans: int) -> None:
        """Count spans that another exporter sends to this destination."""
        self._see(cell)
        for key in _keys(cell):
            self._add(key, elsewhere=spans)

    def not_exported(self, cell: str | None, spans: int) -> None:
        """Count spans that were finalized and are never sent, by the setting that was in force."""
        self._see(cell)
        for key in _keys(cell):
            self._add(key, {"dropped_reason": NOT_EXPORTED}, made=spans, dropped=spans)

    def _see(self, cell: str | None) -> None:
        if cell is not None and cell not in self._cells:
            self._cells[cell] = Count()
            evict_oldest(self._cells, MAX_CELLS)

    def request_made(self) -> None:
        """Count a session start, an update or an event."""
        self._add(_REQUESTS, made=1)

    def moved(self, row: Row) -> None:
        """Forget a row that waits, because another destination counts it from now on."""
        for key, number in _numbers(row):
            self._add(key, made=-number)

    def sent(self, rows: Sequence[Row], rejected: int, reason: str | None) -> None:
        """Count accepted rows.

        Args:
            rows: of one request.
            rejected: the number of spans that the backend rejected without naming them. Each cell counts the worst.
            reason: why it rejected them.
        """
        numbers: Counter[str] = Counter()
        for row in rows:
            numbers.update(dict(_numbers(row)))
        for key, number in numbers.items():
            lost = 0 if key == _REQUESTS else min(rejected, number)
            self._add(key, {"dropped_reason": reason} if lost else {}, sent=number - lost, dropped=lost)

    def rejected(self, row: Row, reason: str) -> None:
        """Count a row that was rejected and is kept."""
        for key, number in _numbers(row):
            self._add(key, {"rejected_reason": reason}, rejected=number)

    def no_longer_rejected(self, row: Row) -> None:
        """Count a rejected row as waiting."""
        for key, number in _numbers(row):
            self._add(key, rejected=-number)

    def dropped(self, row: Row, reason: str) -> None:
        """Count a row that was lost."""
        for key, number in _numbers(row):
            self._add(key, {"dropped_reason": reason}, dropped=number)

    def _add(self, key: str, reasons: Mapping[str, str | None] = _NO_REASONS, **changes: int) -> None:
        counts = self._totals if key in self._totals else self._cells
        count = counts.get(key)
        if count is not None:  # Otherwise the cell is too old.
            new: dict[str, Any] = {name: getattr(count, name) + by for name, by in changes.items()}
            counts[key] = count._replace(**{**new, **reasons})


def _keys(cell: str | None) -> tuple[str, ...]:
    """Return the keys that spans of a cell count under. Spans outside cells are never reported separately."""
    return (_ALL,) if cell is None else (_ALL, cell)


def _numbers(row: Row) -> tuple[tuple[str, int], ...]:
    """Return the keys that a row counts under, each with its number."""
    if row.kind != "spans":
        return ((_REQUESTS, 1),)
    return tuple((key, row.spans) for key in _keys(row.cell))
