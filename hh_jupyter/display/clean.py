"""Span text is data: nothing in it may move a cursor, turn a line around or fill the screen."""

from __future__ import annotations

import re
import unicodedata

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_].*?(?:\x07|\x1b\\|$)|[ -/]*[0-~])?", re.DOTALL)
"""ANSI control sequences and strings; they would recolour a terminal, set its title or answer for the user."""

_SPACES = re.compile(r"[\s\x85\u2028\u2029]+")

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # control characters
    "\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # invisible ones, bidi overrides
    "\U000e0000-\U000e007f]"  # tags
)

_LINE_ENDS = re.compile(r"\r\n|[\n\r\x0b\x0c\x85\u2028\u2029]")

_SURROGATES = re.compile("[\ud800-\udfff]")


def clean(text: str, limit: int) -> str:
    """One printable line of at most `limit` characters; what was cut is marked by an ellipsis."""
    # A megabyte is not worth scanning for the sake of one line, so an escape sequence longer than this stays visible.
    line = _ESCAPES.sub("", text[: limit * 8])
    line = _UNSAFE.sub("", _SPACES.sub(" ", line)).strip()
    line = _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", line)
    cut = len(line) > limit or len(text) > limit * 8
    return line[: limit - 1].rstrip() + "…" if cut else line


def clean_block(text: str) -> str:
    """Printable text of several lines, as long as it was: line feeds stay, tabs become spaces."""
    lines = _LINE_ENDS.split(_ESCAPES.sub("", text).replace("\t", "    "))
    block = "\n".join(_UNSAFE.sub("", line).rstrip() for line in lines).strip("\n")
    return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", block)


def columns(text: str) -> int:
    """Columns that text takes in a terminal: two for wide East Asian characters, none for combining ones."""
    if text.isascii():
        return len(text)
    return sum(_column(char) for char in text)


def _column(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def fit(text: str, width: int) -> str:
    """Text cut and padded to exactly `width` columns."""
    taken = columns(text)
    if taken > width:
        taken, kept = 1, []
        for char in text:
            taken += _column(char)
            if taken > width:
                taken -= _column(char)
                break
            kept.append(char)
        text = "".join(kept) + "…"
    return text + " " * (width - taken)
