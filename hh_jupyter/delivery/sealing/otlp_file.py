"""Lines of an OTLP JSON file: one `ExportTraceServiceRequest` each.

The format is that of OpenTelemetry's file exporter ("OpenTelemetry Protocol File Exporter" of the specification), which
the Collector's `otlpjsonfile` receiver reads.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from hh_jupyter.delivery.sealing import otlp

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


def lines(bodies: Iterable[bytes], wanted: Collection[bytes] | None = None) -> Iterator[tuple[bytes, list[int]]]:
    """A line for each body that holds spans which none before it held, and the ids of those spans.

    Args:
        bodies: serialised requests; what is none is left out.
        wanted: trace and span ids, joined, of the spans to write; None: all.
    """
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    seen: set[bytes] = set()
    for body in bodies:
        try:
            request = ExportTraceServiceRequest.FromString(body)
        except DecodeError:
            continue
        if new := _take_new(request, seen, wanted):
            yield otlp.to_json(request.SerializeToString()) + b"\n", [int.from_bytes(span_id, "big") for span_id in new]


def _take_new(request: ExportTraceServiceRequest, seen: set[bytes], wanted: Collection[bytes] | None) -> list[bytes]:
    """Leave only the spans that are wanted and were not seen; their ids."""
    new: list[bytes] = []
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            ids = [span.trace_id + span.span_id for span in scope.spans]
            kept = [
                span
                for span, found in zip(scope.spans, ids, strict=True)
                if found not in seen and (wanted is None or found in wanted)
            ]
            new += [span.span_id for span in kept]
            seen.update(span.trace_id + span.span_id for span in kept)
            if len(kept) < len(scope.spans):
                copies = [type(span).FromString(span.SerializeToString()) for span in kept]
                del scope.spans[:]
                scope.spans.extend(copies)
        _keep_those_with(resource.scope_spans, "spans")
    _keep_those_with(request.resource_spans, "scope_spans")
    return new


def _keep_those_with(messages: Any, content: str) -> None:
    """Leave out the groups in which nothing is left."""
    for place in reversed(range(len(messages))):
        if not getattr(messages[place], content):
            del messages[place]
