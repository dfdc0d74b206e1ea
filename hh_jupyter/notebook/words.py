"""The words after a magic: split first, each expanded after.

Splitting first means that a value may hold spaces, quotes and dashes without becoming an option, and that a whole
`{expr}` hands over the object itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any, Final

from IPython.core.error import UsageError

Evaluate = Callable[[str], Any]

_DOTTED: Final = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_NAME: Final = re.compile(rf"\$({_DOTTED})")
_INSERTED: Final = re.compile(
    r"\{\{(?P<kept>[^{}]*)\}\}"
    r"|\{(?P<braces>[^{}]+)\}"
    rf"|\$(?P<dollars>\$?)(?P<name>{_DOTTED})"
)
"""IPython's own forms: `{expr}`, `$name`, `$name.attribute`; doubled braces and dollars stand for single ones."""


def split(line: str, magic: str) -> list[str]:
    """Words of a line. Quotes hold a word together and go; `{...}` stays as it is, with the quotes inside it.

    Args:
        line: what follows the magic's name.
        magic: as it was typed, for the message.

    Raises:
        UsageError: a quote or a brace that is not closed.
    """
    words: list[str] = []
    position = 0
    while position < len(line):
        if line[position].isspace():
            position += 1
            continue
        word, position = _word(line, position, magic)
        words.append(word)
    return words


def split_unfinished(line: str) -> tuple[list[str], str]:
    """The words of a line that is being typed, and what there is of the last one, as it stands; empty after a space."""
    words: list[str] = []
    position = 0
    while position < len(line):
        if line[position].isspace():
            position += 1
            continue
        try:
            word, end = _word(line, position, "")
        except UsageError:  # A quote or brace that is still open.
            return words, line[position:]
        if end == len(line):
            return words, line[position:]
        words.append(word)
        position = end
    return words, ""


def quoted(word: str) -> str:
    """The word as it has to be typed."""
    if word and not re.search(r"[\s'\"]", word) and not word.startswith("-"):
        return word
    if "'" in word and '"' not in word:
        return f'"{word}"'
    return "'" + word.replace("'", "'\"'\"'") + "'"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The second sentence of a message about an unknown word."""
    known = tuple(known)
    near = get_close_matches(word, known, n=1)
    return f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known)}."


class Expansion:
    """Puts the values of variables and expressions into words.

    Args:
        evaluate: gives the value of a Python expression in the user's namespace.
        magic: as it was typed, for the messages.
    """

    def __init__(self, evaluate: Evaluate, magic: str) -> None:
        self._evaluate = evaluate
        self._magic = magic

    def text(self, word: str) -> str:
        """The word with its expressions replaced by their texts.

        Raises:
            UsageError: the word is one expression, and that failed.
        """
        return str(self.value(word, word))

    def value(self, word: str, shown: str) -> Any:
        """The object itself if the word is one expression; else as `text`. Prose that is no expression stays.

        Args:
            word: to expand.
            shown: what to name in the message.

        Raises:
            UsageError: the word is one expression, and that failed.
        """
        if name := _NAME.fullmatch(word):
            try:
                return self._evaluate(name[1])
            except Exception:  # boundary: `$word` that names nothing is text, as in other magics
                return word
        if word.startswith("{{") or not (word.startswith("{") and _closing_brace(word, 0) == len(word) - 1):
            return _INSERTED.sub(self._inserted, word)
        try:
            return self._evaluate(word[1:-1])
        except SyntaxError:
            pass  # {"a": 1} is no expression in braces but may be a dict.
        except Exception as error:  # boundary: the user's own expression; any exception is a mistake in the line
            raise self._failed(shown, error) from None
        try:
            return self._evaluate(word)
        except Exception as error:  # boundary: as above
            raise self._failed(shown, error) from None

    def _failed(self, shown: str, error: Exception) -> UsageError:
        return UsageError(f"{self._magic}: {shown}: {type(error).__name__}: {error}")

    def _inserted(self, match: re.Match[str]) -> str:
        if match["kept"] is not None:
            return f"{{{match['kept']}}}"
        if match["dollars"]:
            return f"${match['name']}"
        try:
            return str(self._evaluate(match["braces"] or match["name"]))
        except Exception:  # boundary: prose may hold braces and dollars: what is no expression is text
            return match[0]


def _word(line: str, position: int, magic: str) -> tuple[str, int]:
    pieces: list[str] = []
    while position < len(line) and not line[position].isspace():
        mark = line[position]
        if mark in "'\"":
            end = line.find(mark, position + 1)
            if end < 0:
                raise UsageError(f"{magic}: the quote {mark} is not closed.")
            pieces.append(line[position + 1 : end])
        elif mark == "{":
            end = _closing_brace(line, position)
            if end < 0:
                raise UsageError(f"{magic}: the brace {{ is not closed.")
            pieces.append(line[position : end + 1])
        else:
            end = position
            pieces.append(mark)
        position = end + 1
    return "".join(pieces), position


def _closing_brace(line: str, start: int) -> int:
    """Index of the brace that closes the one at `start`, or -1; braces inside quotes do not count."""
    depth, quote = 0, ""
    for index in range(start, len(line)):
        mark = line[index]
        if quote:
            quote = "" if mark == quote else quote
        elif mark in "'\"":
            quote = mark
        elif mark in "{}":
            depth += 1 if mark == "{" else -1
            if depth == 0:
                return index
    return -1
