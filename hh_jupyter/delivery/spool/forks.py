"""Delay a fork until no thread is inside SQLite: otherwise SQLite's own locks would stay held in the child forever."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Final, Protocol

LONGEST_WAIT: Final = 1.0
"""Maximum time in seconds that a fork waits for each lock; then it continues, so as not to block the program."""


class Lock(Protocol):
    """A lock as in `threading`."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...

    def release(self) -> None: ...


class Watched(Protocol):
    """A spool that forks must wait for."""

    def locks(self) -> list[Lock]: ...

    def after_fork_in_child(self) -> None: ...


_WATCHED: Final[weakref.WeakSet[Watched]] = weakref.WeakSet()
_TAKEN = threading.local()


def watch(spool: Watched) -> None:
    """Include a spool in the fork handling of this process."""
    _WATCHED.add(spool)


def forget(spool: Watched) -> None:
    """Exclude a spool that was closed."""
    _WATCHED.discard(spool)


def _before() -> None:
    locks = [lock for spool in list(_WATCHED) for lock in spool.locks()]
    _TAKEN.locks = [lock for lock in locks if lock.acquire(timeout=LONGEST_WAIT)]


def _after_in_parent() -> None:
    for lock in _TAKEN.__dict__.pop("locks", ()):
        lock.release()


def _after_in_child() -> None:
    _TAKEN.__dict__.clear()
    for spool in list(_WATCHED):
        spool.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
