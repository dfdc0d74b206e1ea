"""One span in its place in the tree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from hh_jupyter.records.record import SpanRecord

Interval = tuple[int, int]
"""Start and end in Unix nanoseconds; never empty."""

ErrorRole = Literal["", "uncaught", "caught", "propagated"]


@dataclass(slots=True, eq=False, repr=False)
class SpanNode:
    """A span in its place. Written while the tree is built, read-only afterwards.

    Attributes:
        children: sorted by start.
        depth: 0 for a root.
        end_ns: the span's end; the tree's end while it runs.
        own: own time, the duration minus the union of the children.
        critical: the parts of own time that decided when the root ended.
        error: an error is counted once, at its origin: "uncaught" if it left the root and nobody
            is known to have survived it, else "caught". The spans it
            passed through on its way up are "propagated".
        tokens: of this span and those below; None when no span says. A sum repeated by an enclosing span counts once.
        errors: uncaught errors that began here or below.
        caught: caught errors that began here or below.
        spans: how many spans are below.
    """

    record: SpanRecord
    parent: SpanNode | None = None
    children: list[SpanNode] = field(default_factory=list)
    depth: int = 0
    end_ns: int = 0
    own: tuple[Interval, ...] = ()
    critical: tuple[Interval, ...] = ()
    error: ErrorRole = ""
    tokens: int | None = None
    errors: int = 0
    caught: int = 0
    spans: int = 0

    @property
    def start_ns(self) -> int:
        """Unix nanoseconds."""
        return self.record.start_ns

    @property
    def orphaned(self) -> bool:
        """Its parent is not among the rows: it still runs, is in another process, or is no longer kept."""
        return self.parent is None and self.record.parent_id is not None

    @property
    def ancestors(self) -> Iterator[SpanNode]:
        """From the parent up to the root."""
        node = self.parent
        while node is not None:
            yield node
            node = node.parent

    def __repr__(self) -> str:
        return f"SpanNode({self.record.name!r}, depth={self.depth}, spans={self.spans})"
