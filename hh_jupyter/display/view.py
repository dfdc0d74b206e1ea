"""What a display is given: everything about one cell's output, decided before anything is drawn."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

from hh_jupyter.display import format as fmt
from hh_jupyter.display.content import Detail, Said
from hh_jupyter.display.format import NAME_LENGTH, clean, span_name
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.records.totals import Totals
from hh_jupyter.records.tree import SpanNode, SpanTree, TreeRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One thing the user should know, below the summary: what, why and where the data is now, what to do next.

    Attributes:
        kind: "error" when something did not work, "info" when all is as it should be.
        title: half a sentence. Example: "3 spans were not sent."
        command: what to type next. Example: "%hh send".
        other: what may be typed instead, where there is no button for it. Example: "%hh save FILE".
    """

    kind: Literal["error", "info"]
    title: str
    text: str
    command: str | None = None
    other: str | None = None

    @property
    def commands(self) -> tuple[str, ...]:
        """What to type next, the best first."""
        return tuple(filter(None, (self.command, self.other)))


@dataclass(frozen=True, slots=True, kw_only=True)
class CellView:
    """One cell's output as data. The same view gives the same output, byte for byte.

    Attributes:
        view_id: id of the output's element in the page.
        label: what users type to name the cell. Example: "4" in `%hh show 4`. Empty where nothing names the spans.
        totals: of all spans of the tree, with those that have no row.
        raised: an exception left the cell.
        interrupted: the cell was interrupted; what had finished is shown.
        running: the cell has not ended; what there is so far is shown.
        late: how many of the spans ended after the cell.
        session_url: link to the session; shown only if it is https.
        mode: "auto" opens when an exception left the cell, "line" never, "tree" always.
        max_rows: rows of the tree at most; what has no row is counted.
        forgotten: spans of the cell that are not in the tree, because only so many are kept.
        errors_only: only rows with an error, and those that lead to one.
        detail: how much of what spans said is in `said`: "summary" nothing, "preview" the beginnings, "full" all of it.
        said: messages, inputs and outputs. The text form has them only if `asked`: a notebook's text stays short.
        unsaid: how many spans are left out of it that may have something to say.
        asked: the view was asked for by a command, with this detail.
        linked: static forms name the session, by a link or its id.
        origin: shown in place of the delivery word, for spans that were made elsewhere. Example: "Read from file".
        file: path of the file that they were read from.
    """

    view_id: str
    label: str
    tree: SpanTree
    totals: Totals
    export: ExportState
    session_name: str | None = None
    session_id: str | None = None
    raised: bool = False
    interrupted: bool = False
    running: bool = False
    late: int = 0
    notice: Notice | None = None
    session_url: str | None = None
    mode: str = "auto"
    max_rows: int = 60
    forgotten: int = 0
    errors_only: bool = False
    detail: Detail = "summary"
    said: tuple[Said, ...] = ()
    unsaid: int = 0
    asked: bool = False
    linked: bool = True
    origin: str | None = None
    file: str | None = None

    @property
    def open(self) -> bool:
        """The tree is shown without being asked for."""
        return self.mode == "tree" or (self.mode == "auto" and self.raised)


# The facts of the summary line and of the error, in words: every display says the same.

Mark = Literal["ok", "error", "running", "stopped"]
MESSAGE_LENGTH = 300
COMMAND_LENGTH = 240
"""A command with a path in it; one that is cut is of no use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The summary line in parts, in the order in which they are shown. Empty parts are not shown.

    Attributes:
        duration: from the first start to the last end.
        facts: cost, tokens, spans, LLM calls: the last ones give way first where room is short.
        delivery: the one word for what became of the spans, or where they come from.
    """

    mark: Mark
    title: str
    duration: str
    facts: tuple[str, ...]
    errors: str
    caught: str
    notes: tuple[str, ...]
    delivery: str


def summarize_view(view: CellView, hidden: int = 0) -> Summary:
    """The summary line of a view, whose display has no row for so many of its spans."""
    tree = view.tree
    hidden += view.forgotten
    notes = (
        "interrupted" if view.interrupted else "",
        f"+{view.late:,} after the cell ended" if view.late else "",
        f"showing {spans_of(view) - hidden:,} of {spans_of(view):,}" if hidden else "",
    )
    return Summary(
        mark=_mark(view),
        title=span_name(tree.title),
        duration=fmt.duration(tree.end_ns - tree.start_ns),
        facts=_facts(view),
        errors=fmt.count(tree.errors, "error") if tree.errors else "",
        caught=f"{tree.caught:,} caught" if tree.caught else "",
        notes=tuple(filter(None, notes)),
        delivery=view.origin or view.export.word,
    )


def _mark(view: CellView) -> Mark:
    if view.running:
        return "running"
    if view.interrupted:
        return "stopped"
    if view.raised or view.tree.errors:
        return "error"
    return "running" if view.tree.running else "ok"


def spans_of(view: CellView) -> int:
    """How many there were, also of those that are no longer kept."""
    return len(view.tree.nodes) + view.forgotten


def _facts(view: CellView) -> tuple[str, ...]:
    totals, spans = view.totals, spans_of(view)
    if view.forgotten:  # Nobody knows any more what those used.
        totals = replace(totals, unknown_usage_calls=totals.unknown_usage_calls + 1, cost_complete=False)
    facts = [fmt.cost(totals), fmt.tokens(totals)]
    if spans > 1:
        facts.append(fmt.count(spans, "span"))
        # On an error its count takes this place: the line stays as long as it was.
        if totals.llm_calls and not view.tree.errors:
            facts.append(fmt.count(totals.llm_calls, "LLM call"))
    return tuple(filter(None, facts))


def redacted_note(tree: SpanTree) -> str:
    """`4 values redacted`; empty without any."""
    redacted = sum(node.record.redacted for node in tree.nodes)
    return fmt.count(redacted, "value") + " redacted" if redacted else ""


def tells_more(view: CellView) -> tuple[str, str] | None:
    """What the view leaves out of what spans said, and the command that shows it; None if nothing is left out."""
    if (view.detail == "full" and not view.unsaid) or not view.label:
        return None
    what = "Messages:" if view.totals.llm_calls else "Inputs and outputs:"
    if view.detail == "full":
        more = f"%hh save FILE {view.label}" if view.file is None else f"SpanList.from_otlp({view.file!r})"
        return f"{fmt.count(view.unsaid, 'span')} say more:", more
    return what, f"%hh show {clean(view.label, COMMAND_LENGTH)} --detail full"


@dataclass(frozen=True, slots=True)
class ErrorLine:
    """The deepest uncaught error.

    Attributes:
        what: "HTTPError: 503 Service Unavailable".
        name: of the span in which it began.
        through: names of the spans it passed on its way up, the innermost first; long ways are shortened.
        location: "payments.py:41", or None.
    """

    what: str
    name: str
    through: tuple[str, ...]
    location: str | None


def error_line(tree: SpanTree) -> ErrorLine | None:
    """The error to tell first; None without an uncaught one."""
    node = tree.deepest_error
    if node is None:
        return None
    error = node.record.error
    words = (clean(error.type, NAME_LENGTH), clean(error.message, MESSAGE_LENGTH)) if error is not None else ()
    what = ": ".join(filter(None, words)) or "Error, without a message"
    location = error.location if error is not None else None
    return ErrorLine(
        what,
        span_name(node.record.name),
        _way_up(node),
        clean(location, NAME_LENGTH) if location else None,
    )


def _way_up(node: SpanNode) -> tuple[str, ...]:
    """Names of the ancestors; of more than five the first three, a count and the root."""
    names = tuple(span_name(ancestor.record.name) for ancestor in islice(node.ancestors, 5))
    if node.depth <= 5:
        return names
    root = deque(node.ancestors, maxlen=1).pop()
    return (*names[:3], f"{node.depth - 4:,} more", span_name(root.record.name))


def error_tag(node: SpanNode) -> str:
    """A failing span's error in a word or two: its HTTP status, else its type.

    Empty for the spans that an error only passed through: it is shown where it began.
    """
    if node.error not in ("uncaught", "caught"):
        return ""
    error, status = node.record.error, node.record.http_status
    kind = clean(error.type, 40) if error is not None else ""
    word = str(status) if status else kind or "error"
    if node.error == "uncaught":
        return word
    return f"{word}, {'retried' if _tried_again(node) else 'caught'}"


def _tried_again(node: SpanNode) -> bool:
    siblings = node.parent.children if node.parent is not None else ()
    return any(other.start_ns >= node.end_ns and other.record.name == node.record.name for other in siblings)


# Which rows of a tree are shown, and what they say.

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
