"""The one thread that changes outputs in place after their cell has ended: late spans, delivery, prices."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from hh_jupyter.notebook.boundary import note_failure

T = TypeVar("T")

PAUSE: Final = 0.25
"""Seconds between two rounds: an output changes at most 4 times a second, and the last change is always made."""

POLL: Final = (0.5, 5.0)
"""Seconds between two looks at outputs whose spans are not all delivered: the first, and the most it grows to."""


class Updates(Generic[T]):
    """Refreshes outputs when asked, and those that are not settled from time to time.

    Args:
        refresh: changes one output in place; tells whether it is settled, so that nothing will change by itself.
    """

    def __init__(self, refresh: Callable[[T], bool]) -> None:
        self._refresh = refresh
        # SimpleQueue.put is re-entrant: rows arrive on any thread, also inside a garbage collection.
        self._requests: queue.SimpleQueue[T | None] = queue.SimpleQueue()
        self._unsettled: dict[int, T] = {}
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def request(self, output: T) -> None:
        """Refresh this output soon. May be called from any thread."""
        self._requests.put(output)

    def start(self) -> None:
        """Start the thread if it does not run yet. Called from the main thread, when a first output was shown."""
        if self._thread is None and not self._closing.is_set():
            self._thread = threading.Thread(target=self._run, name="hh-outputs", daemon=True)
            self._thread.start()

    def here(self) -> bool:
        """The caller is this thread, where time is nobody's."""
        return threading.current_thread() is self._thread

    def close(self) -> None:
        """Make the last changes, then end the thread; waits 2 seconds at most."""
        self._closing.set()
        self._requests.put(None)
        if self._thread is not None:
            self._thread.join(2)

    def _run(self) -> None:
        poll = POLL[0]
        while True:
            asked = self._next(poll)
            poll = POLL[0] if asked else min(poll * 2, POLL[1])
            for output in asked or tuple(self._unsettled.values()):
                self._refresh_one(output)
            if self._closing.is_set() and self._requests.empty():
                return
            self._closing.wait(PAUSE)

    def _next(self, poll: float) -> tuple[T, ...]:
        """Everything asked for so far, each once; waits for the first. Empty when it is time to look around."""
        asked: dict[int, T] = {}
        timeout = poll if self._unsettled else None
        try:
            while True:
                output = self._requests.get(timeout=timeout)
                if output is not None:
                    asked[id(output)] = output
                timeout = 0
        except queue.Empty:
            return tuple(asked.values())

    def _refresh_one(self, output: T) -> None:
        try:
            settled = self._refresh(output)
        except Exception as error:  # boundary: an output that fails stays as it is
            note_failure("Outputs.refresh", error)
            settled = True
        if settled:
            self._unsettled.pop(id(output), None)
        else:
            self._unsettled[id(output)] = output
