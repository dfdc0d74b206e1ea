"""The magics' table of commands and options, and what is derived from it: help texts and the parser of a line."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import Enum, auto
from typing import Any, Final

from IPython.core.error import UsageError

HELP_FLAGS: Final = frozenset({"-h", "--help"})
SHOW_MODES: Final = ("auto", "line", "tree", "off")
DETAILS: Final = ("summary", "preview", "full")


class ValueKind(Enum):
    """What an argument stands for; decides what Tab suggests for it. SESSIONS may be "all", SESSION may not."""

    COMMAND = auto()
    SESSION = auto()
    SESSIONS = auto()
    JOINED = auto()
    CELL_SESSION_OR_FILE = auto()
    LIBRARY = auto()
    MODE = auto()
    DETAIL = auto()
    FILE_THEN_SESSION = auto()
    TEXT = auto()


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a magic.

    Attributes:
        flag: the name, with its dashes.
        help: one sentence without a full stop.
        value: placeholder of the value in help texts; empty for a switch.
        kind: the kind of the value.
        line_form: only "%hh_session" has the option, not "%%hh_session".
        mistaken_for: other flags that users try, too different for a spelling suggestion.
    """

    flag: str
    help: str
    value: str = ""
    kind: ValueKind = ValueKind.TEXT
    line_form: bool = False
    mistaken_for: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """One command of `%hh`.

    Attributes:
        forms: arguments and what the command does with them; the most common form first.
        examples: whole lines.
        kind: the kind of its arguments; None if it takes none.
        options: its options.
        many: it takes several arguments.
        extra_argument_error: replaces the usual message about an extra argument, which repeats the argument.
    """

    name: str
    forms: tuple[tuple[str, str], ...]
    examples: tuple[str, ...]
    kind: ValueKind | None = None
    options: tuple[Option, ...] = ()
    many: bool = False
    extra_argument_error: str = ""


SESSION_OPTIONS: Final = (
    Option(
        "--join",
        "continue an existing session",
        "ID|NAME|last",
        ValueKind.JOINED,
        mistaken_for=("--session", "--name", "--continue"),
    ),
    Option("--id", "the new session's id", "UUID"),
    Option("--input", "an input of the session; repeatable, K={expr} passes the object itself", "K=V"),
    Option("--metadata", "metadata of the session; repeatable", "K=V", mistaken_for=("--tag", "--tags", "--property")),
    Option("--user", "user id, or a user property", "ID|K=V", mistaken_for=("--user-id",)),
    Option("--source", "where the code runs, for this session", "S"),
    Option(
        "--show", "how this cell's output is shown", "|".join(SHOW_MODES), ValueKind.MODE, mistaken_for=("--display",)
    ),
    Option("--end", "return to the notebook's session", line_form=True, mistaken_for=("--stop",)),
)

_SESSIONS: Final = "SESSION ..."
_OTHERS: Final = Option(
    "--others", "what other kernels left on disk, after a question", mistaken_for=("--all", "--other-kernels")
)
_YES: Final = Option("--yes", "do not ask about sessions of other kernels", mistaken_for=("--force", "--confirm"))

COMMANDS: Final = (
    Command(
        "status",
        (
            (
                "",
                "The settings and their origins, what was sent, what is pending and why; the same as `%hh`.",
            ),
        ),
        ("%hh", "%hh status", "%hh status --all"),
        options=(Option("--all", "all settings, including defaults"),),
    ),
    Command(
        "instrument",
        (
            ("", "Traces every installed LLM library that has an instrumentor or traces itself."),
            ("NAME ...", "Traces the named libraries only."),
        ),
        ("%hh instrument", "%hh instrument openai anthropic", "%hh instrument --off openai"),
        ValueKind.LIBRARY,
        (
            Option("--list", "list the installed libraries, which are traced, and by what"),
            Option("--off", "stop tracing the named libraries; without names, all that this command switched on"),
        ),
        many=True,
    ),
    Command(
        "show",
        (
            ("4", "The spans of cell 4, opened; without a number, or with `last`, those of the last cell with spans."),
            ("SESSION", "The spans of a session; `all` for this kernel's, `background` for those outside any cell."),
            ("FILE", "The spans of an OTLP JSON file, written by the OpenTelemetry Collector or `%hh save`."),
        ),
        ("%hh show", "%hh show 4 --detail full", "%hh show all --errors", "%hh show trace.jsonl"),
        ValueKind.CELL_SESSION_OR_FILE,
        (
            Option("--errors", "only failed spans and their ancestors"),
            Option(
                "--detail",
                "how much the output holds of messages, inputs and outputs: nothing, the beginning, or all",
                "|".join(DETAILS),
                ValueKind.DETAIL,
            ),
        ),
    ),
    Command(
        "sessions",
        (
            (
                "",
                "The sessions that have spans here, also of ended kernels; those of a run of `evaluate` in one line.",
            ),
            ("NAME ...", "Each session of these names; `all` for this kernel's."),
        ),
        ("%hh sessions", "%hh sessions nightly-run"),
        ValueKind.SESSION,
        many=True,
    ),
    Command(
        "send",
        (
            ("", "Retries now everything that is pending or was rejected."),
            (
                _SESSIONS,
                "Also sends what these sessions, or `all` of this kernel, recorded in local mode; only if named.",
            ),
        ),
        ("%hh send", "%hh send refund-triage", "%hh send all", "%hh send --others"),
        ValueKind.SESSIONS,
        (_OTHERS, _YES),
        many=True,
    ),
    Command(
        "save",
        (
            ("FILE", "Writes the spans of this kernel as OTLP JSON lines, which the OpenTelemetry Collector reads."),
            (f"FILE {_SESSIONS}", "Writes those of the named sessions, or `all` of this kernel."),
        ),
        ("%hh save spans.jsonl", "%hh save spans.jsonl refund-triage", "%hh save spans.jsonl --force"),
        ValueKind.FILE_THEN_SESSION,
        (
            Option("--force", "overwrite an existing file", mistaken_for=("--overwrite",)),
            Option("--others", "what other kernels left on disk", mistaken_for=("--all", "--other-kernels")),
        ),
        many=True,
    ),
    Command(
        "display",
        (
            (
                "MODE",
                "How traced cells are shown from now on: `auto` opens on an error, `line` never, `tree` always.",
            ),
            ("off", "Shows nothing; tracing continues."),
        ),
        ("%hh display", "%hh display line", "%hh display off"),
        ValueKind.MODE,
    ),
    Command(
        "off",
        (("", "Switches tracing off: no spans are recorded or sent. To hide only the outputs: `%hh display off`."),),
        ("%hh off", "%hh on"),
    ),
    Command("on", (("", "Switches tracing on again."),), ("%hh on",)),
    Command(
        "open",
        (("SESSION", "Opens the session's page in the web application; without a name, that of the current session."),),
        ("%hh open", "%hh open refund-triage"),
        ValueKind.SESSION,
    ),
    Command(
        "clear",
        (
            ("", "Deletes what this kernel has stored on disk, unless some of it is still to be sent."),
            (
                _SESSIONS,
                "Deletes what these sessions, or `all` of this kernel, have stored, also what is still to be sent.",
            ),
        ),
        ("%hh clear", "%hh clear refund-triage", "%hh clear all --others"),
        ValueKind.SESSIONS,
        (_OTHERS, _YES),
        many=True,
    ),
    Command(
        "login",
        (
            (
                "",
                "Asks for the API key, or uses Colab's secret HH_API_KEY; sends from then on if the backend takes it.",
            ),
        ),
        ("%hh login", "%hh login --save", "%hh login --forget"),
        options=(
            Option("--save", "save the key for this server, for later kernels"),
            Option("--forget", "delete the saved keys"),
        ),
        extra_argument_error="type the key at the prompt; in a cell it would stay in the notebook and its history.",
    ),
    Command(
        "help",
        (("COMMAND", "Explains a command, with examples; the same as `%hh COMMAND --help`."),),
        ("%hh help", "%hh help show", "%hh show --help"),
        ValueKind.COMMAND,
    ),
)
"""In the order of the help and the README."""

BY_NAME: Final = {command.name: command for command in COMMANDS}

FIXED_VALUES: Final = {
    ValueKind.COMMAND: tuple(BY_NAME),
    ValueKind.MODE: SHOW_MODES,
    ValueKind.DETAIL: DETAILS,
}
"""The kinds whose values are always the same."""


# Help texts: `%hh?`, `%%hh_session?` and `%hh COMMAND --help`.

SESSION_FORMS: Final = (
    ("%%hh_session NAME", "Runs this cell, and only this cell, in a session of its own, a new one each time."),
    ("#| hh_session: NAME", "The same, as the first line of a cell; just a comment where this package is not loaded."),
    (
        "%hh_session NAME",
        "Sets the session from this line on, for all cells; `%hh_session` alone shows the current one.",
    ),
)
SESSION_EXAMPLES: Final = (
    "%%hh_session refund-triage --metadata team=support --input ticket={ticket}",
    "%%hh_session --join last",
    "%hh_session refund-triage",
)
SESSION_ARGUMENTS: Final = (
    ("NAME", "name of the new session, in quotes if it has spaces; default: the notebook's name and the cell's number"),
)
HH_EXAMPLES: Final = ("%hh", "%hh instrument", "%hh show 4")
REFERENCES: Final = """\
SESSION is a title as in %hh sessions, a name (in quotes if it has spaces), an id, or at least the first 4 characters
of an id; all means every session of this kernel. A number to show is a cell if that cell has spans, else a session.
A file to show has a / in its name or ends in .json, .jsonl, .otlp or .gz. {expr} and $name are replaced by their
values."""
EXPANSION: Final = "{expr} and $name are replaced by their values after the line is split into words."
WIDTH: Final = 108


def hh_text() -> str:
    """The help of `%hh?`."""
    forms = [
        (f"{command.name} {words}", _without_backticks(says)) for command in COMMANDS for words, says in command.forms
    ]
    return _sections(
        "Show and control the tracing of this notebook.",
        ("Examples", HH_EXAMPLES),
        ("Commands, each explained by %hh COMMAND --help", _columns(forms)),
        REFERENCES,
    )


def session_text() -> str:
    """The help of `%%hh_session?`."""
    return _sections(
        "Record the spans of one cell (%%hh_session), or of all cells from here on (%hh_session), in a session.",
        ("Examples", SESSION_EXAMPLES),
        ("Options", _columns((*SESSION_ARGUMENTS, *option_rows(SESSION_OPTIONS)))),
        EXPANSION,
    )


def command_text(command: Command) -> str:
    """The help of `%hh COMMAND --help`."""
    forms = [(f"%hh {command.name} {words}", _without_backticks(says)) for words, says in command.forms]
    options = [("Options", _columns(option_rows(command.options)))] if command.options else []
    return _sections(("Forms", _columns(forms)), ("Examples", command.examples), *options)


def option_rows(options: Iterable[Option]) -> Iterator[tuple[str, str]]:
    """Each option with its value's placeholder, and its help."""
    for option in options:
        only = " (%hh_session only)" if option.line_form else ""
        yield f"{option.flag} {option.value}".rstrip(), f"{option.help}{only}"


def _columns(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Format two columns; the second one is wrapped."""
    rows = [(left.rstrip(), right) for left, right in rows]
    width = max(len(left) for left, _ in rows)
    return [
        f"{left if number == 0 else '':<{width}}  {line}"
        for left, right in rows
        for number, line in enumerate(textwrap.wrap(right, WIDTH - width))
    ]


def _sections(*parts: str | tuple[str, Sequence[str]]) -> str:
    """Join paragraphs and headings with their lists."""
    return "\n\n".join(part if isinstance(part, str) else "\n    ".join((f"{part[0]}:", *part[1])) for part in parts)


def _without_backticks(says: str) -> str:
    return says.replace("`", "")


# A magic's line, parsed into arguments and options.

_TITLE_NUMBER: Final = re.compile(r"#\d+")
"""The last word of a title such as `refund-triage #3`."""


@dataclass(frozen=True, slots=True)
class ParsedLine:
    """What follows the name of a magic or command.

    Attributes:
        words: the arguments, without options and their values.
        options: the values of each flag, in order; empty strings for a switch.
    """

    words: tuple[str, ...] = ()
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __contains__(self, flag: object) -> bool:
        return flag in self.options

    def last(self, flag: str) -> str | None:
        """The value of an option, the last one if it is repeated; None without the option."""
        values = self.options.get(flag)
        return values[-1] if values else None


def parse_words(words: Sequence[str], options: Sequence[Option], magic: str, example: str = "") -> ParsedLine:
    """Separate options and their values from other words.

    Args:
        words: the result of `split`.
        options: the valid options.
        magic: the magic as it was typed, for messages.
        example: a whole line to show below a message.

    Raises:
        UsageError: an unknown option, a missing value, or a value for a switch.
    """
    by_flag = {option.flag: option for option in options}
    arguments: list[str] = []
    found: dict[str, list[str]] = {}
    below = f"\n    {example}" if example else ""
    rest = join_titles(words)
    while rest:
        word = rest.pop(0)
        flag, equals, value = word.partition("=")
        if not word.startswith("--"):
            arguments.append(word)
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
        found.setdefault(flag, []).append(value)
    return ParsedLine(tuple(arguments), {flag: tuple(values) for flag, values in found.items()})


def join_titles(words: Iterable[str]) -> list[str]:
    """Join the number of a title such as `refund-triage #3` to the word before it."""
    joined: list[str] = []
    for word in words:
        if joined and _TITLE_NUMBER.fullmatch(word):
            joined[-1] += f" {word}"
        else:
            joined.append(word)
    return joined


def _hint(flag: str, options: Sequence[Option]) -> str:
    if not options:
        return "It has no options."
    for option in options:
        if flag in option.mistaken_for:
            return f"Did you mean {option.flag}?"
    # Without the dashes, which would make all options similar.
    similar = get_close_matches(flag.lstrip("-"), [option.flag[2:] for option in options], n=1)
    return f"Did you mean --{similar[0]}?" if similar else f"Options: {', '.join(option.flag for option in options)}."


# Words and expressions: a line is split first and each word expanded afterwards. A value may therefore contain spaces,
# quotes and dashes without being taken for an option, and a word that is one `{expr}` passes the object itself.

Evaluate = Callable[[str], Any]

_DOTTED: Final = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_NAME: Final = re.compile(rf"\$({_DOTTED})")
_EXPRESSION: Final = re.compile(
    r"\{\{(?P<escaped>[^{}]*)\}\}"
    r"|\{(?P<braces>[^{}]+)\}"
    rf"|\$(?P<dollars>\$?)(?P<name>{_DOTTED})"
)
"""As in IPython's own magics: `{expr}`, `$name`, `$name.attribute`; doubled braces and dollars are escapes."""


def split(line: str, magic: str) -> list[str]:
    """Split a line into words. Quotes around a word are removed; `{...}` is kept whole, including quotes inside it.

    Args:
        line: what follows the magic's name.
        magic: the magic as it was typed, for the message.

    Raises:
        UsageError: a quote or brace is not closed.
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


def split_incomplete(line: str) -> tuple[list[str], str]:
    """Split a line that is being typed: its complete words, and the last one as typed, empty after a space."""
    words: list[str] = []
    position = 0
    while position < len(line):
        if line[position].isspace():
            position += 1
            continue
        try:
            word, end = _word(line, position, "")
        except UsageError:  # A quote or brace is still open.
            return words, line[position:]
        if end == len(line):
            return words, line[position:]
        words.append(word)
        position = end
    return words, ""


def quoted(word: str) -> str:
    """The word in quotes if it must be typed with quotes."""
    if word and not re.search(r"[\s'\"]", word) and not word.startswith("-"):
        return word
    if "'" in word and '"' not in word:
        return f'"{word}"'
    return "'" + word.replace("'", "'\"'\"'") + "'"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The hint of a message about an unknown word: the most similar known one, or all of them."""
    known = tuple(known)
    similar = get_close_matches(word, known, n=1)
    return f"Did you mean {similar[0]}?" if similar else f"Known: {', '.join(known)}."


class Expansion:
    """Replaces variables and expressions in words by their values.

    Args:
        evaluate: evaluates a Python expression in the user's namespace.
        magic: the magic as it was typed, for messages.
    """

    def __init__(self, evaluate: Evaluate, magic: str) -> None:
        self._evaluate = evaluate
        self._magic = magic

    def text(self, word: str) -> str:
        """The word with its expressions replaced by `str` of their values.

        Raises:
            UsageError: the word is one expression, and it raised an error.
        """
        return str(self.value(word, word))

    def value(self, word: str, shown: str) -> Any:
        """The value itself if the word is one expression, else as `text`. What is not an expression is kept as text.

        Args:
            word: the word to expand.
            shown: what a message quotes.

        Raises:
            UsageError: the word is one expression, and it raised an error.
        """
        if name := _NAME.fullmatch(word):
            try:
                return self._evaluate(name[1])
            except Exception:  # boundary: an undefined `$word` is text, as in other magics
                return word
        if word.startswith("{{") or not (word.startswith("{") and _closing_brace(word, 0) == len(word) - 1):
            return _EXPRESSION.sub(self._replacement, word)
        try:
            return self._evaluate(word[1:-1])
        except SyntaxError:
            pass  # {"a": 1} is not an expression in braces but may be a dict.
        except Exception as error:  # boundary: the user's expression may raise anything
            raise self._failed(shown, error) from None
        try:
            return self._evaluate(word)
        except Exception as error:  # boundary: as above
            raise self._failed(shown, error) from None

    def _failed(self, shown: str, error: Exception) -> UsageError:
        return UsageError(f"{self._magic}: {shown}: {type(error).__name__}: {error}")

    def _replacement(self, match: re.Match[str]) -> str:
        if match["escaped"] is not None:
            return f"{{{match['escaped']}}}"
        if match["dollars"]:
            return f"${match['name']}"
        try:
            return str(self._evaluate(match["braces"] or match["name"]))
        except Exception:  # boundary: braces and dollars around anything but an expression are text
            return match[0]


def _word(line: str, position: int, magic: str) -> tuple[str, int]:
    pieces: list[str] = []
    while position < len(line) and not line[position].isspace():
        char = line[position]
        if char in "'\"":
            end = line.find(char, position + 1)
            if end < 0:
                raise UsageError(f"{magic}: the quote {char} is not closed.")
            pieces.append(line[position + 1 : end])
        elif char == "{":
            end = _closing_brace(line, position)
            if end < 0:
                raise UsageError(f"{magic}: the brace {{ is not closed.")
            pieces.append(line[position : end + 1])
        else:
            end = position
            pieces.append(char)
        position = end + 1
    return "".join(pieces), position


def _closing_brace(line: str, start: int) -> int:
    """Index of the brace that closes the one at `start`, or -1. Braces inside quotes are ignored."""
    depth, quote = 0, ""
    for index in range(start, len(line)):
        char = line[index]
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "{}":
            depth += 1 if char == "{" else -1
            if depth == 0:
                return index
    return -1
