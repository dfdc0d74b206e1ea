"""Dicts that threads fill and that must not grow: the oldest entries make room, without a lock."""

from __future__ import annotations

from typing import Any


def forget_oldest(kept: dict[Any, Any], limit: int) -> None:
    """Drop the entries that were put in first until `limit` are left.

    Takes no lock, since it runs inside destructors too. Other threads may fill and empty the dict at the same time.
    """
    while len(kept) > limit:
        try:
            oldest = next(iter(kept))
        except (RuntimeError, StopIteration):  # Another thread was here between the two calls.
            continue
        kept.pop(oldest, None)
