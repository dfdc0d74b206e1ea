"""Builds a tree from records: parents, order and folded repeats.

All functions are pure and avoid recursion, since traces of 10,000 spans and 2,000 levels occur.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from hh_jupyter.records.calls import (
    ModelCall,
    SpanKey,
    by_identity,
    calls_of_several_tracers,
    cycle_cuts,
    key_of,
    repeated_spans,
)
from hh_jupyter.records.failures import TIMEOUT, Ending, Failure, mark_errors, timed_out
from hh_jupyter.records.nodes import SpanNode, mark_critical, node_order, own_time
from hh_jupyter.records.record import SpanRecord

__all__ = ["FOLD_FROM", "TIMEOUT", "Ending", "SpanNode", "SpanTree", "TreeRow", "timed_out"]

FOLD_FROM = 4
"""From this number on, adjacent siblings with the same name and kind, and without errors, are shown as one row."""


@dataclass(frozen=True, slots=True)
class TreeRow:
    """A row of a display: one span, whose children have their own rows, or a fold of repeated spans.

    Attributes:
        node: the span; the first one of a fold. If other tracers describe the same call, it stands for their spans too.
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
        if self.items:
            return sum(1 + item.spans for item in self.items)
        return 1 + self.node.spans if shows_call_alone(self.node) else 1


@dataclass(frozen=True, slots=True, eq=False)
class SpanTree:
    """The spans of a cell, or any other spans, as a tree of calls.

    Attributes:
        roots: sorted by start. A span whose parent is missing is a root.
        nodes: all nodes, depth first.
        start_ns: the earliest start; 0 without spans.
        end_ns: the latest end; 0 without spans.
        failure: the error to show first; None without an uncaught error.
    """

    roots: tuple[SpanNode, ...]
    nodes: tuple[SpanNode, ...]
    start_ns: int
    end_ns: int
    failure: Failure | None

    @classmethod
    def build(cls, records: Iterable[SpanRecord], *, now_ns: int = 0, ending: Ending | None = None) -> SpanTree:
        """Build the tree; the order of the records does not matter, and records with the same ids count once.

        Args:
            records: of ended and running spans.
            now_ns: end of running spans, in Unix nanoseconds; by default the latest known time.
            ending: how the calling code ended: it caught the errors of roots that ended before, unless they left it.
                None: unknown, and these errors count as uncaught.
        """
        each = by_identity(records)
        repeated = repeated_spans(each.values())
        by_id = {key: SpanNode(record) for key, record in each.items()}
        ordered = sorted(by_id.values(), key=node_order)
        start = ordered[0].record.start_ns if ordered else 0
        end = max((max(node.record.end_ns or 0, node.record.start_ns) for node in ordered), default=0)
        end = max(end, now_ns)
        roots = _link(ordered, by_id)
        nodes = _depth_first(roots)
        if len(nodes) < len(ordered):
            _cut_cycles(nodes, ordered, roots)
            nodes = _depth_first(roots)
        if _join_calls(calls_of_several_tracers(each), by_id, nodes):
            roots = [root for root in roots if root.parent is None]
            nodes = _depth_first(roots)
            if len(nodes) < len(ordered):
                _cut_cycles(nodes, ordered, roots)
                nodes = _depth_first(roots)
        for node in nodes:
            node.end_ns = end if node.record.end_ns is None else max(node.record.end_ns, node.record.start_ns)
        above = {id(by_id[key].parent) for key in repeated}
        for node in reversed(nodes):
            _sum_up(node, repeated if id(node) in above else None)
        failure = mark_errors(nodes, ending)
        mark_critical(roots)
        return cls(tuple(roots), tuple(nodes), start, end, failure)

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
    def cancelled(self) -> int:
        """Cancelled spans; those below a cancelled span do not count."""
        return sum(root.cancelled for root in self.roots)

    @property
    def stopped(self) -> bool:
        """Whether a root was cancelled or timed out, and no error left the calling code."""
        return not self.errors and any(root.error == "cancelled" or timed_out(root) for root in self.roots)

    @property
    def deepest_error(self) -> SpanNode | None:
        """The span in which the error to show first began, or else the first error that caused it."""
        if self.failure is None:
            return None
        return self.failure.node or next(iter(self.failure.causes), None)

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
            if not row.items and row.node.children and not shows_call_alone(row.node):
                stack.extend(reversed(_sibling_rows(row.node.children)))
        return rows


def shows_call_alone(node: SpanNode) -> bool:
    """Whether one row is enough for a model call: the spans below only repeat it."""
    if not node.children or not node.children[0].repeats:
        return False
    below = list(node.children)
    for child in below:
        if not child.repeats or child.errors or child.caught:
            return False
        below.extend(child.children)
    return True


_MAX_COMPARED: Final = 8  # Some local servers reuse response ids; comparing all spans of one would be quadratic.


def _join_calls(calls: Sequence[ModelCall], by_id: dict[SpanKey, SpanNode], nodes: Sequence[SpanNode]) -> bool:
    """Move spans below the outermost span of the same call, as the totals count them; returns whether any was moved.

    A tracer that works with callbacks does not make its spans current, so that the client's spans are roots or beside.
    A span is only moved down: to a descendant of its parent.
    """
    if not calls:
        return False
    is_below = _is_below_in(nodes)
    moves = []
    for call in calls:
        outer, *others = [by_id[key_of(record)] for record in call.spans]
        for index, node in enumerate(others):
            near = (outer, *others[max(0, index - _MAX_COMPARED) : index])
            node.repeats = any(is_below(node, other) for other in near)
            above_both = node.parent is None or is_below(outer, node.parent)
            if not node.repeats and above_both and not is_below(outer, node):
                moves.append((node, outer))
    changed = {node.parent for node, _ in moves if node.parent is not None}
    for node, outer in moves:
        node.parent, node.repeats = outer, True
        outer.children.append(node)
    for parent in changed:
        parent.children = [child for child in parent.children if child.parent is parent]
    for outer in {outer for _, outer in moves}:
        outer.children.sort(key=node_order)
    return bool(moves)


def _is_below_in(nodes: Sequence[SpanNode]) -> Callable[[SpanNode, SpanNode], bool]:
    """A function that returns whether a node is below another one.

    Args:
        nodes: all nodes, depth first.
    """
    place = {id(node): index for index, node in enumerate(nodes)}
    last = list(range(len(nodes)))  # Index of the last node below each node.
    for index in reversed(range(len(nodes))):
        parent = nodes[index].parent
        if parent is not None:
            above = place[id(parent)]
            last[above] = max(last[above], last[index])
    return lambda node, other: place[id(other)] < place[id(node)] <= last[place[id(other)]]


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
    for node in cycle_cuts(unreached, node_order):
        if node.parent is not None:
            node.parent.children.remove(node)
            node.parent = None
            roots.append(node)
    roots.sort(key=node_order)


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
        fails = bool(node.error or node.errors or node.caught or node.cancelled)
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
