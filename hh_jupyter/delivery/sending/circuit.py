"""Whether a backend can be reached: closed while it answers; open after failures, with one probe at a time."""

from __future__ import annotations

import random
import time
from typing import Final

from hh_jupyter.delivery.sending.item import Kind
from hh_jupyter.delivery.sending.verdict import Verdict

FIRST_WAIT: Final = 0.2
LONGEST_WAIT: Final = 30.0
"""Seconds before something is tried again: the first time, and the most it grows to."""

FAILURES_TO_OPEN: Final = 2
"""So many answers like 503 in a row, with no good one between them, are the backend's trouble and not one request's."""


def back_off(tries: int) -> float:
    """Seconds to wait after so many failures, with jitter: many clients must not come back at the same moment."""
    wait = FIRST_WAIT * float(1 << min(max(tries - 1, 0), 10))
    return min(LONGEST_WAIT, wait) * random.uniform(0.5, 1.0)


class Circuit:
    """One destination's state, changed by verdicts. Guarded by the outbox's lock.

    Attributes:
        failures: in a row since the last good answer.
        open: only probes go out.
        probing: one is under way.
        failed_kind: of the last request that failed; a probe prefers another endpoint.
        retry_at: moment of the next probe, on the clock of `time.monotonic`.
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
        """A request may go out now."""
        return now >= self._held_until and (not self.open or (not self.probing and now >= self.retry_at))

    def next_moment(self) -> float:
        """The earliest moment for a request, 0 when there is nothing to wait for."""
        return max(self._held_until, self.retry_at if self.open else 0.0)

    def hurry(self) -> None:
        """Let the next probe go at once. A pause that the backend asked for stays."""
        self.retry_at = 0.0

    def has_failed(self, *, spans: bool) -> bool:
        """That endpoint failed since the last good answer of any."""
        return spans in self._failed

    def ask_afresh(self) -> None:
        """Something else is asked now, so what was learnt from asking before counts for little."""
        self.failures = min(self.failures, 1)
        self.retry_at = 0.0

    def reset(self) -> None:
        """Start afresh: somebody changed something, or asked for a try now."""
        self.failures = 0
        self.open = False
        self.retry_at = self._held_until = 0.0

    def good(self, kind: Kind) -> None:
        """The backend answered as it should, be it with a refusal."""
        self.failures, self.open = 0, False
        self._failed.clear()
        self._answered_at = time.monotonic()
        if kind != "spans":
            self.failed_kind = None

    def accepted(self, kind: Kind) -> None:
        """It took something."""
        self._accepted_at[kind == "spans"] = time.monotonic()

    def accepted_since(self, moment: float, *, spans: bool | None = None) -> bool:
        """It took something after that moment: spans, another call, or (None) either."""
        return any(at > moment for of_spans, at in self._accepted_at.items() if spans in (None, of_spans))

    def bad(self, kind: Kind, verdict: Verdict, began: float) -> None:
        """A request failed in a way that another try may mend.

        Args:
            began: when it was sent; if others were answered since, the trouble is this request's alone.
        """
        now = time.monotonic()
        self.failed_kind = kind
        if verdict.retry_after is not None:
            self._held_until = now + verdict.retry_after
        elif self._answered_at > began:
            return
        self._failed.add(kind == "spans")
        if began >= self._failed_at:  # Requests that were under way together fail together, and that is one failure.
            self.failures += 1
        self._failed_at = now
        self.open = self.open or not verdict.reached or self.failures >= FAILURES_TO_OPEN
        self.retry_at = max(self._held_until, now + back_off(self.failures))
