"""Each class of response has its consequence, and one bad span does not affect the others."""

from __future__ import annotations

import json
import time
from email.utils import formatdate
from typing import Any

import pytest
import requests

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.delivery.sending.verdict import Verdict, judge, retry_after
from hh_jupyter.settings import resolve
from hh_jupyter.testing import Backend
from hh_jupyter.testing.responses import SESSION_START, TRACES

ID = "6f1c0a54-5a0e-4d36-8f0f-2b6f0a1f7c11"
OTHER = "11111111-2222-4333-8444-555555555555"


def answer(status: int, body: bytes = b"", content_type: str = "application/json", **headers: str) -> requests.Response:
    made = requests.Response()
    made.status_code, made._content = status, body
    made.headers.update({"Content-Type": content_type, **headers})
    return made


@pytest.mark.parametrize(
    ("status", "spans", "call"),
    [
        (200, "sent", "sent"),
        (202, "sent", "sent"),
        (204, "sent", "sent"),
        *((code, "parked", "parked") for code in (301, 302, 307, 308, 402, 404, 405, 409, 410)),
        *((code, "split", "parked") for code in (400, 413, 422)),
        *((code, "paused", "paused") for code in (401, 403)),
        *((code, "retry", "retry") for code in (408, 429, 500, 501, 502, 503, 504, 599)),
    ],
)
def test_each_status_has_its_outcome(status: int, spans: str, call: str) -> None:
    assert judge(answer(status), "h", "spans", ID).outcome == spans
    assert judge(answer(status), "h", "event_update", ID).outcome == call


@pytest.mark.parametrize(
    ("body", "content_type", "good"),
    [
        (b"", "text/html", True),
        (b"{}", "application/json", True),
        (b'{"partialSuccess": {}}', "application/json; charset=utf-8", True),
        (b"", "application/x-protobuf", True),
        (b"<html>", "text/html", False),
        (b"<html>", "application/json", False),
        (b"[]", "application/json", False),
        (b"[" * 100_000, "application/json", False),
        (b'{"partialSuccess": {"rejectedSpans": "many"}}', "application/json", False),
        (b'{"partialSuccess": {"rejectedSpans": 1e999}}', "application/json", False),
        (b"\xff\xff\xff", "application/x-protobuf", False),
    ],
)
def test_a_status_200_counts_only_with_a_valid_span_response(body: bytes, content_type: str, good: bool) -> None:
    verdict = judge(answer(200, body, content_type), "h", "spans", ID)
    assert verdict.outcome == ("sent" if good else "retry")
    assert good or ("proxy or login page" in str(verdict.reason) and not verdict.reached)


@pytest.mark.parametrize(("body", "good"), [(b"", True), (b"{}", True), (b"[1]", False), (b"hello", False)])
def test_a_session_start_accepts_only_an_object_or_an_empty_response(body: bytes, good: bool) -> None:
    assert judge(answer(200, body), "h", "session_start", ID).outcome == ("sent" if good else "retry")


@pytest.mark.parametrize(("other", "taken"), [(OTHER, OTHER), (ID, None), ("short", None), (7, None), (None, None)])
def test_a_session_id_from_the_backend_is_used_if_it_fits_the_encoded_spans(other: Any, taken: str | None) -> None:
    found = judge(answer(200, json.dumps({"session_id": other}).encode()), "h", "session_start", ID)
    assert found == Verdict("sent", other_session=taken)


@pytest.mark.parametrize(
    ("given", "low", "high"),
    [("2", 2, 2), ("0", 0, 0), ("99999999999", 600, 600), (60.0, 50, 61), (-60.0, 0, 0)],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(given: str | float, low: float, high: float) -> None:
    """A numeric parameter becomes a date that many seconds from now."""
    text = given if isinstance(given, str) else formatdate(time.time() + given, usegmt=True)
    found = retry_after(text)
    assert found is not None
    assert low <= found <= high


@pytest.mark.parametrize("text", ["", "soon", "-1", "1.5", "²", "Fri, 99 Foo"])
def test_an_invalid_retry_after_is_none(text: str) -> None:
    assert retry_after(text) is None


def tracer_to(backend: Backend, **settings: Any) -> HoneyHiveTracer:
    return HoneyHiveTracer.init(
        **{"api_key": "a-test-key", "server_url": backend.url, "exit_flush_seconds": 0.0, **settings}
    )


def make_spans(tracer: HoneyHiveTracer, number: int, bad: str | None = None) -> None:
    for index in range(number):
        with tracer.start_span(f"span {index}"):
            pass
        if bad and index == number // 3:
            with tracer.start_span(bad):
                pass


@pytest.mark.parametrize("status", [400, 413, 500])
def test_one_bad_span_is_found_and_parked_and_all_others_arrive(status: int) -> None:
    with Backend(refused_span="bad", refused_span_status=status) as backend, tracer_to(backend) as tracer:
        make_spans(tracer, 300, bad="bad")
        assert not tracer.force_flush(30_000)
        state = tracer.export_state()
        assert (state.sent, state.parked, state.waiting, state.dropped) == (300, 1, 0, 0)
        assert str(status) in str(state.parked_reason)
        assert len({span["span_id"] for span in backend.spans()}) == 300
        assert tracer.force_flush(1_000), "said once"


def test_a_request_that_is_too_large_is_split_until_it_fits() -> None:
    with Backend(max_spans=20) as backend, tracer_to(backend) as tracer:
        make_spans(tracer, 300)
        assert tracer.force_flush(30_000)
        assert len({span["span_id"] for span in backend.spans()}) == 300


def test_a_backend_that_rejects_every_span_does_not_get_each_span_on_its_own() -> None:
    with Backend(statuses={TRACES: [400]}, repeat_last_status=True) as backend, tracer_to(backend) as tracer:
        make_spans(tracer, 500)
        assert not tracer.force_flush(30_000)
        assert tracer.export_state().parked == 500
        assert len([request for request in backend.requests if request.path == TRACES]) < 250


def test_an_outage_of_spans_alone_parks_nothing() -> None:
    """Session starts are still accepted, which proves nothing about the spans."""
    with Backend(statuses={TRACES: [503] * 12}) as backend, tracer_to(backend) as tracer:
        make_spans(tracer, 10)
        for _ in range(12):
            tracer.create_session()
            tracer.force_flush(200)
        assert tracer.export_state().parked == 0
        assert tracer.force_flush(20_000)
        assert len(backend.spans()) == 10


def test_partially_rejected_spans_are_not_counted_as_sent() -> None:
    with Backend(rejected_spans=2) as backend, tracer_to(backend) as tracer:
        make_spans(tracer, 5)
        assert not tracer.force_flush(5_000)
        state = tracer.export_state()
        assert (state.sent, state.dropped) == (3, 2)
        assert "too old" in str(state.dropped_reason)
        assert len([request for request in backend.requests if request.path == TRACES]) == 1, "OTLP forbids a repeat"


def test_items_paused_by_a_wrong_key_are_sent_with_the_right_one() -> None:
    with Backend(statuses={"/": [401]}, repeat_last_status=True) as backend, tracer_to(backend) as tracer:
        make_spans(tracer, 3)
        assert not tracer.force_flush(5_000)
        asked = len(backend.requests)
        make_spans(tracer, 3)
        assert not tracer.force_flush(500)
        assert len(backend.requests) == asked, "nothing else is tried with a refused key"
        backend.force({})
        tracer.configure(resolve({"api_key": "another-test-key", "server_url": backend.url}))
        assert tracer.force_flush(10_000)
        assert len(backend.spans()) == 6
        state = tracer.export_state()
        assert (state.made, state.sent, state.parked) == (6, 6, 0)
        accepted = {request.headers["authorization"] for request in backend.requests if request.accepted}
        assert accepted == {"Bearer another-test-key"}


def test_changed_settings_with_the_same_key_release_rejected_items() -> None:
    with Backend(statuses={TRACES: [403]}) as backend, tracer_to(backend, session_name="s") as tracer:
        make_spans(tracer, 3)
        assert not tracer.force_flush(5_000)
        tracer.configure(
            resolve({"api_key": "a-test-key", "server_url": backend.url, "session_name": "s", "source": "later"})
        )
        assert tracer.force_flush(10_000)
        assert len(backend.spans()) == 3


def test_a_session_that_got_another_id_from_the_backend_is_complete() -> None:
    with Backend(session_response="other_id") as backend, tracer_to(backend) as tracer:
        mine = tracer.session_id
        with tracer.start_span("early"):
            pass
        assert tracer.force_flush(5_000)
        tracer.enrich_session(metadata={"late": True})
        with tracer.start_span("late"):
            pass
        assert tracer.force_flush(5_000)
        (start,) = (request for request in backend.requests if request.path == SESSION_START)
        theirs = start.answer["session_id"]
        assert (tracer.session_id, start.body["session"]["session_id"]) == (mine, mine)
        assert theirs != mine
        assert {span["attributes"]["honeyhive.session_id"] for span in backend.spans()} == {theirs}
        assert {r.body["event_id"] for r in backend.requests if r.path == "/events"} == {theirs}
