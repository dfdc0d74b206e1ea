"""With any backend fault, callers do not wait, flush returns the true result in time, and nothing is lost."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.testing import Backend
from hh_jupyter.testing.responses import SESSION_START, TRACES
from tests.export.troubled import (
    FAULTS,
    IMPATIENT,
    LOGIN_PAGE,
    MUCH,
    PERMANENT,
    arrives,
    make_spans,
    mend,
    names,
    tracer_to,
    troubled,
    unstarted,
    wait_until,
    within,
)

FLUSH_MILLIS = 300


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


@pytest.mark.parametrize("fault", FAULTS)
def test_a_backend_that_comes_back_gets_everything_in_order(fault: str) -> None:
    with troubled(FAULTS[fault]) as backend, tracer_to(backend, **IMPATIENT) as tracer:
        work(tracer)
        assert tracer.wait_processed(10)
        with within(MUCH):
            assert tracer.force_flush(FLUSH_MILLIS) is False
        state = tracer.export_state()
        assert (state.made, state.sent, state.rejected, state.dropped) == (3, len(backend.spans()), 0, 0)
        mend(backend)
        assert arrives(tracer)
        assert names(backend) == ["a", "b", "c"]
        assert unstarted(backend) == []
        assert tracer.export_state().sent == 3


@pytest.mark.parametrize("fault", PERMANENT)
def test_rejected_items_are_kept_and_reported_and_sent_after_release(fault: str) -> None:
    with troubled(PERMANENT[fault]) as backend, tracer_to(backend, **IMPATIENT) as tracer:
        work(tracer)
        with within(MUCH):
            assert tracer.force_flush(2_000) is False
        state = tracer.export_state()
        assert (state.rejected, state.waiting, state.sent, state.word) == (3, 0, 0, "Not sent")
        assert state.requests_rejected == 3
        assert state.rejected_reason is not None
        mend(backend)
        tracer.send_again()
        assert tracer.force_flush(10_000)
        assert names(backend) == ["a", "b", "c"]
        assert unstarted(backend) == []
        assert tracer.export_state().rejected == tracer.export_state().requests_rejected == 0


@pytest.mark.parametrize("code", [402, 405, 409, 410])
def test_a_request_that_is_refused_for_good_is_tried_once_and_reported_once(code: int) -> None:
    with troubled({"statuses": {TRACES: [code]}}) as backend, tracer_to(backend) as tracer:
        make_spans(tracer, 3)
        assert not tracer.force_flush(5_000)
        state = tracer.export_state()
        assert (state.rejected, state.sent) == (3, 0)
        assert str(code) in str(state.rejected_reason)
        assert tracer.force_flush(5_000), "the failure was reported by the flush before"
        assert [request.status for request in backend.requests if request.path == TRACES] == [code]


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
            tracer = stack.enter_context(tracer_to(backend, **IMPATIENT))
            work(tracer)
            assert tracer.force_flush(FLUSH_MILLIS) is False
        backend.listen()
        with stack:
            assert arrives(tracer)
            assert names(backend) == ["a", "b", "c"]


def test_latency_costs_only_time() -> None:
    delay = {TRACES: 0.1, SESSION_START: 0.1}
    with Backend(delay=delay) as backend, tracer_to(backend, **IMPATIENT) as tracer:
        work(tracer)
        assert tracer.force_flush(10_000)
        assert (names(backend), unstarted(backend)) == (["a", "b", "c"], [])


def test_a_restart_of_the_backend_on_kept_connections_loses_nothing(backend: Backend) -> None:
    with tracer_to(backend, **IMPATIENT) as tracer:
        work(tracer)
        assert tracer.force_flush(5_000)
        backend.close()
        backend.listen()
        with tracer.start_span("after"):
            pass
        assert tracer.force_flush(5_000)
        assert names(backend) == ["a", "after", "b", "c"]


@pytest.mark.parametrize("from_the_start", [True, False])
def test_a_login_page_is_not_a_success(backend: Backend, from_the_start: bool) -> None:
    """A captive portal returns 200 with HTML, but neither sessions nor spans arrived."""
    with tracer_to(backend) as tracer:
        if not from_the_start:
            assert tracer.force_flush(), "the session is registered"
        backend.behaviour.html_page = LOGIN_PAGE
        make_spans(tracer, 1)
        assert tracer.force_flush(300) is False
        assert wait_until(lambda: "proxy or login page" in str(tracer.export_state().reason))
        assert tracer.export_state().sent == 0
        mend(backend)
        assert tracer.force_flush(10_000)
        assert len(backend.spans()) == 1


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b"[" * 100_000, b'{"partialSuccess": {"rejectedSpans": "many"}}', b"\xff\xff\xff"]
)
def test_an_answer_200_counts_only_with_the_body_of_a_span_response(backend: Backend, body: bytes) -> None:
    with tracer_to(backend) as tracer:
        assert tracer.force_flush(), "the session is registered"
        backend.behaviour.raw_body = body
        make_spans(tracer, 1)
        assert not tracer.force_flush(200)
        assert wait_until(lambda: tracer.export_state().failing)
        assert (tracer.export_state().sent, tracer.export_state().rejected) == (0, 0)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"partialSuccess": {}}'])
def test_an_empty_answer_200_is_a_success(backend: Backend, body: bytes) -> None:
    backend.behaviour.raw_body = body
    with tracer_to(backend) as tracer:
        make_spans(tracer, 1)
        assert tracer.force_flush(5_000)
        assert tracer.export_state().sent == 1


def test_the_key_does_not_follow_a_redirect(backend: Backend) -> None:
    with Backend(redirect_to=backend.url) as elsewhere, tracer_to(elsewhere) as tracer:
        make_spans(tracer, 1)
        assert tracer.force_flush(5_000) is False
    assert backend.requests == []
