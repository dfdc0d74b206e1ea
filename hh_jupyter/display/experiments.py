"""Pieces of HTML that all displays of runs share; see `hh_jupyter.display.markup` for what survives where.

Styles are inline and only adorn, text inherits its colour, and columns are boxes with widths in per cent, which are
kept where flex and grid are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from hh_jupyter.display.markup import ERROR_COLOUR, GREY, LINE, PLAIN_CODE, QUIET, SPACE, escape

if TYPE_CHECKING:
    from hh_jupyter.display.runs.view import Distribution, Mark

BAR: Final = "#7f63dd"
GOOD: Final = "#12917f"
WORSE: Final = "#bd6a2c"
"""Less than before; red is for failures alone."""

_ROOT: Final = (
    f"border:{LINE};border-radius:8px;overflow:hidden;margin:2px 0;"
    "font-family:system-ui,-apple-system,Segoe UI,Roboto,Noto Sans,sans-serif;font-size:13px;line-height:1.5"
)
_TINTS: Final = {"ok": "rgba(31,157,87,.3)", "error": "rgba(216,67,90,.3)"}
_MARKS: Final = {"ok": "✓", "error": "✗", "running": "○", "stopped": "■"}
_HEIGHT: Final = 18
"""Pixels of the highest bar of a distribution."""


def root(*parts: str) -> str:
    """The output's outermost element; classes keep MathJax from reading two dollar amounts as a formula."""
    return f'<div class="hh-run tex2jax_ignore mathjax_ignore" style="{_ROOT}">{"".join(parts)}</div>'


def head(mark: Mark, title: str, bold: str, facts: Iterable[str], chip: str, right: str = "") -> str:
    """The summary line. Facts are parted by commas that are read and copied, but not seen where styles are kept."""
    disc = f"background-color:{_TINTS.get(mark, GREY)};border-radius:50%;display:inline-block;width:18px"
    sign = f'<span style="{disc};line-height:18px;text-align:center;font-size:11px">{_MARKS[mark]}</span>'
    comma = f'<span style="opacity:0">,{SPACE} </span>'
    told = comma.join(escape(fact) for fact in facts if fact)
    tint = f"background-color:{_TINTS['error']};border-radius:5px;padding:0 7px"
    parts = [
        f"<span>{sign}{SPACE} <b>{escape(title)}</b></span>",
        f"<b>{escape(bold)}</b>" if bold else "",
        f'<span style="{QUIET}">{told}</span>' if told else "",
        f'<b style="{tint}">{escape(chip)}</b>' if chip else "",
        f'<span style="margin-left:auto;{QUIET}">{right}</span>' if right else "",
    ]
    style = "display:flex;flex-wrap:wrap;align-items:center;gap:0 12px;padding:5px 10px"
    return f'<div style="{style}">{" ".join(filter(None, parts))}</div>'


def table(header: Sequence[tuple[str, str, str]], rows: Iterable[Sequence[str]]) -> str:
    """A table of HTML cells.

    Args:
        header: (title, width, side) of each column; a width is "12%" or empty.
    """
    cell = "padding:2px 8px;border:0"
    titles = "".join(
        f'<th style="text-align:{side};{cell};border-bottom:{LINE};font-weight:400;{QUIET}'
        f'{f";width:{width}" if width else ""}">{escape(title)}</th>'
        for title, width, side in header
    )
    sides = [side for _, _, side in header]
    body = "".join(
        '<tr style="background:none">'
        + "".join(f'<td style="text-align:{side};{cell}">{value}</td>' for value, side in zip(row, sides, strict=True))
        + "</tr>"
        for row in rows
    )
    style = "width:100%;border-collapse:collapse;table-layout:fixed;border:0;margin:0;font-size:12px"
    return f'<table style="{style}"><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>'


def section(*parts: str) -> str:
    """A part of the output below the one before."""
    inner = "".join(parts)
    return f'<div style="border-top:{LINE};padding:6px 4px">{inner}</div>' if inner else ""


def box(width: str, text: str, more: str = "") -> str:
    """One column of a line that is no table row. `text` is HTML."""
    return f'<span style="display:inline-block;width:{width}{f";{more}" if more else ""}">{text}</span>'


def quiet(text: str) -> str:
    """A line that stays in the background. `text` is HTML."""
    return f'<div style="padding:4px 8px 2px;font-size:12px;{QUIET}">{text}</div>'


def code(text: str) -> str:
    """Something to type."""
    return f'<code style="{PLAIN_CODE}">{escape(text)}</code>'


def plot(distribution: Distribution | None) -> str:
    """The distribution of one metric, of boxes that a sanitizer keeps."""
    if distribution is None:
        return ""
    if distribution.kind == "labels":
        return ", ".join(escape(label, 40) for label in distribution.labels)
    if distribution.kind == "yes_no":
        return split_bar([(distribution.shares[0], GOOD)])
    highest = max(distribution.shares, default=0) or 1
    bars = "".join(_column(share / highest) for share in distribution.shares)
    ends = [f'<small style="{QUIET}">{escape(text)}</small>' for text in (distribution.low, distribution.high)]
    return f'<span style="white-space:nowrap">{ends[0]} {bars} {ends[1]}</span>'


def _column(share: float) -> str:
    """A bin without values is a hair of grey, so that the axis is seen."""
    height = max(1, round(share * _HEIGHT))
    style = f"width:8px;height:{height}px;margin-left:1px;background-color:{BAR if share else GREY}"
    return f'<span style="display:inline-block;{style}"></span>'


def split_bar(parts: Sequence[tuple[float, str]]) -> str:
    """Shares of a whole beside each other, (share from 0 to 1, colour); the rest is grey."""
    inner = "".join(
        f'<span style="display:inline-block;height:9px;width:{share * 100:.4g}%;background-color:{colour}"></span>'
        for share, colour in parts
        if share > 0
    )
    style = f"height:9px;line-height:9px;font-size:0;border-radius:2px;overflow:hidden;background-color:{GREY}"
    return f'<div style="{style}">{inner}</div>'


def failure(where: str, what: str) -> str:
    """One error."""
    style = f"border-left:3px solid {ERROR_COLOUR};padding:1px 10px;margin:2px 0 4px;overflow-wrap:break-word"
    return f'<div style="{style}"><b>{escape(what)}</b> in {escape(where)}</div>'
