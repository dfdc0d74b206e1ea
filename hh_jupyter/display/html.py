"""The view as static HTML: what a saved notebook, GitHub, a mail or a page without the kernel shows.

Untrusted notebooks lose style tags, scripts, SVG, `data-*`, ARIA and every `var()` (measured in JupyterLab 4.6), and
some readers lose all styling. So meaning is in the elements and the text, styles are inline and only adorn, and colours
are literals of middle lightness that can be seen on white and on black. Text has no colour of its own.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Final

from hh_jupyter.display.clean import clean
from hh_jupyter.display.format import count, duration
from hh_jupyter.display.rows import RowText, choose_rows, describe_row, extent, hidden_spans
from hh_jupyter.display.summary import error_line, summarize_view

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hh_jupyter.display.view import CellView, Notice
    from hh_jupyter.records.tree import SpanTree, TreeRow

MAX_BYTES: Final = 32_000

BAR_COLOURS: Final = {
    "llm": "#7f63dd",
    "embedding": "#bd6a2c",
    "tool": "#12917f",
    "agent": "#7b8499",
    "retriever": "#2f80d0",
    "reranker": "#2f80d0",
}
OTHER_COLOUR: Final = "#7b8499"
ERROR_COLOUR: Final = "#d8435a"
"""Failures only. All colours have a contrast of at least 3:1 on #ffffff and on #111111, enough for graphics."""

_MARKS: Final = {"ok": "✓", "error": "✗", "running": "○", "stopped": "■"}
_TINTS: Final = {"ok": "rgba(31,157,87,.3)", "error": "rgba(216,67,90,.3)"}
_GREY: Final = "rgba(128,128,128,.3)"
_LINE: Final = f"1px solid {_GREY}"
_ROOT: Final = (
    f"border:{_LINE};border-radius:8px;overflow:hidden;margin:2px 0;"
    "font-family:system-ui,-apple-system,Segoe UI,Roboto,Noto Sans,sans-serif;font-size:13px;line-height:1.5"
)
_CHIP: Final = "border-radius:5px;padding:0 7px"
_QUIET: Final = "opacity:.78"
_CELL: Final = "padding:2px 8px"
_SPACE: Final = "\N{NO-BREAK SPACE}"
_INDENT: Final = _SPACE * 4
"""Indentation is text, since some readers drop all styles."""
_SHOWN_LEVELS: Final = 10


def render(view: CellView) -> str:
    """The output's HTML, at most 32,000 bytes of UTF-8.

    One line, and below it what opens: the error, the tree as a table, and the command that shows more. Classes keep
    MathJax from reading two dollar amounts as a formula.
    """
    rows = view.tree.rows()
    shown = choose_rows(rows, view.max_rows)
    page = _page(view, shown)
    while len(shown) > 1 and (size := len(page.encode())) > MAX_BYTES:
        shown = choose_rows(rows, min(len(shown) - 1, len(shown) * MAX_BYTES // size))
        page = _page(view, shown)
    return page


def escape(value: str, limit: int = 300) -> str:
    """The only way for text into the page: one clean line, quoted for elements and attributes alike."""
    return html.escape(clean(value, limit), quote=True)


def _page(view: CellView, shown: Sequence[TreeRow]) -> str:
    body = _error(view) + _table(view.tree, shown) + _footer(view, hidden_spans(view.tree, shown))
    return (
        f'<div class="hh-output tex2jax_ignore mathjax_ignore" id="{escape(view.view_id)}" style="{_ROOT}">'
        f"<details{' open' if view.open else ''}>{_summary(view)}"
        f'<div style="border-top:{_LINE};padding:6px 12px 8px">{body}</div></details>{_notice(view.notice)}</div>'
    )


def _summary(view: CellView) -> str:
    """Facts are parted by commas that are read and copied, but not seen where styles are kept."""
    summary = summarize_view(view)
    disc = f"background-color:{_TINTS.get(summary.mark, _GREY)};border-radius:50%;display:inline-block;width:18px"
    mark = f'<span style="{disc};line-height:18px;text-align:center;font-size:11px">{_MARKS[summary.mark]}</span>'
    comma = f'<span style="opacity:0">,{_SPACE} </span>'
    facts = comma.join(map(escape, (*summary.facts, *summary.notes)))
    chips = [
        f'<b style="background-color:{_TINTS["error"]};{_CHIP}">{escape(summary.errors)}</b>' if summary.errors else "",
        f'<span style="background-color:{_GREY};{_CHIP}">{escape(summary.caught)}</span>' if summary.caught else "",
    ]
    parts = [
        f"<span>{mark}{_SPACE} <b>{escape(summary.title)}</b></span>",
        f"<b>{escape(summary.duration)}</b>",
        f'<span style="{_QUIET}">{facts}</span>' if facts else "",
        *chips,
        f'<span style="margin-left:auto">{_delivery(view, summary.delivery)}</span>',
    ]
    line = "display:inline-flex;flex-wrap:wrap;align-items:center;gap:0 12px;width:calc(100% - 22px)"
    inner = " ".join(filter(None, parts))
    return f'<summary style="padding:5px 10px;cursor:pointer"><span style="{line}">{inner}</span></summary>'


def _delivery(view: CellView, word: str) -> str:
    """What became of the spans, and the session: a link where one is configured, else the start of its id to copy."""
    state = f"✓ {escape(word)}" if word == "Sent" else escape(word)
    state = f"<b>{state}</b>" if view.export.failing else f'<span style="{_QUIET}">{state}</span>'
    if view.session_url is not None and view.session_url.startswith("https://"):
        link = f'href="{escape(view.session_url, 2_000)}" target="_blank" rel="noopener noreferrer"'
        return f'{state} &nbsp;<a {link} style="color:inherit;text-decoration:underline">Open session</a>'
    if not view.session_id:
        return state
    whole, short = escape(view.session_id), escape(view.session_id[:8])
    return f'{state} &nbsp;<code title="Session {whole}" style="background:none;padding:0;{_QUIET}">{short}</code>'


def _notice(notice: Notice | None) -> str:
    """Below the summary line and outside the details: it must be seen without opening anything."""
    if notice is None:
        return ""
    tint = "rgba(216,67,90,.14)" if notice.kind == "error" else "rgba(128,128,128,.1)"
    command = f" <code>{escape(notice.command)}</code>" if notice.command else ""
    return (
        f'<div style="border-top:{_LINE};background-color:{tint};padding:5px 12px">'
        f"<b>{escape(notice.title)}</b> {escape(notice.text, 400)}{command}</div>"
    )


def _error(view: CellView) -> str:
    error = error_line(view.tree)
    if error is None:
        return ""
    through = f", through {', then '.join(map(escape, error.through))}" if error.through else ""
    place = f" ({escape(error.location)})" if error.location else ""
    return (
        f'<p style="border-left:3px solid {ERROR_COLOUR};padding:1px 10px;margin:2px 0 8px;overflow-wrap:break-word">'
        f"<b>{escape(error.what)}</b> in {escape(error.name)}{through}{place}</p>"
    )


def _table(tree: SpanTree, rows: Sequence[TreeRow]) -> str:
    texts = [describe_row(row) for row in rows]
    tokens = any(text.tokens for text in texts)
    head = [("Span", "40%" if tokens else "49%", "left"), ("Time", "11%", "right")]
    head += [("Tokens", "9%", "right")] if tokens else []
    head += [(f"0 to {duration(tree.end_ns - tree.start_ns)}", "", "left")]
    cells = "".join(
        f'<th style="text-align:{side};{_CELL};border:0;border-bottom:{_LINE};font-weight:400;{_QUIET}'
        f'{f";width:{width}" if width else ""}">{title}</th>'
        for title, width, side in head
    )
    body = "".join(_row(row, text, tree, tokens=tokens) for row, text in zip(rows, texts, strict=True))
    style = "width:100%;border-collapse:collapse;table-layout:fixed;border:0;margin:0;font-size:12px"
    return f'<table style="{style}"><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>'


def _row(row: TreeRow, text: RowText, tree: SpanTree, *, tokens: bool) -> str:
    label = f"text-align:left;{_CELL};white-space:nowrap;overflow:hidden;text-overflow:ellipsis"
    time = escape(text.time).replace(" ", _SPACE)
    counted = f'<td style="text-align:right;{_CELL}">{text.tokens}</td>' if text.tokens else "<td></td>"
    return (
        f'<tr style="background:none"><td style="{label}">{_label(row, text)}</td>'
        f'<td style="text-align:right;{_CELL}">{time}</td>{counted if tokens else ""}'
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
    small = f' <small style="{_QUIET}">{extra}</small>' if extra else ""
    return f'{indent}<samp style="font-size:11px;{_QUIET}">{text.kind}</samp> {name}{small}'


def _bar(row: TreeRow, tree: SpanTree) -> str:
    offset, length = extent(row, tree)
    left = min(max(offset * 100, 0.0), 99.5)
    width = max(length * 100, 0.5)
    colour = BAR_COLOURS.get(row.node.record.facts.kind, OTHER_COLOUR)
    if row.node.error == "uncaught":
        colour = ERROR_COLOUR
    return (
        f'<div style="margin-left:{left:.4g}%;width:{width:.4g}%;height:9px;border-radius:2px;'
        f'background-color:{colour}"></div>'
    )


def _footer(view: CellView, hidden: int) -> str:
    parts = [
        f"{count(hidden, 'more span')}" if hidden else "",
        f"Session {escape(view.session_name, 60)}" if view.session_name else "",
        f'<code style="background:none;padding:0">%hh show {escape(view.label, 40)}</code>',
    ]
    return f'<div style="margin-top:6px;font-size:12px;{_QUIET}">{" &nbsp;·&nbsp; ".join(filter(None, parts))}</div>'
