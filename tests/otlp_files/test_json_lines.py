"""Lines of an OTLP JSON file hold each span once, and protobuf's own reader accepts them."""

from __future__ import annotations

import base64
import json
from typing import Any

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from hh_jupyter.otlp_files.json_lines import lines


def request(*ids: int, name: str = "s") -> ExportTraceServiceRequest:
    """Return a request with spans of trace 1 in two scopes."""
    found = ExportTraceServiceRequest()
    resource = found.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "test"
    scopes = [resource.scope_spans.add(), resource.scope_spans.add()]
    for place, scope in enumerate(scopes):
        scope.scope.name = f"scope-{place}"
    for number in ids:
        span = scopes[number % 2].spans.add(name=f"{name}-{number}", kind=Span.SPAN_KIND_CLIENT)
        span.trace_id, span.span_id = (1).to_bytes(16, "big"), number.to_bytes(8, "big")
        span.start_time_unix_nano, span.end_time_unix_nano = 2**62 + number, 2**62 + number + 5
        span.attributes.add(key="n").value.int_value = number
        span.attributes.add(key="raw").value.bytes_value = b"\x00\xff"
    return found


def read(line: bytes) -> ExportTraceServiceRequest:
    """Parse a line with protobuf's own reader, which expects ids in base64 where OTLP uses hexadecimal."""
    document = json.loads(line)
    for resource in document["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope.get("spans", ()):
                for name in ("traceId", "spanId"):
                    span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    found: Any = ParseDict(document, ExportTraceServiceRequest())
    return found  # type: ignore[no-any-return]


def test_a_line_equals_the_request_that_it_was_made_from() -> None:
    original = request(1, 2, 3)
    ((line, ids),) = lines([original.SerializeToString()])
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert read(line) == original
    assert sorted(ids) == [1, 2, 3]


def test_a_duplicate_span_is_in_the_file_once() -> None:
    bodies = [request(1, 2).SerializeToString(), request(2, 3, 4).SerializeToString(), request(4).SerializeToString()]
    found = list(lines(bodies))
    assert [sorted(ids) for _, ids in found] == [[1, 2], [3, 4]]
    assert read(found[1][0]).resource_spans[0].resource.attributes[0].value.string_value == "test"
    spans = [span for line, _ in found for scope in read(line).resource_spans[0].scope_spans for span in scope.spans]
    assert sorted(span.name for span in spans) == ["s-1", "s-2", "s-3", "s-4"]


def test_bodies_that_are_not_requests_are_skipped() -> None:
    assert [ids for _, ids in lines([b"\xff\xff", request(1).SerializeToString(), b""])] == [[1]]
