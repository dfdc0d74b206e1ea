"""Numbers and names as people read them, and text made safe to show."""

from __future__ import annotations

import re
import unicodedata

from hh_jupyter.records.totals import Totals

NAME_LENGTH = 60


def span_name(name: str) -> str:
    """A record's name as every display writes it; functions of the notebook itself without their module.

    What a span is named is decided once, when its record is made: `conventions.readable_name`.
    """
    return clean(name.removeprefix("__main__."), NAME_LENGTH) or "(no name)"


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


def count(number: int, noun: str) -> str:
    """`1 span`, `2,001 spans`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def usd(dollars: float, *, estimated: bool = False) -> str:
    """`$0.0044`, `$0.044`, `$1,204.40`, an estimate `~$0.0044`; `<$0.0001` rather than a zero that is none."""
    if 0 < dollars < 0.00005:
        return "<$0.0001"
    mark = "~" if estimated else ""
    if dollars < 0.01:
        return f"{mark}${dollars:.4f}" if dollars else f"{mark}$0"
    return f"{mark}${dollars:.3f}" if dollars < 0.9995 else f"{mark}${dollars:,.2f}"


def tokens(totals: Totals) -> str:
    """`3,961 tokens`, embeddings included; `3,961+ tokens` if some calls do not tell, `tokens unknown` if none does."""
    known = totals.total_tokens + totals.embedding_tokens
    if not totals.unknown_usage_calls:
        return count(known, "token") if known else ""
    return f"{known:,}+ tokens" if known else "tokens unknown"


def cost(totals: Totals) -> str:
    """`$0.0044`; `~` before an estimate, `+` after a sum that misses some calls; `cost unknown`.

    Empty without any cost and without a model call that went well: there is nothing to pay then.
    """
    if totals.cost is None:
        return "cost unknown" if totals.llm_calls > totals.llm_calls_failed else ""
    return usd(totals.cost, estimated=totals.cost_estimated) + ("" if totals.cost_complete else "+")


# Span text is data: nothing in it may move a cursor, turn a line around or fill the screen.

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
