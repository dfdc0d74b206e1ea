"""Where the time went: own time of a span, and the critical path that decided when its root ended."""

from __future__ import annotations

from collections.abc import Iterable

from hh_jupyter.records.span_node import Interval, SpanNode


def own_time(node: SpanNode) -> tuple[Interval, ...]:
    """The node's interval without the union of its children; these are sorted by start."""
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
    """Walk back from each root's end through the child that finished last before it; each node is visited once."""
    stack = list(roots)
    while stack:
        node = stack.pop()
        cursor = node.end_ns
        parts = []
        for child in sorted(node.children, key=lambda child: child.end_ns, reverse=True):
            # A child that still ran at the cursor was not waited for; one from before the node's start is bad data.
            if child.end_ns > cursor or child.start_ns < node.start_ns:
                continue
            if child.end_ns < cursor:
                parts.append((child.end_ns, cursor))
            cursor = child.start_ns
            stack.append(child)
        if cursor > node.start_ns:
            parts.append((node.start_ns, cursor))
        node.critical = tuple(reversed(parts))
