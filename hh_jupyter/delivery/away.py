"""Collect the spans and calls of work that this process does for another one; they return with the result.

Inside such work, the cell in a span's stamp holds a return address: the process, the tracer and the notebook cell that
sent the work. Every span with such an address is returned to that process and sent nowhere else, including the spans
of an instrumentor that uses a tracer inherited from the parent process.
"""

from __future__ import annotations

import os
import uuid
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from opentelemetry import context as otel_context

from hh_jupyter.delivery.sealing.stamp import Stamp
from hh_jupyter.delivery.sending.item import Call

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

MOST_SPANS: Final = 10_000
"""Limit of spans kept for one process until a result is returned; spans above it are dropped and counted."""

MOST_CALLS: Final = 10_000
MOST_HOMES: Final = 1_000
"""Number of processes to keep late spans for, of all that have sent work to this one."""

ADDRESS: Final = otel_context.create_key("hh_jupyter-return-address")
"""Context key of the return address of the current work, as text."""

_MARK: Final = "away"


class Address(NamedTuple):
    """Return address for the spans of a piece of work.

    Attributes:
        process: random name of the process that sent the work; see `process_name`.
        tracer: handle of the tracer in that process.
        cell: id of the notebook cell's run; None outside cells.
    """

    process: str
    tracer: str
    cell: str | None

    @property
    def text(self) -> str:
        """The address as text, which stamps carry in place of a cell."""
        return f"{_MARK}\n{self.process}\n{self.tracer}\n{self.cell or ''}"


class Kept(NamedTuple):
    """A span or call to return, with its address."""

    entry: tuple[ReadableSpan, Stamp] | Call
    address: Address


class Parcel:
    """Spans and calls to return to one process with its next result."""

    def __init__(self) -> None:
        # No lock: a span may end anywhere, including in a destructor.
        self.spans: deque[Kept] = deque()
        self.calls: deque[Kept] = deque()
        self.dropped = 0

    def take(self) -> tuple[list[Kept], int]:
        """Remove and return everything, calls first, and the number of spans and calls that were dropped."""
        dropped, self.dropped = self.dropped, 0
        return [*_emptied(self.calls), *_emptied(self.spans)], dropped


def _emptied(queue: deque[Kept]) -> list[Kept]:
    return [queue.popleft() for _ in range(len(queue))]


_parcels: dict[str, Parcel] = {}
"""Parcels by process name. Empty in a process that has never worked for another one."""

_process = uuid.uuid4().hex


def process_name() -> str:
    """Return the random name of this process; a forked child has a different one."""
    return _process


def parcel_for(process: str) -> Parcel:
    """Return the parcel of a process, creating it if needed; from now on that process's spans are kept in it."""
    parcel = _parcels.setdefault(process, Parcel())
    while len(_parcels) > MOST_HOMES:
        _parcels.pop(next(iter(_parcels)), None)
    return parcel


def keep_span(span: ReadableSpan, stamp: Stamp) -> bool:
    """Keep an ended span if it belongs to another process's work; return False if it does not."""
    found = _addressed(stamp.cell) if _parcels else None
    if found is None:
        return False
    address, parcel = found
    if len(parcel.spans) < MOST_SPANS:
        parcel.spans.append(Kept((span, stamp), address))
    else:
        parcel.dropped += 1
    return True


def keep_call(call: Call, cell: str | None = None) -> bool:
    """Keep a call to the backend if it belongs to another process's work; return False if it does not.

    Args:
        call: made in the current context, unless `cell` is given.
        cell: the return address that came with the call, if it was made in another context.
    """
    if not _parcels:
        return False
    found = _addressed(cell or cast("str | None", otel_context.get_value(ADDRESS)))
    if found is None:
        return False
    address, parcel = found
    if len(parcel.calls) < MOST_CALLS:
        parcel.calls.append(Kept(call, address))
    else:
        parcel.dropped += 1
    return True


def _addressed(cell: str | None) -> tuple[Address, Parcel] | None:
    if cell is None or not cell.startswith(_MARK):
        return None
    _, process, tracer, home_cell = cell.split("\n", 3)
    parcel = _parcels.get(process)
    return None if parcel is None else (Address(process, tracer, home_cell or None), parcel)


def _after_fork_in_child() -> None:
    """Give the child its own name and empty parcels: the parent returns what it has collected."""
    global _process
    _process = uuid.uuid4().hex
    for process in _parcels:
        _parcels[process] = Parcel()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
