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
    if len({record.scope for record in members}) < 2:
        return
    keyed = [(record, tuple(keys(record))) for record in members]
    shared = _shared_places(keyed)
    places_of: dict[int, list[_Place]] = {}
    for record, found_keys in keyed:
        places = [shared[key] for key in found_keys if key in shared]
        if not places:
            continue
        found: SpanRecord | None = None
        for place in places:
            outer = place.around(record, agree)
            if outer is not None and (found is None or _better(outer, found, record)):
                found = outer
        if found is not None:
            yield found, record
            for place in places_of[id(found)]:
                place.pair(found)
        for place in places:
            place.add(record, paired=found is not None)
        places_of[id(record)] = places


def _shared_places(keyed: Iterable[tuple[SpanRecord, tuple[object, ...]]]) -> dict[object, _Place]:
    """A place for each key that spans of several scopes have."""
    scopes: dict[object, set[str]] = {}
    for record, keys in keyed:
        for key in keys:
            if key in scopes:
                scopes[key].add(record.scope)
            else:
                scopes[key] = {record.scope}
    return {key: _Place(len(those)) for key, those in scopes.items() if len(those) > 1}


class _Place:
    """The spans with one key that have started, by scope.

    Args:
        scopes: of how many scopes there are any. Where it is two, a pair has no room for a third span.
    """

    def __init__(self, scopes: int) -> None:
        self._closed = scopes == 2
        self._running: dict[str, _Running] = {}

    def add(self, record: SpanRecord, *, paired: bool) -> None:
        if not (paired and self._closed):
            running = self._running.get(record.scope)
            if running is None:
                running = self._running[record.scope] = _Running()
            running.add(record)

    def pair(self, record: SpanRecord) -> None:
        if self._closed and record.scope in self._running:
            self._running[record.scope].remove(record)

    def around(self, inner: SpanRecord, agree: Callable[[SpanRecord, SpanRecord], bool]) -> SpanRecord | None:
        """The span of another scope that fits best."""
        best: SpanRecord | None = None
        for scope, others in self._running.items():
            outer = others.around(inner, agree) if scope != inner.scope else None
            if outer is not None and (best is None or _better(outer, best, inner)):
                best = outer
        return best


class _Running:
    """Spans of one scope that have started, by their end."""

    def __init__(self) -> None:
        self._ends: list[float] = []
        self._spans: list[SpanRecord] = []

    def add(self, record: SpanRecord) -> None:
        end = _end(record)
        place = bisect_right(self._ends, end)
        self._ends.insert(place, end)
        self._spans.insert(place, record)

    def remove(self, record: SpanRecord) -> None:
        end = _end(record)
        for place in range(bisect_left(self._ends, end), bisect_right(self._ends, end)):
            if self._spans[place] is record:
                del self._ends[place], self._spans[place]
                return

    def around(self, inner: SpanRecord, agree: Callable[[SpanRecord, SpanRecord], bool]) -> SpanRecord | None:
        """The span that encloses another one most closely, else one that it overlaps with; only a few are asked."""
        ends, start = self._ends, inner.start_ns
        if ends and ends[0] < start:
            over = bisect_left(ends, start)  # Nothing that comes later reaches back to these.
            del ends[:over], self._spans[:over]
        if not ends:
            return None
        first = bisect_left(ends, _end(inner))
        for place in range(first, min(first + _COMPARED, len(ends))):
            outer = self._spans[place]
            if (ends[place] > start or outer.start_ns == start) and agree(outer, inner):
                return outer
        for place in range(first - 1, max(-1, first - 1 - _COMPARED), -1):
            outer = self._spans[place]
            if (ends[place] > start or outer.start_ns == start) and agree(outer, inner):
                return outer
        return None


def _end(record: SpanRecord) -> float:
    """When a span was over. LlamaIndex closes that of a stream before the stream is read: the first token tells."""
    if record.end_ns is None:
        return math.inf
    first_token = record.facts.first_token_ns
    return record.end_ns if first_token is None else max(record.end_ns, record.start_ns + first_token)


def _better(one: SpanRecord, other: SpanRecord, inner: SpanRecord) -> bool:
    """Whether a span fits better round another: it contains it, and by less."""
    contains = [_end(inner) <= _end(record) for record in (one, other)]
    if contains[0] != contains[1]:
        return contains[0]
    return _end(one) < _end(other) if contains[0] else _end(one) > _end(other)


def within(inner: SpanRecord, outer: SpanRecord) -> bool:
    """Whether the inner one, which starts later or at once, ends before the outer one; that may still run."""
    return outer.end_ns is None or (inner.end_ns is not None and inner.end_ns <= outer.end_ns)
