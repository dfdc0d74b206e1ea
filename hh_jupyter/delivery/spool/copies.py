"""Copies on disk of what one pipeline is to send: in the process's one spool, under the pipeline's destination."""

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
"""The spool of each folder and how many pipelines use it; only this process opens its file, and only once."""


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()  # A thread that the child does not have may have held it.


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class Copies:
    """What the outbox and the sealer ask of a spool; see `hh_jupyter.delivery.sending.spooling.Spool`.

    Args:
        settings: decide whether there are copies, and where.
        url, key: of the destination; without a URL, local mode.
    """

    def __init__(self, settings: Settings, url: str | None, key: str | None) -> None:
        self._url, self._key = url, key
        self._folder = settings.spool_dir
        self._spool = _take(settings) if settings.spool else None
        self._destination: str | None = None

    @property
    def spool(self) -> Spool | None:
        """The process's spool; None where the settings want none."""
        return self._spool

    @property
    def problem(self) -> str | None:
        """What keeps copies from being made, one sentence."""
        return None if self._spool is None else self._spool.problem

    def held(self) -> bool:
        """True if the calling thread is inside the spool, that is in a destructor."""
        return self._spool is not None and self._spool.held()

    def add(self, items: Sequence[Item]) -> None:
        """Write them to disk before this returns."""
        if self._spool is not None and items:
            self._spool.add(self._named(), items)

    def remove(self, items: Sequence[Item]) -> None:
        """They were accepted."""
        if self._spool is not None:
            self._spool.remove(items)

    def park(self, items: Sequence[Item], reason: str) -> None:
        """They were refused; keep them with the reason."""
        if self._spool is not None:
            self._spool.park(items, reason)

    def load(self, item: Item) -> bytes:
        """The body of an item that gave up its own.

        Raises:
            KeyError: it cannot be read any more.
        """
        if self._spool is None:
            raise KeyError(item.key)
        return self._spool.load(item)

    def take_over(self, items: Sequence[Item]) -> None:
        """They were made for another key of the same backend, and go to this destination now."""
        if self._spool is not None:
            self._spool.redirect(items, self._named())

    def adopt(self) -> list[Kept]:
        """What dead processes left for this destination; each session's start first."""
        return [] if self._spool is None else [_kept(row) for row in self._spool.adopt(self._named())]

    def take_local(self, session_ids: Collection[str]) -> list[Kept]:
        """What these sessions kept on this machine; from now on it has this destination."""
        if self._spool is None or self._url is None:
            return []
        return [_kept(row) for row in self._spool.take_local(session_ids, self._named())]

    def close(self) -> None:
        """Nothing more comes. What is left on disk waits for the next process."""
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
    # A cell's key is unique, so what this kernel made in local mode counts for its cell when it is sent after all.
    item = Item(cast("Kind", row.kind), row.session_id, row.body, spans=row.spans, cell=row.cell, key=row.key)
    item.size = row.size
    return Kept(item, row.parked)
