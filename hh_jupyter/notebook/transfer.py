"""`%hh send`, `%hh clear`, `%hh save` and `%hh open`, and adding a row of a run to a dataset."""

from __future__ import annotations

import os
import time
import webbrowser
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from IPython.core.error import StdinNotImplementedError, UsageError

from hh_jupyter.display.format import clean, count
from hh_jupyter.errors import BackendError, SettingError
from hh_jupyter.experiments.local_runs import LocalRun, choose_run, end_at_backend, make_at_backend, stored_runs
from hh_jupyter.export.finalize import redactor_of
from hh_jupyter.export.spool import Spool
from hh_jupyter.notebook.sessions import KnownSession, SessionStore
from hh_jupyter.notebook.status import kept_here, local_mode
from hh_jupyter.notebook.views import session_url
from hh_jupyter.records.dataset_rows import DatasetRows
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.records.selection import ALL, MAX_LISTED
from hh_jupyter.settings import display_settings
from hh_jupyter.tracing.tracer import HoneyHiveTracer

# Sending experiment runs of local mode: create the run at the backend, send its sessions, mark the run as completed.

_NAME_LENGTH = 40


@dataclass(frozen=True, slots=True)
class SelectedRuns:
    """The experiment runs that the arguments of `%hh send` name, and the remaining arguments.

    Attributes:
        runs: selected runs.
        words: arguments that do not name a run.
    """

    runs: Sequence[LocalRun]
    words: Sequence[str]

    @classmethod
    def of(cls, words: Sequence[str], stored: Sequence[LocalRun], own: set[str], *, others: bool) -> SelectedRuns:
        """Select runs by name or id. A name selects the run rather than its sessions, which have the same name.

        Args:
            words: names or ids, of sessions, too; "all" selects the runs of this kernel.
            stored: runs on disk.
            own: ids of this kernel's sessions.
            others: select the runs of other kernels as well.
        """
        named = {word: choose_run(word, stored) for word in words}
        runs = {run.id: run for run in named.values() if run is not None}
        for run in stored:
            is_own = not own.isdisjoint(run.session_ids)
            if (ALL in words and is_own) or (others and not is_own):
                runs[run.id] = run
        return cls(list(runs.values()), [word for word, run in named.items() if run is None])

    @property
    def session_ids(self) -> set[str]:
        """Session ids of all data points."""
        return {one for run in self.runs for one in run.session_ids}

    @property
    def description(self) -> str:
        """The selected runs, for messages."""
        return f"run {_name(self.runs[0])}" if len(self.runs) == 1 else count(len(self.runs), "run")

    def create(self, tracer: HoneyHiveTracer) -> None:
        """Create the runs at the backend.

        Raises:
            UsageError: a run could not be created; nothing of it has been sent.
        """
        if self.runs and tracer.settings.api_key is None:
            raise UsageError(
                "%hh send: sending a run needs an API key, not an ingestion key. Use %hh login to enter one."
            )
        for run in self.runs:
            try:
                run_id = make_at_backend(run, tracer.settings)
            except BackendError as error:
                raise UsageError(f"%hh send: run {_name(run)} was not sent. {error}") from None
            if run_id != run.id:  # The backend assigned another id: update the sessions, which have ours.
                for session_id in run.session_ids:
                    tracer.update_event(session_id, {"metadata": {"run_id": run_id}})

    def complete(self, tracer: HoneyHiveTracer) -> str:
        """Mark the runs as completed at the backend; return one line for each that could not be."""
        errors = []
        for run in self.runs:
            try:
                end_at_backend(run, tracer.settings, tracer.spool)
            except BackendError as error:
                errors.append(f"hh: run {_name(run)} was not marked as completed; use %hh send to retry. {error}")
        return "\n".join(errors)


def _name(run: LocalRun) -> str:
    return clean(run.name, _NAME_LENGTH)


# `%hh send` and `%hh clear`.

SEND_SECONDS: Final = 2.0
"""Time to wait for the export, or `cell_flush_seconds` if that is longer. Ctrl-C ends the wait and loses nothing."""

MARK_SECONDS: Final = 0.5
"""Longest wait until the spool has deleted spans that are counted as sent."""

NO_SESSION: Final = ""
"""Session id of spans without a session in the spool."""


@dataclass(frozen=True, slots=True)
class SendResult:
    """Result of `%hh send`, in numbers of spans. `str` returns the line to print.

    Attributes:
        destination: host of the backend.
        sent: accepted by the backend.
        waiting: still to be sent.
        rejected: rejected by the backend.
        subject: the sessions and runs, for the message; empty for everything.
        reason: why spans are waiting or were rejected.
        dropped: number of spans dropped meanwhile, and the reason.
        requests: number of rejected session starts, updates and events, and the reason.
    """

    destination: str
    sent: int = 0
    waiting: int = 0
    rejected: int = 0
    subject: str = ""
    reason: str | None = None
    dropped: tuple[int, str | None] = (0, None)
    requests: tuple[int, str | None] = (0, None)

    def __str__(self) -> str:
        unsent, of = self.waiting + self.rejected, f" of {self.subject}" if self.subject else ""
        if not (self.sent or unsent or self.dropped[0] or self.requests[0]):
            return f"hh: nothing to send{f' for {self.subject}' if self.subject else ''}."
        sent = f"{self.sent:,} of {count(self.sent + unsent, 'span')}" if unsent else count(self.sent, "span")
        parts = [f"{sent}{of} sent to {self.destination}"] if self.sent or unsent else []
        if unsent:
            parts.append(_because(self._unsent(), self.reason))
        if self.dropped[0]:
            parts.append(_because(f"{count(self.dropped[0], 'span')} dropped", self.dropped[1]))
        if self.requests[0]:
            parts.append(
                _because(
                    f"{count(self.requests[0], 'request')} (session start, update or event) rejected", self.requests[1]
                )
            )
        return f"hh: {'; '.join(parts)}."

    def _unsent(self) -> str:
        counts = ((self.waiting, "waiting"), (self.rejected, "rejected"))
        return ", ".join(f"{number:,} {word}" for number, word in counts if number)


@dataclass(frozen=True, slots=True)
class Scope:
    """How a command treats what other kernels, which have ended, left on disk.

    Attributes:
        others: it is selected, in addition to what the arguments name.
        confirmed: do not ask before it is sent or deleted.
    """

    others: bool = False
    confirmed: bool = False

    def confirm(self, command: str, chosen: Iterable[KnownSession], question: str) -> None:
        """Name and count the sessions of other kernels among these, and ask whether to go on.

        Args:
            command: name of the command, for messages.
            chosen: the selected sessions.
            question: what would happen to them. Example: "Delete them?"

        Raises:
            UsageError: the answer is not yes, or the front end cannot ask.
        """
        foreign = [session for session in chosen if not session.this_kernel]
        if self.confirmed or not foreign:
            return
        listed = f"{_counted(foreign, command)}: {_listed(foreign, command)}"
        confirm(command, listed, question)


def confirm(command: str, listed: str, question: str) -> None:
    """Ask whether to go on.

    Args:
        command: name of the command, for messages.
        listed: what it would change.
        question: what would happen to it. Example: "Delete them?"

    Raises:
        UsageError: the answer is not yes, or the front end cannot ask.
    """
    try:
        answer = input(f"%hh {command}: {listed}. {question} [y/N] ")
    except (StdinNotImplementedError, EOFError, RuntimeError):
        raise UsageError(f"%hh {command}: {listed}. {question} Add --yes to go on.") from None
    if answer.strip().lower() not in ("y", "yes"):
        raise UsageError(f"%hh {command}: nothing was changed.")


def _counted(sessions: Sequence[KnownSession], command: str) -> str:
    spans = sum(_number(session, command) for session in sessions)
    return f"{count(len(sessions), 'session')}, {count(spans, 'span')} of other kernels"


def _listed(sessions: Sequence[KnownSession], command: str) -> str:
    """Name the latest of these sessions, each with its id."""
    shown = [
        f"{one.shown_title} {one.short_id} ({count(_number(one, command), 'span')})" for one in sessions[-MAX_LISTED:]
    ]
    older = len(sessions) - len(shown)
    return ", ".join([*shown, *([f"and {older:,} older"] if older else [])])


def _number(session: KnownSession, command: str) -> int:
    """Return how many spans of a session on disk a command is about."""
    return session.on_disk if command == "send" else session.spans


def send(words: Sequence[str], tracer: HoneyHiveTracer, store: SessionStore, scope: Scope) -> str:
    """Retry everything that is waiting or was rejected; for named sessions and runs, also what local mode recorded.

    Args:
        words: names or ids of sessions and runs, or "all" for those of this kernel; empty for what is waiting or was
            rejected.
        tracer: tracer of the kernel.
        store: finds sessions.
        scope: what is sent of other kernels.

    Returns:
        One line about the result so far; sending continues in the background.

    Raises:
        UsageError: nothing can be sent, a session is not known, or sending is not confirmed.
    """
    destination = tracer.destination
    if destination is None:
        raise UsageError(f"%hh send: {_why_local(tracer)}")
    if not tracer.settings.otlp_enabled:
        raise UsageError(f"%hh send: {kept_here(tracer.settings)}")
    tracer.wait_processed()
    if not words and not scope.others:
        return str(_send_waiting(tracer, destination))
    known = store.all()
    own = {session.id for session in known if session.this_kernel}
    runs = SelectedRuns.of(words, stored_runs(tracer.spool), own, others=scope.others)
    chosen = store.choose(runs.words, "send") if runs.words else []
    others = [session for session in known if not session.this_kernel and session.local]
    if tracer.spool is None:
        raise UsageError("%hh send: nothing to send: with the setting spool off, spans of local mode are not stored.")
    if tracer.spool.problem and not (runs.runs or any(session.on_disk for session in (*chosen, *others))):
        raise UsageError(f"%hh send: {tracer.spool.problem}; spans of local mode were not stored and cannot be sent.")
    subject = " and ".join([*([_named(chosen)] if chosen else []), *([runs.description] if runs.runs else [])])
    ids = {session.id for session in chosen} | runs.session_ids
    if scope.others:
        ids |= {session.id for session in others}
    scope.confirm("send", [one for one in known if one.id in ids and one.on_disk], f"Send them to {destination}?")
    runs.create(tracer)
    if ALL in words:
        ids.add(NO_SESSION)
    is_all = ALL in words or scope.others
    sent = _send_sessions(ids, "" if is_all else subject, tracer, tracer.spool, destination)
    rest = [session for session in others if session.id not in ids]
    stay = f"  {_counted(rest, 'send')} stay here: %hh send --others" if ALL in words and rest else ""
    return "\n".join(filter(None, (str(sent), stay, runs.complete(tracer))))


def clear(words: Sequence[str], tracer: HoneyHiveTracer, store: SessionStore, scope: Scope) -> str:
    """Delete spans on disk: of the named sessions, or of this kernel, which still has them in memory.

    Args:
        words: names or ids of sessions, or "all" for those of this kernel; empty for the same, if none of its spans is
            waiting to be sent.
        tracer: tracer of the kernel.
        store: finds sessions.
        scope: what is deleted of other kernels.

    Returns:
        One line about the result.

    Raises:
        UsageError: a session is not known, unsent spans would be deleted without "all", or it is not confirmed.
    """
    spool = tracer.spool
    if spool is None:
        return "hh: nothing to delete: the setting spool is off."
    tracer.wait_processed()
    known = store.all()
    own, others = [one for one in known if one.this_kernel], [one for one in known if not one.this_kernel]
    unsent = sum(session.waiting for session in own)
    if unsent and not words and not scope.others:
        what = f"{count(unsent, 'span')} not sent yet would be lost"
        raise UsageError(f"%hh clear: {what}. Use %hh send to send them, %hh clear all to delete them.")
    is_own = ALL in words or not (words or scope.others)
    chosen = store.choose(words, "clear") if words else own if is_own else []
    chosen = [*chosen, *(others if scope.others else ())]
    scope.confirm("clear", chosen, "Delete them?")
    if ALL in words and scope.others:
        tracer.exporter.delete([NO_SESSION, *(session.id for session in known)])
        return "\n".join([f"hh: {count(spool.clear(), 'span')} deleted from {spool.directory}.", *_in_memory(known)])
    ids = [session.id for session in chosen]
    if is_own:
        runs = SelectedRuns.of([ALL], stored_runs(spool), {session.id for session in own}, others=False)
        ids += [NO_SESSION, *(run.id for run in runs.runs)]
    tracer.exporter.delete([*ids, *spool.events_of(ids)])
    of = "" if is_own or scope.others else f" of {_named(chosen)}"
    done = f"hh: {count(spool.clear(ids), 'span')}{of} deleted from {spool.directory}."
    stay = [f"  {_counted(others, 'clear')} stay: %hh clear --others"] if is_own and others else []
    return "\n".join([done, *_in_memory(chosen), *stay])


def _in_memory(deleted: Sequence[KnownSession]) -> list[str]:
    """Return a line that this kernel still shows spans which are no longer on disk, if it does."""
    here = any(session.this_kernel for session in deleted)
    return ["  This kernel shows its own spans until it ends; saved notebooks stay as they are."] if here else []


def _send_waiting(tracer: HoneyHiveTracer, destination: str) -> SendResult:
    before = tracer.export_state()
    tracer.send_again()
    _flush(tracer)
    after = tracer.export_state()
    return SendResult(
        destination,
        sent=after.sent - before.sent,
        waiting=after.waiting,
        rejected=after.rejected,
        reason=after.reason,
        dropped=(after.dropped - before.dropped, after.dropped_reason),
        requests=(after.requests_rejected, after.rejected_reason),
    )


def _send_sessions(
    ids: Collection[str], subject: str, tracer: HoneyHiveTracer, spool: Spool, destination: str
) -> SendResult:
    before, dropped = _unsent(spool, ids), tracer.export_state().dropped
    tracer.send_again(ids)
    _flush(tracer)
    unsent = _wait_unsent(spool, ids, tracer)
    after = tracer.export_state()
    rejected = min(unsent, after.rejected)
    other_destination = unsent and not (after.waiting or after.rejected)
    return SendResult(
        destination,
        sent=max(0, before - unsent - (after.dropped - dropped)),
        waiting=unsent - rejected,
        rejected=rejected,
        subject=subject,
        reason="recorded for another key or URL" if other_destination else after.reason,
        dropped=(after.dropped - dropped, after.dropped_reason),
        requests=(after.requests_rejected, after.rejected_reason),
    )


def _because(what: str, reason: str | None) -> str:
    return f"{what}: {reason.rstrip('.')}" if reason else what


def _unsent(spool: Spool, ids: Collection[str]) -> int:
    return sum(session.unsent for session in spool.sessions() if session.session_id in ids)


def _wait_unsent(spool: Spool, ids: Collection[str], tracer: HoneyHiveTracer) -> int:
    """Return the number of unsent spans; wait briefly, as sent spans are counted before they are marked on disk."""
    deadline = time.monotonic() + MARK_SECONDS
    while unsent := _unsent(spool, ids):
        state = tracer.export_state()
        if state.waiting or state.rejected or time.monotonic() > deadline:
            break
        time.sleep(0.01)
    return unsent


def _flush(tracer: HoneyHiveTracer) -> None:
    tracer.force_flush(max(SEND_SECONDS, display_settings().cell_flush_seconds) * 1000)


def _named(chosen: Sequence[KnownSession]) -> str:
    return chosen[0].shown_title if len(chosen) == 1 else count(len(chosen), "session")


def _why_local(tracer: HoneyHiveTracer) -> str:
    settings = tracer.settings
    if settings.test_mode:
        return f"test_mode is on ({settings.origins.get('test_mode')}), nothing leaves this machine."
    if settings.disable_tracing:
        return f"tracing is off ({settings.origins.get('disable_tracing')})."
    if settings.exporter == "none":
        return f"exporter is none ({settings.origins.get('exporter')}), nothing leaves this machine."
    return "no API key is set. Use %hh login to enter one."


# `%hh save FILE`: spans as a file of OTLP JSON lines, which other tools read, or as an HTML page.

PAGE_SUFFIXES: Final = (".html", ".htm")
OTLP_SUFFIXES: Final = (".jsonl", ".json", ".ndjson", ".otlp")
"""What files of spans are usually called; under any other name, the answer says what the file holds."""
"""A file with one of these endings is written as an HTML page with the interactive view."""


def save(words: Sequence[str], store: SessionStore, *, replace: bool = False, others: bool = False) -> str:
    """Write the spans of this kernel, or of the named sessions, to a file of OTLP JSON lines or an HTML page.

    Args:
        words: path of the file, of a page if it ends with `.html`; then names or ids of sessions, or "all" for those of
            this kernel.
        store: finds sessions.
        replace: overwrite an existing file.
        others: include the sessions of other kernels on disk.

    Returns:
        One line about the result.

    Raises:
        UsageError: the file name is missing, the file exists or cannot be written, a session is not known, or there are
            no spans.
    """
    name, *sessions = words or [""]
    if not name:
        raise UsageError("%hh save: a file name is missing. Example: %hh save spans.jsonl")
    path = Path(os.path.expanduser(name))  # noqa: PTH111  # An unknown home folder must not raise.
    if os.path.exists(path) and not replace:  # noqa: PTH110  # A name that is too long must not raise.
        raise UsageError(f"%hh save: {path} exists. %hh save {name} --force replaces it.")
    chosen = None
    if others or set(sessions) - {ALL}:
        chosen = [*store.choose(sessions, "save"), *(store.of_other_kernels() if others else ())]
    wanted = store.span_ids(chosen)
    bodies = store.bodies(chosen)
    if path.suffix.lower() in PAGE_SUFFIXES:
        from hh_jupyter.report_file import spans_page  # Loads protobuf.

        titles = {one.id: one.title for one in (store.all() if chosen is None else chosen)}
        page = spans_page(bodies, redactor_of(store.settings), titles)
        saved, left_out = _write(path, [(page.data, page.span_ids)]), page.note
    else:
        from hh_jupyter.otlp_files.json_lines import lines  # Loads protobuf.

        saved, left_out = _write(path, lines(bodies)), ""
    if not saved:
        raise UsageError("%hh save: there are no spans to save.")
    missing = len(wanted - saved)
    gone = f"{count(missing, 'span')} more have been sent and are no longer kept here." if missing else ""
    known = path.suffix.lower() in (*PAGE_SUFFIXES, *OTLP_SUFFIXES)
    form = "" if known else "It holds lines of OTLP JSON; a name that ends in .html gives a page."
    return " ".join(filter(None, (f"hh: {count(len(saved), 'span')} saved to {path}.", form, gone, left_out)))


# `Add to a dataset` below an opened row of a run.

DATASET_SUFFIX: Final = ".jsonl"
MAX_SHOWN_PATH: Final = 200


def add_to_dataset(record: SpanRecord | None, name: str) -> str:
    """Append a row of a run to a dataset in the working directory or in a folder below it.

    Args:
        record: the span of the row; None if it is no longer in memory.
        name: name of the file, relative to the working directory.

    Returns:
        One sentence: which file has the row, or why it was not added.
    """
    from hh_jupyter.query import dataset_row  # Loads protobuf.

    row = None if record is None else dataset_row(record)
    if row is None:
        return "Not added: the inputs of this row are no longer in memory."
    try:
        path = _dataset_path(name.strip())
        before = _rows_in(path)
        added = DatasetRows([row]).save(path)
    except ValueError as error:
        return f"Not added: {clean(str(error), MAX_SHOWN_PATH)}"
    except OSError as error:
        return f"Not added: {clean(name, MAX_SHOWN_PATH)} cannot be written ({error.strerror or error})."
    shown = clean(str(path), MAX_SHOWN_PATH)
    if not added:
        return f"{shown} has this row already."
    return f"Added to {shown}, which has {count(before + added, 'row')} now."


def _dataset_path(name: str) -> Path:
    """Return the path of a dataset.

    Raises:
        SettingError: the name is not that of a dataset in the working directory or below it.
        OSError: the working directory is gone, or the name is too long.
    """
    folder = Path.cwd().resolve()
    if Path(name).suffix.lower() != DATASET_SUFFIX:
        raise SettingError(f"the name of a dataset ends with {DATASET_SUFFIX}, such as dataset{DATASET_SUFFIX}.")
    path = (folder / name).resolve()
    if not path.is_relative_to(folder):
        raise SettingError(f"a dataset is in the working directory, {folder}, or in a folder below it.")
    return path


def _rows_in(path: Path) -> int:
    """Return the number of rows in a dataset; 0 if there is none.

    Raises:
        SettingError: it is something else, to which no row may be added.
        OSError: it cannot be read.
    """
    if not path.exists():
        return 0
    rows = DatasetRows.load(path) if path.is_file() else None
    if rows is None or any("inputs" not in row for row in rows):
        raise SettingError(f"{path.name} is not a dataset.")
    return len(rows)


def _write(path: Path, parts: Iterable[tuple[bytes, Iterable[int]]]) -> set[int]:
    from hh_jupyter.otlp_files.json_lines import write

    try:
        return write(path, parts)
    except OSError as error:
        raise UsageError(f"%hh save: {path} cannot be written ({error.strerror or error}).") from None


# `%hh open`: a session's page in the web application.


APP_URL: Final = "%config HHJupyter.app_url = 'https://app.example/sessions/{session_id}'"
"""Example of the setting."""


def open_session(session_id: str | None, tracer: HoneyHiveTracer, *, in_terminal: bool) -> str:
    """Return a line with the URL of a session's page; in a terminal, open it in a browser as well.

    Args:
        session_id: session id.
        tracer: tracer of the kernel.
        in_terminal: the user sits at this machine. Front ends of a kernel show the URL as a link.

    Raises:
        UsageError: the URL is not known, or nothing is sent.
    """
    unset = "" if tracer.settings.app_url else f"set app_url (HH_APP_URL) to the URL of a session's page: {APP_URL}"
    if tracer.destination is None:
        raise UsageError(f"%hh open: {local_mode(tracer.settings)}{f' Then {unset}' if unset else ''}")
    url = session_url(tracer.settings, session_id)
    if url is None:
        raise UsageError(f"%hh open: {unset or 'there is no session.'}")
    if in_terminal:
        webbrowser.open(url)
    return f"hh: {url}"
