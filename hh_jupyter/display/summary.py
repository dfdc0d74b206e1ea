"""The facts of the summary line and of the error, in words: every display says the same."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Literal

from hh_jupyter.display import format as fmt
from hh_jupyter.display.clean import clean

if TYPE_CHECKING:
    from hh_jupyter.display.view import CellView
    from hh_jupyter.records.tree import SpanNode, SpanTree

Mark = Literal["ok", "error", "running", "stopped"]

NAME_LENGTH = 60
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


def span_name(name: str) -> str:
    """A record's name as every display writes it; functions of the notebook itself without their module.

    What a span is named is decided once, when its record is made: `conventions.readable_name`.
    """
    return clean(name.removeprefix("__main__."), NAME_LENGTH) or "(no name)"


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
