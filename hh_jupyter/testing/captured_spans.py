"""Captures the spans that code makes, without network or set-up, and makes ids and times predictable."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from types import SimpleNamespace
from typing import Final
from unittest import mock

import opentelemetry.sdk.trace as otel_sdk
from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

from hh_jupyter.conventions import content
from hh_jupyter.conventions.facts import SpanContent
from hh_jupyter.query import SpanList
from hh_jupyter.records.calls import SpanKey
from hh_jupyter.records.record import RecordedEvent, SpanDetails, SpanRecord
from hh_jupyter.settings import resolve
from hh_jupyter.tracing import context as tracing_context
from hh_jupyter.tracing import decorators, registry
from hh_jupyter.tracing.api import get_default_tracer
from hh_jupyter.tracing.span_store import detail_store, span_log
from hh_jupyter.tracing.tracer import HoneyHiveTracer

SESSION_NAME: Final = "test"
WAIT_SECONDS: Final = 10.0
DETAIL_BYTES: Final = 256 * 1024 * 1024
START_NS: Final = 1_735_689_600_000_000_000
"""2025-01-01 00:00:00 UTC."""


@dataclass(frozen=True, slots=True)
class CapturedSpan(SpanRecord):
    """A finished span: the fields of `SpanRecord`, and everything else that the span holds.

    Attributes:
        details: attributes, events and links, as they would be sent: redacted and within the limits of the settings.
    """

    details: SpanDetails = SpanDetails({})

    @property
    def attributes(self) -> Mapping[str, object]:
        """All attributes by name."""
        return self.details.attributes

    @property
    def events(self) -> tuple[RecordedEvent, ...]:
        """The span's events."""
        return self.details.events

    @property
    def content(self) -> SpanContent:
        """Messages, tool calls, inputs and outputs, whichever instrumentor wrote them."""
        return content(self.details.attributes, self.details.events)


class CapturedSpans(SpanList[CapturedSpan]):
    """The captured spans in the order in which they ended: a `SpanList` that grows until the block ends."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: dict[SpanKey, SpanRecord] = {}
        self._frozen = False

    def named(self, name: str) -> list[CapturedSpan]:
        """Return the spans with exactly this name."""
        return [span for span in self if span.name == name]

    def children(self, span: SpanRecord) -> list[CapturedSpan]:
        """Return the spans whose parent is `span`."""
        return [child for child in self if (child.trace_id, child.parent_id) == (span.trace_id, span.span_id)]

    def __repr__(self) -> str:
        return f"<CapturedSpans {[span.name for span in self]}>"

    def _add(self, rows: Iterable[SpanRecord]) -> None:
        """Called on another thread, with new rows and with new versions of rows."""
        for row in rows:
            self._rows[row.trace_id, row.span_id] = row

    def _now(self) -> tuple[Mapping[SpanKey, CapturedSpan], tuple[CapturedSpan, ...]]:
        if not self._frozen:
            registry.wait_all_processed(WAIT_SECONDS)
            by_key = {key: _with_details(row) for key, row in list(self._rows.items())}
            self._spans = by_key, tuple(by_key.values())
        return self._spans

    def _freeze(self) -> None:
        self._now()
        self._frozen = True


def _with_details(row: SpanRecord) -> CapturedSpan:
    details = span_log().details(row) or SpanDetails({})
    return CapturedSpan(**{field.name: getattr(row, field.name) for field in fields(row)}, details=details)


@contextmanager
def capture_spans() -> Iterator[CapturedSpans]:
    """Capture all spans that end inside the block, in any thread. Nothing is sent while it runs.

    Without a tracer it makes one for the block, which is also OpenTelemetry's global provider if there is none, so that
    decorated functions and instrumented libraries need no set-up. Tracers that exist, or that the code makes inside the
    block, are in local mode until the block ends. Afterwards the default tracer, the session, OpenTelemetry's context
    and its global provider are what they were before.

    Only a provider that other code has made keeps its own exporters, which may send.

    Example:
        >>> with capture_spans() as spans:
        ...     with get_tracer().start_span("work"):
        ...         pass
        >>> [span.name for span in spans]
        ['work']
    """
    captured, log, store = CapturedSpans(), span_log(), detail_store()
    registry.wait_all_processed(WAIT_SECONDS)  # Spans that ended before are not captured.
    with ExitStack() as stack:
        stack.callback(_restore_context, otel_context.get_current())
        stack.enter_context(mock.patch.dict(os.environ, {"HH_TEST_MODE": "true"}))
        stack.enter_context(mock.patch.object(store, "max_bytes", max(store.max_bytes, DETAIL_BYTES)))
        default = get_default_tracer()
        stack.callback(_restore_default, default)
        for tracer in registry.tracers():
            if isinstance(tracer, HoneyHiveTracer) and not tracer.settings.test_mode:
                stack.enter_context(_local_mode(tracer))
        if default is None:
            stack.enter_context(_tracer_for_test())
        stack.callback(log.unlisten, captured._add)
        log.listen(captured._add)
        log.listen_to_changes(captured._add)
        stack.callback(captured._freeze)
        yield captured


@contextmanager
def _local_mode(tracer: HoneyHiveTracer) -> Iterator[None]:
    """Keep what a tracer records in memory, and let it send again afterwards."""
    settings = tracer.settings
    tracer.configure(replace(settings, test_mode=True, spool=False))
    try:
        yield
    finally:
        if not tracer.closed:
            tracer.configure(settings)


_provider: otel_trace.TracerProvider | None = None
"""The global provider of earlier blocks: OpenTelemetry's tracers that modules keep stay connected to it."""


@contextmanager
def _tracer_for_test() -> Iterator[None]:
    """Make a local tracer that is the default one, with a global provider that can be set again afterwards."""
    global _provider
    unset = isinstance(otel_trace.get_tracer_provider(), otel_trace.ProxyTracerProvider)
    if unset and _provider is not None:
        otel_trace.set_tracer_provider(_provider)
    settings = resolve({"test_mode": True, "disable_tracing": False, "spool": False})
    tracer = HoneyHiveTracer.from_settings(settings, name=SESSION_NAME, join=True)
    try:
        yield
    finally:
        tracer.shutdown()
        if unset and otel_trace.get_tracer_provider() is tracer.provider:
            _provider = tracer.provider
            once = type(otel_trace._TRACER_PROVIDER_SET_ONCE)
            # There is no public way to unset it.
            vars(otel_trace).update(_TRACER_PROVIDER=None, _TRACER_PROVIDER_SET_ONCE=once())


def _restore_default(before: HoneyHiveTracer | None) -> None:
    tracing_context.set_default_tracer(None if before is None or before.closed else before)


def _restore_context(before: otel_context.Context) -> None:
    if otel_context.get_current() is not before:
        otel_context.attach(before)


@contextmanager
def sequential_ids() -> Iterator[None]:
    """Inside the block, trace ids, span ids and session ids each count 1, 2, 3, whichever provider makes the spans.

    Session ids stay UUIDs: the first is 00000000-0000-4000-8000-000000000001. `capture_spans` without a tracer takes
    one for its own session.
    """
    counters = {64: itertools.count(1), 128: itertools.count(1)}
    uuids = itertools.count(1)

    def next_id(bits: int) -> int:
        return next(counters[bits])

    def next_trace_id(_: RandomIdGenerator) -> int:
        return next_id(128)

    def next_span_id(_: RandomIdGenerator) -> int:
        return next_id(64)

    drawn = SimpleNamespace(pop=lambda: next(uuids).to_bytes(16, "big"))
    with (
        mock.patch.object(tracing_context, "_random", SimpleNamespace(getrandbits=next_id)),
        mock.patch.object(tracing_context, "_drawn", drawn),
        mock.patch.object(RandomIdGenerator, "generate_trace_id", next_trace_id),
        mock.patch.object(RandomIdGenerator, "generate_span_id", next_span_id),
    ):
        yield


@contextmanager
def stepping_clock(step_seconds: float = 1.0, start_ns: int = START_NS) -> Iterator[None]:
    """Inside the block, each time that a span notes is one step after the time noted before.

    A span without children or events thus lasts one step. Only OpenTelemetry's spans read this clock; `time` itself is
    unchanged.

    Args:
        step_seconds: from one reading to the next.
        start_ns: the first reading, in Unix nanoseconds; default: 2025-01-01 00:00:00 UTC.
    """
    step_ns = round(step_seconds * 1e9)
    times, durations = itertools.count(start_ns, step_ns), itertools.count(0, step_ns)
    stopwatch = SimpleNamespace(perf_counter_ns=durations.__next__)
    with (
        mock.patch.object(otel_sdk, "time_ns", times.__next__),
        mock.patch.object(decorators, "time", stopwatch),
    ):
        yield
