"""OTLP JSON lines inside an HTML page: compressed, in an element that browsers do not show or run."""

from __future__ import annotations

import base64
import binascii
import gzip
import re
from typing import Final

SPANS_ID: Final = "hh-spans"
"""Id of the element with the lines; `display/static/file.js` reads it, too."""

HEAD_BYTES: Final = 64
"""How many of the first bytes of a file `is_page` needs."""

_SPANS: Final = re.compile(rb'<script\b[^>]*\bid="?hh-spans\b[^>]*>([^<]*)<')


class NoSpansError(ValueError):
    """A page holds no spans, or damaged ones."""


def element(element_id: str, data: bytes) -> str:
    """Return the element that holds the data; its text has no character with a meaning in HTML."""
    packed = base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()
    return f'<script type="application/gzip" id="{element_id}">{packed}</script>'


def is_page(head: bytes) -> bool:
    """Whether a file with these first bytes is an HTML page."""
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<")


def packed(page: bytes) -> bytes:
    """Return the lines in a page, compressed with gzip.

    Raises:
        NoSpansError: the page holds none, or they are damaged.
    """
    found = _SPANS.search(page)
    if found is None:
        raise NoSpansError("this HTML page holds no spans; expected one that %hh save wrote")
    try:
        return base64.b64decode(found[1])
    except binascii.Error:
        raise NoSpansError("the spans in this HTML page are damaged") from None
