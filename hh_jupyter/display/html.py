"""Render a view as static HTML: what a saved notebook, GitHub, a mail or a page without a kernel shows."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from hh_jupyter.display import format as fmt
from hh_jupyter.display import text
from hh_jupyter.display.content import ContentBlock, ContentPart, InlineImage
from hh_jupyter.display.delta import DELTA, RunDelta
from hh_jupyter.display.format import MARKS, REPLAYED, Mark, clean, clean_block, count
from hh_jupyter.display.view import (
    CellView,
    Notice,
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

__all__ = ["DISPLAYS", "CellView", "Notice", "mime_bundle"]

# Styles and escaping.
#
# JupyterLab 4.6 removes style tags, scripts, SVG, `data-*`, ARIA and every `var()` from untrusted notebooks, and some
# readers remove all styles (tests/browser/test_static_in_lab.py). Therefore elements and text carry the meaning,
# styles are inline and only decorate, and colors are literals of medium lightness, visible on white and on black.
# Text inherits its color.
#
# `nbconvert --sanitize-html` removes all styles, and shows all tags as text but `div`, `span`, `b`, `code`, `pre`, `a`,
# `table`, `tr` and `td`. Others are used only where nothing else does: `details` and `summary`, bare, and `img`.

GREY: Final = "rgba(128,128,128,.3)"
BORDER: Final = f"1px solid {GREY}"
MUTED: Final = "opacity:.78"
PLAIN_CODE: Final = "background:none;padding:0"
ERROR_COLOR: Final = "#d8435a"
"""Only for failures. All colors have a contrast of at least 3:1 on #ffffff and on #111111, enough for graphics."""

SPACE: Final = "\N{NO-BREAK SPACE}"


def escape(value: str, limit: int = 300) -> str:
    """Return a line of text cleaned and quoted for elements and attributes. All text enters the page through here."""
    return html.escape(clean(value, limit), quote=True)


def escape_block(value: str) -> str:
    """Return text of several lines for a `pre`. All such text enters the page through here.

    Line feeds become character references: in a Markdown file an empty line ends the HTML, and the rest would be parsed
    as Markdown, including images and links.
    """
    return html.escape(clean_block(value), quote=True).replace("\n", "&#10;")


def escape_piece(value: str) -> str:
    """Quote a piece of a text that `clean_block` has cleaned, as `escape_block` does; white space at its ends stays."""
    return html.escape(value, quote=True).replace("\n", "&#10;")


# The spans: a table, or one line for a single span.

BAR_COLORS: Final = {
    "llm": "#7f63dd",
    "embedding": "#bd6a2c",
    "tool": "#12917f",
    "agent": "#7b8499",
    "retriever": "#2f80d0",
    "reranker": "#2f80d0",
}
OTHER_COLOR: Final = "#7b8499"

_CELL: Final = "padding:2px 8px"
_LABEL: Final = f"text-align:left;{_CELL};white-space:nowrap;overflow:hidden;text-overflow:ellipsis"
_SMALL: Final = f"font-size:11px;{MUTED}"
_INDENT: Final = SPACE * 4
"""Indentation is text because some readers remove all styles."""
_MAX_INDENT_LEVELS: Final = 10


def table(
    tree: SpanTree,
    rows: Sequence[TreeRow],
    *,
    feedback: bool = False,
    previews: Mapping[int, str] = MappingProxyType({}),
) -> str:
    """Return a table of the rows. Each row is on its own line, so that diffs of saved notebooks stay small.

    Args:
        tree: the tree.
        rows: its rows to show.
        feedback: add the feedback on the spans.
        previews: what rows show of the content of their spans, by span id.
    """
    texts = [describe_row(row, feedback=feedback, previews=previews) for row in rows]
    tokens = any(text.tokens for text in texts)
    head = [("Span", "38%" if tokens else "47%", "left"), ("Time", "13%", "right")]
    head += [("Tokens", "9%", "right")] if tokens else []
    head += [(f"0 to {fmt.duration(tree.end_ns - tree.start_ns)}", "", "left")]
    cells = "".join(
        f'<td style="text-align:{side};{_CELL};border:0;border-bottom:{BORDER};{MUTED}'
        f'{f";width:{width}" if width else ""}">{escape(title)}</td>'
        for title, width, side in head
    )
    body = "\n".join(_row(row, text, tree, tokens=tokens) for row, text in zip(rows, texts, strict=True))
    style = "width:100%;border-collapse:collapse;table-layout:fixed;border:0;margin:0;font-size:12px"
    return f'<table style="{style}"><tr>{cells}</tr>\n{body}</table>'


def single(row: TreeRow, *, feedback: bool = False) -> str:
    """Return the line of a single span: kind, model, and facts that are not in the summary line."""
    text, facts = describe_row(row, feedback=feedback), row.node.record.facts
    usage = facts.usage
    used = () if usage is None else ((usage.prompt, "in"), (usage.completion, "out"), (usage.cached, "cached"))
    first = facts.first_token_ns
    facts_shown = (
        escape(text.model),
        *(f"{number:,} {word}" for number, word in used if number),
        f"first token {fmt.duration(first)}" if first is not None else "",
        escape(text.tag),
        text.replayed,
    )
    return f'<div style="margin:2px 0">{_kind(text)} {", ".join(filter(None, facts_shown))}{_chips(text)}</div>'


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
    indent = _INDENT * min(depth, _MAX_INDENT_LEVELS) + ("… " if depth > _MAX_INDENT_LEVELS else "")
    name = f"{escape(text.name)}{f' {text.repeats}' if text.repeats else ''}"
    if mark := row_mark(row.node):
        name = f"<b>{MARKS[mark]} {name}</b>" if mark == "error" else f"{MARKS[mark]} {name}"
    extra = " ".join(filter(None, (escape(text.preview or text.model), escape(text.tag), text.replayed)))
    small = f' <span style="{_SMALL}">{extra}</span>' if extra else ""
    return f"{indent}{_kind(text)} {name}{small}{_chips(text)}"


def _chips(text: RowText) -> str:
    """Return the feedback; the comma is for readers that remove styles."""
    style = f"background-color:{GREY};border-radius:5px;padding:0 5px;font-size:11px"
    comma = '<span style="opacity:0">, </span>'
    chips = comma.join(f'<span style="{style}">{escape(chip)}</span>' for chip in text.feedback)
    return f" {chips}" if chips else ""


def _kind(text: RowText) -> str:
    """The kind of a span, set apart from its name by a small monospaced font."""
    return f'<code style="{PLAIN_CODE};white-space:nowrap;{_SMALL}">{text.kind}</code>'


def _bar(row: TreeRow, tree: SpanTree) -> str:
    """Return the bar of a row: a border, because printers and high-contrast modes omit backgrounds."""
    offset, length = extent(row, tree)
    left = min(max(round(offset * 100, 1), 0.0), 99.5)
    width = min(max(round(length * 100, 1), 0.5), 100 - left)
    color = BAR_COLORS.get(row.node.record.facts.kind, OTHER_COLOR)
    if row.node.error == "uncaught":
        color = ERROR_COLOR
    if is_replayed(row):
        return f'<div style="margin-left:{left:g}%;width:{width:.3g}%;height:7px;border:1px dashed {color}"></div>'
    return f'<div style="margin-left:{left:g}%;width:{width:.3g}%;border-top:9px solid {color}"></div>'


# Span content: a foldable block for each span, with plain text and images.

_TEXT: Final = (
    "white-space:pre-wrap;overflow-wrap:anywhere;margin:4px 0 8px;padding:0 0 0 14px;background:none;border:0;"
    "font-size:12px;line-height:1.45"
)

_IMAGE: Final = "max-height:240px;max-width:100%;margin:4px 8px 0 0;border-radius:4px"


def content_html(blocks: Iterable[ContentBlock], *, opened: bool) -> str:
    """Return the blocks, each folded or open."""
    return "".join(_block(block, opened=opened) for block in blocks)


def _block(block: ContentBlock, *, opened: bool) -> str:
    model = f' <span style="{_SMALL}">{escape(block.model)}</span>' if block.model else ""
    text = "&#10;&#10;".join(map(_part, block.parts))
    return (
        f'\n<div style="margin-top:6px"><details{" open" if opened else ""}><summary><span style="cursor:pointer">'
        f"{escape(block.heading)}: {escape(block.name)}{model}</span></summary>"
        f'<pre style="{_TEXT}">{text}</pre></details></div>'
    )


def _part(part: ContentPart) -> str:
    label = f"<b>{escape(part.label)}</b>&#10;" if part.label else ""
    images = "".join(map(_image, part.images))
    return label + escape_block(part.text) + (f"&#10;{images}" if images else "")


def _image(image: InlineImage) -> str:
    """Return the image as a data URI: the page fetches nothing. JupyterLab's sanitizer keeps it (test_images.py)."""
    data = base64.b64encode(image.data).decode()
    return f'<img src="data:{image.mime};base64,{data}" alt="{escape(image.label)}" style="{_IMAGE}">'


# The whole output.

MAX_BYTES: Final = 32_000
"""Maximum size of the output without the content of spans, which it holds only on request."""

_AMBER: Final = "rgba(214,148,25,.3)"
TINTS: Final = {"ok": "rgba(31,157,87,.3)", "error": "rgba(216,67,90,.3)", "wrong": _AMBER, "cancelled": _AMBER}
ROOT_STYLE: Final = (
    f"border:{BORDER};border-radius:8px;overflow:hidden;margin:2px 0;"
    "font-family:system-ui,-apple-system,Segoe UI,Roboto,Noto Sans,sans-serif;font-size:13px;line-height:1.5"
)
_WIDE: Final = "margin-left:-10px"
"""The width of the root: its padding is for the summary, which has no style of its own."""
_CHIP: Final = "border-radius:5px;padding:0 7px"


def render(view: CellView) -> str:
    """Return the HTML of an output: at most 32,000 bytes of UTF-8, plus the content of spans.

    It is one line that unfolds to the error, the tree as a table, and the command that shows more. Classes keep MathJax
    from parsing two dollar amounts as a formula. No line is empty, because that would end HTML in a Markdown file.
    """
    rows = rows_of(view)
    shown = choose_rows(rows, view.max_rows)
    page = _page(view, shown)
    while len(shown) > 1 and (size := len(page.encode())) > MAX_BYTES:
        shown = choose_rows(rows, min(len(shown) - 1, len(shown) * MAX_BYTES // size))
        page = _page(view, shown)
    return page.replace(_CONTENT_MARK, content_html(view.content, opened=len(view.tree.nodes) == 1))


_CONTENT_MARK: Final = "<!-- content -->"
"""Placeholder of the content while the size of the rest is measured. Span text cannot contain it: `<` is escaped."""


def _page(view: CellView, shown: Sequence[TreeRow]) -> str:
    hidden = hidden_spans(view.tree, shown)
    one, feedback = len(view.tree.nodes) == 1, view.content_requested
    spans = (
        single(shown[0], feedback=feedback)
        if one
        else table(view.tree, shown, feedback=feedback, previews=view.previews)
    )
    body = f"{_error(view)}{spans}{_CONTENT_MARK}\n{_footer(view, hidden)}"
    style = f"{ROOT_STYLE};padding:0 0 0 10px"
    return (
        f'<div class="hh-output tex2jax_ignore mathjax_ignore" id="{escape(view.view_id)}" style="{style}">'
        f"<details{' open' if view.open else ''}>\n{_summary(view, hidden)}\n"
        f'<div style="border-top:{BORDER};{_WIDE};padding:6px 12px 8px">{body}</div></details>'
        f"{_notice(view.notice)}</div>"
    )


def status_html(mark: Mark) -> str:
    """Return the mark in front of a summary line, in a disc."""
    disc = f"background-color:{TINTS.get(mark, GREY)};border-radius:50%;display:inline-block;width:18px"
    return f'<span style="{disc};line-height:18px;text-align:center;font-size:11px">{MARKS[mark]}</span>'


def _summary(view: CellView, hidden: int) -> str:
    """Return the summary line. The commas between facts are read aloud and copied, but invisible with styles."""
    summary = summarize_view(view, hidden)
    comma = f'<span style="opacity:0">,{SPACE} </span>'
    facts = comma.join(map(escape, (*summary.facts, *summary.notes)))
    chips = [
        f'<b style="background-color:{TINTS["error"]};{_CHIP}">{escape(summary.stopped)}</b>'
        if summary.stopped
        else "",
        f'<span style="background-color:{GREY};{_CHIP}">{REPLAYED} {summary.replayed}</span>'
        if summary.replayed
        else "",
        f'<b style="background-color:{TINTS["error"]};{_CHIP}">{summary.unrecorded}</b>' if summary.unrecorded else "",
        f'<b style="background-color:{TINTS["error"]};{_CHIP}">{escape(summary.errors)}</b>' if summary.errors else "",
        f'<span style="background-color:{GREY};{_CHIP}">{escape(summary.caught)}</span>' if summary.caught else "",
        f'<span style="background-color:{TINTS["cancelled"]};{_CHIP}">{escape(summary.cancelled)}</span>'
        if summary.cancelled
        else "",
    ]
    parts = [
        f"<span>{status_html(summary.mark)}{SPACE} <b>{escape(summary.title)}</b></span>",
        f"<b>{escape(summary.duration)}</b>",
        f"<span>{escape(summary.limit)}</span>" if summary.limit else "",
        f'<span style="{MUTED}">{facts}</span>' if facts else "",
        *chips,
        _delta(view.delta) if view.delta is not None else "",
        f'<span style="margin-left:auto">{_delivery(view, summary.delivery)}</span>',
    ]
    line = "display:inline-flex;flex-wrap:wrap;align-items:center;gap:0 12px;width:calc(100% - 32px);padding:5px 0"
    line += ";cursor:pointer"
    inner = "\n".join(filter(None, parts))
    return f'<summary><span style="{line}">{inner}</span></summary>'


def _delta(delta: RunDelta) -> str:
    """Return what changed since the run before; what failed in bold and in the color of errors."""
    words = [escape(fmt.minus(word)) for word in delta.words]
    if delta.failed:
        words[0] = f'<b style="color:{ERROR_COLOR}">{words[0]}</b>'
    inner = f"{SPACE} ".join([DELTA, *words])
    return f'<span style="border:{BORDER};{_CHIP}" title="Against {escape(delta.against)}">{inner}</span>'


def _delivery(view: CellView, word: str) -> str:
    """Return the delivery state and the first characters of the session id, to copy."""
    state = f"{MARKS['ok']} {escape(word)}" if word == "Sent" else escape(word)
    state = f"<b>{state}</b>" if view.export.failing else f'<span style="{MUTED}">{state}</span>'
    if not view.linked or not view.session_id:
        return state
    whole, short = escape(view.session_id), escape(view.session_id[:8])
    return f'{state} &nbsp;<code title="Session {whole}" style="{PLAIN_CODE};{MUTED}">{short}</code>'


def _notice(notice: Notice | None) -> str:
    """Return the notice, below the summary line and outside the details: it is visible without unfolding anything."""
    if notice is None:
        return ""
    tint = "rgba(216,67,90,.14)" if notice.kind == "error" else "rgba(128,128,128,.1)"
    commands = " or ".join(f'<code style="white-space:nowrap">{escape(command)}</code>' for command in notice.commands)
    return (
        f'\n<div style="border-top:{BORDER};{_WIDE};background-color:{tint};padding:5px 12px">'
        f"<b>{escape(notice.title)}</b> {escape(notice.text, 400)}{f' {commands}' if commands else ''}</div>"
    )


def _error(view: CellView) -> str:
    """Return the error that left the cell, and those that it was raised from."""
    clauses = []
    for error in error_lines(view):
        name = f" in {escape(error.name)}" if error.name else ""
        through = f", through {', then '.join(map(escape, error.through))}" if error.through else ""
        place = f" ({escape(error.location)})" if error.location else ""
        clauses.append(f"<b>{escape(error.what)}</b>{name}{through}{place}")
    if not clauses:
        return ""
    style = f"border-left:3px solid {ERROR_COLOR};padding:1px 10px;margin:2px 0 8px;overflow-wrap:break-word"
    return f'<div style="{style}">{", caused by ".join(clauses)}</div>\n'


def _link(view: CellView) -> str:
    """Return the link to the session, if configured. It is not in the summary, which is itself a control."""
    url = view.session_url
    if not view.linked or not view.session_id or url is None or not url.startswith("https://"):
        return ""
    link = f'href="{escape(url, 2_000)}" target="_blank" rel="noopener noreferrer"'
    return f'<a {link} style="color:inherit;text-decoration:underline">Open session</a>'


def _footer(view: CellView, hidden: int) -> str:
    more = omitted_content_hint(view)
    parts = [
        count(hidden, "more span") if hidden else "",
        redacted_note(view.tree),
        f"File {escape(view.file)}" if view.file else "",
        f"Session {escape(view.session_name, 60)}" if view.session_name else "",
        _link(view),
        f'{more[0]} <code style="{PLAIN_CODE}">{escape(more[1])}</code>' if more else "",
        f'Changes: <code style="{PLAIN_CODE}">{escape(view.delta.command)}</code>' if view.delta is not None else "",
    ]
    line = " &nbsp;·&nbsp; ".join(filter(None, parts))
    return f'<div style="margin-top:6px;font-size:12px;{MUTED}">{line}</div>' if line else ""


# The mime bundle of one output: all displays of a view, each complete and safe on its own.

DISPLAYS: Final[Mapping[str, Callable[[CellView], str]]] = MappingProxyType(
    {"text/plain": text.render, "text/html": render}
)
"""The displays of a view by mime type. All show the same spans, errors and totals."""


def mime_bundle(view: CellView) -> dict[str, str]:
    """Return the data of a cell's output; the text has no ANSI codes."""
    return {mime: render(view) for mime, render in DISPLAYS.items()}


def requested(bundle: Mapping[str, str], include: Any = None, exclude: Any = None) -> dict[str, str]:
    """Return the parts of a bundle that IPython asks for; see `_repr_mimebundle_`."""
    return {
        mime: data
        for mime, data in bundle.items()
        if (not include or mime in include) and not (exclude and mime in exclude)
    }


BOX_PREFIX: Final = "hh-box-"
"""The id of a layout's output is this prefix and the id of the widget's model."""


def box_html(model_id: str, views: Iterable[CellView]) -> str:
    """Return the static form of a layout of widgets: that of the views in it, one below the other.

    The hub shows the widgets in its place while the kernel runs.
    """
    inner = "\n".join(map(render, views))
    return f'<div class="hh-output hh-box" id="{escape(BOX_PREFIX + model_id)}">{inner}</div>'


def output_html(view_id: str, inner: str) -> str:
    """Return a static form in an output of its own, in which the hub shows a view."""
    return f'<div class="hh-output" id="{escape(view_id)}">{inner}</div>'


METADATA_KEY: Final = "hh_jupyter"
"""Key in the metadata of our outputs in a saved notebook, by which tools find and strip them."""
