"""Locks that may be met again on the same thread.

Garbage collection can run a destructor at any allocation, also while one of our locks is held, and that destructor may
end a span. Structures guarded here are therefore never changed by a thread that is already inside: such a thread asks
`held()` first and leaves the work to somebody else.
"""

from __future__ import annotations

import threading


class Guard(threading.Condition):
    """A re-entrant condition that can tell whether this thread is inside it."""

    def __init__(self) -> None:
        super().__init__(threading.RLock())

    def held(self) -> bool:
        """True if the calling thread holds the lock."""
        return bool(self._is_owned())  # type: ignore[attr-defined]  # Condition's own test, absent from its stub.
