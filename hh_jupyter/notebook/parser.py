"""The magics: one table of commands and options, and the parsing and help that are made from it."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import Enum, auto
from typing import Any, Final

from IPython.core.error import UsageError

SHOW_MODES: Final = ("auto", "line", "tree", "off")
DETAILS: Final = ("summary", "preview", "full")


class Kind(Enum):
    """What a word stands for; decides what Tab offers in its place."""

    COMMAND = auto()
    SESSION = auto()
    JOINED = auto()
    CELL_SESSION_OR_FILE = auto()
    LIBRARY = auto()
    MODE = auto()
    DETAIL = auto()
    FILE_THEN_SESSION = auto()
    TEXT = auto()


@dataclass(frozen=True, slots=True)
class Option:
    """One option.

    Attributes:
        flag: with its dashes.
        help: one sentence, without a full stop.
        value: what follows it, as help shows it; empty for a switch.
        kind: of the value.
        line_form: "%hh_session" only, not "%%hh_session".
        near: other words that people use for it, whose names do not look alike.
    """

    flag: str
    help: str
    value: str = ""
    kind: Kind = Kind.TEXT
    line_form: bool = False
    near: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """One command of `%hh`.

    Attributes:
        forms: what may follow the name, and what that does; the first is the usual one.
        examples: whole lines.
        kind: of its words; None: it takes none.
        options: of it.
        many: it takes several words.
        refusal: of a word too many, where it must not be repeated.
    """

    name: str
    forms: tuple[tuple[str, str], ...]
    examples: tuple[str, ...]
    kind: Kind | None = None
    options: tuple[Option, ...] = ()
    many: bool = False
    refusal: str = ""


SESSION_OPTIONS: Final = (
    Option(
        "--join",
        "continue a session instead of making one",
        "ID|NAME|last",
        Kind.JOINED,
        near=("--session", "--name", "--continue"),
    ),
    Option("--id", "the new session's id", "UUID"),
    Option("--input", "an input of the session; may be repeated, K={expr} takes the object itself", "K=V"),
    Option("--metadata", "the same for its metadata", "K=V", near=("--tag", "--tags", "--property")),
    Option("--user", "user id, or a user property", "ID|K=V", near=("--user-id",)),
    Option("--source", "where the code runs, for this session", "S"),
    Option("--show", "how this cell's output is shown", "|".join(SHOW_MODES), Kind.MODE, near=("--display",)),
    Option("--end", "back to the notebook's session", line_form=True, near=("--stop",)),
)

_SESSION_WORDS: Final = "SESSION ..."

COMMANDS: Final = (
    Command(
        "status",
        (
            (
                "",
                "What is in force and where each value came from, what was sent, what waits and why; so does `%hh`.",
            ),
        ),
        ("%hh", "%hh status", "%hh status --all"),
        options=(Option("--all", "every setting, also those that nobody set"),),
    ),
    Command(
        "instrument",
        (
            ("", "Traces every LLM library that is installed and has an instrumentor, or traces itself."),
            ("NAME ...", "Traces the named libraries only."),
        ),
        ("%hh instrument", "%hh instrument openai anthropic", "%hh instrument --off openai"),
        Kind.LIBRARY,
        (
            Option("--list", "the libraries that are installed, which are traced, and by what"),
            Option("--off", "stop tracing the named libraries, without names all that were switched on here"),
        ),
        many=True,
    ),
    Command(
        "show",
        (
            ("4", "The spans of cell 4 again, opened; without a number, or with `last`, of the last cell with spans."),
            ("SESSION", "The spans of a session; `all` of this kernel's, or those of no cell with `background`."),
            ("FILE", "The spans of a file of OTLP JSON: the OpenTelemetry Collector's, or one of `%hh save`."),
        ),
        ("%hh show", "%hh show 4 --detail full", "%hh show all --errors", "%hh show trace.jsonl"),
        Kind.CELL_SESSION_OR_FILE,
        (
            Option("--errors", "only what failed, and the spans that lead to it"),
            Option(
                "--detail",
                "what the output holds of messages, inputs and outputs: nothing, their beginnings, or all",
                "|".join(DETAILS),
                Kind.DETAIL,
            ),
        ),
    ),
    Command(
        "sessions",
        (("", "The sessions that have spans here, also those that dead kernels left on disk."),),
        ("%hh sessions",),
    ),
    Command(
        "send",
        (
            ("", "Tries again now whatever waits or was refused."),
            (
                _SESSION_WORDS,
                "Sends also what these sessions, or `all`, made in local mode: it leaves this machine only by name.",
            ),
        ),
        ("%hh send", "%hh send refund-triage", "%hh send all"),
        Kind.SESSION,
        many=True,
    ),
    Command(
        "save",
        (
            ("FILE", "Writes the spans of this kernel as OTLP JSON lines, which the OpenTelemetry Collector reads."),
            (f"FILE {_SESSION_WORDS}", "Those of the named sessions, or `all`."),
        ),
        ("%hh save spans.jsonl", "%hh save spans.jsonl refund-triage", "%hh save spans.jsonl --force"),
        Kind.FILE_THEN_SESSION,
        (Option("--force", "replace a file that is there", near=("--overwrite",)),),
        many=True,
    ),
    Command(
        "display",
        (
            (
                "MODE",
                "What traced cells show from now on: `auto` opens on an error, `line` never, `tree` always.",
            ),
            ("off", "Shows nothing; tracing goes on."),
        ),
        ("%hh display", "%hh display line", "%hh display off"),
        Kind.MODE,
    ),
    Command(
        "off",
        (("", "Tracing is off: no spans are made or sent. To hide the outputs only: `%hh display off`."),),
        ("%hh off", "%hh on"),
    ),
    Command("on", (("", "Tracing is on again."),), ("%hh on",)),
    Command(
        "open",
        (("SESSION", "The session's page in the web application; without a name, that of the session in force."),),
        ("%hh open", "%hh open refund-triage"),
        Kind.SESSION,
    ),
    Command(
        "clear",
        (
            ("", "Deletes what is kept on disk, unless something of it is still to be sent."),
            (
                _SESSION_WORDS,
                "Deletes what these sessions keep there, `all` everything, also what is still to be sent.",
            ),
        ),
        ("%hh clear", "%hh clear refund-triage", "%hh clear all"),
        Kind.SESSION,
        many=True,
    ),
    Command(
        "login",
        (("", "Asks for the key, or takes Colab's secret HH_API_KEY, and sends from then on."),),
        ("%hh login", "%hh login --save", "%hh login --forget"),
        options=(
            Option("--save", "keep the key for its address, for later kernels"),
            Option("--forget", "delete the keys that were kept"),
        ),
        refusal="takes no key, which would stay in the notebook and its history; it asks for it.",
    ),
    Command(
        "help",
        (("COMMAND", "What a command does, with examples; the same as `%hh COMMAND --help`."),),
        ("%hh help", "%hh help show", "%hh show --help"),
        Kind.COMMAND,
    ),
)
"""In the order of help and README."""

BY_NAME: Final = {command.name: command for command in COMMANDS}

LISTED_WORDS: Final = {
    Kind.COMMAND: tuple(BY_NAME),
    Kind.MODE: SHOW_MODES,
    Kind.DETAIL: DETAILS,
}
"""Kinds whose words are always the same."""


# The texts of `%hh?`, `%%hh_session?` and `%hh COMMAND --help`, and the README's tables, from the table of magics.

SESSION_FORMS: Final = (
    ("%%hh_session NAME", "This cell, and only this cell, is one session, a new one with each run."),
    ("#| hh_session: NAME", "The same as the first line of a cell; a comment where this package is not loaded."),
    ("%hh_session NAME", "The session from this line on, for all cells; `%hh_session` alone shows which one it is."),
)
SESSION_EXAMPLES: Final = (
    "%%hh_session refund-triage --metadata team=support --input ticket={ticket}",
    "%%hh_session --join last",
    "%hh_session refund-triage",
)
SESSION_WORDS: Final = (
    ("NAME", "of a new session, in quotes if it has spaces; without one, the notebook's name and the cell's number"),
)
HH_EXAMPLES: Final = ("%hh", "%hh instrument", "%hh show 4")
NAMING: Final = """\
SESSION is a title as in %hh sessions, a name (in quotes if it has spaces), an id, or the first 4 or more characters
of one. A number is a cell; a session whose name is a number is shown by its id. A file to show has a / in its name
or ends in .json, .jsonl, .otlp or .gz. {expr} and $name are replaced by their values."""
EXPANDED: Final = "{expr} and $name are replaced by their values, after the line was split into words."
WIDTH: Final = 108


def hh_text() -> str:
    """What `%hh?` shows."""
    forms = [(f"{command.name} {words}", _plain(says)) for command in COMMANDS for words, says in command.forms]
    return _sections(
        "See and steer the tracing of this notebook.",
        ("Examples", HH_EXAMPLES),
        ("Commands, each explained by %hh COMMAND --help", _columns(forms)),
        NAMING,
    )


def session_text() -> str:
    """What `%%hh_session?` shows."""
    return _sections(
        "Put the spans of one cell (%%hh_session), or of all cells from here on (%hh_session), into a session.",
        ("Examples", SESSION_EXAMPLES),
        ("Options", _columns((*SESSION_WORDS, *option_rows(SESSION_OPTIONS)))),
        EXPANDED,
    )


def command_text(command: Command) -> str:
    """What `%hh COMMAND --help` shows."""
    forms = [(f"%hh {command.name} {words}", _plain(says)) for words, says in command.forms]
    options = [("Options", _columns(option_rows(command.options)))] if command.options else []
    return _sections(("Forms", _columns(forms)), ("Examples", command.examples), *options)


def option_rows(options: Iterable[Option]) -> Iterator[tuple[str, str]]:
    for option in options:
        only = " (%hh_session only)" if option.line_form else ""
        yield f"{option.flag} {option.value}".rstrip(), f"{option.help}{only}"


def _columns(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Two columns, the second one wrapped."""
    rows = [(left.rstrip(), right) for left, right in rows]
    width = max(len(left) for left, _ in rows)
    return [
        f"{left if first else '':<{width}}  {line}"
        for left, right in rows
        for first, line in _marked(textwrap.wrap(right, WIDTH - width))
    ]


def _marked(lines: Sequence[str]) -> Iterator[tuple[bool, str]]:
    """The lines, each with whether it is the first."""
    return ((number == 0, line) for number, line in enumerate(lines))


def _sections(*parts: str | tuple[str, Sequence[str]]) -> str:
    """Paragraphs, and lists under a heading."""
    return "\n\n".join(part if isinstance(part, str) else "\n    ".join((f"{part[0]}:", *part[1])) for part in parts)


def _plain(says: str) -> str:
    """Markdown's marks go: help is shown as it is."""
    return says.replace("`", "")


# A magic's line, read by the options that the table has for it: words, and values by option.

_NUMBER = re.compile(r"#\d+")


@dataclass(frozen=True, slots=True)
class Given:
    """What was typed after a magic's or a command's name.

    Attributes:
        words: those that belong to no option.
        options: values by flag, in order; those of a switch are empty texts.
    """

    words: tuple[str, ...] = ()
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __contains__(self, flag: object) -> bool:
        return flag in self.options

    def last(self, flag: str) -> str | None:
        """The value of an option; the last one if it was repeated."""
        values = self.options.get(flag)
        return values[-1] if values else None


def read(words: Sequence[str], options: Sequence[Option], magic: str, example: str = "") -> Given:
    """Sort words into options and others.

    Args:
        words: as `split` gives them.
        options: that there are.
        magic: as it was typed, for the messages.
        example: a whole line, shown below a message.

    Raises:
        UsageError: an unknown option, with the one that was probably meant; a value missing, or one too many.
    """
    by_flag = {option.flag: option for option in options}
    plain: list[str] = []
    given: dict[str, list[str]] = {}
    below = f"\n    {example}" if example else ""
    rest = joined(words)
    while rest:
        word = rest.pop(0)
        flag, equals, value = word.partition("=")
        if not word.startswith("--"):
            plain.append(word)
            continue
        option = by_flag.get(flag)
        if option is None:
            raise UsageError(f"{magic}: unknown option {flag}. {_hint(flag, options)}{below}")
        if option.value and not equals:
            if not rest or rest[0].startswith("--"):
                raise UsageError(f"{magic}: {flag} needs a value, {option.value}.{below}")
            value = rest.pop(0)
        elif equals and not option.value:
            raise UsageError(f"{magic}: {flag} takes no value.{below}")
        given.setdefault(flag, []).append(value)
    return Given(tuple(plain), {flag: tuple(values) for flag, values in given.items()})


def joined(words: Iterable[str]) -> list[str]:
    """The same words, with the number of a title, `refund-triage #3`, joined to what stands before it."""
    joined: list[str] = []
    for word in words:
        if joined and _NUMBER.fullmatch(word):
            joined[-1] += f" {word}"
        else:
            joined.append(word)
    return joined


def _hint(flag: str, options: Sequence[Option]) -> str:
    if not options:
        return "It has no options."
    for option in options:
        if flag in option.near:
            return f"Did you mean {option.flag}?"
    # Compared without the dashes, which make all options alike.
    alike = get_close_matches(flag.lstrip("-"), [option.flag[2:] for option in options], n=1)
    return f"Did you mean --{alike[0]}?" if alike else f"Options: {', '.join(option.flag for option in options)}."


# The words after a magic: split first, each expanded after.
#
# Splitting first means that a value may hold spaces, quotes and dashes without becoming an option, and that a whole
# `{expr}` hands over the object itself.

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
