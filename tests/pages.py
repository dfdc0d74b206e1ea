"""The documents that a user reads, README.md and the pages in notebooks/, and the code blocks in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = tuple(sorted((ROOT / "notebooks").glob("*.md")))
DOCUMENTS = (README, *PAGES)

_FENCE = re.compile(r"(?:<!-- not run: ([^\n]+) -->\n)?^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A code block.

    Attributes:
        language: after the fence; empty if there is none.
        code: its text.
        not_run: the reason why no test runs it; empty if one does.
    """

    language: str
    code: str
    not_run: str


def blocks(text: str) -> Iterator[Block]:
    """The code blocks of a document, in order. `<!-- not run: REASON -->` on the line before a block marks it."""
    for reason, language, code in _FENCE.findall(text):
        yield Block(language, code, reason)


def without_code(text: str) -> str:
    """A document without its code blocks and inline code, in which nothing is a link or a heading."""
    return re.sub(r"`[^`\n]+`", "", _FENCE.sub("", text))


def page(name: str) -> str:
    """The text of a page."""
    return (ROOT / "notebooks" / name).read_text("utf-8")


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as GitHub and the site make them."""
    titles = re.findall(r"^#{1,6} (.+)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}
