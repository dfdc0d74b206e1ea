"""What spans said, in the text form: a heading for each span, and its texts, wrapped to the width."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hh_jupyter.display.pen import Pen
    from hh_jupyter.display.said import Said

_INDENT: Final = "  "
_NARROWEST: Final = 30


def lines(said: Iterable[Said], pen: Pen, width: int) -> list[str]:
    """All of it, with an empty line before each span."""
    return [line for one in said for line in _lines(one, pen, max(width, _NARROWEST))]


def _lines(said: Said, pen: Pen, width: int) -> Iterator[str]:
    yield ""
    yield f"{said.heading}: {pen.paint(said.name, '1')}{f' {said.model}' if said.model else ''}"
    for part in said.parts:
        if part.label:
            yield _INDENT + pen.paint(part.label, "2")
        for line in part.text.split("\n"):
            wrapped = textwrap.wrap(line, width - 2 * len(_INDENT), break_on_hyphens=False)
            yield from (2 * _INDENT + piece.rstrip() for piece in wrapped or [""])
