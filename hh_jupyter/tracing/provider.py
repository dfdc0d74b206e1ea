"""OpenTelemetry's providers: make one, become the global one, or join the one that is there."""

from __future__ import annotations

import threading
import weakref
from typing import TypeGuard

from opentelemetry import trace as otel_trace
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.sampling import DEFAULT_ON

from hh_jupyter.delivery.sealing.resource import own_resource
from hh_jupyter.settings import Settings
from hh_jupyter.tracing.arguments import once
from hh_jupyter.tracing.ids import PrivateIds
from hh_jupyter.tracing.other_exporters import OtherExporters
from hh_jupyter.tracing.processor import ProcessorSlot, StampingProcessor

_lock = threading.Lock()
_slots: weakref.WeakKeyDictionary[TracerProvider, list[ProcessorSlot]] = weakref.WeakKeyDictionary()
_ours: weakref.WeakSet[TracerProvider] = weakref.WeakSet()


def provider_for(
    settings: Settings, processor: StampingProcessor, *, join: bool, set_global: bool = True
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


def foreign_global() -> TracerProvider | None:
    """The global provider if somebody else made it and it can be joined."""
    current = _global()
    return None if current is None or current in _ours else current


def is_global(provider: otel_trace.TracerProvider) -> bool:
    """Whether libraries that ask OpenTelemetry for its provider get this one."""
    return provider is _global()


def is_ours(provider: otel_trace.TracerProvider) -> TypeGuard[TracerProvider]:
    """A provider that a tracer made."""
    return isinstance(provider, TracerProvider) and provider in _ours


def joined(provider: TracerProvider, processor: StampingProcessor) -> ProcessorSlot:
    """Put a tracer's processor into a provider that is there, once; the slot as for `provider_for`."""
    with _lock:
        return _slot_for(provider, processor)


def _global() -> TracerProvider | None:
    """The SDK's provider that is global; some, like Logfire's, stand behind a proxy of their own."""
    current: object = otel_trace.get_tracer_provider()
    if not isinstance(current, TracerProvider):
        current = getattr(current, "provider", None)
    return current if isinstance(current, TracerProvider) else None


def starts_bare(provider: otel_trace.TracerProvider) -> bool:
    """Whether spans can start without attributes and get them in the next moment, which is cheaper.

    Not where a sampler may ask for them, nor in a provider whose other processors may.
    """
    return is_ours(provider) and provider.sampler is DEFAULT_ON


def _taken(provider: TracerProvider) -> bool:
    return any(slot.processor is not None for slot in _slots.get(provider, ()))


def _slot_for(provider: TracerProvider, processor: StampingProcessor) -> ProcessorSlot:
    """The slot that holds the processor already, else a free one: a provider never gives a processor back."""
    slots = _slots.setdefault(provider, [])
    slot = next((slot for slot in slots if slot.processor is processor), None)
    slot = slot or next((slot for slot in slots if slot.processor is None), None)
    if slot is None:
        slot = ProcessorSlot(OtherExporters(provider))
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
