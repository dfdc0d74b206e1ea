"""How many requests go at once: a single one while a backend is fast, which keeps everything in order; else several."""

from __future__ import annotations

import time
from typing import Final

PATIENCE: Final = 0.02
"""Seconds that a request has to itself. A backend that takes longer is slow and gets several until it is fast again."""

POLL: Final = 0.01
"""Seconds between two looks at a request whose connection is still being made ready."""


class Pace:
    """Decides whether another request may go beside those under way. Guarded by the outbox's lock."""

    def __init__(self) -> None:
        self._began: dict[int, float | None] = {}
        self._slow = False

    def took(self, thread: int) -> None:
        """This thread has something to send and makes its connection ready, which says nothing about the backend."""
        self._began[thread] = None

    def began(self, thread: int) -> None:
        """Its request goes out now."""
        self._began[thread] = time.monotonic()

    def ended(self, thread: int) -> None:
        """It is over, whatever came of it."""
        began = self._began.pop(thread, None)
        if began is not None:
            self._slow = time.monotonic() - began >= PATIENCE

    def wait(self) -> float:
        """Seconds until another request may go; 0 when it may go now."""
        if self._slow or not self._began:
            return 0.0
        moments = [moment for moment in self._began.values() if moment is not None]
        if not moments:
            return POLL
        left = min(moments) + PATIENCE - time.monotonic()
        self._slow = left <= 0
        return max(0.0, left)
