"""The network: threads that send what is due and judge the answers. Only `ask` opens sockets besides."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from opentelemetry import context as otel_context

from hh_jupyter.delivery import pieces
from hh_jupyter.delivery.endpoint import Endpoint, HoneyHive
from hh_jupyter.delivery.outbox import Item, Outbox
from hh_jupyter.delivery.seal import THREAD_PREFIX
from hh_jupyter.delivery.verdict import Verdict, judge, stranger
from hh_jupyter.settings import Settings

if TYPE_CHECKING:
    import requests

logger = logging.getLogger(__name__)

MOST_THREADS: Final = 4
"""Requests under way at once."""

PATIENCE: Final = 0.02
"""Seconds that a request has to itself: a backend that answers faster gets everything in order, on one connection."""

IDLE_SECONDS: Final = 5.0
"""After so long without work a thread ends, but for the first one."""


class Sender:
    """Takes due items from the outbox until it is stopped, on as many threads as there is work for.

    Args:
        settings: address, key, protocol, timeouts; replaced through `settings` when they change.
        outbox: where items come from and verdicts go to.
        endpoint: makes the requests, from settings.
    """

    def __init__(
        self, settings: Settings, outbox: Outbox, endpoint: Callable[[Settings], Endpoint] = HoneyHive
    ) -> None:
        self.settings, self.endpoint = settings, endpoint
        self._outbox = outbox
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._under_way = 0
        self._last_began = 0.0
        self._stopping = False

    def start(self) -> None:
        """Start the first thread."""
        with self._outbox.changed:
            self._open_thread()

    def stop(self, timeout: float) -> None:
        """End the threads after the requests that are under way, waiting at most `timeout` seconds for all of them."""
        deadline = time.monotonic() + timeout
        with self._outbox.changed:
            self._stopping = True
            self._outbox.changed.notify_all()
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _open_thread(self) -> None:
        stays = not self._threads
        thread = threading.Thread(
            target=self._run, args=(stays,), name=f"{THREAD_PREFIX}sender-{len(self._threads)}", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def _run(self, stays: bool) -> None:
        # This thread's own requests must not become spans; the thread ends with its context, so nothing is undone.
        otel_context.attach(otel_context.set_value(otel_context._SUPPRESS_INSTRUMENTATION_KEY, True))
        line = _Line()
        while items := self._next(stays):
            try:
                self._send(items, line)
            except Exception:  # boundary: a fault here must not end the thread and so lose everything after it.
                logger.debug("sending failed inside hh_jupyter", exc_info=True)
            with self._outbox.changed:
                self._under_way -= 1
                self._outbox.changed.notify_all()
        line.close()
        with self._outbox.changed:
            self._threads.remove(threading.current_thread())

    def _next(self, stays: bool) -> list[Item]:
        """Wait for work; an empty list when this thread is to end. Looking and going to sleep are one step."""
        idle_until = None if stays else time.monotonic() + IDLE_SECONDS
        with self._outbox.changed:
            while not self._stopping:
                patience = self._last_began + PATIENCE - time.monotonic() if self._under_way else 0.0
                if patience <= 0 and (items := self._outbox.take()):
                    self._under_way, self._last_began = self._under_way + 1, time.monotonic()
                    self._share_work()
                    return items
                wait = self._outbox.seconds_to_next()
                wait = None if wait is None else max(wait, patience)
                if idle_until is not None:
                    left = idle_until - time.monotonic()
                    if left <= 0:
                        return []
                    wait = left if wait is None else min(wait, left)
                self._idle += 1
                self._outbox.changed.wait(wait)
                self._idle -= 1
        return []

    def _share_work(self) -> None:
        # A session of the caller's own may not be made for several threads at once.
        most = 1 if self.settings.requests_session is not None else MOST_THREADS
        if not self._idle and len(self._threads) < most and self._outbox.more_due():
            try:
                self._open_thread()
            except RuntimeError:  # The interpreter is ending and gives no more threads, or the system has none.
                self._threads.pop()

    def _send(self, items: Sequence[Item], line: _Line) -> None:
        try:
            bodies = [self._outbox.body_of(item) for item in items]
        except (OSError, KeyError):
            self._outbox.lose(items, "its copy on disk cannot be read any more")
            return
        settings = self.settings
        try:
            verdict = line.attempt(settings, self.endpoint(settings), items, bodies)
        except Exception as error:  # boundary: what cannot be sent because of a fault here is kept with that reason.
            logger.debug("sending failed inside hh_jupyter", exc_info=True)
            verdict = Verdict("parked", f"an internal error, {type(error).__name__}")
        if verdict.reason:
            logger.debug("%s", verdict.reason)
        if self._outbox.settle(items, verdict):
            body_by_item = dict(zip(items, bodies, strict=True))
            self._outbox.split(items, pieces.halves(items, body_by_item.__getitem__))


class _Line:
    """The kept connection of one thread."""

    def __init__(self) -> None:
        self._session: requests.Session | None = None
        self._opened_for: Settings | None = None

    def attempt(
        self, settings: Settings, endpoint: Endpoint, items: Sequence[Item], bodies: Sequence[bytes]
    ) -> Verdict:
        """Send these items in one request."""
        import requests  # Only here, on these threads: it costs more to import than all of the tracer.

        from hh_jupyter.delivery.connection import host_of

        request = endpoint.request(items, bodies)
        host = host_of(request.url)
        try:
            answer = request.send(self._connected(settings))
            return judge(answer, host, items[0].kind, items[0].session_id)
        except requests.Timeout:
            return Verdict("retry", f"{host} does not answer", reached=False, timed_out=True)
        except requests.exceptions.SSLError:
            return Verdict("retry", f"the certificate of {host} is not accepted", reached=False)
        except requests.exceptions.ProxyError:
            return Verdict("retry", f"the proxy to {host} cannot be reached", reached=False)
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            return Verdict("retry", f"{host} cannot be reached", reached=False)
        except requests.exceptions.ContentDecodingError:
            return stranger(host)
        except requests.RequestException as error:
            return Verdict("parked", f"the request could not be made, {type(error).__name__}")

    def _connected(self, settings: Settings) -> requests.Session:
        from hh_jupyter.delivery import connection

        if self._session is None or self._opened_for is not settings:
            self.close()
            self._session, self._opened_for = connection.open_session(settings), settings
        return self._session

    def close(self) -> None:
        """Close the connection, unless it is the caller's own."""
        if self._session is not None and self._opened_for is not None:
            from hh_jupyter.delivery import connection

            connection.close_session(self._session, self._opened_for)
        self._session = None
