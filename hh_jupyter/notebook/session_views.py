"""Spans of whole sessions, for places in the page that ask for one: the data points in the table of a run."""

from __future__ import annotations

from typing import Final

from hh_jupyter.notebook.cell_output import CellOutput
from hh_jupyter.notebook.session_export import export_of
from hh_jupyter.notebook.sessions import Sessions
from hh_jupyter.notebook.stored_sessions import SHORT_ID
from hh_jupyter.notebook.views import fixed_view
from hh_jupyter.records.log import SpanLog

PREFIX: Final = "hh-session-"
"""Id of such a place: this, the session's id, and maybe more, where a page shows one session in several places."""

_UUID_LENGTH: Final = 36
REMEMBERED: Final = 50


class SessionViews:
    """Makes them when they are asked for, from the rows that are in memory.

    Args:
        sessions: of the notebook.
        log: rows of this kernel.
    """

    def __init__(self, sessions: Sessions, log: SpanLog) -> None:
        self._tracer, self._log = sessions.tracer, log
        self._outputs: dict[str, CellOutput] = {}

    def output(self, view_id: str) -> CellOutput | None:
        """What is shown there; None for another kernel's session, or one whose rows are no longer kept."""
        if not view_id.startswith(PREFIX):
            return None
        found = self._outputs.get(view_id)
        if found is None and (found := self._made(view_id)) is not None:
            self._outputs[view_id] = found
            while len(self._outputs) > REMEMBERED:
                self._outputs.pop(next(iter(self._outputs)), None)
        return found

    def _made(self, view_id: str) -> CellOutput | None:
        session_id = view_id.removeprefix(PREFIX)[:_UUID_LENGTH]
        rows = self._log.records(session_id=session_id)
        if not rows:
            return None
        tracer, label = self._tracer, session_id[:SHORT_ID]
        view = fixed_view(rows, tracer.settings, view_id=view_id, label=label, export=export_of(rows, tracer))
        output = CellOutput("", label, view_id, view_id, view.mode)
        output.fixed, output.export = view, lambda: export_of(rows, tracer)
        return output
