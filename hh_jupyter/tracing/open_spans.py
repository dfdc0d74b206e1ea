"""Spans of cells that have started and not ended: what a cell that still runs is doing.

Kept only while somebody wants them, which is a notebook with a page: the processor pays one comparison otherwise.
"""

from __future__ import annotations

import queue
from typing import Final

from opentelemetry.sdk.trace import Span

from hh_jupyter.tracing.bounded import forget_oldest

MOST: Final = 1_000
"""A span that never ends must not be kept for ever."""


class OpenSpans:
    """Filled on the users' threads, inside destructors too: single operations on a dict, and a queue that re-enters.

    Attributes:
        wanted: somebody looks.
        started: how many have started so far; changes when something did.
        cells: a cell's key when its first span starts, and at each change of cells.
    """

    def __init__(self) -> None:
        self.wanted = False
        self.started = 0
        self.cells: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._spans: dict[int, tuple[str, Span]] = {}
        self._latest: str | None = None

    def add(self, span: Span, cell: str) -> None:
        """A span of this cell has started."""
        self._spans[span.context.span_id] = (cell, span)
        self.started += 1
        if cell != self._latest:
            self._latest = cell
            self.cells.put(cell)
            forget_oldest(self._spans, MOST)

    def remove(self, span_id: int) -> None:
        """A span has ended."""
        self._spans.pop(span_id, None)

    def of(self, cell: str) -> list[Span]:
        """Those of one cell, in the order in which they started."""
        return [span for key, span in tuple(self._spans.values()) if key == cell]

    def forget(self, cell: str) -> None:
        """The cell has ended: what still runs of it is told when it ends."""
        for span in self.of(cell):
            self.remove(span.context.span_id)
        self._latest = None


_open = OpenSpans()


def open_spans() -> OpenSpans:
    """Those of this process, whichever tracer made them."""
    return _open
