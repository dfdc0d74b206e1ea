"""Which calls went to a worker process and came back, so that a lost worker can be told.

A pool that loses a worker tells the caller with an exception, and drops the call. A call that is dropped while a copy
of it is still out has lost the spans it made there.
"""

from __future__ import annotations

import itertools
import threading
import uuid
import weakref
from typing import Any, Final

from hh_jupyter.tracing import away

FEEDER: Final = "QueueFeederThread"
"""Where the pools of concurrent.futures and loky pickle a call. They hold it until its result is there; other engines
may forget it at once, so that its end tells nothing."""

_waiting: weakref.WeakValueDictionary[str, Receipts] = weakref.WeakValueDictionary()


class Receipts:
    """The copies of one call that are out.

    Args:
        call: the call; when it ends, copies that are still out are lost.
        carried: what goes along with it.
    """

    def __init__(self, call: Any, carried: away.Carried) -> None:
        self.id = uuid.uuid4().hex
        self._name: str = call.__name__
        self._carried = carried
        self._numbers = itertools.count(1)
        self._out: set[int] = set()
        _waiting[self.id] = self
        weakref.finalize(call, self._tell)

    def another(self) -> _Receipt:
        """To be pickled with one more copy of the call, after the function."""
        return _Receipt(self)

    def sent(self) -> tuple[str, int]:
        """One more copy is on its way."""
        number = next(self._numbers)
        if threading.current_thread().name == FEEDER:
            self._out.add(number)
        return self.id, number

    def came_back(self, number: int) -> None:
        """Something of that copy came back."""
        self._out.discard(number)

    def _tell(self) -> None:
        if self._out and self._carried.at_home:
            calls = "1 call" if len(self._out) == 1 else f"{len(self._out):,} calls"
            lost = f"{calls} of {self._name} went to a worker process and never came back; the spans made there"
            away.tracer_of(self._carried.handle).note_lost(f"{lost} are lost")


class _Receipt:
    """Becomes a receipt when it is pickled: a function that cannot be pickled is not sent."""

    def __init__(self, receipts: Receipts) -> None:
        self._receipts = receipts

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (self._receipts.sent(),)


def came_back(receipt: tuple[str, int]) -> None:
    """A copy of a call, by its receipt, has come back."""
    call, number = receipt
    receipts = _waiting.get(call)
    if receipts is not None:
        receipts.came_back(number)
