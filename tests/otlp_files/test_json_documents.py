"""OTLP JSON files from any program are read in every variant of the format, or rejected with one clear sentence."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, MessageToJson
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from hh_jupyter.errors import HHError, SpanFileError
from hh_jupyter.export.otlp import to_json
from hh_jupyter.otlp_files.json_lines import read
from tests.spans import RECORDINGS, recorded

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
BASE64_TRACE = base64.b64encode(bytes.fromhex(TRACE)).decode()
BASE64_SPAN = base64.b64encode(bytes.fromhex(SPAN)).decode()
RECORDED = [*recorded("openinference-langchain-agent.json"), *recorded(RECORDINGS[0])]


def full_request() -> ExportTraceServiceRequest:
    """Return a request in which every field of a span is set, with values of every type."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add(schema_url="https://schema/1")
    resource.resource.attributes.add(key="service.name").value.string_value = "shop"
    scope = resource.scope_spans.add(schema_url="https://schema/2")
    scope.scope.name, scope.scope.version = "lib", "1.2"
    span = scope.spans.add(
        trace_id=bytes.fromhex(TRACE),
        span_id=bytes.fromhex(SPAN),
        parent_span_id=b"\1" * 8,
        trace_state="a=b",
        flags=0x101,
        name="all",
        kind=Span.SPAN_KIND_CLIENT,
        start_time_unix_nano=1_700_000_000_123_456_789,
        end_time_unix_nano=1_700_000_001_123_456_789,
        dropped_attributes_count=1,
        dropped_events_count=2,
        dropped_links_count=3,
    )
    span.status.code, span.status.message = span.status.STATUS_CODE_ERROR, "no"
    values: dict[str, Any] = {"string_value": "ä", "bool_value": False, "int_value": -(2**53) - 1, "double_value": 0.5}
    for name, value in {**values, "bytes_value": b"\x00\xff"}.items():
        setattr(span.attributes.add(key=name).value, name, value)
    array = span.attributes.add(key="array").value.array_value
    array.values.add().int_value = 1
    array.values.add().array_value.values.add().string_value = "inner"
    entry = span.attributes.add(key="kvlist").value.kvlist_value.values.add(key="k")
    entry.value.kvlist_value.values.add(key="deep").value.double_value = float("inf")
    span.attributes.add(key="empty")
    event = span.events.add(name="e", time_unix_nano=5, dropped_attributes_count=4)
    event.attributes.add(key="of event").value.bool_value = True
    link = span.links.add(trace_id=b"\2" * 16, span_id=b"\3" * 8, trace_state="c=d", flags=1)
    link.attributes.add(key="of link").value.string_value = "x"
    return request


def joined(path: Path) -> list[bytes]:
    """Return each span of a file as a separate serialised request."""
    found = []
    for group, span in read(path):
        request = ExportTraceServiceRequest()
        request.resource_spans.add().CopyFrom(group)
        request.resource_spans[0].scope_spans[0].spans.append(span)
        found.append(request.SerializeToString(deterministic=True))
    return found


def singly(request: ExportTraceServiceRequest) -> list[bytes]:
    """Return each span of a request as a separate serialised request."""
    found = []
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                one = ExportTraceServiceRequest()
                one.resource_spans.add(resource=resource.resource, schema_url=resource.schema_url)
                one.resource_spans[0].scope_spans.add(scope=scope.scope, schema_url=scope.schema_url, spans=[span])
                found.append(one.SerializeToString(deterministic=True))
    return found


ENCODINGS: dict[str, Callable[[ExportTraceServiceRequest], str]] = {
    "OTLP's own": lambda request: to_json(request.SerializeToString()).decode(),
    "ids in base64, enums by name": MessageToJson,
    "the same on one line": lambda request: MessageToJson(request, indent=None),
    "names of the .proto files": lambda request: MessageToJson(request, preserving_proto_field_name=True),
    "a list of requests": lambda request: json.dumps([MessageToDict(request)], indent=2),
    "a list of resources": lambda request: json.dumps(MessageToDict(request)["resourceSpans"]),
    "numbers for 64 bits": lambda request: MessageToJson(request).replace(
        '"1700000000123456789"', "1700000000123456789"
    ),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("source", ["every field", "recorded spans by the official encoder"])
def test_every_variant_of_the_format_gives_the_same_spans(encoding: str, source: str, tmp_path: Path) -> None:
    request = full_request() if source == "every field" else encode_spans(RECORDED)
    path = tmp_path / "trace.json"
    path.write_text(ENCODINGS[encoding](request), encoding="utf-8")
    assert joined(path) == singly(request)


def test_lines_may_be_compressed_have_a_byte_order_mark_or_hold_other_signals(tmp_path: Path) -> None:
    line = to_json(full_request().SerializeToString())
    other = b'{"resourceLogs":[{"scopeLogs":[]}]}\n{"resourceMetrics":[]}\n{}\n\n'
    path = tmp_path / "trace.of.any.name"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + other + line + b"\n" + line + b"\r\n"))
    assert joined(path) == singly(full_request()) * 2


def test_the_old_format_with_instrumentation_libraries_is_read(tmp_path: Path) -> None:
    span = {"traceId": TRACE.upper(), "spanId": SPAN, "parentSpanId": "0" * 16, "name": "old", "status": {"code": 2}}
    library = {"instrumentationLibrary": {"name": "lib"}, "spans": [{**span, "kind": "CLIENT", "newField": {"x": 1}}]}
    path = tmp_path / "trace.json"
    path.write_text(json.dumps({"resourceSpans": [{"instrumentationLibrarySpans": [library]}]}))
    ((group, found),) = read(path)
    assert (group.scope_spans[0].scope.name, found.name, found.trace_id.hex()) == ("lib", "old", TRACE)
    assert (found.kind, found.status.code, found.parent_span_id) == (3, 2, b"")


def test_values_that_protobuf_cannot_hold_are_kept_as_text(tmp_path: Path) -> None:
    deep: dict[str, Any] = {"stringValue": "bottom"}
    for _ in range(60):
        deep = {"arrayValue": {"values": [deep]}}
    values = [{"stringValue": "\ud800"}, {"intValue": str(2**70)}, deep, {"unknownValue": 1}, None]
    attributes = [{"key": str(number), "value": value} for number, value in enumerate(values)]
    path = tmp_path / "trace.json"
    path.write_text(document(attributes=attributes))
    ((_, found),) = read(path)
    assert Span.FromString(found.SerializeToString()) == found
    texts = [pair.value.string_value for pair in found.attributes]
    assert texts[:2] == ["?", str(2**70)]
    assert "bottom" in str(found.attributes[2])


def document(**span: Any) -> str:
    """Return a request with one span, as a line."""
    fields = {"traceId": TRACE, "spanId": SPAN, "name": "x", **span}
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [fields]}]}]})


PLACE = "resourceSpans[0].scopeSpans[0].spans[0]: "
EXPECTED = "expected OTLP JSON: an object with resourceSpans on each line, or one document"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (document() + "\nnot json", f"line 2: no JSON at column 1 (Expecting value); {EXPECTED}"),
        (document() + "\n\n" + document()[:-9], "line 3: no JSON at column 133 (Unterminated string starting at)"),
        ("<html>", "line 1: this HTML page holds no spans; expected one that %hh save wrote"),
        ('{\n"resourceSpans": [\n}', "line 3: no JSON at column 1 (Expecting value)"),
        (
            '{"spans": [], "name": 1}',
            "line 1: found an object with the keys 'spans, name', expected an object with resourceSpans",
        ),
        ("[3]", "line 1: found 3, expected an object with resourceSpans"),
        (document(traceId="0af7"), f"line 1: {PLACE}traceId is '0af7'; expected 32 hexadecimal digits"),
        (document(spanId=None), f"line 1: {PLACE}spanId is missing; expected 16 hexadecimal digits"),
        (document(spanId="g" * 16), f"line 1: {PLACE}spanId is '{'g' * 16}'; expected 16 hexadecimal digits"),
        (document(startTimeUnixNano="soon"), f"{PLACE}startTimeUnixNano 'soon' is not a whole number"),
        (document(endTimeUnixNano=-1), f"{PLACE}endTimeUnixNano -1 is out of range"),
        (document(attributes={"a": 1}), f"{PLACE}attributes {{'a': 1}} is not a list"),
        (document(attributes=["a"]), f"{PLACE}'a' is not an attribute {{key, value}}"),
        (document(attributes=[{"key": "a", "value": 1}]), f"{PLACE}value 1 is not an object"),
        (document(attributes=[{"key": "a", "value": {"bytesValue": "*"}}]), f"{PLACE}bytesValue '*' is not base64"),
        ("[" * 100_000, "line 1: nested too deeply"),
    ],
)
def test_the_error_for_another_file_names_the_line_the_place_and_the_expected_format(
    text: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "trace.json"
    path.write_text(text)
    with pytest.raises(SpanFileError) as caught:
        list(read(path))
    assert str(caught.value).startswith(f"{path}, line ")
    assert said in str(caught.value)
    assert isinstance(caught.value, HHError)
    assert isinstance(caught.value, ValueError)


def test_damaged_bytes_are_rejected_and_the_error_does_not_repeat_a_secret(tmp_path: Path) -> None:
    line, path = document().encode() + b"\n", tmp_path / "trace.gz"
    path.write_bytes(gzip.compress(line * 3)[:-9])
    with pytest.raises(SpanFileError, match=r"after line \d: the compressed data is damaged or cut"):
        list(read(path))
    path.write_bytes(line + b"\xff\xfe")
    with pytest.raises(SpanFileError, match="line 2: no UTF-8 text"):
        list(read(path))
    key = "sk-" + "proj-" + "4f9aQ27bXcd81LmZ0pRtUvWy3eHjKs6N"
    path.write_text(document(spanId=key))
    with pytest.raises(SpanFileError) as caught:
        list(read(path))
    assert key not in str(caught.value)
