"""The view as text: `text/plain` of every output, and what a terminal shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hh_jupyter.display.clean import clean, columns, fit
from hh_jupyter.display.format import count
from hh_jupyter.display.rows import RowText, choose_rows, describe_row, extent, hidden_spans
from hh_jupyter.display.summary import error_line, summarize_view

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hh_jupyter.display.view import CellView
    from hh_jupyter.records.tree import SpanTree, TreeRow

MAX_LINES = 40
MAX_BYTES = 4_000
BARS_FROM_WIDTH = 80
"""Terminals narrower than this get no bars."""

BAR_WIDTH = 30
_SHOWN_LEVELS = 8
_KIND_WIDTH = 6
_TIME_WIDTH = 9


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

_KIND_COLOURS = {"llm": "35", "emb": "33", "ret": "34", "rank": "34", "tool": "36"}


def render(view: CellView, *, unicode: bool = True, color: bool = False, width: int = 100) -> str:
    """The summary, and after an error or on demand the error and the tree.

    Args:
        unicode: False for a stream that cannot carry more than ASCII.
        color: ANSI colours. Never in `text/plain` of a notebook.
        width: columns of the terminal. Bars are left out below 80.

    Returns:
        Lines without a last line feed; at most 40 of them and 4,000 bytes. Spans without a line are counted.
    """
    pen = _Pen(UNICODE if unicode else ASCII, color=color)
    head = [summary_line(view, unicode=unicode, color=color), *_error_lines(view, pen), *_notice_lines(view, pen)]
    lines = head
    if view.mode != "line" and (view.open or view.tree.errors):
        lines = [*head, "", *_tree_lines(view, pen, width, head)]
    text = "\n".join(lines)
    return text if unicode else text.translate(_TO_ASCII).encode("ascii", "replace").decode("ascii")


def summary_line(view: CellView, *, unicode: bool = True, color: bool = False) -> str:
    """`✓ support_agent  2.84 s  ~$0.0091  6,043 tokens  21 spans  3 LLM calls  sent`."""
    summary = summarize_view(view)
    pen = _Pen(UNICODE if unicode else ASCII, color=color)
    tone = {"ok": "32", "error": "1;31"}.get(summary.mark, "")
    delivery = summary.delivery[:1].lower() + summary.delivery[1:]
    parts = [
        pen.paint(pen.glyphs.marks[summary.mark], tone) + " " + pen.paint(summary.title, "1"),
        summary.duration,
        *summary.facts,
        pen.paint(summary.errors, "1;31"),
        pen.paint(summary.caught, "2"),
        *summary.notes,
        pen.paint(delivery, "32" if summary.delivery == "Sent" else ""),
    ]
    line = "  ".join(filter(None, parts))
    return line if unicode else line.translate(_TO_ASCII).encode("ascii", "replace").decode("ascii")


@dataclass(frozen=True, slots=True)
class _Pen:
    glyphs: Glyphs
    color: bool

    def paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.color and code and text else text


def _error_lines(view: CellView, pen: _Pen) -> list[str]:
    error = error_line(view.tree)
    if error is None:
        return []
    # A single root is the summary's title already.
    through = error.through if len(view.tree.roots) > 1 else error.through[:-1]
    way = " > ".join((*reversed(through), error.name))
    line = f"  {way}: {pen.paint(error.what, '1;31')}"
    return [f"{line}  {pen.paint(error.location, '2')}" if error.location else line]


def _notice_lines(view: CellView, pen: _Pen) -> list[str]:
    if view.notice is None:
        return []
    notice = view.notice
    title, text, command = (clean(part or "", 400) for part in (notice.title, notice.text, notice.command))
    parts = (title, text, pen.paint(command, "1"))
    return ["  " + " ".join(filter(None, parts))]


def _tree_lines(view: CellView, pen: _Pen, width: int, head: Sequence[str]) -> list[str]:
    """The tree within what the head left of lines and bytes: fewer rows if need be, counted in the last line."""
    footer = _footer(view)
    room = MAX_BYTES - sum(len(line.encode()) + 1 for line in head) - len(footer.encode()) - 60
    rows = view.tree.rows()
    shown = choose_rows(rows, min(view.max_rows, MAX_LINES - len(head) - 4))
    lines = _draw(shown, view.tree, pen, width)
    while len(shown) > 1 and (size := sum(len(line.encode()) + 1 for line in lines)) > room:
        shown = choose_rows(rows, min(len(shown) - 1, len(shown) * room // size))
        lines = _draw(shown, view.tree, pen, width)
    hidden = hidden_spans(view.tree, shown)
    if hidden:
        lines.append(f"… {count(hidden, 'more span')}")
    return [*lines, "", pen.paint(footer, "2")]


def _footer(view: CellView) -> str:
    session = f"session {clean(view.session_name, 60)}   " if view.session_name else ""
    return f"{session}%hh show {clean(view.label, 40)}"


def _draw(rows: Sequence[TreeRow], tree: SpanTree, pen: _Pen, width: int) -> list[str]:
    """Lines of the rows, in columns as wide as their contents."""
    texts = [describe_row(row) for row in rows]
    guides = _guides(rows, pen.glyphs)
    names = [_name(text) for text in texts]
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
        tag = f"  {text.tag}" if text.tag else ""
        line = guide + pen.paint(kind, tone) + shown + pen.paint(numbers, "2")
        lines.append(f"{line}  {pen.paint(bar, tone)}{tag}".rstrip() if bars else (line + tag).rstrip())
    return lines


def _name(text: RowText) -> str:
    return " ".join(filter(None, (text.name, text.repeats, text.model)))


def _kind(row: TreeRow, text: RowText, pen: _Pen) -> tuple[str, str]:
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
