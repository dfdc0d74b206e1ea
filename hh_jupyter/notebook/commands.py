"""What the words after `%hh` do. Each command shows something and changes nothing else than it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from IPython.core.error import UsageError
from traitlets import TraitError

from hh_jupyter.notebook.boundary import failure_lines
from hh_jupyter.notebook.candidates import WordsOfKind
from hh_jupyter.notebook.cells import Cells
from hh_jupyter.notebook.given import Given, read
from hh_jupyter.notebook.instrument import Instrumentors
from hh_jupyter.notebook.login import Login, log_in
from hh_jupyter.notebook.magic_help import command_text, hh_text
from hh_jupyter.notebook.magic_table import BY_NAME, Command
from hh_jupyter.notebook.opening import open_session
from hh_jupyter.notebook.outputs import Outputs
from hh_jupyter.notebook.saving import save
from hh_jupyter.notebook.selection import LAST
from hh_jupyter.notebook.sending import clear, send
from hh_jupyter.notebook.session_table import sessions_text
from hh_jupyter.notebook.sessions import Sessions
from hh_jupyter.notebook.shows import Shows
from hh_jupyter.notebook.status import disk_lines, load_line, status_text
from hh_jupyter.notebook.stored_sessions import SHORT_ID, SessionStore
from hh_jupyter.notebook.words import Evaluate, Expansion, did_you_mean, split
from hh_jupyter.settings import TABLE
from hh_jupyter.tracing.recorded import span_log


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
                raise UsageError(f"%hh display: {given.words[0]} must be {TABLE['display'].rule.says}.") from None
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
