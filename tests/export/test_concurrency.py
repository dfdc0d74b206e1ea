"""Slow backends get concurrent requests; threads start with work and end when idle; an interrupt breaks nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from types import FrameType

import pytest
import requests
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from hh_jupyter.testing import Backend
from hh_jupyter.testing.responses import SESSION_START, TRACES
from tests.export.troubled import (
    exports,
    make_sessions,
    most_at_once,
    names,
    starts,
    threads_of_tracers,
    tracer_to,
    wait_until,
)

IDLE_SECONDS = 6.0
"""Longer than an idle thread waits for work."""


@pytest.mark.parametrize(("own_session", "most"), [(False, 4), (True, 1)])
def test_four_requests_run_at_once_but_only_one_on_the_callers_own_session(own_session: bool, most: int) -> None:
    delay = {SESSION_START: 0.05, TRACES: 0.05}
    own = requests.Session()
    settings = {"requests_session": own} if own_session else {}
    with own, Backend(delay=delay) as backend, tracer_to(backend, **settings) as tracer:
        make_sessions(tracer, 12)
        assert tracer.force_flush(20_000)
        assert most_at_once(backend.requests) == most
        assert (len(starts(backend)), len(backend.spans())) == (13, 12)
        assert len(exports(backend)) < 12, "spans of many sessions share a request"


def test_a_hanging_request_does_not_delay_later_ones() -> None:
    with (
        Backend(hang=(SESSION_START,)) as backend,
        tracer_to(backend, flush_interval=0.05, api_timeout=60.0) as tracer,
    ):
        assert backend.wait_for(lambda b: len(b.requests) == 1)
        backend.behaviour.hang = ()
        make_sessions(tracer, 1)
        assert backend.wait_for(lambda b: len(b.spans()) == 1), "the first one hangs for a minute"
        tracer.shut_down_within(0.0)


def test_the_requests_in_flight_take_no_more_than_four_threads_and_one_that_prepares_them() -> None:
    before = threading.enumerate()
    most = 0
    with Backend(delay={SESSION_START: 0.05}) as backend, tracer_to(backend) as tracer:
        make_sessions(tracer, 24)
        while len(backend.sessions()) < 20:
            most = max(most, len(threads_of_tracers(before)))
            time.sleep(0.002)
        assert tracer.force_flush(10_000)
    assert 2 < most <= 5
    assert len(backend.spans()) == 24


def test_a_closed_tracer_leaves_no_thread_in_a_request() -> None:
    before = threading.enumerate()
    with Backend(delay={SESSION_START: 0.05}) as backend, tracer_to(backend, exit_flush_seconds=10.0) as tracer:
        make_sessions(tracer, 12)
        tracer.shutdown()
        assert len(backend.spans()) == 12
        assert wait_until(lambda: len(threads_of_tracers(before)) <= 2)


@pytest.mark.slow
def test_idle_threads_end_and_later_work_starts_them_again() -> None:
    before = threading.enumerate()
    with Backend(delay={SESSION_START: 0.1}) as backend, tracer_to(backend) as tracer:
        make_sessions(tracer, 12)
        assert tracer.force_flush(10_000)
        assert len(threads_of_tracers(before)) > 2
        assert wait_until(lambda: len(threads_of_tracers(before)) <= 2, 2 * IDLE_SECONDS)
        time.sleep(IDLE_SECONDS)
        make_sessions(tracer, 1)
        assert tracer.force_flush(5_000)
    assert len(backend.spans()) == 13


@pytest.mark.slow
def test_spans_released_after_a_long_pause_are_sent_without_a_flush() -> None:
    with Backend(statuses={"/": [401] * 2}) as backend, tracer_to(backend) as tracer:
        make_sessions(tracer, 1)
        assert not tracer.force_flush(5_000)
        time.sleep(IDLE_SECONDS)
        backend.force({})
        tracer.send_again()
        assert backend.wait_for(lambda b: len(b.spans()) == 1)


PROGRAM = """
import atexit, sys, threading, time
from hh_jupyter import HoneyHiveTracer

tracer = HoneyHiveTracer.init(api_key="a-test-key", server_url=sys.argv[1], exit_flush_seconds=10.0)
with tracer.start_span("early"):
    pass
assert tracer.force_flush()
time.sleep(float(sys.argv[2]))

@atexit.register
def last():
    def refuse(thread):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    threading.Thread.start = refuse  # As Python itself does since 3.12.
    with tracer.start_span("last"):
        pass
"""


@pytest.mark.parametrize("idle_seconds", [0.0, pytest.param(IDLE_SECONDS, marks=pytest.mark.slow)])
def test_a_span_that_ends_while_the_interpreter_shuts_down_is_sent(backend: Backend, idle_seconds: float) -> None:
    """No thread can be started any more, and those of the sender may have ended."""
    command = [sys.executable, "-c", PROGRAM, backend.url, str(idle_seconds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert names(backend) == ["early", "last"]


def test_an_interrupt_during_a_flush_returns_control_and_loses_nothing() -> None:
    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with Backend(hang=("/",)) as backend, tracer_to(backend, api_timeout=0.5, export_timeout=0.5) as tracer:
        make_sessions(tracer, 1)
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(KeyboardInterrupt):
                tracer.force_flush(60_000)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert is_instrumentation_enabled(), "later requests of the program are still traced"
        backend.behaviour.hang = ()
        assert any(tracer.force_flush(3_000) for _ in range(5))
        assert len(backend.spans()) == 1
