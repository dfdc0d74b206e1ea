"""The spool interface used by the outbox, and the updates that keep spool rows consistent with verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from hh_jupyter.delivery.sending.item import Item


class Kept(NamedTuple):
    """An item loaded from disk.

    Attributes:
        parked: why the item was refused; None if it waits.
    """

    item: Item
    parked: str | None


class Spool(Protocol):
    """Copies of items on disk. The spool sets an item's `key` when it is added, before it reaches the outbox."""

    def remove(self, items: Sequence[Item]) -> None:
        """Remove accepted items."""

    def park(self, items: Sequence[Item], reason: str) -> None:
        """Keep refused items without retrying them automatically."""

    def load(self, item: Item) -> bytes:
        """Return the body of an item whose body is no longer in memory.

        Raises:
            OSError, KeyError: if the body cannot be read.
        """

    def take_over(self, items: Sequence[Item]) -> None:
        """Take over items that were made for another key of the same backend."""


class SpoolNews:
    """Pending spool updates, collected under the outbox's lock and written outside of it."""

    def __init__(self, spool: Spool | None) -> None:
        self._spool = spool
        self._removed: list[Item] = []
        self._parked: list[tuple[Item, str]] = []

    def note(self, item: Item, refused: str | None) -> None:
        """Record the final verdict on an item.

        Args:
            refused: reason for the refusal; None if the item was accepted.
        """
        whole = item.whole
        if whole is not None:
            whole.verdicts[item] = refused
            if len(whole.verdicts) == whole.pieces:
                self.note(whole.item, next(filter(None, whole.verdicts.values()), None))
            return
        if item.key is None:
            return
        if refused is None:
            self._removed.append(item)
        else:
            self._parked.append((item, refused))

    def tell(self) -> None:
        """Write the updates to the spool. Do not hold the lock here, because this may wait for the disk."""
        if self._spool is None:
            return
        removed, self._removed = self._removed, []
        parked, self._parked = self._parked, []
        if removed:
            self._spool.remove(removed)
        for reason in dict.fromkeys(reason for _, reason in parked):
            self._spool.park([item for item, why in parked if why == reason], reason)
