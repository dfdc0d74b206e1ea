"""With any backend fault, callers do not wait, flush returns the true result in time, and nothing is lost."""

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
"""Seconds; not a budget, but far less than waiting for these backends would take."""

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
    """End the backend's faults."""
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
    """Record two sessions with three spans."""
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
    """Return the names of accepted spans that arrived before an accepted start of their session."""
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
def test_rejected_items_are_kept_and_reported_and_sent_after_release(fault: str) -> None:
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
def test_shutdown_keeps_its_time_budget(fault: str) -> None:
    """Several tracers share the budget."""
    with troubled(FAULTS[fault]) as backend, ExitStack() as stack:
        tracers = [stack.enter_context(tracer_to(backend, api_timeout=60, export_timeout=60)) for _ in range(3)]
        for tracer in tracers:
            work(tracer)
        with within(MUCH):
            for tracer in tracers:
                tracer.shut_down_within(0.3)


@pytest.mark.parametrize("fault", ["hangs", "answers 503", "is slow"])
def test_immediate_mode_stops_waiting_after_one_failure_until_the_backend_is_back(fault: str) -> None:
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
    """Yield a port on which connecting hangs, because its queue of unaccepted connections is full."""
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


def test_a_connection_that_is_never_accepted_does_not_block_the_caller() -> None:
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


def test_latency_costs_only_time() -> None:
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
