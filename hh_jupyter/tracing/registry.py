"""All tracers of this process: flushed together, shut down together at exit, and their debug log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

from hh_jupyter.export.exporter import (
    STOP_SHARE,
    Exporter,
    begin_flush,
    flush_exporters,
    wait_all_finalized,
)
from hh_jupyter.export.follow_ups import switch_log_off
from hh_jupyter.export.pipeline import SPOOL_SECONDS, STOP_SECONDS
from hh_jupyter.export.process import flush_before_exit, restore_sigterm
from hh_jupyter.records.export_state import ExportState, combined
from hh_jupyter.settings import Settings

_logger = logging.getLogger(__name__)


class RegisteredTracer(Protocol):
    """The methods of a tracer that this module calls."""

    @property
    def settings(self) -> Settings: ...

    @property
    def exporter(self) -> Exporter: ...

    def export_state(self, cell: str | None = None) -> ExportState: ...

    def shut_down_within(self, seconds: float) -> None: ...


# Strong references: the spans of a tracer that the program no longer references are sent as well.
_tracers: dict[int, RegisteredTracer] = {}


def register(tracer: RegisteredTracer) -> None:
    """Include a tracer until it is shut down, and flush it before the process exits."""
    _tracers[id(tracer)] = tracer
    flush_before_exit(_shut_down_all, _begin_last_flush)


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
    return wait_all_finalized(seconds)


def flush_all(seconds: float, *, asked: bool = True) -> bool:
    """`force_flush` of every tracer, together within `seconds`.

    Args:
        asked: the caller reports the answer. If not, failures stay recorded for the next flush.
    """
    return flush_exporters([tracer.exporter for tracer in list(_tracers.values())], seconds, asked=asked)


def cell_export_state(cell: str) -> ExportState:
    """The export state of the spans of one cell's run, over all tracers."""
    states = [tracer.export_state(cell) for tracer in list(_tracers.values())]
    return combined([state for state in states if state.has_spans] or states or [ExportState(None)])


def _shut_down_all() -> None:
    """Shut down all tracers within the budget of one. Imports happen before: the budget is for the network."""
    tracers = list(_tracers.values())
    for tracer in tracers:
        tracer.exporter.prepare_exit()
    budget = _exit_budget()
    deadline = time.monotonic() + budget
    # The shutdown of each tracer reports what this flush could not send.
    begin_flush([tracer.exporter for tracer in tracers], budget, asked=False).answer.wait(budget * (1 - STOP_SHARE))
    for tracer in tracers:
        tracer.shut_down_within(max(STOP_SECONDS, deadline - time.monotonic()))


def _exit_budget() -> float:
    return max((tracer.settings.exit_flush_seconds for tracer in _tracers.values()), default=0.0)


def _begin_last_flush() -> Callable[[float], bool]:
    """Begin the flush after a signal; return a function that waits for its end. Takes no lock."""
    switch_log_off()
    budget = _exit_budget()
    deadline = time.monotonic() + budget
    flush = begin_flush([tracer.exporter for tracer in _tracers.values()], budget)
    spooled = any(tracer.exporter.spool is not None for tracer in _tracers.values())

    def wait(seconds: float) -> bool:
        if not flush.answer.wait(seconds):
            unwritten = spooled and not flush.begun.given
            if time.monotonic() < deadline + (SPOOL_SECONDS if unwritten else 0.0):
                return False
        if flush.answer.value is not True:
            for tracer in list(_tracers.values()):
                warn_unsent(tracer.exporter)
        return True

    return wait


def warn_unsent(exporter: Exporter) -> None:
    """Log that not everything was sent, and why, unless it has all arrived meanwhile."""
    state, spool = exporter.state(), exporter.spool
    waiting = state.waiting + state.requests_waiting
    if not waiting and state.reason is None:
        return
    reason = state.reason or f"{waiting} spans and requests were still waiting"
    kept = "; the rest is kept on disk for the next process" if spool is not None and spool.problem is None else ""
    _logger.warning("not everything was sent: %s%s", reason, kept)


# The debug log: while any tracer is verbose, debug lines of this package go to standard error.

_package_logger = logging.getLogger("hh_jupyter")


class _DebugHandler(logging.StreamHandler):  # type: ignore[type-arg]  # The stream is the current standard error.
    """Marker class, to remove only our own handler."""


_verbose_tracers: set[int] = set()


def set_verbose(tracer: object, verbose: bool) -> None:
    """Write debug lines to standard error, until no tracer is verbose any more.

    The program's own log handlers are not changed.
    """
    (_verbose_tracers.add if verbose else _verbose_tracers.discard)(id(tracer))
    ours = [handler for handler in _package_logger.handlers if isinstance(handler, _DebugHandler)]
    if _verbose_tracers and not ours:
        handler = _DebugHandler()
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        _package_logger.addHandler(handler)
        _package_logger.setLevel(logging.DEBUG)
    elif ours and not _verbose_tracers:
        _package_logger.removeHandler(ours[0])
        _package_logger.setLevel(logging.NOTSET)
