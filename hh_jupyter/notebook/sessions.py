"""The sessions of this notebook, in memory and on disk: which is current, how they are called, what was sent."""

from __future__ import annotations

import itertools
import os
import uuid
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any, Final

from IPython.core.error import UsageError

from hh_jupyter.delivery.sealing.stamp import Session
from hh_jupyter.delivery.sealing.stored_spans import records_of
from hh_jupyter.delivery.spool.record import LOCAL, StoredSession
from hh_jupyter.display.format import clean, count
from hh_jupyter.errors import SettingError
from hh_jupyter.notebook.parser import did_you_mean
from hh_jupyter.notebook.session_magic import SessionOptions
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.records.log import SpanLog
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.tracing import registry
from hh_jupyter.tracing.recorded import detail_store
from hh_jupyter.tracing.tracer import HoneyHiveTracer

SHORTEST_PREFIX: Final = 4
RUNNERS: Final = frozenset({"jupyter-execute", "jupyter-nbconvert", "nbconvert", "nbclient", "execute"})
"""How those call themselves in a command line, with and without `jupyter` or `python -m` before it."""


@dataclass(slots=True)
class Made:
    """The sessions that were made in this kernel, whatever was loaded then.

    Attributes:
        titles: by id, in order. Titles of repeated names are numbered: "refund-triage #3".
        by_id: the same sessions.
        runs: how often each name was used.
        start_up: names of tracers' own sessions, by id.
    """

    titles: dict[str, str] = field(default_factory=dict)
    by_id: dict[str, Session] = field(default_factory=dict)
    runs: Counter[str] = field(default_factory=Counter)
    start_up: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Sessions:
    """State of the session magics, a plain object: context variables do not survive cells reliably.

    Attributes:
        notebook: what it is called; the name of sessions that get no other.
        sticky: the session of the following cells, set by `%hh_session NAME` or `create_session()` in a cell; None for
            the tracer's own.
        known: what was made, also before this load.
    """

    tracer: HoneyHiveTracer
    notebook: str
    known: Made = field(default_factory=Made)
    sticky: Session | None = None

    @property
    def made(self) -> dict[str, str]:
        """Title of each session by id, in order."""
        return self.known.titles

    def leave(self) -> None:
        """This load ends: the tracer's own session is known by name afterwards."""
        own = self.tracer.session
        if own.id:
            self.known.start_up[own.id] = own.name

    def open(self, options: SessionOptions, *, cell: str, magic: str) -> Session:
        """The session that the options ask for: a new one, or with `join` one that exists.

        Args:
            options: of the magic.
            cell: number of the cell, kept in the session's metadata.
            magic: the form that was typed, for the messages.

        Raises:
            UsageError: no such session to join, or an id that is none.
        """
        if options.join is not None:
            return self._join(options, magic)
        name = options.name or f"{self.notebook}-{cell}"
        self.known.runs[name] += 1
        run = self.known.runs[name]
        try:
            session = self.tracer.new_session(
                name,
                session_id=options.session_id,
                inputs=options.inputs or None,
                metadata={**options.metadata, "cell": cell, "run": run},
                user_properties=options.user_properties or None,
                source=options.source,
                register="first_span",
            )
        except SettingError as error:
            raise UsageError(f"{magic}: {error}") from None
        self.remember(session, name if run == 1 else f"{name} #{run}")
        return session

    def stick(self, session: Session | None) -> None:
        """Make this the session of the following cells, and of what runs outside any; None for the tracer's own."""
        self.sticky = session
        self.tracer.sessions.set_elsewhere(session)

    def name_notebook(self, name: str) -> None:
        """Call the notebook this from now on, before its first span: some front ends tell the name late."""
        self.notebook = name
        self.tracer.sessions.start_own(name, "first_span")

    def remember(self, session: Session, title: str | None = None) -> None:
        """Make a session known to `--join` and to the displays; the latest is what "last" means."""
        title = title or self.made.pop(session.id, None) or session.name
        self.known.by_id.pop(session.id, None)  # to the end: the latest is "last"
        self.made[session.id], self.known.by_id[session.id] = title, session

    def title(self, session_id: str | None) -> str | None:
        """How displays call a session; None for one that is not known here."""
        if session_id is not None and session_id == self.tracer.session_id:
            return self.tracer.session_name
        known = self.made.get(session_id or "") or self.tracer.sessions.name_of(session_id or "")
        return known or self.known.start_up.get(session_id or "")

    def name(self, session_id: str) -> str | None:
        """Its name, which several may share; None for one that is not known here."""
        made = self.known.by_id.get(session_id)
        return made.name if made is not None else self.title(session_id)

    def _join(self, options: SessionOptions, magic: str) -> Session:
        assert options.join is not None
        found = self._find(options.join)
        if found is None:
            raise UsageError(f"{magic}: no session {options.join}. {self._known()}")
        if options.inputs or options.metadata or options.user_properties:
            self.tracer.enrich_session(
                session_id=found.id,
                inputs=options.inputs or None,
                metadata=options.metadata or None,
                user_properties=options.user_properties or None,
            )
        self.remember(found)
        return found

    def _find(self, text: str) -> Session | None:
        """By "last", title, name (its latest), or unique id prefix; a whole UUID may be a session made elsewhere."""
        if text == "last":
            return next(reversed(self.known.by_id.values()), None)
        for session_id, title in reversed(self.made.items()):
            if text in (title, self.known.by_id[session_id].name):
                return self.known.by_id[session_id]
        prefixed = [session for session_id, session in self.known.by_id.items() if session_id.startswith(text.lower())]
        if len(prefixed) == 1 and len(text) >= SHORTEST_PREFIX:
            return prefixed[0]
        try:
            joined = str(uuid.UUID(text))
        except ValueError:
            return None
        return self.tracer.new_session(self._name_elsewhere(joined), session_id=joined, register="never")

    def _name_elsewhere(self, session_id: str) -> str | None:
        """Of a session that no magic made: the code did, or a kernel that is gone."""
        spool = self.tracer.spool
        stored = spool.sessions() if spool is not None else ()
        left = next((session.name for session in stored if session.session_id == session_id), None)
        return self.tracer.sessions.name_of(session_id) or left

    def _known(self) -> str:
        if not self.made:
            return "No session was made here yet; a whole id joins one made elsewhere."
        return f"Sessions: {', '.join([*self.made.values()][-8:])}."


def notebook_name(shell: Any) -> str:
    """The notebook's file name without its ending, as far as the front end or the runner tells it.

    VS Code sets a variable in the user's namespace, Jupyter Server JPY_SESSION_NAME to the notebook's path; a script
    that `ipython` runs is known to its application.
    """
    path = shell.user_ns.get("__vsc_ipynb_file__") or _runners_notebook() or os.environ.get("JPY_SESSION_NAME") or ""
    if str(path).endswith(".ipynb"):
        return PurePath(str(path)).stem
    if getattr(shell, "kernel", None) is not None:
        return "notebook"
    return PurePath(str(getattr(shell.parent, "file_to_run", ""))).stem or "ipython"


def _runners_notebook() -> str | None:
    """The notebook in the command line of papermill, nbconvert or `jupyter execute`, which tell the kernel nothing.

    The variable of Jupyter Server is of no use there: a runner started from a notebook hands on that notebook's.
    """
    line = _parents_words()
    names = {PurePath(word).stem for word in line}
    words = [word for before, word in itertools.pairwise(line) if before != "--output" and not word.startswith("-")]
    notebooks = [word for word in words if word.endswith(".ipynb")]
    if "papermill" in names and notebooks:
        return notebooks[0]  # The second one is what it writes.
    return notebooks[0] if len(notebooks) == 1 and not names.isdisjoint(RUNNERS) else None


def _parents_words() -> list[str]:
    """The command line of the process that started this one, as words; empty where it cannot be read."""
    try:
        return Path(f"/proc/{os.getppid()}/cmdline").read_text(errors="replace").rstrip("\0").split("\0")
    except OSError:
        pass  # Not Linux. ipykernel brings psutil, but does not always import it.
    try:
        import psutil  # type: ignore[import-untyped]

        found: list[str] = psutil.Process(os.getppid()).cmdline()
    except (ImportError, OSError, psutil.Error):
        return []
    return found


# What became of the spans of a session: delivery is counted by cell and kept on disk by session.


def export_of_cell(cell: str, tracer: HoneyHiveTracer) -> ExportState:
    """What became of the spans of one cell's run."""
    state = registry.cell_state(cell)
    # After an unload no tracer is registered any more; what became of the spans is what its last one says.
    return state if state.has_spans else tracer.export_state(cell)


def export_of_session(
    rows: Sequence[SpanRecord], stored: Sequence[StoredSession], tracer: HoneyHiveTracer
) -> ExportState:
    """What became of one session, in this kernel as its cells say; but what is on disk was not sent.

    Args:
        rows: of this kernel.
        stored: what is on disk of it, at least one part if there are no rows.
        tracer: of this kernel.
    """
    if not rows:
        return _of_stored(stored)
    export = export_of(rows, tracer)
    own = [part for part in stored if part.here]
    left = min(len(rows), sum(part.spans for part in own))
    if left == len(rows) and all(part.destination == LOCAL for part in own):
        return ExportState(None, made=len(rows))
    stays = any(part.destination == LOCAL for part in own)  # And is not on its way.
    return export._replace(sent=min(export.sent, len(rows) - left), failing=export.failing or stays)


def export_of(rows: Collection[SpanRecord], tracer: HoneyHiveTracer) -> ExportState:
    """What became of these spans, as far as their cells tell; where a cell lost some, the worst is said of each part.

    Args:
        rows: at least one.
        tracer: of this kernel; its counts of everything stand for spans that belong to no cell.
    """
    by_cell: dict[str | None, int] = defaultdict(int)
    for row in rows:
        by_cell[row.cell] += 1
    states = {cell: export_of_cell(cell, tracer) if cell is not None else tracer.export_state() for cell in by_cell}
    going = [state for state in states.values() if state.destination is not None]
    if not going:
        return ExportState(None, made=len(rows))
    left_to_others = min(len(rows), sum(state.exported_elsewhere for state in going))
    made = len(rows) - left_to_others
    sent = min(made, sum(_sent_at_least(states[cell], number) for cell, number in by_cell.items()))
    worst = max(going, key=lambda state: state.made - state.sent)
    left = made - sent
    return worst._replace(
        # Those that stay on this machine are not on their way.
        failing=any(state.failing for state in going) or len(going) < len(states),
        made=made,
        exported_elsewhere=left_to_others,
        sent=sent,
        parked=min(left, sum(state.parked for state in going)),
        dropped=min(left, sum(state.dropped for state in going)),
        waiting=min(left, sum(state.waiting for state in going)),
    )


def _sent_at_least(state: ExportState, number: int) -> int:
    """Of so many spans among those that the state is about."""
    return max(0, number - (state.made - state.sent))


def _of_stored(stored: Sequence[StoredSession]) -> ExportState:
    """Of a session that another kernel made: what is on disk was not sent."""
    made = sum(part.spans for part in stored)
    host = next((host_of(part.destination) for part in stored if part.destination != LOCAL), None)
    return ExportState(host, made=made, waiting=made if host else 0, failing=host is not None)


def host_of(destination: str) -> str:
    """Host of a destination as the spool names it, "https://api.example/path#0f3a"."""
    from urllib.parse import urlsplit

    return urlsplit(destination).netloc or destination


# The sessions that can be named in this kernel: its own, and those that dead kernels left on disk.

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


# The table of `%hh sessions`.

MOST_ROWS: Final = 30
HEADINGS: Final = ("session", "id", "spans", "last span", "where", "kernel")


def sessions_text(known: Sequence[KnownSession]) -> str:
    """The table of `%hh sessions`, the newest last; what has no row is counted."""
    if not known:
        return "hh: no session has spans here yet."
    rows = [HEADINGS, *(_cells(session) for session in known[-MOST_ROWS:])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    hidden = max(0, len(known) - MOST_ROWS)
    note = [f"({count(hidden, 'older session')} not shown)"] if hidden else []
    head, *lines = [_line(row, widths) for row in rows]
    return "\n".join([head, *note, *lines])


def _cells(session: KnownSession) -> tuple[str, ...]:
    return (
        session.shown_title,
        session.short_id,
        f"{session.spans:,}",
        datetime.fromtimestamp(session.last).astimezone().strftime("%Y-%m-%d %H:%M"),
        _where(session.export),
        "this one" if session.here else "earlier",
    )


def _where(export: ExportState) -> str:
    return "here only" if export.destination is None else f"{export.destination}: {export.word.lower()}"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
    numbers = HEADINGS.index("spans")
    cells[numbers] = row[numbers].rjust(widths[numbers])
    return "  ".join(cells).rstrip()
