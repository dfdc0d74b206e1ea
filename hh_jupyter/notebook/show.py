"""`%hh show`: which spans are meant, and their view once more."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, cast

from IPython.core.error import UsageError

from hh_jupyter.delivery.sealing.batch import redactor_of
from hh_jupyter.display.content import Detail
from hh_jupyter.display.format import count
from hh_jupyter.errors import SpanFileError
from hh_jupyter.notebook.cells import Cells
from hh_jupyter.notebook.outputs import Outputs
from hh_jupyter.notebook.parser import DETAILS, quoted
from hh_jupyter.notebook.sessions import KnownSession, Sessions, SessionStore, export_of
from hh_jupyter.notebook.views import fixed_view, view_id_of
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.settings import Settings
from hh_jupyter.tracing.recorded import span_log

LAST: Final = "last"
ALL: Final = "all"
BACKGROUND: Final = "background"
FILE_SUFFIXES: Final = (".json", ".jsonl", ".otlp", ".gz")
"""A word with one of these endings, or with a path separator, is a file and not a session."""

_SEPARATORS: Final = tuple(filter(None, ("/", os.sep, os.altsep)))


@dataclass(frozen=True, slots=True)
class Selection:
    """Spans that were named.

    Attributes:
        label: names them again.
        rows: at least one.
        export: tells what became of them, then and later.
        session: theirs, if they are those of one.
        cell: number of the cell, if they are those of one.
        forgotten: spans that would belong to them and are no longer kept.
        file: path of the file, if they are those of one.
    """

    label: str
    rows: Sequence[SpanRecord]
    export: Callable[[], ExportState]
    session: KnownSession | None = None
    cell: str | None = None
    forgotten: int = 0
    file: str | None = None

    @property
    def dom_id(self) -> str:
        """The label as part of an HTML id; a path is hashed."""
        return self.label if self.file is None else hashlib.blake2s(self.file.encode(), digest_size=6).hexdigest()

    @property
    def words(self) -> str:
        """What they are, for a sentence. Example: "cell 4"."""
        if self.cell is not None:
            return f"cell {self.cell}"
        return (
            self.session.shown_title if self.session is not None else {ALL: "this kernel"}.get(self.label, self.label)
        )

    @property
    def failed(self) -> bool:
        """One of them has an error."""
        return any(row.status == "error" for row in self.rows)


def select(label: str, command: str, outputs: Outputs, store: SessionStore, sessions: Sessions) -> Selection:
    """The spans that a word names.

    Args:
        label: number of a cell, "last", "all", "background", a session, or a file of OTLP JSON. A word that
            looks like a path is a file; another one is a file if it exists and no session has that name.
        command: that asks, for the messages.

    Raises:
        UsageError: there are none, or no such cell, session or file.
    """
    tracer, log = sessions.tracer, span_log()
    tracer.seal()
    path = os.path.expanduser(label)  # noqa: PTH111  # A home that is not known must not raise, nor a long name below.
    if is_file_name(label) and os.path.exists(path):  # noqa: PTH110
        return _of_file(label, command, tracer.settings)
    if label in (ALL, BACKGROUND):
        rows = [row for row in log.records() if label == ALL or row.cell is None]
        if not rows:
            raise UsageError(f"%hh {command}: no spans {'yet' if label == ALL else 'outside cells'}.")
        return Selection(label, rows, lambda: export_of(rows, tracer), forgotten=log.evicted if label == ALL else 0)
    cell = outputs.cells.named(label)
    if cell is not None:
        number, own = cell, outputs.cells.rows(cell)
        return Selection(label, own, lambda: export_of(own, tracer), cell=number)
    if label == LAST or label.isdecimal():
        raise UsageError(f"%hh: {_no_cell(label, outputs.cells.labels())}")
    try:
        session = store.find(label, command)
    except UsageError:
        if is_file_name(label) or os.path.isfile(path):  # noqa: PTH113
            return _of_file(label, command, tracer.settings)
        raise
    rows = list(store.rows(session))
    if not rows:
        raise UsageError(f"%hh {command}: the spans of {session.shown_title} cannot be read any more.")
    return Selection(session.short_id, rows, lambda: store.export(session), session=session)


def is_file_name(text: str) -> bool:
    """A text looks like a path: it has a separator of folders or a suffix of files with spans."""
    return text.lower().endswith(FILE_SUFFIXES) or any(separator in text for separator in _SEPARATORS)


def _of_file(path: str, command: str, settings: Settings) -> Selection:
    from hh_jupyter.delivery.sealing.foreign_spans import read_file

    try:
        rows = read_file(path, redactor_of(settings))
    except OSError as error:
        raise UsageError(f"%hh {command}: {path} cannot be read ({error.strerror or error}).") from None
    except SpanFileError as error:
        raise UsageError(f"%hh {command}: {error}.") from None
    if not rows:
        raise UsageError(f"%hh {command}: {path} holds no spans.")
    return Selection(quoted(path), rows, lambda: ExportState(None, made=len(rows)), file=path)


def _no_cell(label: str, labels: Sequence[str]) -> str:
    known = f"Cells with spans: {', '.join(labels)}." if labels else "No cell has spans yet."
    return f"no spans for {'any cell' if label == LAST else f'cell {label}'}. {known}"


# `%hh show`: spans once more, opened, below the cell that asks.


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
            label: see `select`.
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
        """The spans that a word names; see `select`."""
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
