"""Which cells have spans: how many arrived of each run, whether their prices are known, and what a number names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from hh_jupyter.records import cost
from hh_jupyter.records.log import SpanLog
from hh_jupyter.records.record import SpanRecord

PRICED_KINDS: Final = frozenset({"llm", "embedding", "reranker"})


class TracedCells:
    """The runs of cells that have spans, by key, in the order of their first ones.

    Args:
        log: rows of this kernel.
    """

    def __init__(self, log: SpanLog) -> None:
        self._log = log
        self._counts: Counter[str] = Counter()
        self._unpriced: set[str | None] = set()

    def add(self, rows: Sequence[SpanRecord]) -> Mapping[str, int]:
        """Count new rows, on whichever thread sealed them; how many there are of each run."""
        new = Counter(row.cell for row in rows if row.cell is not None)
        for key, number in new.items():
            self._counts[key] += number
        if not cost.ready():
            self._unpriced.update(row.cell for row in rows if _unpriced(row))
        return new

    def arrived(self, key: str) -> int:
        """How many spans of a run there were, also of those that are no longer kept."""
        return self._counts[key]

    def wants_price(self, key: str | None) -> bool:
        """Something of a run, or of no cell, has a price that is not known before the prices are loaded."""
        return key in self._unpriced and not cost.ready()

    def labels(self) -> list[str]:
        """Numbers of the cells, in order."""
        return sorted(set(map(_label, self._counts)), key=lambda label: (len(label), label))

    def named(self, label: str) -> str | None:
        """Number of the cell that is meant, "last" for the last one with spans; None if it has no spans."""
        labels = [_label(key) for key in self._counts]
        if label == "last":
            return labels[-1] if labels else None
        return label if label in labels else None

    def key(self, label: str) -> str:
        """Key of the latest run of a cell with this number.

        Raises:
            KeyError: it has no spans.
        """
        keys = [key for key in self._counts if _label(key) == label]
        if not keys:
            raise KeyError(label)
        return keys[-1]

    def rows(self, label: str) -> tuple[SpanRecord, ...]:
        """Rows of the latest run of a cell with this number, in the order in which they ended.

        Raises:
            KeyError: it has no spans.
        """
        return self._log.records(cell=self.key(label))


def _label(key: str) -> str:
    return key.rpartition("-")[0]


def _unpriced(row: SpanRecord) -> bool:
    return row.facts.kind in PRICED_KINDS and cost.needs_table(row.facts)
