"""All stages of one tracer's delivery, put together: sealer, outbox, sender, and what happens to them in a fork."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from hh_jupyter.delivery.details import DetailStore
from hh_jupyter.delivery.outbox import Call, Kind, Outbox
from hh_jupyter.delivery.seal import Sealer
from hh_jupyter.delivery.sender import Sender
from hh_jupyter.records.export_state import ExportState
from hh_jupyter.records.log import SpanLog
from hh_jupyter.records.reentry import Guard
from hh_jupyter.settings import Settings

STOP_SECONDS: Final = 0.5
"""Longest wait for a thread to end at shutdown; a hanging request must not hold it up."""


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
        self._build()
        _PIPELINES.add(self)

    def _build(self) -> None:
        settings = self.settings
        host = None if settings.local else urlsplit(settings.server_url).netloc.rpartition("@")[2]
        self.outbox = Outbox(host, settings.batch_size, settings.flush_interval)
        self.sealer = Sealer(settings, self.outbox, self._log, self._details)
        self.sealer.start()
        self._sender = None if host is None else Sender(settings, self.outbox)
        if self._sender is not None:
            self._sender.start()

    def call(self, kind: Kind, session_id: str, document: Mapping[str, Any], *, defer: bool = False) -> None:
        """Queue a call; it is redacted where spans are.

        Args:
            session_id: of the session, or of the event, whose calls keep their order.
            document: plain data, as JSON can hold it.
            defer: send it only before the session's first span or update.
        """
        if self.outbox.destination is not None:
            self.sealer.put(Call(kind, session_id, document, defer))

    def follow(self, settings: Settings) -> None:
        """Apply other settings, of the same destination, to what comes from now on."""
        self.settings = self.sealer.settings = settings
        self.outbox.batch_size, self.outbox.flush_interval = settings.batch_size, settings.flush_interval
        if self._sender is not None:
            self._sender.settings = settings

    def flush(self, seconds: float, *, asked: bool = True) -> bool:
        """Seal and send what there is; see `Outbox.flush` for what True means. Returns within `seconds` + 50 ms."""
        if not self.sealer.may_wait():
            return False
        deadline = time.monotonic() + seconds
        sealed = self.sealer.barrier(seconds)
        return self.outbox.flush(deadline, asked=asked) and sealed

    def state(self, cell: str | None = None) -> ExportState:
        """Counts of one cell's spans, or of all."""
        return self.outbox.state(cell)

    def close(self, seconds: float) -> bool:
        """Flush within `seconds` and end the threads. What could not be sent is lost with the process."""
        if self.closed:
            return True
        done = self.flush(seconds)  # After a Ctrl-C here it can be closed again.
        self.closed = True
        self.sealer.stop(STOP_SECONDS)
        if self._sender is not None:
            self._sender.stop(STOP_SECONDS)
        _PIPELINES.discard(self)
        return done

    def after_fork_in_child(self) -> None:
        """A child has none of its parent's threads and owes nothing of what the parent still holds.

        Locks may be held by threads that the child does not have. Sessions that are still to be registered may get
        their first span in either process.
        """
        if self.closed:
            return
        self._log.lock = Guard()
        self._details.lock = Guard()
        deferred = self.outbox.deferred()
        self._build()
        for start in deferred:
            self.outbox.defer_start(start)


_PIPELINES: weakref.WeakSet[Pipeline] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for pipeline in list(_PIPELINES):
        pipeline.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
