"""`%hh` and `%hh_session`: parse, then call. A magic shows, Python returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand
from traitlets import TraitError

from hh_jupyter.notebook.cell_output import view_id_of
from hh_jupyter.notebook.cells import Cells
from hh_jupyter.notebook.instrument import Instrumentors
from hh_jupyter.notebook.options import did_you_mean, parse, split
from hh_jupyter.notebook.outputs import Outputs
from hh_jupyter.notebook.sessions import Sessions
from hh_jupyter.notebook.status import status_text
from hh_jupyter.settings import TABLE

SHORT_ID: Final = 8


@magics_class
class HHMagics(Magics):
    """The magics of this package.

    Args:
        shell: the InteractiveShell.
        set_trait: sets a trait of the configuration and applies it; may raise TraitError.
        cells, sessions, outputs, instrumentors: what the magics act on.
    """

    NAMES: Final = {"line": ("hh", "hh_session"), "cell": ("hh_session",)}

    def __init__(
        self,
        shell: Any,
        set_trait: Callable[[str, Any], None],
        cells: Cells,
        sessions: Sessions,
        outputs: Outputs,
        instrumentors: Instrumentors,
    ) -> None:
        super().__init__(shell)
        self._shell = shell
        self._set_trait = set_trait
        self._cells = cells
        self._sessions = sessions
        self._outputs = outputs
        self._instrumentors = instrumentors
        self._commands: dict[str, Callable[[list[str]], None]] = {
            "status": self._status,
            "instrument": self._instrument,
            "show": self._show,
            "display": self._display,
        }

    @no_var_expand
    @line_magic
    def hh(self, line: str) -> None:
        """See and steer the tracing of this notebook.

        Examples::

            %hh                       what is in force, where each value came from, what was sent
            %hh instrument            trace the LLM libraries that are installed
            %hh show 4                the spans of cell 4 again

        Commands::

            status                    the same as %hh alone
            instrument [NAME ...]     trace the named libraries; alone, every one whose instrumentor is installed
            show [CELL | last]        show the spans of a cell again, opened; alone, of the last one with spans
            display [MODE]            auto opens an output on an error, line never, tree always, off shows nothing
        """
        words = split(line, "%hh")
        command = words[0] if words else "status"
        if command not in self._commands:
            raise UsageError(f"%hh: unknown command {command}. {did_you_mean(command, self._commands)}")
        self._commands[command](words[1:])

    @no_var_expand
    @line_cell_magic
    def hh_session(self, line: str, cell: str | None = None) -> None:
        """Put the spans of one cell (%%hh_session), or of all cells from here on (%hh_session), into a session.

        Examples::

            %%hh_session refund-triage --metadata team=support --input ticket={ticket}
            %%hh_session --join last
            %hh_session refund-triage

        Options::

            NAME                  name of a new session; without one, the notebook's name and the cell's number
            --join ID|NAME|last   continue a session instead
            --id UUID             the new session's id
            --input K=V           inputs of the session; may be repeated. K={expr} takes the object itself
            --metadata K=V        the same for its metadata
            --user ID|K=V         user id or user property
            --source S            where the code runs, for this session
            --show MODE           how this cell's output is shown: auto, line, tree or off
            --end                 %hh_session only: back to the notebook's session
        """
        if cell is not None:
            # Only code that runs the magic by name comes here: a typed `%%hh_session` was rewritten before.
            self._cells.enter(line, blank=not cell.strip())
            self._shell.run_cell(cell)
            return
        options = parse(line, self._cells.evaluate, magic="%hh_session")
        if options.end:
            self._cells.stick(None)
        elif line.strip():
            label = self._cells.label
            self._cells.stick(self._sessions.open(options, cell=label, magic="%hh_session"))
        print(f"hh: session {self._session_text()}")

    def _status(self, words: list[str]) -> None:
        self._none_of("status", words)
        tracer = self._sessions.tracer
        tracer.seal()
        text = status_text(
            tracer.settings,
            tracer.export_state(),
            session=self._session_text(),
            traced=self._instrumentors.names,
        )
        print(text)

    def _instrument(self, words: list[str]) -> None:
        print(self._instrumentors.switch_on(words))

    def _show(self, words: list[str]) -> None:
        label = words[0] if words else "last"
        self._none_of("show", words[1:])
        self._sessions.tracer.seal()
        try:
            self._outputs.show_again(label, self._view_id(label))
        except KeyError:
            cells = ", ".join(self._outputs.labels())
            known = f"Cells with spans: {cells}." if cells else "No cell has spans yet."
            which = "any cell" if label == "last" else f"cell {label}"
            raise UsageError(f"%hh: no spans for {which}. {known}") from None

    def _display(self, words: list[str]) -> None:
        self._none_of("display", words[1:])
        if words:
            try:
                self._set_trait("display", words[0])
            except TraitError:
                raise UsageError(f"%hh display: {words[0]} must be {TABLE['display'].rule.says}.") from None
        print(f"hh: display {self._sessions.tracer.settings.display}")

    def _none_of(self, command: str, words: list[str]) -> None:
        if words:
            raise UsageError(f"%hh {command}: unexpected {words[0]!r}. %hh? for help")

    def _session_text(self) -> str:
        tracer, session = self._sessions.tracer, self._sessions.sticky
        session_id = session.id if session is not None else tracer.session_id
        title = self._sessions.title(session_id) or "-"
        return f"{title} {session_id[:SHORT_ID]}" if session_id else title

    def _view_id(self, label: str) -> str:
        """Of the output below the running cell; it shows another cell, which has an output of its own."""
        return f"{view_id_of(None, self._cells.label)}-shows-{label}"
