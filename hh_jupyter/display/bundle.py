"""The mime bundle of one output: every display of a view, complete by itself and safe everywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from hh_jupyter.display import html, text
from hh_jupyter.display.view import CellView, Notice

__all__ = ["DISPLAYS", "CellView", "Notice", "mime_bundle"]

DISPLAYS: Final[Mapping[str, Callable[[CellView], str]]] = MappingProxyType(
    {"text/plain": text.render, "text/html": html.render}
)
"""The displays of a view by mime type. Each shows the same spans, errors and totals."""


def mime_bundle(view: CellView) -> dict[str, str]:
    """Data of the output of one cell; its text has no ANSI codes."""
    return {mime: render(view) for mime, render in DISPLAYS.items()}
