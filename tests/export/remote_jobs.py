"""Functions that a worker process runs; it imports them by name."""

from __future__ import annotations

from typing import Any

from opentelemetry._logs import get_logger_provider
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from hh_jupyter import enrich_session, enrich_span, get_tracer
from tests.spans import log_record, recorded

ELSEWHERE = SpanContext(2**127 + 1, 5, True, TraceFlags(1), TraceState([("vendor", "value")]))


def replay(recording: str) -> None:
    """Make the spans of a recording with the tracer of this process."""
    for span in recorded(recording):
        _make(span)


def _make(span: ReadableSpan) -> None:
    scope = span.instrumentation_scope
    assert scope is not None
    tracer = get_tracer().provider.get_tracer(scope.name, scope.version, scope.schema_url)
    made = tracer.start_span(span.name, None, span.kind, span.attributes, span.links, span.start_time)
    for event in span.events:
        made.add_event(event.name, event.attributes, event.timestamp)
    made.set_status(span.status)
    made.end(span.end_time)


def make_every_part() -> None:
    """Make a span with a value in every field, odd ones included."""
    provider: Any = get_tracer().provider
    assert isinstance(provider, TracerProvider)
    tracer = provider.get_tracer("scope", "1.0", "https://schema", {"a": 1})
    attributes: dict[str, Any] = {
        "text": "t",
        "lone": "a\ud800b",
        "int": -5,
        "huge": 2**70,
        "float": float("inf"),
        "bool": True,
        "list": ("a", "b"),
        "gap": ("a", None),
        "bytes": b"x\xff",
        "honeyhive_outputs.result": "r",
    }
    links = [Link(ELSEWHERE, {"key": "value"})]
    parent = set_span_in_context(NonRecordingSpan(ELSEWHERE))
    span = tracer.start_span("na\ud800me", parent, SpanKind.CLIENT, attributes, links, start_time=10)
    span.add_event("event", {"key": 1}, 17)
    span.record_exception(ValueError("bad"), timestamp=18)
    span.set_status(Status(StatusCode.ERROR, "why"))
    span.end(20)


def set_attributes(attributes: dict[str, Any]) -> None:
    """Make a span with these attributes."""
    with get_tracer().start_span("any") as span:
        for key, value in attributes.items():
            span.set_attribute(key, value)


def write_event(content: str) -> None:
    """Make a span of a model call and an event of it in OpenTelemetry's logs."""
    with get_tracer().start_span("chat", attributes={"gen_ai.request.model": "m"}) as span:
        context = span.get_span_context()
        record = log_record(
            f"{context.trace_id:032x}", f"{context.span_id:016x}", event_name="gen_ai.choice", body={"content": content}
        )
        get_logger_provider().get_logger("another library").emit(record)


def enrich_in_order(number: int) -> None:
    """Update the session as many times."""
    for index in range(number):
        enrich_session(metadata={"number": index})


def rate_last_span(number: int, event_id: str) -> None:
    """Make that many spans, the last one with an event of this id, and update the event."""
    for index in range(number):
        with get_tracer().start_span(f"span {index}"):
            enrich_span(update_event_id=event_id if index == number - 1 else None)
    enrich_span(event_id=event_id, feedback={"ok": True})


def make_one_too_large(size: int) -> None:
    """Make a span with that many bytes between two small ones."""
    for name, text in (("first", ""), ("huge", "x" * size), ("last", "")):
        span = get_tracer().otel_tracer.start_span(name)
        span.set_attribute("text", text)
        span.end()
