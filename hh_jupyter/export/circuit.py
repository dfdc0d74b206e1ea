"""The circuit breaker of one destination."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from hh_jupyter.export.http import Result

FIRST_WAIT: Final = 0.2
LONGEST_WAIT: Final = 30.0
"""First and longest pause before a retry, in seconds."""

FAILURES_TO_OPEN: Final = 2
"""Failures in a row, such as 503, that open the circuit. A single failure may concern one request only."""


def back_off(tries: int) -> float:
    """Return the pause in seconds after `tries` failures. Jitter keeps clients from retrying at the same time."""
    return min(LONGEST_WAIT, FIRST_WAIT * float(1 << min(max(tries - 1, 0), 10))) * random.uniform(0.5, 1.0)


class Circuit:
    """The circuit breaker of one destination: closed while it answers; open after failures, with one probe at a time.

    Attributes:
        failures: failures in a row since the last good answer.
        open: only probes are sent.
        probing: a probe is in flight.
        failed_kind: kind of the last failed request; the next probe prefers another endpoint.
        retry_at: time of the next probe, on the `time.monotonic` clock.
    """

    def __init__(self) -> None:
        self.failures = 0
        self.open = self.probing = False
        self.failed_kind: str | None = None
        self.retry_at = 0.0
        self._held_until = self._answered_at = self._counted_at = 0.0
        self._failed: set[bool] = set()
        self._accepted_at: dict[bool, float] = {}

    def may_send(self, now: float) -> bool:
        """Return whether a request may be sent now."""
        return now >= self._held_until and (not self.open or (not self.probing and now >= self.retry_at))

    def next_moment(self) -> float:
        """Return the earliest time for a request, or 0 if it may be sent at once."""
        return max(self._held_until, self.retry_at if self.open else 0.0)

    def hurry(self) -> None:
        """Allow the next probe at once. A pause that the backend asked for still applies."""
        self.retry_at = 0.0

    def has_failed(self, *, spans: bool) -> bool:
        """Return whether this endpoint has failed since the last good answer from any endpoint."""
        return spans in self._failed

    def discount(self) -> None:
        """Discount earlier failures and allow the next probe at once, because the next request is a different one."""
        self.failures = min(self.failures, 1)
        self.retry_at = 0.0

    def reset(self) -> None:
        """Close the circuit and clear all pauses, after a change of settings or on request."""
        self.failures, self.open = 0, False
        self.retry_at = self._held_until = 0.0

    def answered(self, kind: str) -> None:
        """Record a valid answer from the backend, including a rejection."""
        self.failures, self.open = 0, False
        self._failed.clear()
        self._answered_at = time.monotonic()
        if kind != "spans":
            self.failed_kind = None

    def accepted(self, kind: str) -> None:
        """Record that the backend accepted a request."""
        self._accepted_at[kind == "spans"] = time.monotonic()

    def accepted_since(self, moment: float, *, spans: bool | None = None) -> bool:
        """Return whether a request was accepted after `moment`: spans (True), another (False) or either (None)."""
        return any(at > moment for of_spans, at in self._accepted_at.items() if spans in (None, of_spans))

    def failed(self, kind: str, result: Result, taken: float) -> None:
        """Record a failure that a retry may fix.

        Args:
            taken: when the request was taken. If the backend has answered another since, only this one failed.
        """
        now = time.monotonic()
        self.failed_kind = kind
        if result.retry_after is not None:
            self._held_until = now + result.retry_after
        elif self._answered_at > taken:
            return
        self._failed.add(kind == "spans")
        if taken >= self._counted_at:  # Requests in flight together count as one failure.
            self.failures += 1
            self._counted_at = now
        self.open = self.open or not result.reached or self.failures >= FAILURES_TO_OPEN
        self.retry_at = max(self._held_until, now + back_off(self.failures))
