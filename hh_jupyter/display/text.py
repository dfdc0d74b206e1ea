"""The view as text: `text/plain` of every output, and what a terminal shows."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from hh_jupyter.display.content import Said
from hh_jupyter.display.format import clean, columns, count, fit
from hh_jupyter.display.view import (
    COMMAND_LENGTH,
    CellView,
    RowText,
    choose_rows,
    describe_row,
    error_line,
    extent,
    hidden_spans,
    redacted_note,
    rows_of,
    summarize_view,
    tells_more,
)
from hh_jupyter.records.tree import SpanTree, TreeRow

# The tree of the text form: guides, kinds, names, numbers and bars in columns as wide as their contents.

BARS_FROM_WIDTH: Final = 80
"""Terminals narrower than this get no bars."""

BAR_WIDTH: Final = 30
_SHOWN_LEVELS: Final = 8
_KIND_WIDTH: Final = 6
_TIME_WIDTH: Final = 9
_KIND_COLOURS: Final = {"llm": "35", "emb": "33", "ret": "34", "rank": "34", "tool": "36"}


def tree_lines(rows: Sequence[TreeRow], tree: SpanTree, pen: Pen, width: int) -> list[str]:
    """One line for each row."""
    texts = [describe_row(row) for row in rows]
    guides = _guides(rows, pen.glyphs)
    names = [" ".join(filter(None, (text.name, text.repeats, text.model))) for text in texts]
    used = [columns(guide) + _KIND_WIDTH + columns(name) for guide, name in zip(guides, names, strict=True)]
    tokens_width = max((len(text.tokens) for text in texts), default=0)
    tokens_width += 3 if tokens_width else 0
    bars = width >= BARS_FROM_WIDTH
    rest = 2 + _TIME_WIDTH + tokens_width + (2 + BAR_WIDTH if bars else 0)
    label_width = min(max(used, default=0), max(width - rest, 24))
    lines = []
    for row, text, guide, name in zip(rows, texts, guides, names, strict=True):
        kind, tone = _kind(row, text, pen)
        # Names on deep levels keep a few letters even where the guides have taken the column.
        shown = fit(name, max(label_width - columns(guide) - _KIND_WIDTH, min(columns(name), 8)))
        numbers = f"  {text.time:>{_TIME_WIDTH}}{text.tokens:>{tokens_width}}"
        bar = _bar(row, tree, pen.glyphs) if bars else ""
        tag = f"  {pen.paint(text.tag, '1;31' if row.node.error == 'uncaught' else '2')}" if text.tag else ""
        line = guide + pen.paint(kind, tone) + shown + pen.paint(numbers, "2")
        lines.append(f"{line}  {_painted_bar(bar, tone, pen)}{tag}".rstrip() if bars else (line + tag).rstrip())
    return lines


def _kind(row: TreeRow, text: RowText, pen: Pen) -> tuple[str, str]:
    """The kind's column and colour; failing spans show their mark in it."""
    if row.node.error == "uncaught":
        return f"{pen.glyphs.marks['error']:<{_KIND_WIDTH}}", "31"
    if row.node.error == "caught":
        return f"{'!':<{_KIND_WIDTH}}", "33"
    return f"{text.kind:<{_KIND_WIDTH}}", _KIND_COLOURS.get(text.kind, "")


def _guides(rows: Sequence[TreeRow], glyphs: Glyphs) -> list[str]:
    """The lines that lead to each row, from the rows that are shown; the nearest levels only where it is deep."""
    open_levels: set[int] = set()
    guides = []
    for row in reversed(rows):
        depth = row.node.depth
        first = max(1, depth - _SHOWN_LEVELS + 1)
        parts = [glyphs.pipe if level in open_levels else glyphs.space for level in range(first, depth)]
        if first > 1:
            parts[0] = "…  "
        if depth:
            parts.append(glyphs.branch if depth in open_levels else glyphs.last)
        open_levels = {level for level in open_levels if level < depth} | {depth}
        guides.append("".join(parts))
    return guides[::-1]


def _bar(row: TreeRow, tree: SpanTree, glyphs: Glyphs) -> str:
    offset, length = extent(row, tree)
    start = min(int(offset * BAR_WIDTH), BAR_WIDTH - 1)
    cells = max(1, min(round(length * BAR_WIDTH), BAR_WIDTH - start))
    return " " * start + glyphs.bar * cells


def _painted_bar(bar: str, tone: str, pen: Pen) -> str:
    drawn = bar.lstrip()
    return " " * (len(bar) - len(drawn)) + pen.paint(drawn, tone)


# What spans said, in the text form: a heading for each span, and its texts, wrapped to the width.

_INDENT: Final = "  "
_NARROWEST: Final = 30


def content_lines(said: Iterable[Said], pen: Pen, width: int) -> list[str]:
    """All of it, with an empty line before each span."""
    return [line for one in said for line in _lines(one, pen, max(width, _NARROWEST))]


def _lines(said: Said, pen: Pen, width: int) -> Iterator[str]:
    yield ""
    yield f"{said.heading}: {pen.paint(said.name, '1')}{f' {said.model}' if said.model else ''}"
    for part in said.parts:
        if part.label:
            yield _INDENT + pen.paint(part.label, "2")
        for line in part.text.split("\n"):
            wrapped = textwrap.wrap(line, width - 2 * len(_INDENT), break_on_hyphens=False)
            yield from (2 * _INDENT + piece.rstrip() for piece in wrapped or [""])


# What the text form is drawn with: glyphs that the stream can carry, and colour where somebody sees it.


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The drawn parts of the text form."""

    marks: dict[str, str]
    branch: str
    last: str
    pipe: str
    space: str
    bar: str


UNICODE = Glyphs({"ok": "✓", "error": "✗", "running": "○", "stopped": "■"}, "├─ ", "└─ ", "│  ", "   ", "━")
ASCII = Glyphs({"ok": "ok", "error": "x", "running": "o", "stopped": "#"}, "|- ", "`- ", "|  ", "   ", "=")

_TO_ASCII = str.maketrans({"…": "...", "×": "x"})


@dataclass(frozen=True, slots=True)
class Pen:
    """How text is drawn.

    Attributes:
        unicode: False for a stream that cannot carry more than ASCII.
        color: ANSI colours.
    """

    unicode: bool = True
    color: bool = False

    @property
    def glyphs(self) -> Glyphs:
        """The drawn parts."""
        return UNICODE if self.unicode else ASCII

    @property
    def plain(self) -> Pen:
        """The same without colours."""
        return Pen(unicode=self.unicode)

    def paint(self, text: str, code: str) -> str:
        """The text in a colour, or as it is."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.color and code and text else text

    def carried(self, text: str) -> str:
        """The text as the stream can carry it."""
        return text if self.unicode else text.translate(_TO_ASCII).encode("ascii", "replace").decode("ascii")


MAX_LINES: Final = 40
MAX_BYTES: Final = 4_000
WIDTH: Final = 100


def render(view: CellView, *, unicode: bool = True, color: bool = False, width: int | None = None) -> str:
    """The summary, and after an error or on demand the error and the tree.

    Args:
        unicode: False for a stream that cannot carry more than ASCII.
        color: ANSI colours. Never in `text/plain` of a notebook.
        width: columns of the terminal: facts give way to fit it, and bars are left out below 80. None for a file, which
            has the tree as for 100 columns and every fact.

    Returns:
        Lines without a last line feed; at most 40 of them and 4,000 bytes, and below them what spans said if that was
        asked for. Spans without a line are counted.
    """
    pen = Pen(unicode=unicode, color=color)
    if view.mode == "line" or not (view.open or view.tree.errors):
        return pen.carried("\n".join(_head(view, pen, width, 0)))
    said = content_lines(view.said, pen, width or WIDTH) if view.asked else []
    footer = _footer(view)
    foot = ["", pen.paint(footer, "2")] if footer else []
    return pen.carried("\n".join([*_tree(view, pen, width), *said, *foot]))


def summary(view: CellView, *, unicode: bool = True, color: bool = False, width: int | None = None) -> str:
    """What is said unasked when all went well: the line, and below it an error or a notice if there is one."""
    pen = Pen(unicode=unicode, color=color)
    return pen.carried("\n".join(_head(view, pen, width, 0)))


def _head(view: CellView, pen: Pen, width: int | None, hidden: int) -> list[str]:
    return [_summary_line(view, pen, width, hidden), *_error_lines(view, pen), *_notice_lines(view, pen)]


def _summary_line(view: CellView, pen: Pen, width: int | None, hidden: int) -> str:
    """`✓ support_agent  2.84 s  ~$0.0091  6,043 tokens  21 spans  3 LLM calls  sent`, less facts where it is narrow."""
    facts = list(summarize_view(view, hidden).facts)
    while width is not None and facts and columns(_line_with(facts, view, pen.plain, hidden)) > width:
        facts.pop()
    return _line_with(facts, view, pen, hidden)


def _line_with(facts: Sequence[str], view: CellView, pen: Pen, hidden: int) -> str:
    said = summarize_view(view, hidden)
    tone = {"ok": "32", "error": "1;31"}.get(said.mark, "")
    delivery = said.delivery[:1].lower() + said.delivery[1:]
    parts = [
        pen.paint(pen.glyphs.marks[said.mark], tone) + " " + pen.paint(said.title, "1"),
        said.duration,
        *facts,
        pen.paint(said.errors, "1;31"),
        pen.paint(said.caught, "2"),
        *said.notes,
        pen.paint(delivery, "32" if said.delivery == "Sent" else ""),
    ]
    return "  ".join(filter(None, parts))


def _error_lines(view: CellView, pen: Pen) -> list[str]:
    error = error_line(view.tree)
    if error is None:
        return []
    # A single root is the summary's title already.
    through = error.through if len(view.tree.roots) > 1 else error.through[:-1]
    way = " > ".join((*reversed(through), error.name))
    line = f"  {way}: {pen.paint(error.what, '1;31')}"
    return [f"{line}  {pen.paint(error.location, '2')}" if error.location else line]


def _notice_lines(view: CellView, pen: Pen) -> list[str]:
    if view.notice is None:
        return []
    notice = view.notice
    title, text = (clean(part, 400) for part in (notice.title, notice.text))
    commands = " or ".join(pen.paint(clean(command, 60), "1") for command in notice.commands)
    return ["  " + " ".join(filter(None, (title, text, commands)))]


def _tree(view: CellView, pen: Pen, width: int | None) -> list[str]:
    """Head and tree within the bounds: fewer rows if need be, counted in the last line. Colours do not count."""
    rows = rows_of(view)
    below = sum(len(line.encode()) + 1 for line in ("", _footer(view)))
    shown = choose_rows(rows, view.max_rows)
    while len(shown) > 1:
        lines = _drawn(view, shown, pen.plain, width)
        size = sum(len(line.encode()) + 1 for line in lines) + below
        too_many = len(lines) + 2 - MAX_LINES
        if size <= MAX_BYTES and too_many <= 0:
            break
        fitting = len(shown) * MAX_BYTES // size if size > MAX_BYTES else len(shown)
        shown = choose_rows(rows, max(1, min(len(shown) - max(too_many, 1), fitting)))
    return _drawn(view, shown, pen, width)


def _drawn(view: CellView, shown: Sequence[TreeRow], pen: Pen, width: int | None) -> list[str]:
    hidden = hidden_spans(view.tree, shown)
    lines = [*_head(view, pen, width, hidden), "", *tree_lines(shown, view.tree, pen, width or WIDTH)]
    return [*lines, f"… {count(hidden, 'more span')}"] if hidden else lines


def _footer(view: CellView) -> str:
    more = tells_more(view)
    parts = (
        f"file {clean(view.file, COMMAND_LENGTH)}" if view.file else "",
        f"session {clean(view.session_name, 60)}" if view.session_name else "",
        redacted_note(view.tree),
        f"{more[0][:1].lower()}{more[0][1:]} {more[1]}" if more else "",
    )
    return "   ".join(filter(None, parts))
