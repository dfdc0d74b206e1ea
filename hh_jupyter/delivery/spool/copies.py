"""Copies on disk of one pipeline's unsent items, in the process's shared spool under the pipeline's destination."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from hh_jupyter.delivery.sending.item import Item, Kind
from hh_jupyter.delivery.sending.spooling import Kept
from hh_jupyter.settings import Settings

if TYPE_CHECKING:
    from hh_jupyter.delivery.spool.record import Stored
    from hh_jupyter.delivery.spool.store import Spool

_MIB: Final = 1024 * 1024
_DAY: Final = 24 * 3600.0

_lock = threading.Lock()
_open: dict[str | None, tuple[Spool, int]] = {}
"""The spool of each folder and the number of pipelines that use it; a process opens its file only once."""


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()  # A thread that does not exist in the child may have held it.


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class Copies:
    """The spool as the outbox and the sealer use it; see `hh_jupyter.delivery.sending.spooling.Spool`.

    Args:
        settings: determine whether copies are kept, and where.
        url, key: of the destination; no URL means local mode.
    """

    def __init__(self, settings: Settings, url: str | None, key: str | None) -> None:
        self._url, self._key = url, key
        self._folder = settings.spool_dir
        self._spool = _take(settings) if settings.spool else None
        self._destination: str | None = None

    @property
    def spool(self) -> Spool | None:
        """The process's spool; None if the settings disable it."""
        return self._spool

    @property
    def problem(self) -> str | None:
        """Why no copies can be kept, as one sentence; None if they can."""
        return None if self._spool is None else self._spool.problem

    def held(self) -> bool:
        """Return True if the calling thread is inside the spool, which means that it runs a destructor."""
        return self._spool is not None and self._spool.held()

    def add(self, items: Sequence[Item]) -> None:
        """Write items to disk before returning."""
        if self._spool is not None and items:
            self._spool.add(self._named(), items)

    def remove(self, items: Sequence[Item]) -> None:
        """Delete the copies of items that the backend accepted."""
        if self._spool is not None:
            self._spool.remove(items)

    def park(self, items: Sequence[Item], reason: str) -> None:
        """Keep rejected items, with the reason."""
        if self._spool is not None:
            self._spool.park(items, reason)

    def load(self, item: Item) -> bytes:
        """Return the body of an item whose body is no longer in memory.

        Raises:
            KeyError: the body is not on disk.
        """
        if self._spool is None:
            raise KeyError(item.key)
        return self._spool.load(item)

    def take_over(self, items: Sequence[Item]) -> None:
        """Assign this destination to items that were created for another key of the same backend."""
        if self._spool is not None:
            self._spool.redirect(items, self._named())

    def adopt(self) -> list[Kept]:
        """Adopt and return what dead processes left for this destination, a session's start before its other items."""
        return [] if self._spool is None else [_kept(row) for row in self._spool.adopt(self._named())]

    def take_local(self, session_ids: Collection[str]) -> list[Kept]:
        """Assign this destination to the local items of these sessions, and return them."""
        if self._spool is None or self._url is None:
            return []
        return [_kept(row) for row in self._spool.take_local(session_ids, self._named())]

    def close(self) -> None:
        """Release the spool. The next process adopts the items that are still on disk."""
        spool, self._spool = self._spool, None
        if spool is not None:
            _give_back(spool, self._folder)

    def _named(self) -> str:
        from hh_jupyter.delivery.spool.directory import destination_id
        from hh_jupyter.delivery.spool.record import LOCAL

        if self._url is None:
            return LOCAL
        if self._destination is None:
            assert self._spool is not None
            self._destination = destination_id(self._url, self._key or "", self._spool.directory)
        return self._destination


def _take(settings: Settings) -> Spool:
    from hh_jupyter.delivery.spool.store import Spool

    folder = settings.spool_dir
    with _lock:
        spool, users = _open.get(folder, (None, 0))
        if spool is None:
            spool = Spool.open(
                Path(folder).expanduser() if folder else None,
                max_bytes=settings.spool_mib * _MIB,
                max_age_seconds=settings.spool_days * _DAY,
            )
        _open[folder] = (spool, users + 1)
        return spool


def _give_back(spool: Spool, folder: str | None) -> None:
    with _lock:
        users = _open[folder][1] - 1
        if users:
            _open[folder] = (spool, users)
            return
        del _open[folder]
    spool.close()


def _kept(row: Stored) -> Kept:
    # Cell ids are unique, so items that this kernel made in local mode count for their cell when they are sent later.
    item = Item(cast("Kind", row.kind), row.session_id, row.body, spans=row.spans, cell=row.cell, key=row.key)
    item.size = row.size
    return Kept(item, row.parked)
