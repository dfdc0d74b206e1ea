"""What a line of `%%hh_session`, `%hh_session` or `#| hh_session:` asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from IPython.core.error import UsageError

from hh_jupyter.notebook.given import Given, read
from hh_jupyter.notebook.magic_table import SESSION_OPTIONS, SHOW_MODES
from hh_jupyter.notebook.words import Evaluate, Expansion, split

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
