"""Our encoding of spans equals that of the official encoder in every field."""

from __future__ import annotations

# Otherwise a provider with its own resource hangs in children forked later (SDK 1.45, `_handle_fork`).
import concurrent.futures.thread  # noqa: F401

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
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

from hh_jupyter.export.final_span import encodable, unchanged
from hh_jupyter.export.otlp import FinalSpan, encode

PROVIDER = TracerProvider(
    resource=Resource({"service.name": "shop", "n": 1}, "https://example.com/resource"),
    span_limits=SpanLimits(max_span_attributes=6, max_event_attributes=1, max_link_attributes=1),
)
TRACER = PROVIDER.get_tracer("shop.cart", "1.2", "https://example.com/scope", {"team": "red"})
ELSEWHERE = SpanContext(
    7, 8, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState([("a", "1"), ("b", "2")])
)


def finalized(span: ReadableSpan) -> FinalSpan:
    """Return the span as sealing copies it when there is nothing to change."""
    assert span.context is not None
    return unchanged(span, span.context)


def ended(name: str, kind: SpanKind = SpanKind.INTERNAL, status: Status | None = None) -> ReadableSpan:
    """Return a span with a value in every field; one attribute of each part is above the limit."""
    span = TRACER.start_span(
        name,
        set_span_in_context(NonRecordingSpan(ELSEWHERE)),
        kind,
        {
            "text": "é",
            "yes": True,
            "int": -(2**63),
            "float": 0.5,
            "bytes": b"\xff",
            "texts": ["a", "b"],
            "none": [None],
        },
        [Link(ELSEWHERE, {"lost": 1, "why": "joined"})],
    )
    span.add_event("moment", {"lost": 1, "count": 3}, 1_700_000_000_000_000_000)
    if status is not None:
        span.set_status(status)
    span.end()
    assert isinstance(span, ReadableSpan)
    return span


def decoded(spans: list[FinalSpan]) -> ExportTraceServiceRequest:
    return ExportTraceServiceRequest.FromString(encode(spans))


@pytest.mark.parametrize("kind", list(SpanKind))
@pytest.mark.parametrize("status", [None, Status(StatusCode.OK), Status(StatusCode.ERROR, "ValueError: no")])
def test_every_field_equals_the_output_of_the_official_encoder(kind: SpanKind, status: Status | None) -> None:
    span = ended("buy", kind, status)
    assert decoded([finalized(span)]) == encode_spans([span])


def test_root_spans_and_empty_spans_are_encoded_alike_too() -> None:
    span = PROVIDER.get_tracer("bare").start_span("root")
    span.end()
    assert isinstance(span, ReadableSpan)
    assert decoded([finalized(span)]) == encode_spans([span])


def test_spans_are_grouped_by_resource_and_scope() -> None:
    other = PROVIDER.get_tracer("other").start_span("c")
    other.end()
    assert isinstance(other, ReadableSpan)
    spans = [ended("a"), other, ended("b")]
    assert decoded([finalized(span) for span in spans]) == encode_spans(spans)


BAD = "half of a pair: \ud800"


@pytest.mark.parametrize(
    "broken",
    [
        {"name": BAD},
        {"attributes": {BAD: 1}},
        {"attributes": {"a": BAD}},
        {"attributes": {"a": ("fine", BAD)}},
        {"attributes": {"a": 2**64}},
        {"links": [Link(ELSEWHERE, {"a": BAD})]},
        {"resource": Resource({"a": BAD})},
        {"status": Status(StatusCode.ERROR, BAD)},
    ],
    ids=lambda broken: next(iter(broken)),
)
def test_values_that_protobuf_rejects_are_encoded_as_text(broken: dict[str, object]) -> None:
    span = finalized(ended("a"))._replace(**broken)  # type: ignore[arg-type]
    with pytest.raises((ValueError, TypeError)):
        encode([span])
    (resource,) = decoded([encodable(span)]).resource_spans
    (found,) = resource.scope_spans[0].spans
    assert found.span_id == span.context.span_id.to_bytes(8, "big")
    assert len(found.events) == len(found.links) == 1
