"""Threads start with work and end when idle; an interrupt or a shutdown in the middle leaves nothing behind."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

import pytest
from opentelemetry import context as otel_context

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.delivery.sealing.seal import THREAD_PREFIX
from hh_jupyter.delivery.sending import sender
from hh_jupyter.testing import Backend
from hh_jupyter.testing.responses import SESSION_START, TRACES


def tracer_to(backend: Backend, **settings: Any) -> HoneyHiveTracer:
    return HoneyHiveTracer.init(**{"api_key": "a-test-key", "server_url": backend.url, **settings})


def ours() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith(THREAD_PREFIX)}


def work(tracer: HoneyHiveTracer, sessions: int = 1) -> None:
    for number in range(sessions):
        with tracer.with_session(f"session {number}"), tracer.start_span(f"span {number}"):
            pass


def wait_for(condition: Any, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(condition())


def test_threads_are_started_for_more_work_and_end_when_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "IDLE_SECONDS", 0.2)
    before = ours()
    with Backend(delay={SESSION_START: 0.1}) as backend, tracer_to(backend) as tracer:
        work(tracer, 1)
        assert tracer.force_flush(5_000)
        work(tracer, 12)
        assert wait_for(lambda: len(ours() - before) == 1 + sender.MOST_THREADS), "with the sealer's"
        assert tracer.force_flush(5_000)
        assert wait_for(lambda: len(ours() - before) == 1), "the sealer's"
        work(tracer, 1)
        assert tracer.force_flush(5_000)
    assert len(backend.spans()) == 14


def test_a_hanging_request_does_not_delay_later_ones() -> None:
    with Backend(hang=(SESSION_START,)) as backend, tracer_to(backend, flush_interval=0.05, api_timeout=60.0) as tracer:
        assert wait_for(lambda: len(backend.requests) == 1)
        backend.behaviour.hang = ()
        work(tracer, 1)
        assert backend.wait_for(lambda backend: len(backend.spans()) == 1), "the first one hangs for a minute"
        tracer.shut_down_within(0.0)


def test_the_waiting_thread_delivers_if_no_more_threads_can_be_started(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Since Python 3.12 `atexit` handlers cannot start threads, and the sender's idle threads may have ended."""

    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith(THREAD_PREFIX):  # The backend has threads too.
            raise RuntimeError("can't create new thread at interpreter shutdown")
        start(thread)

    monkeypatch.setattr(sender, "IDLE_SECONDS", 0.1)
    before = ours()
    with tracer_to(backend) as tracer:
        assert tracer.force_flush(5_000)
        assert wait_for(lambda: len(ours() - before) == 1)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            work(tracer, 2)
            tracer.shutdown()
    assert sorted(span["name"] for span in backend.spans()) == ["span 0", "span 1"]
    assert otel_context.get_value(otel_context._SUPPRESS_INSTRUMENTATION_KEY) is None


def test_items_released_after_a_long_pause_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "IDLE_SECONDS", 0.1)
    before = ours()
    with Backend(statuses={"/": [401] * 2}) as backend, tracer_to(backend) as tracer:
        work(tracer, 1)
        assert not tracer.force_flush(5_000)
        assert wait_for(lambda: len(ours() - before) == 1)
        backend.force({})
        tracer.send_again()  # No flush: it would wake a sender thread too.
        assert backend.wait_for(lambda backend: len(backend.spans()) == 1)


def test_an_interrupt_during_a_flush_returns_control_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with (
        Backend(hang=("/",)) as backend,
        tracer_to(backend, api_timeout=0.5, export_timeout=0.5, exit_flush_seconds=0.0) as tracer,
    ):
        work(tracer)
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(KeyboardInterrupt):
                tracer.force_flush(60_000)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert otel_context.get_value(otel_context._SUPPRESS_INSTRUMENTATION_KEY) is None
        backend.behaviour.hang = ()
        assert any(tracer.force_flush(3_000) for _ in range(5))
        assert len(backend.spans()) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("pause", [0.0, 0.05, 0.2])
def test_a_forked_child_delivers_its_own_spans_and_none_of_its_parents(pause: float) -> None:
    """The fork happens while the parent's threads import, wait or send."""
    with Backend(delay={TRACES: 0.2}) as backend, tracer_to(backend) as tracer:
        with tracer.start_span("parent"):
            pass
        time.sleep(pause)
        child = os.fork()
        if child == 0:
            with tracer.start_span("child"):
                pass
            os._exit(0 if tracer.force_flush(20_000) else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert tracer.force_flush(10_000)
        assert sorted(span["name"] for span in backend.spans()) == ["child", "parent"]
