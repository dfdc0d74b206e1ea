"""Spans that two instrumentors made of one operation, linked neither as parent and child nor by an equal id."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from hh_jupyter.records.record import SpanRecord

_COMPARED: Final = 256
"""So many of those that look the same and run at once are compared: with all of them the time would be quadratic."""


def by_place(record: SpanRecord) -> tuple[int, int, int, int]:
    """A sort key: by start, what encloses before what it encloses; the same for rows in any order."""
    return record.start_ns, -record.duration_ns, record.trace_id, record.span_id


def twins(
    members: Sequence[SpanRecord],
    keys: Callable[[SpanRecord], Iterable[object]],
    agree: Callable[[SpanRecord, SpanRecord], bool],
) -> Iterator[tuple[SpanRecord, SpanRecord]]:
    """Pairs of spans of different scopes that tell of one operation, the second one within the first in time.

    Of several that it may lie in, a span is paired with the one that ends first: so a span that fits in one place only
    finds it free. One that lies in none may still overlap with another.

    Args:
        members: sorted `by_place`.
        keys: what a pair must have one of in common; none for spans that have no twin.
        agree: whether an outer and an inner span may be a pair; asked again after each pair is handed out, so that the
            caller can keep a span from being paired twice.
    """
    scopes = len({record.scope for record in members})
    if scopes < 2:
        return
    running: dict[object, list[SpanRecord]] = {}
    for record in members:
        places = [running.setdefault(key, []) for key in keys(record)]
        found: SpanRecord | None = None
        for place in places:
            place[:] = [other for other in place[-_COMPARED:] if _reaches(other, record)]
            for outer in place:
                if outer.scope != record.scope and agree(outer, record):
                    found = outer if found is None or _better(outer, found, record) else found
        if found is not None:
            yield found, record
        for place in places:
            if found is None or scopes > 2:
                place.append(record)
            elif found in place:
                place.remove(found)


def _reaches(earlier: SpanRecord, later: SpanRecord) -> bool:
    """Whether a span still runs when another one starts."""
    return earlier.end_ns is None or later.start_ns < earlier.end_ns or later.start_ns == earlier.start_ns


def _better(one: SpanRecord, other: SpanRecord, inner: SpanRecord) -> bool:
    """Whether a span fits better round another: it contains it, and by less."""
    if within(inner, one) != within(inner, other):
        return within(inner, one)
    ends = [math.inf if record.end_ns is None else record.end_ns for record in (one, other)]
    return ends[0] < ends[1] if within(inner, one) else ends[0] > ends[1]


def within(inner: SpanRecord, outer: SpanRecord) -> bool:
    """Whether the inner one, which starts later or at once, ends before the outer one; that may still run."""
    return outer.end_ns is None or (inner.end_ns is not None and inner.end_ns <= outer.end_ns)
