"""Which rows of a tree are shown, and what they say."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hh_jupyter.display import format as fmt
from hh_jupyter.display.clean import clean
from hh_jupyter.display.summary import error_tag, span_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hh_jupyter.display.view import CellView
    from hh_jupyter.records.tree import SpanTree, TreeRow

MODEL_LENGTH = 40

KIND_WORDS = {
    "llm": "llm",
    "embedding": "emb",
    "tool": "tool",
    "agent": "agent",
    "chain": "chain",
    "retriever": "ret",
    "reranker": "rank",
    "guardrail": "guard",
    "http": "http",
    "db": "db",
    "other": "span",
}
"""The word for each kind of span, at most five letters."""


@dataclass(frozen=True, slots=True)
class RowText:
    """What a row says, in words; empty where it says nothing. Errors: see `error_tag`.

    Attributes:
        spread: times of a fold. Example: "p50 57 ms, p95 78 ms, max 78 ms, sum 684 ms".
    """

    kind: str
    name: str
    model: str
    repeats: str
    time: str
    tokens: str
    tag: str
    spread: str = ""


def describe_row(row: TreeRow) -> RowText:
    """The words of a row."""
    record = row.node.record
    tokens = row.tokens
    time = fmt.duration(row.duration_ns)
    if row.items:
        time = f"p50 {time}"
    elif record.end_ns is None:
        time = "running"
    return RowText(
        kind=KIND_WORDS.get(record.facts.kind, "span"),
        name=span_name(record.name),
        model=clean(record.facts.model or record.facts.model_requested or "", MODEL_LENGTH),
        repeats=f"×{len(row.items):,}" if row.items else "",
        time=time,
        tokens=f"{tokens:,}" if tokens else "",
        tag=error_tag(row.node),
        spread=_spread(row) if row.items else "",
    )


def _spread(row: TreeRow) -> str:
    """What folding leaves of the times."""
    times = sorted(item.end_ns - item.start_ns for item in row.items)
    p95 = times[math.ceil(0.95 * len(times)) - 1]
    said = {"p50": row.duration_ns, "p95": p95, "max": times[-1], "sum": sum(times)}
    return ", ".join(f"{name} {fmt.duration(time)}" for name, time in said.items())


def rows_of(view: CellView) -> list[TreeRow]:
    """The rows of a view's tree; of one that is about errors those that failed, and those above them."""
    rows = view.tree.rows()
    if not view.errors_only:
        return rows
    return [row for row in rows if row.node.error or row.node.errors or row.node.caught]


def choose_rows(rows: Sequence[TreeRow], limit: int) -> list[TreeRow]:
    """At most `limit` of a tree's rows, in order.

    Errors and roots stay longest, then what was on the critical path, then what took the most time.
    """
    if len(rows) <= limit:
        return list(rows)
    ranked = sorted(range(len(rows)), key=lambda index: (_rank(rows[index]), index))
    return [rows[index] for index in sorted(ranked[: max(limit, 1)])]


def hidden_spans(tree: SpanTree, shown: Sequence[TreeRow]) -> int:
    """How many spans have no row."""
    return len(tree.nodes) - sum(row.spans for row in shown)


def _rank(row: TreeRow) -> tuple[int, int, int]:
    """Smaller is kept longer. Ancestors come before those below them, so that a row is rarely without its parent."""
    node = row.node
    if node.error == "uncaught":
        return 0, 0, 0
    if node.parent is None:
        return 1, 0, 0
    if node.error or node.errors:
        return 2, node.depth, 0
    if node.critical or node.caught:
        return 3, node.depth, node.start_ns - node.end_ns
    return 4, 0, node.start_ns - node.end_ns


def extent(row: TreeRow, tree: SpanTree) -> tuple[float, float]:
    """Where a row's bar starts and how long it is, as fractions of the tree's time; of a fold from first to last."""
    whole = tree.end_ns - tree.start_ns
    if whole <= 0:
        return 0.0, 1.0
    end = max((item.end_ns for item in row.items), default=row.node.end_ns)
    return (row.node.start_ns - tree.start_ns) / whole, (end - row.node.start_ns) / whole
