"""`%hh send` and `%hh clear`: what waits or stays on this machine is sent by request, or deleted."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from IPython.core.error import UsageError

from hh_jupyter.delivery.spool.record import LOCAL
from hh_jupyter.display.format import count
from hh_jupyter.notebook.sending_runs import ChosenRuns
from hh_jupyter.notebook.status import kept_here
from hh_jupyter.notebook.stored_sessions import KnownSession, SessionStore
from hh_jupyter.tracing.tracer import HoneyHiveTracer

if TYPE_CHECKING:
    from hh_jupyter.delivery.spool.store import Spool

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
    tracer.seal()
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
    tracer.seal()
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
