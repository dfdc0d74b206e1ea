"""Makes rows from encoded spans: of sessions whose kernel has ended, and of files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hh_jupyter import attributes as keys
from hh_jupyter.conventions import describe, event_type, readable_name
from hh_jupyter.delivery.sealing.otlp import details_of
from hh_jupyter.records.record import SpanRecord, Status, span_error

if TYPE_CHECKING:
    from opentelemetry.proto.trace.v1.trace_pb2 import Span


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
    status: Status = "running" if not ended else "error" if failed else "ok"
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
        error=span_error(attributes, details.events, details.status_message) if failed else None,
        session_id=_of_type(attributes, keys.SESSION_ID, str),
        cell=cell,
        redacted=_of_type(attributes, keys.REDACTED, int) or 0,
        dropped=span.dropped_attributes_count,
    )


def _as_ended(name: str, attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the attributes without an event type that the sealer wrote, so that it does not look user-defined.

    The sealer writes its event type last, and that type follows from the other attributes. Both are true of a
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
