"""A row from a span of the OpenTelemetry SDK, for spans that did not come through our own pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hh_jupyter import attributes as keys
from hh_jupyter.conventions import describe, readable_name
from hh_jupyter.records.record import SpanRecord, Status
from hh_jupyter.records.record_error import span_error

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

_ERROR = "ERROR"


def record_of(span: ReadableSpan, *, cell: str | None = None) -> SpanRecord:
    """The row of a span as it stands, neither redacted nor limited.

    Args:
        span: finished or running.
        cell: id of the notebook cell's run it belongs to.

    Raises:
        ValueError: the span has no context or no start, so that it is no recorded span.
    """
    context, start = span.get_span_context(), span.start_time
    if context is None or start is None:
        raise ValueError(f"span {span.name!r} has no ids or no start time")
    attributes = dict(span.attributes or {})
    failed = span.status.status_code.name == _ERROR
    status: Status = "running" if span.end_time is None else "error" if failed else "ok"
    session_id = attributes.get(keys.SESSION_ID)
    scope = span.instrumentation_scope.name if span.instrumentation_scope else ""
    return SpanRecord(
        trace_id=context.trace_id,
        span_id=context.span_id,
        parent_id=span.parent.span_id if span.parent else None,
        name=readable_name(span.name, attributes),
        start_ns=start,
        end_ns=span.end_time,
        status=status,
        facts=describe(span.name, attributes, span.events, start, scope),
        scope=scope,
        error=span_error(attributes, span.events, span.status.description) if failed else None,
        session_id=session_id if isinstance(session_id, str) else None,
        cell=cell,
        dropped=span.dropped_attributes,
    )
