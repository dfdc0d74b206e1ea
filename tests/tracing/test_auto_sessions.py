"""Without a start-up session, each request creates one for its own spans."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from opentelemetry.trace import SpanKind

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.testing import Backend

SESSION, AUTO, NAME = "honeyhive.session_id", "honeyhive.session_auto_create", "honeyhive.session_name"
GIVEN = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
def sessionless(backend: Backend) -> Iterator[HoneyHiveTracer]:
    with HoneyHiveTracer.init(
        api_key="k", server_url=backend.url, session_name="web", skip_backend_session_creation=True
    ) as tracer:
        yield tracer


def _serve(tracer: HoneyHiveTracer, name: str) -> None:
    with tracer.start_span(name, kind=SpanKind.SERVER), tracer.start_span(f"in {name}"):
        tracer.enrich_session(outputs={"of": name})


def test_each_request_has_a_session_of_its_own_that_ends_with_it(
    backend: Backend, sessionless: HoneyHiveTracer
) -> None:
    threads = [threading.Thread(target=_serve, args=(sessionless, f"request {n}")) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sessionless.session_id is None
    assert sessionless.force_flush()
    spans = {span["name"]: span["attributes"] for span in backend.spans()}
    for n in range(5):
        root, child = spans[f"request {n}"], spans[f"in request {n}"]
        assert root[SESSION] == child[SESSION]
        assert (root[AUTO], root[NAME], child[AUTO], child[NAME]) == (True, "web", True, "web")
    assert len({attributes[SESSION] for attributes in spans.values()}) == 5
    updates = {
        request.body["outputs"]["of"]: request.body["event_id"]
        for request in backend.requests
        if request.method == "PUT"
    }
    assert updates == {f"request {n}": spans[f"request {n}"][SESSION] for n in range(5)}
    assert backend.sessions() == []


def test_a_span_without_a_session_is_dropped_and_reported(backend: Backend, sessionless: HoneyHiveTracer) -> None:
    _serve(sessionless, "request")
    with sessionless.start_span("between requests"):
        pass
    assert not sessionless.force_flush()
    assert {span["name"] for span in backend.spans()} == {"request", "in request"}
    state = sessionless.export_state()
    assert (state.dropped, state.reason) == (1, "the span has no session")


def test_an_explicit_session_overrides_the_one_of_the_request(backend: Backend, sessionless: HoneyHiveTracer) -> None:
    with sessionless.with_session("by hand") as session_id:
        _serve(sessionless, "request")
    assert sessionless.force_flush()
    assert {span["attributes"][SESSION] for span in backend.spans()} == {session_id}
    assert not any(AUTO in span["attributes"] for span in backend.spans())


def test_a_request_uses_the_callers_session_or_creates_its_own(backend: Backend, sessionless: HoneyHiveTracer) -> None:
    trace = {"traceparent": "00-11111111111111111111111111111111-2222222222222222-01"}
    for headers in (trace, {**trace, "baggage": f"session_id={GIVEN}"}):
        token = sessionless.link(headers)
        _serve(sessionless, "request")
        sessionless.unlink(token)
    assert sessionless.force_flush()
    first, second = [span["attributes"] for span in backend.spans("request")]
    assert first[SESSION] != GIVEN
    assert first[AUTO] is True
    assert second[SESSION] == GIVEN
    assert AUTO not in second
