"""`%hh` and `%hh_session`: parse, then call. A magic shows, Python returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand
from traitlets import TraitError

from hh_jupyter.notebook.cells import Cells
from hh_jupyter.notebook.completion import WordsOfKind
from hh_jupyter.notebook.config import Login, log_in
from hh_jupyter.notebook.guard import failure_lines
from hh_jupyter.notebook.instrument import Instrumentors
from hh_jupyter.notebook.outputs import Outputs
from hh_jupyter.notebook.parser import (
    BY_NAME,
    Command,
    Evaluate,
    Expansion,
    Given,
    command_text,
    did_you_mean,
    hh_text,
    read,
    session_text,
    split,
)
from hh_jupyter.notebook.session_magic import LINE_MAGIC, parse
from hh_jupyter.notebook.sessions import SHORT_ID, Sessions, SessionStore, sessions_text
from hh_jupyter.notebook.show import LAST, Shows
from hh_jupyter.notebook.status import disk_lines, load_line, status_text
from hh_jupyter.notebook.transfer import clear, open_session, save, send
from hh_jupyter.settings import TABLE
from hh_jupyter.tracing.recorded import span_log

# What the words after `%hh` do. Each command shows something and changes nothing else than it says.


class Commands:
    """The commands by name.

    Args:
        sessions, outputs, cells, instrumentors, login: what they act on.
        set_trait: sets a trait of the configuration and applies it; may raise TraitError.
        use_key: makes a key the one to send with.
    """

    def __init__(
        self,
        sessions: Sessions,
        outputs: Outputs,
        cells: Cells,
        instrumentors: Instrumentors,
        login: Login,
        set_trait: Callable[[str, Any], None],
        use_key: Callable[[str], None],
    ) -> None:
        self._sessions, self._outputs, self._cells = sessions, outputs, cells
        self._instrumentors, self._login = instrumentors, login
        self._set_trait, self._use_key = set_trait, use_key
        self._store = SessionStore(sessions, span_log())
        self.candidates = WordsOfKind(sessions, self._store, outputs, instrumentors)
        self.shows = Shows(sessions, outputs, cells, self._store)
        self._by_name: dict[str, Callable[[Given], None]] = {
            "status": self._status,
            "instrument": self._instrument,
            "show": self._show,
            "sessions": self._list_sessions,
            "send": self._send,
            "save": self._save,
            "clear": self._clear,
            "login": self._log_in,
            "display": self._display,
            "on": self._on,
            "off": self._off,
            "open": self._open,
            "help": self._help,
        }

    def run(self, line: str) -> None:
        """Run one command.

        Args:
            line: its name and what follows; nothing means `status`.

        Raises:
            UsageError: one line that says what is wrong.
        """
        name, *words = split(line, "%hh") or ["status"]
        name = "help" if name == "--help" else name
        command = command_named(name)
        if "--help" in words:
            print(command_text(command))
            return
        self._by_name[name](given_to(command, words, self._cells.evaluate))

    def session_text(self) -> str:
        """The session in force, with its short id."""
        session_id = self._sessions.tracer.current_session_id
        title = self._sessions.title(session_id) or "-"
        return f"{title} {session_id[:SHORT_ID]}" if session_id else title

    def _status(self, given: Given) -> None:
        tracer = self._sessions.tracer
        known = self._store.all()
        text = status_text(
            tracer.settings,
            tracer.export_state(),
            session=self.session_text(),
            traced=self._instrumentors.names,
            disk=disk_lines(tracer.spool, known),
            everything="--all" in given,
            joins=tracer.span_source.joins,
            shows_only=tracer.left_to_others,
            trouble=failure_lines(),
        )
        print(text)

    def _instrument(self, given: Given) -> None:
        if "--list" in given:
            print(self._instrumentors.listed())
        elif "--off" in given:
            print(self._instrumentors.switch_off(given.words))
        else:
            print(self._instrumentors.switch_on(given.words))

    def _show(self, given: Given) -> None:
        label = given.words[0] if given.words else LAST
        said = self.shows.show(label, errors_only="--errors" in given, detail=given.last("--detail"))
        if said:
            print(said)

    def _list_sessions(self, given: Given) -> None:
        print(sessions_text(self._store.all()))

    def _send(self, given: Given) -> None:
        print(send(given.words, self._sessions.tracer, self._store))
        self._outputs.refresh()

    def _save(self, given: Given) -> None:
        print(save(given.words, self._store, replace="--force" in given))

    def _clear(self, given: Given) -> None:
        print(clear(given.words, self._sessions.tracer, self._store))

    def _log_in(self, given: Given) -> None:
        print(log_in(given, self._login, self._sessions.tracer, self._use_key))

    def _display(self, given: Given) -> None:
        if given.words:
            try:
                self._set_trait("display", given.words[0])
            except TraitError:
                raise UsageError(f"%hh display: {given.words[0]} must be {TABLE['display'].rule.expected}.") from None
        print(f"hh: display {self._sessions.tracer.settings.display}")

    def _on(self, given: Given) -> None:
        self._set_trait("disable_tracing", False)
        tracer = self._sessions.tracer
        print(load_line(tracer.settings, tracer.destination, tracer.session_name, shows_only=tracer.left_to_others))

    def _off(self, given: Given) -> None:
        self._set_trait("disable_tracing", True)
        print("hh: tracing is off: no spans are made or sent. %hh on to go on; %hh display off only hides the outputs.")

    def _open(self, given: Given) -> None:
        tracer = self._sessions.tracer
        chosen = self._store.find(given.words[0], "open").id if given.words else tracer.current_session_id
        print(open_session(chosen, tracer, here=self._outputs.in_terminal))

    def _help(self, given: Given) -> None:
        print(command_text(command_named(given.words[0])) if given.words else hh_text())


def command_named(name: str) -> Command:
    """The row of a command.

    Raises:
        UsageError: there is none of this name.
    """
    if name not in BY_NAME:
        raise UsageError(f"%hh: unknown command {name}. {did_you_mean(name, BY_NAME)}")
    return BY_NAME[name]


def given_to(command: Command, words: list[str], evaluate: Evaluate) -> Given:
    """What a command is given, its variables replaced by their values.

    Raises:
        UsageError: an option that it does not have, a word too many, an expression that fails.
    """
    magic = f"%hh {command.name}"
    given = read(words, command.options, magic)
    most = 0 if command.kind is None else 1
    if len(given.words) > most and not command.many:
        refused = command.refusal or f"unexpected {given.words[most]!r}. {magic} --help shows how it is used."
        raise UsageError(f"{magic}: {refused}")
    expansion = Expansion(evaluate, magic)
    options = {flag: tuple(expansion.text(value) for value in values) for flag, values in given.options.items()}
    return Given(tuple(expansion.text(word) for word in given.words), options)


@magics_class
class HHMagics(Magics):
    """The magics of this package.

    Args:
        shell: the InteractiveShell.
        cells, sessions: what `%hh_session` acts on.
        commands: what `%hh` runs.
    """

    NAMES: Final = {"line": ("hh", "hh_session"), "cell": ("hh_session",)}

    def __init__(self, shell: Any, cells: Cells, sessions: Sessions, commands: Commands) -> None:
        super().__init__(shell)
        self._shell = shell
        self._cells = cells
        self._sessions = sessions
        self._commands = commands

    @no_var_expand
    @line_magic
    def hh(self, line: str) -> None:  # Below.
        self._commands.run(line)

    @no_var_expand
    @line_cell_magic
    def hh_session(self, line: str, cell: str | None = None) -> None:  # Below.
        if cell is not None:
            # Only code that runs the magic by name comes here: a typed `%%hh_session` was rewritten before.
            self._cells.enter(line, blank=not cell.strip())
            self._shell.run_cell(cell)
            return
        if line.strip() == "--help":
            print(session_text())
            return
        options = parse(line, self._cells.evaluate, magic=LINE_MAGIC)
        if options.end:
            self._cells.stick(None)
        elif line.strip():
            label = self._cells.label
            self._cells.stick(self._sessions.open(options, cell=label, magic=LINE_MAGIC))
        print(f"hh: session {self._commands.session_text()}")

    # IPython shows a magic's docstring as its help.
    hh.__doc__ = hh_text()
    hh_session.__doc__ = session_text()
