"""The tree of the text form: guides, kinds, names, numbers and bars in columns as wide as their contents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hh_jupyter.display.clean import columns, fit
from hh_jupyter.display.rows import RowText, describe_row, extent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hh_jupyter.display.pen import Glyphs, Pen
    from hh_jupyter.records.tree import SpanTree, TreeRow

BARS_FROM_WIDTH: Final = 80
"""Terminals narrower than this get no bars."""

BAR_WIDTH: Final = 30
_SHOWN_LEVELS: Final = 8
_KIND_WIDTH: Final = 6
_TIME_WIDTH: Final = 9
_KIND_COLOURS: Final = {"llm": "35", "emb": "33", "ret": "34", "rank": "34", "tool": "36"}


def draw(rows: Sequence[TreeRow], tree: SpanTree, pen: Pen, width: int) -> list[str]:
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
