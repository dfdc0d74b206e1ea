"""One log line per outage and one when it is over; none at all where a notebook tells it in its outputs."""

from __future__ import annotations

import logging
import sys
from typing import Final

logger = logging.getLogger(__name__)

KERNEL: Final = "ipykernel.kernelapp"
"""Where this module is loaded, what a thread prints lands under whichever cell happens to run."""

FAILURES: Final = 2
"""So many in a row are an outage; a single one is mended by the next try."""

MOST_REFUSALS: Final = 20
"""Reasons told of one destination: a backend may put something new into each."""

_told_by_host = False


def told_by_host(told: bool) -> None:
    """Whether a host, the notebook extension, tells about delivery itself; then threads log nothing above debug."""
    global _told_by_host
    _told_by_host = told


class Outage:
    """Whether trouble with one destination has been said. Guarded by the outbox's lock; logs outside of it."""

    def __init__(self, destination: str | None) -> None:
        self._destination = destination
        self._said: str | None = None
        self._refusals: set[str] = set()
        self._news: list[tuple[int, str]] = []

    def trouble(self, reason: str, failures: int) -> None:
        """A request did not come through.

        Args:
            failures: in a row, this one included.
        """
        if failures >= FAILURES and self._said is None:
            self._said = reason
            self._news.append(
                (logging.WARNING, f"{reason}; spans are kept and will be sent when it is reachable again")
            )

    def refused(self, reason: str) -> None:
        """Something was parked, or is lost; each reason is said once."""
        if reason not in self._refusals and len(self._refusals) < MOST_REFUSALS:
            self._refusals.add(reason)
            self._news.append((logging.WARNING, reason))

    def over(self) -> None:
        """Something was accepted."""
        if self._said is not None:
            self._said = None
            self._news.append((logging.INFO, f"{self._destination} is reachable again"))

    def inform(self, text: str) -> None:
        """Something that the user may want to know and that is no trouble."""
        self._news.append((logging.INFO, text))

    def tell(self) -> None:
        """Log the news. The caller does not hold the outbox's lock: a log handler may do anything."""
        while self._news:
            level, text = self._news.pop(0)
            quiet = _told_by_host or KERNEL in sys.modules
            logger.log(logging.DEBUG if quiet else level, "%s", text)
