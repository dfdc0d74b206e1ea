"""In an outage one probe at a time is sent, at growing or requested pauses, no caller waits, and it is logged once."""

from __future__ import annotations

import itertools
import logging
import time

import pytest

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.testing import Backend, ReceivedRequest
from hh_jupyter.testing.responses import SESSION_START, TRACES
from hh_jupyter.tracing import context as tracing_context
from tests.export.troubled import (
    FAULTS,
    KEY,
    arrives,
    exports,
    make_sessions,
    make_spans,
    mend,
    most_at_once,
    tracer_to,
    troubled,
    wait_until,
    within,
)


def since(backend: Backend, moment: float) -> list[ReceivedRequest]:
    return [request for request in backend.requests if request.received > moment]


def one_after_the_other(requests: list[ReceivedRequest]) -> bool:
    """Return whether each of them failed before the next one came."""
    return all(request.status == 503 for request in requests) and most_at_once(requests) == 1


def test_an_outage_is_probed_by_one_request_at_a_time_and_its_end_brings_back_the_others() -> None:
    delay = {SESSION_START: 0.05, TRACES: 0.05}
    with Backend(delay=delay, repeat_last_status=True) as backend, tracer_to(backend) as tracer:
        make_sessions(tracer, 12)
        assert tracer.force_flush(10_000)
        backend.force({"/": [503]})
        make_sessions(tracer, 12)
        # Requests that were under way when the outage began may overlap for a while, so the last ones count.
        assert wait_until(lambda: one_after_the_other(backend.requests[-3:]), 20)
        assert wait_until(lambda: not tracer.force_flush(150) and one_after_the_other(backend.requests[-8:]), 20)
        backend.force({})
        end = time.time()
        assert arrives(tracer)
        assert not tracer.export_state().failing
        assert len(backend.spans()) == 24
        assert most_at_once(since(backend, end)) > 1


def test_the_pauses_between_probes_grow(backend: Backend) -> None:
    backend.behaviour.repeat_last_status = True
    with tracer_to(backend, flush_interval=0.05) as tracer:
        assert tracer.force_flush(5_000), "the session is registered"
        backend.force({TRACES: [503]})
        make_spans(tracer, 1)
        assert backend.wait_for(lambda b: len(exports(b)) == 5, 20)
        times = [request.received for request in exports(backend)]
        pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert pauses[0] < pauses[-1]
        assert sum(pauses) > 1.0


@pytest.mark.parametrize("status", [429, 503])
def test_a_flush_does_not_shorten_a_pause_that_the_backend_requested(backend: Backend, status: int) -> None:
    with tracer_to(backend, flush_interval=0.05) as tracer:
        assert tracer.force_flush(5_000), "the session is registered"
        backend.force({TRACES: [status]})
        backend.behaviour.headers = {"Retry-After": "1"}
        make_spans(tracer, 1)
        assert backend.wait_for(lambda b: any(request.status == status for request in exports(b)))
        backend.behaviour.headers = {}
        for _ in range(4):
            assert not tracer.force_flush(50)
            tracer.create_session()
        assert backend.wait_for(lambda b: b.spans())
        refused, accepted = exports(backend)
        assert refused.answered is not None
        assert 0.95 < accepted.received - refused.answered < 10
        assert all(request.received - refused.answered > 0.95 for request in since(backend, refused.received))


def test_a_request_by_the_user_ends_a_pause_that_the_backend_requested(backend: Backend) -> None:
    with tracer_to(backend) as tracer:
        assert tracer.force_flush(5_000), "the session is registered"
        backend.force({TRACES: [429]})
        backend.behaviour.headers = {"Retry-After": "60"}
        make_spans(tracer, 1)
        assert not tracer.force_flush(300)
        tracer.send_again()
        assert backend.wait_for(lambda b: b.spans(), 5)


@pytest.mark.parametrize("header", ["soon", "-1", "1.5", "Fri, 99 Foo"])
def test_an_invalid_request_for_a_pause_is_an_ordinary_failure(backend: Backend, header: str) -> None:
    with tracer_to(backend) as tracer:
        assert tracer.force_flush(5_000), "the session is registered"
        backend.force({TRACES: [429]})
        backend.behaviour.headers = {"Retry-After": header}
        make_spans(tracer, 1)
        assert tracer.force_flush(10_000)
        assert len(backend.spans()) == 1


@pytest.mark.parametrize("fault", ["hangs", "answers 503", "is slow"])
def test_immediate_mode_stops_waiting_after_one_failure_until_the_backend_is_back(fault: str) -> None:
    patience = {"disable_batch": True, "api_timeout": 0.5, "export_timeout": 0.4}
    with troubled(FAULTS[fault]) as backend, tracer_to(backend, **patience) as tracer:
        with within(10.0):
            make_spans(tracer, 50)
        mend(backend)
        assert arrives(tracer)
        assert len({span["span_id"] for span in backend.spans()}) == 50
        with tracer.start_span("after"):
            pass
        assert backend.spans("after"), "it waits again"


def outage_and_its_end(tracer: HoneyHiveTracer, backend: Backend) -> None:
    """Cause an outage of several attempts, and end it."""
    backend.force({TRACES: [503] * 4})
    for _ in range(6):
        make_spans(tracer, 1)
        tracer.force_flush(400)
    assert tracer.force_flush(10_000)


@pytest.mark.parametrize("in_a_notebook", [False, True])
def test_an_outage_and_its_end_are_logged_once_each_unless_a_notebook_shows_them(
    backend: Backend, caplog: pytest.LogCaptureFixture, in_a_notebook: bool
) -> None:
    caplog.set_level(logging.INFO, "hh_jupyter")
    tracing_context.set_host((lambda settings: None) if in_a_notebook else None)
    try:
        with HoneyHiveTracer.init(api_key=KEY, server_url=backend.url) as tracer:
            outage_and_its_end(tracer, backend)
    finally:
        tracing_context.set_host(None)
    lines = [(record.levelname, record.exc_info) for record in caplog.records]
    assert lines == ([] if in_a_notebook else [("WARNING", None), ("INFO", None)])
    assert KEY not in caplog.text


def test_a_reason_for_rejecting_spans_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with Backend(statuses={TRACES: [404]}, repeat_last_status=True) as backend, tracer_to(backend) as tracer:
        for _ in range(3):
            make_spans(tracer, 1)
            tracer.force_flush(5_000)
        assert ["404" in record.getMessage() for record in caplog.records] == [True]
        assert tracer.export_state().rejected == 3
