"""The tracers of this process, taken together: flushed, sealed and asked as one, and closed at exit."""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from hh_jupyter.records.export_state import ExportState, combined

if TYPE_CHECKING:
    from hh_jupyter.tracing.tracer import HoneyHiveTracer

# Strongly held: the spans of a tracer that nobody holds any more are delivered as well.
_tracers: dict[int, HoneyHiveTracer] = {}


def register(tracer: HoneyHiveTracer) -> None:
    """Count a tracer in until it is shut down."""
    _tracers[id(tracer)] = tracer


def unregister(tracer: HoneyHiveTracer) -> None:
    """Count it out."""
    _tracers.pop(id(tracer), None)


def seal_all(seconds: float = 2.0) -> bool:
    """Wait until every span that ended before is in the log; False if `seconds` were not enough."""
    return _all_within(seconds, lambda tracer, left: tracer.seal(left))


def flush_all(seconds: float) -> bool:
    """`force_flush` of every tracer, together within `seconds`."""
    return _all_within(seconds, lambda tracer, left: tracer.force_flush(left * 1000))


def cell_state(cell: str) -> ExportState:
    """What became of the spans of one cell's run, whichever tracers made them."""
    states = [tracer.export_state(cell) for tracer in list(_tracers.values())]
    return combined([state for state in states if state.made] or states or [ExportState(None)])


def _all_within(seconds: float, act: Callable[[HoneyHiveTracer, float], bool]) -> bool:
    deadline = time.monotonic() + seconds
    done = [act(tracer, max(0.0, deadline - time.monotonic())) for tracer in list(_tracers.values())]
    return all(done)


def _shut_down_all() -> None:
    """Everybody together has the budget of one."""
    tracers = list(_tracers.values())
    deadline = time.monotonic() + max((tracer.settings.exit_flush_seconds for tracer in tracers), default=0.0)
    for tracer in tracers:
        tracer.shut_down_within(max(0.0, deadline - time.monotonic()))


atexit.register(_shut_down_all)
