"""The requests in flight to one destination: one at a time while it is fast, several once it is slow."""

from __future__ import annotations

import time
from typing import Final

from hh_jupyter.export.queue import Batch

MAX_CONCURRENT: Final = 4
"""Number of requests at once, once the backend is slow."""

SLOW_SECONDS: Final = 0.02
"""If a request takes longer than this, others are sent beside it until the backend is fast again."""

POLL_SECONDS: Final = 0.01
"""Pause before the next look while all requests in flight are still preparing their connection."""


class Flights:
    """The requests in flight to one destination.

    Attributes:
        batches: their rows.
    """

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self._slow = False

    @property
    def any_spans(self) -> bool:
        """Whether spans are in flight."""
        return any(batch.of_spans for batch in self.batches)

    def begin(self, batch: Batch, now: float, *, probe: bool) -> None:
        """Add a request that a sender has taken."""
        batch.taken, batch.sending_since, batch.probe = now, 0.0, probe
        self.batches.append(batch)

    def end(self, batch: Batch) -> None:
        """Remove a request that was answered or failed; how long it took decides whether others go beside the next."""
        self.batches.remove(batch)
        if batch.sending_since:
            self._slow = time.monotonic() - batch.sending_since >= SLOW_SECONDS

    def pause(self, now: float, *, one_at_a_time: bool) -> float:
        """Return the seconds until another request may be sent beside those in flight: 0 if now."""
        if not self.batches:
            return 0.0
        if len(self.batches) >= (1 if one_at_a_time else MAX_CONCURRENT):
            return POLL_SECONDS * 10
        if self._slow:
            return 0.0
        moments = [batch.sending_since for batch in self.batches if batch.sending_since]
        if not moments:
            return POLL_SECONDS
        left = min(moments) + SLOW_SECONDS - now
        self._slow = left <= 0
        return max(0.0, left)
