"""Whatever a backend does: nobody waits for it, flush tells the truth in time, and nothing is lost once it is back."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from email.utils import formatdate
from typing import Any, Final

import pytest

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.testing import Backend
from hh_jupyter.testing.responses import SESSION_START, TRACES, Behaviour

FLUSH_MILLIS: Final = 300
MUCH: Final = 3.0
"""Seconds; no budget, only far less than what waiting for these backends would take."""

FAULTS: Final[Mapping[str, dict[str, Any]]] = {
    "hangs": {"hang": ("/",)},
    "hangs after the headers": {"break_connection": "hang"},
    "is slow": {"delay": {TRACES: 2.0, SESSION_START: 2.0}},
    "resets in the request": {"break_connection": "request"},
    "resets in the response": {"break_connection": "response"},
    **{f"answers {code}": {"statuses": {"/": [code]}} for code in (408, 429, 500, 502, 503)},
    "answers 429 for a second": {"statuses": {"/": [429]}, "headers": {"Retry-After": "1"}},
    "answers 503 until a date": {"statuses": {"/": [503]}, "headers": {"Retry-After": "a date"}},
    "starts no session": {"statuses": {SESSION_START: [500]}},
    "hangs at session starts": {"hang": (SESSION_START,)},
    "takes no spans": {"statuses": {TRACES: [503]}},
    "is a login page": {"html_page": "<html><form>Please sign in</form></html>"},
    "talks garbage": {"raw_body": b"\x00\xffnonsense"},
    "talks deep garbage": {"raw_body": b"[" * 100_000},
}
PERMANENT: Final[Mapping[str, dict[str, Any]]] = {
    **{f"answers {code}": {"statuses": {"/": [code]}} for code in (400, 401, 403, 404)},
    "redirects": {"redirect_to": "http://127.0.0.1:9"},
}


@contextmanager
def troubled(behaviour: Mapping[str, Any]) -> Iterator[Backend]:
    if behaviour.get("headers"):
        behaviour = {**behaviour, "headers": {"Retry-After": "1"}}
        if "statuses" in behaviour and behaviour["statuses"] == {"/": [503]}:
            behaviour["headers"] = {"Retry-After": formatdate(time.time() + 1, usegmt=True)}
    with Backend(**behaviour, repeat_last_status=True) as backend:
        yield backend


def mend(backend: Backend) -> None:
    """From now on it behaves."""
    for name, value in vars(Behaviour()).items():
        setattr(backend.behaviour, name, value)
    backend.force({})


@contextmanager
def tracer_to(backend: Backend, **settings: Any) -> Iterator[HoneyHiveTracer]:
    defaults: dict[str, Any] = {"exit_flush_seconds": 0.0, "api_timeout": 0.4, "export_timeout": 0.4}
    made = HoneyHiveTracer.init(api_key="a-test-key", server_url=backend.url, **{**defaults, **settings})
    try:
        yield made
    finally:
        made.shutdown()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


def work(tracer: HoneyHiveTracer) -> None:
    """Two sessions, three spans."""
    with within(MUCH):
        tracer.create_session("one")
        for name in ("a", "b"):
            with tracer.start_span(name):
                pass
        tracer.create_session("two")
        with tracer.start_span("c"):
            pass


def names(backend: Backend) -> list[str]:
    return sorted(span["name"] for span in backend.spans())


def unstarted(backend: Backend) -> list[str]:
    """Names of accepted spans that came before an accepted start of their session."""
    found, known = [], set()
    for request in backend.requests:
        if request.accepted and request.path == SESSION_START:
            known.add(request.body["session"]["session_id"])
        if request.accepted and request.path == TRACES:
            found += [span["name"] for span in request.body if span["attributes"]["honeyhive.session_id"] not in known]
    return found


@pytest.mark.parametrize("fault", FAULTS)
def test_a_backend_that_comes_back_gets_everything_in_order(fault: str) -> None:
    with troubled(FAULTS[fault]) as backend, tracer_to(backend) as tracer:
        work(tracer)
        with within(MUCH):
            assert tracer.force_flush(FLUSH_MILLIS) is False
        state = tracer.export_state()
        assert (state.made, state.sent, state.parked, state.dropped) == (3, len(backend.spans()), 0, 0)
        mend(backend)
        assert wait_until(lambda: tracer.force_flush(2_000))
        assert names(backend) == ["a", "b", "c"]
        assert unstarted(backend) == []
        assert tracer.export_state().sent == 3


@pytest.mark.parametrize("fault", PERMANENT)
def test_what_a_backend_refuses_is_kept_said_and_sent_when_asked_for(fault: str) -> None:
    with troubled(PERMANENT[fault]) as backend, tracer_to(backend) as tracer:
        work(tracer)
        with within(MUCH):
            assert tracer.force_flush(2_000) is False
        state = tracer.export_state()
        assert (state.parked, state.waiting, state.sent, state.word) == (3, 0, 0, "Not sent")
        assert state.calls_parked == 3
        assert state.parked_reason is not None
        mend(backend)
        release(tracer)
        assert tracer.force_flush(10_000)
        assert names(backend) == ["a", "b", "c"]
        assert unstarted(backend) == []


def release(tracer: HoneyHiveTracer) -> None:
    tracer._route.release()


@pytest.mark.parametrize("fault", ["hangs", "answers 503", "is slow", "hangs after the headers"])
def test_the_end_of_a_program_keeps_its_budget(fault: str) -> None:
    """Several tracers share it."""
    with troubled(FAULTS[fault]) as backend, ExitStack() as stack:
        tracers = [stack.enter_context(tracer_to(backend, api_timeout=60, export_timeout=60)) for _ in range(3)]
        for tracer in tracers:
            work(tracer)
        with within(MUCH):
            for tracer in tracers:
                tracer.shut_down_within(0.3)


@pytest.mark.parametrize("fault", ["hangs", "answers 503", "is slow"])
def test_immediate_mode_waits_for_one_verdict_and_then_no_more_until_it_makes_sense(fault: str) -> None:
    with troubled(FAULTS[fault]) as backend, tracer_to(backend, disable_batch=True, api_timeout=0.5) as tracer:
        with within(10.0):
            for number in range(50):
                with tracer.start_span(f"span {number}"):
                    pass
        mend(backend)
        assert wait_until(lambda: tracer.force_flush(2_000))
        assert len({span["span_id"] for span in backend.spans()}) == 50


@contextmanager
def full_backlog(port: int) -> Iterator[None]:
    """A port at which connecting hangs: the queue of connections that nobody accepts is full."""
    with socket.socket() as listener, ExitStack() as stack:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with suppress(BlockingIOError):
                filler.connect(("127.0.0.1", port))
        yield


def test_a_connection_that_is_never_accepted_holds_nobody_up() -> None:
    with Backend(refuse=True) as backend:
        with full_backlog(int(backend.url.rpartition(":")[2])), within(MUCH):
            stack = ExitStack()
            tracer = stack.enter_context(tracer_to(backend))
            work(tracer)
            assert tracer.force_flush(FLUSH_MILLIS) is False
        backend.listen()
        with stack:
            assert wait_until(lambda: tracer.force_flush(2_000))
            assert names(backend) == ["a", "b", "c"]


def wait_until(condition: Callable[[], bool], tries: int = 10) -> bool:
    return any(condition() for _ in range(tries))


def test_latency_costs_time_and_nothing_else() -> None:
    delay = {TRACES: 0.1, SESSION_START: 0.1}
    with Backend(delay=delay) as backend, tracer_to(backend) as tracer:
        work(tracer)
        assert tracer.force_flush(10_000)
        assert (names(backend), unstarted(backend)) == (["a", "b", "c"], [])


def test_a_restart_of_the_backend_on_kept_connections_loses_nothing() -> None:
    with Backend() as backend, tracer_to(backend) as tracer:
        work(tracer)
        assert tracer.force_flush(5_000)
        backend.close()
        backend.listen()
        with tracer.start_span("after"):
            pass
        assert tracer.force_flush(5_000)
        assert names(backend) == ["a", "after", "b", "c"]
