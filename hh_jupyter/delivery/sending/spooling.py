"""What the outbox asks of a spool, and how it keeps the spool's rows in step with the verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from hh_jupyter.delivery.sending.item import Item


class Kept(NamedTuple):
    """An item that came back from disk.

    Attributes:
        parked: why it was refused, None for one that waits.
    """

    item: Item
    parked: str | None


class Spool(Protocol):
    """Copies of items on disk. Items got their `key` when they were added to it, before they reached the outbox."""

    def remove(self, items: Sequence[Item]) -> None:
        """They were accepted."""

    def park(self, items: Sequence[Item], reason: str) -> None:
        """They were refused; keep them, but nobody tries them again by himself."""

    def load(self, item: Item) -> bytes:
        """The body of an item that gave up its own.

        Raises:
            OSError, KeyError: it cannot be read any more.
        """

    def take_over(self, items: Sequence[Item]) -> None:
        """They were made for another key of the same backend, and go to this destination now."""


class SpoolNews:
    """Verdicts that the spool is still to be told: collected under the outbox's lock, told outside of it."""

    def __init__(self, spool: Spool | None) -> None:
        self._spool = spool
        self._removed: list[Item] = []
        self._parked: list[tuple[Item, str]] = []

    def note(self, item: Item, refused: str | None) -> None:
        """An item has its last verdict.

        Args:
            refused: why; None if it was accepted.
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
        """Pass it on. The caller does not hold the lock: this may wait for the disk."""
        if self._spool is None:
            return
        removed, self._removed = self._removed, []
        parked, self._parked = self._parked, []
        if removed:
            self._spool.remove(removed)
        for reason in dict.fromkeys(reason for _, reason in parked):
            self._spool.park([item for item, why in parked if why == reason], reason)
