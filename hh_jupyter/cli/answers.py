"""What agents and people ask about traces, answered as text: small by default, with what is left out and how to get it.

The functions of `ANSWERS` take plain values and return an `Answer`. `cli/agents.py` offers them as tools, `cli/show.py`
as commands; each says in its own form how to ask for more.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Final

from hh_jupyter.cli.traces import SHORT_ID, TITLE_LENGTH, Selected, TracedSession, Traces
from hh_jupyter.display import format as fmt
from hh_jupyter.display.content import ContentPart, collect_content, span_details
from hh_jupyter.display.delta import clock
from hh_jupyter.display.diff import DiffView, diff_text
from hh_jupyter.display.format import clean, clean_block, count, shorten, span_name
from hh_jupyter.display.search import Hits, SearchText
from hh_jupyter.display.table import Column, Table, text_lines
from hh_jupyter.display.text import TextStyle, tree_lines
from hh_jupyter.display.view import KIND_WORDS, CellView, choose_rows, error_lines, error_tag, hidden_spans, rows_of
from hh_jupyter.query import KINDS
from hh_jupyter.records import prices
from hh_jupyter.records.calls import key_of
from hh_jupyter.records.diff import TreeDiff
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.records.nodes import SpanNode
from hh_jupyter.records.record import CALL_KINDS, SpanRecord
from hh_jupyter.records.selection import LAST, SelectionError, did_you_mean
from hh_jupyter.records.totals import Totals, summarize
from hh_jupyter.records.tree import SpanTree
from hh_jupyter.values import valid_utf8

logger = logging.getLogger(__name__)

MOST_ROWS: Final = 500
MOST_CHARS: Final = 100_000
LEAST_CHARS: Final = 200
"""Limits of the limits that a caller may set."""

TREE_WIDTH: Final = 78
"""Width of a row of a tree; without bars, which mean little to a program."""

WHAT_LENGTH: Final = 160
VALUE_LENGTH: Final = 500
MOST_OF_ERROR: Final = 2_000
"""Characters of an error message, which quotes what was asked for."""

SHORT_SPAN: Final = 8
_STATUS_ERROR: Final = b"\x18\x02"
"""The code of a failed span in its encoded status."""


@dataclass(frozen=True, slots=True)
class More:
    """How to get what an answer leaves out.

    Attributes:
        what: what is left out. Example: "12 more spans".
        ask: name of the answer to ask for, and its arguments; empty if nothing has to be asked.
    """

    what: str
    ask: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer.

    Attributes:
        data: text from traces, which users, models and programs have written. Without control characters, redacted.
        more: what is left out and how to get it; nothing in it comes from traces.
    """

    data: str
    more: Sequence[More] = ()


_ONE_AT_A_TIME: Final = threading.Lock()
"""Closing a file releases all locks that the process holds on it, also those of another thread that reads it."""


def answer(name: str, arguments: Mapping[str, Any]) -> Answer:
    """Return the answer of this name to these arguments.

    Raises:
        SelectionError: there is nothing that the arguments mean, or it cannot be read; the message is redacted.
    """
    with _ONE_AT_A_TIME:
        traces = Traces()
        try:
            found = ANSWERS[name](traces, **arguments)
        except SelectionError as error:
            text = " ".join([str(error), *(f"{each}." for each in _unread(traces))])
            raise SelectionError(shorten(valid_utf8(clean_block(traces.redacted(text))), MOST_OF_ERROR)) from None
        except Exception as error:  # boundary: the text of the error may hold anything that is in a trace.
            logger.debug("an answer failed", exc_info=True)
            text = f"an internal error of hh_jupyter ({type(error).__name__}) while the traces were read"
            raise SelectionError(text) from None
        return Answer(valid_utf8(traces.redacted(found.data)), (*found.more, *map(More, _unread(traces))))


def _unread(traces: Traces) -> list[str]:
    return [f"{count(number, 'file')} could not be read: {why}" for why, number in traces.unread.items()]


def _bounded(limit: int, most: int = MOST_ROWS, least: int = 1) -> int:
    return max(least, min(int(limit), most))


# Sessions and totals


def list_sessions(traces: Traces, name: str = "", limit: int = 20) -> Answer:
    """The latest sessions, the newest last, and the experiment runs."""
    known = [one for one in traces.sessions() if name.casefold() in one.name.casefold()]
    if not known and name and traces.sessions():
        raise SelectionError(f"no session {name}. {did_you_mean(name, dict.fromkeys(_titles(traces)), 8)}")
    if not known:
        traces.session(LAST)
    limit = _bounded(limit)
    lines = list(text_lines(Table(columns=_SESSION_COLUMNS, rows=known[-limit:]), limit))
    more = []
    if hidden := len(known) - limit if len(known) > limit else 0:
        named = {"name": name} if name else {}
        more.append(More(count(hidden, "older session"), "list_trace_sessions", {**named, "limit": _next(limit)}))
    runs = dict.fromkeys(clean(run.name, TITLE_LENGTH) for run in reversed(traces.runs()))
    if runs:
        shown = list(runs)[:8]
        lines += ["", f"experiment runs: {', '.join(shown)}"]
        if len(runs) > len(shown):
            lines[-1] += f" and {len(runs) - len(shown):,} more"
        more.append(More("rows of a run", "worst_experiment_rows", {"run": LAST}))
    return Answer("\n".join(lines), more)


def _titles(traces: Traces) -> Iterator[str]:
    return (clean(one.name, TITLE_LENGTH) for one in traces.sessions())


def _next(limit: int) -> int:
    return min(limit * 5, MOST_ROWS)


def _where(one: TracedSession) -> str:
    if one.local:
        return "local only"
    return f"{one.unsent:,} unsent" if one.unsent else "sent"


_SESSION_COLUMNS: Final = (
    Column(key="session", title="session", value=lambda one: clean(one.name, TITLE_LENGTH)),
    Column(key="id", title="id", value=lambda one: one.short_id),
    Column(key="spans", title="spans", value=lambda one: one.spans, cell=lambda one: f"{one.spans:,}", align="right"),
    Column(
        key="last",
        title="last span",
        value=lambda one: datetime.fromtimestamp(one.last).astimezone().strftime("%Y-%m-%d %H:%M:%S"),
    ),
    Column(key="where", title="where", value=_where),
    Column(key="process", title="process", value=lambda one: "running" if one.living else "ended"),
)


def show_totals(traces: Traces, session: str = LAST) -> Answer:
    """What the spans of a session, or of a cell in it, add up to."""
    selected = traces.select(session)
    tree, totals = _tree(selected.records), _totals(selected.records)
    lines = [f"{selected.title} ({selected.label})", f"duration: {fmt.duration(tree.end_ns - tree.start_ns)}"]
    for one in fields(totals):
        value = getattr(totals, one.name)
        if value not in (None, 0, (), "", False):
            text = ", ".join(map(str, value)) if isinstance(value, tuple) else f"{value}"
            lines.append(f"{one.name}: {clean(text, VALUE_LENGTH)}")
    return Answer("\n".join(lines), [*_older(selected), More("the spans", "show_trace", {"session": selected.label})])


def _totals(records: Sequence[SpanRecord]) -> Totals:
    _load_prices(records)
    return summarize(records)


def _tree(records: Sequence[SpanRecord]) -> SpanTree:
    return SpanTree.build(records)


def _load_prices(records: Sequence[SpanRecord]) -> None:
    if any(prices.needs_table(record.facts) for record in records):
        prices.load()


def _older(selected: Selected) -> list[More]:
    if not selected.left_out:
        return []
    return [More(f"{count(selected.left_out, 'older group')} of spans: more than one answer reads")]


# A trace, and a span of it


def show_trace(traces: Traces, session: str = LAST, errors: bool = False, limit: int = 40) -> Answer:
    """A session, or a cell in it, as a tree with a row per span."""
    selected, limit = traces.select(session), _bounded(limit)
    view = CellView(
        view_id="",
        label="",
        tree=_tree(selected.records),
        totals=_totals(selected.records),
        export=ExportState(None, made=len(selected.records)),
        errors_only=errors,
    )
    tree, rows = view.tree, rows_of(view)
    shown = choose_rows(rows, limit)
    ids = [f"{row.node.record.span_id:016x}"[:SHORT_SPAN] for row in shown]
    lines = [_head(selected, view.totals, tree)]
    lines += [
        f"  {error.name or 'error'}: {error.what}  {error.location or ''}".rstrip() for error in error_lines(view)
    ]
    lines += [""] if shown else ["no errors"]
    drawn = tree_lines(shown, tree, TextStyle(), TREE_WIDTH)
    lines += [f"{one}  {line}" for one, line in zip(ids, drawn, strict=True)]
    more, asked = [], {"session": selected.label, **({"errors": True} if errors else {})}
    hidden = hidden_spans(tree, shown)
    if len(shown) < len(rows):
        more.append(More(count(hidden, "more span"), "show_trace", {**asked, "limit": _next(limit)}))
    elif errors and hidden:
        more.append(More(f"{count(hidden, 'span')} without errors", "show_trace", {"session": selected.label}))
    if len(selected.cells) > 1 and "/" not in selected.label:
        example = {"session": f"{selected.label}/{selected.cells[-1]}"}
        more.append(More(f"spans of one cell, of {_listed(selected.cells)}", "show_trace", example))
    if shown:
        failed = (at for at, row in enumerate(shown) if row.node.error in ("uncaught", "caught"))
        more.append(More("messages, inputs and outputs of a span", "show_span", {"span": ids[next(failed, 0)]}))
    return Answer("\n".join(lines), [*more, *_older(selected)])


def _listed(cells: Sequence[str]) -> str:
    return ", ".join(cells) if len(cells) <= 8 else f"{', '.join(cells[:3])}, ..., {cells[-1]}"


def _head(selected: Selected, totals: Totals, tree: SpanTree) -> str:
    facts = [
        f"{selected.title} ({selected.label})",
        fmt.duration(tree.end_ns - tree.start_ns),
        fmt.cost(totals),
        fmt.tokens(totals),
        count(totals.spans, "span"),
        count(totals.errors, "error") if totals.errors else "",
    ]
    return "  ".join(filter(None, facts))


def show_span(traces: Traces, span: str, session: str = "", attributes: bool = False, max_chars: int = 4_000) -> Answer:
    """Messages, input, output and error of a span, and with `attributes` everything that was recorded of it."""
    record, limit = traces.span(span, session), _bounded(max_chars, MOST_CHARS, LEAST_CHARS)
    details = traces.details([record])
    span_id, known = f"{record.span_id:016x}", details.get(key_of(record))
    _load_prices([record])
    blocks, _ = collect_content(_tree([record]), "full", lambda one: details.get(key_of(one)))
    parts = [part for block in blocks for part in block.parts]
    if attributes and known is not None:
        values = span_details(record, known)["attributes"]
        parts += [ContentPart(clean(name, 80), clean_block(f"{value}")) for name, value in values]
    lines, cut = _cut_parts(parts, limit)
    more, asked = [], {"span": span_id, **({"attributes": True} if attributes else {})}
    if cut:
        wanted = min(MOST_CHARS, max(limit * 5, 20_000))
        again = wanted > limit
        what = f"{cut:,} characters" if again else f"{cut:,} characters: more than one answer holds; save the session"
        more.append(More(what, "show_span" if again else "", {**asked, "max_chars": wanted}))
    if not attributes:
        more.append(More("all attributes", "show_span", {**asked, "attributes": True}))
    if record.session_id:
        more.append(More("the spans around it", "show_trace", {"session": record.session_id[:SHORT_ID]}))
    return Answer("\n".join([_span_head(record), *lines]), more)


def _span_head(record: SpanRecord) -> str:
    dollars, estimated = prices.cost_of(record.facts)
    usage = record.facts.usage
    facts = [
        f"{KIND_WORDS.get(record.facts.kind, 'span')} {span_name(record.name)}",
        clean(record.facts.model or "", TITLE_LENGTH),
        fmt.duration(record.duration_ns) if record.end_ns is not None else "running",
        fmt.usd(dollars, estimated=estimated) if dollars is not None else "",
        count(usage.tokens, "token") if usage is not None and usage.tokens else "",
        record.status,
        f"session {(record.session_id or '-')[:SHORT_ID]}",
        f"span {record.span_id:016x}",
    ]
    return "  ".join(filter(None, facts))


def _cut_parts(parts: Sequence[ContentPart], limit: int) -> tuple[list[str], int]:
    """Return the lines of all parts in at most about `limit` characters, and how many are left out.

    Short parts are kept whole; long ones share what is left.
    """
    left, room = len(parts), limit
    shares: dict[int, int] = {}
    for place in sorted(range(len(parts)), key=lambda at: len(parts[at].text)):
        shares[place] = min(len(parts[place].text), room // left)
        room, left = room - shares[place], left - 1
    lines, cut = [], 0
    for place, part in enumerate(parts):
        text, missing = part.text[: shares[place]], len(part.text) - shares[place]
        cut += missing
        lines += ["", f"[{part.label or 'note'}]", f"{text}… ({missing:,} more characters)" if missing else text]
    return lines, cut


# Find


@dataclass(frozen=True, slots=True)
class _Found:
    """A row of `find_spans`: a span, its first hit of the text, and its own time and cost, as far as they are known."""

    node: SpanNode
    own_ns: int | None
    dollars: float | None
    estimated: bool
    hits: Hits | None

    @property
    def record(self) -> SpanRecord:
        return self.node.record


def find_spans(
    traces: Traces,
    text: str = "",
    session: str = "",
    kind: str = "",
    errors: bool = False,
    slow: bool = False,
    expensive: bool = False,
    limit: int = 15,
) -> Answer:
    """Spans that meet every condition: the latest first, or by their own time, or by their cost."""
    wanted = SearchText(text) if text.strip() else None
    if kind and kind not in KINDS:
        raise SelectionError(f"unknown kind {kind}. {did_you_mean(kind, KINDS)}")
    traces.session(LAST)  # There must be one.
    if session:
        selected = traces.select(session)
        records, left_out, place = selected.records, selected.left_out, selected.label
    else:
        (records, left_out), place = traces.records(may_match=_prefilter(wanted, errors, slow or expensive)), ""
    if expensive:
        _load_prices(records)
    # Own times are not known if the spans below have not been read.
    complete = slow or expensive or bool(session)
    nodes = [node for node in _tree(records).nodes if _meets(node, kind, errors)]
    found = [row for node in nodes if (row := _row(traces, node, wanted, complete))]
    if expensive:
        found = sorted((row for row in found if row.dollars), key=lambda row: row.dollars or 0.0, reverse=True)
    elif slow:
        found.sort(key=lambda row: row.own_ns or 0, reverse=True)
    else:
        found.sort(key=lambda row: row.record.start_ns, reverse=True)
    limit = _bounded(limit)
    given = {"text": text if traces.redacted(text) == text else "", "session": place, "kind": kind, "errors": errors}
    asked = {name: value for name, value in {**given, "slow": slow, "expensive": expensive}.items() if value}
    more = [More(f"{count(left_out, 'older group')} of spans were not searched")] if left_out else []
    if len(found) > limit:
        more.append(More(count(len(found) - limit, "more span"), "find_spans", {**asked, "limit": _next(limit)}))
    if not found:
        return Answer("no such spans", more)
    more.append(More("one of them", "show_span", {"span": f"{found[0].record.span_id:016x}"[:SHORT_SPAN]}))
    lines = text_lines(Table(columns=_FOUND_COLUMNS, rows=found[:limit]), limit)
    return Answer("\n".join(lines), more)


def _prefilter(wanted: SearchText | None, errors: bool, ranked: bool) -> Callable[[bytes], bool]:
    """Return what encoded spans may match; a span's own time and cost depend on the spans below it."""
    if ranked:
        return lambda _: True
    conditions: list[Callable[[bytes], bool]] = [wanted.may_be_in] if wanted is not None else []
    if errors:
        conditions.append(lambda encoded: _STATUS_ERROR in encoded)
    return lambda encoded: all(condition(encoded) for condition in conditions)


def _meets(node: SpanNode, kind: str, errors: bool) -> bool:
    """Whether a span is of this kind and, with `errors`, one in which an error began."""
    if kind and node.record.facts.kind != kind:
        return False
    return not errors or (node.record.status == "error" and node.error != "propagated")


def _row(traces: Traces, node: SpanNode, wanted: SearchText | None, complete: bool) -> _Found | None:
    """Return the row of a span; None if it does not have the text."""
    record = node.record
    hits = wanted.hits(record, traces.details([record]).get(key_of(record))) if wanted is not None else None
    if wanted is not None and hits is None:
        return None
    own_ns = sum(end - start for start, end in node.own) if complete else None
    is_call = record.facts.kind in CALL_KINDS and not node.repeats
    return _Found(node, own_ns, *(prices.cost_of(record.facts) if is_call else (None, False)), hits)


def _what(row: _Found) -> str:
    error, hits = row.record.error, row.hits
    parts = [f"{error.type}: {error.message}" if error is not None else error_tag(row.node)]
    parts += [f"{hits.where}: {hits.before}«{hits.match}»{hits.after}"] if hits is not None else []
    return clean("  ".join(filter(None, parts)), WHAT_LENGTH)


def _place(row: _Found) -> str:
    session, cell = (row.record.session_id or "-")[:8], row.record.cell
    return f"{session}/{cell.partition('-')[0]}" if cell else session


_FOUND_COLUMNS: Final = (
    Column(key="span", title="span", value=lambda row: f"{row.record.span_id:016x}"[:SHORT_SPAN]),
    Column(key="where", title="session/cell", value=_place),
    Column(key="kind", title="kind", value=lambda row: KIND_WORDS.get(row.record.facts.kind, "span")),
    Column(key="name", title="name", value=lambda row: span_name(row.record.name)),
    Column(
        key="time",
        title="time",
        value=lambda row: row.record.duration_ns,
        cell=lambda row: fmt.duration(row.record.duration_ns),
        align="right",
    ),
    Column(
        key="own",
        title="own time",
        value=lambda row: row.own_ns,
        cell=lambda row: "" if row.own_ns is None else fmt.duration(row.own_ns),
        align="right",
    ),
    Column(
        key="cost",
        title="cost",
        value=lambda row: row.dollars,
        cell=lambda row: "" if row.dollars is None else fmt.usd(row.dollars, estimated=row.estimated),
        align="right",
    ),
    Column(key="what", title="", value=_what),
)


# Two runs, and the rows of an experiment


def compare_traces(traces: Traces, new: str = LAST, old: str = "", texts: bool = False, limit: int = 30) -> Answer:
    """What changed between two sessions, or two runs of a cell."""
    after = traces.select(new)
    before = traces.select(old or f"{after.label}~1")
    _load_prices([*before.records, *after.records])
    trees = _tree(before.records), _tree(after.records)
    limit = _bounded(limit)
    old_name, new_name = (
        f"{one.title} ({one.label}), {clock(tree.start_ns, other.start_ns)}"
        for one, tree, other in zip((before, after), trees, reversed(trees), strict=True)
    )
    view = DiffView(TreeDiff(*trees, traces.details), old_name, new_name, limit, "preview" if texts else "summary")
    asked: dict[str, Any] = {"new": after.label, "old": before.label}
    more = []
    if len(view.diff.different) > limit:
        hidden = count(len(view.diff.different) - limit, "more difference")
        more.append(More(hidden, "compare_traces", {**asked, "limit": _next(limit)}))
    if not texts and any(row.request_differs or row.answer_differs for row in view.diff.changed):
        more.append(More("the words that differ", "compare_traces", {**asked, "texts": True}))
    return Answer(diff_text(view), [*more, *_older(before), *_older(after)])


def worst_experiment_rows(traces: Traces, run: str = LAST, texts: bool = False, limit: int = 10) -> Answer:
    """The result of an experiment run: its metrics, and its rows, the failed and wrong ones first."""
    from hh_jupyter.display.report import report_text
    from hh_jupyter.experiments.results import result_from_plain
    from hh_jupyter.experiments.views import result_report

    found, limit = traces.run(run), _bounded(limit)
    result = result_from_plain(found.result)
    report = result_report(result, None, limit, "preview" if texts else "summary")
    asked: dict[str, Any] = {"run": found.id[:SHORT_ID]}
    more = []
    if len(result.rows) > limit:
        hidden = count(len(result.rows) - limit, "more row")
        more.append(More(hidden, "worst_experiment_rows", {**asked, "limit": _next(limit)}))
    if not texts:
        more.append(More("inputs and outputs", "worst_experiment_rows", {**asked, "texts": True}))
    if result.rows and result.rows[0].session_id:
        more.append(More("the spans of a row", "show_trace", {"session": result.rows[0].session_id[:SHORT_ID]}))
    return Answer(report_text(report, limit=limit), more)


ANSWERS: Final[Mapping[str, Callable[..., Answer]]] = {
    "list_trace_sessions": list_sessions,
    "show_totals": show_totals,
    "find_spans": find_spans,
    "show_trace": show_trace,
    "show_span": show_span,
    "compare_traces": compare_traces,
    "worst_experiment_rows": worst_experiment_rows,
}
