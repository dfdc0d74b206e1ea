"""The sessions that can be named in this kernel: its own, and those that dead kernels left on disk."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from IPython.core.error import UsageError

from hh_jupyter.delivery.spool.record import LOCAL
from hh_jupyter.display.clean import clean
from hh_jupyter.notebook.session_export import export_of_session
from hh_jupyter.notebook.sessions import SHORTEST_PREFIX, Sessions
from hh_jupyter.notebook.words import did_you_mean
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.records.log import SpanLog
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.tracing.recorded import detail_store

if TYPE_CHECKING:
    from hh_jupyter.delivery.spool.record import StoredSession

SHORT_ID: Final = 8
TITLE_LENGTH: Final = 40
LISTED: Final = 8
"""Titles in a message about a session that is not known, the latest."""


@dataclass(frozen=True, slots=True)
class KnownSession:
    """A session of which spans are kept, in memory or on disk.

    Attributes:
        title: how displays call it, "refund-triage #3"; of one that another kernel made, its name; else "-".
        name: without a number.
        spans: how many of it are known here.
        last: Unix seconds when the latest of them ended, or was sealed in an earlier kernel.
        here: made by this kernel.
        local: spans on disk that leave only when somebody names the session.
        waiting: spans on disk that are still to be sent.
        export: what became of its spans.
    """

    id: str
    title: str
    name: str
    spans: int
    last: float
    here: bool
    local: int
    waiting: int
    export: ExportState

    @property
    def shown_title(self) -> str:
        """The title as one short line; it may hold anything."""
        return clean(self.title, TITLE_LENGTH)

    @property
    def short_id(self) -> str:
        """Enough of the id to name it by."""
        return self.id[:SHORT_ID]

    @property
    def kept(self) -> int:
        """Spans on disk."""
        return self.local + self.waiting


class SessionStore:
    """Finds sessions and reads their spans.

    Args:
        sessions: of this notebook.
        log: rows of this kernel.
    """

    def __init__(self, sessions: Sessions, log: SpanLog) -> None:
        self._sessions, self._log = sessions, log

    def all(self) -> list[KnownSession]:
        """Every session of which spans are kept; the one with the latest span last."""
        tracer = self._sessions.tracer
        tracer.seal()
        rows: dict[str, list[SpanRecord]] = defaultdict(list)
        for row in self._log.records():
            if row.session_id:
                rows[row.session_id].append(row)
        stored: dict[str, list[StoredSession]] = defaultdict(list)
        for session in tracer.spool.sessions() if tracer.spool is not None else ():
            if session.spans and session.session_id:
                stored[session.session_id].append(session)
        found = [self._known(one, rows.get(one, ()), stored.get(one, ())) for one in {**rows, **stored}]
        return sorted(found, key=lambda session: session.last)

    def find(self, text: str, command: str) -> KnownSession:
        """The session that is meant: by title or name (its latest), id, or unique id prefix.

        Raises:
            UsageError: there is none, or an id prefix fits several.
        """
        return self._matching(text, command, self.all())[-1]

    def choose(self, words: Sequence[str], command: str) -> list[KnownSession]:
        """The sessions that are meant by words, each once; "all" means every one, "last" this kernel's latest.

        Raises:
            UsageError: there is no such session, or a word fits several: what leaves this machine, or is deleted,
                must be named exactly.
        """
        known = self.all()
        if "all" in words:
            return known
        chosen: dict[str, KnownSession] = {}
        for word in words:
            found = self._matching(word, command, known)
            if len(found) > 1:
                ids = ", ".join(session.short_id for session in found[-LISTED:])
                raise UsageError(f"%hh {command}: {word} is the name of {len(found)} sessions; say which by id: {ids}.")
            chosen[found[0].id] = found[0]
        return list(chosen.values())

    def rows(self, session: KnownSession) -> tuple[SpanRecord, ...]:
        """Its rows in the order in which the spans ended; their details can be had from the log, too."""
        rows = list(self._log.records(session_id=session.id))
        # What this kernel made and has not sent is in both places, and need not be decoded.
        if session.kept and not (session.kept == len(rows) and session.export.sent == 0):
            rows += self._rows_on_disk(session.id, {row.span_id for row in rows})
        return tuple(sorted(rows, key=lambda row: row.end_ns or 0))

    def export(self, session: KnownSession) -> ExportState:
        """What became of its spans by now; what another kernel made, and is no longer on disk, is not known here."""
        spool, rows = self._sessions.tracer.spool, self._log.records(session_id=session.id)
        if not rows:
            return session.export
        stored = [part for part in spool.sessions() if part.session_id == session.id] if spool is not None else []
        return export_of_session(rows, stored, self._sessions.tracer)

    def span_ids(self, sessions: Collection[KnownSession] | None) -> set[int]:
        """Of the spans that this kernel made, of these sessions or all."""
        return {row.span_id for row in self._own_rows(sessions)}

    def bodies(self, sessions: Collection[KnownSession] | None) -> list[bytes]:
        """The encoded spans of these sessions, None for all that this kernel made; the same span may come twice.

        What was sent and is no longer in memory is missing.
        """
        spool, rows = self._sessions.tracer.spool, self._own_rows(sessions)
        ids = [session.id for session in sessions] if sessions is not None else [row.session_id or "" for row in rows]
        stored = [body for one in dict.fromkeys(ids) for body in spool.bodies(one)] if spool is not None else []
        return [*stored, *detail_store().bodies(row.span_id for row in rows)]

    def _own_rows(self, sessions: Collection[KnownSession] | None) -> tuple[SpanRecord, ...]:
        self._sessions.tracer.seal()
        ids = None if sessions is None else {session.id for session in sessions}
        return tuple(row for row in self._log.records() if ids is None or row.session_id in ids)

    def _rows_on_disk(self, session_id: str, known: set[int]) -> list[SpanRecord]:
        from hh_jupyter.delivery.sealing.stored_spans import records_of  # Loads protobuf.

        spool = self._sessions.tracer.spool
        found: list[SpanRecord] = []
        for body in spool.bodies(session_id) if spool is not None else ():
            new = [row for row in records_of(body) if row.span_id not in known]
            if new:
                detail_store().add(body, [row.span_id for row in new])
                known.update(row.span_id for row in new)
                found += new
        return found

    def _known(self, session_id: str, rows: Sequence[SpanRecord], stored: Sequence[StoredSession]) -> KnownSession:
        local = sum(part.spans for part in stored if part.destination == LOCAL)
        waiting = sum(part.spans for part in stored) - local
        named = next((part.name for part in stored if part.name), "-")
        title = self._sessions.title(session_id)
        ended = [(row.end_ns or row.start_ns) / 1e9 for row in rows] + [part.last for part in stored]
        export = export_of_session(rows, stored, self._sessions.tracer)
        return KnownSession(
            id=session_id,
            title=title or named,
            name=self._sessions.name(session_id) or named,
            spans=max(len(rows), export.sent + local + waiting),
            last=max(ended),
            here=bool(rows) or title is not None,
            local=local,
            waiting=waiting,
            export=export,
        )

    def _matching(self, text: str, command: str, known: Sequence[KnownSession]) -> list[KnownSession]:
        if text == "last" and (here := [session for session in known if session.here]):
            return here[-1:]
        # The first of several is called like all of them, so `#1` is how it is told from the others.
        if (first := text.removesuffix(" #1")) != text and (named := [one for one in known if one.title == first]):
            return named
        if named := [session for session in known if text in (session.title, session.name)]:
            return named
        prefix = text.lower()
        found = [session for session in known if session.id.startswith(prefix)] if len(text) >= SHORTEST_PREFIX else []
        if len(found) == 1:
            return found
        if found:
            ids = ", ".join(session.id for session in found[-LISTED:])
            raise UsageError(f"%hh {command}: {text} begins the ids of {len(found)} sessions: {ids}.")
        titles = list(dict.fromkeys(session.shown_title for session in known if session.title != "-"))[-LISTED:]
        hint = did_you_mean(text, titles) if titles else "No session has spans here yet."
        raise UsageError(f"%hh {command}: no session {text}. {hint}")
