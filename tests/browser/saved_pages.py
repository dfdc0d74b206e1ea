"""Sample cells as encoded spans, and pages in one HTML file that hold them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from hh_jupyter.export import otlp
from hh_jupyter.export.final_span import encodable
from hh_jupyter.redaction import Redactor
from hh_jupyter.report_file import ReportFile, spans_page
from tests.browser.sample_cells import SESSION, Cell

RESOURCE, SCOPE = Resource({"service.name": "shop"}), InstrumentationScope("shop", "1.0")


def bodies(cell: Cell, session: str | None = SESSION) -> Iterator[bytes]:
    """The spans of a cell as encoded requests, without those that run."""
    for record in cell.records:
        details = cell.details.get(f"{record.span_id:016x}")
        attributes = {"honeyhive.session_id": session} if session else {}
        attributes |= dict(details.attributes) if details else {}
        events = [Event(one.name, one.attributes, one.timestamp) for one in details.events] if details else []
        failed = record.status == "error"
        span = otlp.FinalSpan(
            name=record.name,
            context=SpanContext(record.trace_id, record.span_id, False, TraceFlags(1)),
            parent=SpanContext(record.trace_id, record.parent_id, False) if record.parent_id else None,
            resource=RESOURCE,
            scope=SCOPE,
            attributes=attributes,
            events=events,
            links=(),
            kind=SpanKind.INTERNAL,
            status=Status(StatusCode.ERROR, record.error.message if record.error else "") if failed else Status(),
            start_time=record.start_ns,
            end_time=record.end_ns,
            dropped=record.dropped,
        )
        try:
            yield otlp.encode([span])
        except (ValueError, TypeError):
            yield otlp.encode([encodable(span)])


def saved(*cells: Iterable[bytes], redactor: Redactor | None = None) -> ReportFile:
    """The page of these requests."""
    found = [body for cell in cells for body in cell]
    return spans_page(found, redactor or Redactor(environ={}), {SESSION: "refund-triage #3"})
