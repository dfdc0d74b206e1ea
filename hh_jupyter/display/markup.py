"""What the parts of the static HTML share: the way for text into the page, and styles.

Untrusted notebooks lose style tags, scripts, SVG, `data-*`, ARIA and every `var()` (measured in JupyterLab 4.6), and
some readers lose all styling. So meaning is in the elements and the text, styles are inline and only adorn, and colours
are literals of middle lightness that can be seen on white and on black. Text has no colour of its own.
"""

from __future__ import annotations

import html
from typing import Final

from hh_jupyter.display.clean import clean, clean_block

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
