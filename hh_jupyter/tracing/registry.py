"""The tracers of this process, taken together: flushed, sealed and asked as one, and closed at exit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from hh_jupyter.records.export_state import ExportState, combined
from hh_jupyter.tracing.leaving import deliver_before_leaving, give_sigterm_back

if TYPE_CHECKING:
    from hh_jupyter.tracing.tracer import HoneyHiveTracer

GRACE: Final = 0.05
"""Seconds beyond the time given, for those that keep it to come back."""

# Strongly held: the spans of a tracer that nobody holds any more are delivered as well.
_tracers: dict[int, HoneyHiveTracer] = {}


def register(tracer: HoneyHiveTracer) -> None:
    """Count a tracer in until it is shut down."""
    _tracers[id(tracer)] = tracer
    deliver_before_leaving(_shut_down_all)


def unregister(tracer: HoneyHiveTracer) -> None:
    """Count it out."""
    _tracers.pop(id(tracer), None)
    if not _tracers:
        give_sigterm_back()


def seal_all(seconds: float = 2.0) -> bool:
    """Wait until every span that ended before is in the log; False if `seconds` were not enough."""
    return _all_within(seconds, lambda tracer, left: tracer.seal(left))


def flush_all(seconds: float) -> bool:
    """`force_flush` of every tracer, together within `seconds`."""
    return _all_within(seconds, lambda tracer, left: tracer.force_flush(left * 1000))


def cell_state(cell: str) -> ExportState:
    """What became of the spans of one cell's run, whichever tracers made them."""
    states = [tracer.export_state(cell) for tracer in list(_tracers.values())]
    return combined([state for state in states if state.told] or states or [ExportState(None)])


def _all_within(seconds: float, act: Callable[[HoneyHiveTracer, float], bool]) -> bool:
    """Do it for all at once: one whose backend hangs must not use up the time of the others."""
    tracers = list(_tracers.values())
    deadline = time.monotonic() + seconds
    done = [False] * len(tracers)

    def one(number: int) -> None:
        done[number] = act(tracers[number], max(0.0, deadline - time.monotonic()))

    threads = [thread for number in range(1, len(tracers)) if (thread := _started(one, number)) is not None]
    if tracers:
        one(0)
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()) + GRACE)
    return all(done)


def _started(act: Callable[[int], None], number: int) -> threading.Thread | None:
    thread = threading.Thread(target=act, args=(number,), daemon=True)
    try:
        thread.start()
    except RuntimeError:  # An interpreter that is ending gives no more threads.
        act(number)
        return None
    return thread


def _shut_down_all() -> None:
    """Everybody together has the budget of one, which is for the network: imports do not count."""
    for tracer in list(_tracers.values()):
        tracer.make_ready()
    budget = max((tracer.settings.exit_flush_seconds for tracer in _tracers.values()), default=0.0)
    _all_within(budget, _shut_down_within)


def _shut_down_within(tracer: HoneyHiveTracer, seconds: float) -> bool:
    tracer.shut_down_within(seconds)
    return True
