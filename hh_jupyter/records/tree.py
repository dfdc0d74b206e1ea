"""From records to a tree: parents, order, repeats, own time, critical path, and where each error began.

Pure functions of the rows, and without recursion, since traces of 10,000 spans and 2,000 levels occur.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from hh_jupyter.records.calls import SpanKey, by_identity, by_place, circle_cuts, key_of, repeated_spans
from hh_jupyter.records.record import SpanRecord

__all__ = ["FOLD_FROM", "SpanNode", "SpanTree", "TreeRow"]

# One span in its place in the tree.

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


# Where the time went: own time of a span, and the critical path that decided when its root ended.


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


# Where each error began: a failing span repeats the error of the one below it, which is shown and counted once.


def place_errors(nodes: Sequence[SpanNode], ended_ok_ns: int | None = None) -> None:
    """Set `error` of each node, given depth first, and count origins up to the roots.

    Args:
        nodes: of a tree.
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
        uncaught = id(node) in leaves_root or (node.parent is None and not _survived(node, ended_ok_ns))
        passed_on = _passed_on(node)
        if passed_on and _tells(node) and all(map(_only_failed, passed_on)):
            repeated.update(map(id, passed_on))
            passed_on = []
        if uncaught:
            leaves_root.update(map(id, passed_on))
        node.error = "propagated" if passed_on else ("uncaught" if uncaught else "caught")
    for node in reversed(nodes):
        node.errors += node.error == "uncaught"
        node.caught += node.error == "caught"
        if node.parent is not None:
            node.parent.errors += node.errors
            node.parent.caught += node.caught


def _survived(root: SpanNode, ended_ok_ns: int | None) -> bool:
    return ended_ok_ns is not None and root.end_ns <= ended_ok_ns


def _passed_on(node: SpanNode) -> list[SpanNode]:
    """The children whose error became this node's; the other failing children were caught, for a retry perhaps.

    It is the same error if type and message are equal. Without such a child, an error was turned into another one
    (`raise X from e`) only if nothing was tried after it. Failures that overlap in time, as under `gather`, go as one.
    """
    failing = [child for child in node.children if child.record.status == "error"]
    if not failing:
        return []
    said = _what(node)
    passed = [child for child in failing if said is not None and _what(child) == said]
    if not passed and node.children[-1].start_ns <= max(child.end_ns for child in failing):
        passed = failing
    last_start = max((child.start_ns for child in passed), default=0)
    return [child for child in passed if child.end_ns > last_start or child.start_ns == last_start]


def _tells(node: SpanNode) -> bool:
    error = node.record.error
    return error is not None and bool(error.message)


def _only_failed(node: SpanNode) -> bool:
    """Whether an HTTP request has nothing to say but that it failed: the client above it says how."""
    below = any(child.record.status == "error" for child in node.children)
    return node.record.facts.kind == "http" and not _tells(node) and not below


def _what(node: SpanNode) -> tuple[str, str] | None:
    error = node.record.error
    return None if error is None else (error.type, error.message)


FOLD_FROM = 4
"""This many adjacent siblings with one name and kind, none with an error below, are shown as one row."""


@dataclass(frozen=True, slots=True)
class TreeRow:
    """A row of a display: one span with its children in rows of their own, or a fold of repeats.

    Attributes:
        node: the span; of a fold the first.
        items: the repeats of a fold, sorted by start; empty for a single span. What is below them has no rows.
    """

    node: SpanNode
    items: tuple[SpanNode, ...] = ()

    @property
    def duration_ns(self) -> int:
        """Nanoseconds; of a fold the median (p50)."""
        durations = sorted(item.end_ns - item.start_ns for item in self.items or (self.node,))
        return durations[len(durations) // 2]

    @property
    def tokens(self) -> int | None:
        """Of the span or of all repeats, with those below; None when none says."""
        return _sum_known(item.tokens for item in self.items or (self.node,))

    @property
    def spans(self) -> int:
        """How many spans have no other row than this one."""
        return sum(1 + item.spans for item in self.items) if self.items else 1


@dataclass(frozen=True, slots=True, eq=False)
class SpanTree:
    """The spans of a cell, or of anything else, as they called each other.

    Attributes:
        roots: sorted by start. A span whose parent is not among the rows is a root.
        nodes: all, depth first.
        start_ns: the earliest start; 0 without spans.
        end_ns: the latest end; 0 without spans.
        deepest_error: origin of the deepest uncaught error, the earliest of equals.
    """

    roots: tuple[SpanNode, ...]
    nodes: tuple[SpanNode, ...]
    start_ns: int
    end_ns: int
    deepest_error: SpanNode | None

    @classmethod
    def build(cls, records: Iterable[SpanRecord], *, now_ns: int = 0, ended_ok_ns: int | None = None) -> SpanTree:
        """Arrange rows, given in any order: the tree is the same. Of rows with the same ids one counts.

        A span whose parent is not among the rows is a root until a tree is built in which it is.

        Args:
            records: of spans that ended or still run.
            now_ns: until when those that run have run, in Unix nanoseconds; by default until the last known moment.
            ended_ok_ns: until when the code that made the roots has survived, in Unix nanoseconds: it caught the errors
                that left roots by then. None: nobody knows, and they count as uncaught.
        """
        each = by_identity(records)
        repeated = repeated_spans(each.values())
        by_id = {key: SpanNode(record) for key, record in each.items()}
        ordered = sorted(by_id.values(), key=_place)
        start = ordered[0].record.start_ns if ordered else 0
        end = max((max(node.record.end_ns or 0, node.record.start_ns) for node in ordered), default=0)
        end = max(end, now_ns)
        roots = _link(ordered, by_id)
        nodes = _depth_first(roots)
        if len(nodes) < len(ordered):
            _cut_circles(nodes, ordered, roots)
            nodes = _depth_first(roots)
        for node in nodes:
            node.end_ns = end if node.record.end_ns is None else max(node.record.end_ns, node.record.start_ns)
        above = {id(by_id[key].parent) for key in repeated}
        for node in reversed(nodes):
            _sum_up(node, repeated if id(node) in above else None)
        place_errors(nodes, ended_ok_ns)
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
        """A span has not ended."""
        return any(node.record.end_ns is None for node in self.nodes)

    def rows(self) -> list[TreeRow]:
        """Depth first, with repeats folded. Each span is in exactly one row or below a fold."""
        rows = []
        stack = _sibling_rows(self.roots)[::-1]
        while stack:
            row = stack.pop()
            rows.append(row)
            if not row.items and row.node.children:
                stack.extend(reversed(_sibling_rows(row.node.children)))
        return rows


def _link(ordered: list[SpanNode], by_id: dict[tuple[int, int], SpanNode]) -> list[SpanNode]:
    """Give each node its parent and children; the roots."""
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


def _place(node: SpanNode) -> tuple[int, int, int, int]:
    return by_place(node.record)


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


def _cut_circles(reached: list[SpanNode], ordered: list[SpanNode], roots: list[SpanNode]) -> None:
    """Make a root of the earliest span of each circle of parents, which only bad data has."""
    known = set(map(id, reached))
    lost = {node: node.parent for node in ordered if id(node) not in known and node.parent is not None}
    for node in circle_cuts(lost, _place):
        if node.parent is not None:
            node.parent.children.remove(node)
            node.parent = None
            roots.append(node)
    roots.sort(key=_place)


def _sum_up(node: SpanNode, repeated: set[SpanKey] | None) -> None:
    """What a node says about those below it; children come first.

    Args:
        repeated: spans whose call another span counts, if there are such children.
    """
    facts = node.record.facts
    said = facts.usage.tokens if facts.usage is not None and not facts.from_cache else None
    if not node.children:
        node.tokens = said
        node.own = ((node.start_ns, node.end_ns),) if node.end_ns > node.start_ns else ()
        return
    counted = node.children
    if repeated is not None:
        counted = [child for child in counted if key_of(child.record) not in repeated]
    below = _sum_known(child.tokens for child in counted)
    # An agent repeats the sum of its model calls, and nested spans of one call repeat its usage: never add the two.
    node.tokens = max(said, below) if said is not None and below is not None else (below if said is None else said)
    node.spans = sum(child.spans + 1 for child in node.children)
    node.own = own_time(node)


def _sibling_rows(siblings: Iterable[SpanNode]) -> list[TreeRow]:
    """Rows of siblings in order, with runs of repeats folded."""
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
    """The sum of what is known; None when nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
