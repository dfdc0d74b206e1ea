"""The parsers of the magics, on argparse: what a line may contain, its help, and one-line messages about mistakes."""

from __future__ import annotations

import argparse
import re
import textwrap
from argparse import ArgumentError, ArgumentTypeError
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any, Final, NoReturn

from IPython.core.error import UsageError

from hh_jupyter.records.selection import did_you_mean

Evaluate = Callable[[str], Any]

HELP_FLAGS: Final = frozenset({"-h", "--help"})
SHOW_MODES: Final = ("auto", "line", "tree", "off")
DETAILS: Final = ("summary", "preview", "full")
REPLAY_MODES: Final = ("auto", "only", "record", "off")

_WIDTH: Final = 112
_OPTION: Final = re.compile(r"--?[^\W\d]")
_TITLE_NUMBER: Final = re.compile(r"#\d+")
"""The last word of a title such as `refund-triage #3`."""

_MISTAKEN_FOR: Final = {
    **dict.fromkeys(("--session", "--name", "--continue"), "--join"),
    **dict.fromkeys(("--tag", "--tags", "--property"), "--metadata"),
    **dict.fromkeys(("--all", "--other-kernels"), "--others"),
    **dict.fromkeys(("--force", "--confirm"), "--yes"),
    "--user-id": "--user",
    "--display": "--show",
    "--stop": "--end",
    "--overwrite": "--force",
    **dict.fromkeys(("--record", "--recording", "--cache", "--cassette", "--offline"), "--replay"),
    **dict.fromkeys(("--clean", "--clear", "--delete", "--unused"), "--prune"),
}
"""Options that users try, too different from the right ones for a spelling suggestion."""


class _Formatter(argparse.HelpFormatter):
    """Wraps at a fixed width, whatever the terminal, and keeps the lines of lists."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, indent_increment=4, max_help_position=40, width=_WIDTH)

    def add_usage(self, usage: str | None, actions: Any, groups: Any, prefix: str | None = None) -> None:
        super().add_usage(usage, actions, groups, "Usage: " if prefix is None else prefix)

    def _format_action(self, action: argparse.Action) -> str:
        return super()._format_action(action).removeprefix("    \n")  # The commands need no line of their own.

    def _iter_indented_subactions(self, action: argparse.Action) -> Generator[argparse.Action, None, None]:
        yield from getattr(action, "_get_subactions", tuple)()

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        parts = text.split("\n\n")
        return "\n\n".join(part if "\n" in part else textwrap.fill(part, width) for part in parts)


class MagicParser(argparse.ArgumentParser):
    """The parser of a magic or of one command.

    It differs from argparse in that a mistake is a one-line UsageError, that options may stand anywhere among the
    arguments, and that they cannot be abbreviated. A metavar lists, separated by `|`, the words that an argument may
    be, as they are typed, and in capitals what else it may stand for: the help shows it, and Tab suggests it.

    Args:
        prog: the magic as it is typed, with the command.
        description: what it does; backticks are for the README.
        examples: whole lines.
        evaluate: evaluates a Python expression in the user's namespace; help and completion do without.
        notes: a paragraph at the end of the help.
        forms: usage lines; default: the one that follows from the arguments.
    """

    def __init__(
        self,
        prog: str,
        description: str,
        examples: Sequence[str],
        evaluate: Evaluate,
        notes: str = "",
        forms: Sequence[str] = (),
        **more: Any,  # Python 3.14 hands on `color`.
    ) -> None:
        super().__init__(
            prog,
            description=description,
            epilog="\n    ".join(("Examples:", *examples)) + f"\n\n{notes}",
            formatter_class=_Formatter,
            add_help=False,
            allow_abbrev=False,
            exit_on_error=False,
            **more,
        )
        self.color = False  # Python 3.14 would color the help.
        self._positionals.title, self._optionals.title = "Arguments", "Options"
        self.expansion, self.examples, self._forms = Expansion(evaluate), examples, forms

    def takes(self, name: str, text: str, metavar: str = "", **more: Any) -> None:
        """Add an argument or an option; an option without metavar and choices is a switch.

        Args:
            name: the option with its dashes, or the argument's name in the result.
            text: the help.
            metavar: see the class; default: the choices.
            more: as for `add_argument`.
        """
        if metavar or "choices" in more:
            more = {"type": self.expansion.text, "metavar": metavar or "|".join(more["choices"]), **more}
        else:
            more["action"] = "store_true"
        if more.get("nargs") == "*":
            more["default"] = ()  # Without one, argparse requires a value.
        # argparse replaces %(name) in the help of an argument, but not in a description.
        self.add_argument(name, help=text.replace("%", "%%"), **more)

    @property
    def arguments(self) -> list[argparse.Action]:
        """The arguments that are no options, without those that the help hides."""
        return [action for action in self._actions if not action.option_strings and action.help != argparse.SUPPRESS]

    @property
    def options(self) -> dict[str, argparse.Action]:
        """The options, each by its flag with two dashes."""
        return {action.option_strings[-1]: action for action in self._actions if action.option_strings}

    @property
    def synopsis(self) -> str:
        """The line as it is typed, without options."""
        shown = {None: "{}", "?": "[{}]", "*": "[{} ...]"}
        return " ".join((self.prog, *(shown[action.nargs].format(action.metavar) for action in self.arguments)))  # type: ignore[index]

    def rows(self) -> Iterator[tuple[str, str]]:
        """Each argument and option with its help, for the README."""
        for action in (*self.arguments, *self.options.values()):
            if not HELP_FLAGS.intersection(action.option_strings):
                words = (*action.option_strings, action.metavar or "")
                yield " ".join(map(str, words)).strip(), str(action.help).replace("%%", "%")

    def format_help(self) -> str:
        """The help, like a manual page."""
        options = " [options]" if self.options.keys() - HELP_FLAGS else ""
        forms = self._forms or (self.synopsis,)
        self.usage = "\n       ".join(f"{form}{options}" for form in forms).replace("%", "%%")
        return super().format_help().replace("`", "").rstrip()

    def parse(self, words: Iterable[str]) -> argparse.Namespace:
        """Parse a line.

        Args:
            words: the result of `split`.

        Raises:
            UsageError: an unknown option, a missing value, an extra argument, or an expression that raises an error.
        """
        words = join_titles(words)
        options = words[: words.index("--")] if "--" in words else words
        for flag in (word.partition("=")[0] for word in options if _OPTION.match(word)):
            if flag not in self._option_string_actions:
                self.fail(f"unknown option {flag}. {self._known_options(flag)}")
        try:
            arguments, extra = self.parse_known_intermixed_args(words)
        except ArgumentError as error:
            self._explain(error)
        if extra:
            hint = "Put quotes around a name with spaces." if self.arguments else "It takes no arguments."
            self.fail(f"unexpected argument {extra[0]!r}. {hint}")
        return arguments

    def fail(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(f"{self.prog}: {message}") from None

    def error(self, message: str) -> NoReturn:
        """Called by argparse, such as for a missing argument; it would print the usage and exit."""
        self.fail(f"{message}. Example: {self.examples[0]}")

    def _explain(self, error: ArgumentError) -> NoReturn:
        flag = (error.argument_name or "").rpartition("/")[2]
        option = self.options.get(flag)
        if isinstance(error.__context__, ArgumentTypeError):
            self.fail(f"{flag} {error.message}" if option else error.message)
        if option is None:
            self.error(error.message)
        # The message of argparse repeats the value, which may be a key.
        problem = "takes no value" if option.nargs == 0 else f"needs a value, {option.metavar}"
        self.fail(f"{flag} {problem}.")

    def _known_options(self, flag: str) -> str:
        known = [option for option in self.options if option not in HELP_FLAGS]
        if not known:
            return "It has no options."
        if _MISTAKEN_FOR.get(flag) in known:
            return f"Did you mean {_MISTAKEN_FOR[flag]}?"
        # Without the dashes, which would make all options similar.
        similar = get_close_matches(flag.lstrip("-"), [option[2:] for option in known], n=1)
        return f"Did you mean --{similar[0]}?" if similar else f"Options: {', '.join(known)}."

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            name = action.option_strings[-1] if action.option_strings else action.dest
            self.fail(f"unknown {name} {value}. {did_you_mean(value, action.choices)}")


def join_titles(words: Iterable[str]) -> list[str]:
    """Join the number of a title such as `refund-triage #3` to the word before it."""
    joined: list[str] = []
    for word in words:
        if joined and _TITLE_NUMBER.fullmatch(word) and not joined[-1].startswith("--"):
            joined[-1] += f" {word}"
        else:
            joined.append(word)
    return joined


# The session magics.

CELL_MAGIC: Final = "%%hh_session"
LINE_MAGIC: Final = "%hh_session"
COMMENT: Final = "#| hh_session"
SESSION_FORMS: Final = {
    CELL_MAGIC: "Runs this cell, and only this cell, in a session of its own, a new one each time.",
    f"{COMMENT}:": "The same, as the first line of a cell; just a comment where this package is not loaded.",
    LINE_MAGIC: "Sets the session from this line on, for all cells; `%hh_session` alone shows the current one.",
}
"""The three forms, each with what it does."""


def session_parser(form: str = LINE_MAGIC, evaluate: Evaluate = str) -> MagicParser:
    """The parser of a session magic.

    Args:
        form: CELL_MAGIC, COMMENT or LINE_MAGIC.
        evaluate: evaluates a Python expression in the user's namespace; help and completion do without.
    """
    meaning = "\n".join(f"{name:<16}{sentence}" for name, sentence in SESSION_FORMS.items())
    parser = MagicParser(
        form,
        f"Record the spans of one cell, or of all cells from here on, in a session.\n\n{meaning}",
        (
            "%%hh_session refund-triage --metadata team=support --input ticket={ticket}",
            "%%hh_session --join last",
            "%hh_session refund-triage",
        ),
        evaluate,
        "{expr} and $name are replaced by their values after the line is split into words.",
        [f"{name} [NAME]" for name in SESSION_FORMS],
    )
    pair, user = parser.expansion.pair, parser.expansion.user
    name = "name of the new session, in quotes if it has spaces; default: the notebook's name and the cell's number"
    inputs = "an input of the session; repeatable, K={expr} passes the object itself"
    parser.takes("name", name, "NAME", nargs="?")
    parser.takes("--join", "continue an existing session", "last|NAME|ID")
    parser.takes("--id", "the new session's id", "UUID")
    parser.takes("--input", inputs, "K=V", type=pair, action="append")
    parser.takes("--metadata", "metadata of the session; repeatable", "K=V", type=pair, action="append")
    parser.takes("--user", "user id, or a user property; repeatable", "ID|K=V", type=user, action="append")
    parser.takes("--source", "where the code runs, for this session", "S")
    parser.takes("--show", "how this cell's output is shown", choices=SHOW_MODES)
    parser.takes(
        "--max-cost", "most US dollars that the session's model calls may cost; further ones are not sent", "USD"
    )
    parser.takes("--max-calls", "most model calls of the session; further ones are not sent", "N")
    replay = (
        "answer the model calls of this cell from recordings/NAME.jsonl, whatever `%hh replay` says; without a value "
        "`auto`; not of a line magic"
    )
    parser.takes("--replay", replay, nargs="?", const=REPLAY_MODES[0], choices=REPLAY_MODES)
    if form == LINE_MAGIC:
        parser.takes("--end", "return to the notebook's session; only as a line magic")
    return parser


# The commands of `%hh`.

_NOTES: Final = """\
SESSION is a title as in %hh sessions, a name (in quotes if it has spaces), an id, or at least the first 4 characters
of an id; all means every session of this kernel. CELL is 4 for In [4]; only if that cell has no spans, the number is a
session or the beginning of its id. 4~1 is the run of the same cell before that one, NAME~2 the session two before the
latest of this name. A file has a / in its name or ends in .json, .jsonl, .otlp or .gz. {expr} and $name are replaced
by their values."""


class HHParser(MagicParser):
    """The parsers of the commands of `%hh`, and the help of all of them.

    Args:
        evaluate: evaluates a Python expression in the user's namespace; help and completion do without.
    """

    def __init__(self, evaluate: Evaluate = str) -> None:
        examples = ("%hh", "%hh instrument", "%hh show 4")
        about = "Show and control the tracing of this notebook."
        super().__init__("%hh", about, examples, evaluate, _NOTES, ["%hh [COMMAND ...]"])
        title = "Commands, each explained by %hh COMMAND --help"
        parsers = self.add_subparsers(title=title, metavar="", prog="%hh", parser_class=MagicParser)
        self.commands: dict[str, MagicParser] = parsers.choices

        def command(name: str, description: str, *examples: str, notes: str = "") -> MagicParser:
            about: dict[str, Any] = {"help": description.replace("%", "%%"), "description": description, "notes": notes}
            return parsers.add_parser(name, examples=examples, evaluate=evaluate, **about)

        _add_commands(command)
        for parser in self.commands.values():
            parser.add_argument("-h", "--help", action="store_true", help="explain the command")
        self.commands["help"].takes("command", "default: all commands", "COMMAND", nargs="?", choices=self.commands)

    def command(self, name: str) -> MagicParser:
        """The parser of a command.

        Raises:
            UsageError: there is no such command.
        """
        if name not in self.commands:
            self.fail(f"unknown command {name}. {did_you_mean(name, self.commands)}")
        return self.commands[name]


_REPLAY_NOTES: Final = """\
A cell with %%hh_session NAME has the file NAME.jsonl, all other cells share the file with the notebook's name, in the
folder recordings next to the notebook (setting recordings_dir). %%hh_session --replay MODE overrides the mode for its
cell. Of equal requests in one run of a cell, the second gets the second answer that was recorded, and so on. A request
counts as equal if its method, its path and its body are. To run a notebook without network: HH_REPLAY=only jupyter
execute notebook.ipynb. The files hold prompts and answers, without keys."""


_OTHERS: Final = "what other kernels left on disk"
_OTHERS_ASKED: Final = f"{_OTHERS}, after a question"
_CONFIRMED: Final = "do not ask about sessions of other kernels"


def _add_commands(command: Callable[..., MagicParser]) -> None:
    """Add the commands in the order of the help and the reference."""
    _add_views(command)
    _add_sessions(command)
    _add_switches(command)
    _add_account(command)


def _add_views(command: Callable[..., MagicParser]) -> None:
    """Add the commands that show what was traced."""
    about = "Shows the settings and their origins, what was sent, what is pending and why; the same as `%hh`."
    status = command("status", about, "%hh", "%hh status", "%hh status --all")
    status.takes("--all", "all settings, including defaults")

    about = "Traces every installed LLM library that has an instrumentor or traces itself, or only the named ones."
    instrument = command(
        "instrument", about, "%hh instrument", "%hh instrument openai anthropic", "%hh instrument --off openai"
    )
    instrument.takes("words", "a library to trace; default: all of them", "LIBRARY", nargs="*")
    instrument.takes("--list", "list the installed libraries, which are traced, and by what")
    instrument.takes("--off", "stop tracing the named libraries; without names, all that this command switched on")

    about = (
        "Shows spans again, opened: those of a cell, a session or a file; without an argument, those of the `last` cell"
        " with spans."
    )
    what = (
        "the number of a cell (a session or the beginning of its id, if that cell has no spans), a session, `all` of"
        " this kernel, the `background` spans outside any cell, or an OTLP JSON file, written by the OpenTelemetry"
        " Collector or `%hh save`"
    )
    detail = "how much the output holds of messages, inputs and outputs: nothing, the beginning, or all"
    show = command(
        "show", about, "%hh show", "%hh show 4 --detail full", "%hh show all --errors", "%hh show trace.jsonl"
    )
    show.takes("word", what, "last|CELL|SESSION|all|background|FILE", nargs="?", default="last")
    show.takes("--errors", "only failed spans and their ancestors")
    show.takes("--detail", detail, choices=DETAILS)

    about = (
        "Shows what changed between two runs: calls that changed, were added, removed or moved; without arguments,"
        " between the last two runs of the cell that was traced last."
    )
    diff = command("diff", about, "%hh diff", "%hh diff 4", "%hh diff 4~2 4", "%hh diff refund-triage~1 refund-triage")
    old = "the old run, as for `%hh show`; alone, the new one, which is compared with the run before"
    diff.takes("old", old, "last|CELL|SESSION|all|background|FILE", nargs="?")
    diff.takes("new", "the new run", "last|CELL|SESSION|all|background|FILE", nargs="?")
    diff.takes(
        "--detail", "how much of the texts that differ is shown: nothing, the beginning, or all", choices=DETAILS
    )

    about = (
        "Puts the code of a model call in place of the cell that holds only this command, else in a new cell below, to"
        " change it and run it again."
    )
    which = (
        "the number of a cell, of whose model calls the last one is taken, or the name or id of a span, of a model or a"
        " tool; default: the `last` cell with spans"
    )
    edit = command("edit", about, "%hh edit", "%hh edit 4", "%hh edit write_reply")
    edit.takes("word", which, "last|CELL|SPAN", nargs="?", default="last")

    about = (
        "Finds a text in the names and the content of this kernel's spans, ignoring case: messages, inputs, outputs,"
        " attributes."
    )
    find = command("find", about, "%hh find parcel", "%hh find where is my parcel --all", "%hh find timeout --errors")
    which = "what to find, plain text; white space matches any white space"
    find.takes("words", which, "TEXT", nargs="*", type=find.expansion.plain)
    find.takes("--errors", "only failed spans")
    find.takes("--all", "also the sessions that earlier kernels left on disk")


def _add_sessions(command: Callable[..., MagicParser]) -> None:
    """Add the commands that list, send, write and receive sessions."""
    about = "Lists the sessions that have spans here, also of ended kernels; those of a run of `evaluate` in one line."
    sessions = command("sessions", about, "%hh sessions", "%hh sessions nightly-run")
    sessions.takes("words", "list each session of this name; `all`: of this kernel", "SESSION|all", nargs="*")

    about = (
        "Retries now everything that is pending or was rejected; with names, also sends what these sessions recorded in"
        " local mode."
    )
    send = command("send", about, "%hh send", "%hh send refund-triage", "%hh send all", "%hh send --others")
    send.takes("words", "a session to send, or `all` of this kernel", "SESSION|all", nargs="*")
    send.takes("--others", _OTHERS_ASKED)
    send.takes("--yes", _CONFIRMED)

    about = (
        "Writes the spans of this kernel, or of the named sessions, as OTLP JSON lines, which the OpenTelemetry"
        " Collector reads; to `report.html`, as a page with the interactive view, which opens without a network."
    )
    examples = ("%hh save spans.jsonl", "%hh save report.html refund-triage", "%hh save spans.jsonl --force")
    save = command("save", about, *examples)
    save.takes("word", "path of the file; `.html` makes it a page", "FILE")
    save.takes("words", "a session to write; default: `all` of this kernel", "SESSION|all", nargs="*")
    save.takes("--force", "overwrite an existing file")
    save.takes("--others", _OTHERS)

    about = (
        "Receives the spans of other programs on this machine, and shows them under the cell whose trace they continue."
        " Prints the environment variables with which the programs send them."
    )
    notes = (
        "A program that is traced with OpenTelemetry, in any language, sends its spans here if it is started with these"
        " variables, after 5 seconds if its SDK has the default OTEL_BSP_SCHEDULE_DELAY=5000. A request continues the"
        " cell's trace if it carries the header traceparent, which the instrumentors of HTTP clients and"
        " inject_context() write. Spans of other traces are in %hh show background. Where HTTP_PROXY is set, NO_PROXY"
        " must name 127.0.0.1.\n\n"
        "The receiver listens on 127.0.0.1 only, at a random address, until %hh listen off, %unload_ext or the end of"
        " the kernel. It takes a tenth of the time of one core at most; spans beyond that are rejected. %hh shows how"
        " many were received and rejected."
    )
    listen = command("listen", about, "%hh listen", "%hh listen off", notes=notes)
    listen.takes("word", "stop listening", nargs="?", choices=("off",))


def _add_switches(command: Callable[..., MagicParser]) -> None:
    """Add the commands that hold from now on."""
    about = "Sets how traced cells are shown from now on; without a mode, shows how they are."
    modes = "`auto` opens on an error, `line` never, `tree` always; `off` shows nothing, and tracing continues"
    display = command("display", about, "%hh display", "%hh display line", "%hh display off")
    display.takes("mode", modes, nargs="?", choices=SHOW_MODES, type=lambda word: display.expansion.text(word).lower())

    about = "Answers the model calls of all cells from recordings from now on; without a mode, lists the recordings."
    replay = command("replay", about, "%hh replay", "%hh replay auto", "%hh replay --prune", notes=_REPLAY_NOTES)
    modes = (
        "`auto` answers what is recorded, and sends and records the rest; `only` never sends; `record` sends and "
        "records everything anew; `off` does neither"
    )
    replay.takes("mode", modes, nargs="?", choices=REPLAY_MODES, type=lambda word: replay.expansion.text(word).lower())
    unused = (
        "delete from the files of this notebook's cells what no cell has used since the kernel started, after a "
        "question: restart the kernel and run all cells first"
    )
    replay.takes("--prune", unused)
    replay.takes("--yes", "do not ask")

    about = "Switches tracing off: no spans are recorded or sent. To hide only the outputs: `%hh display off`."
    command("off", about, "%hh off", "%hh on")
    command("on", "Switches tracing on again.", "%hh on")


def _add_account(command: Callable[..., MagicParser]) -> None:
    """Add the commands about the web application, what is stored, and the key; and the help."""
    page = command("open", "Opens a session's page in the web application.", "%hh open", "%hh open refund-triage")
    page.takes("word", "default: the current session", "SESSION", nargs="?")

    about = (
        "Deletes what this kernel has stored on disk, unless some of it is still to be sent; with names, what these"
        " sessions have stored, also what is still to be sent."
    )
    clear = command("clear", about, "%hh clear", "%hh clear refund-triage", "%hh clear all --others")
    clear.takes("words", "a session to delete, or `all` of this kernel", "SESSION|all", nargs="*")
    clear.takes("--others", _OTHERS_ASKED)
    clear.takes("--yes", _CONFIRMED)

    about = "Asks for the API key, or uses Colab's secret HH_API_KEY; sends from then on if the backend takes it."
    login = command("login", about, "%hh login", "%hh login --save", "%hh login --forget")
    # A key that is typed here must be neither repeated in a message nor evaluated.
    login.add_argument("key", nargs="*", default=(), help=argparse.SUPPRESS)
    login.takes("--save", "save the key for this server, for later kernels")
    login.takes("--forget", "delete the saved keys")

    about = "Explains a command, with examples; the same as `%hh COMMAND --help`."
    command("help", about, "%hh help", "%hh help show", "%hh show --help")


# Words and expressions: a line is split first and each word expanded afterwards. A value may therefore contain spaces,
# quotes and dashes without being taken for an option, and a word that is one `{expr}` passes the object itself.

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


def split_text(line: str) -> list[str]:
    """Split a line into options, before or after a text, and the text as one word.

    Quotes and braces belong to the text, except quotes around all of it.
    """
    words = line.split()
    first, last = 0, len(words)
    while first < last and _OPTION.match(words[first]):
        first += 1
    while first < last and _OPTION.match(words[last - 1]):
        last -= 1
    text = " ".join(words[first:last])
    if text[:1] in ("'", '"') and text.find(text[0], 1) == len(text) - 1:
        text = text[1:-1]
    return [*words[:first], *words[last:], *([text] if text else [])]


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


class Expansion:
    """Replaces variables and expressions in words by their values.

    Args:
        evaluate: evaluates a Python expression in the user's namespace.

    Each method is the `type` of an argument. It raises ArgumentTypeError if the value is one expression, and that
    raised an error.
    """

    def __init__(self, evaluate: Evaluate) -> None:
        self._evaluate = evaluate

    def text(self, word: str) -> str:
        """The word with its expressions replaced by `str` of their values."""
        return str(self._value(word, word))

    def plain(self, word: str) -> str:
        """The same for plain text, in which quotes and braces may have no meaning."""
        return _EXPRESSION.sub(self._replacement, word)

    def pair(self, word: str) -> tuple[str, Any]:
        """Key and value of KEY=VALUE; the value is the object itself if it is one expression."""
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ArgumentTypeError(f"expects KEY=VALUE, got {word!r}.")
        return key, self._value(value, word)

    def user(self, word: str) -> tuple[str, Any]:
        """As `pair`; a value without a key is the user's id."""
        key, equals, _ = word.partition("=")
        return self.pair(word) if equals and not key.startswith("{") else ("user_id", self._value(word, word))

    def _value(self, word: str, shown: str) -> Any:
        """The value itself if the word is one expression, else text. What is not an expression is kept as text."""
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
            raise _failed(shown, error) from None
        try:
            return self._evaluate(word)
        except Exception as error:  # boundary: as above
            raise _failed(shown, error) from None

    def _replacement(self, match: re.Match[str]) -> str:
        if match["escaped"] is not None:
            return f"{{{match['escaped']}}}"
        if match["dollars"]:
            return f"${match['name']}"
        try:
            return str(self._evaluate(match["braces"] or match["name"]))
        except Exception:  # boundary: braces and dollars around anything but an expression are text
            return match[0]


def _failed(shown: str, error: Exception) -> ArgumentTypeError:
    return ArgumentTypeError(f"{shown}: {type(error).__name__}: {error}")


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
