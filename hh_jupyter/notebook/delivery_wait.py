"""How long a cell that has ended waits for the delivery of its spans."""

from __future__ import annotations

import time
from typing import Final

from hh_jupyter.tracing import registry
from hh_jupyter.tracing.tracer import HoneyHiveTracer

PATIENT_SECONDS: Final = 2.0
"""Where a second more harms nobody, or where waiting is all that there is."""
IMPATIENT_SECONDS: Final = 0.1


class DeliveryWait:
    """Waits after each cell of a kernel, as long as its settings and the cells before allow.

    Args:
        tracer: of the kernel.
    """

    def __init__(self, tracer: HoneyHiveTracer) -> None:
        self._tracer = tracer
        self._budget = FlushBudget()

    def wait(self, *, headless: bool) -> None:
        """Wait until every tracer has delivered, or the time is up.

        Args:
            headless: nobody looks on.
        """
        seconds = self._budget.seconds(self._allowed(headless=headless))
        if seconds <= 0 or self._tracer.destination is None:
            return
        start = time.monotonic()
        registry.flush_all(seconds)
        self._budget.note(seconds, time.monotonic() - start)

    def _allowed(self, *, headless: bool) -> float:
        """Seconds: more where nobody looks on, or nothing but this kernel has the spans."""
        settings, spool = self._tracer.settings, self._tracer.spool
        if settings.origins.get("cell_flush_seconds") != "default":
            return settings.cell_flush_seconds
        return PATIENT_SECONDS if headless or spool is None or spool.problem else settings.cell_flush_seconds


class FlushBudget:
    """How long a cell waits for delivery: after two cells in a row that used it up, 0.1 s until one is fast."""

    def __init__(self) -> None:
        self._used_up = 0

    def seconds(self, allowed: float) -> float:
        """Seconds for the next cell, `allowed` at most."""
        return min(allowed, IMPATIENT_SECONDS) if self._used_up >= 2 else allowed

    def note(self, allowed: float, taken: float) -> None:
        """What the wait came to, in seconds."""
        self._used_up = self._used_up + 1 if taken >= 0.9 * allowed else 0
