"""The stand-in backend does what the tests that rely on it assume."""

from __future__ import annotations

import gzip
import json
import threading
from typing import Any

import pytest
import requests
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode

from hh_jupyter.testing import Backend, ReceivedRequest
from hh_jupyter.testing.responses import SESSION_START, TRACES

JSON_SPAN = {
    "name": "from json",
    "traceId": "0af7651916cd43dd8448eb211c80319c",
    "spanId": "b7ad6b7169203331",
    "parentSpanId": None,
    "kind": "SPAN_KIND_CLIENT",
    "startTimeUnixNano": "1700000000000000000",
    "endTimeUnixNano": "1700000000000000007",
    "status": {"code": "STATUS_CODE_ERROR", "message": "no"},
    "attributes": [
        {"key": "n", "value": {"intValue": "3"}},
        {"key": "l", "value": {"arrayValue": {"values": [{"stringValue": "a"}, {"boolValue": True}]}}},
    ],
}


def _export(body: Any) -> dict[str, Any]:
    return {"resourceSpans": [{"scopeSpans": [{"spans": [body]}]}]}


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip])
def test_protobuf_exports_of_the_official_exporter_are_decoded(backend: Backend, compression: Compression) -> None:
    provider = TracerProvider()
    exporter = OTLPSpanExporter(endpoint=backend.url + TRACES, compression=compression)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("test").start_as_current_span("parent", kind=SpanKind.SERVER) as parent:
        parent.set_attributes({"text": "é", "whole": 2, "part": 0.5, "yes": True, "list": ["a", "b"]})
        parent.add_event("note", {"k": "v"})
        parent.set_status(Status(StatusCode.ERROR, "no"))
        provider.get_tracer("test").start_span("child").end()
    provider.shutdown()
    (child, seen) = backend.spans()
    assert seen["attributes"] == {"text": "é", "whole": 2, "part": 0.5, "yes": True, "list": ["a", "b"]}
    assert seen["events"] == [{"name": "note", "attributes": {"k": "v"}}]
    assert (seen["kind"], seen["status"]) == ("SERVER", {"code": "ERROR", "message": "no"})
    assert (child["parent_span_id"], seen["parent_span_id"]) == (seen["span_id"], None)


def test_json_exports_are_decoded_to_the_same_form(backend: Backend) -> None:
    requests.post(backend.url + TRACES, json=_export(JSON_SPAN), timeout=5)
    (span,) = backend.spans("from json")
    assert (span["trace_id"], span["span_id"], span["kind"]) == (JSON_SPAN["traceId"], JSON_SPAN["spanId"], "CLIENT")
    assert span["attributes"] == {"n": 3, "l": ["a", True]}
    assert span["end_ns"] - span["start_ns"] == 7


@pytest.mark.parametrize("body", [b"not json", gzip.compress(b"x")], ids=["text", "gzip"])
def test_a_body_that_cannot_be_read_is_answered_with_400(backend: Backend, body: bytes) -> None:
    answer = requests.post(backend.url + TRACES, data=body, timeout=5)
    assert answer.status_code == 400
    assert backend.spans() == []
    assert backend.requests[0].undecodable


def test_a_session_start_is_answered_with_the_id_asked_for(backend: Backend) -> None:
    body = {"session": {"session_name": "s", "session_id": "3f2504e0-4f89-41d3-9a0c-0305e82c3301"}}
    answer = requests.post(backend.url + SESSION_START, json=body, timeout=5).json()
    assert answer["session_id"] == body["session"]["session_id"]
    assert {"event_id", "org_id", "workspace_id", "project_id"} <= set(answer)
    assert backend.sessions() == [body["session"]]


@pytest.mark.parametrize(("response", "keys"), [("minimal", {"session_id"}), ("other_id", None)])
def test_session_answers_can_deviate(response: str, keys: set[str] | None) -> None:
    with Backend(session_response=response) as backend:
        answer = requests.post(backend.url + SESSION_START, json={"session": {"session_id": "x"}}, timeout=5).json()
    assert keys is None or set(answer) == keys
    assert (answer["session_id"] == "x") == (response == "minimal")


def test_forced_statuses_are_used_up_in_order_and_refused_spans_do_not_count() -> None:
    with Backend(statuses={TRACES: [503, 429]}) as backend:
        codes = [requests.post(backend.url + TRACES, json=_export(JSON_SPAN), timeout=5).status_code for _ in range(3)]
        assert codes == [503, 429, 200]
        assert len(backend.spans()) == 1


def test_the_last_forced_status_can_go_on_for_ever() -> None:
    with Backend(statuses={"/events": [503, 500]}, repeat_last_status=True) as backend:
        codes = [requests.put(backend.url + "/events", json={}, timeout=5).status_code for _ in range(4)]
    assert codes == [503, 500, 500, 500]


def test_a_hanging_backend_receives_and_never_answers_until_it_is_told_to_go_on() -> None:
    with Backend(hang=("/",)) as backend:
        with pytest.raises(requests.ReadTimeout):
            requests.put(backend.url + "/events", json={"event_id": "e"}, timeout=0.2)
        assert json.dumps(backend.requests[0].body) == '{"event_id": "e"}'
        backend.behaviour.hang = ()
        assert requests.put(backend.url + "/events", json={}, timeout=5).status_code == 200


def test_a_refusing_backend_can_come_up_and_go_away_at_the_same_address() -> None:
    with Backend(refuse=True) as backend, requests.Session() as session:
        with pytest.raises(requests.ConnectionError):
            session.put(backend.url + "/events", json={}, timeout=5)
        backend.listen()
        assert session.put(backend.url + "/events", json={}, timeout=5).status_code == 200
        backend.close()
        with pytest.raises(requests.ConnectionError):
            session.put(backend.url + "/events", json={}, timeout=5)


def test_waiting_ends_when_the_condition_holds(backend: Backend) -> None:
    later = threading.Timer(0.05, requests.put, (backend.url + "/events",), {"json": {}, "timeout": 5})
    later.start()
    assert backend.wait_for(lambda b: any(request.accepted for request in b.requests))
    assert not backend.wait_for(lambda b: len(b.requests) > 1, timeout=0.01)
    later.join()


def test_a_function_may_decide_on_each_request_by_its_content() -> None:
    def refuse_three(request: ReceivedRequest) -> int | None:
        return 503 if request.body == {"event_id": "3"} else None

    with Backend(on_request=refuse_three) as backend:
        for number in range(5):
            requests.put(backend.url + "/events", json={"event_id": str(number)}, timeout=5)
    assert [request.status for request in backend.requests] == [200, 200, 200, 503, 200]


def test_a_request_has_the_times_at_which_it_came_and_was_answered() -> None:
    with Backend(delay={"/events": 0.1}) as backend:
        requests.put(backend.url + "/events", json={}, timeout=5)
        (request,) = backend.requests
    assert request.answered is not None
    assert 0.1 <= request.answered - request.received < 5


def test_protobuf_at_another_path_is_decoded_but_not_among_the_spans_of_the_backend(backend: Backend) -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=backend.url + "/v1/traces")))
    provider.get_tracer("test").start_span("elsewhere").end()
    provider.shutdown()
    (request,) = backend.requests
    assert ([span["name"] for span in request.body], request.status, backend.spans()) == (["elsewhere"], 200, [])
