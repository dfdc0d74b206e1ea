"""The traces on this machine, read from outside of the kernels: sessions, spans and runs in the folder of the spool.

Files of running kernels are read as well, up to their latest ended span. Every span is redacted again when it is read,
with the settings of the environment. A reader neither changes what a kernel has written nor delays it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hh_jupyter.display.format import clean, span_name
from hh_jupyter.experiments.local_runs import LocalRun, stored_runs
from hh_jupyter.export.finalize import redactor_of
from hh_jupyter.export.spool import Spool, StoredSession
from hh_jupyter.export.spool_folder import LOCAL, Trouble, unlisted
from hh_jupyter.otlp_files.foreign_spans import rows_of_requests
from hh_jupyter.records.calls import key_of
from hh_jupyter.records.record import ForeignRecord, SpanDetails, SpanRecord
from hh_jupyter.records.selection import (
    LAST,
    Candidate,
    SelectionError,
    cell_number,
    choose,
    did_you_mean,
    latest_run,
    matching,
    no_cell,
    no_run,
    runs_until,
    steps_back,
)
from hh_jupyter.settings import resolve

MAX_BYTES: Final = 32 * 1024 * 1024
"""Encoded spans that one call reads, the latest first; the others are counted."""

WHY: Final[Mapping[Trouble, str]] = {
    "busy": "locked by another process, ask again",
    "broken": "damaged",
    "version": "of another version of hh_jupyter, or of another program",
}
"""Why a file was not read."""

TITLE_LENGTH: Final = 40
SHORT_ID: Final = 8
_HEX: Final = re.compile(r"[0-9a-fA-F]{8,16}")


@dataclass(frozen=True, slots=True)
class TracedSession:
    """A session that has spans on disk.

    Attributes:
        name: as the user gave it; several sessions may share it. "-" if it is not stored.
        last: Unix seconds when its latest span was stored.
        living: a running process is adding spans, or may.
        local: none of its spans is going to be sent by itself.
        unsent: number of spans that have not been sent.
    """

    id: str
    name: str
    spans: int
    last: float
    living: bool
    local: bool
    unsent: int

    @property
    def names(self) -> tuple[str, ...]:
        """The name, if it is stored."""
        return () if self.name == "-" else (self.name,)

    @property
    def short_id(self) -> str:
        """The first characters of the id, which select the session again."""
        return self.id[:SHORT_ID]


@dataclass(frozen=True, slots=True)
class Selected:
    """The spans that a text selects.

    Attributes:
        label: selects them again, and holds nothing that a user or a program has written. Example: "1f0c93aa/4".
        records: by start; at least one.
        cells: numbers of the cells with spans in the session, by their first span.
        left_out: number of older groups of spans that were not read.
    """

    session: TracedSession
    label: str
    records: Sequence[SpanRecord]
    cells: Sequence[str]
    left_out: int = 0

    @property
    def title(self) -> str:
        """The session's name, and the cell if one is selected."""
        _, _, cell = self.label.partition("/")
        return clean(self.session.name, TITLE_LENGTH) + (f", cell {cell}" if cell else "")


class Traces:
    """Reads what is on this machine. Each instance reads the disk anew; use it on one thread, for one answer."""

    def __init__(self) -> None:
        settings = resolve({})
        self._spool = Spool(Path(settings.spool_dir) if settings.spool_dir else None, read_only=True)
        self._redactor = redactor_of(settings)
        self._sessions: list[TracedSession] | None = None

    @property
    def unread(self) -> Mapping[str, int]:
        """Number of files that could not be read, by the reason."""
        return Counter(WHY.get(trouble, "not to be opened") for trouble in self._spool.unread.values())

    def redacted(self, text: str) -> str:
        """Return a text without secrets."""
        return self._redactor.text(text)[0]

    def sessions(self) -> list[TracedSession]:
        """Return all sessions that have spans, by their latest span."""
        if self._sessions is None:
            parts: dict[str, list[StoredSession]] = {}
            for part in self._spool.sessions(living=True):
                if part.spans and part.session_id:
                    parts.setdefault(part.session_id, []).append(part)
            self._sessions = sorted((self._session(one, some) for one, some in parts.items()), key=lambda one: one.last)
        return self._sessions

    def _session(self, session_id: str, parts: Sequence[StoredSession]) -> TracedSession:
        return TracedSession(
            id=session_id,
            name=self.redacted(next((part.name for part in parts if part.name), "-")),
            spans=sum(part.spans for part in parts),
            last=max(part.last for part in parts),
            living=any(part.living for part in parts),
            local=all(part.destination == LOCAL for part in parts),
            unsent=sum(part.unsent for part in parts),
        )

    def session(self, text: str) -> TracedSession:
        """Return the session that is meant: "last" or "", a name (the latest), an id or its beginning; `~1` goes back.

        Raises:
            SelectionError: there is none, or several ids begin with the text.
        """
        known, text = self.sessions(), text or LAST
        if not known and (problem := unlisted(self._spool.directory)):
            raise SelectionError(f"{self._spool.directory} cannot be read ({problem}).")
        if not known:
            hint = "Notebooks keep their spans there, and programs with HH_SPOOL=1."
            raise SelectionError(f"there are no sessions with spans in {self._spool.directory}. {hint}")
        base, back = steps_back(text)
        if LAST in (text, base) and not matching(text, known):
            if back >= len(known):
                raise SelectionError(f"no session {text}: there are {len(known)} sessions.")
            return known[-1 - back]
        return choose(text, known, lambda name: clean(name, TITLE_LENGTH))[-1]

    def select(self, text: str) -> Selected:
        """Return the spans of a session or, for `SESSION/CELL`, of the latest run of a cell in it; `~1` goes back.

        Raises:
            SelectionError: there are no such spans.
        """
        try:
            session, cell = self.session(text), ""
        except SelectionError:
            base, slash, cell = text.rpartition("/")
            if not (slash and base and cell):
                raise
            session = self.session(base)
        records, left_out = self.records(session.id)
        keys = list(dict.fromkeys(record.cell for record in records if record.cell is not None))
        numbers = list(dict.fromkeys(map(cell_number, keys)))
        if not cell:
            if not records:
                raise SelectionError(f"the spans of session {session.short_id} have been deleted, or cannot be read.")
            return Selected(session, session.short_id, records, numbers, left_out)
        run = latest_run(cell, keys)
        if run is None:
            number, back = steps_back(cell)
            base_run = latest_run(number, keys) if back else None
            missing = no_cell(cell, numbers) if base_run is None else no_run(cell, len(runs_until(base_run, keys)))
            raise SelectionError(f"session {session.short_id}: {missing}")
        own = [record for record in records if record.cell == run]
        return Selected(session, f"{session.short_id}/{cell_number(run)}", own, numbers, left_out)

    def records(
        self,
        session_id: str | None = None,
        may_match: Callable[[bytes], bool] = lambda _: True,
    ) -> tuple[list[SpanRecord], int]:
        """Return spans by start, and how many older groups of spans were left out.

        Args:
            session_id: of this session; None for all.
            may_match: tells of encoded spans whether to read them.
        """
        rows, left_out = self._spool.search(may_match, MAX_BYTES, session_id, living=True)
        requests = [(row.body, row.cell) for row in reversed(rows)]
        return rows_of_requests(requests, self._redactor, may_match), left_out

    def span(self, text: str, session: str = "") -> SpanRecord:
        """Return the span that is meant by its id, by 8 or more of its first digits, or by its name in a session.

        Args:
            text: what the user typed.
            session: a session or a cell in it, see `select`; by default all for an id, and the last one for a name.

        Raises:
            SelectionError: there is no such span, or several ids begin with the text.
        """
        records = self.select(session).records if session else self._with_id(text)
        found = [record for record in records if f"{record.span_id:016x}".startswith(text.lower())] if text else []
        if len({one.span_id for one in found}) > 1 and _HEX.fullmatch(text):
            raise SelectionError(f"ambiguous span id {text}: {', '.join(f'{one.span_id:016x}' for one in found[-8:])}.")
        if found and _HEX.fullmatch(text):
            return found[-1]
        records = self.select(session or LAST).records
        if named := [record for record in records if text in (record.name, span_name(record.name))]:
            return named[-1]
        names = dict.fromkeys(span_name(record.name) for record in records)
        raise SelectionError(f"no span {text} in session {session or LAST}. {did_you_mean(text, names, 8)}")

    def _with_id(self, text: str) -> list[SpanRecord]:
        if not _HEX.fullmatch(text):
            return []
        start = bytes.fromhex(text[: len(text) // 2 * 2])
        return self.records(may_match=lambda encoded: start in encoded)[0]

    def details(self, records: Sequence[SpanRecord]) -> dict[tuple[int, int], SpanDetails]:
        """Return attributes and events of records by trace and span id, redacted."""
        found = {}
        for record in records:
            details = record.source.details(record) if isinstance(record, ForeignRecord) else None
            if details is not None:
                found[key_of(record)] = details
        return found

    def runs(self) -> list[LocalRun]:
        """Return the experiment runs on disk, the latest last: those of local mode that have not been sent."""
        document = self._redactor.document
        found = stored_runs(self._spool, living=True)
        return [LocalRun(document(run.made), document(run.ended), document(run.result)) for run in found]

    def run(self, text: str) -> LocalRun:
        """Return the run that is meant: "last", a name (the latest), an id or its beginning; `~1` goes back.

        Raises:
            SelectionError: there is none, or several ids begin with the text.
        """
        runs = self.runs()
        if not runs:
            raise SelectionError("there are no experiment runs on this machine. Runs are kept here in local mode only.")
        if text in (LAST, ""):
            return runs[-1]
        try:
            found = choose(text, [Candidate(one.id, one.names) for one in runs], lambda name: clean(name, TITLE_LENGTH))
        except SelectionError as error:
            raise SelectionError(str(error).replace("session", "run", 1)) from None
        return next(one for one in runs if one.id == found[-1].id)
