"""The exporter of one tracer: where its spans and requests go under which settings, flushing and closing."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.trace import ReadableSpan

from hh_jupyter.export import process, remote
from hh_jupyter.export.destination import Destination
from hh_jupyter.export.endpoint import address_of, answered_by, endpoints_of, place_of
from hh_jupyter.export.flush import Flush
from hh_jupyter.export.model import EndedSpan, Kind, LateEvent, Origin, RemoteOrigin, Request
from hh_jupyter.export.pipeline import STOP_SECONDS, Pipeline, Plan
from hh_jupyter.export.store import BodyStore
from hh_jupyter.export.worker import FORK_WAIT, Answer
from hh_jupyter.records.export_state import ExportState, combined
from hh_jupyter.records.log import SpanLog
from hh_jupyter.settings import Settings

if TYPE_CHECKING:
    from hh_jupyter.export.endpoint import SpanTarget
    from hh_jupyter.export.spool import Spool

logger = logging.getLogger(__name__)

IMMEDIATE_SECONDS: Final = 2.0
"""Maximum time in seconds that a call waits for its result in immediate mode."""

MAX_FORMER: Final = 100
"""Number of former destinations that are kept, besides those with rows to send; their counts are kept with them."""

ADOPT_AFTER: Final = 0.5
"""Seconds from the start of an exporter until it adopts the rows of dead processes; it keeps the start fast."""

STOP_SHARE: Final = 0.1
"""Share of the time for closing that is reserved for the threads to end; at least `pipeline.STOP_SECONDS`."""


_pipeline = Pipeline()
_paused: dict[int, Answer[None]] = {}
"""What resumes the worker after a fork, by forking thread."""


def _before_fork() -> None:
    if _pipeline.exporters:
        process.import_late_modules(
            sending=any(one.host for one in _pipeline.all.active), spooling=bool(_pipeline.spools)
        )
        resume = _paused[threading.get_ident()] = Answer()
        _pipeline.worker.pause(resume)
        _pipeline.all.follow_ups.hold_log(FORK_WAIT)


def _after_fork_in_parent() -> None:
    _pipeline.all.follow_ups.release_log()
    resume = _paused.get(threading.get_ident())
    if resume is not None:
        resume.give(None)
        _paused.pop(threading.get_ident(), None)


def _after_fork_in_child() -> None:
    _paused.clear()
    process.reset_in_child()
    remote.reset_in_child()
    _pipeline.reset_in_child()


process.at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


class Exporter:
    """Exports the ended spans of one tracer.

    Args:
        log: receives the records.
        store: keeps encoded bodies for displays.
    """

    def __init__(self, settings: Settings, log: SpanLog, store: BodyStore) -> None:
        self._settings, self._log, self._store = settings, log, store
        # Disabled tracing makes no spans, so there is nothing to wait for.
        self._running = not settings.disable_tracing
        self._sends_to: tuple[Settings, tuple[Destination, ...]] | None = None
        """The last settings under which something was sent, and their destinations."""
        self._by_address: dict[object, tuple[Destination, ...]] = {}
        self._beside: dict[tuple[SpanTarget, ...], Plan] = {}
        self._closed: bool | None = None
        self._use(settings)
        _pipeline.exporters.add(self)

    def _use(self, settings: Settings, *, forked: bool = False) -> None:
        """Put everything from now on under these settings.

        Args:
            forked: this is a new child, which starts no thread before it has something to export.
        """
        spool = _pipeline.spool_of(settings)
        address = address_of(settings)
        new = address not in self._by_address
        if new:
            made = [Destination(_pipeline.all.follow_ups, settings, one, spool) for one in endpoints_of(settings)]
            self._by_address[address] = tuple(made) or (Destination(_pipeline.all.follow_ups, settings, None, spool),)
        current = self._by_address[address]
        self._plan = Plan(settings, current, spool, self._log, self._store)
        self._beside = {}
        if spool is not None:
            self._store.elsewhere = lambda: tuple(_pipeline.spools.values())
        self._store.run = _pipeline.worker.ask

        serve = partial(self._serve, settings, current, new=new, forked=forked)
        if forked:
            serve()
        elif self._running:
            _pipeline.worker.post(serve)
        self._retry_rejected(settings, current)

    def _serve(self, settings: Settings, current: tuple[Destination, ...], *, new: bool, forked: bool) -> None:
        """Let the senders serve these destinations. On the worker, or in a new child."""
        with _pipeline.all.changed:
            for destination in current:
                destination.settings = settings
                destination.reopen()
                if destination.host is not None and destination not in _pipeline.all.active:
                    _pipeline.all.active.append(destination)
            if new:
                self._forget_former()
        if any(one.host is not None for one in current) and not forked:
            _pipeline.senders.start()
        for destination in current if new and not forked else ():
            if destination.spool is not None:
                _pipeline.worker.later(ADOPT_AFTER, partial(_pipeline.adopt, destination))

    def _forget_former(self) -> None:
        """Forget the oldest former destinations that have nothing to send. On the worker, with the lock."""
        former = [pair for pair in list(self._by_address.items()) if pair[1] != self._plan.destinations]
        for address, group in former[: max(0, len(former) - MAX_FORMER)]:
            if not any(one.all_rows() or one.deferred() for one in group):
                self._by_address.pop(address, None)
                self._forget(group)

    def _retry_rejected(self, settings: Settings, current: tuple[Destination, ...]) -> None:
        """Retry what was rejected if the settings differ in what the answer depends on from the last that sent.

        Whatever else changes, the backend would reject the same again. Switching tracing off and on changes nothing.
        """
        if settings.disable_tracing or all(one.host is None for one in current):
            return
        last, self._sends_to = self._sends_to, (settings, current)
        if last is None or answered_by(last[0]) == answered_by(settings):
            return
        _pipeline.worker.post(lambda: _pipeline.with_lock(partial(_release, current)))
        if last[1] != current and place_of(last[0]) == place_of(settings):
            # Only the key changed: retry with the new one what was rejected with the old one.
            _pipeline.worker.post(partial(self._move_rejected, last[1], current))

    @property
    def destinations(self) -> tuple[Destination, ...]:
        """The destinations of the current settings, and of earlier ones."""
        current = self._plan.destinations
        groups = list(self._by_address.values())  # Copied at once, since the worker removes old ones.
        return (*(one for group in groups if group != current for one in group), *current)

    @property
    def destination(self) -> str | None:
        """Host of the backend, or hosts; None in local mode and while tracing is off."""
        return " and ".join(one.host for one in self._plan.destinations if one.host and self._running) or None

    @property
    def spool(self) -> Spool | None:
        """The spool on disk; None if there is none."""
        return self._plan.spool

    def configure(self, settings: Settings) -> bool:
        """Apply changed settings to everything put from now on; return True if they change the destination.

        While tracing is off, nothing is put: what was put before is sent and counted as it was.
        """
        self._running = not settings.disable_tracing
        if not self._running:
            return False
        before, self._settings = self._settings, settings
        self._use(settings)
        return address_of(before) != address_of(settings)

    def _move_rejected(self, former: Sequence[Destination], current: Sequence[Destination]) -> None:
        for old, new in zip(former, current, strict=False):
            if old is new or not old.accepts("session_start"):
                continue
            with _pipeline.all.changed:
                old.follow_key(new)
        _pipeline.senders.start()

    # Putting

    def put(self, span: ReadableSpan, origin: Origin, others: tuple[SpanTarget, ...] = ()) -> None:
        """Export an ended span; takes no lock and, except in immediate mode, does not wait for the network.

        Args:
            others: where other exporters of the provider send it.
        """
        if origin.remote is not None and remote.keep_span(span, origin):
            return
        plan = self._plan if not others else self._plan_beside(others)
        _pipeline.worker.put((plan, span, origin), span.end_time or 0)
        if self._settings.disable_batch:
            self.wait_if_immediate()

    def _plan_beside(self, others: tuple[SpanTarget, ...]) -> Plan:
        """Return the plan for spans that others export too. It is made when the other exporters change."""
        plan = self._beside.get(others)
        if plan is None:
            plan = self._beside[others] = self._plan.beside(others)
        return plan

    def is_exported_elsewhere(self, others: tuple[SpanTarget, ...]) -> bool:
        """Return whether spans that other exporters send to these targets reach all destinations without us."""
        if not others or not self._settings.otlp_enabled:
            return False
        return self._plan_beside(others).elsewhere == set(self._plan.destinations)

    def put_late(self, late: LateEvent) -> None:
        """Add an event to a span that was put before. It is sent only if the span is not finalized yet."""
        _pipeline.worker.put((self._plan, None, late))

    def request(
        self,
        kind: Kind,
        session_id: str,
        document: Mapping[str, Any],
        *,
        defer: bool = False,
        about: tuple[int, int] | None = None,
    ) -> None:
        """Send a request; it is redacted as spans are.

        Args:
            session_id: id of the session or event; requests with the same id keep their order.
            document: plain data that JSON can represent.
            defer: hold it back until the session's first span or update, and send it before that.
            about: trace id and span id of the span that shows the feedback in it.
        """
        request = Request(kind, session_id, document, defer, about)
        if not remote.keep_request(request):
            self._put_request(request)

    def _put_request(self, request: Request) -> None:
        shown = request.kind == "event_update" or request.about is not None  # It changes what is shown, too.
        kept = self._plan.keeps_requests or shown
        if self._running and self._closed is None and kept:
            _pipeline.worker.put((self._plan, None, request))

    def add_remote(self, spans: Iterable[EndedSpan], requests: Iterable[tuple[Request, RemoteOrigin | None]]) -> None:
        """Export what another process made for this one, without waiting for the backend; nothing if tracing is off."""
        if not self._running:
            return
        made = [request for request, outer in requests if not remote.keep_request(request, outer)]
        for request in made:
            if request.updates is None:  # Sessions start before their spans.
                self._put_request(request)
        for span, origin in spans:
            if origin.remote is None or not remote.keep_span(span, origin):
                _pipeline.worker.put((self._plan, span, origin), 0)
        for request in made:
            if request.updates is not None:  # The event that it updates may be that of a span.
                self._put_request(request)

    def note_lost(self, reason: str) -> None:
        """Record that something was lost before it was put, with the reason."""
        plan = self._plan
        _pipeline.worker.post(lambda: _pipeline._note_lost(plan, [reason]))

    # Waiting

    def wait_if_immediate(self) -> None:
        """In immediate mode, wait for the result of everything that was put, unless the backend is failing."""
        if (
            self._running
            and self._settings.disable_batch
            and any(one.worth_waiting() for one in self._plan.destinations)
        ):
            self._flush(self._plan.destinations, min(self._settings.api_timeout, IMMEDIATE_SECONDS), asked=False)

    def wait_finalized(self, seconds: float) -> bool:
        """Wait until every span that was put is in the log; return False if that takes longer than `seconds`."""
        return _pipeline.worker.wait_handled(seconds)

    def flush(self, seconds: float) -> bool:
        """Send everything that was put, also to earlier destinations, within `seconds` + 50 ms.

        Returns:
            True if nothing waits, nothing is held back by a rejected key, and nothing was rejected or dropped since the
            previous call.
        """
        if not self._running and not _pipeline.worker.running:
            return True
        return self._flush(self.destinations, seconds, asked=True)

    def _flush(self, destinations: Sequence[Destination], seconds: float, *, asked: bool) -> bool:
        if _pipeline.worker.is_own_thread():
            return False
        flush = Flush(seconds, asked=asked)
        hosts = [one for one in destinations if one.host is not None]
        _pipeline.worker.post(lambda: _pipeline.begin(flush, hosts))
        done = _answer(flush, seconds)
        if not done and flush.answer.value is None:
            for destination in hosts:
                destination.overdue = destination.in_flight
        return done

    def state(self, cell: str | None = None) -> ExportState:
        """Return the export counts of one cell's run, or of all spans since the last change of destination."""
        if cell is None:
            return self._state_of(self._plan.destinations, None)
        states = [self._state_of(group, cell) for group in list(self._by_address.values())]
        current = self._state_of(self._plan.destinations, cell)
        return combined([state for state in states if state.has_spans] or [current])

    def _state_of(self, destinations: Sequence[Destination], cell: str | None) -> ExportState:
        """Return one state for several destinations. A span counts as sent when all of them have it."""
        states = [one.state(cell) for one in destinations]
        state = max(states, key=lambda state: (state.made - state.sent, state.made))
        if len(states) > 1:
            hosts = " and ".join(one.host for one in destinations if one.host)
            state = state._replace(destination=hosts, failing=any(one.failing for one in states))
        return state if self._settings.otlp_enabled else state._replace(destination=None, waiting=0)

    # Sending again

    def release(self) -> None:
        """Retry everything that was rejected, given up or paused, at all destinations."""
        destinations = self.destinations
        _pipeline.worker.post(lambda: _pipeline.with_lock(partial(_release, destinations)))

    def send_again(self, session_ids: Collection[str] = ()) -> int:
        """Call `release`, and queue the rows of these sessions that were kept on this machine; return their number."""
        self.release()
        spool, destination = self._plan.spool, self._plan.destinations[0]
        if spool is None or destination.stored_as is None or not session_ids:
            return 0

        def send() -> int:
            rows = spool.take_local(session_ids, _pipeline.stored_name(destination, spool))
            _pipeline.adopt_rows(destination, rows)
            return len(rows)

        return _pipeline.worker.ask(send)

    def delete(self, session_ids: Collection[str]) -> None:
        """Delete what is still to be sent of these sessions from memory, except for what is in flight."""
        chosen, destinations = frozenset(session_ids), self.destinations

        def delete() -> None:
            for destination in destinations:
                destination.delete(chosen)

        _pipeline.worker.ask(lambda: _pipeline.with_lock(delete))

    # Ending

    def prepare_exit(self) -> None:
        """Load everything that sending needs, so that the last flush spends its time on the network only."""
        state = self._state_of(self._plan.destinations, None)
        if self.destination is not None and (_pipeline.worker.busy or state.waiting or state.requests_waiting):
            process.import_late_modules(sending=True, spooling=self._plan.spool is not None)

    def close(self, seconds: float) -> bool:
        """Send everything that was put within `seconds`, and end the threads if no other exporter needs them.

        Unsent spans that are not on disk are lost when the process ends.
        """
        if self._closed is not None:
            return self._closed
        deadline = time.monotonic() + seconds
        destinations, spools = self.destinations, {one.spool for one in self.destinations} - {None}
        done = True
        if self._running or _pipeline.worker.running:
            _pipeline.worker.post(lambda: _pipeline.with_lock(partial(_hurry, destinations)))
            done = self.flush(seconds * (1 - STOP_SHARE))  # After a Ctrl-C before the end, `close` can be called again.
            _pipeline.exporters.discard(self)
            _pipeline.worker.post(lambda: _pipeline.with_lock(partial(self._forget, destinations)))
            deadline = max(deadline, time.monotonic() + STOP_SECONDS)
            if not _pipeline.exporters:
                _pipeline.stop(deadline - time.monotonic())
            else:
                used = {one.spool for one in _pipeline.destinations()}
                for folder, spool in list(_pipeline.spools.items()):
                    if spool in spools - used:
                        _pipeline.spools.pop(folder, None)
                        _pipeline.worker.post(spool.close)
        _pipeline.exporters.discard(self)
        self._closed = done
        return done

    @staticmethod
    def _forget(destinations: Sequence[Destination]) -> None:
        """Let senders no longer serve these destinations. With the lock."""
        _pipeline.all.active[:] = [one for one in _pipeline.all.active if one not in destinations]

    def reset_in_child(self, unhandled: Iterable[tuple[Plan, Request]]) -> None:
        """Start without rows in a forked child, except for deferred session starts.

        Args:
            unhandled: deferred starts that the parent's worker had not handled yet, of all exporters.
        """
        address, before = address_of(self._settings), self._by_address
        self._by_address, self._sends_to = {}, None
        self._use(self._settings, forked=True)
        for destination, old in zip(self._plan.destinations, before.get(address, ()), strict=False):
            destination.other_ids.update(old.other_ids)
            for start in old.deferred():
                start.key = None
                destination.defer(start)
        for plan, request in unhandled:
            if plan.destinations in before.values():
                self._put_request(request)


def begin_flush(exporters: Iterable[Exporter], seconds: float, *, asked: bool = True) -> Flush:
    """Begin to send everything that was put into these exporters; `answer` of the result is given when all is done.

    It takes no lock, and lets a worker go on that waits for a fork, so that a signal handler may call it.
    """
    for resume in list(_paused.values()):
        resume.give(None)
    flush = Flush(seconds, asked=asked)
    hosts = [one for exporter in exporters for one in exporter.destinations if one.host is not None]
    _pipeline.worker.post(lambda: _pipeline.begin(flush, hosts))
    return flush


def flush_exporters(exporters: Sequence[Exporter], seconds: float, *, asked: bool) -> bool:
    """Flush several exporters within the same `seconds`; see `Exporter.flush`."""
    if _pipeline.worker.is_own_thread():
        return False
    return _answer(begin_flush(exporters, seconds, asked=asked), seconds)


def _answer(flush: Flush, seconds: float) -> bool:
    """Wait for the answer of a flush and return it; False if there is none after `seconds`."""
    done = flush.answer.wait(seconds) and flush.answer.value is True
    if not done:  # After an interrupt in the wait, nothing has been reported.
        _pipeline.worker.post(lambda: _pipeline.with_lock(flush.report))
    return done


def wait_all_finalized(seconds: float) -> bool:
    """Wait until every span that was put is in the log; return False if that takes longer than `seconds`."""
    return _pipeline.worker.wait_handled(seconds)


def _release(destinations: Iterable[Destination]) -> None:
    for destination in destinations:
        destination.release()


def _hurry(destinations: Iterable[Destination]) -> None:
    for destination in destinations:
        destination.hurry()
