"""The OTLP/HTTP receiver behind its real address: what it takes, what it refuses, and that it stays small."""

from __future__ import annotations

import base64
import gc
import gzip
import json
import logging
import multiprocessing
import random
import socket
import time
import tracemalloc
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPResponse
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

from hh_jupyter.attributes import TRUNCATED
from hh_jupyter.export.received import MAX_TEXT, ReceivedSpan
from hh_jupyter.notebook import receiver as receiver_module
from hh_jupyter.notebook.receiver import JSON, MAX_BODY, PROTOBUF, Receiver, Throttle
from hh_jupyter.redaction import Redactor

SPAN = {"traceId": "ab" * 16, "spanId": "cd" * 8, "name": "work", "startTimeUnixNano": "5", "endTimeUnixNano": "9"}


def document(*spans: dict[str, Any]) -> bytes:
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()


class Spans(list[ReceivedSpan]):
    """What the receiver has handed over."""

    def take(self, spans: Sequence[ReceivedSpan]) -> None:
        self.extend(spans)


@contextmanager
def receiving(take: Callable[[Sequence[ReceivedSpan]], str | None]) -> Iterator[Receiver]:
    receiver = Receiver(take)
    try:
        yield receiver
    finally:
        receiver.close()


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
def receiver(spans: Spans) -> Iterator[Receiver]:
    with receiving(spans.take) as receiver:
        yield receiver


def send(
    receiver: Receiver, body: Any = b"", path: str | None = None, method: str = "POST", **headers: str
) -> tuple[int, bytes, HTTPResponse]:
    """Send a request; names of headers have underscores. A body that is an iterator is sent in chunks."""
    given = {"content-type": JSON, **{name.replace("_", "-"): value for name, value in headers.items()}}
    connection = HTTPConnection("127.0.0.1", receiver.port, timeout=30)
    try:
        connection.request(method, receiver.path if path is None else path, body, given)
        response = connection.getresponse()
        return response.status, response.read(), response
    finally:
        connection.close()


def raw(receiver: Receiver, data: bytes, *, stays: bool = False) -> bytes:
    """Send bytes, and return the response to its end. The client may send more if it `stays`."""
    with socket.create_connection(("127.0.0.1", receiver.port), 30) as connection:
        connection.sendall(data)
        if not stays:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65536):
            answer += part
        return answer


@pytest.mark.parametrize("compression", list(Compression))
def test_spans_of_the_official_exporter_arrive_whole(
    receiver: Receiver, spans: Spans, compression: Compression
) -> None:
    provider = TracerProvider()
    sent: list[ReadableSpan] = []
    exporter = OTLPSpanExporter(endpoint=receiver.url, compression=compression)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("shop", "1.2", attributes={"scope.key": 1})
    with (
        tracer.start_as_current_span("outer") as outer,
        tracer.start_as_current_span("inner", kind=SpanKind.CLIENT) as inner,
    ):
        inner.set_attributes({"text": "ü", "number": 7, "ratio": 0.5, "yes": True, "list": ["a", "b"]})
        inner.add_event("retry", {"attempt": 2}, 1234)
        inner.set_status(StatusCode.ERROR, "it broke")
        inner.add_link(outer.get_span_context(), {"why": "cause"})
    for span in (inner, outer):
        assert isinstance(span, ReadableSpan)
        sent.append(span)
    assert [span.to_json() for span in spans] == [span.to_json() for span in sent]
    assert spans[0].instrumentation_scope == inner.instrumentation_scope  # type: ignore[attr-defined]
    assert spans[0].resource is spans[1].resource
    assert receiver.received == 2


def test_long_texts_are_cut_and_say_so_and_files_are_whole(receiver: Receiver, spans: Spans) -> None:
    """The search for secrets in a longer text would stop the cells; it knows what a cut leaves of a secret."""
    key, note = "sk-proj-0a1B2c3D4e5F6g7H8i9J", f"... ({MAX_TEXT + 100:,} characters)"
    text = ("word " * MAX_TEXT)[: MAX_TEXT - 21] + f" {key}".ljust(121)
    image = "data:image/png;base64," + base64.b64encode(random.Random(1).randbytes(MAX_TEXT)).decode()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=receiver.url)))
    with provider.get_tracer("shop").start_as_current_span("work") as span:
        span.set_attributes({"text": text, "texts": ["short", text], "image": image})
        span.add_event(text, {"text": text})
        span.set_status(StatusCode.ERROR, text)
    attributes, event = spans[0].attributes or {}, spans[0].events[0]
    listed = attributes["texts"]
    assert isinstance(listed, tuple)
    cut = [attributes["text"], listed[1], event.name, (event.attributes or {})["text"], spans[0].status.description]
    assert cut == [text[:MAX_TEXT] + note] * 5
    assert Redactor(environ={}).text(cut[0]) == (f"{text[: MAX_TEXT - 20]}[redacted: api_key]{note}", 1)
    assert (listed[0], attributes["image"]) == ("short", image)


@pytest.mark.parametrize(
    ("pack", "encoding"), [(gzip.compress, "gzip"), (zlib.compress, "deflate"), (bytes, "identity")]
)
def test_json_is_taken_in_one_piece_and_in_chunks_as_node_sends_it(
    receiver: Receiver, spans: Spans, pack: Callable[[bytes], bytes], encoding: str
) -> None:
    body = pack(document(SPAN))
    assert send(receiver, body, content_encoding=encoding)[:2] == (200, b"{}")
    chunks = iter([body[:7], body[7:]])
    assert send(receiver, chunks, content_encoding=encoding, content_type="application/json; charset=utf-8")[0] == 200
    assert [(span.name, f"{span.context.trace_id:x}", span.end_time) for span in spans] == [("work", "ab" * 16, 9)] * 2


REFUSED: dict[str, tuple[int, dict[str, Any]]] = {
    "another token": (404, {"path": f"/{'x' * 32}/v1/traces"}),
    "no token": (404, {"path": "/v1/traces"}),
    "another signal": (404, {"path": "metrics"}),
    "a query": (404, {"path": "query"}),
    "an absolute address": (404, {"path": "http://127.0.0.1/v1/traces"}),
    "GET": (405, {"method": "GET"}),
    "a browser's preflight": (405, {"method": "OPTIONS"}),
    "an unknown method": (501, {"method": "BREW"}),
    "no content type": (415, {"content_type": ""}),
    "a form": (415, {"content_type": "text/plain"}),
    "another encoding": (415, {"content_encoding": "br"}),
    "a length that is no number": (400, {"content_length": "-5"}),
    "a huge length": (413, {"content_length": "9" * 40}),
    "100 MB": (413, {"body": bytes(100_000_000)}),
    "100 MB in chunks": (413, {"body": (bytes(1_000_000) for _ in range(100))}),
    "a gzip bomb": (413, {"body": gzip.compress(bytes(MAX_BODY + 1)), "content_encoding": "gzip"}),
    "damaged gzip": (400, {"body": gzip.compress(document(SPAN))[:-9], "content_encoding": "gzip"}),
    "no gzip": (400, {"body": document(SPAN), "content_encoding": "gzip"}),
    "no JSON": (400, {"body": b"{"}),
    "deep JSON": (400, {"body": b"[" * 1_000_000}),
    "other JSON": (400, {"body": b'{"a": 1}'}),
    "too many lists": (413, {"body": b'{"resourceSpans":[],"x":[' + b"[]," * 1_000_000 + b"[]]}"}),
    "too many groups": (413, {"body": b"\x0a\x00" * 10_001, "content_type": PROTOBUF}),
    "no protobuf": (400, {"body": b"\xff\xff", "content_type": PROTOBUF}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_for_it_is_refused_with_a_clear_status(receiver: Receiver, spans: Spans, case: str) -> None:
    status, request = REFUSED[case]
    given = dict(request)
    if given.get("path") == "metrics":
        given["path"] = receiver.path.replace("traces", "metrics")
    elif given.get("path") == "query":
        given["path"] = f"{receiver.path}?x=1"
    found, body, response = send(receiver, **{"body": document(SPAN), **given})
    assert found == status
    assert response.getheader("Connection") == "close"
    token = receiver.path.split("/")[1]
    assert token not in f"{response.headers}{body!r}"
    assert not spans
    assert receiver.refused.total() == (status == 413), "counted if the sender could do better"
    assert send(receiver, document(SPAN))[0] == 200


def zeros(megabytes: int) -> bytes:
    """Compressed zeros, made without holding them."""
    packer, part = zlib.compressobj(wbits=31), bytes(1_000_000)
    return b"".join([*(packer.compress(part) for _ in range(megabytes)), packer.flush()])


@pytest.mark.parametrize("case", ["a large body", "chunks", "a bomb"])
def test_a_body_that_is_refused_is_never_held_in_memory(receiver: Receiver, case: str) -> None:
    bomb, part = zeros(200), bytes(1_000_000)
    headers = {
        "a large body": {"content_length": "200000000"},
        "chunks": {},
        "a bomb": {"content_length": str(len(bomb)), "content_encoding": "gzip"},
    }
    tracemalloc.start()
    try:
        body = iter([bomb]) if case == "a bomb" else (part for _ in range(200))
        assert send(receiver, body, **headers[case])[0] == 413
        assert tracemalloc.get_traced_memory()[1] < 3 * MAX_BODY
    finally:
        tracemalloc.stop()


def test_a_body_without_a_length_is_refused(receiver: Receiver) -> None:
    head = f"POST {receiver.path} HTTP/1.1\r\nContent-Type: {JSON}\r\n"
    assert raw(receiver, f"{head}\r\n".encode()).startswith(b"HTTP/1.1 411 ")
    for size in (b"-5", b"0x5", b"5_0", b"", b"fffffffff", b"\xff"):
        chunked = f"{head}Transfer-Encoding: chunked\r\n\r\n".encode()
        assert raw(receiver, chunked + size + b"\r\nhello\r\n0\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert b"Bad" in raw(receiver, b"\x16\x03\x01 hello\r\n\r\n")  # TLS.


def test_a_client_that_asks_first_need_not_send_the_body(receiver: Receiver) -> None:
    head = f"POST {receiver.path} HTTP/1.1\r\nContent-Type: {JSON}\r\nExpect: 100-continue\r\n"
    with socket.create_connection(("127.0.0.1", receiver.port), 30) as connection:
        connection.sendall(f"{head}Content-Length: {MAX_BODY + 1}\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
    assert receiver.refused == {"the body is larger than 16 MiB": 1}
    body = document(SPAN)
    with socket.create_connection(("127.0.0.1", receiver.port), 30) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


def test_a_slow_client_is_given_up(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver_module, "READ_SECONDS", 0.3)
    monkeypatch.setattr(receiver_module, "LINGER_SECONDS", 0.1)
    head = f"POST {receiver.path} HTTP/1.1\r\nContent-Type: {JSON}\r\n"
    assert raw(receiver, f"{head}Content-Length: 50\r\n\r\n{{".encode(), stays=True).startswith(b"HTTP/1.1 408 ")
    assert receiver.refused == {"the request did not arrive within 0 s": 1}
    assert raw(receiver, head.encode(), stays=True) == b""
    with socket.create_connection(("127.0.0.1", receiver.port), 30) as connection, suppress(ConnectionError):
        for _ in range(600):  # A byte now and then does not extend the time.
            connection.sendall(b"x")
            time.sleep(0.05)
        pytest.fail("the connection is still open")


@pytest.mark.slow
def test_connections_above_the_limit_are_told_to_come_again(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver_module, "MAX_CONNECTIONS", 2)
    silent = [socket.create_connection(("127.0.0.1", receiver.port), 30) for _ in range(2)]
    answer = raw(receiver, b"", stays=True)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert receiver.refused == {"the notebook is busy; send again later": 1}
    assert b"Retry-After" in answer
    for connection in silent:
        connection.close()
    deadline = time.monotonic() + 30
    while send(receiver, document(SPAN))[0] != 200:  # As soon as they are gone.
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_all_requests_together_hold_limited_memory(
    receiver: Receiver, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver_module, "MAX_HELD", 1_000)
    body = document({**SPAN, "name": "x" * 500})
    head = f"POST {receiver.path} HTTP/1.1\r\nContent-Type: {JSON}\r\nExpect: 100-continue\r\n"
    with socket.create_connection(("127.0.0.1", receiver.port), 30) as slow:
        slow.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
        assert slow.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        deadline = time.monotonic() + 30
        while send(receiver, body)[0] != 503:  # As soon as the other one is being read.
            assert time.monotonic() < deadline
        assert send(receiver, iter([body]))[0] == 503
        assert send(receiver, document(SPAN))[0] == 200
        slow.sendall(body)
        assert slow.recv(100).startswith(b"HTTP/1.1 200 ")
    assert send(receiver, gzip.compress(bytes(900)), content_encoding="gzip")[0] == 400, "no JSON, but not too large"
    assert send(receiver, gzip.compress(bytes(1_000)), content_encoding="gzip")[0] == 503
    assert send(receiver, body)[0] == 200


INVALID: dict[str, dict[str, Any]] = {
    "a short trace id": {"trace_id": b"\x01"},
    "a zero trace id": {"trace_id": bytes(16)},
    "a long span id": {"span_id": b"\x01" * 9},
    "no time": {"start_time_unix_nano": 0, "end_time_unix_nano": 0},
}


def message(request: ExportTraceServiceRequest, **fields: Any) -> Any:
    """Add a span of protobuf to a request."""
    part = request.resource_spans.add().scope_spans.add()
    times = {"start_time_unix_nano": 5, "end_time_unix_nano": 9}
    return part.spans.add(**{"trace_id": b"\x01" * 16, "span_id": b"\x02" * 8, "name": "work", **times, **fields})


@pytest.mark.parametrize("case", INVALID)
def test_a_span_that_is_none_is_rejected_and_the_others_are_taken(receiver: Receiver, spans: Spans, case: str) -> None:
    request = ExportTraceServiceRequest()
    message(request, name="before")
    message(request, **INVALID[case])
    message(request, name="after")
    status, body, _ = send(receiver, request.SerializeToString(), content_type=PROTOBUF)
    partial = ExportTraceServiceResponse.FromString(body).partial_success
    assert (status, partial.rejected_spans) == (200, 1)
    assert "a span needs" in partial.error_message
    assert [span.name for span in spans] == ["before", "after"]
    assert (receiver.received, receiver.rejected.total()) == (2, 1)


def test_odd_fields_of_a_span_are_read_as_if_they_were_missing(
    receiver: Receiver, spans: Spans, caplog: pytest.LogCaptureFixture
) -> None:
    request = ExportTraceServiceRequest()
    span = message(request, kind=77, parent_span_id=b"\x03", trace_state="a=1,\x1b[31m hostile", start_time_unix_nano=0)
    span.status.code = 9
    span.links.add(trace_id=b"\x01", span_id=b"\x01")
    span.events.add(name="event")
    assert send(receiver, request.SerializeToString(), content_type=PROTOBUF)[0] == 200
    (found,) = spans
    assert (found.kind, found.parent, found.status.status_code) == (SpanKind.INTERNAL, None, StatusCode.UNSET)
    assert (found.start_time, found.events[0].timestamp, list(found.links), found.dropped_links) == (9, 9, [], 1)
    assert not caplog.records


def test_odd_attributes_are_read_as_plain_values_and_quoted_in_no_log(
    receiver: Receiver, spans: Spans, caplog: pytest.LogCaptureFixture
) -> None:
    request = ExportTraceServiceRequest()
    span = message(request)
    group = request.resource_spans[0]
    event, link = span.events.add(name="event"), span.links.add(trace_id=b"\x01" * 16, span_id=b"\x02" * 8)
    for owner in (group.resource, group.scope_spans[0].scope, span, event, link):
        owner.attributes.add(key="nothing")
        owner.attributes.add(key="").value.string_value = "no key"
        owner.attributes.add(key="map").value.kvlist_value.values.add(key="a").value.int_value = 1
        mixed = owner.attributes.add(key="mixed").value.array_value.values
        mixed.add().int_value = 1
        mixed.add().string_value = "two"
        mixed.add().array_value.SetInParent()
    assert send(receiver, request.SerializeToString(), content_type=PROTOBUF)[0] == 200
    (found,) = spans
    scope = found.instrumentation_scope
    assert scope is not None
    for owner in (found, found.resource, scope, found.events[0], found.links[0]):
        read = dict(owner.attributes or {})
        assert (set(read) - {"nothing"}, read["map"]) == ({"map", "mixed"}, '{"a": 1}')
    assert not caplog.records


def test_long_names_and_large_resources_are_cut_and_not_remembered(receiver: Receiver, spans: Spans) -> None:
    request = ExportTraceServiceRequest()
    message(request, name="n" * 50_000)
    group = request.resource_spans[0]
    for owner in (group.resource, group.scope_spans[0].scope):
        owner.attributes.add(key="large").value.string_value = "x" * 100_000
        owner.attributes.add(key="small").value.string_value = "y"
    assert send(receiver, request.SerializeToString(), content_type=PROTOBUF)[0] == 200
    (found,) = spans
    assert found.name == "n" * 10_000
    scope = found.instrumentation_scope
    assert scope is not None
    for attributes in (found.resource.attributes, scope.attributes or {}):
        assert attributes["small"] == "y"
        assert attributes[TRUNCATED] == "1 attributes"
        assert "large" not in attributes
    resource = weakref.ref(found.resource)
    del found, attributes
    spans.clear()
    gc.collect()
    assert resource() is None


def test_a_long_turn_delays_later_ones_by_its_share_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    clock: Any = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(receiver_module, "time", clock)
    throttle = Throttle()
    for taken, delay in ((0.3, 0.0), (1.5, 10.0), (1_000.0, 20.0)):
        clock.now += 1_000.0  # All that can be saved is saved: half a second.
        throttle.spend(taken)
        clock.now += max(0.0, delay - 0.1)
        assert throttle.wait(clock.now) is (delay == 0.0)
        clock.now += 0.2
        assert throttle.wait(clock.now)


def test_a_large_document_is_decoded_in_turns(
    receiver: Receiver, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver_module, "TURN_SECONDS", 0.2)
    monkeypatch.setattr(receiver_module, "SAVED_SECONDS", 0.01)
    monkeypatch.setattr(receiver_module, "SHARE", 1e-3)
    some = [{**SPAN, "spanId": f"{number:016x}"} for number in range(1, 20_001)]
    assert send(receiver, document(*some))[0] == 503
    assert not spans
    assert receiver.refused == {"the notebook is busy; send again later": 1}


def test_what_would_slow_the_notebook_is_rejected_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver_module, "TURN_SECONDS", 0.2)
    monkeypatch.setattr(receiver_module, "SHARE", 1e-3)
    taken: list[int] = []

    def take(spans: Sequence[ReceivedSpan]) -> None:
        taken.append(len(spans))
        time.sleep(0.7)  # More than is saved.

    with receiving(take) as receiver:
        spans = [{**SPAN, "spanId": f"{number:016x}"} for number in range(1, 121)]
        status, body, _ = send(receiver, document(*spans))
        partial = json.loads(body)["partialSuccess"]
        assert (status, taken, partial["rejectedSpans"]) == (200, [50], "70")
        assert "slowed" in partial["errorMessage"]
        assert (receiver.received, dict(receiver.rejected)) == (50, {partial["errorMessage"]: 70})


def test_spans_that_the_notebook_does_not_take_are_rejected_with_its_reason() -> None:
    with receiving(lambda _: "tracing is off") as receiver:
        _, body, _ = send(receiver, document(SPAN))
        assert json.loads(body) == {"partialSuccess": {"rejectedSpans": "1", "errorMessage": "tracing is off"}}
        assert receiver.rejected == {"tracing is off": 1}


def test_a_failure_inside_rejects_only_the_spans_at_hand(spans: Spans, capfd: pytest.CaptureFixture[str]) -> None:
    def take(some: Sequence[ReceivedSpan]) -> None:
        spans.take(some)
        if len(spans) == 1:
            raise ArithmeticError

    with receiving(take) as receiver:
        _, body, _ = send(receiver, document(SPAN))
        assert json.loads(body)["partialSuccess"]["errorMessage"].endswith("(ArithmeticError)")
        assert send(receiver, document(SPAN))[:2] == (200, b"{}")
    assert capfd.readouterr().err == ""


def test_only_the_loopback_interface_is_open_and_each_receiver_has_its_own_token(receiver: Receiver) -> None:
    assert urlsplit(receiver.url).hostname == "127.0.0.1"
    with pytest.raises(OSError):  # noqa: PT011  # Refused, or unreachable.
        socket.create_connection(("127.0.0.2", receiver.port), 5).close()
    with receiving(lambda _: None) as other:
        assert other.path != receiver.path
        assert send(other, document(SPAN), path=receiver.path)[0] == 404


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_after_closing_nothing_listens_not_even_a_forked_child() -> None:
    receiver = Receiver(lambda _: None)
    waiting = socket.create_connection(("127.0.0.1", receiver.port), 30)
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe()

    def run() -> None:
        there.send("running")
        there.recv()

    child = fork.Process(target=run)
    child.start()
    try:
        assert here.recv() == "running"
        receiver.close()
        assert refuses(receiver.port)
        assert waiting.recv(1) == b""
    finally:
        here.send(None)
        child.join()
        waiting.close()


def test_the_token_is_in_no_log_line(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        for body in (document(SPAN), b"{", b'{"a": 1}'):
            send(receiver, body)
        raw(receiver, f"POST {receiver.path} HTTP/1.1\r\n\r\n".encode())
    assert receiver.path.split("/")[1] not in caplog.text
