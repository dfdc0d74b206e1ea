"""Circuit breaker for one backend: closed while it answers, open after failures, with one probe at a time."""

from __future__ import annotations

import random
import time
from typing import Final

from hh_jupyter.delivery.sending.item import Kind
from hh_jupyter.delivery.sending.verdict import Verdict

FIRST_WAIT: Final = 0.2
LONGEST_WAIT: Final = 30.0
"""Initial and maximum retry delay, in seconds."""

FAILURES_TO_OPEN: Final = 2
"""Consecutive failures, such as 503, that open the circuit. A single failure may concern one request only."""


def back_off(tries: int) -> float:
    """Return the retry delay in seconds after `tries` failures. Jitter keeps clients from retrying at the same time."""
    wait = FIRST_WAIT * float(1 << min(max(tries - 1, 0), 10))
    return min(LONGEST_WAIT, wait) * random.uniform(0.5, 1.0)


class Circuit:
    """State of the circuit for one destination, updated by verdicts. Guarded by the outbox's lock.

    Attributes:
        failures: consecutive failures since the last good answer.
        open: only probes are sent.
        probing: a probe is in flight.
        failed_kind: kind of the last failed request; the next probe prefers another endpoint.
        retry_at: time of the next probe, on the `time.monotonic` clock.
    """

    def __init__(self) -> None:
        self.failures = 0
        self.open = self.probing = False
        self.failed_kind: Kind | None = None
        self.retry_at = 0.0
        self._held_until = 0.0
        self._answered_at = self._failed_at = 0.0
        self._failed: set[bool] = set()
        self._accepted_at: dict[bool, float] = {}

    def may_send(self, now: float) -> bool:
        """Return whether a request may be sent now."""
        return now >= self._held_until and (not self.open or (not self.probing and now >= self.retry_at))

    def next_moment(self) -> float:
        """Return the earliest time for a request, or 0 if it may be sent at once."""
        return max(self._held_until, self.retry_at if self.open else 0.0)

    def hurry(self) -> None:
        """Allow the next probe at once. A pause requested by the backend still applies."""
        self.retry_at = 0.0

    def has_failed(self, *, spans: bool) -> bool:
        """Return whether this endpoint has failed since the last good answer from any endpoint."""
        return spans in self._failed

    def ask_afresh(self) -> None:
        """Discount earlier failures and allow the next probe at once, because the next request is a different one."""
        self.failures = min(self.failures, 1)
        self.retry_at = 0.0

    def reset(self) -> None:
        """Close the circuit and clear all waits, after a settings change or an explicit retry."""
        self.failures = 0
        self.open = False
        self.retry_at = self._held_until = 0.0

    def good(self, kind: Kind) -> None:
        """Record a valid answer from the backend, including a refusal."""
        self.failures, self.open = 0, False
        self._failed.clear()
        self._answered_at = time.monotonic()
        if kind != "spans":
            self.failed_kind = None

    def accepted(self, kind: Kind) -> None:
        """Record that the backend accepted a request."""
        self._accepted_at[kind == "spans"] = time.monotonic()

    def accepted_since(self, moment: float, *, spans: bool | None = None) -> bool:
        """Return whether a request was accepted after `moment`: spans (True), a call (False) or either (None)."""
        return any(at > moment for of_spans, at in self._accepted_at.items() if spans in (None, of_spans))

    def bad(self, kind: Kind, verdict: Verdict, began: float) -> None:
        """Record a failure that a retry may fix.

        Args:
            began: when the request was sent. If the backend has answered another request since, only this one failed.
        """
        now = time.monotonic()
        self.failed_kind = kind
        if verdict.retry_after is not None:
            self._held_until = now + verdict.retry_after
        elif self._answered_at > began:
            return
        self._failed.add(kind == "spans")
        if began >= self._failed_at:  # Requests in flight together count as one failure.
            self.failures += 1
        self._failed_at = now
        self.open = self.open or not verdict.reached or self.failures >= FAILURES_TO_OPEN
        self.retry_at = max(self._held_until, now + back_off(self.failures))
