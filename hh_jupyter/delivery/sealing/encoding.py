"""Encodes sealed spans as the body of an OTLP trace request, in protobuf.

The official exporter's encoder first creates a message for every part and then copies it into its parent. This encoder
writes everything straight into the request, including the attributes, which are most of the bytes. That halves the cost
of a span. Field names and meanings follow opentelemetry/proto/trace/v1/trace.proto.
tests/delivery/sealing/test_encoding.py compares every field with the output of the official encoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.trace import Event
from opentelemetry.trace import Link, SpanContext, StatusCode

if TYPE_CHECKING:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    from hh_jupyter.delivery.sealing.sealed_span import SealedSpan

_HAS_IS_REMOTE: Final = 0x100  # SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_IS_REMOTE: Final = 0x200  # SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
_FIELDS: Final[Mapping[type, str]] = {
    str: "string_value",
    bool: "bool_value",
    int: "int_value",
    float: "double_value",
    bytes: "bytes_value",
}
"""The `AnyValue` field for a value of exactly this type."""


def encode(spans: Sequence[SealedSpan]) -> bytes:
    """Return a serialised `ExportTraceServiceRequest` with these spans.

    Raises:
        ValueError, TypeError: protobuf cannot hold a value; see `sealed_span.encodable`.
    """
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest  # Loads protobuf.

    request = ExportTraceServiceRequest()
    resources: dict[int, Any] = {}
    scopes: dict[tuple[int, int], ScopeSpans] = {}
    for span in spans:
        resource, scope = span.resource, span.scope
        key = id(resource), id(scope)  # Their own `__hash__` serialises to JSON on every call.
        group = scopes.get(key)
        if group is None:
            parent = resources.get(id(resource))
            if parent is None:
                parent = resources[id(resource)] = request.resource_spans.add()
                _write_resource(parent, resource)
            group = scopes[key] = parent.scope_spans.add()
            _write_scope(group, scope)
        _write_span(group.spans.add(), span)
    return request.SerializeToString()


def with_events(body: bytes, trace_id: int, span_id: int, events: Sequence[Event], most: int) -> bytes | None:
    """Add events to one span of an encoded request and return the new request; None if it does not hold the span.

    Args:
        body: the request.
        trace_id: trace id of the span.
        span_id: id of the span.
        events: events to add.
        most: maximum number of events per span; events above it are counted as dropped.
    """
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    wanted = trace_id.to_bytes(16, "big"), span_id.to_bytes(8, "big")
    request = ExportTraceServiceRequest.FromString(body)
    spans = (span for group in request.resource_spans for scope in group.scope_spans for span in scope.spans)
    span = next((span for span in spans if (span.trace_id, span.span_id) == wanted), None)
    if span is None:
        return None
    room = max(0, most - len(span.events))
    for event in events[:room]:
        _write_event(span.events.add(), event)
    span.dropped_events_count += len(events[room:])
    return request.SerializeToString()


def _write_resource(message: Any, resource: Resource) -> None:
    message.resource.SetInParent()
    write_attributes(message.resource.attributes, resource.attributes)
    message.schema_url = resource.schema_url or ""


def _write_scope(message: ScopeSpans, scope: InstrumentationScope | None) -> None:
    message.scope.SetInParent()
    if scope is not None:
        message.scope.name = scope.name
        message.scope.version = scope.version or ""
        write_attributes(message.scope.attributes, scope.attributes or {})
        message.schema_url = scope.schema_url or ""


def _write_span(message: Any, span: SealedSpan) -> None:
    context, parent = span.context, span.parent
    _write_ids(message, context)
    if context.trace_state:
        message.trace_state = context.trace_state.to_header()
    message.flags = _flags(parent)
    if parent is not None:
        message.parent_span_id = parent.span_id.to_bytes(8, "big")
    message.name = span.name
    message.kind = span.kind.value + 1  # 0 is "unspecified" on the wire.
    message.start_time_unix_nano = span.start_time or 0
    message.end_time_unix_nano = span.end_time or 0
    message.dropped_attributes_count = span.dropped
    message.dropped_events_count, message.dropped_links_count = span.dropped_events, span.dropped_links
    write_attributes(message.attributes, span.attributes)
    for event in span.events:
        _write_event(message.events.add(), event)
    for link in span.links:
        _write_link(message.links.add(), link)
    message.status.SetInParent()
    if span.status.status_code is not StatusCode.UNSET:
        message.status.code = span.status.status_code.value
        message.status.message = span.status.description or ""


def _write_event(message: Any, event: Event) -> None:
    message.name = event.name
    message.time_unix_nano = event.timestamp
    message.dropped_attributes_count = event.dropped_attributes
    write_attributes(message.attributes, event.attributes or {})


def _write_link(message: Any, link: Link) -> None:
    _write_ids(message, link.context)
    message.flags = _flags(link.context)
    message.dropped_attributes_count = link.dropped_attributes
    write_attributes(message.attributes, link.attributes or {})


def _write_ids(message: Any, context: SpanContext) -> None:
    message.trace_id = context.trace_id.to_bytes(16, "big")
    message.span_id = context.span_id.to_bytes(8, "big")


def _flags(context: SpanContext | None) -> int:
    return _HAS_IS_REMOTE | _IS_REMOTE if context is not None and context.is_remote else _HAS_IS_REMOTE


def write_attributes(pairs: Any, attributes: Mapping[str, Any]) -> None:
    """Append attributes to a message's repeated `KeyValue` field."""
    add = pairs.add
    for key, value in attributes.items():
        pair = add()
        pair.key = key
        field = _FIELDS.get(type(value))
        if field is not None:
            setattr(pair.value, field, value)
        else:
            _set_other(pair.value, value)


def _set_other(target: AnyValue, value: Any) -> None:
    if isinstance(value, list | tuple):
        target.array_value.SetInParent()
        for item in value:
            _set(target.array_value.values.add(), item)
    elif isinstance(value, Mapping):
        target.kvlist_value.SetInParent()
        write_attributes(target.kvlist_value.values, value)
    elif value is not None:
        target.string_value = str(value)


def _set(target: AnyValue, value: Any) -> None:
    field = _FIELDS.get(type(value))
    if field is not None:
        setattr(target, field, value)
    else:
        _set_other(target, value)
