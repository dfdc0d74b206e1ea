"""Decodes the bodies of span exports, protobuf or JSON, to plain dicts."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

ID_KEYS = frozenset({"traceId", "spanId", "parentSpanId"})


def from_protobuf(raw: bytes) -> ExportTraceServiceRequest:
    """Decode an `application/x-protobuf` body."""
    return ExportTraceServiceRequest.FromString(raw)


def from_json(body: Any) -> ExportTraceServiceRequest:
    """Decode an `application/json` body, whose ids are hexadecimal where protobuf's own JSON form has base64."""
    return ParseDict(_base64_ids(body), ExportTraceServiceRequest(), ignore_unknown_fields=True)


def _base64_ids(value: Any) -> Any:
    if isinstance(value, list):
        return [_base64_ids(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: base64.b64encode(bytes.fromhex(item)).decode() if key in ID_KEYS and item else _base64_ids(item)
        for key, item in value.items()
    }


def spans(message: ExportTraceServiceRequest) -> Iterator[dict[str, Any]]:
    """Yield each span with its `resource` and `scope`; times in nanoseconds, ids in hexadecimal."""
    for resource_spans in message.resource_spans:
        resource = _attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield {**_span(span), "resource": resource, "scope": scope_spans.scope.name}


def _span(span: Span) -> dict[str, Any]:
    return {
        "name": span.name,
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "parent_span_id": span.parent_span_id.hex() or None,
        "kind": Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        "status": {
            "code": Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_"),
            "message": span.status.message or None,
        },
        "attributes": _attributes(span.attributes),
        "events": [{"name": event.name, "attributes": _attributes(event.attributes)} for event in span.events],
        "links": [
            {"trace_id": link.trace_id.hex(), "span_id": link.span_id.hex(), "attributes": _attributes(link.attributes)}
            for link in span.links
        ],
        "dropped_events": span.dropped_events_count,
        "dropped_links": span.dropped_links_count,
        "start_ns": span.start_time_unix_nano,
        "end_ns": span.end_time_unix_nano,
    }


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return getattr(value, kind)
