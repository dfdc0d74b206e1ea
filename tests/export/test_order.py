"""A session start is sent before its spans and updates, and calls in order; anything else may be reordered."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from opentelemetry import baggage
from opentelemetry import context as otel_context

from hh_jupyter import HoneyHiveTracer, attributes
from hh_jupyter.testing import Backend, ReceivedRequest
from hh_jupyter.testing.responses import SESSION_START, TRACES
from tests.export.troubled import (
    EVENT,
    KEY,
    StrictBackend,
    arrives,
    create_event,
    exports,
    make_rated_span,
    make_spans,
    mend,
    names,
    starts,
    tracer_to,
    unstarted,
    updates,
    wait_until,
)


def session_of(request: ReceivedRequest) -> str | None:
    """Return the name of the session that a request starts."""
    return request.body["session"]["session_name"] if request.path == SESSION_START else None


@pytest.fixture
def backend() -> Iterator[Backend]:
    """A stand-in backend whose faults end before it is closed."""
    with Backend() as running:
        yield running
        mend(running)


@contextmanager
def one_after_the_other() -> Iterator[dict[str, Any]]:
    """Yield settings with which only one request runs at a time, however slow the backend seems to be."""
    with requests.Session() as session:
        yield {"requests_session": session}


def test_updates_of_a_session_keep_their_order_and_follow_its_start(backend: Backend) -> None:
    backend.behaviour.delay = {SESSION_START: 0.1, "/events": 0.03}
    with tracer_to(backend) as tracer:
        for _ in range(3):
            tracer.create_session("s")
            for number in range(5):
                tracer.enrich_session(metadata={"number": number})
            make_spans(tracer, 1)
        assert tracer.force_flush(20_000)
        assert unstarted(backend) == []
        for session in backend.sessions()[1:]:
            of_session = [request for request in updates(backend) if request.body["event_id"] == session["session_id"]]
            assert [request.body["metadata"]["number"] for request in of_session] == list(range(5))
            (start,) = (r for r in starts(backend) if r.body["session"]["session_id"] == session["session_id"])
            assert start.answered is not None
            assert all(request.received >= start.answered for request in of_session)


def test_calls_of_several_sessions_are_sent_in_the_order_in_which_they_were_made(backend: Backend) -> None:
    with one_after_the_other() as settings, tracer_to(backend, session_name="own", **settings) as tracer:
        a, b = tracer.create_session("a"), tracer.create_session("b")
        for session_id in (b, a, b):
            tracer.update_event(session_id, {"metadata": {"x": 1}})
        c = tracer.create_session("c")
        assert tracer.force_flush(10_000)
        found = [r.body.get("event_id") or r.body["session"]["session_id"] for r in backend.requests]
        assert found == [tracer.session_id, a, b, b, a, b, c]


def test_sessions_are_registered_in_the_order_in_which_they_were_made(backend: Backend) -> None:
    with one_after_the_other() as settings, tracer_to(backend, **settings) as tracer:
        made = [tracer.session_id, *(tracer.create_session(f"session {number}") for number in range(30))]
        assert tracer.force_flush(30_000)
        assert [session["session_id"] for session in backend.sessions()] == made


def test_a_hanging_start_blocks_only_its_own_session(backend: Backend) -> None:
    go_on = threading.Event()

    def hang_at_a(request: ReceivedRequest) -> None:
        if session_of(request) == "a":
            go_on.wait(20)

    backend.behaviour.on_request = hang_at_a
    with tracer_to(backend, flush_interval=0.05) as tracer:
        for name in ("a", "b"):
            with tracer.with_session(name), tracer.start_span(f"of {name}"):
                pass
            if name == "a":
                assert backend.wait_for(lambda b: starts(b, "a"))
        assert backend.wait_for(lambda b: names(b) == ["of b"])
        assert not backend.wait_for(lambda b: "of a" in names(b), 0.3), "its session is not registered yet"
        go_on.set()
        assert tracer.force_flush(10_000)
        assert (names(backend), unstarted(backend)) == (["of a", "of b"], [])


def test_spans_of_many_sessions_share_a_request_up_to_its_limit(backend: Backend) -> None:
    with tracer_to(backend, max_export_batch_size=10, flush_interval=60) as tracer:
        for number in range(8):
            tracer.create_session(str(number))
            make_spans(tracer, 3)
        assert backend.wait_for(lambda b: len(b.sessions()) == 9), "all sessions are registered"
        assert tracer.force_flush(10_000)
        sizes = [len(request.body) for request in exports(backend)]
        assert sum(sizes) == 24
        assert max(sizes) <= 10
        assert len(sizes) < 8


@pytest.mark.parametrize("fault", [{"statuses": {SESSION_START: [500]}}, {"hang": (SESSION_START,)}])
def test_a_start_that_is_never_accepted_does_not_block_its_spans_and_updates(fault: dict[str, Any]) -> None:
    with Backend(**fault, repeat_last_status=True) as backend, tracer_to(backend, api_timeout=0.3) as tracer:
        make_spans(tracer, 1)
        tracer.enrich_session(metadata={"a": 1})
        assert tracer.force_flush(20_000) is False, "the session could not be registered"
        assert names(backend) == ["span 0"]
        assert tracer.export_state().requests_rejected == 1
        assert tracer.force_flush(200) is True, "given up and reported, not tried for ever"
        assert [request.accepted for request in updates(backend)] == [True]


def test_nothing_is_sent_before_its_start_while_the_backend_is_unreachable() -> None:
    with Backend(refuse=True) as backend, tracer_to(backend) as tracer:
        make_spans(tracer, 1)
        tracer.enrich_session(metadata={"a": 1})
        for _ in range(8):
            assert not tracer.force_flush(100)
        backend.listen()
        assert arrives(tracer)
        assert session_of(backend.requests[0]) is not None
        assert (names(backend), unstarted(backend)) == (["span 0"], [])


def test_the_spans_of_a_session_whose_start_was_refused_arrive() -> None:
    with Backend(statuses={SESSION_START: [404]}) as backend, tracer_to(backend) as tracer:
        make_spans(tracer, 1)
        assert not tracer.force_flush(5_000)
        assert names(backend) == ["span 0"]
        assert (tracer.export_state().requests_rejected, tracer.export_state().rejected) == (1, 0)


def test_a_start_that_was_given_up_is_sent_when_starts_are_accepted_again() -> None:
    fault: dict[str, Any] = {"statuses": {SESSION_START: [500]}, "repeat_last_status": True}
    with Backend(**fault) as backend, tracer_to(backend, session_name="first") as tracer:
        make_spans(tracer, 1)
        assert not tracer.force_flush(20_000)
        assert tracer.export_state().requests_rejected == 1
        mend(backend)
        tracer.create_session("second")
        assert tracer.force_flush(5_000)
        assert backend.wait_for(lambda b: {session["session_name"] for session in b.sessions()} == {"first", "second"})
        assert wait_until(lambda: tracer.export_state().requests_rejected == 0)


def test_later_updates_do_not_overtake_one_that_waits_for_a_retry(backend: Backend) -> None:
    with tracer_to(backend) as tracer:
        assert tracer.force_flush(5_000)
        backend.force({"/events": [503, 429]})
        for number in range(4):
            tracer.enrich_session(metadata={"number": number})
        assert tracer.force_flush(10_000)
        found = [(request.body["metadata"]["number"], request.accepted) for request in updates(backend)]
        assert found == [(0, False), (0, False), (0, True), (1, True), (2, True), (3, True)]


def test_a_session_that_cannot_be_registered_does_not_delay_other_sessions(backend: Backend) -> None:
    backend.behaviour.on_request = lambda request: 500 if session_of(request) == "bad" else None
    with tracer_to(backend, flush_interval=0.05) as tracer:
        for name in ("bad", *(f"good {number}" for number in range(5))):
            with tracer.with_session(name), tracer.start_span(f"of {name}"):
                pass
        assert backend.wait_for(lambda b: len(names(b)) == 6)
        started = {session["session_name"] for session in backend.sessions()}
        assert started >= {f"good {n}" for n in range(5)}  # In any order once several requests are sent at once.
        mend(backend)
        assert arrives(tracer)
        assert {"bad", "good 0"} <= {session["session_name"] for session in backend.sessions()}


def test_a_start_that_waits_for_its_first_span_is_never_sent_without_one(backend: Backend) -> None:
    with tracer_to(backend) as tracer:
        idle, used = (tracer.new_session(name, register="first_span") for name in ("idle", "used"))
        token = otel_context.attach(baggage.set_baggage(attributes.BAGGAGE_SESSION_ID, used.id))
        make_spans(tracer, 1)
        otel_context.detach(token)
        assert tracer.force_flush(5_000)
        registered = [session["session_id"] for session in backend.sessions()]
        assert used.id in registered
        assert idle.id not in registered
        assert unstarted(backend) == []


def test_a_failing_update_does_not_block_everything_for_ever(backend: Backend) -> None:
    with tracer_to(backend) as tracer:
        backend.behaviour.repeat_last_status = True
        backend.force({"/events": [500]})
        tracer.enrich_session(metadata={"a": 1})
        for _ in range(20):
            make_spans(tracer, 1)
            tracer.force_flush(400)
            if tracer.export_state().requests_rejected:
                break
        assert tracer.export_state().requests_rejected == 1
        assert tracer.export_state().rejected == 0
        make_spans(tracer, 1)
        assert tracer.force_flush(5_000)
        assert len(backend.spans()) == tracer.export_state().made


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
        (start,) = starts(backend)
        theirs = start.answer["session_id"]
        assert (tracer.session_id, start.body["session"]["session_id"]) == (mine, mine)
        assert theirs != mine
        assert {span["attributes"]["honeyhive.session_id"] for span in backend.spans()} == {theirs}
        assert {request.body["event_id"] for request in updates(backend)} == {theirs}


@pytest.mark.slow
def test_a_thousand_sessions_reach_a_distant_backend() -> None:
    delay = {SESSION_START: 0.08, TRACES: 0.08}
    with Backend(delay=delay) as backend, tracer_to(backend) as tracer:
        for number in range(1_000):
            with tracer.with_session(f"session {number}"), tracer.start_span(f"span {number}"):
                pass
        assert tracer.force_flush(60_000), "one after the other would take 80 s"
        assert unstarted(backend) == []
        assert len(backend.spans()) == 1_000


@pytest.mark.parametrize("trouble", ["refused", "slow"])
@pytest.mark.parametrize("create", [create_event, make_rated_span])
@pytest.mark.parametrize("flushed", [False, True])
def test_no_update_overtakes_the_creation_of_its_event(
    backend: Backend, create: Callable[[HoneyHiveTracer], None], trouble: str, flushed: bool
) -> None:
    backend.behaviour.delay = {SESSION_START: 0.05}  # Several requests are sent at once.
    with tracer_to(backend, flush_interval=0.3) as tracer:
        assert tracer.force_flush(5_000)
        strict = StrictBackend(backend, trouble)
        create(tracer)
        for number in range(3):
            tracer.enrich_span(event_id=EVENT, metadata={"number": number})
        assert flushed or backend.wait_for(lambda b: len(updates(b)) >= 3)
        assert tracer.force_flush(20_000)
        assert strict.refused == 0
        assert [request.body["metadata"]["number"] for request in updates(backend)] == [0, 1, 2]


def test_an_update_made_right_after_its_span_follows_it(backend: Backend) -> None:
    """The worker gets both at once."""
    go_on = threading.Event()

    def wait_at_first(name: str, value: Any) -> Any:
        if value == "first":
            go_on.wait(20)
        return value

    with tracer_to(backend, redact_with=wait_at_first) as tracer:
        assert tracer.force_flush(5_000)
        strict = StrictBackend(backend, "refused")
        make_spans(tracer, 1, content="first")
        make_rated_span(tracer)
        tracer.enrich_span(event_id=EVENT, feedback={"ok": True})
        go_on.set()
        assert tracer.force_flush(20_000)
        assert (strict.refused, len(updates(backend))) == (0, 1)


def test_an_update_of_a_session_follows_its_start_however_its_id_is_written(backend: Backend) -> None:
    strict = StrictBackend(backend)
    backend.force({SESSION_START: [503]})
    with tracer_to(backend) as tracer:
        tracer.enrich_span(event_id=str(tracer.session_id).upper(), metadata={"number": 1})
        assert tracer.force_flush(20_000)
        assert (strict.refused, len(updates(backend))) == (0, 1)


def test_an_update_follows_the_span_of_its_event_out_of_a_request_with_a_bad_span(backend: Backend) -> None:
    with tracer_to(backend) as tracer:
        assert tracer.force_flush(5_000)
        strict = StrictBackend(backend, refused_span="bad")
        make_rated_span(tracer)
        with tracer.start_span("bad"):
            pass
        assert tracer.wait_processed()
        tracer.enrich_span(event_id=EVENT, feedback={"ok": True})
        assert not tracer.force_flush(20_000), "one span was rejected"
        assert names(backend) == ["rated"]
        assert (strict.refused, len(updates(backend))) == (0, 1)


def test_an_update_of_an_event_that_cannot_be_created_blocks_nothing(backend: Backend) -> None:
    backend.behaviour.on_request = lambda request: 400 if request.path == "/events" else None
    with tracer_to(backend) as tracer:
        create_event(tracer)
        tracer.enrich_span(event_id=EVENT, feedback={"ok": True})
        make_spans(tracer, 1)
        assert not tracer.force_flush(5_000)
        assert names(backend) == ["span 0"]
        assert (tracer.export_state().requests_rejected, tracer.export_state().requests_waiting) == (2, 0)


@pytest.mark.parametrize("key", ["rejected", "changed"])
def test_updates_follow_their_events_to_another_key(backend: Backend, key: str) -> None:
    strict = StrictBackend(backend)
    backend.force({"/": [401]})
    with tracer_to(backend, api_key="a-wrong-key") as tracer:
        create_event(tracer)
        tracer.enrich_span(event_id=EVENT, feedback={"ok": True})
        make_rated_span(tracer)
        assert key == "changed" or not tracer.force_flush(5_000)
        backend.force({})
        strict.trouble = "refused"
        tracer.configure(dataclasses.replace(tracer.settings, api_key=KEY))
        assert arrives(tracer)
        assert (strict.refused, len(updates(backend))) == (0, 1)


def test_an_update_that_was_refused_before_its_event_existed_is_sent_again_after_it(backend: Backend) -> None:
    with tracer_to(backend) as tracer:
        assert tracer.force_flush(5_000)
        strict = StrictBackend(backend)
        with tracer.start_span("rated"):
            tracer.enrich_span(update_event_id=EVENT)
            tracer.enrich_span(event_id=EVENT, feedback={"ok": True})
            assert not tracer.force_flush(5_000), "the backend does not know the event yet"
        tracer.force_flush(5_000)
        assert backend.wait_for(lambda b: any(request.accepted for request in updates(b)))
        assert wait_until(lambda: tracer.export_state().requests_rejected == 0)
        assert strict.refused == 1
