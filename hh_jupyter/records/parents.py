"""Who called whom among rows: parents that are there, without the circles that only bad data has."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, TypeVar

from hh_jupyter.records.record import SpanRecord

Key = TypeVar("Key", bound=Hashable)
SpanKey = tuple[int, int]
"""Trace id and span id: what makes a span the same span; span ids alone repeat between traces."""


def key_of(record: SpanRecord) -> SpanKey:
    """Identity of a span."""
    return record.trace_id, record.span_id


def by_identity(records: Iterable[SpanRecord]) -> dict[SpanKey, SpanRecord]:
    """Each span once; of several rows with the same ids the last one that has ended, else the last one."""
    found: dict[SpanKey, SpanRecord] = {}
    for record in records:
        key = record.trace_id, record.span_id
        if record.end_ns is not None or key not in found or found[key].end_ns is None:
            found[key] = record
    return found


class Parents:
    """The parents of spans. A circle of parents is cut at its earliest span, whatever the order of the rows.

    Args:
        by_key: each span once.
    """

    def __init__(self, by_key: Mapping[SpanKey, SpanRecord]) -> None:
        self._by_key = by_key
        self._parent: dict[SpanKey, SpanKey] = {}
        for key, record in by_key.items():
            if record.parent_id is not None:
                above = record.trace_id, record.parent_id
                if above in by_key:
                    self._parent[key] = above
        for key in circle_cuts(self._parent, lambda key: (by_key[key].start_ns, key)):
            del self._parent[key]

    def of(self, record: SpanRecord) -> SpanRecord | None:
        """The parent, None for a root and for a span whose parent is not there."""
        above = self._parent.get((record.trace_id, record.span_id))
        return None if above is None else self._by_key[above]

    def nearest(self, through: Callable[[SpanRecord], bool]) -> Callable[[SpanRecord], SpanRecord | None]:
        """A function of a span: its nearest ancestor, those left out that `through` is true of.

        Each link is followed once for all calls together.
        """
        known: dict[SpanKey, SpanRecord | None] = {}

        def find(record: SpanRecord) -> SpanRecord | None:
            path: list[SpanKey] = []
            at: SpanRecord | None = record
            while at is not None:
                key = at.trace_id, at.span_id
                if key in known:
                    at = known[key]
                    break
                path.append(key)
                at = self.of(at)
                if at is not None and not through(at):
                    break
            known.update(dict.fromkeys(path, at))
            return at

        return find


def circle_cuts(parent: Mapping[Key, Key], order: Callable[[Key], Any]) -> list[Key]:
    """One key of each circle, the first one by `order`.

    Args:
        parent: at most one for each key; a key may be its own.
    """
    cuts: list[Key] = []
    walk_of: dict[Key, int] = {}
    for number, start in enumerate(parent):
        path: list[Key] = []
        at: Key | None = start
        while at is not None and at not in walk_of:
            walk_of[at] = number
            path.append(at)
            at = parent.get(at)
        if at is not None and walk_of[at] == number:
            cuts.append(min(path[path.index(at) :], key=order))
    return cuts
