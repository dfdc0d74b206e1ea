"""The two that are compared, with the same methods. Each imports what it needs in `start`, which is measured."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

Function = Callable[..., Any]


class Implementation(Protocol):
    """One way to trace."""

    def start(self, url: str) -> None:
        """Import and make a tracer that is ready for spans."""

    def traced(self, function: Function) -> Function:
        """The function as a span."""

    def captured(self, function: Function) -> Function:
        """The function as a span with its arguments and result."""

    def span(self) -> AbstractContextManager[Any]:
        """A block as a span."""

    def session(self) -> None:
        """Make a session and enter it."""

    def redactor(self) -> Callable[[dict[str, Any]], object]:
        """What takes secrets out of a span's attributes; a copy where nobody does."""

    def flush(self) -> None:
        """Return when everything is sent."""


class Plain:
    """OpenTelemetry's SDK, as its documentation shows it."""

    def start(self, url: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self.provider = TracerProvider()
        self.provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{url}/v1/traces")))
        self.tracer = self.provider.get_tracer("benchmark")

    def traced(self, function: Function) -> Function:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            with self.tracer.start_as_current_span(function.__name__):
                return function(*args)

        return wrapper

    def captured(self, function: Function) -> Function:
        import inspect
        import json

        from opentelemetry import baggage

        names = list(inspect.signature(function).parameters)

        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            attributes = {
                "honeyhive_event_type": "tool",
                "honeyhive.session_id": str(baggage.get_baggage("session_id")),
                "honeyhive_inputs": json.dumps(dict(zip(names, args, strict=True)), default=str),
            }
            with self.tracer.start_as_current_span(function.__name__, attributes=attributes) as span:
                result = function(*args)
                span.set_attribute("honeyhive_outputs", json.dumps(result, default=str))
                return result

        return wrapper

    def span(self) -> AbstractContextManager[Any]:
        return self.tracer.start_as_current_span("block")

    def session(self) -> None:
        import uuid

        from opentelemetry import baggage, context

        context.attach(baggage.set_baggage("session_id", str(uuid.uuid4())))

    def redactor(self) -> Callable[[dict[str, Any]], object]:
        return dict

    def flush(self) -> None:
        self.provider.force_flush()


class Ours:
    """This package."""

    def start(self, url: str) -> None:
        import hh_jupyter

        self.package = hh_jupyter
        self.tracer = hh_jupyter.HoneyHiveTracer.init(api_key="benchmark-key", project="benchmark", server_url=url)

    def traced(self, function: Function) -> Function:
        return self.package.trace(event_type="tool")(function)

    captured = traced

    def span(self) -> AbstractContextManager[Any]:
        return self.tracer.start_span("block")

    def session(self) -> None:
        self.tracer.create_session("benchmark")

    def redactor(self) -> Callable[[dict[str, Any]], object]:
        from hh_jupyter.export.finalize import redactor_of

        return redactor_of(self.tracer.settings).attributes

    def flush(self) -> None:
        if not self.tracer.force_flush():
            raise RuntimeError(f"not everything was sent: {self.tracer.export_state()}")


IMPLEMENTATIONS: dict[str, type[Implementation]] = {"plain": Plain, "ours": Ours}
