"""Joins, splits and decodes OTLP request bodies, converts them to JSON, and reads the responses.

Joining is trivial with protobuf: the concatenation of two serialised requests is a request with the spans of both. So
`encoding` encodes each span once, and batches are built later by joining bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from hh_jupyter.records.record import RecordedEvent, SpanDetails
from hh_jupyter.values import plain_values

if TYPE_CHECKING:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

TRACES_PATH = "/opentelemetry/v1/traces"


def join(bodies: Iterable[bytes]) -> bytes:
    """Return one request body with the spans of all bodies."""
    return b"".join(bodies)


def to_json(body: bytes) -> bytes:
    """Convert a request to OTLP JSON: ids in hex, enums as numbers (OTLP 1.x, "JSON Protobuf Encoding")."""
    from google.protobuf.json_format import MessageToDict
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest.FromString(body)
    document = MessageToDict(request, use_integers_for_enums=True)
    for message, plain in _span_pairs(request, document):
        plain["traceId"], plain["spanId"] = message.trace_id.hex(), message.span_id.hex()
        if message.parent_span_id:
            plain["parentSpanId"] = message.parent_span_id.hex()
        for link, plain_link in zip(message.links, plain.get("links", ()), strict=False):
            plain_link["traceId"], plain_link["spanId"] = link.trace_id.hex(), link.span_id.hex()
    return json.dumps(document, separators=(",", ":")).encode()


def _span_pairs(request: Any, document: Mapping[str, Any]) -> Iterable[tuple[Span, dict[str, Any]]]:
    for resource, plain_resource in zip(request.resource_spans, document.get("resourceSpans", ()), strict=True):
        for scope, plain_scope in zip(resource.scope_spans, plain_resource.get("scopeSpans", ()), strict=True):
            yield from zip(scope.spans, plain_scope.get("spans", ()), strict=True)


def partial_success(content_type: str, body: bytes) -> tuple[int, str] | None:
    """Return how many spans an OTLP response rejects, and why; None if the body is not an OTLP response."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    if not body:
        return 0, ""
    try:
        if "json" in content_type:
            partial = json.loads(body).get("partialSuccess") or {}
            return int(partial.get("rejectedSpans") or 0), str(partial.get("errorMessage") or "")
        if "protobuf" in content_type:
            found = ExportTraceServiceResponse.FromString(body).partial_success
            return int(found.rejected_spans), found.error_message
    except (DecodeError, ValueError, AttributeError, TypeError, OverflowError, RecursionError):
        return None
    return None


def halves(body: bytes) -> tuple[bytes, bytes] | None:
    """Split the spans into two requests, the larger half first; None if the body holds fewer than two spans."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    try:
        whole = ExportTraceServiceRequest.FromString(body)
    except DecodeError:
        return None
    number = sum(len(scope.spans) for resource in whole.resource_spans for scope in resource.scope_spans)
    if number < 2:
        return None
    first, second = ExportTraceServiceRequest(), ExportTraceServiceRequest()
    first.CopyFrom(whole)
    second.CopyFrom(whole)
    _keep(first, 0, (number + 1) // 2)
    _keep(second, (number + 1) // 2, number)
    return first.SerializeToString(), second.SerializeToString()


def _keep(request: Any, start: int, stop: int) -> None:
    """Remove all spans outside this range from a request."""
    seen = 0
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            number = len(scope.spans)
            del scope.spans[max(0, stop - seen) :]
            del scope.spans[: max(0, start - seen)]
            seen += number


def find_span(body: bytes, span_id: int, trace_id: int) -> SpanDetails | None:
    """Return the details of one span of an encoded request; None if the request does not hold it."""
    wanted = trace_id.to_bytes(16, "big") + span_id.to_bytes(8, "big")
    return next((details_of(span) for span in _spans(body) if span.trace_id + span.span_id == wanted), None)


def span_ids(body: bytes) -> list[int]:
    """Return the span ids in an encoded request."""
    return [int.from_bytes(span.span_id, "big") for span in _spans(body)]


def _spans(body: bytes) -> Iterator[Span]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        for scope in resource.scope_spans:
            yield from scope.spans


def details_of(span: Span) -> SpanDetails:
    """Return everything of an encoded span that its row does not hold."""
    return SpanDetails(
        attributes=_read(span.attributes),
        events=tuple(RecordedEvent(e.name, e.time_unix_nano, _read(e.attributes)) for e in span.events),
        links=tuple(
            {"trace_id": link.trace_id.hex(), "span_id": link.span_id.hex(), "attributes": _read(link.attributes)}
            for link in span.links
        ),
        status_message=span.status.message or None,
    )


def _read(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    """Decode attributes to the plain values that sealing writes. Objects and bytes from other programs become text."""
    return plain_values(values_of(pairs))


def values_of(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    """Decode attributes to Python values: arrays become lists, and key-value lists become dicts."""
    return {pair.key: _value_of(pair.value) for pair in pairs}


def _value_of(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value_of(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return values_of(value.kvlist_value.values)
    return None if kind is None else getattr(value, kind)
