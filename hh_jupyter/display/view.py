"""The view: everything about one cell's output as plain data, decided before a display renders it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, Literal

from hh_jupyter.display import format as fmt
from hh_jupyter.display.content import ContentBlock, Detail
from hh_jupyter.display.delta import RunDelta
from hh_jupyter.display.format import NAME_LENGTH, Mark, clean, span_name
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.records.record import SpanError
from hh_jupyter.records.totals import Totals
from hh_jupyter.records.tree import TIMEOUT, SpanNode, SpanTree, TreeRow, timed_out


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A message below the summary: what happened and why, where the data is now, and what to do next.

    Attributes:
        kind: "error" after a failure, "info" otherwise.
        title: a short sentence. Example: "3 spans were not sent."
        command: the command to run next. Example: "%hh send".
        other: an alternative command, shown where there is no button for it. Example: "%hh save FILE".
        sends: sending again may help, or saving to a file.
    """

    kind: Literal["error", "info"]
    title: str
    text: str
    command: str | None = None
    other: str | None = None
    sends: bool = False

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands to run next, the recommended one first."""
        return tuple(filter(None, (self.command, self.other)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The limit of the session's model calls, and how much of it is used.

    Attributes:
        used: Example: "~$0.31 of $0.50".
        share: the part of the limit that is used, from 0 to 1.
        spent: US dollars.
        stopped: a call of the cell was not sent.
    """

    used: str
    share: float
    spent: float
    stopped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CellView:
    """One cell's output as data. The same view gives the same output, byte for byte.

    Attributes:
        view_id: id of the output's element in the page.
        label: selects these spans in commands. Example: "4" in `%hh show 4`. Empty if no command can select them.
        totals: of all spans of the tree, including those without a row.
        raised: the cell ended with an exception.
        interrupted: the cell was interrupted; the spans until then are shown.
        running: the cell is still running; the spans so far are shown.
        late: number of spans that ended after the cell.
        revision: changes when something else of the spans does: late events are added, prices become known.
        session_url: link to the session; shown only if it is https.
        mode: "auto" opens the tree if the cell ended with an exception, "line" never, "tree" always.
        max_rows: maximum number of rows of the tree; spans without a row are counted.
        evicted: number of spans of the cell that are no longer in memory and therefore not in the tree.
        errors_only: show only rows with an error and the rows that lead to one.
        detail: how much span content is in `content`: "summary" none, "preview" the beginnings, "full" all of it.
        previews: what rows show of the content of their spans, by span id; empty unless content is to be saved.
        content: messages, inputs and outputs of spans. Text shows them only if `content_requested`: it stays short.
        content_omitted: number of spans whose content is left out of `content`.
        content_requested: a command requested this view, with this detail.
        linked: static displays name the session, by a link or its id.
        limit: of the session's model calls; None if there is none.
        unrecorded: number of requests that were refused, because no recording answers them.
        source: shown instead of the delivery state if the spans come from elsewhere. Example: "Read from file".
        file: path of the file from which the spans were read.
        delta: what changed since the run before; None if nothing did, or there was none.
        shows_diff: the live view shows what changed first, and the spans behind it.
        variants: number of calls that were made again with changes; their spans are not in the tree.
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
    revision: int = 0
    notice: Notice | None = None
    session_url: str | None = None
    mode: str = "auto"
    max_rows: int = 60
    evicted: int = 0
    errors_only: bool = False
    detail: Detail = "summary"
    previews: Mapping[int, str] = field(default_factory=dict)
    content: tuple[ContentBlock, ...] = ()
    content_omitted: int = 0
    content_requested: bool = False
    linked: bool = True
    limit: Limit | None = None
    unrecorded: int = 0
    source: str | None = None
    file: str | None = None
    delta: RunDelta | None = None
    shows_diff: bool = False
    variants: int = 0

    @property
    def open(self) -> bool:
        """Whether the tree is open from the start."""
        return self.mode == "tree" or (self.mode == "auto" and self.raised)

    @property
    def cell(self) -> int | None:
        """The number of the cell whose spans these are; None for a session, a file and so on."""
        return int(self.label) if self.label.isdecimal() and len(self.label) <= _MAX_CELL_DIGITS else None


_MAX_CELL_DIGITS: Final = 7
"""A longer number is the beginning of a session's id."""


# Texts of the summary line and of the error, the same in every display.

MESSAGE_LENGTH = 300
COMMAND_LENGTH = 240
"""Maximum length of a command with a path in it; a truncated command would not run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The parts of the summary line, in display order. Empty parts are not shown.

    Attributes:
        duration: from the first start to the last end.
        limit: what the session has spent of its limit; it takes the place of the cost.
        share: the part of the limit that is used, from 0 to 1; None without one.
        facts: cost, tokens, spans, LLM calls: narrow displays drop them from the end.
        stopped: that calls were not sent because of the limit.
        replayed: how many model calls a recording answered, and what they would have cost.
        unrecorded: how many model calls were refused because no recording answers them.
        delivery: state of the export, or the source of the spans.
    """

    mark: Mark
    title: str
    duration: str
    limit: str
    share: float | None
    facts: tuple[str, ...]
    stopped: str
    replayed: str
    unrecorded: str
    errors: str
    caught: str
    cancelled: str
    notes: tuple[str, ...]
    delivery: str


def summarize_view(view: CellView, hidden: int = 0) -> Summary:
    """Return the parts of the summary line of a view.

    Args:
        view: the view.
        hidden: number of its spans for which the display has no row.
    """
    tree = view.tree
    hidden += view.evicted
    errors = tree.errors - view.unrecorded  # Each of them is an error, too.
    notes = (
        "interrupted" if view.interrupted else "",
        f"+{view.late:,} after the cell ended" if view.late else "",
        f"showing {count_spans(view) - hidden:,} of {count_spans(view):,}" if hidden else "",
    )
    return Summary(
        mark=_mark(view),
        title=span_name(tree.title),
        duration=fmt.duration(tree.end_ns - tree.start_ns),
        limit=view.limit.used if view.limit else "",
        share=view.limit.share if view.limit else None,
        facts=_facts(view),
        stopped="stopped at the limit" if view.limit and view.limit.stopped else "",
        replayed=_replayed(view.totals),
        unrecorded=f"{view.unrecorded:,} not recorded" if view.unrecorded else "",
        errors=fmt.count(errors, "error") if errors > 0 else "",
        caught=f"{tree.caught:,} caught" if tree.caught else "",
        cancelled=f"{tree.cancelled:,} cancelled" if tree.cancelled else "",
        notes=tuple(filter(None, notes)),
        delivery=view.source or view.export.word,
    )


def _mark(view: CellView) -> Mark:
    if view.running:
        return "running"
    if view.interrupted:
        return "stopped"
    if view.raised or view.tree.errors:
        return "error"
    if view.tree.running:
        return "running"
    return "cancelled" if view.tree.stopped else "ok"


def count_spans(view: CellView) -> int:
    """Return the number of spans, including those no longer in memory."""
    return len(view.tree.nodes) + view.evicted


def _facts(view: CellView) -> tuple[str, ...]:
    totals, spans = view.totals, count_spans(view)
    if view.evicted:  # The usage of evicted spans is unknown.
        totals = replace(totals, unknown_usage_calls=totals.unknown_usage_calls + 1, cost_complete=False)
    # What was saved takes the place of the cost if nothing was spent.
    facts = ["" if _all_replayed(totals) else _cost(view, totals), fmt.tokens(totals)]
    if spans > 1:
        facts.append(fmt.count(spans, "span"))
        # An error count takes this place, so that the line does not grow.
        if totals.llm_calls and not view.tree.errors:
            facts.append(fmt.count(totals.llm_calls, "LLM call"))
    facts.append(f"+{fmt.count(view.variants, 'variant')}" if view.variants else "")
    return tuple(filter(None, facts))


def _cost(view: CellView, totals: Totals) -> str:
    """Return the cost; not beside a limit, which says the same, unless other cells have spent part of it."""
    shared = view.limit is not None and view.limit.spent > 1.1 * (totals.cost or 0.0)
    return fmt.cost(totals) if view.limit is None or (shared and totals.cost) else ""


def _all_replayed(totals: Totals) -> bool:
    return totals.replayed_calls > 0 and totals.replayed_calls == totals.http_requests and not totals.cost


def _replayed(totals: Totals) -> str:
    of = None if _all_replayed(totals) else totals.http_requests
    return fmt.replayed(totals.replayed_calls, of, totals.saved_cost, estimated=totals.saved_estimated)


def redacted_note(tree: SpanTree) -> str:
    """`4 values redacted`, or an empty string."""
    redacted = sum(node.record.redacted for node in tree.nodes)
    return fmt.count(redacted, "value") + " redacted" if redacted else ""


def omitted_content_hint(view: CellView) -> tuple[str, str] | None:
    """Return what content the view leaves out and the command that shows it; None if it leaves out nothing."""
    if (view.detail == "full" and not view.content_omitted) or not view.label:
        return None
    what = "Messages:" if view.totals.llm_calls else "Inputs and outputs:"
    if view.detail == "full":
        return f"{fmt.count(view.content_omitted, 'more span')} with content:", _get_all(view)
    return what, f"%hh show {clean(view.label, COMMAND_LENGTH)} --detail full"


def _get_all(view: CellView) -> str:
    """Return code or a command that gets the spans with their content: the output has no room for all of it."""
    if view.file is not None:
        return f"SpanList.from_otlp({view.file!r})"
    if view.cell is not None:
        return f"hh_jupyter.spans(cell={view.cell})"
    # `%hh save` selects by session only.
    return "%hh save FILE" if view.label in _NOT_SESSIONS else f"%hh save FILE {clean(view.label, COMMAND_LENGTH)}"


_NOT_SESSIONS: Final = frozenset({"all", "background"})


@dataclass(frozen=True, slots=True)
class ErrorLine:
    """An error in one line.

    Attributes:
        what: "HTTPError: 503 Service Unavailable".
        name: name of the span in which it began; empty if it began outside of spans.
        through: names of the spans that it propagated through, innermost first; long paths are shortened.
        location: "payments.py:41", or None.
    """

    what: str
    name: str
    through: tuple[str, ...]
    location: str | None


def error_lines(view: CellView) -> list[ErrorLine]:
    """Return the error to show first, followed by the errors that it was raised from; empty without an error.

    An interruption that no span recorded needs no line: the summary shows it.
    """
    failure = view.tree.failure
    if failure is None or (view.interrupted and failure.node is None and not failure.causes):
        return []
    first = _error_line(failure.error, failure.node)
    return [first, *(_error_line(cause.record.error, cause) for cause in failure.causes)]


def _error_line(error: SpanError | None, node: SpanNode | None) -> ErrorLine:
    texts = (clean(error.type, NAME_LENGTH), clean(error.message, MESSAGE_LENGTH)) if error is not None else ()
    what = ": ".join(filter(None, texts)) or "Error without a message"
    location = error.location if error is not None else None
    return ErrorLine(
        what,
        span_name(node.record.name) if node is not None else "",
        _names_above(node) if node is not None else (),
        clean(location, NAME_LENGTH) if location else None,
    )


def _names_above(node: SpanNode) -> tuple[str, ...]:
    """Return the names of the spans that failed with a span's error; of more than five the first three and the last."""
    above = []
    while node.passed and node.parent is not None and not node.parent.converted:
        node = node.parent
        above.append(node)
    names = [span_name(node.record.name) for node in (above if len(above) <= 5 else (*above[:3], above[-1]))]
    return tuple(names) if len(above) <= 5 else (*names[:3], f"{len(above) - 4:,} more", names[3])


_STOPPED_WORDS: Final = {"KeyboardInterrupt": "interrupted", "SystemExit": "exited"}


def error_tag(node: SpanNode) -> str:
    """Return a failing span's error in a word or two: its HTTP status, else its type; or how a span was cancelled.

    Empty for spans that an error only propagated through: it is shown where it began.
    """
    error, status = node.record.error, node.record.http_status
    kind = clean(error.type, 40) if error is not None else ""
    if node.error == "cancelled":
        above = node.parent.record.error if node.parent is not None else None
        if above is not None and above.type == TIMEOUT:
            return "timed out"
        return _STOPPED_WORDS.get(kind) or ("cancelled" if not kind or kind.startswith("Cancel") else kind)
    word = str(status) if status else kind or "error"
    if node.error == "uncaught" or node.converted:
        return word
    if node.error != "caught":
        return ""
    return "timed out" if timed_out(node) else f"{word}, {'retried' if _was_retried(node) else 'caught'}"


def row_mark(node: SpanNode) -> Mark | None:
    """Return the mark of a span that failed or was cancelled; None for others, also if an error only passed through."""
    if node.error == "cancelled" or timed_out(node):
        return "cancelled"
    return "error" if node.error == "uncaught" else "caught" if node.error == "caught" else None


def _was_retried(node: SpanNode) -> bool:
    siblings = node.parent.children if node.parent is not None else ()
    return any(other.start_ns >= node.end_ns and other.record.name == node.record.name for other in siblings)


# Rows of the tree: which are shown, and their texts.

MODEL_LENGTH = 40

SAME_CALL = "same call"
"""Tag of a span that describes the same model call as a span above."""

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
    """The texts of a row; unknown ones are empty. `tag` is described in `error_tag`.

    Attributes:
        replayed: that a recording answered, and how long the recorded call took. Example: "replayed, was 352 ms".
        spread: distribution of the durations of a fold. Example: "p50 57 ms, p95 78 ms, max 78 ms, sum 684 ms".
        feedback: a chip for each feedback, name and value, if a command requested the view: it may hold what users
            wrote. Example: ("stars 5", "ok False").
        preview: what the row shows of the span's content, in place of the model. Example: "city=Oslo k=4".
    """

    kind: str
    name: str
    model: str
    repeats: str
    time: str
    tokens: str
    tag: str
    replayed: str = ""
    spread: str = ""
    feedback: tuple[str, ...] = ()
    preview: str = ""


MAX_CHIPS: Final = 4
CHIP_LENGTH: Final = 40


def describe_row(
    row: TreeRow, *, feedback: bool = False, previews: Mapping[int, str] = MappingProxyType({})
) -> RowText:
    """Return the texts of a row.

    Args:
        row: the row.
        feedback: include the feedback on its spans.
        previews: what rows show of the content of their spans, by span id.
    """
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
        tag=error_tag(row.node) or (SAME_CALL if row.node.repeats else ""),
        replayed=_replayed_items(row.items) if row.items else replayed_note(row.node),
        spread=_spread(row) if row.items else "",
        feedback=_feedback_chips(row) if feedback else (),
        preview="" if row.items else previews.get(record.span_id, ""),
    )


def _feedback_chips(row: TreeRow) -> tuple[str, ...]:
    """Return a chip for each feedback on the span; for a fold, one with the number of spans that have some."""
    if row.items:
        rated = sum(bool(item.record.facts.feedback) for item in row.items)
        return (f"feedback on {fmt.count(rated, 'span')}",) if rated else ()
    given = row.node.record.facts.feedback
    chips = [clean(f"{name} {value}", CHIP_LENGTH) for name, value in given[:MAX_CHIPS]]
    return (*chips, *([f"{len(given) - MAX_CHIPS:,} more"] if len(given) > MAX_CHIPS else ()))


def replayed_note(node: SpanNode) -> str:
    """Return that a recording answered a call, and how long the recorded call took; empty if none did."""
    facts = node.record.facts
    if not facts.replayed:
        return ""
    return "replayed" if facts.replayed_ms is None else f"replayed, was {fmt.duration(facts.replayed_ms * 1_000_000)}"


def is_replayed(row: TreeRow) -> bool:
    """Whether recordings answered all calls of a row, so that its bar is hollow: no time was spent on them."""
    return all(node.record.facts.replayed for node in row.items or (row.node,))


def _replayed_items(items: Sequence[SpanNode]) -> str:
    number = sum(item.record.facts.replayed for item in items)
    return f"{number:,} of {len(items):,} replayed" if 0 < number < len(items) else "replayed" if number else ""


def _spread(row: TreeRow) -> str:
    """Summarize the durations of the folded spans."""
    times = sorted(item.end_ns - item.start_ns for item in row.items)
    p95 = times[math.ceil(0.95 * len(times)) - 1]
    statistics = {"p50": row.duration_ns, "p95": p95, "max": times[-1], "sum": sum(times)}
    return ", ".join(f"{name} {fmt.duration(time)}" for name, time in statistics.items())


def rows_of(view: CellView) -> list[TreeRow]:
    """Return the rows of a view's tree; with `errors_only`, those with an error and their ancestors."""
    rows = view.tree.rows()
    if not view.errors_only:
        return rows
    return [row for row in rows if row.node.record.status == "error" or row.node.errors or row.node.caught]


def choose_rows(rows: Sequence[TreeRow], limit: int) -> list[TreeRow]:
    """Return at most `limit` of a tree's rows, in order.

    Priority: errors and roots, then the critical path, then the longest spans.
    """
    if len(rows) <= limit:
        return list(rows)
    ranked = sorted(range(len(rows)), key=lambda index: (_rank(rows[index]), index))
    return [rows[index] for index in sorted(ranked[: max(limit, 1)])]


def hidden_spans(tree: SpanTree, shown: Sequence[TreeRow]) -> int:
    """Return how many spans have no row."""
    return len(tree.nodes) - sum(row.spans for row in shown)


def _rank(row: TreeRow) -> tuple[int, int, int]:
    """Rank a row, smallest first. Ancestors come before their descendants: rows rarely lose their parent."""
    node = row.node
    if node.error == "uncaught":
        return 0, 0, 0
    if node.parent is None:
        return 1, 0, 0
    if node.record.status == "error" or node.errors:
        return 2, node.depth, 0
    if node.critical or node.caught or node.cancelled:
        return 3, node.depth, node.start_ns - node.end_ns
    return 4, 0, node.start_ns - node.end_ns


def extent(row: TreeRow, tree: SpanTree) -> tuple[float, float]:
    """Return start and length of a row's bar as fractions of the tree's duration; a fold spans all its items."""
    whole = tree.end_ns - tree.start_ns
    if whole <= 0:
        return 0.0, 1.0
    end = max((item.end_ns for item in row.items), default=row.node.end_ns)
    return (row.node.start_ns - tree.start_ns) / whole, (end - row.node.start_ns) / whole
