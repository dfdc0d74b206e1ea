"""The magics, their commands and options: one table. Parsing, help, Tab completion and the README are made from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

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


_JOIN: Final = ("--session", "--name", "--continue")

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
