"""All stages of one tracer's delivery, put together: sealer, outbox, sender, and what happens to them in a fork."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any, Final

from hh_jupyter.delivery.forks import import_late_modules
from hh_jupyter.delivery.sealing.details import DetailStore
from hh_jupyter.delivery.sealing.seal import THREAD_PREFIX, Sealer
from hh_jupyter.delivery.sending.item import Call, Kind
from hh_jupyter.delivery.sending.lanes import Lanes, address
from hh_jupyter.delivery.sending.target import Target
from hh_jupyter.delivery.spool.copies import Copies
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.records.log import ReentrantCondition, SpanLog
from hh_jupyter.settings import Settings

STOP_SHARE: Final = 0.1
"""Part of the time for closing that is kept for the threads to end in."""

ADOPT_AFTER: Final = 0.5
"""Seconds after the start of a pipeline until it looks for what dead processes left."""

STOP_SECONDS: Final = 0.05
"""What they get at least; one that hangs in a request is left to die with the process."""


class Pipeline:
    """From an ended span to the backend, for one tracer. Threads run from `__init__` to `close`.

    Args:
        settings: of the tracer.
        log: where rows go.
        details: where encoded bodies are kept for displays.
    """

    def __init__(self, settings: Settings, log: SpanLog, details: DetailStore) -> None:
        self.settings, self._log, self._details = settings, log, details
        self.closed = False
        # Tracing that is off makes nothing, so there is nothing to wait for either.
        self.running = not settings.disable_tracing
        self.copies = Copies(settings, *address(settings))
        self._closing = threading.Event()
        self._build()
        if self.copies.spool is not None:
            details.look_in(self.copies.spool)
            threading.Thread(target=self._adopt, name=f"{THREAD_PREFIX}adopter", daemon=True).start()
        _PIPELINES.add(self)

    def _build(self) -> None:
        self.lanes = Lanes(self.settings, self.copies)
        self.outbox = self.lanes.outbox
        self.sealer = Sealer(self.settings, self.outbox, self._log, self._details, self.copies)
        if self.running:
            self.sealer.start()
            self.lanes.start()

    def call(self, kind: Kind, session_id: str, document: Mapping[str, Any], *, defer: bool = False) -> None:
        """Queue a call; it is redacted where spans are.

        Args:
            session_id: of the session, or of the event, whose calls keep their order.
            document: plain data, as JSON can hold it.
            defer: send it only before the session's first span or update.
        """
        if self.lanes.destination is not None or self.copies.spool is not None:
            # A session whose spans stay here must not wait for the first of them.
            self.sealer.put(Call(kind, session_id, document, defer and self.settings.otlp_enabled))

    def follow(self, settings: Settings) -> None:
        """Apply other settings, of the same destination, to what comes from now on."""
        before, self.settings = self.settings, settings
        self.sealer.settings = settings
        self.lanes.follow(settings)
        if settings != before:
            self.lanes.release()

    def seal(self, seconds: float) -> bool:
        """Wait until every span that was put before is in the log; False if `seconds` were not enough."""
        return not self.running or self.sealer.barrier(seconds)

    def flush(self, seconds: float, *, asked: bool = True) -> bool:
        """Seal and send what there is; see `Outbox.flush` for what True means. Returns within `seconds` + 50 ms."""
        if not self.running:
            return True
        if not self.sealer.may_wait():
            return False
        deadline = time.monotonic() + seconds
        sealed = self.sealer.barrier(seconds)
        return self.lanes.flush(deadline, asked=asked) and sealed

    def hurry(self) -> None:
        """From now on nothing waits for others like it: this is the end of the program."""
        self.lanes.hurry()

    def make_ready(self) -> None:
        """Finish what is imported late, if something is to be sent.

        A program that ends soon after its first span, on a busy machine, would spend its last seconds on that.
        """
        state = self.lanes.state()
        if self.lanes.destination is not None and (self.sealer.busy or state.waiting or state.calls_waiting):
            self.lanes.hurry()
            with suppress(ImportError):  # The threads meet it as well, and say what is lost by it.
                import_late_modules(sending=True, spooling=self.copies.spool is not None)

    def state(self, cell: str | None = None) -> ExportState:
        """Counts of one cell's spans, or of all; spans that are not exported have no destination."""
        state = self.lanes.state(cell)
        return state if self.settings.otlp_enabled else state._replace(destination=None, waiting=0)

    def left_to(self, others: tuple[Target, ...]) -> bool:
        """Whether spans that others send to these targets need not be sent from here."""
        return self.settings.otlp_enabled and self.lanes.left_to(others)

    def close(self, seconds: float) -> bool:
        """Flush within `seconds` and end the threads. What could not be sent is lost with the process."""
        if self.closed:
            return True
        deadline = time.monotonic() + seconds
        self.lanes.hurry()
        done = self.flush(seconds * (1 - STOP_SHARE))  # After a Ctrl-C here it can be closed again.
        self.closed = True
        self._closing.set()
        deadline = max(deadline, time.monotonic() + STOP_SECONDS)
        if self.running:
            self.sealer.stop(deadline - time.monotonic())
            self.lanes.stop(deadline)
        self.copies.close()
        _PIPELINES.discard(self)
        return done

    def send_local(self, session_ids: Collection[str]) -> int:
        """Send what these sessions kept on this machine only; how many records that is."""
        kept = self.copies.take_local(session_ids)
        self.outbox.adopt(kept)
        return len(kept)

    def _adopt(self) -> None:
        """Take over what dead processes left for this destination, but not in the way of what starts right now."""
        if not self._closing.wait(ADOPT_AFTER):
            self.outbox.adopt(self.copies.adopt())

    def after_fork_in_child(self) -> None:
        """A child has none of its parent's threads and owes nothing of what the parent still holds.

        Locks may be held by threads that the child does not have. Sessions that are still to be registered may get
        their first span in either process.
        """
        if self.closed:
            return
        self._log.lock = ReentrantCondition()
        self._details.lock = ReentrantCondition()
        deferred, other_ids = self.outbox.deferred(), self.outbox.other_ids
        self._build()
        self.outbox.other_ids.update(other_ids)
        for start in deferred:
            self.outbox.defer_start(start)


_PIPELINES: weakref.WeakSet[Pipeline] = weakref.WeakSet()


def _before_fork() -> None:
    if pipelines := list(_PIPELINES):
        import_late_modules(
            sending=any(pipeline.lanes.destination for pipeline in pipelines),
            spooling=any(pipeline.copies.spool for pipeline in pipelines),
        )


def _after_fork_in_child() -> None:
    for pipeline in list(_PIPELINES):
        pipeline.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
