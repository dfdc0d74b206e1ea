"""The tracers of this process, taken together: flushed and asked as one, closed at exit, and their debug log."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from hh_jupyter.records.export_state import ExportState, combined
from hh_jupyter.settings import Settings
from hh_jupyter.tracing.leaving import deliver_before_leaving, give_sigterm_back


class RegisteredTracer(Protocol):
    """What is asked of each tracer here."""

    @property
    def settings(self) -> Settings: ...

    def seal(self, timeout: float = 2.0) -> bool: ...

    def force_flush(self, timeout_millis: float = 30_000) -> bool: ...

    def export_state(self, cell: str | None = None) -> ExportState: ...

    def make_ready(self) -> None: ...

    def shut_down_within(self, seconds: float) -> None: ...


GRACE: Final = 0.05
"""Seconds beyond the time given, for those that keep it to come back."""

# Strongly held: the spans of a tracer that nobody holds any more are delivered as well.
_tracers: dict[int, RegisteredTracer] = {}


def register(tracer: RegisteredTracer) -> None:
    """Count a tracer in until it is shut down."""
    _tracers[id(tracer)] = tracer
    deliver_before_leaving(_shut_down_all)


def unregister(tracer: RegisteredTracer) -> None:
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
    return combined([state for state in states if state.has_spans] or states or [ExportState(None)])


def _all_within(seconds: float, act: Callable[[RegisteredTracer, float], bool]) -> bool:
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


def _shut_down_within(tracer: RegisteredTracer, seconds: float) -> bool:
    tracer.shut_down_within(seconds)
    return True


# What `verbose` does: this package's debug lines on standard error, while any tracer asks for them.

_logger = logging.getLogger("hh_jupyter")


class _DebugHandler(logging.StreamHandler):  # type: ignore[type-arg]  # The stream is the standard error of the moment.
    """Ours, told from handlers of the program by its class."""


_asking: set[int] = set()


def set_verbose(tracer: object, verbose: bool) -> None:
    """Write debug lines to standard error, or stop when nobody asks any more.

    Handlers of the program's own are left alone.
    """
    (_asking.add if verbose else _asking.discard)(id(tracer))
    ours = [handler for handler in _logger.handlers if isinstance(handler, _DebugHandler)]
    if _asking and not ours:
        handler = _DebugHandler()
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        _logger.addHandler(handler)
        _logger.setLevel(logging.DEBUG)
    elif ours and not _asking:
        _logger.removeHandler(ours[0])
        _logger.setLevel(logging.NOTSET)
