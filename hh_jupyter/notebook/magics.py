"""`%hh` and `%hh_session`: parse, then call. A magic shows, Python returns."""

from __future__ import annotations

from typing import Any, Final

from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand

from hh_jupyter.notebook.cells import Cells
from hh_jupyter.notebook.commands import Commands
from hh_jupyter.notebook.options import parse, split
from hh_jupyter.notebook.sessions import Sessions


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
    def hh(self, line: str) -> None:
        """See and steer the tracing of this notebook.

        Examples::

            %hh                       what is in force, where each value came from, what was sent, what waits
            %hh instrument            trace the LLM libraries that are installed
            %hh show 4                the spans of cell 4 again

        SESSION is a title as in `%hh sessions`, a name (in quotes if it has spaces), an id, or the first 4 or more
        characters of one. A number is a cell; a session whose name is a number is shown by its id.

        Commands::

            status                    the same as %hh alone
            instrument [NAME ...]     trace the named libraries; alone, every one whose instrumentor is installed
            show [CELL | last]        show the spans of a cell again, opened; alone, of the last one with spans
            show SESSION              those of a session; of all cells: all; of no cell: background
            sessions                  the sessions that have spans here, also those that dead kernels left on disk
            send                      try again now whatever waits or was refused
            send SESSION ... | all    the same, with what was made in local mode: it leaves this machine only if named
            save FILE [SESSION ...]   write spans as OTLP JSON lines, for other tools; alone, those of this kernel
            save FILE --force         the same, in place of a file that is there
            clear                     delete what is kept on disk, unless something of it is still to be sent
            clear SESSION ... | all   delete what these sessions keep there, or everything
            login [--save]            send from now on: takes Colab's secret HH_API_KEY, or asks; --save keeps the key
            login --forget            delete the key that was kept
            display [MODE]            auto opens an output on an error, line never, tree always, off shows nothing
        """
        self._commands.run(split(line, "%hh"))

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
        print(f"hh: session {self._commands.session_text()}")
