"""Both ends of work that another process does: what goes along with it, and what is done with what comes back.

`hh_jupyter.runtimes.workers` is what users call.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakValueDictionary

from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
)

from hh_jupyter import settings as settings_table
from hh_jupyter.delivery.away import ADDRESS, Address, Parcel, parcel_for, process_name
from hh_jupyter.delivery.sealing.seal import EndedSpan
from hh_jupyter.settings import Settings
from hh_jupyter.tracing.bounded import forget_oldest
from hh_jupyter.tracing.default import withdraw_default
from hh_jupyter.tracing.scope import current_cell, with_cell, with_tracer
from hh_jupyter.tracing.session_baggage import SESSION_KEYS, entries_for

if TYPE_CHECKING:
    from hh_jupyter.delivery.parcel import Returned
    from hh_jupyter.tracing.tracer import HoneyHiveTracer

logger = logging.getLogger(__name__)

SETTINGS: Final = ("capture_inputs", "capture_outputs", "span_name_filters", "source", "project")
"""Those that matter where a span is made. Key and address stay at home, and so do the rules that sealing uses."""

REMEMBERED: Final = 10_000
"""Parcels whose second coming is noticed."""


class Handle(NamedTuple):
    """A tracer of some process, by name.

    Attributes:
        process: see `process_name`.
        tracer: random; no address in memory, which another tracer may have later.
        settings: those of `SETTINGS`, as JSON.
    """

    process: str
    tracer: str
    settings: str


@dataclass(frozen=True, slots=True)
class Carried:
    """What goes along with a piece of work.

    Attributes:
        cell: id of the notebook cell's run that sent it.
        span: trace id, span id, flags and state of the span that is the parent of its spans; None for a new trace.
        baggage: with the session in force, whoever set it.
    """

    handle: Handle
    cell: str | None
    span: tuple[int, int, int, str] | None
    baggage: Mapping[str, str]

    @property
    def at_home(self) -> bool:
        """Whether this is the process that sent it."""
        return self.handle.process == process_name()

    def context(self, tracer: HoneyHiveTracer) -> Context:
        """The context to do the work in."""
        span: Any = INVALID_SPAN
        if self.span is not None:
            trace_id, span_id, flags, state = self.span
            trace_state = TraceState.from_header([state]) if state else None
            span = NonRecordingSpan(SpanContext(trace_id, span_id, True, TraceFlags(flags), trace_state))
        context = set_span_in_context(span, with_tracer(Context(), tracer))
        for key, value in self.baggage.items():
            context = baggage.set_baggage(key, value, context)
        if self.at_home:
            return context if self.cell is None else with_cell(context, self.cell)
        address = Address(self.handle.process, self.handle.tracer, self.cell).text
        return otel_context.set_value(ADDRESS, address, with_cell(context, address))

    def parcel(self) -> Parcel:
        """Where the spans of the work gather on their way home."""
        return parcel_for(self.handle.process)


def carried_by(tracer: HoneyHiveTracer) -> Carried:
    """What work that is sent from here takes along."""
    context = otel_context.get_current()
    span = get_current_span(context).get_span_context()
    state = span.trace_state.to_header() if span.trace_state else ""
    entries = {key: str(value) for key, value in entries_for(tracer.sessions, context).items()}
    own = tracer.session
    for key, value in zip(SESSION_KEYS, (tracer.current_session_id, own.project, own.source), strict=True):
        if value and not entries.get(key):
            entries[key] = value
    return Carried(
        handle_of(tracer),
        current_cell(),
        (span.trace_id, span.span_id, int(span.trace_flags), state) if span.is_valid else None,
        entries,
    )


_handles: WeakValueDictionary[str, HoneyHiveTracer] = WeakValueDictionary()
_opened: dict[str, object] = {}
_workers: dict[str, HoneyHiveTracer] = {}
"""This process's tracers for work of others, by their settings."""

_making = threading.Lock()


def handle_of(tracer: HoneyHiveTracer) -> Handle:
    """The tracer's name for other processes."""
    # No lock: a pool forks its workers while results come in on another thread.
    _handles.setdefault(tracer.uid, tracer)
    settings = {name: getattr(tracer.settings, name) for name in SETTINGS}
    return Handle(process_name(), tracer.uid, json.dumps(settings, sort_keys=True, default=dict))


def tracer_of(handle: Handle) -> HoneyHiveTracer:
    """The tracer of that name at home; elsewhere one that makes spans and delivers nothing."""
    found = _handles.get(handle.tracer) if handle.process == process_name() else None
    return found or _worker_tracer(handle.settings)


def _worker_tracer(given: str) -> HoneyHiveTracer:
    from hh_jupyter.tracing.tracer import HoneyHiveTracer

    with _making:
        if given not in _workers:
            made = HoneyHiveTracer.from_settings(_worker_settings(given), name="worker", join=False, register="never")
            withdraw_default(made)  # Only such work is its business.
            _workers[given] = made
        return _workers[given]


def _worker_settings(given: str) -> Settings:
    # A caller of another version may know more settings.
    known = {name: value for name, value in json.loads(given).items() if name in SETTINGS}
    nothing_of_its_own = {
        "test_mode": True,
        "spool": False,
        "disable_batch": False,
        "disable_tracing": False,
        "skip_backend_session_creation": True,
    }
    return settings_table.resolve({**known, **nothing_of_its_own}, called="hh_jupyter.runtimes.workers")


def receive(parcel: bytes) -> Returned | None:
    """Take a parcel that came home; None if it is no parcel for this process, or came before."""
    from hh_jupyter.delivery.parcel import opened

    try:
        found = opened(parcel)
    except (ValueError, KeyError, TypeError, IndexError, zlib.error):
        logger.debug("a parcel of spans cannot be read", exc_info=True)
        return None
    if found.process != process_name() or _came_before(found.id):
        return None
    for name in {*(name for name, _, _ in found.spans), *(name for name, _, _ in found.calls)}:
        tracer = _handles.get(name)
        if tracer is None or tracer.closed:
            logger.debug("spans came back from a worker to a tracer that is gone")
            continue
        spans = (EndedSpan(span, stamp) for to, span, stamp in found.spans if to == name)
        tracer.take(spans, [(call, cell) for to, call, cell in found.calls if to == name])
        if found.dropped:
            tracer.note_lost(f"{found.dropped:,} spans of a worker had no room on their way back and are lost")
    return found


def _came_before(parcel_id: str) -> bool:
    mark = object()
    before = _opened.setdefault(parcel_id, mark) is not mark
    forget_oldest(_opened, REMEMBERED)
    return before


def _after_fork_in_child() -> None:
    global _making
    _making = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
