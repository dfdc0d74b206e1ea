"""Work done here for another process: its spans and calls are kept apart, to go home with its result.

Inside such work the cell in a span's stamp is a return address: the process, the tracer and the notebook cell that
sent the work. Whoever started the span here, also an instrumentor through a tracer that this process inherited, the
span goes home by that address and nowhere else.
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
"""Spans kept for one process until a result goes home; a call that makes more loses the latest, which is counted."""

MOST_CALLS: Final = 10_000
MOST_HOMES: Final = 1_000
"""Processes, of those that ever sent work here, whose late spans are kept."""

ADDRESS: Final = otel_context.create_key("hh_jupyter-return-address")
"""In the context of such work: its return address, as text."""

_MARK: Final = "away"


class Address(NamedTuple):
    """Where the spans of a piece of work belong.

    Attributes:
        process: random name of the process that sent the work, see `process_name`.
        tracer: which of its tracers.
        cell: id of its notebook cell's run; None outside cells.
    """

    process: str
    tracer: str
    cell: str | None

    @property
    def text(self) -> str:
        """What stands in the stamps instead of a cell."""
        return f"{_MARK}\n{self.process}\n{self.tracer}\n{self.cell or ''}"


class Kept(NamedTuple):
    """A span or call that is to go home, and where that is."""

    entry: tuple[ReadableSpan, Stamp] | Call
    address: Address


class Parcel:
    """What waits for the next result that goes to one process."""

    def __init__(self) -> None:
        # Appended to wherever a span ends, in destructors too: no lock.
        self.spans: deque[Kept] = deque()
        self.calls: deque[Kept] = deque()
        self.dropped = 0

    def take(self) -> tuple[list[Kept], int]:
        """Everything that is there, calls first, and how many spans and calls found no room."""
        dropped, self.dropped = self.dropped, 0
        return [*_emptied(self.calls), *_emptied(self.spans)], dropped


def _emptied(queue: deque[Kept]) -> list[Kept]:
    return [queue.popleft() for _ in range(len(queue))]


_parcels: dict[str, Parcel] = {}
"""By process. Empty in every process that never worked for another one."""

_process = uuid.uuid4().hex


def process_name() -> str:
    """The random name of this process; a forked child has another one."""
    return _process


def parcel_for(process: str) -> Parcel:
    """Where spans for that process are kept, from now on."""
    parcel = _parcels.setdefault(process, Parcel())
    while len(_parcels) > MOST_HOMES:
        _parcels.pop(next(iter(_parcels)), None)
    return parcel


def keep_span(span: ReadableSpan, stamp: Stamp) -> bool:
    """Keep an ended span if it belongs to another process's work; False if it does not."""
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
    """The same for a call to the backend.

    Args:
        call: made in the current context.
        cell: the return address it came with, where that context is not its own.
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
    """A child is another process, and owes nothing of what its parent keeps."""
    global _process
    _process = uuid.uuid4().hex
    for process in _parcels:
        _parcels[process] = Parcel()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
