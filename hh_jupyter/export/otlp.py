"""OTLP bodies in protobuf: encode spans, join, split and decode requests, and read responses.

The official exporter's encoder first creates a message for every part and then copies it into its parent. `encode`
writes everything straight into the request, which halves the cost of a span. Field names and meanings follow
opentelemetry/proto/trace/v1/trace.proto; tests/export/test_encoding.py compares every field with the official encoder.

Joining is trivial with protobuf: the concatenation of two serialised requests is a request with the spans of both. So
each span is encoded once, and requests are built later by joining bytes. Protobuf is loaded when it is first needed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from opentelemetry.sdk.trace import Event
from opentelemetry.trace import Link, SpanContext, StatusCode

from hh_jupyter import attributes as keys
from hh_jupyter.conventions import describe, event_type, readable_name
from hh_jupyter.records.log import bare_event_id
from hh_jupyter.records.record import (
    RecordedEvent,
    SpanDetails,
    SpanRecord,
    Status,
    event_id_of,
    failed_status,
    span_error,
)
from hh_jupyter.values import flatten, plain_values

if TYPE_CHECKING:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace import Status as OtelStatus

# Encode

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


class FinalSpan(NamedTuple):
    """The final copy of a span. A tuple, because one is created for every span and tuples are cheap.

    Attributes:
        dropped, dropped_events, dropped_links: numbers of attributes, events and links removed by our and the SDK's
            limits.
    """

    name: str
    context: SpanContext
    parent: SpanContext | None
    resource: Resource
    scope: InstrumentationScope | None
    attributes: Mapping[str, Any]
    events: Sequence[Event]
    links: Sequence[Link]
    kind: SpanKind
    status: OtelStatus
    start_time: int | None
    end_time: int | None
    dropped: int
    dropped_events: int = 0
    dropped_links: int = 0


def encode(spans: Sequence[FinalSpan]) -> bytes:
    """Return a serialised `ExportTraceServiceRequest` with these spans.

    Raises:
        ValueError, TypeError: protobuf cannot hold a value; see `final_span.encodable`.
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
    request, span = _find(body, trace_id, span_id)
    if span is None:
        return None
    room = max(0, most - len(span.events))
    for event in events[:room]:
        _write_event(span.events.add(), event)
    span.dropped_events_count += len(events[room:])
    return bytes(request.SerializeToString())


def with_attributes(body: bytes, trace_id: int, span_id: int, attributes: Mapping[str, Any]) -> bytes | None:
    """Set attributes of one span of an encoded request and return the new request; None if it does not hold the span.

    Args:
        body: the request.
        trace_id: trace id of the span.
        span_id: id of the span.
        attributes: replace those of the same key; None removes one.
    """
    request, span = _find(body, trace_id, span_id)
    if span is None:
        return None
    others = [pair for pair in span.attributes if pair.key not in attributes]
    del span.attributes[:]
    span.attributes.extend(others)
    write_attributes(span.attributes, {key: value for key, value in attributes.items() if value is not None})
    return bytes(request.SerializeToString())


def update_attributes(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the span attributes that stand for the fields of an event update, such as metrics and feedback.

    An entry that the update sets to null is None: it is taken back.
    """
    found: dict[str, Any] = {}
    for name, prefix in keys.NAMESPACES.items():
        value = document.get(name)
        found |= flatten(prefix, value)
        if isinstance(value, Mapping):
            found |= {f"{prefix}.{key}": None for key, item in value.items() if item is None}
    return found


def with_updates(body: bytes, updates: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes:
    """Return an encoded request with what event updates add to its spans.

    Args:
        body: the request.
        updates: the documents of the updates in their order, by event id as `bare_event_id` returns it.
    """
    if not updates or keys.EVENT_ID.encode() not in body:
        return body
    for record in records_of(body):
        for document in updates.get(bare_event_id(record.event_id or ""), ()):
            body = with_attributes(body, record.trace_id, record.span_id, update_attributes(document)) or body
    return body


def event_ids(body: bytes) -> set[str]:
    """Return the ids that code chose for the events of spans in an encoded request, as `bare_event_id` returns them."""
    if keys.EVENT_ID.encode() not in body:
        return set()
    return {bare_event_id(record.event_id) for record in records_of(body) if record.event_id is not None}


def _find(body: bytes, trace_id: int, span_id: int) -> tuple[Any, Any]:
    """Return the decoded request, and its span of these ids or None."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    wanted = trace_id.to_bytes(16, "big"), span_id.to_bytes(8, "big")
    request = ExportTraceServiceRequest.FromString(body)
    spans = (span for group in request.resource_spans for scope in group.scope_spans for span in scope.spans)
    return request, next((span for span in spans if (span.trace_id, span.span_id) == wanted), None)


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


def _write_span(message: Any, span: FinalSpan) -> None:
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


# Join, split and convert whole bodies


def join(bodies: Iterable[bytes]) -> bytes:
    """Return one request body with the spans of all bodies."""
    return b"".join(bodies)


def to_json(body: bytes) -> bytes:
    """Convert a request to OTLP JSON as text; see `to_document`."""
    return json.dumps(to_document(body), separators=(",", ":")).encode()


def to_document(body: bytes) -> dict[str, Any]:
    """Convert a request to OTLP JSON: ids in hex, enums as numbers (OTLP 1.x, "JSON Protobuf Encoding")."""
    from google.protobuf.json_format import MessageToDict
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest.FromString(body)
    document: dict[str, Any] = MessageToDict(request, use_integers_for_enums=True)
    for message, plain in _span_pairs(request, document):
        plain["traceId"], plain["spanId"] = message.trace_id.hex(), message.span_id.hex()
        if message.parent_span_id:
            plain["parentSpanId"] = message.parent_span_id.hex()
        for link, plain_link in zip(message.links, plain.get("links", ()), strict=False):
            plain_link["traceId"], plain_link["spanId"] = link.trace_id.hex(), link.span_id.hex()
    return document


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


def all_details(body: bytes) -> Iterator[tuple[tuple[int, int], SpanDetails]]:
    """Yield trace and span id of each span with its details."""
    for span in _spans(body):
        yield (int.from_bytes(span.trace_id, "big"), int.from_bytes(span.span_id, "big")), details_of(span)


def candidates(
    body: bytes, wanted: Callable[[bytes], bool]
) -> Iterator[tuple[tuple[int, int], Callable[[], SpanDetails]]]:
    """Yield trace and span id of each span whose bytes a condition selects, and what decodes its details."""
    for span in _spans(body):
        if wanted(span.SerializeToString()):
            yield (
                (int.from_bytes(span.trace_id, "big"), int.from_bytes(span.span_id, "big")),
                partial(details_of, span),
            )


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
    """Decode attributes to plain values, as finalizing writes them. Objects and bytes of other programs become text."""
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


# Rows of encoded spans: of sessions whose kernel has ended, and of files


def records_of(body: bytes, *, cell: str | None = None) -> list[SpanRecord]:
    """Return the rows of a serialised `ExportTraceServiceRequest`, in its order; an empty list for other bytes.

    Content that the limits removed before encoding is missing from the rows too.

    Args:
        body: a serialised request, as stored in the spool.
        cell: id of the notebook cell's run that the spans belong to.
    """
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    try:
        request = ExportTraceServiceRequest.FromString(body)
    except DecodeError:
        return []
    return [
        row_of(span, scope.scope.name, cell=cell)
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def spans_of(body: bytes, wanted: Callable[[bytes], bool]) -> Iterator[tuple[SpanRecord, SpanDetails]]:
    """Yield rows of a serialised request with everything that the rows do not hold; see `records_of`.

    Args:
        body: a serialised request.
        wanted: tells of each encoded span whether to return it; decoding takes longer than looking at the bytes.
    """
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    try:
        request = ExportTraceServiceRequest.FromString(body)
    except DecodeError:
        return
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                if wanted(span.SerializeToString()):
                    yield row_of(span, scope.scope.name), details_of(span)


def row_of(span: Span, scope: str, *, cell: str | None = None) -> SpanRecord:
    """Return the row of an encoded span.

    Args:
        span: the span; without an end time it is still running.
        scope: name of its instrumentation scope.
        cell: id of the notebook cell's run that the span belongs to.
    """
    details = details_of(span)
    attributes = details.attributes
    ended = span.end_time_unix_nano > 0
    failed = span.status.code == span.status.STATUS_CODE_ERROR
    error = span_error(attributes, details.events, details.status_message) if failed else None
    status: Status = "running" if not ended else failed_status(error, attributes) if failed else "ok"
    return SpanRecord(
        trace_id=int.from_bytes(span.trace_id, "big"),
        span_id=int.from_bytes(span.span_id, "big"),
        parent_id=int.from_bytes(span.parent_span_id, "big") if span.parent_span_id else None,
        name=readable_name(span.name, attributes),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano if ended else None,
        status=status,
        facts=describe(span.name, _as_ended(span.name, attributes), details.events, span.start_time_unix_nano, scope),
        scope=scope,
        error=error,
        session_id=_of_type(attributes, keys.SESSION_ID, str),
        cell=cell,
        redacted=_of_type(attributes, keys.REDACTED, int) or 0,
        dropped=span.dropped_attributes_count,
        event_id=event_id_of(attributes),
    )


def _as_ended(name: str, attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the attributes without an event type that the finalizer wrote, so that it does not look user-defined.

    The finalizer writes its event type last, and that type follows from the other attributes. Both are true of a
    user-defined type only by chance.
    """
    last = [key for key in attributes if key not in (keys.TRUNCATED, keys.REDACTED)][-1:]
    if last != [keys.EVENT_TYPE]:
        return attributes
    others = {key: value for key, value in attributes.items() if key != keys.EVENT_TYPE}
    return others if event_type(name, others) == attributes[keys.EVENT_TYPE] else attributes


def _of_type(attributes: Mapping[str, Any], key: str, kind: type) -> Any:
    value = attributes.get(key)
    return value if isinstance(value, kind) else None
