"""All tracers of this process: flushed together, shut down together at exit, and their debug log."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from hh_jupyter.records.export_state import ExportState, combined
from hh_jupyter.settings import Settings
from hh_jupyter.tracing.shutdown_hooks import flush_before_exit, restore_sigterm


class RegisteredTracer(Protocol):
    """The methods of a tracer that this module calls."""

    @property
    def settings(self) -> Settings: ...

    def wait_processed(self, timeout: float = 2.0) -> bool: ...

    def force_flush(self, timeout_millis: float = 30_000) -> bool: ...

    def export_state(self, cell: str | None = None) -> ExportState: ...

    def preload_modules(self) -> None: ...

    def shut_down_within(self, seconds: float) -> None: ...


JOIN_GRACE_SECONDS: Final = 0.05
"""Extra time for a thread that used its whole budget to return."""

# Strong references: the spans of a tracer that the program no longer references are sent as well.
_tracers: dict[int, RegisteredTracer] = {}


def register(tracer: RegisteredTracer) -> None:
    """Include a tracer until it is shut down, and flush it before the process exits."""
    _tracers[id(tracer)] = tracer
    flush_before_exit(_shut_down_all)


def unregister(tracer: RegisteredTracer) -> None:
    """Remove a tracer that is shut down."""
    _tracers.pop(id(tracer), None)
    if not _tracers:
        restore_sigterm()


def tracers() -> tuple[RegisteredTracer, ...]:
    """Return the tracers that are not shut down."""
    return tuple(_tracers.values())


def wait_all_processed(seconds: float = 2.0) -> bool:
    """Wait until all spans that have ended are in the log; False if that takes longer than `seconds`."""
    return _all_within(seconds, lambda tracer, left: tracer.wait_processed(left))


def flush_all(seconds: float) -> bool:
    """`force_flush` of every tracer, together within `seconds`."""
    return _all_within(seconds, lambda tracer, left: tracer.force_flush(left * 1000))


def cell_export_state(cell: str) -> ExportState:
    """The export state of the spans of one cell's run, over all tracers."""
    states = [tracer.export_state(cell) for tracer in list(_tracers.values())]
    return combined([state for state in states if state.has_spans] or states or [ExportState(None)])


def _shut_down_all() -> None:
    """Shut down all tracers within the budget of one. Imports happen before: the budget is for the network."""
    for tracer in list(_tracers.values()):
        tracer.preload_modules()
    budget = max((tracer.settings.exit_flush_seconds for tracer in _tracers.values()), default=0.0)
    _all_within(budget, _shut_down_within)


def _shut_down_within(tracer: RegisteredTracer, seconds: float) -> bool:
    tracer.shut_down_within(seconds)
    return True


def _all_within(seconds: float, act: Callable[[RegisteredTracer, float], bool]) -> bool:
    """Run `act` for all tracers in parallel: a backend that hangs must not use up the time of the others."""
    tracers = list(_tracers.values())
    deadline = time.monotonic() + seconds
    done = [False] * len(tracers)

    def run(index: int) -> None:
        done[index] = act(tracers[index], max(0.0, deadline - time.monotonic()))

    threads = [thread for index in range(1, len(tracers)) if (thread := _start_thread(run, index)) is not None]
    if tracers:
        run(0)
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()) + JOIN_GRACE_SECONDS)
    return all(done)


def _start_thread(run: Callable[[int], None], index: int) -> threading.Thread | None:
    """A thread that runs `run(index)`; None if no thread could be started and `run` has returned already."""
    thread = threading.Thread(target=run, args=(index,), daemon=True)
    try:
        thread.start()
    except RuntimeError:  # Python cannot start threads while the interpreter shuts down.
        run(index)
        return None
    return thread


# The debug log: while any tracer is verbose, debug lines of this package go to standard error.

_logger = logging.getLogger("hh_jupyter")


class _DebugHandler(logging.StreamHandler):  # type: ignore[type-arg]  # The stream is the current standard error.
    """Marker class, to remove only our own handler."""


_verbose_tracers: set[int] = set()


def set_verbose(tracer: object, verbose: bool) -> None:
    """Write debug lines to standard error, until no tracer is verbose any more.

    The program's own log handlers are not changed.
    """
    (_verbose_tracers.add if verbose else _verbose_tracers.discard)(id(tracer))
    ours = [handler for handler in _logger.handlers if isinstance(handler, _DebugHandler)]
    if _verbose_tracers and not ours:
        handler = _DebugHandler()
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        _logger.addHandler(handler)
        _logger.setLevel(logging.DEBUG)
    elif ours and not _verbose_tracers:
        _logger.removeHandler(ours[0])
        _logger.setLevel(logging.NOTSET)
