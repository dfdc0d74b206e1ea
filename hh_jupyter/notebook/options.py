"""The options of `%%hh_session` and `%hh_session`: split first, each value expanded after.

Splitting first means that a value may hold spaces, quotes and dashes without becoming an option, and that `K={expr}`
hands over the object itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final

from IPython.core.error import UsageError

Evaluate = Callable[[str], Any]

WITH_VALUE: Final = ("--join", "--id", "--input", "--metadata", "--user", "--source", "--show")
OPTIONS: Final = (*WITH_VALUE, "--end")
SHOW_MODES: Final = ("auto", "line", "tree", "off")
EXAMPLE: Final = "refund-triage --metadata team=support"

NEAR: Final = {
    "--tag": "--metadata",
    "--tags": "--metadata",
    "--property": "--metadata",
    "--name": "--join",
    "--session": "--join",
    "--display": "--show",
    "--user-id": "--user",
    "--stop": "--end",
}
"""Words that people use for an option whose name does not look alike."""

_BRACES = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What a `%%hh_session` or `%hh_session` line asks for.

    Attributes:
        name: None for an unnamed session.
        join: id, unique id prefix, name or "last" of the session to continue.
        session_id: the id that a new session gets.
        show: how this cell's output is shown; None leaves it to the setting.
        end: back to the notebook's session (line form only).
    """

    name: str | None = None
    join: str | None = None
    session_id: str | None = None
    inputs: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    user_properties: dict[str, Any] = field(default_factory=dict)
    source: str | None = None
    show: str | None = None
    end: bool = False


def parse(line: str, evaluate: Evaluate, *, magic: str = "%%hh_session") -> SessionOptions:
    """Read one line of options.

    Args:
        line: what follows the magic's name.
        evaluate: gives the value of a Python expression in the user's namespace.
        magic: the form that was typed, for the messages.

    Raises:
        UsageError: one line that says what is wrong, with the near match or an example.
    """
    words = split(line, magic)
    names: list[str] = []
    given: dict[str, list[str]] = {}
    index = 0
    while index < len(words):
        word, index = words[index], index + 1
        if not word.startswith("--"):
            names.append(word)
            continue
        option, equals, value = word.partition("=")
        if option not in OPTIONS:
            raise UsageError(unknown_option(option, magic))
        if option in WITH_VALUE and not equals:
            if index == len(words) or words[index].startswith("--"):
                raise UsageError(f"{magic}: {option} needs a value.\n    {magic} {EXAMPLE}")
            value, index = words[index], index + 1
        elif option not in WITH_VALUE and equals:
            raise UsageError(f"{magic}: {option} takes no value.")
        given.setdefault(option, []).append(value)
    return _Reader(evaluate, magic).read(names, given)


def split(line: str, magic: str) -> list[str]:
    """Words of a line. Quotes hold a word together and go; `{...}` stays as it is, with the quotes inside it.

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


def unknown_option(option: str, magic: str) -> str:
    """The message for an option that does not exist, with the one that was probably meant."""
    # Compared without the dashes, which make all options alike.
    alike = get_close_matches(option.lstrip("-"), [known[2:] for known in OPTIONS], n=1)
    near = NEAR.get(option) or (f"--{alike[0]}" if alike else None)
    hint = f" Did you mean {near}?" if near else f" Options: {', '.join(OPTIONS)}."
    return f"{magic}: unknown option {option}.{hint}\n    {magic} {EXAMPLE}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The second sentence of a message about an unknown word."""
    known = tuple(known)
    near = get_close_matches(word, known, n=1)
    return f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known)}."


def _word(line: str, position: int, magic: str) -> tuple[str, int]:
    pieces: list[str] = []
    while position < len(line) and not line[position].isspace():
        mark = line[position]
        if mark in "'\"":
            end = line.find(mark, position + 1)
            if end < 0:
                raise UsageError(f"{magic}: the quote {mark} is not closed.\n    {magic} {EXAMPLE}")
            pieces.append(line[position + 1 : end])
        elif mark == "{":
            end = _closing_brace(line, position)
            if end < 0:
                raise UsageError(f"{magic}: the brace {{ is not closed.\n    {magic} {EXAMPLE}")
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


class _Reader:
    """Expands the values of one line and puts them where they belong."""

    def __init__(self, evaluate: Evaluate, magic: str) -> None:
        self._evaluate = evaluate
        self._magic = magic

    def read(self, names: list[str], given: dict[str, list[str]]) -> SessionOptions:
        if len(names) > 1:
            said = " and ".join(repr(name) for name in names[:2])
            raise UsageError(f"{self._magic}: one name only, got {said}. Put quotes around a name with spaces.")
        if "--end" in given and (self._magic.startswith("%%") or names or len(given) > 1):
            raise UsageError(f"{self._magic}: --end stands alone: %hh_session --end")
        if "--join" in given and (names or "--id" in given):
            raise UsageError(f"{self._magic}: --join continues a session and takes no {'name' if names else '--id'}.")
        show = self._last(given, "--show")
        if show is not None and show not in SHOW_MODES:
            raise UsageError(f"{self._magic}: --show must be one of {', '.join(SHOW_MODES)}; got {show}.")
        return SessionOptions(
            name=self._text(names[0]) if names else None,
            join=self._last(given, "--join"),
            session_id=self._last(given, "--id"),
            inputs=self._pairs("--input", given),
            metadata=self._pairs("--metadata", given),
            user_properties=self._pairs("--user", given, bare="user_id"),
            source=self._last(given, "--source"),
            show=show,
            end="--end" in given,
        )

    def _last(self, given: dict[str, list[str]], option: str) -> str | None:
        values = given.get(option)
        return self._text(values[-1]) if values else None

    def _pairs(self, option: str, given: dict[str, list[str]], bare: str | None = None) -> dict[str, Any]:
        pairs: dict[str, Any] = {}
        for word in given.get(option, ()):
            key, equals, value = word.partition("=")
            if not equals and bare:
                key, value = bare, word
            elif not equals or not key:
                raise UsageError(f"{self._magic}: {option} takes KEY=VALUE, got {word!r}.\n    {self._magic} {EXAMPLE}")
            pairs[key] = self._value(value, f"{option} {word}")
        return pairs

    def _text(self, word: str) -> str:
        return str(self._value(word, word))

    def _value(self, text: str, shown: str) -> Any:
        """`{expr}` is the object itself; inside other text its `str`, and text that is no expression stays."""
        if not (text.startswith("{") and _closing_brace(text, 0) == len(text) - 1):
            return _BRACES.sub(self._inserted, text)
        try:
            return self._evaluate(text[1:-1])
        except SyntaxError:
            pass  # {"a": 1} is no expression in braces but may be a dict.
        except Exception as error:  # boundary: the user's own expression; any exception is a mistake in the line
            raise UsageError(f"{self._magic}: {shown}: {type(error).__name__}: {error}") from None
        try:
            return self._evaluate(text)
        except Exception as error:  # boundary: as above
            raise UsageError(f"{self._magic}: {shown}: {type(error).__name__}: {error}") from None

    def _inserted(self, match: re.Match[str]) -> str:
        try:
            return str(self._evaluate(match[1]))
        except Exception:  # boundary: prose may hold braces: what is no expression is text
            return match[0]
