"""From a cell's output, or from any records, to what a display is given."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, cast
from urllib.parse import quote

from hh_jupyter.display.content import Detail, what_was_said
from hh_jupyter.display.view import CellView
from hh_jupyter.notebook.cells import CellFrame
from hh_jupyter.notebook.sessions import SHORT_ID, KnownSession, Sessions, export_of, export_of_cell
from hh_jupyter.notebook.status import Notices
from hh_jupyter.records import prices as price_table
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.records.log import SpanLog
from hh_jupyter.records.record import SpanDetails, SpanRecord
from hh_jupyter.records.totals import summarize
from hh_jupyter.records.tree import SpanTree
from hh_jupyter.settings import Settings

# One run of a cell as far as its output is concerned: names, how it ended, what it shows.

_DOM_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class OutputState(NamedTuple):
    """What an output's picture depends on.

    Attributes:
        spans: how many have arrived.
        export: what became of them.
        prices: they are known.
        overdue: as in `CellOutput`.
        changes: number of changes to its spans by late events.
    """

    spans: int
    export: ExportState
    prices: bool
    overdue: bool
    changes: int


@dataclass(slots=True, eq=False)
class CellOutput:
    """What is shown for one run of a cell; equal to nothing but itself.

    Attributes:
        key: of the cell's run, on its spans.
        display_id: what updates are addressed to; unlike `view_id` never used twice.
        ended_ok_ns: when the cell had ended without an exception, in Unix nanoseconds; None if one left it.
        late: spans that ended after the cell.
        overdue: the wait after the cell ended before all was delivered.
        changes: number of changes to its spans by late events.
        place: of an output that is still to be shown, under a cell that ended without spans.
        state: what the last drawing showed at least; unequal to now when there is something to change.
        fixed: of an output that is no cell's: what it shows. Its spans stay the same, what became of them does not.
        export: tells what became of them.
        asked: shown by a command, and not by itself.
        detail: how much of what spans said is in it, if the command says; else the setting does.
        errors_only: only what failed is shown.
        told: of one that a widget of its own shows, and nothing else: told when there is something new. Any thread.
    """

    key: str
    label: str
    view_id: str
    display_id: str
    mode: str
    raised: bool = False
    interrupted: bool = False
    ended_ok_ns: int | None = None
    late: int = 0
    overdue: bool = False
    changes: int = 0
    place: object = None
    state: OutputState | None = None
    fixed: CellView | None = None
    export: Callable[[], ExportState] | None = None
    asked: bool = False
    detail: Detail | None = None
    errors_only: bool = False
    told: Callable[[str], None] | None = None

    def end(self, ended_ns: int, *, raised: bool, interrupted: bool) -> None:
        """The cell has ended, at this moment in Unix nanoseconds."""
        self.raised, self.interrupted = raised, interrupted
        self.ended_ok_ns = None if raised else ended_ns

    def end_like(self, other: CellOutput) -> None:
        """This one is of the same run as another."""
        self.raised, self.interrupted = other.raised, other.interrupted
        self.ended_ok_ns, self.late = other.ended_ok_ns, other.late


def view_id_of(cell_id: str | None, label: str) -> str:
    """The output's id in the page: the cell's own id, so that running it again does not change the saved file.

    Some front ends use a whole URL as the id of a cell; those are hashed.
    """
    if cell_id is None:
        return f"hh-{label}"
    safe = cell_id if _DOM_ID.fullmatch(cell_id) else hashlib.blake2s(cell_id.encode(), digest_size=6).hexdigest()
    return f"hh-{safe}"


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
        tree = SpanTree.build(records, ended_ok_ns=output.ended_ok_ns)
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
    if any(price_table.needs_table(row.facts) for row in rows):
        price_table.load()  # Nobody changes this output later.
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


# Spans of whole sessions, for places in the page that ask for one: the data points in the table of a run.

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


@dataclass(frozen=True, slots=True)
class RunningCell:
    """A cell whose body runs.

    Attributes:
        began: by the monotonic clock, in seconds.
    """

    frame: CellFrame
    view_id: str
    began: float
