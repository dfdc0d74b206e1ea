"""`%%hh_session`: its line becomes one statement, the body stays as it is; and what the line asks for.

A cell magic that ran the body itself could not `await`, would report an error twice and would let Run All go on after
one. With one statement in place of the line, IPython compiles the cell as ever: top-level `await`, the last expression,
line numbers and every other magic work. The kernel transforms a cell several times, so nothing may happen here; all
effects belong to the statement.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from IPython.core.error import UsageError

from hh_jupyter.notebook.guard import guarded_value
from hh_jupyter.notebook.parser import SESSION_OPTIONS, SHOW_MODES, Evaluate, Expansion, Given, read, split

# What a line of `%%hh_session`, `%hh_session` or `#| hh_session:` asks for.

CELL_MAGIC: Final = "%%hh_session"
LINE_MAGIC: Final = "%hh_session"
COMMENT: Final = "#| hh_session"


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What a session magic's line asks for.

    Attributes:
        name: None for an unnamed session.
        join: id, unique id prefix, name, title or "last" of the session to continue.
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


def parse(line: str, evaluate: Evaluate, *, magic: str = CELL_MAGIC) -> SessionOptions:
    """Read one line of options.

    Args:
        line: what follows the magic's name.
        evaluate: gives the value of a Python expression in the user's namespace.
        magic: the form that was typed, for the messages.

    Raises:
        UsageError: one line that says what is wrong, with the near match or an example below it.
    """
    words = split(line, magic)
    options = [option for option in SESSION_OPTIONS if magic == LINE_MAGIC or not option.line_form]
    if "--end" in words and magic != LINE_MAGIC:
        raise UsageError(f"{magic}: the session ends with the cell; --end is for the line form: %hh_session --end")
    given = read(words, options, magic, _example(magic))
    _check(given, magic, words)
    return _Reader(Expansion(evaluate, magic), magic).read(given)


def _example(magic: str) -> str:
    return f"{magic}{':' if magic == COMMENT else ''} refund-triage --metadata team=support"


def _check(given: Given, magic: str, words: Sequence[str]) -> None:
    """What does not go together."""
    names = given.words
    if names and names[0] not in words:
        raise UsageError(f"{magic}: {names[0]} is how a session is shown that exists: --join {names[0]} continues it.")
    if len(names) > 1:
        said = " and ".join(repr(name) for name in names[:2])
        raise UsageError(f"{magic}: one name only, got {said}. Put quotes around a name with spaces.")
    if "--end" in given and (names or len(given.options) > 1):
        raise UsageError(f"{magic}: --end stands alone: %hh_session --end")
    if "--join" in given and (names or "--id" in given):
        raise UsageError(f"{magic}: --join continues a session and takes no {'name' if names else '--id'}.")


class _Reader:
    """Expands the values of one line and puts them where they belong."""

    def __init__(self, expansion: Expansion, magic: str) -> None:
        self._expansion = expansion
        self._magic = magic

    def read(self, given: Given) -> SessionOptions:
        show = self._last(given, "--show")
        if show is not None and show not in SHOW_MODES:
            raise UsageError(f"{self._magic}: --show must be one of {', '.join(SHOW_MODES)}; got {show}.")
        return SessionOptions(
            name=self._expansion.text(given.words[0]) if given.words else None,
            join=self._last(given, "--join"),
            session_id=self._last(given, "--id"),
            inputs=self._pairs("--input", given),
            metadata=self._pairs("--metadata", given),
            user_properties=self._pairs("--user", given, bare="user_id"),
            source=self._last(given, "--source"),
            show=show,
            end="--end" in given,
        )

    def _last(self, given: Given, flag: str) -> str | None:
        value = given.last(flag)
        return None if value is None else self._expansion.text(value)

    def _pairs(self, flag: str, given: Given, bare: str | None = None) -> dict[str, Any]:
        pairs: dict[str, Any] = {}
        for word in given.options.get(flag, ()):
            key, equals, value = word.partition("=")
            if bare and (not equals or key.startswith("{")):
                key, value = bare, word
            elif not equals or not key:
                text = f"{self._magic}: {flag} takes KEY=VALUE, got {word!r}.\n    {_example(self._magic)}"
                raise UsageError(text)
            pairs[key] = self._expansion.value(value, f"{flag} {word}")
        return pairs


MAGIC_LINE: Final = re.compile(r"%%hh_session(?=\s|$)[ \t]*(.*)")
"""The magic's line; `%%hh_session?` is left to IPython's help."""

COMMENT_LINE: Final = re.compile(r"#[ \t]*\|[ \t]*hh_session[ \t]*:[ \t]*(.*)")
"""Formatters put a space after the first mark."""

CELL_OPTION: Final = re.compile(r"#[ \t]*\|")
"""Other tools keep their options in such comments as well, in any order."""

HELP_LINE: Final = re.compile(r"%hh[ \t]+(\w+)[ \t]*\?{1,2}\s*$")
"""IPython's own help would look for an object of the command's name."""

ENTRY: Final = "_hh"
"""The shell's attribute that holds the object whose `enter` the statement calls."""


@guarded_value
def rewrite(lines: list[str]) -> list[str]:
    """Replace the line that makes the cell a session by a call of `enter`; translate a cell magic stacked below it.

    Args:
        lines: the cell's lines with their line ends, as IPython's cleanup step hands them over.
    """
    first = _first_code(lines)
    if first is None or lines[first][0] not in "%#":
        return lines
    if match := HELP_LINE.match(lines[first]):
        alone = _first_code(lines[first + 1 :]) is None
        return [*lines[:first], f"get_ipython().run_line_magic('hh', '{match[1]} --help')\n"] if alone else lines
    found = _session_line(lines, first)
    if found is None:
        return lines
    index, magic, options = found
    body = lines[index + 1 :]
    blank = _is_blank(body)
    if blank and magic == COMMENT:
        return lines  # Nothing but comments.
    arguments = [repr(options)]
    if magic != CELL_MAGIC:
        arguments.append(f"magic={magic!r}")
    if blank:
        arguments.append("blank=True")
    # The comment is for tracebacks, which show the rewritten line.
    statement = f"get_ipython().{ENTRY}.enter({', '.join(arguments)})  # {magic} {options}".rstrip() + "\n"
    return [*lines[:index], statement, *_stacked(body)]


# IPython must see the user's own line when it asks whether a cell is complete: in a terminal, the rewritten line alone
# would count as a whole cell and run before its body could be typed. This flag is how a transformer is left out there.
rewrite.has_side_effects = True  # type: ignore[attr-defined]


def _session_line(lines: list[str], first: int) -> tuple[int, str, str] | None:
    """Index, form and options of the line that makes the cell a session."""
    if match := MAGIC_LINE.match(lines[first]):
        return first, CELL_MAGIC, match[1].rstrip()
    for index in range(first, len(lines)):
        if match := COMMENT_LINE.match(lines[index]):
            return index, COMMENT, match[1].rstrip()
        if not CELL_OPTION.match(lines[index]):
            return None
    return None


def _stacked(body: list[str]) -> list[str]:
    """IPython knows a cell magic in the first line only, so one further down is translated here."""
    index = _first_code(body)
    if index is None:
        return body
    if _session_line(body, index) is not None:
        return body[:index] + rewrite(body[index:])
    if not body[index].startswith("%%"):
        return body
    name, _, line = body[index][2:].rstrip().partition(" ")
    call = f"get_ipython().run_cell_magic({name!r}, {line.strip()!r}, {''.join(body[index + 1 :])!r})\n"
    return [*body[:index], call]


def _first_code(lines: list[str]) -> int | None:
    return next((number for number, line in enumerate(lines) if line.strip()), None)


def _is_blank(lines: list[str]) -> bool:
    return all(not line.strip() or line.lstrip().startswith("#") for line in lines)
