"""The delivery stages of one tracer (sealer, outbox, sender) and their handling of a fork."""

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
"""Share of the time for closing that is reserved for the threads to end."""

ADOPT_AFTER: Final = 0.5
"""Seconds from the start of a pipeline until it adopts the records of dead processes."""

STOP_SECONDS: Final = 0.05
"""Minimum time in seconds for the threads to end; one that hangs in a request ends with the process."""


class Pipeline:
    """Takes the ended spans of one tracer to the backend. Its threads run from `__init__` to `close`.

    Args:
        settings: settings of the tracer.
        log: receives the span records.
        details: keeps encoded bodies for displays.
    """

    def __init__(self, settings: Settings, log: SpanLog, details: DetailStore) -> None:
        self.settings, self._log, self._details = settings, log, details
        self.closed = False
        # Disabled tracing creates no spans, so there is nothing to wait for.
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
        """Queue a call; the sealer redacts it, as it redacts spans.

        Args:
            session_id: id of the session or event; calls with the same id keep their order.
            document: plain data that JSON can represent.
            defer: hold it back until the session's first span or update, and send it before that.
        """
        if self.lanes.destination is not None or self.copies.spool is not None:
            # Do not defer the session if its spans are not exported: no first span would release it.
            self.sealer.put(Call(kind, session_id, document, defer and self.settings.otlp_enabled))

    def follow(self, settings: Settings) -> None:
        """Apply changed settings for the same destination to everything queued from now on."""
        before, self.settings = self.settings, settings
        self.sealer.settings = settings
        self.lanes.follow(settings)
        if settings != before:
            self.lanes.release()

    def seal(self, seconds: float) -> bool:
        """Wait until every span put before is in the log; return False if that takes longer than `seconds`."""
        return not self.running or self.sealer.barrier(seconds)

    def flush(self, seconds: float, *, asked: bool = True) -> bool:
        """Seal and send everything queued, within `seconds` + 50 ms; see `Outbox.flush` for the return value."""
        if not self.running:
            return True
        if not self.sealer.may_wait():
            return False
        deadline = time.monotonic() + seconds
        sealed = self.sealer.barrier(seconds)
        return self.lanes.flush(deadline, asked=asked) and sealed

    def hurry(self) -> None:
        """Stop waiting to fill batches from now on, because the program is ending."""
        self.lanes.hurry()

    def make_ready(self) -> None:
        """Finish the lazy imports if anything is to be sent.

        Otherwise a program that ends soon after its first span on a busy machine would spend its last seconds on them.
        """
        state = self.lanes.state()
        if self.lanes.destination is not None and (self.sealer.busy or state.waiting or state.calls_waiting):
            self.lanes.hurry()
            with suppress(ImportError):  # The threads get the same error and report what is lost.
                import_late_modules(sending=True, spooling=self.copies.spool is not None)

    def state(self, cell: str | None = None) -> ExportState:
        """Return the export counts of one cell or of all spans; without export, there is no destination."""
        state = self.lanes.state(cell)
        return state if self.settings.otlp_enabled else state._replace(destination=None, waiting=0)

    def left_to(self, others: tuple[Target, ...]) -> bool:
        """Return whether this pipeline can skip spans that other exporters send to these targets."""
        return self.settings.otlp_enabled and self.lanes.left_to(others)

    def close(self, seconds: float) -> bool:
        """Flush within `seconds` and end the threads; return the result of the flush.

        Unsent spans that have no copy on disk are lost when the process ends.
        """
        if self.closed:
            return True
        deadline = time.monotonic() + seconds
        self.lanes.hurry()
        done = self.flush(seconds * (1 - STOP_SHARE))  # After a Ctrl-C here, `close` can be called again.
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
        """Queue the records of these sessions that were kept on this machine only; return their number."""
        kept = self.copies.take_local(session_ids)
        self.outbox.adopt(kept)
        return len(kept)

    def _adopt(self) -> None:
        """Adopt the records that dead processes left for this destination, after a delay that keeps the start fast."""
        if not self._closing.wait(ADOPT_AFTER):
            self.outbox.adopt(self.copies.adopt())

    def after_fork_in_child(self) -> None:
        """Start the child with new locks, threads and queues; the parent sends what it has queued.

        Threads that do not exist in the child may hold the old locks. Deferred session starts are kept, because either
        process may create the session's first span.
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
