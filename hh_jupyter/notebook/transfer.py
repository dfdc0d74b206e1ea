"""`%hh send`, `clear`, `save` and `open`: what waits or stays on this machine is sent, deleted, saved or opened."""

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

from hh_jupyter.delivery.local_runs import LocalRun, choose_run, end_at_backend, make_at_backend, stored_runs
from hh_jupyter.delivery.spool.record import LOCAL
from hh_jupyter.delivery.spool.store import Spool
from hh_jupyter.display.format import clean, count
from hh_jupyter.errors import BackendError
from hh_jupyter.notebook.sessions import KnownSession, SessionStore
from hh_jupyter.notebook.status import kept_here, local_mode
from hh_jupyter.notebook.views import session_url
from hh_jupyter.tracing.tracer import HoneyHiveTracer

# Runs of experiments that were made in local mode, on their way: the run, then its sessions, then that it is over.

_NAME_LENGTH = 40


@dataclass(frozen=True, slots=True)
class ChosenRuns:
    """The runs among what somebody wants to send, and the words that name something else."""

    runs: Sequence[LocalRun]
    words: Sequence[str]

    @classmethod
    def of(cls, words: Sequence[str], tracer: HoneyHiveTracer) -> ChosenRuns:
        """A name means the run before the sessions, which all have the run's name."""
        stored = stored_runs(tracer.spool)
        if "all" in words:
            return cls(stored, words)
        named = {word: choose_run(word, stored) for word in words}
        runs = {run.id: run for run in named.values() if run is not None}
        return cls(list(runs.values()), [word for word, run in named.items() if run is None])

    @property
    def session_ids(self) -> set[str]:
        """Of all their data points."""
        return {one for run in self.runs for one in run.session_ids}

    @property
    def about(self) -> str:
        """The runs in words."""
        return f"run {_name(self.runs[0])}" if len(self.runs) == 1 else count(len(self.runs), "run")

    def make(self, tracer: HoneyHiveTracer) -> None:
        """Make them at the backend.

        Raises:
            UsageError: one could not be made; nothing of it has been sent.
        """
        if self.runs and tracer.settings.api_key is None:
            raise UsageError("%hh send: a run needs the API key; an ingestion key only sends. %hh login asks for it.")
        for run in self.runs:
            try:
                made = make_at_backend(run, tracer.settings)
            except BackendError as error:
                raise UsageError(f"%hh send: run {_name(run)} is not sent. {error}") from None
            if made != run.id:  # The backend has its own ids: the sessions, which carry ours, are told.
                for session_id in run.session_ids:
                    tracer.update_event(session_id, {"metadata": {"run_id": made}})

    def end(self, tracer: HoneyHiveTracer) -> str:
        """Tell that they are over; one sentence for each that could not be told."""
        said = []
        for run in self.runs:
            try:
                end_at_backend(run, tracer.settings, tracer.spool)
            except BackendError as error:
                said.append(f"hh: run {_name(run)} is not complete there; %hh send tries again. {error}")
        return "\n".join(said)


def _name(run: LocalRun) -> str:
    return clean(run.name, _NAME_LENGTH)


SECONDS: Final = 2.0
"""Wait for delivery at least; `cell_flush_seconds` if that is longer. Ctrl-C ends it and loses nothing."""

SETTLE_SECONDS: Final = 0.5
NO_SESSION: Final = ""
"""What the spool has for spans without a session."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attempt to send came to, in spans; as text the one line that says so.

    Attributes:
        about: the sessions, in words; empty for everything.
        reason: of those that wait or were refused.
        lost: spans that were dropped meanwhile, and why.
        calls: session starts, updates and events that were refused, and why.
    """

    destination: str
    sent: int = 0
    waiting: int = 0
    refused: int = 0
    about: str = ""
    reason: str | None = None
    lost: tuple[int, str | None] = (0, None)
    calls: tuple[int, str | None] = (0, None)

    def __str__(self) -> str:
        left, of = self.waiting + self.refused, f" of {self.about}" if self.about else ""
        if not (self.sent or left or self.lost[0] or self.calls[0]):
            return f"hh: nothing{of} waits here."
        sent = f"{self.sent:,} of {count(self.sent + left, 'span')}" if left else count(self.sent, "span")
        parts = [f"{sent}{of} sent to {self.destination}"] if self.sent or left else []
        if left:
            parts.append(_because(self._left(), self.reason))
        if self.lost[0]:
            parts.append(_because(f"{count(self.lost[0], 'span')} lost", self.lost[1]))
        if self.calls[0]:
            parts.append(
                _because(f"{count(self.calls[0], 'call')} (session start, update or event) refused", self.calls[1])
            )
        return f"hh: {'; '.join(parts)}."

    def _left(self) -> str:
        waiting = f"{self.waiting:,} wait{'s' if self.waiting == 1 else ''}" if self.waiting else ""
        refused = f"{self.refused:,} refused" if self.refused else ""
        return ", ".join(filter(None, (waiting, refused)))


def send(words: Sequence[str], tracer: HoneyHiveTracer, store: SessionStore) -> str:
    """Try everything again that waits or was refused; of the named sessions also what was made in local mode.

    Returns:
        one line about what happened within the wait; what is still on its way goes on.

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
    runs = ChosenRuns.of(words, tracer)
    chosen = store.choose(runs.words, "send") if runs.words else []
    if tracer.spool is None:
        raise UsageError("%hh send: spans of local mode are not kept where the setting spool is off; nothing to send.")
    if tracer.spool.problem and not (runs.runs or any(session.kept for session in chosen)):
        raise UsageError(f"%hh send: {tracer.spool.problem}; spans of local mode that are not there cannot be sent.")
    runs.make(tracer)
    about = " and ".join([*([_named(chosen)] if chosen else []), *([runs.about] if runs.runs else [])])
    ids = {session.id for session in chosen} | runs.session_ids
    if "all" in words:
        ids, about = ids | {NO_SESSION}, ""
    sent = _send_sessions(ids, about, tracer, tracer.spool, destination)
    return "\n".join(filter(None, (str(sent), runs.end(tracer))))


def clear(words: Sequence[str], tracer: HoneyHiveTracer, store: SessionStore) -> str:
    """Delete what is kept on disk: of the named sessions, or everything.

    Raises:
        UsageError: a session is not known, or everything would include what is still to be sent and nobody said "all".
    """
    spool = tracer.spool
    if spool is None:
        return "hh: nothing is kept on disk, the setting spool is off."
    tracer.wait_processed()
    if words and "all" not in words:
        chosen = store.choose(words, "clear")
        deleted = spool.clear([session.id for session in chosen])
        return f"hh: {count(deleted, 'span')} of {_named(chosen)} deleted from {spool.directory}."
    unsent = sum(session.spans for session in spool.sessions() if session.destination != LOCAL)
    if unsent and not words:
        what = f"{count(unsent, 'span')} not sent yet would be lost"
        raise UsageError(f"%hh clear: {what}. %hh send tries again, %hh clear all deletes.")
    return f"hh: {count(spool.clear(), 'span')} deleted from {spool.directory}."


def _send_waiting(tracer: HoneyHiveTracer, destination: str) -> Outcome:
    before = tracer.export_state()
    tracer.send_again()
    _flush(tracer)
    after = tracer.export_state()
    return Outcome(
        destination,
        sent=after.sent - before.sent,
        waiting=after.waiting,
        refused=after.parked,
        reason=after.reason,
        lost=(after.dropped - before.dropped, after.dropped_reason),
        calls=(after.calls_parked, after.parked_reason),
    )


def _send_sessions(
    ids: Collection[str], about: str, tracer: HoneyHiveTracer, spool: Spool, destination: str
) -> Outcome:
    before, lost = _on_disk(spool, ids), tracer.export_state().dropped
    tracer.send_again(ids)
    _flush(tracer)
    left = _not_accepted(spool, ids, tracer)
    after = tracer.export_state()
    refused = min(left, after.parked)
    elsewhere = left and not (after.waiting or after.parked)
    return Outcome(
        destination,
        sent=max(0, before - left - (after.dropped - lost)),
        waiting=left - refused,
        refused=refused,
        about=about,
        reason="made for another key or address" if elsewhere else after.reason,
        lost=(after.dropped - lost, after.dropped_reason),
        calls=(after.calls_parked, after.parked_reason),
    )


def _because(what: str, reason: str | None) -> str:
    return f"{what}: {reason.rstrip('.')}" if reason else what


def _on_disk(spool: Spool, ids: Collection[str]) -> int:
    return sum(session.spans for session in spool.sessions() if session.session_id in ids)


def _not_accepted(spool: Spool, ids: Collection[str], tracer: HoneyHiveTracer) -> int:
    """What is still on disk, also for another backend; a record goes from there a moment after its verdict counts."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while left := _on_disk(spool, ids):
        state = tracer.export_state()
        if state.waiting or state.parked or time.monotonic() > deadline:
            break
        time.sleep(0.01)
    return left


def _flush(tracer: HoneyHiveTracer) -> None:
    tracer.force_flush(max(SECONDS, tracer.settings.cell_flush_seconds) * 1000)


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
    return "there is no key to send with. %hh login asks for one."


# `%hh save FILE`: spans as a file of OTLP JSON lines, which other tools read.

MODE: Final = 0o600
"""Prompts and answers are nobody else's business."""


def save(words: Sequence[str], store: SessionStore, *, replace: bool = False) -> str:
    """Write the spans of this kernel, or of the named sessions, to a file.

    Args:
        words: the file, then sessions.
        replace: a file that is there.

    Raises:
        UsageError: no file is named, it exists, it cannot be written, a session is not known, or there are no spans.
    """
    name, *sessions = words or [""]
    if not name:
        raise UsageError("%hh save: name a file. Example: %hh save spans.jsonl")
    path = Path(os.path.expanduser(name))  # noqa: PTH111  # A home that is not known must not raise.
    if path.exists() and not replace:
        raise UsageError(f"%hh save: {path} exists. %hh save {name} --force replaces it.")
    chosen = store.choose(sessions, "save") if sessions else None
    wanted = store.span_ids(chosen)
    saved = _write(path, store.bodies(chosen))
    if not saved:
        raise UsageError("%hh save: there are no spans to save, nothing is written.")
    missing = len(wanted - saved)
    lost = f" {count(missing, 'span')} more had been sent and are no longer kept here." if missing else ""
    return f"hh: {count(len(saved), 'span')} saved to {path}.{lost}"


def _write(path: Path, bodies: Sequence[bytes]) -> set[int]:
    """Write to a new file beside it and give that its name: a file is complete, or it is not there.

    Returns:
        ids of the spans in it.
    """
    from hh_jupyter.delivery.sealing.otlp_file import lines  # Loads protobuf.

    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    saved: set[int] = set()
    try:
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE), "wb") as file:
                for line, span_ids in lines(bodies):
                    file.write(line)
                    saved.update(span_ids)
            if saved:
                draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"%hh save: {path} cannot be written ({error.strerror or error}).") from None
    return saved


# `%hh open`: a session's page in the web application.


def open_session(session_id: str | None, tracer: HoneyHiveTracer, *, here: bool) -> str:
    """The page's address; opened in a browser as well if there is one where this runs.

    Args:
        session_id: of the session.
        tracer: of this kernel.
        here: the person is at this machine, in a terminal. Front ends of a kernel make a link of the address.

    Raises:
        UsageError: the address of the web application is not known, or nothing is sent there.
    """
    if tracer.destination is None:
        raise UsageError(f"%hh open: {local_mode(tracer.settings)}")
    url = session_url(tracer.settings, session_id)
    if url is None:
        example = "%config HHJupyter.app_url = 'https://app.example/sessions/{session_id}'"
        raise UsageError(f"%hh open: the setting app_url says where a session's page is: {example}")
    if here:
        webbrowser.open(url)
    return f"hh: {url}"
