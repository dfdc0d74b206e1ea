"""`%hh` and `%hh_session`: parse, then call. A magic shows, Python returns."""

from __future__ import annotations

from typing import Any, Final

from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand

from hh_jupyter.notebook.cells import Cells
from hh_jupyter.notebook.commands import Commands
from hh_jupyter.notebook.magic_help import hh_text, session_text
from hh_jupyter.notebook.options import LINE_MAGIC, parse
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
