"""A span in the tree: its place, its own time, and its part of the critical path."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from hh_jupyter.records.calls import start_order
from hh_jupyter.records.record import SpanRecord

Interval = tuple[int, int]
"""Start and end in Unix nanoseconds; the start is before the end."""

ErrorRole = Literal["", "uncaught", "caught", "propagated", "cancelled"]


@dataclass(slots=True, eq=False, repr=False)
class SpanNode:
    """A span in the tree. Do not change it after the tree is built.

    Attributes:
        children: sorted by start.
        depth: 0 for a root.
        end_ns: the span's end; the tree's end while the span runs.
        own: own time: the duration without the union of the children.
        critical: the parts of own time on the critical path, which determines when the root ends.
        error: "uncaught" at the origin of an error that left the root and is not known to have been caught there,
            "caught" at the origin of other errors, "propagated" on the spans above an origin, and on spans of the same
            call below it. Origins are counted. "cancelled" on cancelled spans, which have no error.
        repeats: the span describes the same model call as its parent or another span above.
        passed: the parent failed with this span's error, or with one that was raised from it.
        converted: the span's error is another one than that of the spans below that it was raised from.
        tokens: of this span and the spans below; None if unknown. A sum repeated by an enclosing span counts once.
        errors: uncaught errors that began here or below.
        caught: caught errors that began here or below.
        cancelled: cancelled spans from here on; those below a cancelled span do not count.
        spans: number of spans below.
    """

    record: SpanRecord
    parent: SpanNode | None = None
    children: list[SpanNode] = field(default_factory=list)
    depth: int = 0
    end_ns: int = 0
    own: tuple[Interval, ...] = ()
    critical: tuple[Interval, ...] = ()
    error: ErrorRole = ""
    repeats: bool = False
    passed: bool = False
    converted: bool = False
    tokens: int | None = None
    errors: int = 0
    caught: int = 0
    cancelled: int = 0
    spans: int = 0

    @property
    def start_ns(self) -> int:
        """Unix nanoseconds."""
        return self.record.start_ns

    @property
    def ancestors(self) -> Iterator[SpanNode]:
        """From the parent up to the root."""
        node = self.parent
        while node is not None:
            yield node
            node = node.parent

    def __repr__(self) -> str:
        return f"SpanNode({self.record.name!r}, depth={self.depth}, spans={self.spans})"


def node_order(node: SpanNode) -> tuple[int, int, int, int]:
    """Sort key: by start, enclosing spans first."""
    return start_order(node.record)


# Own time and critical path.


def own_time(node: SpanNode) -> tuple[Interval, ...]:
    """The node's interval without the union of its children, which are sorted by start."""
    own = []
    cursor = node.start_ns
    for child in node.children:
        if child.start_ns >= node.end_ns:
            break
        if child.start_ns > cursor:
            own.append((cursor, child.start_ns))
        cursor = max(cursor, child.end_ns)
    if cursor < node.end_ns:
        own.append((cursor, node.end_ns))
    return tuple(own)


def mark_critical(roots: Iterable[SpanNode]) -> None:
    """Set `critical`: walk back from each root's end through the child that finished last; visits each node once."""
    stack = list(roots)
    while stack:
        node = stack.pop()
        cursor = node.end_ns
        parts = []
        for child in sorted(node.children, key=lambda child: child.end_ns, reverse=True):
            # The parent did not wait for a child still running at the cursor; an earlier start is invalid data.
            if child.end_ns > cursor or child.start_ns < node.start_ns:
                continue
            if child.end_ns < cursor:
                parts.append((child.end_ns, cursor))
            cursor = child.start_ns
            stack.append(child)
        if cursor > node.start_ns:
            parts.append((node.start_ns, cursor))
        node.critical = tuple(reversed(parts))
