"""`%hh show`: spans once more, opened, below the cell that asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from IPython.core.error import UsageError

from hh_jupyter.display.format import count
from hh_jupyter.display.view import Detail
from hh_jupyter.notebook.cell_output import view_id_of
from hh_jupyter.notebook.cells import Cells
from hh_jupyter.notebook.magic_table import DETAILS
from hh_jupyter.notebook.outputs import Outputs
from hh_jupyter.notebook.selection import Selection, select
from hh_jupyter.notebook.sessions import Sessions
from hh_jupyter.notebook.stored_sessions import SessionStore
from hh_jupyter.notebook.views import fixed_view


class Shows:
    """Shows what is named.

    Args:
        sessions, outputs, cells, store: of this kernel.
    """

    def __init__(self, sessions: Sessions, outputs: Outputs, cells: Cells, store: SessionStore) -> None:
        self._sessions, self._outputs, self._cells, self._store = sessions, outputs, cells, store

    def show(self, label: str, *, errors_only: bool = False, detail: str | None = None) -> str | None:
        """Show the spans of a cell, a session, this kernel, no cell or a file.

        Args:
            label: see `selection.select`.
            errors_only: only what failed, and the spans that lead to it.
            detail: how much of what they said is in it; None leaves it to the setting.

        Returns:
            one line to be said instead, where there is nothing to show.

        Raises:
            UsageError: there are no such spans, or no such detail.
        """
        if detail not in (None, *DETAILS):
            raise UsageError(f"%hh show: --detail must be one of {', '.join(DETAILS)}; got {detail}.")
        wanted = cast("Detail | None", detail)
        chosen = self.select(label)
        if errors_only and not chosen.failed:
            return f"hh: no errors in {chosen.words}, {count(len(chosen.rows), 'span')}."
        view_id = f"{view_id_of(self._cells.cell_id, self._cells.label)}-shows-{chosen.dom_id}"
        if chosen.cell is not None:
            self._outputs.show_again(chosen.cell, view_id, detail=wanted, errors_only=errors_only)
        else:
            self._show_fixed(chosen, view_id, errors_only=errors_only, detail=wanted)
        return None

    def select(self, label: str) -> Selection:
        """The spans that a word names; see `selection.select`."""
        return select(label, "show", self._outputs, self._store, self._sessions)

    def hold(self, chosen: Selection, view_id: str, *, errors_only: bool, told: Callable[[str], None]) -> Outputs:
        """Keep a view for a widget of its own; the outputs that keep it, and answer its questions.

        Args:
            chosen: the spans.
            view_id: names the view from now on.
            errors_only: see `show`.
            told: called with `view_id` when there is something new, on any thread.
        """
        if chosen.cell is not None:
            self._outputs.show_again(chosen.cell, view_id, errors_only=errors_only, told=told)
        else:
            self._show_fixed(chosen, view_id, errors_only=errors_only, detail=None, told=told)
        return self._outputs

    def _show_fixed(
        self,
        chosen: Selection,
        view_id: str,
        *,
        errors_only: bool,
        detail: Detail | None,
        told: Callable[[str], None] | None = None,
    ) -> None:
        view = fixed_view(
            chosen.rows,
            self._sessions.tracer.settings,
            view_id=view_id,
            label=chosen.label,
            export=chosen.export(),
            session=chosen.session,
            errors_only=errors_only,
            forgotten=chosen.forgotten,
            file=chosen.file,
        )
        interactive = self._cells.cell_id is not None
        self._outputs.show_rows(view, chosen.export, interactive=interactive, detail=detail, told=told)
