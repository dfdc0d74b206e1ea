"""Splits a refused request in half, to find the span that caused the refusal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hh_jupyter.delivery.sending.item import Item, Whole


def halves(items: Sequence[Item], body_of: Callable[[Item], bytes]) -> tuple[list[Item], list[Item]] | None:
    """Split the items into two lists. A single item is cut in two; return None if it cannot be cut."""
    if len(items) > 1:
        middle = _middle(items)
        return list(items[:middle]), list(items[middle:])
    return _cut(items[0], body_of(items[0]))


def _middle(items: Sequence[Item]) -> int:
    """Return the index that leaves about half of the spans, and at least one item, on either side."""
    half, seen = sum(item.spans for item in items) / 2, 0
    for index, item in enumerate(items[:-1], 1):
        seen += item.spans
        if seen >= half:
            return index
    return len(items) - 1


def _cut(item: Item, body: bytes) -> tuple[list[Item], list[Item]] | None:
    from hh_jupyter.delivery.sealing import otlp

    bodies = otlp.halves(body)
    if bodies is None or item.spans < 2:
        return None
    whole = Whole(item, pieces=2)
    first = (item.spans + 1) // 2
    pieces = [
        Item("spans", item.session_id, part, spans, item.cell, added=item.added, serial=item.serial, whole=whole)
        for part, spans in zip(bodies, (first, item.spans - first), strict=True)
    ]
    return [pieces[0]], [pieces[1]]
