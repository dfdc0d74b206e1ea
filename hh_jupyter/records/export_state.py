"""Counts of exported and pending spans: the single source for what displays show about the export."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class ExportState(NamedTuple):
    """Counts of spans, of one cell or of the process.

    Attributes:
        destination: host of the backend; None in local mode.
        made: spans that ended and passed the filters.
        sent: spans that the backend accepted.
        waiting: spans still to be sent.
        parked: spans that the backend rejected and that are kept.
        dropped: lost spans.
        reason: one sentence why spans are waiting, parked or dropped; None if there is no problem.
        failing: whether the last request failed.
        calls_waiting, calls_parked, calls_dropped: the same counts of session starts, updates and events; only in the
            state of the process.
        parked_reason, dropped_reason: one sentence each on the cause.
        exported_elsewhere: further spans that another exporter sends to the same destination; their result is unknown.
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
    exported_elsewhere: int = 0

    @property
    def has_spans(self) -> bool:
        """Whether any spans are counted."""
        return bool(self.made or self.exported_elsewhere)

    @property
    def left_to_others(self) -> bool:
        """Whether another exporter sends all of the spans."""
        return self.destination is not None and self.exported_elsewhere > 0 and not self.made

    @property
    def word(self) -> str:
        """The status that displays show: Sent, Sending 6, 12 of 14 sent, Not sent, Local only, Left to others."""
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
    """The sum of several states; local ones count only if no state has a destination."""
    exported = [state for state in states if state.destination is not None] or list(states)
    if len(exported) == 1:
        return exported[0]
    return ExportState(
        destination=next((state.destination for state in exported if state.destination), None),
        made=sum(state.made for state in exported),
        sent=sum(state.sent for state in exported),
        waiting=sum(state.waiting for state in exported),
        parked=sum(state.parked for state in exported),
        dropped=sum(state.dropped for state in exported),
        reason=next((state.reason for state in exported if state.reason), None),
        failing=any(state.failing for state in exported),
        calls_waiting=sum(state.calls_waiting for state in exported),
        calls_parked=sum(state.calls_parked for state in exported),
        calls_dropped=sum(state.calls_dropped for state in exported),
        parked_reason=next((state.parked_reason for state in exported if state.parked_reason), None),
        dropped_reason=next((state.dropped_reason for state in exported if state.dropped_reason), None),
        exported_elsewhere=sum(state.exported_elsewhere for state in exported),
    )
