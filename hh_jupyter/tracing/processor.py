"""The span processor, and the providers that it sits in.

It runs on the user's thread, also inside destructors: no lock, no I/O, no exception.
"""

from __future__ import annotations

import functools
import queue
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from sys import modules
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeGuard, cast

from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import DEFAULT_ON
from opentelemetry.trace import NoOpTracer, SpanKind, Tracer, get_current_span

from hh_jupyter import attributes as keys
from hh_jupyter.delivery.sealing.resource import own_resource
from hh_jupyter.delivery.sealing.stamp import LateEvent, Session, Stamp
from hh_jupyter.delivery.sending.target import Target, target
from hh_jupyter.settings import Settings
from hh_jupyter.tracing.context import CELL, SESSION_KEYS, PrivateIds, entries_for
from hh_jupyter.tracing.log_events import LOGS_API, LogEventCollector
from hh_jupyter.tracing.sessions import Sessions
from hh_jupyter.tracing.validation import once
from hh_jupyter.values import evict_oldest
from hh_jupyter.version import VERSION

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider

# Where a provider's spans go without us: the exporters behind its other span processors.
#
# A span that they post to our own backend must not arrive there twice, so it is shown here and left to them.

_OVER: Final = ("_shutdown", "_is_shutdown")
"""Attributes by which processors and exporters, OpenTelemetry's and honeyhive's, know that they send nothing more."""


class _Way(NamedTuple):
    """One exporter, and the processors and exporters that it stands behind."""

    target: Target
    parts: tuple[Any, ...]


class ForeignExporters:
    """The other exporters of one provider; looked for again whenever a processor was added."""

    def __init__(self, provider: TracerProvider) -> None:
        self._all = provider._active_span_processor
        self._seen: object = None
        self._ways: tuple[_Way, ...] = ()

    def targets(self) -> tuple[Target, ...]:
        """Where they send to, without those that were shut down. Asked for every span: no lock, no exception."""
        processors = getattr(self._all, "_span_processors", ())
        if processors is not self._seen:  # A tuple, replaced by each `add_span_processor`.
            self._ways = tuple(_ways(processors))
            self._seen = processors
        if not self._ways:
            return ()
        return tuple(way.target for way in self._ways if not any(map(_is_over, way.parts)))


def _ways(found: Iterable[object], above: tuple[object, ...] = ()) -> Iterator[_Way]:
    """The exporters that post to an address, among these objects and inside of them."""
    for part in found:
        if not _is_part(part) or any(part is one for one in above):
            continue
        inside = vars(part)
        parts = (*above, part)
        url = inside.get("_endpoint", inside.get("endpoint"))
        if isinstance(url, str) and url.startswith(("http://", "https://")):
            headers = inside.get("_headers", inside.get("headers"))
            yield _Way(target(url, headers if isinstance(headers, Mapping) else {}), parts)
        for value in inside.values():
            yield from _ways(value if isinstance(value, list | tuple) else (value,), parts)


def _is_part(value: object) -> bool:
    """A processor or exporter, or what a processor of batches has between itself and its exporter."""
    return (
        isinstance(value, SpanProcessor)
        or _is_exporter(value)
        or (isinstance(getattr(value, "__dict__", None), dict) and _is_exporter(vars(value).get("_exporter")))
    )


def _is_exporter(value: object) -> bool:
    # Where nobody has loaded their module, nobody has one; another thread may be loading it.
    exporter = getattr(sys.modules.get("opentelemetry.sdk.trace.export"), "SpanExporter", None)
    return exporter is not None and isinstance(value, exporter)


def _is_over(part: object) -> bool:
    inside = vars(part)
    return any(inside.get(name) is True for name in _OVER)


# Spans of cells that have started and not ended: what a cell that still runs is doing.
#
# Kept only while somebody wants them, which is a notebook with a page: the processor pays one comparison otherwise.

MOST: Final = 1_000
"""A span that never ends must not be kept for ever."""


class OpenSpans:
    """Filled on the users' threads, inside destructors too: single operations on a dict, and a queue that re-enters.

    Attributes:
        wanted: somebody looks.
        started: how many have started so far; changes when something did.
        cells: a cell's key when its first span starts, and at each change of cells.
    """

    def __init__(self) -> None:
        self.wanted = False
        self.started = 0
        self.cells: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._spans: dict[int, tuple[str, Span]] = {}
        self._latest: str | None = None

    def add(self, span: Span, cell: str) -> None:
        """A span of this cell has started."""
        self._spans[span.context.span_id] = (cell, span)
        self.started += 1
        if cell != self._latest:
            self._latest = cell
            self.cells.put(cell)
            evict_oldest(self._spans, MOST)

    def remove(self, span_id: int) -> None:
        """A span has ended."""
        self._spans.pop(span_id, None)

    def of(self, cell: str) -> list[Span]:
        """Those of one cell, in the order in which they started."""
        return [span for key, span in tuple(self._spans.values()) if key == cell]

    def forget(self, cell: str) -> None:
        """The cell has ended: what still runs of it is told when it ends."""
        for span in self.of(cell):
            self.remove(span.context.span_id)
        self._latest = None


_open = OpenSpans()


def open_spans() -> OpenSpans:
    """Those of this process, whichever tracer made them."""
    return _open


ENTRANCES: Final = frozenset({SpanKind.SERVER, SpanKind.CONSUMER})
"""Kinds of spans that frameworks start for a request or message, before any handler can make its session."""

MAX_FILTERED: Final = 10_000
"""Filtered spans whose kept ancestor is remembered for children that start late."""


class HoneyHiveSpanProcessor(SpanProcessor):
    """Stamps spans and hands them to the sealer.

    Args:
        sessions: tell the tracer's own session at any moment.
        put: takes an ended span and its stamp; must not lock or raise.
        put_late: takes an event of a span that was put before; must not lock or raise.
        flush: delivers what was put, within so many seconds.
        flush_last: the same within the budget of a program's end.
        filters: name prefixes to `include` and to `exclude`.

    Attributes:
        logs: collects the events that are written as log records.
    """

    def __init__(
        self,
        sessions: Sessions,
        put: Callable[[ReadableSpan, Stamp], None],
        put_late: Callable[[LateEvent], None],
        flush: Callable[[float], bool],
        flush_last: Callable[[], object],
        filters: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self._sessions, self._put, self._flush, self._flush_last = sessions, put, flush, flush_last
        self._include: tuple[str, ...] = ()
        self._exclude: tuple[str, ...] = ()
        self.filter(filters)
        # Single dict operations are atomic; a lock here could deadlock in a destructor.
        self._open: dict[int, Stamp] = {}
        self._kept_ancestor: dict[int, int | None] = {}
        self._watched = open_spans()
        self.logs = LogEventCollector(self._open, put_late)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Note where the span belongs."""
        if LOGS_API in modules:
            self.logs.follow_global()
        context = otel_context.get_current() if parent_context is None else parent_context
        parent = span.parent
        parent_id = None if parent is None else parent.span_id
        if parent_id is not None:
            parent_id = self._kept_ancestor.get(parent_id, parent_id)  # At once: another thread may forget it.
        span_id = span.context.span_id
        if (self._include or self._exclude) and not self.keeps(span.name):
            self._remember_filtered(span_id, parent_id)
            return
        stamp = self._open[span_id] = self._stamp(span, context, parent_id)
        if stamp.cell is not None and self._watched.wanted:
            self._watched.add(span, stamp.cell)

    def on_end(self, span: ReadableSpan, by_others: tuple[Target, ...] = ()) -> None:
        """Hand the span on, if the filters keep it and it is sampled.

        Args:
            by_others: where other exporters of its provider send it.
        """
        stamp = self._open.pop(span.context.span_id, None)
        if self._watched.wanted:
            self._watched.remove(span.context.span_id)
        if stamp is None:
            stamp = self._late_stamp(span)
        if stamp is None:
            return
        events = self.logs.of(span.context) if self.logs.awaited else ()
        if span.context.trace_flags.sampled:
            self._put(span, stamp._replace(by_others=by_others, events=events) if by_others or events else stamp)

    def _stamp(self, span: ReadableSpan, context: Context, parent_id: int | None) -> Stamp:
        cell = cast("str | None", context.get(CELL))
        sessions = self._sessions
        entries = entries_for(sessions, context)
        own = sessions.stamp
        if cell is None and sessions.elsewhere is not None:
            own = sessions.elsewhere
        session = own if own.id or keys.BAGGAGE_SESSION_ID in entries else sessions.minted_for(span)
        return Stamp(entries, session, cell, parent_id)

    def _late_stamp(self, span: ReadableSpan) -> Stamp | None:
        """The stamp of a span that started before this processor was there, or elsewhere: what is in force at its end.

        None for one that the filters left out.
        """
        if span.context.span_id in self._kept_ancestor or not self.keeps(span.name):
            return None
        parent_id = self.nearest_kept(None if span.parent is None else span.parent.span_id)
        return self._stamp(span, otel_context.get_current(), parent_id)

    def adopt(self, session: Session) -> None:
        """Take the request being served into the session that its handler makes: its SERVER span started before."""
        span = get_current_span()
        span_id = span.get_span_context().span_id
        stamp = self._open.get(span_id)
        if stamp is None or keys.BAGGAGE_SESSION_ID in stamp.baggage or getattr(span, "kind", None) not in ENTRANCES:
            return
        values = zip(SESSION_KEYS, (session.id, session.project, session.source), strict=True)
        entries = {**stamp.baggage, **{key: value for key, value in values if value}}
        self._open[span_id] = stamp._replace(baggage=entries)

    def nearest_kept(self, span_id: int | None) -> int | None:
        """The span itself, or the nearest ancestor that the filters keep; None if there is none."""
        return None if span_id is None else self._kept_ancestor.get(span_id, span_id)

    def filter(self, filters: Mapping[str, tuple[str, ...]] | None) -> None:
        """Use other filters for spans that start from now on."""
        self._include = tuple((filters or {}).get("include", ()))
        self._exclude = tuple((filters or {}).get("exclude", ()))

    def keeps(self, name: str) -> bool:
        """Whether the filters keep a span of this name: some include prefix or none given, and no exclude prefix."""
        if self._exclude and name.startswith(self._exclude):
            return False
        return not self._include or name.startswith(self._include)

    def _remember_filtered(self, span_id: int, ancestor: int | None) -> None:
        self._kept_ancestor[span_id] = ancestor
        evict_oldest(self._kept_ancestor, MAX_FILTERED)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """`HoneyHiveTracer.force_flush`, for those who know only the provider, as wrappers of Lambda handlers do."""
        return self._flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        """Deliver what there is: somebody shut the provider down. What comes after it is taken and sent as before."""
        self._flush_last()


class ProcessorSlot(SpanProcessor):
    """What is really registered with a provider, since a provider never gives a processor back.

    Inert while `processor` is None; a tracer made later takes the same slot.

    Args:
        others: what else sends the provider's spans.
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
        if self.processor is not None:  # It stays: only its tracer's own `shutdown` ends tracing.
            self.processor.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self.processor is None or self.processor.force_flush(timeout_millis)


# OpenTelemetry's providers: make one, become the global one, or join the one that is there.

_lock = threading.Lock()
_slots: weakref.WeakKeyDictionary[TracerProvider, list[ProcessorSlot]] = weakref.WeakKeyDictionary()
_ours: weakref.WeakSet[TracerProvider] = weakref.WeakSet()


def provider_for(
    settings: Settings, processor: HoneyHiveSpanProcessor, *, join: bool, set_global: bool = True
) -> tuple[TracerProvider, ProcessorSlot]:
    """The provider whose spans a tracer takes, with the tracer's processor in it.

    Args:
        settings: of the tracer.
        processor: stays until the returned slot's `processor` is set to None.
        join: take part in a foreign global provider; without it, a foreign one is left alone.
        set_global: become OpenTelemetry's global provider where there is none.
    """
    with _lock:
        current = _global()
        if current is not None and (join or (current in _ours and not _taken(current))):
            return current, _slot_for(current, processor)
        provider = _make(settings)
        if isinstance(otel_trace.get_tracer_provider(), otel_trace.ProxyTracerProvider):
            if set_global:
                otel_trace.set_tracer_provider(provider)
        elif current is None or current not in _ours:
            once(
                "provider",
                "another OpenTelemetry provider is global: its spans are not taken; "
                "give instrumentors tracer_provider=tracer.provider",
            )
        return provider, _slot_for(provider, processor)


def make_global(provider: otel_trace.TracerProvider) -> None:
    """Make a provider of ours the global one after all, where there is none."""
    with _lock:
        if is_ours(provider) and isinstance(otel_trace.get_tracer_provider(), otel_trace.ProxyTracerProvider):
            otel_trace.set_tracer_provider(provider)


def foreign_global_provider() -> TracerProvider | None:
    """The global provider if somebody else made it and it can be joined."""
    current = _global()
    return None if current is None or current in _ours else current


def is_global(provider: otel_trace.TracerProvider) -> bool:
    """Whether libraries that ask OpenTelemetry for its provider get this one."""
    return provider is _global()


def is_ours(provider: otel_trace.TracerProvider) -> TypeGuard[TracerProvider]:
    """A provider that a tracer made."""
    return isinstance(provider, TracerProvider) and provider in _ours


def joined(provider: TracerProvider, processor: HoneyHiveSpanProcessor) -> ProcessorSlot:
    """Put a tracer's processor into a provider that is there, once; the slot as for `provider_for`."""
    with _lock:
        return _slot_for(provider, processor)


def _global() -> TracerProvider | None:
    """The SDK's provider that is global; some, like Logfire's, stand behind a proxy of their own."""
    current: object = otel_trace.get_tracer_provider()
    if not isinstance(current, TracerProvider):
        current = getattr(current, "provider", None)
    return current if isinstance(current, TracerProvider) else None


def can_set_attributes_after_start(provider: otel_trace.TracerProvider) -> bool:
    """Whether spans can start without attributes and get them in the next moment, which is cheaper.

    Not where a sampler may ask for them, nor in a provider whose other processors may.
    """
    return is_ours(provider) and provider.sampler is DEFAULT_ON


def _taken(provider: TracerProvider) -> bool:
    return any(slot.processor is not None for slot in _slots.get(provider, ()))


def _slot_for(provider: TracerProvider, processor: HoneyHiveSpanProcessor) -> ProcessorSlot:
    """The slot that holds the processor already, else a free one: a provider never gives a processor back."""
    slots = _slots.setdefault(provider, [])
    slot = next((slot for slot in slots if slot.processor is processor), None)
    slot = slot or next((slot for slot in slots if slot.processor is None), None)
    if slot is None:
        slot = ProcessorSlot(ForeignExporters(provider))
        slots.append(slot)
        provider.add_span_processor(slot)
    slot.processor = processor
    return slot


def _make(settings: Settings) -> TracerProvider:
    provider = TracerProvider(
        resource=own_resource(settings),
        # Sealing cuts to the limits and says so; the SDK's limit would drop the oldest keys without a word.
        span_limits=SpanLimits(
            max_span_attributes=SpanLimits.UNSET,
            max_events=SpanLimits.UNSET,
            max_links=SpanLimits.UNSET,
            max_event_attributes=SpanLimits.UNSET,
            max_link_attributes=SpanLimits.UNSET,
            max_span_attribute_length=SpanLimits.UNSET,
        ),
        id_generator=PrivateIds(),
        # Tracers flush at exit themselves, within their own budget.
        shutdown_on_exit=False,
    )
    _ours.add(provider)
    return provider


# Where a tracer's spans come from: the provider that makes them, and others whose spans it takes as well.

SCOPE_NAME: Final = "hh_jupyter"


class ProviderBinding:
    """The provider in force; spans that others make with an earlier one are still taken.

    Args:
        processor: the tracer's, which is put into the provider.
        join: take the spans of a global provider that somebody else made.
        set_global: become OpenTelemetry's global provider where there is none.

    Attributes:
        on: spans are made and taken.
        provider: the one in force.
        otel_tracer: makes the spans.
        can_set_attributes_after_start: see the function `can_set_attributes_after_start`.
    """

    def __init__(self, processor: HoneyHiveSpanProcessor, *, join: bool, set_global: bool) -> None:
        self._processor, self._join, self._set_global = processor, join, set_global
        self._slots: list[ProcessorSlot] = []
        self.on = self.can_set_attributes_after_start = False
        self.otel_tracer: Tracer = NoOpTracer()
        self.provider: otel_trace.TracerProvider = otel_trace.NoOpTracerProvider()

    def switch_on(self, settings: Settings) -> None:
        """Make and take spans from now on."""
        self.on = True
        self._use(*provider_for(settings, self._processor, join=self._join, set_global=self._set_global))
        self._processor.logs.switch_on(join=self._join, set_global=self._set_global)

    def switch_off(self) -> None:
        """Make and take none any more. The providers stay as they are."""
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
        """Join the global providers of spans and logs that other code has set since, if this tracer joins any."""
        provider = foreign_global_provider() if self._join and self.on else None
        if provider is not None and provider is not self.provider:
            self._use(provider, joined(provider, self._processor))
        if self._join and self.on:
            self._processor.logs.join_global()

    def logger_provider(self) -> LoggerProvider | None:
        """The LoggerProvider for instrumentors, beside `provider`: it adds events to their spans. None while off."""
        return self._processor.logs.provider()

    def become_global(self) -> None:
        """Make the provider the global one after all, where there is none."""
        self._set_global = True
        make_global(self.provider)
        if self.on:
            self._processor.logs.switch_on(join=self._join, set_global=True)

    @property
    def joins(self) -> bool:
        """The spans are made by a provider of somebody else, whose limits, sampler and resource hold."""
        return self.provider is foreign_global_provider()

    def other_targets(self) -> tuple[Target, ...]:
        """Where other exporters of the provider send the same spans."""
        return self._slots[-1].others.targets() if self._slots else ()


# A global provider that somebody sets after ours: ours gives way, instead of having OpenTelemetry refuse theirs.
#
# OpenTelemetry takes a global provider once and drops the next with a warning. In a notebook the next one is what the
# user asked for, Logfire's or Phoenix's, and libraries that trace with the global provider belong to it.


class GlobalProviderPatch:
    """A wrapper of `set_tracer_provider`: installed once, inert after `remove` even where somebody wrapped it in turn.

    Args:
        joined: called when another provider has become the global one.
    """

    def __init__(self, joined: Callable[[], None]) -> None:
        self._joined = joined
        self._active = False

    def install(self) -> None:
        """Wrap it."""
        self._active = True
        original = self._original = otel_trace.set_tracer_provider

        @functools.wraps(original)
        def set_tracer_provider(tracer_provider: otel_trace.TracerProvider) -> None:
            if self._active and is_ours(otel_trace.get_tracer_provider()) and not is_ours(tracer_provider):
                # There is no public way; where OpenTelemetry keeps it elsewhere, theirs is refused as it would be.
                vars(otel_trace).update(_TRACER_PROVIDER=tracer_provider)
            else:
                original(tracer_provider)
            if self._active:
                self._joined()

        self._ours = set_tracer_provider
        otel_trace.set_tracer_provider = set_tracer_provider

    def remove(self) -> None:
        """Put the original back where nobody else has wrapped ours."""
        self._active = False
        if otel_trace.set_tracer_provider is self._ours:
            otel_trace.set_tracer_provider = self._original
