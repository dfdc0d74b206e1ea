"""Logs one line when an outage starts and one when it ends; in a notebook, the outputs show this instead."""

from __future__ import annotations

import logging
import sys
from typing import Final

logger = logging.getLogger(__name__)

KERNEL: Final = "ipykernel.kernelapp"
"""If this module is loaded, log output of a thread would appear under whichever cell is running."""

FAILURES: Final = 2
"""Consecutive failures that count as an outage. A retry usually fixes a single failure."""

MOST_REFUSALS: Final = 20
"""Maximum number of reasons logged per destination, because a backend may vary the text of each."""

_told_by_host = False


def told_by_host(told: bool) -> None:
    """Set whether the notebook extension reports delivery itself. If so, threads log at debug level only."""
    global _told_by_host
    _told_by_host = told


class Outage:
    """Tracks which problems of one destination were logged. Guarded by the outbox's lock; logs outside of it."""

    def __init__(self, destination: str | None) -> None:
        self._destination = destination
        self._said: str | None = None
        self._refusals: set[str] = set()
        self._news: list[tuple[int, str]] = []

    def trouble(self, reason: str, failures: int) -> None:
        """Record a failed request.

        Args:
            failures: consecutive failures, including this one.
        """
        if failures >= FAILURES and self._said is None:
            self._said = reason
            self._news.append(
                (logging.WARNING, f"{reason}; spans are kept and will be sent when it is reachable again")
            )

    def refused(self, reason: str) -> None:
        """Record that an item was parked or lost. Each reason is logged once."""
        if reason not in self._refusals and len(self._refusals) < MOST_REFUSALS:
            self._refusals.add(reason)
            self._news.append((logging.WARNING, reason))

    def over(self) -> None:
        """Record that a request was accepted, which ends an outage."""
        if self._said is not None:
            self._said = None
            self._news.append((logging.INFO, f"{self._destination} is reachable again"))

    def inform(self, text: str) -> None:
        """Queue an informational message for the log."""
        self._news.append((logging.INFO, text))

    def tell(self) -> None:
        """Log the queued messages. Do not hold the outbox's lock here, because a log handler may run any code."""
        while self._news:
            level, text = self._news.pop(0)
            quiet = _told_by_host or KERNEL in sys.modules
            logger.log(logging.DEBUG if quiet else level, "%s", text)
