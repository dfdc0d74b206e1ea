"""Builds a tree from records: parents, order, folded repeats, own time, critical path, and the origin of errors.

All functions are pure and avoid recursion, since traces of 10,000 spans and 2,000 levels occur.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from hh_jupyter.records.calls import SpanKey, by_identity, cycle_cuts, key_of, repeated_spans, start_order
from hh_jupyter.records.record import SpanRecord

__all__ = ["FOLD_FROM", "SpanNode", "SpanTree", "TreeRow"]

Interval = tuple[int, int]
"""Start and end in Unix nanoseconds; the start is before the end."""

ErrorRole = Literal["", "uncaught", "caught", "propagated"]


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
            "caught" at the origin of other errors, "propagated" on the spans above an origin. Origins are counted.
        tokens: of this span and the spans below; None if unknown. A sum repeated by an enclosing span counts once.
        errors: uncaught errors that began here or below.
        caught: caught errors that began here or below.
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
    tokens: int | None = None
    errors: int = 0
    caught: int = 0
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


# Origin of errors: a failed span repeats the error of the span below it; the error is counted once.


def mark_error_roots(nodes: Sequence[SpanNode], ended_ok_ns: int | None = None) -> None:
    """Set `error` of each node and count origins up to the roots.

    Args:
        nodes: of a tree, depth first.
        ended_ok_ns: see `SpanTree.build`.
    """
    leaves_root: set[int] = set()
    repeated: set[int] = set()
    for node in nodes:
        if node.record.status != "error":
            continue
        if id(node) in repeated:
            node.error = "propagated"
            continue
        uncaught = id(node) in leaves_root or (node.parent is None and not _caught_by_caller(node, ended_ok_ns))
        propagating = _propagating_children(node)
        if propagating and _has_message(node) and all(map(_only_failed, propagating)):
            repeated.update(map(id, propagating))
            propagating = []
        if uncaught:
            leaves_root.update(map(id, propagating))
        node.error = "propagated" if propagating else ("uncaught" if uncaught else "caught")
    for node in reversed(nodes):
        node.errors += node.error == "uncaught"
        node.caught += node.error == "caught"
        if node.parent is not None:
            node.parent.errors += node.errors
            node.parent.caught += node.caught


def _caught_by_caller(root: SpanNode, ended_ok_ns: int | None) -> bool:
    return ended_ok_ns is not None and root.end_ns <= ended_ok_ns


def _propagating_children(node: SpanNode) -> list[SpanNode]:
    """The children whose error became this node's error; the errors of other failed children were caught.

    Errors with equal type and message are the same. Without such a child, an error was converted (`raise X from e`) if
    no other child started after it. Failures that overlap in time, as under `gather`, propagate together.
    """
    failing = [child for child in node.children if child.record.status == "error"]
    if not failing:
        return []
    error = _error_key(node)
    propagating = [child for child in failing if error is not None and _error_key(child) == error]
    if not propagating and node.children[-1].start_ns <= max(child.end_ns for child in failing):
        propagating = failing
    last_start = max((child.start_ns for child in propagating), default=0)
    return [child for child in propagating if child.end_ns > last_start or child.start_ns == last_start]


def _has_message(node: SpanNode) -> bool:
    """Whether the span's error has a message."""
    error = node.record.error
    return error is not None and bool(error.message)


def _only_failed(node: SpanNode) -> bool:
    """Whether an HTTP span failed without an error message of its own; the client's span above describes the error."""
    failed_below = any(child.record.status == "error" for child in node.children)
    return node.record.facts.kind == "http" and not _has_message(node) and not failed_below


def _error_key(node: SpanNode) -> tuple[str, str] | None:
    error = node.record.error
    return None if error is None else (error.type, error.message)


FOLD_FROM = 4
"""From this number on, adjacent siblings with the same name and kind, and without errors, are shown as one row."""


@dataclass(frozen=True, slots=True)
class TreeRow:
    """A row of a display: one span, whose children have their own rows, or a fold of repeated spans.

    Attributes:
        node: the span; the first one of a fold.
        items: the spans of a fold, sorted by start; empty for a single span. Spans below a fold have no rows.
    """

    node: SpanNode
    items: tuple[SpanNode, ...] = ()

    @property
    def duration_ns(self) -> int:
        """Nanoseconds; the median (p50) of a fold."""
        durations = sorted(item.end_ns - item.start_ns for item in self.items or (self.node,))
        return durations[len(durations) // 2]

    @property
    def tokens(self) -> int | None:
        """Tokens of the span or of all spans of a fold, including those below; None if unknown."""
        return _sum_known(item.tokens for item in self.items or (self.node,))

    @property
    def spans(self) -> int:
        """Number of spans that this row stands for."""
        return sum(1 + item.spans for item in self.items) if self.items else 1


@dataclass(frozen=True, slots=True, eq=False)
class SpanTree:
    """The spans of a cell, or any other spans, as a tree of calls.

    Attributes:
        roots: sorted by start. A span whose parent is missing is a root.
        nodes: all nodes, depth first.
        start_ns: the earliest start; 0 without spans.
        end_ns: the latest end; 0 without spans.
        deepest_error: origin of the deepest uncaught error; of several, the earliest.
    """

    roots: tuple[SpanNode, ...]
    nodes: tuple[SpanNode, ...]
    start_ns: int
    end_ns: int
    deepest_error: SpanNode | None

    @classmethod
    def build(cls, records: Iterable[SpanRecord], *, now_ns: int = 0, ended_ok_ns: int | None = None) -> SpanTree:
        """Build the tree; the order of the records does not matter, and records with the same ids count once.

        Args:
            records: of ended and running spans.
            now_ns: end of running spans, in Unix nanoseconds; by default the latest known time.
            ended_ok_ns: when the calling code ended without an exception, in Unix nanoseconds: it caught the errors of
                roots that ended before. None: unknown, and these errors count as uncaught.
        """
        each = by_identity(records)
        repeated = repeated_spans(each.values())
        by_id = {key: SpanNode(record) for key, record in each.items()}
        ordered = sorted(by_id.values(), key=_node_order)
        start = ordered[0].record.start_ns if ordered else 0
        end = max((max(node.record.end_ns or 0, node.record.start_ns) for node in ordered), default=0)
        end = max(end, now_ns)
        roots = _link(ordered, by_id)
        nodes = _depth_first(roots)
        if len(nodes) < len(ordered):
            _cut_cycles(nodes, ordered, roots)
            nodes = _depth_first(roots)
        for node in nodes:
            node.end_ns = end if node.record.end_ns is None else max(node.record.end_ns, node.record.start_ns)
        above = {id(by_id[key].parent) for key in repeated}
        for node in reversed(nodes):
            _sum_up(node, repeated if id(node) in above else None)
        mark_error_roots(nodes, ended_ok_ns)
        mark_critical(roots)
        origins = [node for node in nodes if node.error == "uncaught"]
        deepest = min(origins, key=lambda node: (-node.depth, node.end_ns), default=None)
        return cls(tuple(roots), tuple(nodes), start, end, deepest)

    @property
    def title(self) -> str:
        """The root's name, or "3 traces"."""
        if not self.roots:
            return "no spans"
        traces = len({root.record.trace_id for root in self.roots})
        if traces == 1:
            return self.roots[0].record.name
        return f"{traces:,} traces"

    @property
    def errors(self) -> int:
        """Uncaught errors, each counted once."""
        return sum(root.errors for root in self.roots)

    @property
    def caught(self) -> int:
        """Caught errors, each counted once."""
        return sum(root.caught for root in self.roots)

    @property
    def running(self) -> bool:
        """Whether a span has not ended."""
        return any(node.record.end_ns is None for node in self.nodes)

    def rows(self) -> list[TreeRow]:
        """The rows of a display, depth first, with repeats folded. Each span is in exactly one row or below a fold."""
        rows = []
        stack = _sibling_rows(self.roots)[::-1]
        while stack:
            row = stack.pop()
            rows.append(row)
            if not row.items and row.node.children:
                stack.extend(reversed(_sibling_rows(row.node.children)))
        return rows


def _link(ordered: list[SpanNode], by_id: dict[tuple[int, int], SpanNode]) -> list[SpanNode]:
    """Set parents and children; returns the roots."""
    roots = []
    for node in ordered:
        parent_id = node.record.parent_id
        parent = None if parent_id is None else by_id.get((node.record.trace_id, parent_id))
        if parent is None or parent is node:
            roots.append(node)
        else:
            node.parent = parent
            parent.children.append(node)
    return roots


def _node_order(node: SpanNode) -> tuple[int, int, int, int]:
    return start_order(node.record)


def _depth_first(roots: list[SpanNode]) -> list[SpanNode]:
    """All nodes below these, with their depth set."""
    nodes: list[SpanNode] = []
    stack = roots[::-1]
    while stack:
        node = stack.pop()
        nodes.append(node)
        if node.parent is not None:
            node.depth = node.parent.depth + 1
        stack.extend(reversed(node.children))
    return nodes


def _cut_cycles(reached: list[SpanNode], ordered: list[SpanNode], roots: list[SpanNode]) -> None:
    """Make the earliest span of each cycle of parents a root; only invalid data has cycles."""
    known = set(map(id, reached))
    unreached = {node: node.parent for node in ordered if id(node) not in known and node.parent is not None}
    for node in cycle_cuts(unreached, _node_order):
        if node.parent is not None:
            node.parent.children.remove(node)
            node.parent = None
            roots.append(node)
    roots.sort(key=_node_order)


def _sum_up(node: SpanNode, repeated: set[SpanKey] | None) -> None:
    """Set `tokens`, `spans` and `own` of a node whose children are done.

    Args:
        repeated: spans whose call is counted by another span; None if the node has no such children.
    """
    facts = node.record.facts
    own_tokens = facts.usage.tokens if facts.usage is not None and not facts.from_cache else None
    if not node.children:
        node.tokens = own_tokens
        node.own = ((node.start_ns, node.end_ns),) if node.end_ns > node.start_ns else ()
        return
    counted = node.children
    if repeated is not None:
        counted = [child for child in counted if key_of(child.record) not in repeated]
    below = _sum_known(child.tokens for child in counted)
    # An agent repeats the sum of its model calls, and nested spans of one call repeat its usage: do not add them.
    if own_tokens is None or below is None:
        node.tokens = below if own_tokens is None else own_tokens
    else:
        node.tokens = max(own_tokens, below)
    node.spans = sum(child.spans + 1 for child in node.children)
    node.own = own_time(node)


def _sibling_rows(siblings: Iterable[SpanNode]) -> list[TreeRow]:
    """Rows of siblings in order, with repeats folded."""
    runs: list[list[SpanNode]] = []
    key: tuple[str, str] | None = None
    for node in siblings:
        fails = bool(node.error or node.errors or node.caught)
        this = None if fails else (node.record.name, node.record.facts.kind)
        if this is None or this != key:
            runs.append([])
        runs[-1].append(node)
        key = this
    rows: list[TreeRow] = []
    for run in runs:
        rows.extend([TreeRow(run[0], tuple(run))] if len(run) >= FOLD_FROM else [TreeRow(node) for node in run])
    return rows


def _sum_known(values: Iterable[int | None]) -> int | None:
    """The sum of the known values; None if there are none."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
