"""Spans that two instrumentors made of one operation, linked neither as parent and child nor by an equal id."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Final

from hh_jupyter.records.record import SpanRecord

_COMPARED: Final = 64
"""So many of those that look the same and run at once are compared: with all of them the time would be quadratic."""


def by_place(record: SpanRecord) -> tuple[int, int, int, int]:
    """A sort key: by start, what encloses before what it encloses; the same for rows in any order."""
    return record.start_ns, -record.duration_ns, record.trace_id, record.span_id


def twins(
    members: Sequence[SpanRecord], alike: Callable[[SpanRecord], Hashable]
) -> Iterator[tuple[SpanRecord, SpanRecord]]:
    """Pairs of spans of different scopes, alike, the second one within the first in time.

    One span is paired with at most one of each other scope: calls that run side by side stay apart.

    Args:
        members: sorted `by_place`.
        alike: what both must have in common; None for spans that have no twin.
    """
    if len({record.scope for record in members}) < 2:
        return
    running: dict[Hashable, deque[tuple[SpanRecord, set[str]]]] = {}
    for record in members:
        key = alike(record)
        if key is None:
            continue
        open_spans = running.setdefault(key, deque(maxlen=_COMPARED))
        for outer, paired in open_spans:
            if record.scope not in paired and _within(record, outer):
                paired.add(record.scope)
                yield outer, record
                break
        else:
            open_spans.append((record, {record.scope}))


def _within(inner: SpanRecord, outer: SpanRecord) -> bool:
    """Whether the inner one, which starts later or at once, ends before the outer one; that may still run."""
    return outer.end_ns is None or (inner.end_ns is not None and inner.end_ns <= outer.end_ns)
