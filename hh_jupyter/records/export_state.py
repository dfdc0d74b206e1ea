"""What became of spans on their way to the backend: the only source of what a display says about delivery."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class ExportState(NamedTuple):
    """Counts of spans, of one cell or of all.

    Attributes:
        destination: host of the backend, or None in local mode.
        made: spans that ended and were kept by the filters.
        sent: accepted by the backend.
        waiting: sealed or not, still to be sent.
        parked: refused by the backend and kept.
        dropped: lost, for the reason given.
        reason: one sentence about what keeps the waiting, parked or dropped ones; None when nothing does.
        failing: the last attempt at sending did not come through.
        calls_waiting, calls_parked, calls_dropped: the same of session starts, updates and events; of all only.
        parked_reason, dropped_reason: one sentence each about why there are such.
        left: more spans, which another exporter sends to the same place; what becomes of them it alone knows.
    """

    destination: str | None
    made: int = 0
    sent: int = 0
    waiting: int = 0
    parked: int = 0
    dropped: int = 0
    reason: str | None = None
    failing: bool = False
    calls_waiting: int = 0
    calls_parked: int = 0
    calls_dropped: int = 0
    parked_reason: str | None = None
    dropped_reason: str | None = None
    left: int = 0

    @property
    def has_spans(self) -> bool:
        """Whether it counts any spans."""
        return bool(self.made or self.left)

    @property
    def left_to_others(self) -> bool:
        """All of the spans are another exporter's to send."""
        return self.destination is not None and self.left > 0 and not self.made

    @property
    def word(self) -> str:
        """The one word that displays show: Sent, Sending 6, 12 of 14 sent, Not sent, Local only, Left to others."""
        if self.destination is None:
            return "Local only"
        if self.left_to_others:
            return "Left to others"
        if self.sent >= self.made:
            return "Sent"
        if not self.failing and not self.parked and not self.dropped:
            return f"Sending {self.made - self.sent:,}"
        return f"{self.sent:,} of {self.made:,} sent" if self.sent else "Not sent"


def combined(states: Sequence[ExportState]) -> ExportState:
    """One state for spans that went several ways; local ones count only where nothing has a destination."""
    going = [state for state in states if state.destination is not None] or list(states)
    if len(going) == 1:
        return going[0]
    return ExportState(
        destination=next((state.destination for state in going if state.destination), None),
        made=sum(state.made for state in going),
        sent=sum(state.sent for state in going),
        waiting=sum(state.waiting for state in going),
        parked=sum(state.parked for state in going),
        dropped=sum(state.dropped for state in going),
        reason=next((state.reason for state in going if state.reason), None),
        failing=any(state.failing for state in going),
        calls_waiting=sum(state.calls_waiting for state in going),
        calls_parked=sum(state.calls_parked for state in going),
        calls_dropped=sum(state.calls_dropped for state in going),
        parked_reason=next((state.parked_reason for state in going if state.parked_reason), None),
        dropped_reason=next((state.dropped_reason for state in going if state.dropped_reason), None),
        left=sum(state.left for state in going),
    )
