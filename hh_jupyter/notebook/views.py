"""From a cell's output, or from any rows, to what a display is given."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

from hh_jupyter.display.said import what_was_said
from hh_jupyter.display.view import CellView, Detail
from hh_jupyter.notebook.cell_output import CellOutput
from hh_jupyter.notebook.delivery_words import Notices
from hh_jupyter.notebook.session_export import export_of_cell
from hh_jupyter.notebook.sessions import Sessions
from hh_jupyter.notebook.stored_sessions import KnownSession
from hh_jupyter.records import cost
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.records.log import SpanLog
from hh_jupyter.records.record import SpanDetails, SpanRecord
from hh_jupyter.records.totals import summarize
from hh_jupyter.records.tree import SpanTree
from hh_jupyter.settings import Settings

if TYPE_CHECKING:
    from hh_jupyter.notebook.running import RunningCell


class Views:
    """What the outputs of a kernel show now.

    Args:
        sessions: of the notebook, for their titles.
        log: rows and their details.
        arrived: how many spans of a cell's run there were, also of those that are no longer kept.
    """

    def __init__(self, sessions: Sessions, log: SpanLog, arrived: Callable[[str], int]) -> None:
        self._sessions, self._tracer, self._log = sessions, sessions.tracer, log
        self._arrived = arrived
        self._notices = Notices(sessions.tracer)

    def drawn(self, output: CellOutput) -> CellView:
        """The view as its static forms show it, with what spans said, if that is to be in it."""
        settings = self._tracer.settings
        view = self.view(output)
        detail = output.detail or cast("Detail", settings.saved_detail)
        said, unsaid = what_was_said(view.tree, detail, self._log.details)
        return dataclasses.replace(view, detail=detail, said=said, unsaid=unsaid, linked=settings.saved_link)

    def view(self, output: CellOutput) -> CellView:
        """Everything about one output, decided before anything is drawn."""
        if output.fixed is not None:
            return dataclasses.replace(output.fixed, export=self.export(output))
        records = self._log.records(cell=output.key)
        tree = SpanTree.build(records, survived_ns=output.survived_ns)
        export = self.export(output)
        session_id = tree.roots[-1].record.session_id if tree.roots else None
        return CellView(
            view_id=output.view_id,
            label=output.label,
            tree=tree,
            totals=summarize(records),
            export=export,
            session_name=self._sessions.title(session_id),
            session_id=session_id,
            session_url=session_url(self._tracer.settings, session_id) if export.destination else None,
            raised=output.raised,
            interrupted=output.interrupted,
            late=output.late,
            notice=self._notices.of(output, export, overdue=output.overdue),
            mode=output.mode,
            max_rows=self._tracer.settings.display_rows,
            forgotten=max(0, self._arrived(output.key) - len(tree.nodes)),
            errors_only=output.errors_only,
            asked=output.asked,
        )

    def export(self, output: CellOutput) -> ExportState:
        """What became of its spans."""
        return output.export() if output.export is not None else export_of_cell(output.key, self._tracer)

    def running(self, cell: RunningCell, rows: Sequence[SpanRecord], now_ns: int) -> CellView:
        """What a cell that still runs has done so far.

        Args:
            cell: which.
            rows: of what has ended and what runs, at least one.
            now_ns: Unix nanoseconds.
        """
        tree, settings = SpanTree.build(rows, now_ns=now_ns), self._tracer.settings
        session_id = tree.roots[-1].record.session_id
        return CellView(
            view_id=cell.view_id,
            label=cell.frame.label,
            tree=tree,
            totals=summarize(rows),
            export=export_of_cell(cell.frame.key, self._tracer),
            session_name=self._sessions.title(session_id),
            session_id=session_id,
            running=True,
            mode=cell.frame.show or settings.display,
            max_rows=settings.display_rows,
        )

    def details(self, output: CellOutput, span_id: int) -> tuple[SpanRecord, SpanDetails | None] | None:
        """A span of an output, and what its row leaves out, as far as that is kept."""
        record = next((row for row in self._rows(output) if row.span_id == span_id), None)
        return None if record is None else (record, self._log.details(record))

    def _rows(self, output: CellOutput) -> Sequence[SpanRecord]:
        if output.fixed is not None:
            return [node.record for node in output.fixed.tree.nodes]
        return self._log.records(cell=output.key)


def fixed_view(
    rows: Sequence[SpanRecord],
    settings: Settings,
    *,
    view_id: str,
    label: str,
    export: ExportState,
    session: KnownSession | None = None,
    errors_only: bool = False,
    forgotten: int = 0,
    file: str | None = None,
) -> CellView:
    """An opened view of spans that are not those of one cell.

    Args:
        rows: at least one.
        settings: in force.
        view_id: id of the output's element in the page.
        label: what to type after `%hh show` for the same again.
        export: what became of them.
        session: theirs, if they are those of one.
        errors_only: show only what failed.
        forgotten: spans that belong to them and are no longer kept.
        file: path of the file that they were read from.
    """
    if any(cost.needs_table(row.facts) for row in rows):
        cost.load()  # Nobody changes this output later.
    session_id = session.id if session is not None else None
    return CellView(
        view_id=view_id,
        label=label,
        tree=SpanTree.build(rows),
        totals=summarize(rows),
        export=export,
        session_name=session.title if session is not None else None,
        session_id=session_id,
        session_url=session_url(settings, session_id) if export.destination else None,
        mode="tree",
        max_rows=settings.display_rows,
        forgotten=forgotten,
        errors_only=errors_only,
        asked=True,
        origin="Read from file" if file is not None else None,
        file=file,
    )


def session_url(settings: Settings, session_id: str | None) -> str | None:
    """Address of a session's page in the web application, if it is known."""
    template = settings.app_url
    return template.replace("{session_id}", quote(session_id, safe="")) if template and session_id else None
