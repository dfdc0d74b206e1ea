"""`%hh send`, `%hh clear`, `%hh save` and `%hh open`."""

from __future__ import annotations

import os
import secrets
import time
import webbrowser
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from IPython.core.error import UsageError

from hh_jupyter.display.format import clean, count
from hh_jupyter.errors import BackendError
from hh_jupyter.experiments.local_runs import LocalRun, choose_run, end_at_backend, make_at_backend, stored_runs
from hh_jupyter.export.spool import Spool
from hh_jupyter.export.spool_file import LOCAL
from hh_jupyter.notebook.sessions import KnownSession, SessionStore
from hh_jupyter.notebook.status import kept_here, local_mode
from hh_jupyter.notebook.views import session_url
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
    def of(cls, words: Sequence[str], tracer: HoneyHiveTracer) -> SelectedRuns:
        """Select runs by name or id. A name selects the run rather than its sessions, which have the same name."""
        stored = stored_runs(tracer.spool)
        if "all" in words:
            return cls(stored, words)
        named = {word: choose_run(word, stored) for word in words}
        runs = {run.id: run for run in named.values() if run is not None}
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


def send(words: Sequence[str], tracer: HoneyHiveTracer, store: SessionStore) -> str:
    """Retry everything that is waiting or was rejected; for named sessions and runs, also what local mode recorded.

    Args:
        words: names or ids of sessions and runs, or "all"; empty for what is waiting or was rejected.
        tracer: tracer of the kernel.
        store: finds sessions.

    Returns:
        One line about the result so far; sending continues in the background.

    Raises:
        UsageError: nothing can be sent, or a session is not known.
    """
    destination = tracer.destination
    if destination is None:
        raise UsageError(f"%hh send: {_why_local(tracer)}")
    if not tracer.settings.otlp_enabled:
        raise UsageError(f"%hh send: {kept_here(tracer.settings)}")
    tracer.wait_processed()
    if not words:
        return str(_send_waiting(tracer, destination))
    runs = SelectedRuns.of(words, tracer)
    chosen = store.choose(runs.words, "send") if runs.words else []
    if tracer.spool is None:
        raise UsageError("%hh send: nothing to send: with the setting spool off, spans of local mode are not stored.")
    if tracer.spool.problem and not (runs.runs or any(session.on_disk for session in chosen)):
        raise UsageError(f"%hh send: {tracer.spool.problem}; spans of local mode were not stored and cannot be sent.")
    runs.create(tracer)
    subject = " and ".join([*([_named(chosen)] if chosen else []), *([runs.description] if runs.runs else [])])
    ids = {session.id for session in chosen} | runs.session_ids
    if "all" in words:
        ids, subject = ids | {NO_SESSION}, ""
    sent = _send_sessions(ids, subject, tracer, tracer.spool, destination)
    return "\n".join(filter(None, (str(sent), runs.complete(tracer))))


def clear(words: Sequence[str], tracer: HoneyHiveTracer, store: SessionStore) -> str:
    """Delete spans on disk: of the named sessions, or all.

    Args:
        words: names or ids of sessions, or "all"; empty for all spans, if none of them is waiting to be sent.
        tracer: tracer of the kernel.
        store: finds sessions.

    Returns:
        One line about the result.

    Raises:
        UsageError: a session is not known, or unsent spans would be deleted without "all".
    """
    spool = tracer.spool
    if spool is None:
        return "hh: nothing to delete: the setting spool is off."
    tracer.wait_processed()
    if words and "all" not in words:
        chosen = store.choose(words, "clear")
        deleted = spool.clear([session.id for session in chosen])
        return f"hh: {count(deleted, 'span')} of {_named(chosen)} deleted from {spool.directory}."
    unsent = sum(session.unsent for session in spool.sessions() if session.destination != LOCAL)
    if unsent and not words:
        what = f"{count(unsent, 'span')} not sent yet would be lost"
        raise UsageError(f"%hh clear: {what}. Use %hh send to send them, %hh clear all to delete them.")
    return f"hh: {count(spool.clear(), 'span')} deleted from {spool.directory}."


def _send_waiting(tracer: HoneyHiveTracer, destination: str) -> SendResult:
    before = tracer.export_state()
    tracer.send_again()
    _flush(tracer)
    after = tracer.export_state()
    return SendResult(
        destination,
        sent=after.sent - before.sent,
        waiting=after.waiting,
        rejected=after.parked,
        reason=after.reason,
        dropped=(after.dropped - before.dropped, after.dropped_reason),
        requests=(after.calls_parked, after.parked_reason),
    )


def _send_sessions(
    ids: Collection[str], subject: str, tracer: HoneyHiveTracer, spool: Spool, destination: str
) -> SendResult:
    before, dropped = _unsent(spool, ids), tracer.export_state().dropped
    tracer.send_again(ids)
    _flush(tracer)
    unsent = _wait_unsent(spool, ids, tracer)
    after = tracer.export_state()
    rejected = min(unsent, after.parked)
    other_destination = unsent and not (after.waiting or after.parked)
    return SendResult(
        destination,
        sent=max(0, before - unsent - (after.dropped - dropped)),
        waiting=unsent - rejected,
        rejected=rejected,
        subject=subject,
        reason="recorded for another key or URL" if other_destination else after.reason,
        dropped=(after.dropped - dropped, after.dropped_reason),
        requests=(after.calls_parked, after.parked_reason),
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
        if state.waiting or state.parked or time.monotonic() > deadline:
            break
        time.sleep(0.01)
    return unsent


def _flush(tracer: HoneyHiveTracer) -> None:
    tracer.force_flush(max(SEND_SECONDS, tracer.settings.cell_flush_seconds) * 1000)


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


# `%hh save FILE`: spans as a file of OTLP JSON lines, which other tools read.

FILE_MODE: Final = 0o600
"""Only the user may read the file: it contains prompts and answers."""


def save(words: Sequence[str], store: SessionStore, *, replace: bool = False) -> str:
    """Write the spans of this kernel, or of the named sessions, to a file.

    Args:
        words: path of the file, then names or ids of sessions.
        store: finds sessions.
        replace: overwrite an existing file.

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
    if path.exists() and not replace:
        raise UsageError(f"%hh save: {path} exists. %hh save {name} --force replaces it.")
    chosen = store.choose(sessions, "save") if sessions else None
    wanted = store.span_ids(chosen)
    saved = _write(path, store.bodies(chosen))
    if not saved:
        raise UsageError("%hh save: there are no spans to save.")
    missing = len(wanted - saved)
    note = f" {count(missing, 'span')} more have been sent and are no longer kept here." if missing else ""
    return f"hh: {count(len(saved), 'span')} saved to {path}.{note}"


def _write(path: Path, bodies: Sequence[bytes]) -> set[int]:
    """Write a temporary file in the same folder, then rename it: the file is complete or does not exist.

    Returns:
        The ids of the spans in it.
    """
    from hh_jupyter.otlp_files.json_lines import lines  # Loads protobuf.

    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    saved: set[int] = set()
    try:
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE), "wb") as file:
                for line, span_ids in lines(bodies):
                    file.write(line)
                    saved.update(span_ids)
            if saved:
                temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"%hh save: {path} cannot be written ({error.strerror or error}).") from None
    return saved


# `%hh open`: a session's page in the web application.


def open_session(session_id: str | None, tracer: HoneyHiveTracer, *, in_terminal: bool) -> str:
    """Return a line with the URL of a session's page; in a terminal, open it in a browser as well.

    Args:
        session_id: session id.
        tracer: tracer of the kernel.
        in_terminal: the user sits at this machine. Front ends of a kernel show the URL as a link.

    Raises:
        UsageError: the URL is not known, or nothing is sent.
    """
    if tracer.destination is None:
        raise UsageError(f"%hh open: {local_mode(tracer.settings)}")
    url = session_url(tracer.settings, session_id)
    if url is None:
        example = "%config HHJupyter.app_url = 'https://app.example/sessions/{session_id}'"
        raise UsageError(f"%hh open: set app_url to the URL of a session's page: {example}")
    if in_terminal:
        webbrowser.open(url)
    return f"hh: {url}"
