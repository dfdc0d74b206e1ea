"""Format numbers, names and marks for people, and make span text safe to display."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

from hh_jupyter.records.totals import Totals

NAME_LENGTH = 60

Mark = Literal["ok", "error", "caught", "wrong", "unclear", "running", "stopped", "cancelled"]
MARKS: Final[Mapping[Mark, str]] = MappingProxyType(
    {
        "ok": "✓",
        "error": "▲",
        "caught": "!",
        "wrong": "✗",
        "unclear": "·",
        "running": "◌",
        "stopped": "■",
        "cancelled": "⊘",
    }
)
"""How all displays mark a cell, a run, a span or a row. They differ by shape: color only repeats what they say.

They are characters because untrusted notebooks, mails and terminals show no other icons; the live view draws the same
ones (`MARKS` in `static/dom.js`).
"""
ASCII_MARKS: Final[Mapping[Mark, str]] = MappingProxyType(
    {
        "ok": "ok",
        "error": "!!",
        "caught": "!",
        "wrong": "x",
        "unclear": "-",
        "running": "o",
        "stopped": "#",
        "cancelled": "/",
    }
)
"""The marks in a terminal that can only show ASCII."""
REPLAYED: Final = "↺"
"""Mark of what a recording answered."""


def span_name(name: str) -> str:
    """Return a record's name as all displays show it; `conventions.readable_name` has chosen it."""
    return clean(name, NAME_LENGTH) or "(no name)"


def duration(nanoseconds: int) -> str:
    """`<0.1 ms`, `4.2 ms`, `340 ms`, `2.38 s`, `1m 34s`, `2h 05m`."""
    millis = nanoseconds / 1e6
    if millis < 0.05:
        return "0 ms" if nanoseconds <= 0 else "<0.1 ms"
    if millis < 9.95:
        return f"{millis:.1f} ms"
    if millis < 999.5:
        return f"{millis:.0f} ms"
    if millis < 59_995:
        return f"{millis / 1000:.2f} s"
    minutes, seconds = divmod(round(millis / 1000), 60)
    if minutes < 60:
        return f"{minutes}m {seconds:02d}s"
    return f"{minutes // 60:,}h {minutes % 60:02d}m"


def minus(text: str) -> str:
    """Return the text with a minus sign in place of a hyphen before its number, or of a lone hyphen."""
    return _MINUS.sub("\N{MINUS SIGN}", text)


_MINUS = re.compile(r"^-(?=[\d$<]|$)")


def count(number: int, noun: str) -> str:
    """`1 span`, `2,001 spans`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def usd(dollars: float, *, estimated: bool = False) -> str:
    """`$0.0044`, `$0.044`, `$1,204.40`, an estimate `~$0.0044`; `<$0.0001` for amounts that would round to zero."""
    mark = "~" if estimated else ""
    if 0 < dollars < 0.00005:
        return f"{mark}<$0.0001"
    if dollars < 0.01:
        return f"{mark}${dollars:.4f}" if dollars else f"{mark}$0"
    return f"{mark}${dollars:.3f}" if dollars < 0.9995 else f"{mark}${dollars:,.2f}"


def tokens(totals: Totals) -> str:
    """`3,961 tokens`, with embeddings; `3,961+ tokens` if some calls report no usage, `tokens unknown` if none does."""
    known = totals.total_tokens + totals.embedding_tokens
    if not totals.unknown_usage_calls:
        return count(known, "token") if known else ""
    return f"{known:,}+ tokens" if known else "tokens unknown"


def cost(totals: Totals) -> str:
    """`$0.0044`; `~` marks an estimate, `+` a sum without the calls of unknown cost; or `cost unknown`.

    Empty if there is no cost and no model call succeeded: nothing is charged then.
    """
    if totals.cost is None:
        return "cost unknown" if totals.llm_calls > totals.llm_calls_failed else ""
    return usd(totals.cost, estimated=totals.cost_estimated) + ("" if totals.cost_complete else "+")


# Safe text: span content must not move the cursor, reverse a line or fill the screen.

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_].*?(?:\x07|\x1b\\|$)|[ -/]*[0-~])?", re.DOTALL)
"""ANSI control sequences and strings: they can recolour a terminal, set its title or inject input."""

_SPACES = re.compile(r"[\s\x85\u2028\u2029]+")

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # control characters
    "\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # invisible ones, bidi overrides
    "\U000e0000-\U000e007f]"  # tags
)

_LINE_ENDS = re.compile(r"\r\n|[\n\r\x0b\x0c\x85\u2028\u2029]")

_SURROGATES = re.compile("[\ud800-\udfff]")


def replayed(number: int, of: int | None, saved: float | None, *, estimated: bool) -> str:
    """Say what recordings answered: `replayed, saved ~$0.0089`, `2 of 3 replayed`; empty if no call was.

    Args:
        number: number of calls that were.
        of: number of all calls; None if all were.
        saved: US dollars that they would have cost; None if unknown.
    """
    if not number:
        return ""
    words = "replayed" if of is None else f"{number:,} of {of:,} replayed"
    return words if saved is None else f"{words}, saved {usd(saved, estimated=estimated)}"


def clean(text: str, limit: int) -> str:
    """Return one printable line of at most `limit` characters, with an ellipsis if it was cut."""
    # Scan only a part of long texts. An escape sequence longer than this part stays visible.
    line = _ESCAPES.sub("", text[: limit * 8])
    line = _UNSAFE.sub("", _SPACES.sub(" ", line)).strip()
    line = _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", line)
    cut = len(line) > limit or len(text) > limit * 8
    return line[: limit - 1].rstrip() + "…" if cut else line


def shorten(text: str, limit: int) -> str:
    """Return at most `limit` characters of a text, with an ellipsis if it was cut."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def clean_block(text: str) -> str:
    """Return printable text of several lines in full length: line feeds stay, tabs become spaces."""
    lines = _LINE_ENDS.split(_ESCAPES.sub("", text).replace("\t", "    "))
    block = "\n".join(_UNSAFE.sub("", line).rstrip() for line in lines).strip("\n")
    return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", block)


def cell_width(text: str) -> int:
    """Return how many terminal cells a text takes: two for wide East Asian characters, none for combining ones."""
    if text.isascii():
        return len(text)
    from wcwidth import wcswidth  # Late: 20 ms to import.

    width = wcswidth(text)
    return width if width >= 0 else len(text)  # -1: it holds a control character, which `clean` removes.


def fit(text: str, width: int) -> str:
    """Cut or pad a text to exactly `width` terminal cells."""
    if cell_width(text) > width:
        end = min(len(text), width)
        while end and cell_width(text[:end]) > width - 1:
            end -= 1
        text = text[:end] + "…"
    return text + " " * (width - cell_width(text))
