"""Build the `CellView` that a display draws: of a cell's output, of a running cell, or of any records."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast
from urllib.parse import quote

from hh_jupyter.display.content import Detail, collect_content
from hh_jupyter.display.delta import RunDelta, clock, run_delta
from hh_jupyter.display.preview import previews
from hh_jupyter.display.view import CellView, Limit, Notice, choose_rows, rows_of
from hh_jupyter.export.finalize import redactor_of
from hh_jupyter.notebook.cells import CellFrame
from hh_jupyter.notebook.places import Place
from hh_jupyter.notebook.sessions import SHORT_ID, KnownSession, NotebookSessions, export_of, export_of_cell
from hh_jupyter.notebook.status import Notices, stop_notice
from hh_jupyter.records import prices as price_table
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.records.log import SpanLog
from hh_jupyter.records.record import RecordedEvent, SpanDetails, SpanError, SpanRecord, span_error
from hh_jupyter.records.totals import summarize
from hh_jupyter.records.tree import Ending, SpanTree
from hh_jupyter.redaction import Redactor, RedactorWithFunction
from hh_jupyter.settings import Settings, display_settings
from hh_jupyter.threads import evict_oldest
from hh_jupyter.tracing.runs import run_history
from hh_jupyter.tracing.span_store import detail_store
from hh_jupyter.tracing.spans import exception_attributes
from hh_jupyter.values import text_of

if TYPE_CHECKING:
    from hh_jupyter.notebook.diffs import Pair

MAX_COMPARED: Final = 2_000
"""Spans of a run that is compared with the run before by itself; `%hh diff` compares larger ones."""

_DOM_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class OutputState(NamedTuple):
    """The state that an output shows; when it changes, the output has to be drawn again.

    Attributes:
        spans: number of spans so far.
        export: their export state.
        prices: the price table is loaded.
        overdue: as in `CellOutput`.
        changes: as in `CellOutput`.
        delta: as in `CellOutput`.
        variants: number of calls that were made again.
    """

    spans: int
    export: ExportState
    prices: bool
    overdue: bool
    changes: int
    delta: RunDelta | None = None
    variants: int = 0


@dataclass(slots=True, eq=False)
class CellOutput:
    """An output: of one run of a cell, or of a fixed set of spans. Compared by identity.

    Attributes:
        key: key of the cell's run, as its spans carry it; empty for a fixed set of spans.
        label: number of the cell, or the argument of `%hh show` that shows the same again.
        view_id: id of the element in the page; stays the same when the cell is run again.
        display_id: addresses updates; unlike `view_id` never reused.
        mode: value of the setting `display` for this output.
        place: where it is shown; None if it cannot be.
        raised: the cell ended with an exception.
        interrupted: that exception was a KeyboardInterrupt.
        ending: how the cell ended.
        late: number of spans that ended after the cell.
        overdue: the wait after the cell ended before all spans were exported.
        changes: number of changes to its spans by late events.
        shown: it is displayed.
        state: state at the last drawing.
        fixed: view of a fixed set of spans; their export state may still change.
        export: returns the export state of a fixed set of spans.
        asked: shown by a command.
        detail: how much span content to include; None: as the setting says.
        errors_only: show only spans in error and their ancestors.
        limit: how much of its limit the session had used when the cell ended; other cells may share it.
        refusal: the notice that requests were refused, because no recording answers them.
        unrecorded: number of these requests.
        delta: what changed since the run before; None if nothing did, there was none, or it is not known yet.
        compared: number of spans and of changes when it was last compared with the run before.
        pair: what it compares, if it shows a difference.
        begin_replay: lets the recording of the cell hold again in the current context, and returns what has an
            `end()`; None without a recording.
        on_change: for an output that a `SpanView` widget shows: called with `view_id` on every change, on any thread.
    """

    key: str
    label: str
    view_id: str
    display_id: str
    mode: str
    place: Place | None = None
    raised: bool = False
    interrupted: bool = False
    ending: Ending | None = None
    late: int = 0
    overdue: bool = False
    changes: int = 0
    shown: bool = False
    state: OutputState | None = None
    fixed: CellView | None = None
    export: Callable[[], ExportState] | None = None
    asked: bool = False
    detail: Detail | None = None
    errors_only: bool = False
    limit: tuple[Limit, Notice | None] | None = None
    refusal: Notice | None = None
    unrecorded: int = 0
    delta: RunDelta | None = None
    compared: tuple[int, int] | None = None
    pair: Pair | None = None
    begin_replay: Callable[[], Any] | None = None
    on_change: Callable[[str], None] | None = None

    def end_like(self, other: CellOutput) -> None:
        """Copy how and when the cell ended from another output of the same run."""
        self.raised, self.interrupted = other.raised, other.interrupted
        self.ending, self.late, self.limit = other.ending, other.late, other.limit
        self.refusal, self.unrecorded = other.refusal, other.unrecorded


def view_id_of(cell_id: str | None, label: str) -> str:
    """Return the id of an output's element in the page.

    It is made of the cell's id, so that running the cell again does not change the id in the saved notebook. Some front
    ends use a URL as the id of a cell; those are hashed.
    """
    if cell_id is None:
        return f"hh-{label}"
    safe = cell_id if _DOM_ID.fullmatch(cell_id) else hashlib.blake2s(cell_id.encode(), digest_size=6).hexdigest()
    return f"hh-{safe}"


class Views:
    """Builds the current views of outputs.

    Args:
        sessions: sessions of the notebook, for their titles.
        log: records of this kernel and their details.
        span_count: returns the number of spans of a cell's run, including those that the log has evicted.
        variants: returns the number of calls of a cell's run that were made again.
    """

    def __init__(
        self,
        sessions: NotebookSessions,
        log: SpanLog,
        span_count: Callable[[str], int],
        variants: Callable[[str], int],
    ) -> None:
        self._sessions, self._tracer, self._log = sessions, sessions.tracer, log
        self._span_count, self._variants = span_count, variants
        self._notices = Notices(sessions.tracer)
        self._refused: dict[str, int] = {}

    def static_view(self, output: CellOutput) -> CellView:
        """Return the view for static rendering, with span content as far as it is to be included."""
        settings = display_settings()
        view = self.view(output)
        detail = output.detail or cast("Detail", settings.saved_detail)
        content, omitted = collect_content(view.tree, detail, self._log.details)
        view = dataclasses.replace(view, detail=detail, content=content, content_omitted=omitted)
        if detail != "summary":
            shown = [row.node.record for row in choose_rows(rows_of(view), view.max_rows)]
            view = dataclasses.replace(view, previews=previews(shown, detail_store().load_all))
        return dataclasses.replace(view, linked=settings.saved_link)

    def view(self, output: CellOutput) -> CellView:
        """Return the view of an output."""
        if output.fixed is not None:
            return dataclasses.replace(output.fixed, export=self.export(output))
        records = self._log.records(cell=output.key)
        tree = SpanTree.build(records, ending=output.ending)
        export = self.export(output)
        session_id = tree.roots[-1].record.session_id if tree.roots else None
        notice = self._notices.notice_for(output, export, overdue=output.overdue)
        output.limit = output.limit or self._limit(session_id, ended=True)
        limit, stop = output.limit or (None, None)
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
            revision=2 * output.changes + price_table.ready(),
            notice=stop or output.refusal or notice,
            limit=limit,
            unrecorded=output.unrecorded,
            mode=output.mode,
            max_rows=display_settings().display_rows,
            evicted=max(0, self._span_count(output.key) - len(tree.nodes)),
            errors_only=output.errors_only,
            content_requested=output.asked,
            delta=output.delta,
            variants=self._variants(output.key),
        )

    def _limit(self, session_id: str | None, *, ended: bool = False) -> tuple[Limit, Notice | None] | None:
        """Return the limit of a session, and a notice if it stopped a call since the last cell.

        Args:
            ended: the cell has ended: what is refused from now on is not its.
        """
        budget = self._tracer.sessions.budget(session_id)
        if budget is None:
            return None
        from hh_jupyter.recordings.limit import share, used  # Late: where nothing is limited, it is not needed.

        by, key = budget.stopped_by or budget, session_id or ""
        refused = budget.refused - self._refused.get(key, 0)
        if ended:
            self._refused[key] = budget.refused
        limit = Limit(used=used(by), share=share(by), spent=by.spent, stopped=refused > 0)
        return limit, stop_notice(by, refused) if refused else None

    def delta(self, output: CellOutput) -> RunDelta | None:
        """Compare the run of a cell with the run before; None if nothing changed, or one of them is not kept."""
        from hh_jupyter.records.diff import TreeDiff  # Most cells are run once.

        history = run_history()
        runs = history.until(output.key)
        if len(runs) < 2 or self._span_count(output.key) > MAX_COMPARED:
            return None
        before = runs[-2]
        old, new = history.records(before), history.records(runs[-1])
        if not old or not new or len(old) > MAX_COMPARED:
            return None
        trees = SpanTree.build(old), SpanTree.build(new, ending=output.ending)
        against = f"run {before.number} of this cell, {clock(trees[0].start_ns, trees[1].start_ns)}"
        return run_delta(TreeDiff(*trees, detail_store().load_all), against, f"%hh diff {output.label}")

    def ending(self, ended_ns: int, error: BaseException | None, of_threads: Sequence[BaseException]) -> Ending:
        """Return how a cell ended, with its exceptions as far as a view needs them.

        Args:
            ended_ns: when it ended, in Unix nanoseconds.
            error: the exception that left it.
            of_threads: exceptions that ended threads which it had started.
        """
        if error is None and not of_threads:
            return Ending(ended_ns)
        redactor = redactor_of(self._tracer.settings)
        errors = tuple(_error_of(one, redactor) for one in of_threads)
        return Ending(ended_ns, None if error is None else _error_of(error, redactor), errors)

    def export(self, output: CellOutput) -> ExportState:
        """Return the export state of an output's spans."""
        return output.export() if output.export is not None else export_of_cell(output.key, self._tracer)

    def running(self, cell: RunningCell, records: Sequence[SpanRecord], now_ns: int) -> CellView:
        """Return the view of a running cell.

        Args:
            cell: the running cell.
            records: records of its ended and open spans, at least one.
            now_ns: current time in Unix nanoseconds.
        """
        tree, settings = SpanTree.build(records, now_ns=now_ns), display_settings()
        session_id = tree.roots[-1].record.session_id
        limit, stop = self._limit(session_id) or (None, None)
        return CellView(
            view_id=cell.view_id,
            label=cell.frame.label,
            tree=tree,
            totals=summarize(records),
            export=export_of_cell(cell.frame.key, self._tracer),
            session_name=self._sessions.title(session_id),
            session_id=session_id,
            running=True,
            limit=limit,
            notice=stop,
            mode=cell.frame.show or settings.display,
            max_rows=settings.display_rows,
        )

    def details(self, output: CellOutput, span_id: int) -> tuple[SpanRecord, SpanDetails | None] | None:
        """Return a span of an output, and its details if they are still kept; None if the output has no such span."""
        record = next((record for record in self.records(output) if record.span_id == span_id), None)
        return None if record is None else (record, self._log.details(record))

    def records(self, output: CellOutput) -> Sequence[SpanRecord]:
        """Return the records of an output's spans."""
        if output.fixed is not None:
            return [node.record for node in output.fixed.tree.nodes]
        return self._log.records(cell=output.key)


def _error_of(error: BaseException, redactor: Redactor | RedactorWithFunction) -> SpanError:
    """Describe an exception like that of a span, redacted in the same way."""
    try:
        attributes, _ = redactor.attributes(exception_attributes(error, text_of(error)))
    except Exception:  # boundary: reading a user's exception may raise.
        attributes = {}
    events = [RecordedEvent("exception", 0, attributes)]
    return span_error({}, events, None) or SpanError(type(error).__name__, "")


def fixed_view(
    records: Sequence[SpanRecord],
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
    """Return an expanded view of a fixed set of spans.

    Args:
        records: at least one.
        settings: current settings of the tracer.
        view_id: id of the output's element in the page.
        label: argument of `%hh show` that shows the same again.
        export: export state of the spans.
        session: their session, if they are the spans of one.
        errors_only: show only spans in error and their ancestors.
        forgotten: number of spans that would be included but were evicted from the log.
        file: path of the file that they were read from.
    """
    if any(price_table.needs_table(record.facts) for record in records):
        price_table.load()  # Now, since no update follows.
    session_id = session.id if session is not None else None
    return CellView(
        view_id=view_id,
        label=label,
        tree=SpanTree.build(records),
        totals=summarize(records),
        export=export,
        session_name=session.title if session is not None else None,
        session_id=session_id,
        session_url=session_url(settings, session_id) if export.destination else None,
        mode="tree",
        max_rows=display_settings().display_rows,
        evicted=forgotten,
        errors_only=errors_only,
        content_requested=True,
        source="Read from file" if file is not None else None,
        file=file,
    )


def session_url(settings: Settings, session_id: str | None) -> str | None:
    """Return the URL of a session's page in the web application; None if it is not known."""
    template = settings.app_url
    return template.replace("{session_id}", quote(session_id, safe="")) if template and session_id else None


# Views of whole sessions, requested by elements of the page: the data points in the table of an experiment run.

SESSION_VIEW_PREFIX: Final = "hh-session-"
"""Such a view id is this prefix, the session id, and a suffix where a page shows one session several times."""

_UUID_LENGTH: Final = 36
MAX_SESSION_VIEWS: Final = 50


class SessionViews:
    """Builds the views of sessions on request, from the records in memory.

    Args:
        sessions: sessions of the notebook.
        log: records of this kernel.
    """

    def __init__(self, sessions: NotebookSessions, log: SpanLog) -> None:
        self._tracer, self._log = sessions.tracer, log
        self._outputs: dict[str, CellOutput] = {}

    def output(self, view_id: str) -> CellOutput | None:
        """Return the output for a view id; None if it is not a session's or the log has no records of the session."""
        if not view_id.startswith(SESSION_VIEW_PREFIX):
            return None
        found = self._outputs.get(view_id)
        if found is None and (found := self._create(view_id)) is not None:
            self._outputs[view_id] = found
            evict_oldest(self._outputs, MAX_SESSION_VIEWS)
        return found

    def _create(self, view_id: str) -> CellOutput | None:
        session_id = view_id.removeprefix(SESSION_VIEW_PREFIX)[:_UUID_LENGTH]
        records = self._log.records(session_id=session_id)
        if not records:
            return None
        tracer, label = self._tracer, session_id[:SHORT_ID]
        view = fixed_view(records, tracer.settings, view_id=view_id, label=label, export=export_of(records, tracer))
        output = CellOutput("", label, view_id, view_id, view.mode)
        output.fixed, output.export = view, lambda: export_of(records, tracer)
        return output


@dataclass(frozen=True, slots=True)
class RunningCell:
    """A cell that has not ended.

    Attributes:
        frame: the cell.
        view_id: id that its output will have.
        started: start by the monotonic clock, in seconds.
    """

    frame: CellFrame
    view_id: str
    started: float
