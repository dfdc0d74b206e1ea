"""The texts of `%hh?`, `%%hh_session?` and `%hh COMMAND --help`, and the README's tables, from the table of magics."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from hh_jupyter.notebook.magic_table import COMMANDS, SESSION_OPTIONS, Command, Option

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
LOADING: Final = (("%load_ext hh_jupyter", "One tracer for this kernel. Says in one line where spans go."),)
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
        ("Options", _columns((*SESSION_WORDS, *_option_rows(SESSION_OPTIONS)))),
        EXPANDED,
    )


def command_text(command: Command) -> str:
    """What `%hh COMMAND --help` shows."""
    forms = [(f"%hh {command.name} {words}", _plain(says)) for words, says in command.forms]
    options = [("Options", _columns(_option_rows(command.options)))] if command.options else []
    return _sections(("Forms", _columns(forms)), ("Examples", command.examples), *options)


def magics_table() -> str:
    """The README's table of magics."""
    commands = [(f"%hh {command.name} {words}", says) for command in COMMANDS for words, says in command.forms]
    return _markdown_table("magic", (*LOADING, *SESSION_FORMS, *commands))


def session_options_table() -> str:
    """The README's table of what the session magics take."""
    return _markdown_table("option", (*SESSION_WORDS, *_option_rows(SESSION_OPTIONS)))


def command_options_table() -> str:
    """The README's table of the options of commands."""
    rows = [
        (f"%hh {command.name} {left}", right) for command in COMMANDS for left, right in _option_rows(command.options)
    ]
    return _markdown_table("option", rows)


def _option_rows(options: Iterable[Option]) -> Iterator[tuple[str, str]]:
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


def _markdown_table(first: str, rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"| {first} | what it does |", "| --- | --- |"]
    for left, right in rows:
        lines.append(f"| `{_cell(left.rstrip())}` | {_cell(right)} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
