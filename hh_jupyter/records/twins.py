"""Spans that two instrumentors made of one operation, linked neither as parent and child nor by an equal id."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from hh_jupyter.records.record import SpanRecord

_COMPARED: Final = 16
"""So many of those that look the same and run at once are asked: with all of them the time would be quadratic."""


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
    scopes = sorted({record.scope for record in members})
    if len(scopes) < 2:
        return
    running: dict[tuple[object, str], _Running] = {}
    for record in members:
        record_keys = list(keys(record))
        found: SpanRecord | None = None
        for key in record_keys:
            for scope in scopes:
                others = running.get((key, scope)) if scope != record.scope else None
                outer = others.around(record, agree) if others is not None else None
                if outer is not None and (found is None or _better(outer, found, record)):
                    found = outer
        if found is not None:
            yield found, record
            if len(scopes) == 2:  # Both are taken.
                for key in keys(found):
                    running[key, found.scope].remove(found)
                continue
        for key in record_keys:
            running.setdefault((key, record.scope), _Running()).add(record)


class _Running:
    """Spans of one scope that have started, by their end."""

    def __init__(self) -> None:
        self._ends: list[float] = []
        self._spans: list[SpanRecord] = []

    def add(self, record: SpanRecord) -> None:
        place = bisect_right(self._ends, _end(record))
        self._ends.insert(place, _end(record))
        self._spans.insert(place, record)

    def remove(self, record: SpanRecord) -> None:
        end = _end(record)
        for place in range(bisect_left(self._ends, end), bisect_right(self._ends, end)):
            if self._spans[place] is record:
                del self._ends[place], self._spans[place]
                return

    def around(self, inner: SpanRecord, agree: Callable[[SpanRecord, SpanRecord], bool]) -> SpanRecord | None:
        """The span that encloses another one most closely, else one that it overlaps with; only a few are asked."""
        if len(self._spans) > _COMPARED:
            over = bisect_left(self._ends, inner.start_ns)  # Nothing that comes later reaches back to these.
            del self._ends[:over], self._spans[:over]
        first = bisect_left(self._ends, _end(inner))
        before = range(first - 1, max(-1, first - 1 - _COMPARED), -1)
        for place in (*range(first, min(first + _COMPARED, len(self._spans))), *before):
            outer: SpanRecord = self._spans[place]
            overlaps = self._ends[place] > inner.start_ns or outer.start_ns == inner.start_ns
            if overlaps and agree(outer, inner):
                return outer
        return None


def _end(record: SpanRecord) -> float:
    """When a span was over. LlamaIndex closes that of a stream before the stream is read: the first token tells."""
    if record.end_ns is None:
        return math.inf
    return max(record.end_ns, record.start_ns + (record.facts.first_token_ns or 0))


def _better(one: SpanRecord, other: SpanRecord, inner: SpanRecord) -> bool:
    """Whether a span fits better round another: it contains it, and by less."""
    contains = [_end(inner) <= _end(record) for record in (one, other)]
    if contains[0] != contains[1]:
        return contains[0]
    return _end(one) < _end(other) if contains[0] else _end(one) > _end(other)


def within(inner: SpanRecord, outer: SpanRecord) -> bool:
    """Whether the inner one, which starts later or at once, ends before the outer one; that may still run."""
    return outer.end_ns is None or (inner.end_ns is not None and inner.end_ns <= outer.end_ns)
