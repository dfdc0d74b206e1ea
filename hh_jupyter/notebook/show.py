"""`%hh show`: select spans by cell, session or file, and show them."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from IPython.core.error import UsageError

from hh_jupyter.display.content import Detail
from hh_jupyter.display.format import clean, count
from hh_jupyter.display.html import output_html
from hh_jupyter.errors import SpanFileError
from hh_jupyter.export.finalize import redactor_of
from hh_jupyter.notebook.cells import Cells
from hh_jupyter.notebook.outputs import Outputs
from hh_jupyter.notebook.parser import quoted
from hh_jupyter.notebook.sessions import TITLE_LENGTH, KnownSession, NotebookSessions, SessionStore, export_of
from hh_jupyter.notebook.views import fixed_view, view_id_of
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.records.selection import ALL, BACKGROUND, LAST, SelectionError, cell_number, no_cell, no_run, steps_back
from hh_jupyter.settings import Settings
from hh_jupyter.tracing.runs import run_history
from hh_jupyter.tracing.span_store import Selected, span_log

if TYPE_CHECKING:
    from hh_jupyter.span_diff import SpanDiff

FILE_SUFFIXES: Final = (".json", ".jsonl", ".otlp", ".gz", ".html", ".htm")
"""An argument with one of these endings, or with a path separator, is a file and not a session."""

_SEPARATORS: Final = tuple(filter(None, ("/", os.sep, os.altsep)))


@dataclass(frozen=True, slots=True)
class Selection:
    """Selected spans.

    Attributes:
        label: argument of `%hh show` that selects them again.
        records: at least one.
        export: returns their current export state.
        session: their session, if they are the spans of one.
        cell: number of their cell, if they are the spans of one.
        forgotten: number of spans that would be included but were evicted from the log.
        file: path of their file, if they were read from one.
        run: number of the cell's run, if an earlier kernel made it.
        note: one line if the label also names a session, which was not selected; else empty.
    """

    label: str
    records: Sequence[SpanRecord]
    export: Callable[[], ExportState]
    session: KnownSession | None = None
    cell: str | None = None
    forgotten: int = 0
    file: str | None = None
    run: str | None = None
    note: str = ""

    @property
    def dom_id(self) -> str:
        """The label as part of an HTML id. Paths are hashed."""
        if self.run is not None:
            return self.label.replace("~", "-before-")
        return self.label if self.file is None else hashlib.blake2s(self.file.encode(), digest_size=6).hexdigest()

    @property
    def description(self) -> str:
        """What was selected, for messages. Example: "cell 4"."""
        if self.cell is not None:
            return f"cell {self.cell}"
        return (
            self.session.shown_title if self.session is not None else {ALL: "this kernel"}.get(self.label, self.label)
        )

    @property
    def has_errors(self) -> bool:
        """Whether one of the spans has an error."""
        return any(record.status == "error" for record in self.records)


def select(label: str, command: str, outputs: Outputs, store: SessionStore, sessions: NotebookSessions) -> Selection:
    """Return the spans that a label selects.

    Args:
        label: number of a cell, "last", "all", "background", a session, or a file of OTLP JSON; after a cell or a
            session, `~1` is the run before. A number is a
            session, or the beginning of its id, if no cell with it has spans. A label that looks like a path is a
            file; any other is a file if that exists and no session has the name.
        command: name of the command, for messages.
        outputs: outputs of this kernel, for the cells that have spans.
        store: finds sessions.
        sessions: sessions of the notebook.

    Raises:
        UsageError: there is no such cell, session or file, or it has no spans.
    """
    tracer, log = sessions.tracer, span_log()
    tracer.wait_processed()
    path = os.path.expanduser(label)  # noqa: PTH111  # An unknown home folder must not raise, nor a long name below.
    if is_file_name(label) and os.path.exists(path):  # noqa: PTH110
        return _of_file(label, command, tracer.settings)
    if label in (ALL, BACKGROUND):
        records = [record for record in log.records() if label == ALL or record.cell is None]
        if not records:
            raise UsageError(f"%hh {command}: no spans {'yet' if label == ALL else 'outside cells'}.")
        note = _note(label, "this kernel" if label == ALL else "the spans outside cells", sessions, store)
        forgotten = log.evicted if label == ALL else 0
        return Selection(label, records, lambda: export_of(records, tracer), forgotten=forgotten, note=note)
    base, back = steps_back(label)
    if back and (key := outputs.cells.run(base)) is not None:
        return _of_run(key, back, label, command, sessions, store)
    cell = outputs.cells.resolve(label)
    if cell is not None:
        number, own = cell, outputs.cells.records(cell)
        note = _note(label, f"cell {number}", sessions, store)
        return Selection(label, own, lambda: export_of(own, tracer), cell=number, note=note)
    if base == LAST or (base.isdecimal() and not (store.named(base) or store.named(label))):
        raise UsageError(f"%hh {command}: {no_cell(base, outputs.cells.labels())}")
    try:
        session = store.find(label, command)
    except UsageError:
        if is_file_name(label) or os.path.isfile(path):  # noqa: PTH113
            return _of_file(label, command, tracer.settings)
        raise
    records = list(store.records(session))
    if not records:
        raise UsageError(f"%hh {command}: cannot read the spans of {session.shown_title}: they have been deleted.")
    return Selection(session.short_id, records, lambda: store.export(session), session=session)


def _of_run(
    key: str, back: int, label: str, command: str, sessions: NotebookSessions, store: SessionStore
) -> Selection:
    """Return the spans of an earlier run of a cell: of this kernel, or of an earlier one, from disk."""
    history = run_history()
    runs = history.until(key)
    if back >= len(runs):
        raise UsageError(f"%hh {command}: {no_run(label, len(runs))}")
    run = runs[-1 - back]
    own = history.records(run)
    if not own:
        why = "have been deleted" if run.stored else "are no longer in memory"
        raise UsageError(f"%hh {command}: the spans of {label}, run {run.number} of the cell, {why}.")
    if not run.stored:
        return Selection(run.number, own, lambda: export_of(own, sessions.tracer), cell=run.number)
    known = {session.id: session for session in store.all()}
    of = next((known[record.session_id] for record in own if record.session_id in known), None)
    export = ExportState(None, made=len(own))
    label = f"{cell_number(key)}~{back}"
    return Selection(label, own, lambda: of.export if of is not None else export, run=run.number)


def is_file_name(text: str) -> bool:
    """Whether a text looks like a path: it has a path separator or a suffix of span files."""
    return text.lower().endswith(FILE_SUFFIXES) or any(separator in text for separator in _SEPARATORS)


def _note(label: str, shown: str, sessions: NotebookSessions, store: SessionStore) -> str:
    """Return how to show the session that a label also names; empty if it names none."""
    if label == LAST and label not in sessions.titles.values():
        return ""  # What `%hh show` alone means; do not read the disk for it.
    if not (named := store.named(label)):
        return ""
    return f"hh: showing {shown}. For session {clean(label, TITLE_LENGTH)}: %hh show {named[-1].id}"


def _of_file(path: str, command: str, settings: Settings) -> Selection:
    from hh_jupyter.otlp_files.foreign_spans import read_file

    try:
        records = read_file(path, redactor_of(settings))
    except OSError as error:
        raise UsageError(f"%hh {command}: {path} cannot be read ({error.strerror or error}).") from None
    except SpanFileError as error:
        raise UsageError(f"%hh {command}: {error}.") from None
    if not records:
        raise UsageError(f"%hh {command}: {path} holds no spans.")
    return Selection(quoted(path), records, lambda: ExportState(None, made=len(records)), file=path)


class ShowCommand:
    """`%hh show`, and the views of `SpanView` widgets.

    Args:
        sessions: sessions of the notebook.
        outputs: shows the spans.
        cells: knows the running cell.
        store: finds sessions.
    """

    def __init__(self, sessions: NotebookSessions, outputs: Outputs, cells: Cells, store: SessionStore) -> None:
        self._sessions, self._outputs, self._cells, self._store = sessions, outputs, cells, store

    def show(self, label: str, *, errors_only: bool = False, detail: Detail | None = None) -> str | None:
        """Show spans, expanded, below the running cell.

        Args:
            label: see `select`.
            errors_only: show only spans in error and their ancestors.
            detail: how much span content to include; None: as the setting says.

        Returns:
            A message to print, if there is nothing to show or the label also names a session.

        Raises:
            UsageError: there are no such spans.
        """
        selection = self.select(label)
        if errors_only and not selection.has_errors:
            none = f"hh: no errors in {selection.description}, {count(len(selection.records), 'span')}."
            return "\n".join(filter(None, (none, selection.note)))
        view_id = f"{view_id_of(self._cells.cell_id, self._cells.label)}-shows-{selection.dom_id}"
        if selection.cell is not None:
            self._outputs.show_again(selection.cell, view_id, detail=detail, errors_only=errors_only)
        else:
            self._show_fixed(selection, view_id, errors_only=errors_only, detail=detail)
        return selection.note or None

    @property
    def cell_id(self) -> str | None:
        """The running cell's id in the notebook; None in a headless run."""
        return self._cells.cell_id

    def select(self, label: str) -> Selection:
        """Return the spans that a label selects; see the function `select`."""
        return select(label, "show", self._outputs, self._store, self._sessions)

    def select_to_compare(self, label: str) -> Selected:
        """Return the spans that a label selects, for `diff`.

        Raises:
            SelectionError: there are no such spans, or not all of them are kept.
        """
        try:
            found = select(label, "diff", self._outputs, self._store, self._sessions)
        except UsageError as error:
            raise SelectionError(str(error).removeprefix("%hh diff: ")) from None
        if found.cell is not None and not span_log().is_complete(self._outputs.cells.key(found.cell)):
            raise SelectionError(f"some spans of run {found.cell} are no longer in memory, so it cannot be compared.")
        run = found.cell or found.run
        return Selected(found.records, f"run {run}" if run else found.description, found.cell or found.label)

    def show_diff(self, diff: SpanDiff, label: str) -> None:
        """Show a difference below the running cell.

        Args:
            diff: the difference.
            label: selects the new spans.
        """
        from hh_jupyter.notebook.diffs import Pair  # Late, like the difference itself.

        tracer = self._sessions.tracer
        old, new = (tuple(node.record for node in tree.nodes) for tree in (diff.old, diff.new))
        view = fixed_view(
            new,
            tracer.settings,
            view_id=f"{view_id_of(self._cells.cell_id, self._cells.label)}-diff",
            label=label,
            export=export_of(new, tracer),
        )
        data = diff._repr_mimebundle_()
        data["text/html"] = output_html(view.view_id, data["text/html"])
        self._outputs.show_diff(
            data,
            Pair(diff.titles, (old, new)),
            dataclasses.replace(view, shows_diff=True),
            lambda: export_of(new, tracer),
            interactive=self._cells.cell_id is not None,
        )

    def add_widget_view(
        self, selection: Selection, view_id: str, *, errors_only: bool, on_change: Callable[[str], None]
    ) -> Outputs:
        """Keep the view of a `SpanView` widget up to date; return the outputs that serve its requests.

        Args:
            selection: the spans.
            view_id: id of the view.
            errors_only: see `show`.
            on_change: called with `view_id` on every change, on any thread.
        """
        if selection.cell is not None:
            self._outputs.want_hub(interactive=self._cells.cell_id is not None)
            self._outputs.show_again(selection.cell, view_id, errors_only=errors_only, on_change=on_change)
        else:
            self._show_fixed(selection, view_id, errors_only=errors_only, detail=None, on_change=on_change)
        return self._outputs

    def _show_fixed(
        self,
        selection: Selection,
        view_id: str,
        *,
        errors_only: bool,
        detail: Detail | None,
        on_change: Callable[[str], None] | None = None,
    ) -> None:
        view = fixed_view(
            selection.records,
            self._sessions.tracer.settings,
            view_id=view_id,
            label=selection.label,
            export=selection.export(),
            session=selection.session,
            errors_only=errors_only,
            forgotten=selection.forgotten,
            file=selection.file,
        )
        interactive = self._cells.cell_id is not None
        self._outputs.show_records(view, selection.export, interactive=interactive, detail=detail, on_change=on_change)
