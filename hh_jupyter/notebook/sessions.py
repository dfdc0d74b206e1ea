"""The sessions of the notebook, in memory and on disk: the current one, titles, lookup, export state."""

from __future__ import annotations

import itertools
import os
import shlex
import uuid
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path, PurePath
from typing import Any, Final
from urllib.parse import urlsplit

from IPython.core.error import UsageError

from hh_jupyter.display.format import clean, count
from hh_jupyter.display.table import Column, Table, text_lines
from hh_jupyter.errors import SettingError
from hh_jupyter.export.model import Session
from hh_jupyter.export.otlp import records_of
from hh_jupyter.export.spool import StoredSession
from hh_jupyter.export.spool_folder import LOCAL
from hh_jupyter.notebook.jupyter_server import notebook_of_server
from hh_jupyter.notebook.parser import LINE_MAGIC, quoted
from hh_jupyter.notebook.session_magic import SessionOptions
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.records.log import SpanLog
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.records.selection import ALL, LAST, MAX_LISTED, Candidate, SelectionError, choose, matching
from hh_jupyter.settings import Settings
from hh_jupyter.tracing import registry
from hh_jupyter.tracing.span_store import detail_store
from hh_jupyter.tracing.tracer import HoneyHiveTracer

RUNNERS: Final = frozenset({"jupyter-execute", "jupyter-nbconvert", "nbconvert", "nbclient", "execute"})
"""Names of notebook runners in a command line, with and without `jupyter` or `python -m` before them."""


@dataclass(slots=True)
class SessionHistory:
    """The sessions of this kernel; survives `%unload_ext` and `%reload_ext`.

    Attributes:
        titles: titles by id, the latest last. A repeated name gets a number: "refund-triage #3".
        by_id: the same sessions.
        runs: how often each name was used.
        own_names: names of the tracers' own sessions by id, from earlier loads.
    """

    titles: dict[str, str] = field(default_factory=dict)
    by_id: dict[str, Session] = field(default_factory=dict)
    runs: Counter[str] = field(default_factory=Counter)
    own_names: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class NotebookSessions:
    """State of the session magics. A plain object, since context variables do not reliably last from cell to cell.

    Attributes:
        tracer: tracer of the kernel.
        notebook: name of the notebook; the default name of sessions.
        history: sessions of this kernel, including those made before this load.
        notebook_session: session of the following cells, set by `%hh_session NAME` or `create_session()` in a cell;
            None for the tracer's own.
    """

    tracer: HoneyHiveTracer
    notebook: str
    history: SessionHistory = field(default_factory=SessionHistory)
    notebook_session: Session | None = None
    _holds_budgets: bool = field(default=False, init=False, compare=False)

    @property
    def titles(self) -> dict[str, str]:
        """Titles of the sessions by id, the latest last."""
        return self.history.titles

    def close(self) -> None:
        """Remember the name of the tracer's own session beyond this load, and limit no calls any more."""
        own = self.tracer.session
        if own.id:
            self.history.own_names[own.id] = own.name
        if self._holds_budgets:
            from hh_jupyter.recordings import limit

            self._holds_budgets = False
            limit.let_go(self)

    def open(self, options: SessionOptions, *, cell: str, magic: str) -> Session:
        """Return the session that the options describe: a new one, or with `join` an existing one.

        Args:
            options: options of the magic.
            cell: number of the cell, stored in the session's metadata.
            magic: name of the magic as it was typed, for messages.

        Raises:
            UsageError: there is no session to join, or the id is not valid.
        """
        if options.join is not None:
            return self._join(options, magic)
        name = options.name or f"{self.notebook}-{cell}"
        self.history.runs[name] += 1
        run = self.history.runs[name]
        try:
            session = self.tracer.new_session(
                name,
                session_id=options.session_id,
                inputs=options.inputs or None,
                metadata={**options.metadata, "cell": cell, "run": run},
                user_properties=options.user_properties or None,
                source=options.source,
                register="first_span",
                max_cost=options.max_cost,
                max_calls=options.max_calls,
                raise_with=_raise_with(magic, options.name),
                nested=magic != LINE_MAGIC,  # It replaces the notebook's session.
            )
        except SettingError as error:
            raise UsageError(f"{magic}: {error}") from None
        self.remember(session, name if run == 1 else f"{name} #{run}")
        self._hold_budget(session)
        return session

    def set_notebook_session(self, session: Session | None) -> None:
        """Use this session for the following cells and for code outside cells; None for the tracer's own."""
        self.notebook_session = session
        self.tracer.sessions.set_outside_cells(session)

    def name_notebook(self, name: str) -> None:
        """Rename the notebook before its first span, since some front ends provide the name late."""
        self.notebook = name
        self.tracer.sessions.start_own(name, "first_span")

    def remember(self, session: Session, title: str | None = None) -> None:
        """Add a session to the history, for `--join` and the displays, as the latest one."""
        title = title or self.titles.pop(session.id, None) or session.name
        self.history.by_id.pop(session.id, None)  # Re-added at the end, as the latest.
        self.titles[session.id], self.history.by_id[session.id] = title, session

    def title(self, session_id: str | None) -> str | None:
        """Return the title of a session; None if it is not known in this kernel."""
        if session_id is not None and session_id == self.tracer.session_id:
            return self.tracer.session_name
        title = self.titles.get(session_id or "") or self.tracer.sessions.name_of(session_id or "")
        return title or self.history.own_names.get(session_id or "")

    def name(self, session_id: str) -> str | None:
        """Return the name of a session, which several may share; None if it is not known in this kernel."""
        session = self.history.by_id.get(session_id)
        return session.name if session is not None else self.title(session_id)

    def _join(self, options: SessionOptions, magic: str) -> Session:
        assert options.join is not None
        try:
            found = self._find(options.join)
        except SelectionError as error:
            raise UsageError(f"{magic}: {error}") from None
        if options.inputs or options.metadata or options.user_properties:
            self.tracer.enrich_session(
                session_id=found.id,
                inputs=options.inputs or None,
                metadata=options.metadata or None,
                user_properties=options.user_properties or None,
            )
        if options.max_cost is not None or options.max_calls is not None:
            raise_with = _raise_with(magic, f"--join {quoted(options.join)}", quote=False)
            self.tracer.sessions.limit(found.id, options.max_cost, options.max_calls, raise_with)
        self.remember(found)
        self._hold_budget(found)
        return found

    def _hold_budget(self, session: Session) -> None:
        """Keep the budgets of sessions in force: threads of a cell may make calls after its end."""
        if self.tracer.sessions.budget(session.id) is not None and not self._holds_budgets:
            from hh_jupyter.recordings import limit  # Late: where nothing is limited, it is not needed.

            self._holds_budgets = True
            limit.hold(self)

    def _find(self, text: str) -> Session:
        """Find the latest session that is meant, among those that the magics made; else join any UUID."""
        made = self.history.by_id
        if text == LAST and made:
            return next(reversed(made.values()))
        known = [Candidate(one, (title, made[one].name)) for one, title in self.titles.items()]
        if not matching(text, known):
            try:
                joined = str(uuid.UUID(text))
            except ValueError:
                if not known:
                    hint = "This kernel has no sessions yet; use a complete id to join a session of another process."
                    raise SelectionError(f"no session {text}. {hint}") from None
            else:
                return self.tracer.new_session(self._name_of_other(joined), session_id=joined, register="never")
        return made[choose(text, known, _shown)[-1].id]

    def _name_of_other(self, session_id: str) -> str | None:
        """Return the name of a session that no magic made, but user code or an earlier kernel."""
        spool = self.tracer.spool
        stored = spool.sessions() if spool is not None else ()
        stored_name = next((session.name for session in stored if session.session_id == session_id), None)
        return self.tracer.sessions.name_of(session_id) or stored_name


def _raise_with(magic: str, name: str | None, *, quote: bool = True) -> str:
    """Return the line that raises the limit of a session."""
    words = (magic, quoted(name) if name and quote else name, "--{option} {value}")
    return " ".join(filter(None, words))


_SEPARATORS: Final = tuple(filter(None, (os.sep, os.altsep)))


def notebook_name(shell: Any) -> str:
    """Return the file name of the notebook without its suffix, or a default if the front end does not provide it."""
    path = _notebook_path(shell)
    if path is not None:
        return path.stem
    return "notebook" if getattr(shell, "kernel", None) is not None else "ipython"


def notebook_folder(shell: Any) -> Path:
    """Return the folder of the notebook or script, or the working directory if it is not known.

    Kernels usually start in the notebook's folder. Papermill and VS Code may start them elsewhere.
    """
    path = _notebook_path(shell)
    # A relative path of a runner's command line starts where the runner was started, which may be where we are.
    return path.resolve().parent if path is not None and path.is_file() else Path.cwd()


def _notebook_path(shell: Any) -> Path | None:
    """Return the path of the notebook, or of the script that `ipython` runs; None if it is not known.

    VS Code sets a variable in the user's namespace, Jupyter Server sets JPY_SESSION_NAME to the notebook's path, or to
    its folder if the front end is nbclassic, and the application of `ipython` knows the script that it runs.
    """
    path = shell.user_ns.get("__vsc_ipynb_file__") or _notebook_of_runner() or os.environ.get("JPY_SESSION_NAME") or ""
    kernel = getattr(shell, "kernel", None)
    if str(path).endswith(_SEPARATORS):
        path = notebook_of_server(str(getattr(getattr(kernel, "parent", None), "connection_file", ""))) or ""
    if str(path).endswith(".ipynb"):
        return Path(str(path))
    script = str(getattr(shell.parent, "file_to_run", "")) if kernel is None else ""
    return Path(script) if PurePath(script).stem else None


def _notebook_of_runner() -> str | None:
    """Find the notebook in the command line of papermill, nbconvert or `jupyter execute`, which do not pass its name.

    JPY_SESSION_NAME does not help there: a runner that is started from a notebook inherits the value of that notebook.
    """
    line = _parent_command_line()
    names = {PurePath(word).stem for word in line}
    words = [word for before, word in itertools.pairwise(line) if before != "--output" and not word.startswith("-")]
    notebooks = [word for word in words if word.endswith(".ipynb")]
    if "papermill" in names and notebooks:
        return notebooks[0]  # The second one is the output.
    return notebooks[0] if len(notebooks) == 1 and not names.isdisjoint(RUNNERS) else None


def _parent_command_line() -> list[str]:
    """Return the arguments of the parent process; empty if they cannot be read."""
    try:
        return Path(f"/proc/{os.getppid()}/cmdline").read_text(errors="replace").rstrip("\0").split("\0")
    except OSError:
        pass  # Not Linux. ipykernel depends on psutil, IPython and Pyodide do not.
    try:
        import psutil  # type: ignore[import-untyped]

        return list(psutil.Process(os.getppid()).cmdline())
    except Exception:  # boundary: it may be missing, made for another platform, or not allowed to look
        return []


# The export state of sessions. Exports are counted per cell; unsent spans are stored on disk per session.


def export_of_cell(cell: str, tracer: HoneyHiveTracer) -> ExportState:
    """Return the export state of the spans of one run of a cell."""
    state = registry.cell_export_state(cell)
    # After an unload no tracer is registered; the last one still has the counts.
    return state if state.has_spans else tracer.export_state(cell)


def export_of_session(
    records: Sequence[SpanRecord], stored: Sequence[StoredSession], tracer: HoneyHiveTracer
) -> ExportState:
    """Return the export state of a session: that of its cells, except that spans on disk have not been sent.

    Args:
        records: its records in this kernel.
        stored: its parts on disk; at least one if there are no records.
        tracer: tracer of this kernel.
    """
    if not records:
        return _stored_state(stored)
    export = export_of(records, tracer)
    own = [part for part in stored if part.here]
    unsent = min(len(records), sum(part.unsent for part in own))
    if unsent == len(records) and all(part.destination == LOCAL for part in own if part.unsent):
        return ExportState(None, made=len(records))
    some_local = any(
        part.destination == LOCAL for part in own if part.unsent
    )  # These are not going to be sent by themselves.
    return export._replace(sent=min(export.sent, len(records) - unsent), failing=export.failing or some_local)


def export_of(records: Collection[SpanRecord], tracer: HoneyHiveTracer) -> ExportState:
    """Return the export state of these spans, derived from the counts of their cells.

    Counts per cell do not say which spans of the cell were sent. If only some were, these count as the unsent ones.

    Args:
        records: at least one.
        tracer: tracer of this kernel; its total counts are used for spans outside cells.
    """
    by_cell: dict[str | None, int] = defaultdict(int)
    for record in records:
        by_cell[record.cell] += 1
    states = {cell: export_of_cell(cell, tracer) if cell is not None else tracer.export_state() for cell in by_cell}
    exported = [state for state in states.values() if state.destination is not None]
    if not exported:
        return ExportState(None, made=len(records))
    exported_elsewhere = min(len(records), sum(state.exported_elsewhere for state in exported))
    made = len(records) - exported_elsewhere
    sent = min(made, sum(_sent_at_least(states[cell], number) for cell, number in by_cell.items()))
    base = max(exported, key=lambda state: state.made - state.sent)
    unsent = made - sent
    return base._replace(
        # Local spans are not going to be sent by themselves.
        failing=any(state.failing for state in exported) or len(exported) < len(states),
        made=made,
        exported_elsewhere=exported_elsewhere,
        sent=sent,
        rejected=min(unsent, sum(state.rejected for state in exported)),
        dropped=min(unsent, sum(state.dropped for state in exported)),
        waiting=min(unsent, sum(state.waiting for state in exported)),
    )


def _sent_at_least(state: ExportState, number: int) -> int:
    """Return how many of `number` of the spans that a state counts have been sent at least."""
    return max(0, number - (state.made - state.sent))


def _stored_state(stored: Sequence[StoredSession]) -> ExportState:
    """Return the export state of another kernel's session."""
    made, unsent = sum(part.spans for part in stored), sum(part.unsent for part in stored)
    host = next((host_of(part.destination) for part in stored if part.destination != LOCAL), None)
    if host is None:
        return ExportState(None, made=made)
    return ExportState(host, made=made, sent=made - unsent, waiting=unsent, failing=unsent > 0)


def host_of(destination: str) -> str:
    """Return the host of a destination as the spool stores it. Example: "https://api.example/path#0f3a"."""
    return urlsplit(destination).netloc or destination


# Sessions that commands can name: those of this kernel, and those that earlier kernels left on disk.

SHORT_ID: Final = 8
TITLE_LENGTH: Final = 40


@dataclass(frozen=True, slots=True)
class KnownSession:
    """A session that has spans in memory or on disk.

    Attributes:
        id: session id.
        title: title in displays, such as "refund-triage #3"; the name for a session of another kernel, or "-".
        name: name without a number.
        spans: number of its spans that are known here.
        last: Unix seconds when the latest span ended, or was stored by an earlier kernel.
        this_kernel: made by this kernel.
        local: spans on disk that are sent only if the user names the session.
        waiting: spans on disk that are waiting to be sent.
        export: export state of its spans.
    """

    id: str
    title: str
    name: str
    spans: int
    last: float
    this_kernel: bool
    local: int
    waiting: int
    export: ExportState

    @property
    def names(self) -> tuple[str, str]:
        """Title and name."""
        return self.title, self.name

    @property
    def shown_title(self) -> str:
        """The title as one short line without control characters."""
        return _shown(self.title)

    @property
    def short_id(self) -> str:
        """The first characters of the id, as displays show it."""
        return self.id[:SHORT_ID]

    @property
    def on_disk(self) -> int:
        """Number of unsent spans on disk."""
        return self.local + self.waiting


class SessionStore:
    """Finds sessions and reads their spans.

    Args:
        sessions: sessions of the notebook.
        log: records of this kernel.
    """

    def __init__(self, sessions: NotebookSessions, log: SpanLog) -> None:
        self._sessions, self._log = sessions, log

    @property
    def settings(self) -> Settings:
        """Settings of the notebook's tracer."""
        return self._sessions.tracer.settings

    def all(self) -> list[KnownSession]:
        """Return every session that has spans in memory or on disk, ordered by their latest span."""
        tracer = self._sessions.tracer
        tracer.wait_processed()
        records: dict[str, list[SpanRecord]] = defaultdict(list)
        for record in self._log.records():
            if record.session_id:
                records[record.session_id].append(record)
        stored: dict[str, list[StoredSession]] = defaultdict(list)
        for session in tracer.spool.sessions() if tracer.spool is not None else ():
            if session.spans and session.session_id:
                stored[session.session_id].append(session)
        found = [self._known_session(one, records.get(one, ()), stored.get(one, ())) for one in {**records, **stored}]
        return sorted(found, key=lambda session: session.last)

    def find(self, text: str, command: str) -> KnownSession:
        """Find a session by title, name (the latest), id, or unique id prefix.

        Args:
            text: what the user typed.
            command: name of the command, for messages.

        Raises:
            UsageError: no session matches, or an id prefix matches several.
        """
        return self._matching(text, command, self.all())[-1]

    def matching(self, words: Sequence[str], command: str) -> list[KnownSession]:
        """Return every session that a word names, by their latest span: also several of one name, "all" of this kernel.

        Raises:
            UsageError: no session matches a word.
        """
        known = self.all()
        found = {session.id for session in known if ALL in words and session.this_kernel}
        found |= {session.id for word in words if word != ALL for session in self._matching(word, command, known)}
        return [session for session in known if session.id in found]

    def choose(self, words: Sequence[str], command: str) -> list[KnownSession]:
        """Return the sessions that the words name, each once: "all" for all of this kernel, "last" for its latest.

        Args:
            words: what the user typed.
            command: name of the command, for messages.

        Raises:
            UsageError: no session matches a word, or several do, since what is sent or deleted must be named exactly.
        """
        known = self.all()
        chosen = {session.id: session for session in known if ALL in words and session.this_kernel}
        for word in words:
            if word == ALL:
                continue
            found = self._matching(word, command, known)
            if len(found) > 1:
                ids = ", ".join(session.short_id for session in found[-MAX_LISTED:])
                raise UsageError(f"%hh {command}: {len(found)} sessions are named {word}; use an id: {ids}.")
            chosen[found[0].id] = found[0]
        return list(chosen.values())

    def of_other_kernels(self) -> list[KnownSession]:
        """Return the sessions on disk that only kernels that have ended recorded."""
        return [session for session in self.all() if not session.this_kernel]

    def named(self, text: str) -> list[KnownSession]:
        """Return the sessions with this title, name, id or id prefix, ordered by their latest span."""
        return matching(text, self.all())

    def records(self, session: KnownSession) -> tuple[SpanRecord, ...]:
        """Return the records of a session in the order in which the spans ended; the log provides their details."""
        records = list(self._log.records(session_id=session.id))
        # Spans of this kernel are in both places; do not decode them.
        if session.spans > len(records):
            records += self._records_on_disk(session.id, {record.span_id for record in records})
        return tuple(sorted(records, key=lambda record: record.end_ns or 0))

    def export(self, session: KnownSession) -> ExportState:
        """Return the current export state of a session; of another kernel's session, the one read from disk."""
        spool, records = self._sessions.tracer.spool, self._log.records(session_id=session.id)
        if not records:
            return session.export
        stored = [part for part in spool.sessions() if part.session_id == session.id] if spool is not None else []
        return export_of_session(records, stored, self._sessions.tracer)

    def span_ids(self, sessions: Collection[KnownSession] | None) -> set[int]:
        """Return the ids of the spans of this kernel, of these sessions or of all."""
        return {record.span_id for record in self._own_records(sessions)}

    def bodies(self, sessions: Collection[KnownSession] | None) -> list[bytes]:
        """Return the encoded spans of these sessions; None: all of this kernel. A span may be included twice."""
        spool, records = self._sessions.tracer.spool, self._own_records(sessions)
        ids = (
            [session.id for session in sessions]
            if sessions is not None
            else [record.session_id or "" for record in records]
        )
        stored = [body for one in dict.fromkeys(ids) for body in spool.bodies(one)] if spool is not None else []
        return [*stored, *detail_store().bodies(record.span_id for record in records)]

    def _own_records(self, sessions: Collection[KnownSession] | None) -> tuple[SpanRecord, ...]:
        self._sessions.tracer.wait_processed()
        ids = None if sessions is None else {session.id for session in sessions}
        return tuple(record for record in self._log.records() if ids is None or record.session_id in ids)

    def _records_on_disk(self, session_id: str, known: set[int]) -> list[SpanRecord]:
        spool = self._sessions.tracer.spool
        found: list[SpanRecord] = []
        for body in spool.bodies(session_id) if spool is not None else ():
            new = [record for record in records_of(body) if record.span_id not in known]
            if new:
                store = detail_store()
                store.run(partial(store.add, body, [record.span_id for record in new]))
                known.update(record.span_id for record in new)
                found += new
        return found

    def _known_session(
        self, session_id: str, records: Sequence[SpanRecord], stored: Sequence[StoredSession]
    ) -> KnownSession:
        local = sum(part.unsent for part in stored if part.destination == LOCAL)
        waiting = sum(part.unsent for part in stored) - local
        named = next((part.name for part in stored if part.name), "-")
        title = self._sessions.title(session_id)
        ended = [(record.end_ns or record.start_ns) / 1e9 for record in records] + [part.last for part in stored]
        export = export_of_session(records, stored, self._sessions.tracer)
        return KnownSession(
            id=session_id,
            title=title or named,
            name=self._sessions.name(session_id) or named,
            spans=max(len(records), sum(part.spans for part in stored), export.sent + local + waiting),
            last=max(ended),
            this_kernel=bool(records)
            or title is not None
            or any(part.here and part.destination == LOCAL for part in stored),
            local=local,
            waiting=waiting,
            export=export,
        )

    def _matching(self, text: str, command: str, known: Sequence[KnownSession]) -> list[KnownSession]:
        if text == LAST and (own := [session for session in known if session.this_kernel]):
            return own[-1:]
        if text == ALL and not matching(text, known):
            raise UsageError(f"%hh {command}: expected one session, got all. %hh sessions lists them.")
        try:
            return choose(text, known, _shown)
        except SelectionError as error:
            raise UsageError(f"%hh {command}: {error}") from None


def _shown(title: str) -> str:
    return clean(title, TITLE_LENGTH)


# The table of `%hh sessions`.

MAX_TABLE_ROWS: Final = 30
MAX_SAME_TITLE: Final = 3
"""Most sessions of one title that have a line each. A run of `evaluate` has a session for each data point."""


def sessions_text(known: Sequence[KnownSession], *, each: bool = False) -> str:
    """Return the table of `%hh sessions`, the newest last, with the number of sessions that are not shown.

    Args:
        known: by their latest span.
        each: give each session a line, also if many have one title.
    """
    if not known:
        return "hh: no sessions with spans yet."
    groups = [[session] for session in known] if each else _groups(known)
    head, *lines = text_lines(Table(columns=COLUMNS, rows=groups[-MAX_TABLE_ROWS:]), MAX_TABLE_ROWS)
    hidden = sum(map(len, groups[:-MAX_TABLE_ROWS]))
    note = [f"({count(hidden, 'older session')} not shown)"] if hidden else []
    last = [group[-1].shown_title for group in groups[-MAX_TABLE_ROWS:] if len(group) > 1][-1:]
    hint = [f"%hh sessions {shlex.quote(title)} lists each session of this name." for title in last]
    return "\n".join([head, *note, *lines, *hint])


def _groups(known: Sequence[KnownSession]) -> list[list[KnownSession]]:
    """Sessions of one title and kernel together if they are many, at the place of the latest."""
    by_title: dict[tuple[str, bool], list[KnownSession]] = defaultdict(list)
    for session in known:
        by_title[session.title, session.this_kernel].append(session)
    groups: list[list[KnownSession]] = []
    for session in known:
        same = by_title[session.title, session.this_kernel]
        if len(same) <= MAX_SAME_TITLE:
            groups.append([session])
        elif session is same[-1]:
            groups.append(same)
    return groups


def _id(group: Sequence[KnownSession]) -> str:
    return group[-1].short_id if len(group) == 1 else count(len(group), "session")


def _last_span(group: Sequence[KnownSession]) -> str:
    return datetime.fromtimestamp(group[-1].last).astimezone().strftime("%Y-%m-%d %H:%M")


def _where(export: ExportState) -> str:
    return "local only" if export.destination is None else f"{export.destination}: {export.word.lower()}"


COLUMNS: Final = (
    Column(key="session", title="session", value=lambda group: group[-1].shown_title),
    Column(key="id", title="id", value=_id),
    Column(
        key="spans",
        title="spans",
        value=lambda group: sum(session.spans for session in group),
        cell=lambda group: f"{sum(session.spans for session in group):,}",
        align="right",
    ),
    Column(key="last", title="last span", value=_last_span),
    Column(
        key="where",
        title="where",
        value=lambda group: ", ".join(dict.fromkeys(_where(session.export) for session in group)),
    ),
    Column(key="kernel", title="kernel", value=lambda group: "this one" if group[-1].this_kernel else "earlier"),
)
"""Columns of the table; its rows are groups of sessions."""
