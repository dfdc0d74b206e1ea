"""The sender threads of this process: they take requests that are due, post them, and settle what the backend answered.

There are as many as the work requires: one while backends are fast, more beside requests that take long. One of them
stays, because no thread can be started while the interpreter shuts down.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

from hh_jupyter.export import process
from hh_jupyter.export.destination import Destination, Destinations
from hh_jupyter.export.flush import Flush
from hh_jupyter.export.model import Row
from hh_jupyter.export.queue import Batch
from hh_jupyter.export.worker import THREAD_PREFIX, Worker
from hh_jupyter.threads import start_thread

if TYPE_CHECKING:
    from hh_jupyter.export.http import Connection, Result

logger = logging.getLogger(__name__)

IDLE_SECONDS: Final = 5.0
"""A thread beside the first ends after this time without work."""

MAX_THREADS: Final = 64
MAX_CONNECTIONS: Final = 8
"""Number of connections that a thread keeps open, one for each destination."""

UNREADABLE: Final = "its copy on disk cannot be read any more"


class Senders:
    """Sends what is due at all destinations.

    Args:
        destinations: supply requests and receive their results.
        worker: reads bodies that only the spool holds.
    """

    def __init__(self, destinations: Destinations, worker: Worker) -> None:
        self._destinations, self._worker = destinations, worker
        self.reset()

    def reset(self) -> None:
        """Start without threads, as in a forked child."""
        self._threads: list[threading.Thread] = []
        self._ending: list[threading.Thread] = []
        self._idle = 0
        self._running = False
        self._next_destination = 0

    def start(self) -> None:
        """Make sure that a thread is free, so that new rows do not wait for a request that hangs."""
        with self._destinations.changed:
            self._running = True
            if not self._idle:
                self._open_thread()
            self._destinations.changed.notify_all()

    def stop(self) -> None:
        """End the threads once their current requests end."""
        with self._destinations.changed:
            self._running = False
            self._ending = list(self._threads)  # They leave the other list before they have ended.
            self._destinations.changed.notify_all()

    def join(self, seconds: float) -> None:
        """Wait until the threads have ended, at most `seconds` in total."""
        deadline = time.monotonic() + seconds
        for thread in self._ending:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _open_thread(self) -> None:
        if len(self._threads) >= MAX_THREADS:
            return
        with process.taking_shared_locks():
            thread = start_thread(self._run, f"{THREAD_PREFIX}sender-{len(self._threads)}")
        if thread is not None:  # It waits for the lock that the caller holds.
            self._threads.append(thread)
            self._idle += 1  # Until it has looked for work.

    def _run(self) -> None:
        self._worker.add_own_thread()
        connections: dict[Destination, Connection] = {}
        with self._destinations.changed:
            self._idle -= 1
        while (found := self._next()) is not None:
            try:
                self._send(*found, connections)
            except Exception:  # boundary: a bug must not end the thread and lose later rows.
                logger.debug("sending failed inside hh_jupyter", exc_info=True)
        for connection in connections.values():
            connection.close()
        self._worker.remove_own_thread()

    def send_here(self, flush: Flush, end_turn: Callable[[], None]) -> None:
        """If no sender thread can be started, send on the calling thread until the flush is answered or too late.

        Args:
            end_turn: called after each request; see `Worker`.
        """
        connections: dict[Destination, Connection] = {}
        signals = self._worker.signals
        while not self._threads and not flush.answer.given and signals.raised is None:
            now = time.monotonic()
            found = self._take(now)
            if found is not None:
                self._send(*found, connections, max(0.01, flush.deadline - now), signals)
                end_turn()
            elif (moment := self._next_moment(now)) < flush.deadline:
                with signals.allowed():
                    time.sleep(max(0.001, moment - now))
            else:
                break
        for connection in connections.values():
            connection.close()

    def _next(self) -> tuple[Destination, Batch] | None:
        """Wait for a request that is due; return None if this thread must end. The lock makes check and wait one."""
        idle_until = time.monotonic() + IDLE_SECONDS
        with self._destinations.changed:
            while self._running:
                now = time.monotonic()
                found = self._taken(now)
                if found is not None:
                    if not self._idle and any(one.more_due(now) for one in self._destinations.active):
                        self._open_thread()
                    return found
                left = idle_until - now if len(self._threads) > 1 else math.inf
                if left <= 0:
                    break
                wait = min(left, max(0.001, self._next_moment(now) - now))
                self._idle += 1
                self._destinations.changed.wait(None if wait == math.inf else min(wait, threading.TIMEOUT_MAX))
                self._idle -= 1
            self._threads.remove(threading.current_thread())  # Under the same lock: new rows need another thread.
        return None

    def _next_moment(self, now: float) -> float:
        moments = [one.next_moment(now) for one in self._destinations.active]
        return min((one for one in moments if one is not None), default=math.inf)

    def _take(self, now: float) -> tuple[Destination, Batch] | None:
        with self._destinations.changed:
            return self._taken(now)

    def _taken(self, now: float) -> tuple[Destination, Batch] | None:
        """Return the next request, from each destination in turn."""
        destinations = self._destinations.active
        for index in range(len(destinations)):
            destination = destinations[(self._next_destination + index) % len(destinations)]
            batch = destination.take(now)
            if batch is not None:
                self._next_destination = (self._next_destination + index + 1) % len(destinations)
                return destination, batch
        return None

    def _send(
        self,
        destination: Destination,
        batch: Batch,
        connections: dict[Destination, Connection],
        seconds: float = math.inf,
        signals: process.DeferredSignals | None = None,
    ) -> None:
        result: Result | None = None
        with process.taking_shared_locks():
            process.import_late_modules(sending=True, spooling=False)
        from hh_jupyter.export.http import Result

        interrupted = Result("retry", "sending was interrupted")
        try:
            with signals.allowed() if signals is not None else nullcontext():
                result = self._result(destination, batch, connections, seconds)
        except Exception as error:  # boundary: rows that fail because of a bug here are rejected with that reason.
            if signals is not None and signals.raised is not None:  # The program's own handler of a signal raised it.
                result = interrupted
            else:
                logger.debug("sending failed inside hh_jupyter", exc_info=True)
                result = Result("rejected", f"an internal error, {type(error).__name__}")
        except BaseException:  # Ctrl-C in `send_here`, on the program's main thread.
            self._settle(destination, batch, interrupted)
            raise
        self._settle(destination, batch, result)

    def _settle(self, destination: Destination, batch: Batch, result: Result | None) -> None:
        with self._destinations.changed:
            if result is not None:
                destination.settle(batch, result)
            self._destinations.changed.notify_all()
        self._destinations.follow_ups.write_log()

    def _result(
        self, destination: Destination, batch: Batch, connections: dict[Destination, Connection], seconds: float
    ) -> Result | None:
        """Post a request and return the result; None if some of its bodies cannot be read."""
        bodies = self._bodies(destination, batch.rows)
        unreadable = [row for row, body in zip(batch.rows, bodies, strict=True) if not body]
        if unreadable:
            with self._destinations.changed:
                destination.lose(batch, unreadable, UNREADABLE)
            return None
        first, connection = batch.rows[0], _connection(destination, connections)
        return connection.post(
            destination.settings,
            first.kind,
            first.session_id,
            bodies,
            lambda: self._begin(destination, batch),
            seconds=seconds,
        )

    def _begin(self, destination: Destination, batch: Batch) -> None:
        with self._destinations.changed:
            destination.begin(batch)
            self._destinations.changed.notify_all()

    def _bodies(self, destination: Destination, rows: Sequence[Row]) -> list[bytes]:
        """Return the bodies to send, read from the spool if they are not in memory; empty if they cannot be read."""
        stored: dict[int, bytes] = {}
        keys = [row.key for row in rows if not row.body and row.key is not None]
        spool = destination.spool
        if keys and spool is not None:
            stored = self._worker.ask(lambda: spool.load(keys))
        return [destination.body_to_send(row, row.body or stored.get(row.key or 0, b"")) for row in rows]


def _connection(destination: Destination, connections: dict[Destination, Connection]) -> Connection:
    """Return this thread's connection to a destination, opening it if needed."""
    found = connections.pop(destination, None)
    if found is None:
        found = destination.connect()
        while len(connections) >= MAX_CONNECTIONS:
            connections.pop(next(iter(connections))).close()
    connections[destination] = found
    return found
