"""What the text form is drawn with: glyphs that the stream can carry, and colour where somebody sees it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The drawn parts of the text form."""

    marks: dict[str, str]
    branch: str
    last: str
    pipe: str
    space: str
    bar: str


UNICODE = Glyphs({"ok": "✓", "error": "✗", "running": "○", "stopped": "■"}, "├─ ", "└─ ", "│  ", "   ", "━")
ASCII = Glyphs({"ok": "ok", "error": "x", "running": "o", "stopped": "#"}, "|- ", "`- ", "|  ", "   ", "=")

_TO_ASCII = str.maketrans({"…": "...", "×": "x"})


@dataclass(frozen=True, slots=True)
class Pen:
    """How text is drawn.

    Attributes:
        unicode: False for a stream that cannot carry more than ASCII.
        color: ANSI colours.
    """

    unicode: bool = True
    color: bool = False

    @property
    def glyphs(self) -> Glyphs:
        """The drawn parts."""
        return UNICODE if self.unicode else ASCII

    @property
    def plain(self) -> Pen:
        """The same without colours."""
        return Pen(unicode=self.unicode)

    def paint(self, text: str, code: str) -> str:
        """The text in a colour, or as it is."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.color and code and text else text

    def carried(self, text: str) -> str:
        """The text as the stream can carry it."""
        return text if self.unicode else text.translate(_TO_ASCII).encode("ascii", "replace").decode("ascii")
