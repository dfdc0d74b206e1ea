"""Programs that know OpenTelemetry and not this package, for tests of `%hh listen`: started with its variables.

`app` is a FastAPI service. As a script, this module makes a span that continues the trace of TRACEPARENT, if it is set.
"""

from __future__ import annotations

import os

from fastapi import FastAPI, Request
from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind

app = FastAPI()
provider = TracerProvider(resource=Resource.create({"service.name": "prices", "process.pid": os.getpid()}))
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=50))
tracer = provider.get_tracer("prices")


@app.get("/price/{item}")
async def price(item: str, request: Request) -> dict[str, int]:
    """Answer with the number of the process that did."""
    context = propagate.extract(request.headers)
    with (
        tracer.start_as_current_span(f"GET {item}", context, SpanKind.SERVER),
        tracer.start_as_current_span(f"look up {item}") as span,
    ):
        span.set_attribute("input.value", request.query_params.get("note", ""))
        return {"pid": os.getpid()}


if __name__ == "__main__":
    with tracer.start_as_current_span("nightly", propagate.extract({"traceparent": os.environ.get("TRACEPARENT", "")})):
        trace.get_current_span().add_event("began")
    provider.shutdown()
