"""What was refused or given up: kept with its reason, until somebody asks for another try."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from hh_jupyter.delivery.sending.item import Item

AGAIN_SECONDS: Final = 30.0
"""Between two tries of a call that was given up without having been refused: its endpoint may be back."""


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
            again: try it in the background from time to time.
        """
        self._items.append(_Parked(item, reason, time.monotonic() + AGAIN_SECONDS if again else None))

    def take_due(self, now: float) -> list[Item]:
        """Take out what is to be tried again by now."""
        if not any(entry.again_at is not None and entry.again_at <= now for entry in self._items):
            return []
        return self._take(lambda entry: entry.again_at is not None and entry.again_at <= now)

    def take_given_up(self) -> list[Item]:
        """Take out everything that is tried from time to time: its endpoint answers again."""
        return self._take(lambda entry: entry.again_at is not None)

    def take_all(self) -> list[Item]:
        """Take out everything, in the order of arrival."""
        return sorted(self._take(lambda entry: True), key=lambda item: item.serial)

    def drop_oldest(self) -> Item | None:
        """Take out what was parked first."""
        return self._items.popleft().item if self._items else None

    def next_moment(self) -> float | None:
        """When something is to be tried again."""
        return min((entry.again_at for entry in self._items if entry.again_at is not None), default=None)

    def __iter__(self) -> Iterator[Item]:
        return (entry.item for entry in self._items)

    def __len__(self) -> int:
        return len(self._items)

    def _take(self, wanted: Callable[[_Parked], bool]) -> list[Item]:
        found = [entry.item for entry in self._items if wanted(entry)]
        self._items = deque(entry for entry in self._items if not wanted(entry))
        return found
