"""The spans of the static HTML: a table, or one line for a single span."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hh_jupyter.display import format as fmt
from hh_jupyter.display.markup import ERROR_COLOUR, LINE, QUIET, SPACE, escape
from hh_jupyter.display.rows import RowText, describe_row, extent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hh_jupyter.records.tree import SpanTree, TreeRow

BAR_COLOURS: Final = {
    "llm": "#7f63dd",
    "embedding": "#bd6a2c",
    "tool": "#12917f",
    "agent": "#7b8499",
    "retriever": "#2f80d0",
    "reranker": "#2f80d0",
}
OTHER_COLOUR: Final = "#7b8499"

_CELL: Final = "padding:2px 8px"
_LABEL: Final = f"text-align:left;{_CELL};white-space:nowrap;overflow:hidden;text-overflow:ellipsis"
_SMALL: Final = f"font-size:11px;{QUIET}"
_INDENT: Final = SPACE * 4
"""Indentation is text, since some readers drop all styles."""
_SHOWN_LEVELS: Final = 10


def table(tree: SpanTree, rows: Sequence[TreeRow]) -> str:
    """One row each, every row on a line of its own: a change of one is a change of one line in a saved notebook."""
    texts = [describe_row(row) for row in rows]
    tokens = any(text.tokens for text in texts)
    head = [("Span", "38%" if tokens else "47%", "left"), ("Time", "13%", "right")]
    head += [("Tokens", "9%", "right")] if tokens else []
    head += [(f"0 to {fmt.duration(tree.end_ns - tree.start_ns)}", "", "left")]
    cells = "".join(
        f'<th style="text-align:{side};{_CELL};border:0;border-bottom:{LINE};font-weight:400;{QUIET}'
        f'{f";width:{width}" if width else ""}">{escape(title)}</th>'
        for title, width, side in head
    )
    body = "\n".join(_row(row, text, tree, tokens=tokens) for row, text in zip(rows, texts, strict=True))
    style = "width:100%;border-collapse:collapse;table-layout:fixed;border:0;margin:0;font-size:12px"
    return f'<table style="{style}"><thead><tr>{cells}</tr></thead>\n<tbody>{body}</tbody></table>'


def single(row: TreeRow) -> str:
    """One span needs no table: its kind and model, and what the summary line does not say already."""
    text, facts = describe_row(row), row.node.record.facts
    usage = facts.usage
    used = () if usage is None else ((usage.prompt, "in"), (usage.completion, "out"), (usage.cached, "cached"))
    first = facts.first_token_ns
    said = (
        escape(text.model),
        *(f"{number:,} {word}" for number, word in used if number),
        f"first token {fmt.duration(first)}" if first is not None else "",
        escape(text.tag),
    )
    return f'<p style="margin:2px 0">{_kind(text)} {", ".join(filter(None, said))}</p>'


def _row(row: TreeRow, text: RowText, tree: SpanTree, *, tokens: bool) -> str:
    number = f'<td align="right" style="{_CELL}"'
    spread = f' title="{escape(text.spread)}"' if text.spread else ""
    time = escape(text.time).replace(" ", SPACE)
    counted = f"{number}>{text.tokens}</td>" if text.tokens else "<td></td>"
    return (
        f'<tr><td style="{_LABEL}">{_label(row, text)}</td>{number}{spread}>{time}</td>{counted if tokens else ""}'
        f'<td style="{_CELL}">{_bar(row, tree)}</td></tr>'
    )


def _label(row: TreeRow, text: RowText) -> str:
    depth = row.node.depth
    indent = _INDENT * min(depth, _SHOWN_LEVELS) + ("… " if depth > _SHOWN_LEVELS else "")
    name = f"{escape(text.name)}{f' {text.repeats}' if text.repeats else ''}"
    if row.node.error == "uncaught":
        name = f"<b>✗ {name}</b>"
    elif row.node.error == "caught":
        name = f"! {name}"
    extra = " ".join(filter(None, (escape(text.model), escape(text.tag))))
    small = f' <small style="{_SMALL}">{extra}</small>' if extra else ""
    return f"{indent}{_kind(text)} {name}{small}"


def _kind(text: RowText) -> str:
    """A span's kind, told from its name by its letters."""
    return f'<samp style="{_SMALL}">{text.kind}</samp>'


def _bar(row: TreeRow, tree: SpanTree) -> str:
    """A border, because printers and high-contrast modes leave out backgrounds."""
    offset, length = extent(row, tree)
    left = min(max(round(offset * 100, 1), 0.0), 99.5)
    width = min(max(round(length * 100, 1), 0.5), 100 - left)
    colour = BAR_COLOURS.get(row.node.record.facts.kind, OTHER_COLOUR)
    if row.node.error == "uncaught":
        colour = ERROR_COLOUR
    return f'<div style="margin-left:{left:g}%;width:{width:.3g}%;border-top:9px solid {colour}"></div>'
