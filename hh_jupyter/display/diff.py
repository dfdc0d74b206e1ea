"""The difference of two runs as a table of what differs, in text and static HTML."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from hh_jupyter.display import format as fmt
from hh_jupyter.display import html
from hh_jupyter.display.content import CONTENT_LIMITS, Detail
from hh_jupyter.display.delta import run_duration, time_change, time_changed
from hh_jupyter.display.format import clean, clean_block, count, span_name
from hh_jupyter.display.html import BORDER, GREY, MUTED, PLAIN_CODE, SPACE, escape
from hh_jupyter.display.report import muted_html, page_html, section_html, section_table
from hh_jupyter.display.table import Column, Table, plain_text, text_lines
from hh_jupyter.display.table import Piece as CellPiece
from hh_jupyter.display.text import WIDTH
from hh_jupyter.display.view import KIND_WORDS, MODEL_LENGTH, error_tag
from hh_jupyter.records.diff import Mark, Piece, SpanChange, TextChange, TreeDiff, count_words

# The table.


def old_and_new(old: str, new: str) -> str:
    """`2.84 → 2.72 s`; one text if both are equal."""
    if old == new:
        return new
    number, space, unit = old.partition(" ")
    return f"{number if space and new.endswith(f' {unit}') and ' ' not in unit else old or 'none'} → {new or 'none'}"


MARKS: Final[dict[Mark, str]] = {"same": "", "changed": "≠", "added": "+", "removed": "\N{MINUS SIGN}", "moved": "↕"}
_ASCII: Final = str.maketrans({"≠": "*", "↕": "~", "→": ">", "…": "."})
MAX_BYTES: Final = 32_000
MAX_LINES: Final = 38
WHAT_LENGTH: Final = 60


@dataclass(frozen=True, slots=True)
class DiffView:
    """The difference of two runs as a display shows it.

    Attributes:
        diff: the difference.
        old, new: names of the runs. Example: "run 3, 14:02".
        max_rows: maximum number of rows of the table.
        detail: how much of the texts that differ is included.
        command: shows the texts; empty if no command does.
    """

    diff: TreeDiff
    old: str
    new: str
    max_rows: int = 60
    detail: Detail = "summary"
    command: str = ""

    @property
    def title(self) -> str:
        """The name of the new run's root."""
        return span_name(self.diff.new.title)

    @property
    def facts(self) -> list[str]:
        """Time, cost and tokens of both runs."""
        old, new = self.diff.totals
        times = (fmt.duration(run_duration(tree)) for tree in (self.diff.old, self.diff.new))
        facts = [old_and_new(*times), old_and_new(fmt.cost(old), fmt.cost(new))]
        facts.append(old_and_new(fmt.tokens(old), fmt.tokens(new)))
        return [fact for fact in facts if fact]

    @property
    def counts(self) -> str:
        """`2 changed, 1 added, 1 removed, 19 the same`."""
        words: dict[Mark, str] = {
            "changed": "changed", "added": "added", "removed": "removed", "moved": "moved", "same": "the same"
        }  # fmt: skip
        found = {mark: sum(row.mark == mark for row in self.diff.rows) for mark in words}
        return ", ".join(f"{number:,} {words[mark]}" for mark, number in found.items() if number)

    @property
    def notes(self) -> list[str]:
        """What the reader has to know about the comparison."""
        missing = self.diff.not_compared
        text = f"{count(missing, 'span')} compared without messages, inputs and outputs: they are no longer kept"
        return [text] if missing else []

    @property
    def table(self) -> Table:
        """What differs: a row for each span."""
        return Table(columns=_COLUMNS, rows=self.diff.different, more=_count_more)


def _count_more(rows: Sequence[SpanChange]) -> list[CellPiece]:
    return [CellPiece(count(len(rows), "more difference"))]


def times_of(one: SpanChange) -> tuple[int | None, int | None]:
    """Durations of the old and the new span in nanoseconds; None where there is no span."""
    old, new = (None if node is None else node.end_ns - node.start_ns for node in (one.old, one.new))
    return old, new


def _time_change(one: SpanChange) -> int | None:
    old, new = times_of(one)
    return None if old is None or new is None else new - old


def token_change(one: SpanChange) -> int | None:
    """By how many tokens a span differs, with those below it; None if that is not known."""
    if one.old is None or one.new is None or one.old.tokens is None or one.new.tokens is None:
        return None
    return one.new.tokens - one.old.tokens


def what_changed(one: SpanChange) -> str:
    """What changed of a span, in words: `system, temperature`, `added`, `removed, 503`."""
    words = list(one.what)
    if one.mark in ("added", "removed"):
        words = [one.mark, error_tag(one.node)]
    elif one.new is not None and one.new.error == "uncaught" and "error" not in one.what:
        words.append(error_tag(one.new))
    return clean(", ".join(filter(None, words)), WHAT_LENGTH)


def _span_cell(one: SpanChange) -> list[CellPiece]:
    facts = one.node.record.facts
    kind, name = KIND_WORDS.get(facts.kind, "span"), span_name(one.node.record.name)
    model = clean(facts.model or facts.model_requested or "", MODEL_LENGTH)
    pieces = [CellPiece(f"{kind} ", "quiet"), CellPiece(name, "strong" if one.mark == "changed" else "")]
    return [*pieces, *([CellPiece(f" {model}", "quiet")] if model else [])]


def _duration_cell(duration: int | None) -> str:
    return "" if duration is None else fmt.duration(duration)


def _change_cell(one: SpanChange) -> list[CellPiece]:
    old, new = times_of(one)
    if old is None or new is None:
        return []
    if fmt.duration(old) == fmt.duration(new):
        return [CellPiece("=", "quiet")]
    return [CellPiece(fmt.minus(time_change(old, new)), "strong" if time_changed(old, new) else "quiet")]


def _token_cell(one: SpanChange) -> str:
    change = token_change(one)
    return "" if change is None else fmt.minus(f"{change:+,}") if change else "="


_COLUMNS: Final = (
    Column(
        key="mark", title="", value=lambda one: one.mark, cell=lambda one: [CellPiece(MARKS[one.mark], "strong")],
        weight=0.6,
    ),
    Column(key="span", title="Span", value=lambda one: span_name(one.node.record.name), cell=_span_cell, weight=5.5),
    Column(key="what", title="Changed", value=what_changed, weight=5),
    Column(
        key="old", title="Old", value=lambda one: times_of(one)[0], cell=lambda one: _duration_cell(times_of(one)[0]),
        align="right", priority=2, weight=2.8,
    ),
    Column(
        key="new", title="New", value=lambda one: times_of(one)[1], cell=lambda one: _duration_cell(times_of(one)[1]),
        align="right", priority=1, weight=2.8,
    ),
    Column(key="change", title="Change", value=_time_change, cell=_change_cell, align="right", weight=3),
    Column(
        key="tokens", title="Tokens", value=token_change, cell=_token_cell, align="right", priority=3, weight=2.6
    ),
)  # fmt: skip


# Texts that differ, of bounded size.


class _ShownText(NamedTuple):
    """A text that differs: its heading, and both texts as far as they are shown."""

    heading: str
    change: TextChange


def _shown_texts(view: DiffView) -> tuple[list[tuple[SpanChange, list[_ShownText]]], int]:
    """Return the changed spans with the texts that differ, as far as there is room, and the number without room."""
    limits = CONTENT_LIMITS.get(view.detail)
    if limits is None:
        return [], 0
    room, omitted = limits.total_bytes, 0
    shown: list[tuple[SpanChange, list[_ShownText]]] = []
    changed = [row for row in view.diff.changed if row.request_differs or row.answer_differs]
    for row in changed:
        if len(shown) >= limits.spans or room <= 0:
            omitted += 1
            continue
        texts = [_cut(text, limits.value_bytes) for text in row.texts if not text.same]
        room -= sum(len(text.encode("utf-8", "replace")) for one in texts for text in (one.change.old, one.change.new))
        shown.append((row, texts))
    return shown, omitted


def _cut(change: TextChange, limit: int) -> _ShownText:
    """Begin both texts a little before the first difference, if they would not fit, and cut what is too long."""
    old, new = clean_block(change.old), clean_block(change.new)
    start = 0
    if max(len(old), len(new)) > limit:
        shorter = min(len(old), len(new))
        same = next((at for at, (one, other) in enumerate(zip(old, new, strict=False)) if one != other), shorter)
        start = max(0, same - 100)
    cut = TextChange(change.section, change.name, *(_window(text, start, limit) for text in (old, new)))
    return _ShownText(_heading(TextChange(change.section, change.name, old, new)), cut)


def _window(text: str, start: int, limit: int) -> str:
    cut = text[start : start + limit]
    return f"{'…' if start and cut else ''}{cut}{'…' if len(text) > start + limit else ''}"


def _heading(change: TextChange) -> str:
    name = clean(change.name, 60)
    lengths = [count_words(change.old), count_words(change.new)]
    long = change.section not in ("Parameters", "Error") and max(lengths) > 1
    section = change.section.lower()
    if change.section in ("Parameters", "Messages"):
        title = name
    else:
        title = section if change.section in ("Answer", "Error") or name == section else f"{section} {name}"
    if change.old.split() == change.new.split():
        return f"{title}  only white space or control characters differ"
    return f"{title}  {lengths[0]:,} → {count(lengths[1], 'word')}" if long else title


# As text.


def diff_text(view: DiffView, *, unicode: bool = True) -> str:
    """Render counts and table as text; the texts that differ if the detail says so. No final line feed."""
    text = "\n".join(_lines(view))
    return plain_text(text if unicode else text.translate(_ASCII), unicode=unicode)


def _lines(view: DiffView) -> Iterator[str]:
    yield "  ".join([f"{MARKS['changed'] if view.diff.different else '='} {view.title}", *view.facts, view.counts])
    yield f"  {clean(view.old, 80)} → {clean(view.new, 80)}"
    if view.diff.different:
        yield ""
        yield from text_lines(view.table, min(view.max_rows, MAX_LINES - 6))
    shown, omitted = _shown_texts(view)
    for row, texts in shown:
        yield f"\n{span_name(row.name)}"
        for heading, change in texts:
            if change.section == "Parameters":
                yield f"  {heading}: {_marked_words(Piece(change.old, change.new))}".rstrip()
                continue
            yield f"  {heading}"
            text = "".join(map(_marked_words, change.pieces))
            for line in text.split("\n"):
                wrapped = textwrap.wrap(line, WIDTH - 4, break_on_hyphens=False, drop_whitespace=False)
                yield from (f"    {piece}".rstrip() for piece in wrapped or [""])
    yield from (f"\n{note}" for note in _foot(view, omitted))


def _marked_words(piece: Piece) -> str:
    """`[-old words-] {+new words+}`, as `git diff --word-diff` has it; words that are the same, shortened."""
    if piece.same:
        return _shortened(piece.new)
    old, new = piece.old.strip(), piece.new.strip()
    end = piece.new[len(piece.new.rstrip()) :] or piece.old[len(piece.old.rstrip()) :]
    return " ".join(filter(None, (f"[-{old}-]" if old else "", f"{{+{new}+}}" if new else ""))) + end


_KEPT: Final = 60  # characters at each end


def _shortened(text: str) -> str:
    """Text that is the same in both runs, without its middle if it is long."""
    if len(text) <= 3 * _KEPT:
        return text
    return f"{text[:_KEPT]} … {text[-_KEPT:]}"


def _foot(view: DiffView, omitted: int) -> list[str]:
    """Notes, and how to see the texts."""
    lines = list(view.notes)
    if omitted:
        lines.append(f"{count(omitted, 'more span')} with texts that differ: hh_jupyter.diff(...).changed")
    texts = any(row.request_differs or row.answer_differs for row in view.diff.changed)
    if view.command and texts and (view.detail == "summary" or (omitted and view.detail != "full")):
        lines.append(f"words: {view.command} --detail {'preview' if view.detail == 'summary' else 'full'}")
    return lines


# As HTML.

# Bold where a reader removes all styles.
_OLD: Final = f"font-weight:normal;background-color:{GREY};text-decoration:underline dotted"
_NEW: Final = "font-weight:normal;background-color:rgba(47,95,224,.2);text-decoration:underline solid #5b83ea"


def diff_html(view: DiffView) -> str:
    """Return static HTML, at most 32,000 bytes of UTF-8 and the texts that differ. Rows without room are counted."""
    limit = view.max_rows
    table = _table(view, limit)
    while limit > 1 and (size := len(table.encode())) > MAX_BYTES - 2_000:
        limit = max(1, min(limit - 1, limit * MAX_BYTES // size))
        table = _table(view, limit)
    shown, omitted = _shown_texts(view)
    texts = "".join(_texts_of(view, row, changes, opened=view.detail == "full") for row, changes in shown)
    foot = "".join(muted_html(_command(note)) for note in _foot(view, omitted))
    return page_html(_head(view), section_html(table, texts, foot))


def _head(view: DiffView) -> str:
    mark = MARKS["changed"] if view.diff.different else "="
    comma = f'<span style="opacity:0">,{SPACE} </span>'
    facts = comma.join(_bold_new(fact) for fact in view.facts)
    runs = f"{escape(view.old, 80)} → <b>{escape(view.new, 80)}</b>"
    parts = (
        f"<span>{mark}{SPACE} <b>{escape(view.title)}</b></span>",
        f"<span>{facts}</span>",
        f'<span style="{MUTED}">{escape(view.counts)}</span>',
        f'<span style="{MUTED};margin-left:auto">{runs}</span>',
    )
    style = "display:flex;flex-wrap:wrap;align-items:center;gap:0 14px;padding:6px 12px"
    return f'<div style="{style}">{chr(10).join(parts)}</div>'


def _bold_new(fact: str) -> str:
    old, arrow, new = fact.partition(" → ")
    return f"{escape(old)} → <b>{escape(new)}</b>" if arrow else escape(fact)


_CELL: Final = "padding:2px 8px;border:0;text-align"
_TABLE: Final = "width:100%;border-collapse:collapse;border:0;margin:0;font-size:12px"


def _table(view: DiffView, limit: int) -> str:
    table = view.table
    if not table.rows:
        return muted_html("Nothing differs but times and ids.")
    return section_table(table, limit)


def _texts_of(view: DiffView, row: SpanChange, texts: Sequence[_ShownText], *, opened: bool) -> str:
    """Return the texts of a span that differ, the old and the new one side by side, folded or open."""
    parameters = [one.change for one in texts if one.change.section == "Parameters"]
    blocks = _parameters(parameters) + "".join(
        _block(view, *one) for one in texts if one.change.section != "Parameters"
    )
    title = f'{escape(span_name(row.name))} <span style="font-size:11px;{MUTED}">{escape(", ".join(row.what))}</span>'
    return (
        f'\n<div style="margin:6px 4px 0"><details{" open" if opened else ""}>'
        f'<summary><span style="cursor:pointer">≠ <b>{title}</b></span></summary>{blocks}</details></div>'
    )


def _parameters(changes: Sequence[TextChange]) -> str:
    """Return the parameters that differ as one table."""
    rows = "".join(
        f'<tr style="background:none"><td style="{_CELL}:left;width:30%">{escape(change.name, 60)}</td>'
        f'<td style="{_CELL}:left;width:35%">{_marked(change.old, same=False, style=_OLD)}</td>'
        f'<td style="{_CELL}:left">{_marked(change.new, same=False, style=_NEW)}</td></tr>'
        for change in changes
    )
    return f'<table style="{_TABLE}">{rows}</table>' if rows else ""


def _block(view: DiffView, title: str, change: TextChange) -> str:
    pieces = change.pieces
    cell = f"width:50%;padding:4px 8px;border:{BORDER};text-align:left;vertical-align:top;white-space:pre-wrap"
    cell += ";overflow-wrap:anywhere"
    old = "".join(_marked(piece.old, same=piece.same, style=_OLD) for piece in pieces)
    new = "".join(_marked(piece.new, same=piece.same, style=_NEW) for piece in pieces)
    heading = f'<div style="margin:6px 0 0;font-size:12px"><b>{escape(title, 200)}</b></div>'
    return (
        f'{heading}<table style="{_TABLE};table-layout:fixed"><tr style="background:none">'
        f'<td style="{cell}" title="{escape(view.old, 80)}">{old}</td>'
        f'<td style="{cell}" title="{escape(view.new, 80)}">{new}</td></tr></table>'
    )


def _marked(text: str, *, same: bool, style: str) -> str:
    if not text:
        return ""
    words = text.rstrip()
    quoted, end = html.escape_piece(words), html.escape_piece(text[len(words) :])
    return f"{quoted}{end}" if same or not words else f'<b style="{style}">{quoted}</b>{end}'


def _command(note: str) -> str:
    """The note as HTML, with a command at its end as code."""
    what, found, command = note.partition(": ")
    code = f'{escape(what)}: <code style="{PLAIN_CODE}">{escape(command)}</code>'
    return code if found and command.startswith(("%", "hh_jupyter.")) else escape(note)
