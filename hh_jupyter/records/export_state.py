"""Counts of exported and pending spans: the single source for what displays show about the export."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class ExportState(NamedTuple):
    """Counts of spans, of one cell or of the process.

    Attributes:
        destination: host of the backend; None in local mode.
        made: spans that ended and passed the filters.
        sent: spans that the backend accepted.
        waiting: spans still to be sent.
        rejected: spans that the backend rejected and that are kept.
        dropped: lost spans.
        reason: one sentence why spans are waiting, rejected or dropped; None if there is no problem.
        failing: whether the last request failed.
        requests_waiting, requests_rejected, requests_dropped: the same counts of session starts, updates and events;
            only in the state of the process.
        rejected_reason, dropped_reason: one sentence each on the cause.
        exported_elsewhere: further spans that another exporter sends to the same destination; their result is unknown.
    """

    destination: str | None
    made: int = 0
    sent: int = 0
    waiting: int = 0
    rejected: int = 0
    dropped: int = 0
    reason: str | None = None
    failing: bool = False
    requests_waiting: int = 0
    requests_rejected: int = 0
    requests_dropped: int = 0
    rejected_reason: str | None = None
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
        if not self.failing and not self.rejected and not self.dropped:
            return f"Sending {self.made - self.sent:,}"
        return f"{self.sent:,} of {self.made:,} sent" if self.sent else "Not sent"


def combined(states: Sequence[ExportState]) -> ExportState:
    """The sum of several states; local ones count only if no state has a destination."""
    exported = [state for state in states if state.destination is not None] or list(states)
    if len(exported) == 1:
        return exported[0]
    return ExportState(**{name: _merged(name, exported) for name in ExportState._fields})


def _merged(name: str, states: Sequence[ExportState]) -> Any:
    """Return the sum of a count, whether any is true, or the first text."""
    values = [getattr(state, name) for state in states]
    if type(values[0]) is int:
        return sum(values)
    return any(values) if type(values[0]) is bool else next(filter(None, values), None)
