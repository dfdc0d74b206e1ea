"""The tracers of this process, taken together: flushed, sealed and asked as one, and closed at exit."""

from __future__ import annotations

import atexit
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from hh_jupyter.records.export_state import ExportState, combined

if TYPE_CHECKING:
    from hh_jupyter.tracing.tracer import HoneyHiveTracer

_tracers: weakref.WeakSet[HoneyHiveTracer] = weakref.WeakSet()


def register(tracer: HoneyHiveTracer) -> None:
    """Count a tracer in until it is shut down or forgotten."""
    _tracers.add(tracer)


def unregister(tracer: HoneyHiveTracer) -> None:
    """Count it out."""
    _tracers.discard(tracer)


def seal_all(seconds: float = 2.0) -> bool:
    """Wait until every span that ended before is in the log; False if `seconds` were not enough."""
    return _all_within(seconds, lambda tracer, left: tracer.seal(left))


def flush_all(seconds: float) -> bool:
    """`force_flush` of every tracer, together within `seconds`."""
    return _all_within(seconds, lambda tracer, left: tracer.force_flush(left * 1000))


def cell_state(cell: str) -> ExportState:
    """What became of the spans of one cell's run, whichever tracers made them."""
    states = [tracer.export_state(cell) for tracer in list(_tracers)]
    return combined([state for state in states if state.made] or states or [ExportState(None)])


def _all_within(seconds: float, act: Callable[[HoneyHiveTracer, float], bool]) -> bool:
    deadline = time.monotonic() + seconds
    done = [act(tracer, max(0.0, deadline - time.monotonic())) for tracer in list(_tracers)]
    return all(done)


def _shut_down_all() -> None:
    for tracer in list(_tracers):
        tracer.shutdown()


atexit.register(_shut_down_all)
