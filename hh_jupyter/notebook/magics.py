"""The magics `%hh` and `%hh_session`. Magics print; the Python functions behind them return values."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand

from hh_jupyter import threads
from hh_jupyter.display.format import count
from hh_jupyter.notebook.cells import Cells
from hh_jupyter.notebook.completion import Suggestions
from hh_jupyter.notebook.config import Login, log_in
from hh_jupyter.notebook.guard import failure_lines
from hh_jupyter.notebook.instrument import Instrumentors
from hh_jupyter.notebook.listen import Listener
from hh_jupyter.notebook.outputs import Outputs
from hh_jupyter.notebook.parser import (
    HELP_FLAGS,
    LINE_MAGIC,
    HHParser,
    session_parser,
    split,
    split_text,
)
from hh_jupyter.notebook.session_magic import parse, run_body
from hh_jupyter.notebook.sessions import SHORT_ID, NotebookSessions, SessionStore, sessions_text
from hh_jupyter.notebook.show import ShowCommand
from hh_jupyter.notebook.status import disk_lines, load_line, status_text, tracing_off
from hh_jupyter.notebook.transfer import Scope, clear, open_session, save, send
from hh_jupyter.records.selection import LAST, SelectionError
from hh_jupyter.settings import display_settings
from hh_jupyter.tracing.span_store import span_log

if TYPE_CHECKING:
    from hh_jupyter.notebook.replay import Replay


class Commands:
    """The commands of `%hh`.

    Args:
        shell: the InteractiveShell.
        sessions, outputs, cells, instrumentors, login, listener: the parts of the extension that the commands act on.
        set_trait: sets and applies a trait of the configuration.
        use_key: reconfigures the tracer with an API key.
        replay: returns the recordings of the kernel, which are loaded then.
    """

    def __init__(
        self,
        shell: Any,
        sessions: NotebookSessions,
        outputs: Outputs,
        cells: Cells,
        instrumentors: Instrumentors,
        login: Login,
        listener: Listener,
        set_trait: Callable[[str, Any], None],
        use_key: Callable[[str], None],
        replay: Callable[[], Replay],
    ) -> None:
        self._shell, self._sessions, self._outputs, self._cells = shell, sessions, outputs, cells
        self._instrumentors, self._login, self._listener = instrumentors, login, listener
        self._set_trait, self._use_key, self._replay = set_trait, use_key, replay
        self._store = SessionStore(sessions, span_log())
        self.suggestions = Suggestions(sessions, self._store, outputs, instrumentors, lambda: replay().names())
        self.show_command = ShowCommand(sessions, outputs, cells, self._store)
        self._by_name: dict[str, Callable[[Namespace], None]] = {
            "status": self._status,
            "instrument": self._instrument,
            "show": self._show,
            "diff": self._diff,
            "edit": self._edit,
            "find": self._find,
            "sessions": self._list_sessions,
            "send": self._send,
            "save": self._save,
            "clear": self._clear,
            "listen": self._listen,
            "login": self._log_in,
            "display": self._display,
            "replay": self._replay_calls,
            "on": self._on,
            "off": self._off,
            "open": self._open,
            "help": self._help,
        }

    @cached_property
    def _parser(self) -> HHParser:
        return HHParser(self._cells.evaluate)  # With the first command: it takes a millisecond.

    def run(self, line: str) -> None:
        """Run one command.

        Args:
            line: the command and its arguments; an empty line means `status`.

        Raises:
            UsageError: the line is invalid or the command cannot be run.
        """
        first, _, text = line.strip().partition(" ")
        name, *words = [first, *split_text(text)] if first == "find" else split(line, "%hh") or ["status"]
        name = "help" if name in HELP_FLAGS else name
        command = self._parser.command(name)
        if HELP_FLAGS.intersection(words):
            print(command.format_help())
        else:
            self._by_name[name](command.parse(words))

    def session_text(self) -> str:
        """The current session's title and short id."""
        session_id = self._sessions.tracer.current_session_id
        title = self._sessions.title(session_id) or "-"
        return f"{title} {session_id[:SHORT_ID]}" if session_id else title

    def _status(self, line: Namespace) -> None:
        tracer = self._sessions.tracer
        known = self._store.all()
        text = status_text(
            tracer.settings,
            tracer.export_state(),
            session=self.session_text(),
            traced=self._instrumentors.names,
            disk=disk_lines(tracer.spool, known),
            all_settings=line.all,
            joins=tracer.provider_binding.uses_foreign_provider,
            exported_elsewhere=tracer.exported_elsewhere,
            listening=self._listener.state(),
            trouble=[*filter(None, [threads.problem()]), *failure_lines()],
        )
        print(text)

    def _instrument(self, line: Namespace) -> None:
        if line.list:
            print(self._instrumentors.listed())
        elif line.off:
            print(self._instrumentors.switch_off(line.words))
        else:
            print(self._instrumentors.switch_on(line.words))
            if (settings := self._sessions.tracer.settings).disable_tracing:
                print(tracing_off(settings), "%hh on")

    def _show(self, line: Namespace) -> None:
        message = self.show_command.show(line.word, errors_only=line.errors, detail=line.detail)
        if message:
            print(message)

    def _edit(self, line: Namespace) -> None:
        from hh_jupyter.notebook.edit import EditCommand

        self._sessions.tracer.wait_processed()
        print(EditCommand(self._shell, self._outputs, self._cells).edit(line.word))

    def _find(self, line: Namespace) -> None:
        from hh_jupyter.notebook.find import FindCommand

        text = " ".join(line.words)
        if not text.strip():
            raise UsageError("%hh find: expected a text. Example: %hh find parcel")
        command = FindCommand(self._sessions, self._outputs, self._cells, self._store)
        if message := command.find(text, errors_only=line.errors, on_disk=line.all):
            print(message)

    def _diff(self, line: Namespace) -> None:
        from hh_jupyter.span_diff import compare

        try:
            found = compare(line.old, line.new, line.detail)
        except SelectionError as error:
            raise UsageError(f"%hh diff: {error}") from None
        if self._outputs.in_terminal:
            print(found)
        else:
            self.show_command.show_diff(found, line.new or line.old or LAST)

    def _list_sessions(self, line: Namespace) -> None:
        if line.words:
            print(sessions_text(self._store.matching(line.words, "sessions"), each=True))
        else:
            print(sessions_text(self._store.all()))

    def _send(self, line: Namespace) -> None:
        scope = Scope(line.others, confirmed=line.yes)
        print(send(line.words, self._sessions.tracer, self._store, scope))
        self._outputs.refresh()

    def _save(self, line: Namespace) -> None:
        print(save([line.word, *line.words], self._store, replace=line.force, others=line.others))

    def _clear(self, line: Namespace) -> None:
        scope = Scope(line.others, confirmed=line.yes)
        print(clear(line.words, self._sessions.tracer, self._store, scope))

    def _listen(self, line: Namespace) -> None:
        try:
            print(self._listener.close() if line.word else self._listener.open())
        except (OSError, RuntimeError) as error:
            raise UsageError(f"%hh listen: cannot listen on 127.0.0.1: {error}") from None

    def _log_in(self, line: Namespace) -> None:
        if line.key:
            raise UsageError(
                "%hh login: type the key at the prompt; in a cell it would stay in the notebook and its history."
            )
        print(log_in(self._login, self._sessions.tracer, self._use_key, save=line.save, forget=line.forget))

    def _display(self, line: Namespace) -> None:
        if line.mode:
            self._set_trait("display", line.mode)
        print(f"hh: display {display_settings().display}")

    def _replay_calls(self, line: Namespace) -> None:
        replay = self._replay()
        if line.yes and not line.prune:
            raise UsageError("%hh replay: --yes is an answer to the question of --prune.")
        if line.prune and line.mode:
            raise UsageError("%hh replay: --prune cannot be combined with a mode.")
        if line.prune:
            print(replay.prune(confirmed=line.yes))
        elif line.mode:
            self._set_trait("replay", line.mode)
            replay.apply()
            print(replay.describe_mode())
        else:
            print(replay.listing())

    def _on(self, _: Namespace) -> None:
        self._set_trait("disable_tracing", False)
        tracer = self._sessions.tracer
        print(
            load_line(
                tracer.settings, tracer.destination, tracer.session_name, exported_elsewhere=tracer.exported_elsewhere
            )
        )

    def _off(self, _: Namespace) -> None:
        waiting = self._sessions.tracer.export_state().waiting
        self._set_trait("disable_tracing", True)
        still = f" {count(waiting, 'span')} from before can still be sent." if waiting else ""
        print(
            f"hh: tracing is off: no spans are recorded or sent.{still} %hh on resumes; %hh display off only hides "
            "outputs."
        )

    def _open(self, line: Namespace) -> None:
        tracer = self._sessions.tracer
        selected = self._store.find(line.word, "open").id if line.word else tracer.current_session_id
        print(open_session(selected, tracer, in_terminal=self._outputs.in_terminal))

    def _help(self, line: Namespace) -> None:
        print((self._parser.command(line.command) if line.command else self._parser).format_help())


@magics_class
class HHMagics(Magics):
    """The magics as IPython registers them.

    Args:
        shell: the InteractiveShell.
        cells, sessions: used by `%hh_session`.
        commands: run by `%hh`.
    """

    NAMES: Final = {"line": ("hh", "hh_session"), "cell": ("hh_session",)}

    def __init__(self, shell: Any, cells: Cells, sessions: NotebookSessions, commands: Commands) -> None:
        super().__init__(shell)
        self._shell = shell
        self._cells = cells
        self._sessions = sessions
        self._commands = commands

    @no_var_expand
    @line_magic
    def hh(self, line: str) -> None:
        """Show and control the tracing of this notebook; `%hh?` explains the commands."""
        self._commands.run(line)

    @no_var_expand
    @line_cell_magic
    def hh_session(self, line: str, cell: str | None = None) -> Any:
        """Record the spans of one cell, or of all cells from here on, in a session."""
        __tracebackhide__ = True  # IPython leaves this frame out of the user's traceback.
        if cell is not None:
            # Only for code that calls the magic by name: a typed `%%hh_session` has been rewritten.
            with self._cells.body():
                self._cells.enter(line, blank=not cell.strip())
                return run_body(self._shell, cell, self._cells.label)
        if line.strip() in HELP_FLAGS:
            print(session_parser().format_help())
            return None
        options = parse(line, self._cells.evaluate, magic=LINE_MAGIC)
        if options.end:
            self._cells.set_notebook_session(None)
        elif line.strip():
            label = self._cells.label
            self._cells.set_notebook_session(self._sessions.open(options, cell=label, magic=LINE_MAGIC))
        print(f"hh: session {self._commands.session_text()}")
        return None


# IPython's `?` asks a magic for its help by this name, so the parsers are made when they are needed.
vars(HHMagics.hh)["getdoc"] = lambda: HHParser().format_help()
vars(HHMagics.hh_session)["getdoc"] = lambda: session_parser().format_help()
