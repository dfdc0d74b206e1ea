"""The view as static HTML: what a saved notebook, GitHub, a mail or a page without the kernel shows.

See `hh_jupyter.display.html` for what such pages leave of it.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from hh_jupyter.display import format as fmt
from hh_jupyter.display import text
from hh_jupyter.display.content import Image, Part, Said
from hh_jupyter.display.format import clean, clean_block, count
from hh_jupyter.display.view import (
    CellView,
    Notice,
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

__all__ = ["DISPLAYS", "CellView", "Notice", "mime_bundle"]

# What the parts of the static HTML share: the way for text into the page, and styles.
#
# Untrusted notebooks lose style tags, scripts, SVG, `data-*`, ARIA and every `var()` (measured in JupyterLab 4.6),
# and some readers lose all styling. So meaning is in the elements and the text, styles are inline and only adorn, and
# colours are literals of middle lightness that can be seen on white and on black. Text has no colour of its own.

GREY: Final = "rgba(128,128,128,.3)"
LINE: Final = f"1px solid {GREY}"
QUIET: Final = "opacity:.78"
PLAIN_CODE: Final = "background:none;padding:0"
ERROR_COLOUR: Final = "#d8435a"
"""Failures only. All colours have a contrast of at least 3:1 on #ffffff and on #111111, enough for graphics."""

SPACE: Final = "\N{NO-BREAK SPACE}"


def escape(value: str, limit: int = 300) -> str:
    """The only way for a line of text into the page: clean, and quoted for elements and attributes alike."""
    return html.escape(clean(value, limit), quote=True)


def escape_block(value: str) -> str:
    """The only way for text of several lines into a `pre`.

    Its line feeds are character references: in a Markdown file an empty line would end the HTML, and what follows would
    be read as Markdown, images and links included.
    """
    return html.escape(clean_block(value), quote=True).replace("\n", "&#10;")


# The spans of the static HTML: a table, or one line for a single span.

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


# What spans said, in the static HTML: something to open for each span, and plain text and images in it.

_TEXT: Final = (
    "white-space:pre-wrap;overflow-wrap:anywhere;margin:4px 0 8px;padding:0 0 0 14px;background:none;border:0;"
    "font-size:12px;line-height:1.45"
)

_IMAGE: Final = "max-height:240px;max-width:100%;margin:4px 8px 0 0;border-radius:4px"


def content_blocks(said: Iterable[Said], *, opened: bool) -> str:
    """One block each, opened or not."""
    return "".join(_block(one, opened=opened) for one in said)


def _block(said: Said, *, opened: bool) -> str:
    model = f" <small>{escape(said.model)}</small>" if said.model else ""
    text = "&#10;&#10;".join(map(_part, said.parts))
    return (
        f'\n<details{" open" if opened else ""} style="margin-top:6px"><summary style="cursor:pointer">'
        f'{escape(said.heading)}: {escape(said.name)}{model}</summary><pre style="{_TEXT}">{text}</pre></details>'
    )


def _part(part: Part) -> str:
    label = f"<b>{escape(part.label)}</b>&#10;" if part.label else ""
    images = "".join(map(_image, part.images))
    return label + escape_block(part.text) + (f"&#10;{images}" if images else "")


def _image(image: Image) -> str:
    """From its own bytes: no page fetches anything. JupyterLab's sanitizer keeps it [measured]."""
    data = base64.b64encode(image.data).decode()
    return f'<img src="data:{image.mime};base64,{data}" alt="{escape(image.label)}" style="{_IMAGE}">'


MAX_BYTES: Final = 32_000
"""Of everything but what spans said, which is in it by request only."""

_MARKS: Final = {"ok": "✓", "error": "✗", "running": "○", "stopped": "■"}
_TINTS: Final = {"ok": "rgba(31,157,87,.3)", "error": "rgba(216,67,90,.3)"}
_ROOT: Final = (
    f"border:{LINE};border-radius:8px;overflow:hidden;margin:2px 0;"
    "font-family:system-ui,-apple-system,Segoe UI,Roboto,Noto Sans,sans-serif;font-size:13px;line-height:1.5"
)
_CHIP: Final = "border-radius:5px;padding:0 7px"


def render(view: CellView) -> str:
    """The output's HTML, at most 32,000 bytes of UTF-8 and what spans said.

    One line, and below it what opens: the error, the tree as a table, and the command that shows more. Classes keep
    MathJax from reading two dollar amounts as a formula. No line is empty, which would end HTML in a Markdown file.
    """
    rows = rows_of(view)
    shown = choose_rows(rows, view.max_rows)
    page = _page(view, shown)
    while len(shown) > 1 and (size := len(page.encode())) > MAX_BYTES:
        shown = choose_rows(rows, min(len(shown) - 1, len(shown) * MAX_BYTES // size))
        page = _page(view, shown)
    return page.replace(_SAID, content_blocks(view.said, opened=len(view.tree.nodes) == 1))


_SAID: Final = "<!-- said -->"
"""Stands in for it while the size of the rest is measured. Span text cannot hold it, since its `<` is escaped."""


def _page(view: CellView, shown: Sequence[TreeRow]) -> str:
    hidden = hidden_spans(view.tree, shown)
    spans = single(shown[0]) if len(view.tree.nodes) == 1 else table(view.tree, shown)
    body = f"{_error(view)}{spans}{_SAID}\n{_footer(view, hidden)}"
    return (
        f'<div class="hh-output tex2jax_ignore mathjax_ignore" id="{escape(view.view_id)}" style="{_ROOT}">'
        f"<details{' open' if view.open else ''}>\n{_summary(view, hidden)}\n"
        f'<div style="border-top:{LINE};padding:6px 12px 8px">{body}</div></details>{_notice(view.notice)}</div>'
    )


def _summary(view: CellView, hidden: int) -> str:
    """Facts are parted by commas that are read and copied, but not seen where styles are kept."""
    summary = summarize_view(view, hidden)
    disc = f"background-color:{_TINTS.get(summary.mark, GREY)};border-radius:50%;display:inline-block;width:18px"
    mark = f'<span style="{disc};line-height:18px;text-align:center;font-size:11px">{_MARKS[summary.mark]}</span>'
    comma = f'<span style="opacity:0">,{SPACE} </span>'
    facts = comma.join(map(escape, (*summary.facts, *summary.notes)))
    chips = [
        f'<b style="background-color:{_TINTS["error"]};{_CHIP}">{escape(summary.errors)}</b>' if summary.errors else "",
        f'<span style="background-color:{GREY};{_CHIP}">{escape(summary.caught)}</span>' if summary.caught else "",
    ]
    parts = [
        f"<span>{mark}{SPACE} <b>{escape(summary.title)}</b></span>",
        f"<b>{escape(summary.duration)}</b>",
        f'<span style="{QUIET}">{facts}</span>' if facts else "",
        *chips,
        f'<span style="margin-left:auto">{_delivery(view, summary.delivery)}</span>',
    ]
    line = "display:inline-flex;flex-wrap:wrap;align-items:center;gap:0 12px;width:calc(100% - 22px)"
    inner = "\n".join(filter(None, parts))
    return f'<summary style="padding:5px 10px;cursor:pointer"><span style="{line}">{inner}</span></summary>'


def _delivery(view: CellView, word: str) -> str:
    """What became of the spans, and the start of the session's id to copy."""
    state = f"✓ {escape(word)}" if word == "Sent" else escape(word)
    state = f"<b>{state}</b>" if view.export.failing else f'<span style="{QUIET}">{state}</span>'
    if not view.linked or not view.session_id:
        return state
    whole, short = escape(view.session_id), escape(view.session_id[:8])
    return f'{state} &nbsp;<code title="Session {whole}" style="{PLAIN_CODE};{QUIET}">{short}</code>'


def _notice(notice: Notice | None) -> str:
    """Below the summary line and outside the details: it must be seen without opening anything."""
    if notice is None:
        return ""
    tint = "rgba(216,67,90,.14)" if notice.kind == "error" else "rgba(128,128,128,.1)"
    commands = " or ".join(f'<code style="white-space:nowrap">{escape(command)}</code>' for command in notice.commands)
    return (
        f'\n<div style="border-top:{LINE};background-color:{tint};padding:5px 12px">'
        f"<b>{escape(notice.title)}</b> {escape(notice.text, 400)}{f' {commands}' if commands else ''}</div>"
    )


def _error(view: CellView) -> str:
    error = error_line(view.tree)
    if error is None:
        return ""
    through = f", through {', then '.join(map(escape, error.through))}" if error.through else ""
    place = f" ({escape(error.location)})" if error.location else ""
    return (
        f'<p style="border-left:3px solid {ERROR_COLOUR};padding:1px 10px;margin:2px 0 8px;overflow-wrap:break-word">'
        f"<b>{escape(error.what)}</b> in {escape(error.name)}{through}{place}</p>\n"
    )


def _link(view: CellView) -> str:
    """To the session, where one is configured. Not in the summary: a control in a control cannot be told apart."""
    url = view.session_url
    if not view.linked or not view.session_id or url is None or not url.startswith("https://"):
        return ""
    link = f'href="{escape(url, 2_000)}" target="_blank" rel="noopener noreferrer"'
    return f'<a {link} style="color:inherit;text-decoration:underline">Open session</a>'


def _footer(view: CellView, hidden: int) -> str:
    more = tells_more(view)
    parts = [
        count(hidden, "more span") if hidden else "",
        redacted_note(view.tree),
        f"File {escape(view.file)}" if view.file else "",
        f"Session {escape(view.session_name, 60)}" if view.session_name else "",
        _link(view),
        f'{more[0]} <code style="{PLAIN_CODE}">{escape(more[1])}</code>' if more else "",
    ]
    said = " &nbsp;·&nbsp; ".join(filter(None, parts))
    return f'<div style="margin-top:6px;font-size:12px;{QUIET}">{said}</div>' if said else ""


# The mime bundle of one output: every display of a view, complete by itself and safe everywhere.

DISPLAYS: Final[Mapping[str, Callable[[CellView], str]]] = MappingProxyType(
    {"text/plain": text.render, "text/html": render}
)
"""The displays of a view by mime type. Each shows the same spans, errors and totals."""


def mime_bundle(view: CellView) -> dict[str, str]:
    """Data of the output of one cell; its text has no ANSI codes."""
    return {mime: render(view) for mime, render in DISPLAYS.items()}


METADATA_KEY: Final = "hh_jupyter"
"""Marks our outputs in a saved notebook, so that a tool can find and strip them."""
