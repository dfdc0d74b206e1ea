"""Sealed spans <-> OTLP request bodies.

The official exporter package encodes; this module only chooses what goes in, joins bodies and reads one span back.
Protobuf's encoding makes joining trivial: the concatenation of two serialised requests is the request that holds the
spans of both, so a span is encoded once and batches are made later by joining bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hh_jupyter.records.record import RecordedEvent, SpanDetails

if TYPE_CHECKING:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    from hh_jupyter.delivery.sealed_span import SealedSpan

TRACES_PATH = "/opentelemetry/v1/traces"


def encode(spans: Sequence[SealedSpan]) -> bytes:
    """A serialised `ExportTraceServiceRequest` with these spans.

    The official encoder makes everything but the spans' attributes, which are most of the bytes and of its time; they
    are written straight into its messages.

    Raises:
        ValueError, TypeError: a value that protobuf cannot hold.
    """
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans  # Loads protobuf: not at import.

    attributes = {span.context.span_id.to_bytes(8, "big"): span.final_attributes for span in spans}
    request = encode_spans(spans)
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for message in scope.spans:
                _write(message.attributes, attributes[message.span_id])
    return request.SerializeToString()


def _write(pairs: Any, attributes: Mapping[str, Any]) -> None:
    add = pairs.add
    for key, value in attributes.items():
        _set(add(key=key).value, value)


def _set(target: AnyValue, value: Any) -> None:
    kind = type(value)
    if kind is str:
        target.string_value = value
    elif kind is bool:
        target.bool_value = value
    elif kind is int:
        target.int_value = value
    elif kind is float:
        target.double_value = value
    elif kind is bytes:
        target.bytes_value = value
    elif isinstance(value, list | tuple):
        target.array_value.SetInParent()
        for item in value:
            _set(target.array_value.values.add(), item)
    elif isinstance(value, Mapping):
        target.kvlist_value.SetInParent()
        _write(target.kvlist_value.values, value)
    elif value is not None:
        target.string_value = str(value)


def join(bodies: Iterable[bytes]) -> bytes:
    """One request body with the spans of all of them."""
    return b"".join(bodies)


def to_json(body: bytes) -> bytes:
    """The same request in OTLP's JSON encoding: ids in hex, enums as numbers (OTLP 1.x, "JSON Protobuf Encoding")."""
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


def refused_spans(content_type: str, body: bytes) -> int | None:
    """How many spans an OTLP answer refuses (partial success); None if the body is no OTLP answer at all."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    if not body:
        return 0
    try:
        if "json" in content_type:
            answer = json.loads(body)
            partial = answer.get("partialSuccess") or {}
            return int(partial.get("rejectedSpans") or 0)
        if "protobuf" in content_type:
            return int(ExportTraceServiceResponse.FromString(body).partial_success.rejected_spans)
    except (ValueError, AttributeError, TypeError):  # protobuf's DecodeError is a ValueError.
        return None
    return None


def find_span(body: bytes, span_id: int) -> SpanDetails | None:
    """The details of one span of an encoded request."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    wanted = span_id.to_bytes(8, "big")
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                if span.span_id == wanted:
                    return _details(span)
    return None


def _details(span: Span) -> SpanDetails:
    return SpanDetails(
        attributes=_plain(span.attributes),
        events=tuple(RecordedEvent(e.name, e.time_unix_nano, _plain(e.attributes)) for e in span.events),
        links=tuple(
            {"trace_id": link.trace_id.hex(), "span_id": link.span_id.hex(), "attributes": _plain(link.attributes)}
            for link in span.links
        ),
        status_message=span.status.message or None,
    )


def _plain(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: _plain_value(pair.value) for pair in pairs}


def _plain_value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _plain(value.kvlist_value.values)
    return None if kind is None else getattr(value, kind)
