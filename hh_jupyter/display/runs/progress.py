"""A run that goes on: one line, in HTML and as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hh_jupyter.display.clean import clean
from hh_jupyter.display.runs import parts
from hh_jupyter.display.runs.text import plain

if TYPE_CHECKING:
    from hh_jupyter.display.runs.view import ProgressView

_CELLS: Final = 20


def render_html(view: ProgressView) -> str:
    """The line and a bar below it; the bar's length is also said in words."""
    top = parts.head("running", view.name, view.done, (*view.facts, view.doing), view.failures)
    bar = "" if view.share is None else parts.split_bar([(view.share, parts.BAR)])
    return parts.root(top, f'<div style="padding:0 10px 8px">{bar}</div>' if bar else "")


def render_text(view: ProgressView, *, unicode: bool = True) -> str:
    """`○ name ████░░░░ 312 of 1,000  10.2/s  3 failed`."""
    full = 0 if view.share is None else round(view.share * _CELLS)
    bar = "" if view.share is None else "█" * full + "░" * (_CELLS - full)
    words = [f"○ {clean(view.name, 40)}", bar, view.done, *view.facts, view.failures, view.doing]
    return plain("  ".join(word for word in words if word), unicode=unicode)


def bundle(view: ProgressView) -> dict[str, str]:
    """Data of the output."""
    return {"text/plain": render_text(view), "text/html": render_html(view)}
