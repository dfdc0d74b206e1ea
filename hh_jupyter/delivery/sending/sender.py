"""Sender threads: they send due items and judge the answers. Apart from these, only `ask` opens sockets."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from opentelemetry import context as otel_context

from hh_jupyter.delivery.sealing.seal import THREAD_PREFIX
from hh_jupyter.delivery.sending import pieces
from hh_jupyter.delivery.sending.endpoint import Endpoint, HoneyHive
from hh_jupyter.delivery.sending.item import Item
from hh_jupyter.delivery.sending.line import Line
from hh_jupyter.delivery.sending.outbox import Outbox
from hh_jupyter.delivery.sending.pace import Pace
from hh_jupyter.delivery.sending.verdict import Verdict
from hh_jupyter.settings import Settings

logger = logging.getLogger(__name__)

MOST_THREADS: Final = 4
"""Maximum number of concurrent requests."""

IDLE_SECONDS: Final = 5.0
"""A thread ends after this time without work; the last thread ends only if nothing waits."""


class Sender:
    """Sends due items of the outbox until stopped, on as many threads as the work requires.

    Args:
        settings: address, key, protocol and timeouts. Assign the `settings` attribute to change them.
        outbox: supplies items and receives verdicts.
        endpoint: creates an endpoint from the settings.
    """

    def __init__(
        self, settings: Settings, outbox: Outbox, endpoint: Callable[[Settings], Endpoint] = HoneyHive
    ) -> None:
        self.settings, self.endpoint = settings, endpoint
        self._outbox = outbox
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._pace = Pace()
        self._running = self._stranded = False
        outbox.on_work = self.wake

    def start(self) -> None:
        """Start the first thread."""
        with self._outbox.changed:
            self._running = True
            self._open_thread()

    def wake(self) -> None:
        """Ensure that a thread is free for new items, so that they do not wait for a hanging request."""
        with self._outbox.changed:
            if self._running and not self._idle:
                self._open_thread()

    def stop(self, timeout: float) -> None:
        """Stop the threads once their current requests end. Wait at most `timeout` seconds in total."""
        deadline = time.monotonic() + timeout
        with self._outbox.changed:
            self._running = False
            self._outbox.changed.notify_all()
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    @property
    def stranded(self) -> bool:
        """Whether no thread runs and none can start. Since Python 3.12, none can start during shutdown."""
        return self._stranded and not self._threads

    def send_here(self, deadline: float) -> None:
        """Send due items on the calling thread until `deadline` (on the `time.monotonic` clock)."""
        line = Line(_nothing, until=deadline)
        token = otel_context.attach(otel_context.set_value(otel_context._SUPPRESS_INSTRUMENTATION_KEY, True))
        try:
            while time.monotonic() < deadline and (items := self._outbox.take()):
                self._send(items, line)
        finally:
            otel_context.detach(token)
            line.close()

    def _open_thread(self) -> None:
        # An HTTP session supplied by the caller may not be thread-safe.
        if len(self._threads) >= (1 if self.settings.requests_session is not None else MOST_THREADS):
            return
        thread = threading.Thread(target=self._run, name=f"{THREAD_PREFIX}sender-{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        try:
            thread.start()
            self._stranded = False
        except RuntimeError:  # The interpreter is shutting down, or the system is out of threads.
            self._threads.remove(thread)
            self._stranded = True

    def _run(self) -> None:
        # This thread's own requests must not be traced. The context ends with the thread, so it is never detached.
        otel_context.attach(otel_context.set_value(otel_context._SUPPRESS_INSTRUMENTATION_KEY, True))
        line = Line(self._begins)
        while items := self._next():
            try:
                self._send(items, line)
            except Exception:  # boundary: a bug here must not end the thread and lose later items.
                logger.debug("sending failed inside hh_jupyter", exc_info=True)
            with self._outbox.changed:
                self._pace.ended(threading.get_ident())
                self._outbox.changed.notify_all()
        line.close()

    def _begins(self) -> None:
        with self._outbox.changed:
            self._pace.began(threading.get_ident())

    def _next(self) -> list[Item]:
        """Wait for due items; return an empty list when this thread must end. The lock makes check and wait atomic."""
        idle_until = time.monotonic() + IDLE_SECONDS
        with self._outbox.changed:
            while self._running:
                patience = self._pace.wait()
                if not patience and (items := self._outbox.take()):
                    self._pace.took(threading.get_ident())
                    if not self._idle and self._outbox.more_due():
                        self._open_thread()
                    return items
                wait = self._outbox.seconds_to_next()
                left = idle_until - time.monotonic()
                if left <= 0 and (wait is None or len(self._threads) > 1):
                    break
                wait = left if wait is None else max(wait, patience)
                self._idle += 1
                self._outbox.changed.wait(min(wait, left) if left > 0 else wait)
                self._idle -= 1
            self._threads.remove(threading.current_thread())  # Under the same lock: new items need another thread.
        return []

    def _send(self, items: Sequence[Item], line: Line) -> None:
        try:
            bodies = [self._outbox.body_of(item) for item in items]
        except (OSError, KeyError):
            self._outbox.lose(items, "its copy on disk cannot be read any more")
            return
        settings = self.settings
        try:
            verdict = line.attempt(settings, self.endpoint(settings), items, bodies)
        except Exception as error:  # boundary: items that fail because of a bug here are parked with that reason.
            logger.debug("sending failed inside hh_jupyter", exc_info=True)
            verdict = Verdict("parked", f"an internal error, {type(error).__name__}")
        if verdict.reason:
            logger.debug("%s", verdict.reason)
        if self._outbox.settle(items, verdict):
            body_by_item = dict(zip(items, bodies, strict=True))
            self._outbox.split(items, pieces.halves(items, body_by_item.__getitem__))


def _nothing() -> None:
    """Do nothing: a thread that sends alone needs no timing."""
