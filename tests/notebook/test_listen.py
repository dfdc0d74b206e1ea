"""Spans of other programs are recorded as spans of this kernel are: origin, session, redaction, filters, sending."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import requests
from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry.sdk.resources import Resource

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.export import finalize, received
from hh_jupyter.notebook import listen as listen_module
from hh_jupyter.notebook.listen import Listener
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.settings import resolve
from hh_jupyter.testing import Backend
from hh_jupyter.tracing.context import with_cell
from hh_jupyter.tracing.span_store import detail_store, span_log
from tests.notebook.otlp_documents import document, span

SECRET = "sk-proj-" + "Ab3dEf6hIj9kLm2n" * 3
SESSION = "11111111-2222-4333-8444-555555555555"


@pytest.fixture
def tracer(backend: Backend) -> Iterator[HoneyHiveTracer]:
    span_log().clear()
    with HoneyHiveTracer.init(api_key="test-key-0001", server_url=backend.url, session_name="startup") as made:
        yield made


@pytest.fixture
def listener(tracer: HoneyHiveTracer) -> Iterator[Listener]:
    listener = Listener(tracer, span_log())
    listener.open()
    yield listener
    listener.close()


def variables(listener: Listener) -> dict[str, str]:
    """The environment variables that are printed."""
    return dict(line.split("=", 1) for line in listener.open().splitlines() if line.startswith("OTEL_"))


def send(listener: Listener, body: bytes) -> dict[str, object]:
    url = variables(listener)["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]
    response = requests.post(url, body, headers={"Content-Type": "application/json"}, timeout=30)
    assert response.status_code == 200
    return dict(response.json())


def rows() -> dict[str, SpanRecord]:
    return {row.name: row for row in span_log().records()}


def test_a_span_takes_cell_session_and_baggage_of_its_parent_and_else_of_its_trace(
    listener: Listener, tracer: HoneyHiveTracer, backend: Backend
) -> None:
    with_run = baggage.set_baggage("run_id", SESSION, with_cell(otel_context.get_current(), "4-abcd"))
    token = otel_context.attach(with_run)
    with tracer.with_session("refund") as session_id, tracer.start_span("outer") as outer:
        context = outer.get_span_context()
        # The inner span ends and arrives first, while the outer one is open.
        send(listener, document(span("inner", 8, trace=context.trace_id, parent=7)))
        send(listener, document(span("server", 7, trace=context.trace_id, parent=context.span_id)))
    otel_context.detach(token)
    send(listener, document(span("elsewhere", 9, trace=5)))
    assert tracer.force_flush()
    found = rows()
    for name in ("inner", "server"):
        assert (found[name].cell, found[name].session_id) == ("4-abcd", session_id)
        (sent,) = backend.spans(name)
        assert sent["attributes"]["honeyhive.session_id"] == session_id
        assert sent["attributes"]["honeyhive_metadata.run_id"] == SESSION
        assert sent["resource"]["service.name"] == "shop"
    assert (found["inner"].parent_id, found["server"].parent_id) == (7, context.span_id)
    assert (found["elsewhere"].cell, found["elsewhere"].session_id) == (None, tracer.session_id)


def test_of_two_sessions_in_one_trace_a_span_belongs_to_that_of_its_parent(
    listener: Listener, tracer: HoneyHiveTracer
) -> None:
    with tracer.start_span("outer") as outer:
        with tracer.with_session("first") as first, tracer.start_span("call") as call:
            parent, trace = call.get_span_context().span_id, outer.get_span_context().trace_id
        with tracer.with_session("second"), tracer.start_span("other call"):
            send(listener, document(span("server", trace=trace, parent=parent)))
    assert rows()["server"].session_id == first


def test_spans_are_redacted_before_they_are_shown_and_sent(
    listener: Listener, tracer: HoneyHiveTracer, backend: Backend
) -> None:
    body = document(span(f"call {SECRET}", gen_ai__prompt=f"my key is {SECRET}"), service=SECRET)
    hidden = f'"scope":{{"name":"x","attributes":[{{"key":"k","value":{{"stringValue":"{SECRET}"}}}}]}},"spans":'
    send(listener, body.replace(b'"spans":', hidden.encode()))
    assert tracer.force_flush()
    (row,) = span_log().records()
    assert row.redacted == 2
    assert SECRET not in f"{row}{span_log().details(row)}{[request.body for request in backend.requests]}"
    assert len(backend.spans()) == 1
    (encoded,) = detail_store().bodies([row.span_id])  # The backend does not show attributes of scopes.
    assert b"REDACTED" in encoded.upper()
    assert SECRET.encode() not in encoded


def _service(resource: Resource) -> str:
    return str(resource.attributes.get("service.name"))


def test_each_span_keeps_the_resource_of_its_program_however_many_there_are(
    listener: Listener, tracer: HoneyHiveTracer, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finalize, "MAX_RESOURCES", 2)
    for number in (1, 2, 3, 4, 1):
        send(listener, document(span(f"work {number}", 10 + len(rows())), service=f"service {number}"))
    assert tracer.force_flush()
    services = [(each["name"][-1], each["resource"]["service.name"][-1]) for each in backend.spans()]
    assert sorted(services) == [(each, each) for each in "11234"]
    # What is remembered of them is bounded in two places: where they are decoded, and where they are redacted.
    received._resource.cache_clear()
    alive = [
        each for each in gc.get_objects() if type(each) is Resource and "service 1" <= _service(each) < "service 9"
    ]
    assert len(alive) <= 2


def test_a_span_is_recorded_once_however_often_it_arrives(
    listener: Listener, tracer: HoneyHiveTracer, backend: Backend
) -> None:
    with tracer.start_span("ours") as ours:
        context = ours.get_span_context()
    tracer.wait_processed()
    again = span("ours again", context.span_id, trace=context.trace_id)  # As if this kernel's exporter sent here.
    assert send(listener, document(again, span("theirs"), span("theirs"))) == {}
    assert send(listener, document(span("theirs"))) == {}
    assert tracer.force_flush()
    assert sorted(each["name"] for each in backend.spans()) == ["ours", "theirs"]


def test_a_session_that_a_span_names_is_kept(listener: Listener, tracer: HoneyHiveTracer, backend: Backend) -> None:
    named, odd = (
        span("named", 1, honeyhive__session_id=SESSION),
        span("odd", 2, honeyhive__session_id="../x", traceloop__association__properties__session_id="../y"),
    )
    send(listener, document(named, odd))
    assert tracer.force_flush()
    assert {name: row.session_id for name, row in rows().items()} == {"named": SESSION, "odd": tracer.session_id}
    assert backend.spans("named")[0]["attributes"]["honeyhive.session_id"] == SESSION
    assert "../" not in str(backend.spans("odd"))


def test_the_filters_and_the_switch_of_the_settings_apply(listener: Listener, tracer: HoneyHiveTracer) -> None:
    tracer.processor.set_filters({"exclude": ("health",)})
    send(listener, document(span("health check", 1), span("query", 2, parent=1), span("other", 3)))
    assert {name: row.parent_id for name, row in rows().items()} == {"query": None, "other": None}
    tracer.configure(resolve({"disable_tracing": True, "api_key": "test-key-0001"}))
    answer = send(listener, document(span("late", 4)))
    assert answer == {
        "partialSuccess": {"rejectedSpans": "1", "errorMessage": "tracing is off in the notebook (%hh on)"}
    }
    assert "late" not in rows()
    assert "1 span rejected: tracing is off" in str(listener.state())


def test_what_is_remembered_of_excluded_spans_is_limited(
    listener: Listener, tracer: HoneyHiveTracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen_module, "MAX_KNOWN", 3)
    tracer.processor.set_filters({"exclude": ("health",)})
    send(listener, document(*(span("health check", number) for number in range(1, 100))))
    assert len(listener._known) == 3  # Private: an excluded span leaves no other trace.


def test_it_says_what_was_received_and_forgets_everything_when_it_closes(listener: Listener) -> None:
    before = variables(listener)
    assert before["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] == "http/protobuf"
    assert variables(listener) == before
    send(listener, document(span("one", 1), span("two", 2)))
    assert str(listener.state()).endswith(", 2 spans received")
    assert listener.close() == "hh: no longer listening. 2 spans received."
    assert listener.state() is None
    assert listener.close() == "hh: not listening. %hh listen"
    with pytest.raises(requests.ConnectionError):
        requests.post(before["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"], timeout=5)
    assert variables(listener) != before
    send(listener, document(span("three", 3)))
    assert str(listener.state()).endswith(", 1 span received")
