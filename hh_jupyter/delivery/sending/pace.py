"""Concurrency of requests: one at a time while the backend is fast, which preserves the order; several otherwise."""

from __future__ import annotations

import time
from typing import Final

PATIENCE: Final = 0.02
"""If a request takes longer than this, allow concurrent requests until the backend is fast again."""

POLL: Final = 0.01
"""Polling interval, in seconds, while all requests are still preparing their connection."""


class Pace:
    """Decides whether another request may be sent in parallel with those in flight. Guarded by the outbox's lock."""

    def __init__(self) -> None:
        self._began: dict[int, float | None] = {}
        self._slow = False

    def took(self, thread: int) -> None:
        """Record that a thread took items and prepares its connection. This time does not count as backend latency."""
        self._began[thread] = None

    def began(self, thread: int) -> None:
        """Record that the thread sends its request now."""
        self._began[thread] = time.monotonic()

    def ended(self, thread: int) -> None:
        """Record that the thread's request ended, with any outcome."""
        began = self._began.pop(thread, None)
        if began is not None:
            self._slow = time.monotonic() - began >= PATIENCE

    def wait(self) -> float:
        """Return the seconds until another request may be sent; 0 if it may be sent now."""
        if self._slow or not self._began:
            return 0.0
        moments = [moment for moment in self._began.values() if moment is not None]
        if not moments:
            return POLL
        left = min(moments) + PATIENCE - time.monotonic()
        self._slow = left <= 0
        return max(0.0, left)
