"""The span processor, and the TracerProviders it is registered with.

The processor runs on the user's thread, sometimes inside a destructor. It must not lock, do I/O or raise.
"""

from __future__ import annotations

import functools
import queue
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from sys import modules
from typing import TYPE_CHECKING, Any, Final, TypeGuard, cast

from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, NoOpTracer, SpanContext, SpanKind, Tracer, TraceState, get_current_span
from opentelemetry.util.types import Attributes

from hh_jupyter import attributes as keys
from hh_jupyter.export.endpoint import SpanTarget
from hh_jupyter.export.model import LateEvent, Origin, RemoteOrigin, Session
from hh_jupyter.export.remote import REMOTE
from hh_jupyter.export.resource import own_resource
from hh_jupyter.settings import Settings
from hh_jupyter.threads import evict_oldest
from hh_jupyter.tracing.context import CELL, SESSION_KEYS, UnseededIdGenerator, visible_baggage
from hh_jupyter.tracing.log_events import LOGS_API, LogEventCollector
from hh_jupyter.tracing.sessions import TracerSessions
from hh_jupyter.tracing.validation import warn_once
from hh_jupyter.version import VERSION

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider


# The span processor.

_REQUEST_KINDS: Final = frozenset({SpanKind.SERVER, SpanKind.CONSUMER})
"""Kinds of the spans that frameworks start for a request or message, before a handler can start a session."""

MAX_FILTERED: Final = 10_000
"""Number of filtered spans whose nearest kept ancestor is remembered, for children that start late."""


class HoneyHiveSpanProcessor(SpanProcessor):
    """Notes the origin of each span at its start, and passes the span on for export when it ends.

    Args:
        sessions: the tracer's sessions.
        put: accepts an ended span, its origin, and where other exporters send it; must not lock or raise.
        put_late: accepts an event of a span that has been put already; must not lock or raise.
        flush: exports all spans that were put; its argument is the timeout in seconds.
        flush_last: the same, within the time allowed at process exit.
        filters: name prefixes to `include` and to `exclude`.

    Attributes:
        logs: collects the events that libraries write as log records.
        on_origin: called with the context and origin of each span that starts, for who receives the spans of other
            processes that continue its trace; must not lock or raise.
    """

    def __init__(
        self,
        sessions: TracerSessions,
        put: Callable[[ReadableSpan, Origin, tuple[SpanTarget, ...]], None],
        put_late: Callable[[LateEvent], None],
        flush: Callable[[float], bool],
        flush_last: Callable[[], object],
        filters: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self._sessions, self._put, self._flush, self._flush_last = sessions, put, flush, flush_last
        self._include: tuple[str, ...] = ()
        self._exclude: tuple[str, ...] = ()
        self.set_filters(filters)
        # Single dict operations are atomic; a lock here could deadlock in a destructor.
        self._origins: dict[int, Origin] = {}
        self._kept_ancestor: dict[int, int | None] = {}
        self._open_spans = open_spans()
        self.logs = LogEventCollector(self._origins, put_late)
        self.on_origin: Callable[[SpanContext, Origin], None] | None = None

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Note the span's session, cell and parent."""
        if LOGS_API in modules:
            self.logs.follow_global()
        context = otel_context.get_current() if parent_context is None else parent_context
        parent = span.parent
        parent_id = None if parent is None else parent.span_id
        if parent_id is not None:
            parent_id = self._kept_ancestor.get(parent_id, parent_id)  # One operation: another thread may evict it.
        span_id = span.context.span_id
        if (self._include or self._exclude) and not self.keeps(span.name):
            self._remember_filtered(span_id, parent_id)
            return
        origin = self._origins[span_id] = self._origin(span, context, parent_id)
        if self.on_origin is not None:
            self.on_origin(span.context, origin)
        if origin.cell is not None and self._open_spans.wanted:
            self._open_spans.add(span, origin.cell)

    def on_end(self, span: ReadableSpan, others: tuple[SpanTarget, ...] = ()) -> None:
        """Pass the span on, if the filters keep it and it is sampled.

        Args:
            others: destinations to which other exporters of its provider send it.
        """
        origin = self._origins.pop(span.context.span_id, None)
        if self._open_spans.wanted:
            self._open_spans.remove(span.context.span_id)
        if origin is None:
            origin = self._origin_at_end(span)
        if origin is None:
            return
        events = self.logs.pop(span.context) if self.logs.subscribed else ()
        if span.context.trace_flags.sampled:
            self._put(span, origin._replace(events=events) if events else origin, others)

    def _origin(self, span: ReadableSpan, context: Context, parent_id: int | None) -> Origin:
        cell = cast("str | None", context.get(CELL))
        sessions = self._sessions
        entries = visible_baggage(sessions, context)
        own = sessions.own_or_empty
        if cell is None and sessions.outside_cells is not None:
            own = sessions.outside_cells
        session = own if own.id or keys.BAGGAGE_SESSION_ID in entries else sessions.auto_session_for(span)
        return Origin(entries, session, cell, parent_id, cast("RemoteOrigin | None", context.get(REMOTE)))

    def _origin_at_end(self, span: ReadableSpan) -> Origin | None:
        """Note, as of now, the origin of a span that started before this processor was registered.

        Returns None if the filters exclude the span.
        """
        if span.context.span_id in self._kept_ancestor or not self.keeps(span.name):
            return None
        parent_id = self.nearest_kept(None if span.parent is None else span.parent.span_id)
        return self._origin(span, otel_context.get_current(), parent_id)

    def origin_of_received(self, span: ReadableSpan, continued: Origin | None) -> Origin | None:
        """Return the origin of a span that ended in another process; None if the filters exclude it.

        Args:
            continued: the origin of the span whose trace it continues; None if this process has no such span.
        """
        parent_id = self.nearest_kept(None if span.parent is None else span.parent.span_id)
        if not self.keeps(span.name):
            self._remember_filtered(span.context.span_id, parent_id)
            return None
        origin = continued or self._origin(span, Context(), None)
        return origin._replace(parent_id=parent_id)

    def move_request_to(self, session: Session) -> None:
        """Move the span of the current request into a session that its handler has started.

        The framework started the SERVER or CONSUMER span before the handler ran.
        """
        span = get_current_span()
        span_id = span.get_span_context().span_id
        origin = self._origins.get(span_id)
        if origin is None or keys.BAGGAGE_SESSION_ID in origin.baggage:
            return
        if getattr(span, "kind", None) not in _REQUEST_KINDS:
            return
        values = zip(SESSION_KEYS, (session.id, session.project, session.source), strict=True)
        entries = {**origin.baggage, **{key: value for key, value in values if value}}
        self._origins[span_id] = origin._replace(baggage=entries)

    def nearest_kept(self, span_id: int | None) -> int | None:
        """Return the span's id if the filters keep it, else that of its nearest kept ancestor, or None."""
        return None if span_id is None else self._kept_ancestor.get(span_id, span_id)

    def set_filters(self, filters: Mapping[str, tuple[str, ...]] | None) -> None:
        """Set the filters for spans that start from now on."""
        self._include = tuple((filters or {}).get("include", ()))
        self._exclude = tuple((filters or {}).get("exclude", ()))

    def keeps(self, name: str) -> bool:
        """Whether the filters keep a span of this name.

        It must start with one of the include prefixes, if there are any, and with none of the exclude prefixes.
        """
        if self._exclude and name.startswith(self._exclude):
            return False
        return not self._include or name.startswith(self._include)

    def _remember_filtered(self, span_id: int, ancestor: int | None) -> None:
        self._kept_ancestor[span_id] = ancestor
        evict_oldest(self._kept_ancestor, MAX_FILTERED)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the tracer, for callers that know only the provider, such as wrappers of Lambda handlers."""
        return self._flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        """Export all ended spans, since the provider was shut down. Later spans are still recorded and sent."""
        self._flush_last()


class ProcessorSlot(SpanProcessor):
    """A replaceable span processor: it is registered with the provider, which cannot remove a processor.

    It does nothing while `processor` is None. A later tracer reuses a free slot.

    Args:
        others: the other exporters of the provider.
    """

    def __init__(self, others: ForeignExporters) -> None:
        self.processor: HoneyHiveSpanProcessor | None = None
        self.others = others

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if self.processor is not None:
            self.processor.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        if self.processor is not None:
            self.processor.on_end(span, self.others.targets())

    def shutdown(self) -> None:
        if self.processor is not None:  # Not set to None: only the tracer's own `shutdown` ends tracing.
            self.processor.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self.processor is None or self.processor.force_flush(timeout_millis)


# The providers of one tracer.

SCOPE_NAME: Final = "hh_jupyter"


class ProviderBinding:
    """The provider of one tracer. Spans that other code makes with a previous provider are still recorded.

    Args:
        processor: the tracer's processor, which is registered with the provider.
        join: record the spans of a global provider that other code has set.
        set_global: make the tracer's provider the global one if there is none.

    Attributes:
        on: whether spans are created and recorded.
        provider: the current provider.
        otel_tracer: creates the tracer's spans.
        can_set_attributes_after_start: see the function of this name.
    """

    def __init__(self, processor: HoneyHiveSpanProcessor, *, join: bool, set_global: bool) -> None:
        self._processor, self._join, self._set_global = processor, join, set_global
        self._slots: list[ProcessorSlot] = []
        self.on = self.can_set_attributes_after_start = False
        self.otel_tracer: Tracer = NoOpTracer()
        self.provider: otel_trace.TracerProvider = otel_trace.NoOpTracerProvider()

    def switch_on(self, settings: Settings) -> None:
        """Create and record spans from now on."""
        self.on = True
        self._use(*provider_for(settings, self._processor, join=self._join, set_global=self._set_global))
        self._processor.logs.switch_on(join=self._join, set_global=self._set_global)

    def switch_off(self) -> None:
        """Stop creating and recording spans. The providers stay as they are."""
        self.on = False
        self.otel_tracer = NoOpTracer()
        self._processor.logs.switch_off()
        while self._slots:
            slot = self._slots.pop()
            if slot.processor is self._processor:
                slot.processor = None

    def _use(self, provider: otel_trace.TracerProvider, slot: ProcessorSlot) -> None:
        self.provider = provider
        self._slots.append(slot)
        self.otel_tracer = provider.get_tracer(SCOPE_NAME, VERSION)
        self.can_set_attributes_after_start = can_set_attributes_after_start(provider)

    def join_new_global_providers(self) -> None:
        """Join the global TracerProvider and LoggerProvider that other code has set meanwhile, if `join` was given."""
        provider = foreign_global_provider() if self._join and self.on else None
        if provider is not None and provider is not self.provider:
            self._use(provider, join_provider(provider, self._processor))
        if self._join and self.on:
            self._processor.logs.join_global()

    def logger_provider(self) -> LoggerProvider | None:
        """Return the LoggerProvider for instrumentors, which adds events to their spans; None while switched off."""
        return self._processor.logs.provider()

    def become_global(self) -> None:
        """Make the provider the global one, if there is none."""
        self._set_global = True
        make_global(self.provider)
        if self.on:
            self._processor.logs.switch_on(join=self._join, set_global=True)

    @property
    def uses_foreign_provider(self) -> bool:
        """Whether other code has set the current provider, so that its limits, sampler and resource apply."""
        return self.provider is foreign_global_provider()

    def other_targets(self) -> tuple[SpanTarget, ...]:
        """Return the destinations to which other exporters of the provider send the same spans."""
        return self._slots[-1].others.targets() if self._slots else ()


# TracerProviders: create one, make it the global one, or join an existing one.

_lock = threading.Lock()
_slots: weakref.WeakKeyDictionary[TracerProvider, list[ProcessorSlot]] = weakref.WeakKeyDictionary()
_ours: weakref.WeakSet[TracerProvider] = weakref.WeakSet()


def provider_for(
    settings: Settings, processor: HoneyHiveSpanProcessor, *, join: bool, set_global: bool = True
) -> tuple[TracerProvider, ProcessorSlot]:
    """Return the provider for a tracer, with the tracer's processor registered.

    Args:
        settings: the tracer's settings.
        processor: is active until the returned slot's `processor` is set to None.
        join: use a global provider that other code has set; otherwise such a provider is left alone.
        set_global: make a new provider the global one if there is none.
    """
    with _lock:
        current = _global_provider()
        if current is not None and (join or (current in _ours and not _in_use(current))):
            return current, _slot_for(current, processor)
        provider = _new_provider(settings)
        if isinstance(otel_trace.get_tracer_provider(), otel_trace.ProxyTracerProvider):
            if set_global:
                otel_trace.set_tracer_provider(provider)
        elif current is None or current not in _ours:
            warn_once(
                "provider",
                "other code has set the global TracerProvider; its spans are not recorded. "
                "Pass tracer_provider=tracer.provider to instrumentors.",
            )
        return provider, _slot_for(provider, processor)


def make_global(provider: otel_trace.TracerProvider) -> None:
    """Make a provider of ours the global one, if there is none."""
    with _lock:
        if is_ours(provider) and isinstance(otel_trace.get_tracer_provider(), otel_trace.ProxyTracerProvider):
            otel_trace.set_tracer_provider(provider)


def foreign_global_provider() -> TracerProvider | None:
    """Return the global provider if other code has set it and it can be joined."""
    current = _global_provider()
    return None if current is None or current in _ours else current


def is_global(provider: otel_trace.TracerProvider) -> bool:
    """Whether this is OpenTelemetry's global provider, which libraries use by default."""
    return provider is _global_provider()


def is_ours(provider: otel_trace.TracerProvider) -> TypeGuard[TracerProvider]:
    """Whether a tracer of this package created the provider."""
    return isinstance(provider, TracerProvider) and provider in _ours


def join_provider(provider: TracerProvider, processor: HoneyHiveSpanProcessor) -> ProcessorSlot:
    """Register a tracer's processor with an existing provider, if it is not registered yet. Returns its slot."""
    with _lock:
        return _slot_for(provider, processor)


def _global_provider() -> TracerProvider | None:
    """Return the global provider if it is the SDK's, also if it is wrapped in a proxy such as Logfire's."""
    current: object = otel_trace.get_tracer_provider()
    if not isinstance(current, TracerProvider):
        current = getattr(current, "provider", None)
    return current if isinstance(current, TracerProvider) else None


def can_set_attributes_after_start(provider: otel_trace.TracerProvider) -> bool:
    """Whether attributes may be set right after a span has started, which is cheaper.

    Not if a sampler, or another processor of the provider, may need them at the start.
    """
    return is_ours(provider) and provider.sampler is _DEFAULT_SAMPLER


class _DefaultSampler(Sampler):
    """OpenTelemetry's `DEFAULT_ON`, which takes three times as long: all spans but those of an unsampled parent."""

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        parent = get_current_span(parent_context).get_span_context()
        if attributes or (parent.is_valid and (parent.trace_state or not parent.trace_flags.sampled)):
            return DEFAULT_ON.should_sample(parent_context, trace_id, name, kind, attributes, links)
        return _SAMPLED

    def get_description(self) -> str:
        return str(DEFAULT_ON.get_description())  # type: ignore[no-untyped-call]


_DEFAULT_SAMPLER: Final = _DefaultSampler()
_SAMPLED: Final = SamplingResult(Decision.RECORD_AND_SAMPLE)


def _in_use(provider: TracerProvider) -> bool:
    return any(slot.processor is not None for slot in _slots.get(provider, ()))


def _slot_for(provider: TracerProvider, processor: HoneyHiveSpanProcessor) -> ProcessorSlot:
    """Return the slot that already holds the processor, else a free slot, else a new one."""
    slots = _slots.setdefault(provider, [])
    slot = next((slot for slot in slots if slot.processor is processor), None)
    slot = slot or next((slot for slot in slots if slot.processor is None), None)
    if slot is None:
        slot = ProcessorSlot(ForeignExporters(provider))
        slots.append(slot)
        provider.add_span_processor(slot)
    slot.processor = processor
    return slot


def _new_provider(settings: Settings) -> TracerProvider:
    provider = TracerProvider(
        resource=own_resource(settings),
        # We apply the limits ourselves before export and record it; the SDK would drop the oldest keys silently.
        span_limits=SpanLimits(
            max_span_attributes=SpanLimits.UNSET,
            max_events=SpanLimits.UNSET,
            max_links=SpanLimits.UNSET,
            max_event_attributes=SpanLimits.UNSET,
            max_link_attributes=SpanLimits.UNSET,
            max_span_attribute_length=SpanLimits.UNSET,
        ),
        id_generator=UnseededIdGenerator(),
        # Tracers flush at exit themselves, within their own time limit.
        shutdown_on_exit=False,
    )
    if provider.sampler is DEFAULT_ON:  # OTEL_TRACES_SAMPLER sets no other.
        provider.sampler = _DEFAULT_SAMPLER
    _ours.add(provider)
    return provider


# A later global provider replaces ours. OpenTelemetry accepts a global provider once and rejects the next with a
# warning. In a notebook the next one is what the user asked for, such as Logfire's or Phoenix's.


class GlobalProviderPatch:
    """Wraps `set_tracer_provider` so that another provider can replace ours as the global one.

    After `remove` the wrapper does nothing, even if other code has wrapped it in turn.

    Args:
        on_set: called after each `set_tracer_provider`.
    """

    def __init__(self, on_set: Callable[[], None]) -> None:
        self._on_set = on_set
        self._active = False

    def install(self) -> None:
        """Replace `set_tracer_provider` by the wrapper."""
        self._active = True
        original = self._original = otel_trace.set_tracer_provider

        @functools.wraps(original)
        def set_tracer_provider(tracer_provider: otel_trace.TracerProvider) -> None:
            if self._active and is_ours(otel_trace.get_tracer_provider()) and not is_ours(tracer_provider):
                # There is no public way. If OpenTelemetry moves the variable, the later provider is rejected as usual.
                vars(otel_trace).update(_TRACER_PROVIDER=tracer_provider)
            else:
                original(tracer_provider)
            if self._active:
                self._on_set()

        self._wrapper = set_tracer_provider
        otel_trace.set_tracer_provider = set_tracer_provider

    def remove(self) -> None:
        """Restore the original, unless other code has wrapped ours."""
        self._active = False
        if otel_trace.set_tracer_provider is self._wrapper:
            otel_trace.set_tracer_provider = self._original


# Other exporters of a provider. If one of them sends a span to the same backend as we do, we only show the span and
# do not send it, so that it does not arrive twice.

_SHUTDOWN_FLAGS: Final = ("_shutdown", "_is_shutdown")
"""Attributes that processors and exporters of OpenTelemetry and honeyhive set when they are shut down."""


_ExporterPath = tuple[SpanTarget, tuple[Any, ...]]
"""The destination of one exporter; the processors and exporters that lead to it, and the exporter itself."""


class ForeignExporters:
    """The other exporters of one provider. They are searched again whenever a processor has been added."""

    def __init__(self, provider: TracerProvider) -> None:
        self._active_processor = provider._active_span_processor
        self._searched: object = None
        self._paths: tuple[_ExporterPath, ...] = ()

    def targets(self) -> tuple[SpanTarget, ...]:
        """Return the destinations of the exporters that are not shut down.

        Called for every span: it must not lock or raise.
        """
        processors = getattr(self._active_processor, "_span_processors", ())
        if processors is not self._searched:  # A tuple, replaced by each `add_span_processor`.
            self._paths = tuple(_exporter_paths(processors))
            self._searched = processors
        if not self._paths:
            return ()
        return tuple(target for target, parts in self._paths if not any(map(_is_shut_down, parts)))


def _exporter_paths(objects: Iterable[object], parents: tuple[object, ...] = ()) -> Iterator[_ExporterPath]:
    """Yield the exporters with an HTTP endpoint among these objects and, recursively, in their attributes."""
    for part in objects:
        if not _is_pipeline_part(part) or any(part is parent for parent in parents):
            continue
        fields = vars(part)
        parts = (*parents, part)
        url = fields.get("_endpoint", fields.get("endpoint"))
        if isinstance(url, str) and url.startswith(("http://", "https://")):
            headers = fields.get("_headers", fields.get("headers"))
            yield SpanTarget.of(url, headers if isinstance(headers, Mapping) else {}), parts
        for value in fields.values():
            yield from _exporter_paths(value if isinstance(value, list | tuple) else (value,), parts)


def _is_pipeline_part(value: object) -> bool:
    """Whether it is a processor, an exporter, or the helper object between a batch processor and its exporter."""
    return (
        isinstance(value, SpanProcessor)
        or _is_exporter(value)
        or (isinstance(getattr(value, "__dict__", None), dict) and _is_exporter(vars(value).get("_exporter")))
    )


def _is_exporter(value: object) -> bool:
    # If the module is not loaded, no exporter exists. Another thread may be loading it, so the class may be missing.
    exporter = getattr(sys.modules.get("opentelemetry.sdk.trace.export"), "SpanExporter", None)
    return exporter is not None and isinstance(value, exporter)


def _is_shut_down(part: object) -> bool:
    fields = vars(part)
    return any(fields.get(name) is True for name in _SHUTDOWN_FLAGS)


# Open spans, for the live view of a running cell. They are collected only while a notebook shows that view; otherwise
# the processor pays for one comparison.

MAX_OPEN: Final = 1_000
"""Number of open spans that are kept; a span that never ends must not be kept forever."""


class OpenSpans:
    """The spans of notebook cells that have started and not ended.

    Filled on users' threads, also inside destructors: it uses only single dict operations and a reentrant queue.

    Attributes:
        wanted: a live view is shown, so spans are collected.
        started: number of spans that have started so far.
        cells: receives a cell's key whenever a span starts in another cell than the span before it.
    """

    def __init__(self) -> None:
        self.wanted = False
        self.started = 0
        self.cells: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._spans: dict[int, tuple[str, Span]] = {}
        self._latest: str | None = None

    def add(self, span: Span, cell: str) -> None:
        """Add a span of this cell that has started."""
        self._spans[span.context.span_id] = (cell, span)
        self.started += 1
        if cell != self._latest:
            self._latest = cell
            self.cells.put(cell)
            evict_oldest(self._spans, MAX_OPEN)

    def remove(self, span_id: int) -> None:
        """Remove a span that has ended."""
        self._spans.pop(span_id, None)

    def in_cell(self, cell: str) -> list[Span]:
        """Return the open spans of one cell, in the order in which they started."""
        return [span for key, span in tuple(self._spans.values()) if key == cell]

    def discard_cell(self, cell: str) -> None:
        """Remove the spans of a cell that has ended; those still open are shown when they end."""
        for span in self.in_cell(cell):
            self.remove(span.context.span_id)
        self._latest = None


_open = OpenSpans()


def open_spans() -> OpenSpans:
    """Return the open spans of this process, of all tracers."""
    return _open
