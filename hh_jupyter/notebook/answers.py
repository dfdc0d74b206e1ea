"""What a page is told when it asks about a view: the view, one of its spans, and what became of sending and saving."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from IPython.core.error import UsageError

from hh_jupyter.display.details import span_details
from hh_jupyter.display.media import Images
from hh_jupyter.display.python_code import python_code
from hh_jupyter.display.view import CellView
from hh_jupyter.notebook.cell_output import CellOutput
from hh_jupyter.notebook.delivery_words import sending_result
from hh_jupyter.notebook.saving import save
from hh_jupyter.notebook.session_views import SessionViews
from hh_jupyter.notebook.sessions import Sessions
from hh_jupyter.notebook.stored_sessions import SessionStore
from hh_jupyter.notebook.views import Views
from hh_jupyter.records.log import SpanLog
from hh_jupyter.records.record import SpanDetails, SpanRecord

SEND_SECONDS: Final = 2.0


class Answers:
    """Answers the hub, on any thread; see `hub.Source`.

    Args:
        sessions: of the notebook.
        log: rows of this kernel.
        views: makes the views of outputs.
        shown: the output with this view id; None if there is none.
        running: a span of a cell that runs, by view id and span id; None for any other.
        refresh: brings every output up to date soon.
    """

    def __init__(
        self,
        sessions: Sessions,
        log: SpanLog,
        views: Views,
        *,
        shown: Callable[[str], CellOutput | None],
        running: Callable[[str, int], tuple[SpanRecord, SpanDetails | None] | None],
        refresh: Callable[[], None],
    ) -> None:
        self._sessions, self._tracer, self._log = sessions, sessions.tracer, log
        self._views = views
        self._session_views = SessionViews(sessions, log)
        self._shown, self._running, self._refresh = shown, running, refresh

    def view_of(self, view_id: str) -> CellView | None:
        """The view as it is now; None for one that is not of this kernel."""
        output = self._output(view_id)
        return self._views.view(output) if output is not None else None

    def drawn(self, view_id: str) -> CellView | None:
        """The view as its static forms show it; None for one that is not of this kernel."""
        output = self._shown(view_id)
        return self._views.drawn(output) if output is not None else None

    def details(self, view_id: str, span_id: str, images: Images | None = None) -> dict[str, Any] | None:
        """Everything about one span, for the detail pane; None when it is no longer kept.

        Args:
            view_id: of the output it is shown in.
            span_id: 16 hexadecimal digits.
            images: takes the images that are drawn.
        """
        found = self._span(view_id, int(span_id, 16))
        return span_details(*found, images) if found is not None else None

    def python(self, view_id: str, span_id: str) -> str | None:
        """Code that gets a span in this kernel; None for one that is not of this kernel.

        Args:
            view_id: of the output it is shown in.
            span_id: 16 hexadecimal digits.
        """
        view, found = self.view_of(view_id), self._span(view_id, int(span_id, 16))
        return python_code(view, *found) if view is not None and found is not None else None

    def save(self, view_id: str) -> str:
        """Write the sessions that a view shows to a file beside the notebook; one sentence about where they are."""
        view = self.view_of(view_id)
        ids = {node.record.session_id for node in view.tree.nodes} - {None} if view is not None else set()
        name = time.strftime("hh-spans-%Y%m%d-%H%M%S.jsonl")
        try:
            return save([name, *sorted(map(str, ids))], SessionStore(self._sessions, self._log)).removeprefix("hh: ")
        except UsageError as error:
            return str(error)

    def send(self) -> str:
        """Try to deliver what waits; one sentence about how it went."""
        self._tracer.send_again()
        self._tracer.force_flush(int(SEND_SECONDS * 1000))
        self._refresh()
        return sending_result(self._tracer.export_state())

    def _output(self, view_id: str) -> CellOutput | None:
        return self._shown(view_id) or self._session_views.output(view_id)

    def _span(self, view_id: str, span_id: int) -> tuple[SpanRecord, SpanDetails] | None:
        """A span and what its row leaves out; None when that is no longer kept."""
        output = self._output(view_id)
        found = self._running(view_id, span_id)
        if found is None and output is not None:
            found = self._views.details(output, span_id)
        return (found[0], found[1]) if found is not None and found[1] is not None else None
