"""Items that were refused or given up, kept with the reason until a retry is requested."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from hh_jupyter.delivery.sending.item import Item

AGAIN_SECONDS: Final = 30.0
"""Retry interval of calls that were given up but not refused, because their endpoint may recover."""


class _Parked(NamedTuple):
    item: Item
    reason: str
    again_at: float | None


class Parked:
    """Parked items in the order in which they were parked. Guarded by the outbox's lock."""

    def __init__(self) -> None:
        self._items: deque[_Parked] = deque()

    def add(self, item: Item, reason: str, *, again: bool) -> None:
        """Keep an item.

        Args:
            again: retry it periodically in the background.
        """
        self._items.append(_Parked(item, reason, time.monotonic() + AGAIN_SECONDS if again else None))

    def take_due(self, now: float) -> list[Item]:
        """Remove and return the items whose retry is due."""
        if not any(entry.again_at is not None and entry.again_at <= now for entry in self._items):
            return []
        return self._take(lambda entry: entry.again_at is not None and entry.again_at <= now)

    def take_given_up(self) -> list[Item]:
        """Remove and return all items that are retried periodically, because their endpoint answers again."""
        return self._take(lambda entry: entry.again_at is not None)

    def take_all(self) -> list[Item]:
        """Remove and return all items in order of arrival."""
        return sorted(self._take(lambda entry: True), key=lambda item: item.serial)

    def drop_oldest(self) -> Item | None:
        """Remove and return the item that was parked first; None if there is none."""
        return self._items.popleft().item if self._items else None

    def next_moment(self) -> float | None:
        """Return when the next retry is due; None if there is none."""
        return min((entry.again_at for entry in self._items if entry.again_at is not None), default=None)

    def __iter__(self) -> Iterator[Item]:
        return (entry.item for entry in self._items)

    def __len__(self) -> int:
        return len(self._items)

    def _take(self, wanted: Callable[[_Parked], bool]) -> list[Item]:
        found = [entry.item for entry in self._items if wanted(entry)]
        self._items = deque(entry for entry in self._items if not wanted(entry))
        return found
