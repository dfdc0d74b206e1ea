"""Which spans are meant: those of a cell, of a session, all of this kernel, those of no cell, or those of a file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from IPython.core.error import UsageError

from hh_jupyter.errors import SpanFileError
from hh_jupyter.notebook.outputs import Outputs
from hh_jupyter.notebook.session_export import export_of
from hh_jupyter.notebook.sessions import Sessions
from hh_jupyter.notebook.stored_sessions import KnownSession, SessionStore
from hh_jupyter.notebook.words import quoted
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
        return Selection(label, rows, lambda: export_of(rows, tracer), forgotten=log.forgotten if label == ALL else 0)
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
    from hh_jupyter.delivery.sealing.batch import redactor_of
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
