"""Render a view as text: `text/plain` of every output, and the terminal display."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from hh_jupyter.display.content import ContentBlock
from hh_jupyter.display.delta import DELTA, RunDelta
from hh_jupyter.display.format import ASCII_MARKS, MARKS, Mark, cell_width, clean, count, fit, span_name
from hh_jupyter.display.view import (
    COMMAND_LENGTH,
    CellView,
    RowText,
    choose_rows,
    describe_row,
    error_lines,
    extent,
    hidden_spans,
    is_replayed,
    omitted_content_hint,
    redacted_note,
    row_mark,
    rows_of,
    summarize_view,
)
from hh_jupyter.records.tree import SpanTree, TreeRow

BARS_FROM_WIDTH: Final = 80
"""Minimum width of a terminal in which bars are drawn."""

BAR_WIDTH: Final = 30
_MAX_GUIDE_LEVELS: Final = 8
_KIND_WIDTH: Final = 6
_TIME_WIDTH: Final = 9
_KIND_COLORS: Final = {"llm": "35", "emb": "33", "ret": "34", "rank": "34", "tool": "36"}


def tree_lines(
    rows: Sequence[TreeRow], tree: SpanTree, style: TextStyle, width: int, *, feedback: bool = False
) -> list[str]:
    """Return one line per row: guides, kind, name, numbers and bar, in columns as wide as their content.

    Args:
        rows: the rows.
        tree: the tree that they belong to.
        style: glyphs and colors.
        width: of a line, in characters; error tags and feedback stand behind it.
        feedback: add the feedback on the spans.
    """
    texts = [describe_row(row, feedback=feedback) for row in rows]
    guides = _guides(rows, style.glyphs)
    names = [" ".join(filter(None, (text.name, text.repeats, text.model))) for text in texts]
    used = [len(guide) + _KIND_WIDTH + cell_width(name) for guide, name in zip(guides, names, strict=True)]
    tokens_width = max((len(text.tokens) for text in texts), default=0)
    tokens_width += 3 if tokens_width else 0
    bars = width >= BARS_FROM_WIDTH
    rest = 2 + _TIME_WIDTH + tokens_width + (2 + BAR_WIDTH if bars else 0)
    label_width = min(max(used, default=0), max(width - rest, 24))
    lines = []
    for row, text, guide, name in zip(rows, texts, guides, names, strict=True):
        kind, tone = _kind(row, text, style)
        # Names on deep levels keep at least 8 characters, even if the guides fill the column.
        shown = fit(name, max(label_width - len(guide) - _KIND_WIDTH, min(cell_width(name), 8)))
        numbers = f"  {text.time:>{_TIME_WIDTH}}{text.tokens:>{tokens_width}}"
        bar = _bar(row, tree, style.glyphs) if bars else ""
        tag = f"  {style.color(text.tag, '1;31' if row.node.error == 'uncaught' else '2')}" if text.tag else ""
        tag += "".join(f"  [{chip}]" for chip in text.feedback)
        tag += f"  {style.color(text.replayed, '2')}" if text.replayed else ""
        line = guide + style.color(kind, tone) + shown + style.color(numbers, "2")
        lines.append(f"{line}  {_colored_bar(bar, tone, style)}{tag}".rstrip() if bars else (line + tag).rstrip())
    return lines


def _kind(row: TreeRow, text: RowText, style: TextStyle) -> tuple[str, str]:
    """Text and ANSI color of the kind column; failing spans show their error mark there."""
    if mark := row_mark(row.node):
        return f"{style.glyphs.marks[mark]:<{_KIND_WIDTH}}", "31" if mark == "error" else "33"
    return f"{text.kind:<{_KIND_WIDTH}}", _KIND_COLORS.get(text.kind, "")


def _guides(rows: Sequence[TreeRow], glyphs: Glyphs) -> list[str]:
    """Return the guide lines of each shown row; deep rows show only their nearest levels."""
    open_levels: set[int] = set()
    guides = []
    for row in reversed(rows):
        depth = row.node.depth
        first = max(1, depth - _MAX_GUIDE_LEVELS + 1)
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
    return " " * start + (glyphs.replayed if is_replayed(row) else glyphs.bar) * cells


def _colored_bar(bar: str, tone: str, style: TextStyle) -> str:
    drawn = bar.lstrip()
    return " " * (len(bar) - len(drawn)) + style.color(drawn, tone)


# Span content: a heading for each span, and its texts wrapped to the width.

_INDENT: Final = "  "
_MIN_WIDTH: Final = 30


def content_lines(blocks: Iterable[ContentBlock], style: TextStyle, width: int) -> list[str]:
    """Return the lines of all blocks, with an empty line before each."""
    return [line for block in blocks for line in _block_lines(block, style, max(width, _MIN_WIDTH))]


def _block_lines(block: ContentBlock, style: TextStyle, width: int) -> Iterator[str]:
    yield ""
    yield f"{block.heading}: {style.color(block.name, '1')}{f' {block.model}' if block.model else ''}"
    for part in block.parts:
        if part.label:
            yield _INDENT + style.color(part.label, "2")
        for line in part.text.split("\n"):
            wrapped = textwrap.wrap(line, width - 2 * len(_INDENT), break_on_hyphens=False)
            yield from (2 * _INDENT + piece.rstrip() for piece in wrapped or [""])


# Text style: Unicode or ASCII glyphs, and ANSI colors.


@dataclass(frozen=True, slots=True)
class Glyphs:
    """Characters that draw marks, guides and bars."""

    marks: Mapping[Mark, str]
    branch: str
    last: str
    pipe: str
    space: str
    bar: str
    replayed: str


UNICODE = Glyphs(MARKS, "├─ ", "└─ ", "│  ", "   ", "━", "╌")
ASCII = Glyphs(ASCII_MARKS, "|- ", "`- ", "|  ", "   ", "=", "-")

_TO_ASCII = str.maketrans({"…": "...", "×": "x", "«": ">>", "»": "<<", DELTA: "delta"})


@dataclass(frozen=True, slots=True)
class TextStyle:
    """Glyphs and colors of the text.

    Attributes:
        unicode: False for a stream that can only encode ASCII.
        ansi: write ANSI colors.
    """

    unicode: bool = True
    ansi: bool = False

    @property
    def glyphs(self) -> Glyphs:
        """The glyphs of this style."""
        return UNICODE if self.unicode else ASCII

    @property
    def without_color(self) -> TextStyle:
        """The same style without ANSI colors."""
        return TextStyle(unicode=self.unicode)

    def color(self, text: str, code: str) -> str:
        """Return the text with an ANSI color code, or unchanged if colors are off."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.ansi and code and text else text

    def encodable(self, text: str) -> str:
        """Return the text with all characters that the stream cannot encode replaced."""
        return text if self.unicode else text.translate(_TO_ASCII).encode("ascii", "replace").decode("ascii")


# The whole text: summary, error and tree.

MAX_LINES: Final = 40
MAX_BYTES: Final = 4_000
WIDTH: Final = 100


def render(view: CellView, *, unicode: bool = True, color: bool = False, width: int | None = None) -> str:
    """Render the summary, followed by the error and the tree after an error or if the view is open.

    Args:
        unicode: False for a stream that can only encode ASCII.
        color: write ANSI colors. Never in `text/plain` of a notebook.
        width: of the terminal in characters: facts are dropped until the line fits, and bars are left out below 80.
            None for a file: all facts, and the tree for a width of 100.

    Returns:
        At most 40 lines and 4,000 bytes, without a final line feed, plus the content of spans if it was requested.
        Spans without a line are counted.
    """
    style = TextStyle(unicode=unicode, ansi=color)
    if view.mode == "line" or not (view.open or view.tree.errors):
        return style.encodable("\n".join(_head(view, style, width, 0)))
    content = content_lines(view.content, style, width or WIDTH) if view.content_requested else []
    footer = _footer(view)
    foot = ["", style.color(footer, "2")] if footer else []
    return style.encodable("\n".join([*_tree(view, style, width), *content, *foot]))


def summary(view: CellView, *, unicode: bool = True, color: bool = False, width: int | None = None) -> str:
    """Render the summary line, followed by the error or the notice if there is one."""
    style = TextStyle(unicode=unicode, ansi=color)
    return style.encodable("\n".join(_head(view, style, width, 0)))


def _head(view: CellView, style: TextStyle, width: int | None, hidden: int) -> list[str]:
    return [_summary_line(view, style, width, hidden), *_error_lines(view, style), *_notice_lines(view, style)]


def _summary_line(view: CellView, style: TextStyle, width: int | None, hidden: int) -> str:
    """`✓ support_agent  2.84 s  ~$0.0091  6,043 tokens  21 spans  3 LLM calls  sent`; fewer facts if narrow."""
    facts = list(summarize_view(view, hidden).facts)
    if width is not None and view.delta and cell_width(_line_with(facts, view, style.without_color, hidden)) > width:
        view = replace(view, delta=view.delta.shortened)
    while width is not None and facts and cell_width(_line_with(facts, view, style.without_color, hidden)) > width:
        facts.pop()
    return _line_with(facts, view, style, hidden)


def _line_with(facts: Sequence[str], view: CellView, style: TextStyle, hidden: int) -> str:
    summary = summarize_view(view, hidden)
    tone = {"ok": "32", "error": "1;31", "cancelled": "33"}.get(summary.mark, "")
    delivery = summary.delivery[:1].lower() + summary.delivery[1:]
    parts = [
        style.color(style.glyphs.marks[summary.mark], tone) + " " + style.color(summary.title, "1"),
        summary.duration,
        summary.limit,
        *facts,
        style.color(summary.stopped, "1;31"),
        summary.replayed,
        style.color(summary.unrecorded, "1;31"),
        style.color(summary.errors, "1;31"),
        style.color(summary.caught, "2"),
        style.color(summary.cancelled, "33"),
        *summary.notes,
        *_delta_words(view.delta, style),
        style.color(delivery, "32" if summary.delivery == "Sent" else ""),
    ]
    return "  ".join(filter(None, parts))


def _delta_words(delta: RunDelta | None, style: TextStyle) -> list[str]:
    """What changed since the run before."""
    if delta is None or not delta.words:
        return []
    first, *others = delta.words
    return [f"{DELTA} {style.color(first, '1;31') if delta.failed else first}", *others]


def _error_lines(view: CellView, style: TextStyle) -> list[str]:
    lines = []
    for number, error in enumerate(error_lines(view)):
        # A single root is the summary's title already.
        titled = len(view.tree.roots) == 1 and error.through[-1:] == (span_name(view.tree.title),)
        path = " > ".join((*reversed(error.through[:-1] if titled else error.through), error.name))
        parts = ("caused by" if number else "", f"{path}:" if path else "", style.color(error.what, "1;31"))
        line = "  " + " ".join(filter(None, parts))
        lines.append(f"{line}  {style.color(error.location, '2')}" if error.location else line)
    return lines


def _notice_lines(view: CellView, style: TextStyle) -> list[str]:
    if view.notice is None:
        return []
    notice = view.notice
    title, text = (clean(part, 400) for part in (notice.title, notice.text))
    commands = " or ".join(style.color(clean(command, 60), "1") for command in notice.commands)
    return ["  " + " ".join(filter(None, (title, text, commands)))]


def _tree(view: CellView, style: TextStyle, width: int | None) -> list[str]:
    """Return head and tree within the limits; rows that do not fit are counted in the last line.

    ANSI colors do not count as bytes.
    """
    rows = rows_of(view)
    below = sum(len(line.encode()) + 1 for line in ("", _footer(view)))
    shown = choose_rows(rows, view.max_rows)
    while len(shown) > 1:
        lines = _tree_with_head(view, shown, style.without_color, width)
        size = sum(len(line.encode()) + 1 for line in lines) + below
        excess_lines = len(lines) + 2 - MAX_LINES
        if size <= MAX_BYTES and excess_lines <= 0:
            break
        fitting = len(shown) * MAX_BYTES // size if size > MAX_BYTES else len(shown)
        shown = choose_rows(rows, max(1, min(len(shown) - max(excess_lines, 1), fitting)))
    return _tree_with_head(view, shown, style, width)


def _tree_with_head(view: CellView, shown: Sequence[TreeRow], style: TextStyle, width: int | None) -> list[str]:
    hidden = hidden_spans(view.tree, shown)
    lines = [*_head(view, style, width, hidden), "", *_rows(view, shown, style, width)]
    return [*lines, f"… {count(hidden, 'more span')}"] if hidden else lines


def _rows(view: CellView, shown: Sequence[TreeRow], style: TextStyle, width: int | None) -> list[str]:
    return tree_lines(shown, view.tree, style, width or WIDTH, feedback=view.content_requested)


def _footer(view: CellView) -> str:
    more = omitted_content_hint(view)
    parts = (
        f"file {clean(view.file, COMMAND_LENGTH)}" if view.file else "",
        f"session {clean(view.session_name, 60)}" if view.session_name else "",
        redacted_note(view.tree),
        f"{more[0][:1].lower()}{more[0][1:]} {more[1]}" if more else "",
        f"changes: {view.delta.command}" if view.delta is not None else "",
    )
    return "   ".join(filter(None, parts))
