"""The view as static HTML: what a saved notebook, GitHub, a mail or a page without the kernel shows.

See `hh_jupyter.display.markup` for what such pages leave of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hh_jupyter.display.format import count
from hh_jupyter.display.html_said import blocks
from hh_jupyter.display.html_table import single, table
from hh_jupyter.display.markup import ERROR_COLOUR, GREY, LINE, PLAIN_CODE, QUIET, SPACE, escape
from hh_jupyter.display.rows import choose_rows, hidden_spans, rows_of
from hh_jupyter.display.summary import error_line, redacted_note, summarize_view, tells_more

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hh_jupyter.display.view import CellView, Notice
    from hh_jupyter.records.tree import TreeRow

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
    return page.replace(_SAID, blocks(view.said, opened=len(view.tree.nodes) == 1))


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
