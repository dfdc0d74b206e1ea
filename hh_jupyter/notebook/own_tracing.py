"""Libraries that trace themselves: their own switches, behind the methods of an OpenTelemetry instrumentor."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from typing import Any, ClassVar, Final


class PydanticAI:
    """`Agent.instrument_all`: every agent that does not say otherwise itself."""

    _before: ClassVar[Any] = None
    _ours: ClassVar[Any] = None

    @property
    def is_instrumented_by_opentelemetry(self) -> bool:
        """Whether it is on, also where the user switched it on; asking does not import the library."""
        agent = getattr(sys.modules.get("pydantic_ai"), "Agent", None)
        return bool(getattr(agent, "_instrument_default", False))

    def instrument(self, tracer_provider: Any = None, **_: Any) -> None:
        """Switch it on."""
        from pydantic_ai import Agent
        from pydantic_ai.models.instrumented import InstrumentationSettings

        kind = type(self)
        kind._before = getattr(Agent, "_instrument_default", False)
        kind._ours = InstrumentationSettings(tracer_provider=tracer_provider)
        Agent.instrument_all(kind._ours)

    def uninstrument(self) -> None:
        """Back to what it was, unless somebody has changed it since."""
        from pydantic_ai import Agent

        if getattr(Agent, "_instrument_default", None) is type(self)._ours:
            Agent.instrument_all(type(self)._before)
        type(self)._ours = None


class OpenAIAgents:
    """`add_trace_processor`: the spans that the Agents SDK makes anyway, as OpenTelemetry's."""

    _processor: ClassVar[Any] = None

    @property
    def is_instrumented_by_opentelemetry(self) -> bool:
        """Whether our processor takes the SDK's spans."""
        processor = type(self)._processor
        return processor is not None and processor.tracer is not None

    def instrument(self, tracer_provider: Any = None, **_: Any) -> None:
        """Add our processor, once; the SDK cannot remove one."""
        from agents import add_trace_processor
        from opentelemetry import trace as otel_trace

        from hh_jupyter.notebook.agents_spans import AgentsProcessor

        kind = type(self)
        if kind._processor is None:
            kind._processor = AgentsProcessor()
            add_trace_processor(kind._processor)
        provider = tracer_provider or otel_trace.get_tracer_provider()
        kind._processor.tracer = provider.get_tracer("hh_jupyter.openai_agents")

    def uninstrument(self) -> None:
        """Make the processor inert."""
        type(self)._processor.tracer = None


OWN_TRACING: Final = {
    name: EntryPoint(name, f"{__name__}:{kind.__name__}", "hh_jupyter")
    for name, kind in {"pydantic_ai": PydanticAI, "openai_agents": OpenAIAgents}.items()
}
"""Read like the entry points of installed instrumentors."""

PREFERRED: Final = frozenset({"pydantic_ai"})
"""Their own tracing tells most. That of the Agents SDK is used where no instrumentor is installed."""
