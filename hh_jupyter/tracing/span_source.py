"""Where a tracer's spans come from: the provider that makes them, and others whose spans it takes as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry import trace as otel_trace
from opentelemetry.trace import NoOpTracer, Tracer

from hh_jupyter.delivery.sending.target import Target
from hh_jupyter.settings import Settings
from hh_jupyter.tracing.processor import ProcessorSlot, StampingProcessor
from hh_jupyter.tracing.provider import foreign_global, joined, make_global, provider_for, starts_bare
from hh_jupyter.version import VERSION

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider

SCOPE_NAME: Final = "hh_jupyter"


class SpanSource:
    """The provider in force; spans that others make with an earlier one are still taken.

    Args:
        processor: the tracer's, which is put into the provider.
        join: take the spans of a global provider that somebody else made.
        set_global: become OpenTelemetry's global provider where there is none.

    Attributes:
        on: spans are made and taken.
        provider: the one in force.
        otel_tracer: makes the spans.
        starts_bare: see `provider.starts_bare`.
    """

    def __init__(self, processor: StampingProcessor, *, join: bool, set_global: bool) -> None:
        self._processor, self._join, self._set_global = processor, join, set_global
        self._slots: list[ProcessorSlot] = []
        self.on = self.starts_bare = False
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
        self.starts_bare = starts_bare(provider)

    def join_later(self) -> None:
        """Join the global providers of spans and logs that other code has set since, if this tracer joins any."""
        provider = foreign_global() if self._join and self.on else None
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
        return self.provider is foreign_global()

    def other_targets(self) -> tuple[Target, ...]:
        """Where other exporters of the provider send the same spans."""
        return self._slots[-1].others.targets() if self._slots else ()
