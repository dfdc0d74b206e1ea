"""`HH_DISABLE_TRACING`: the program runs as without hh_jupyter."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading

import pytest
from opentelemetry import trace as otel_trace

from hh_jupyter import HoneyHiveTracer, evaluate, trace
from hh_jupyter.export.worker import THREAD_PREFIX
from hh_jupyter.settings import resolve
from hh_jupyter.testing import Backend
from hh_jupyter.testing.responses import SESSION_START, TRACES
from hh_jupyter.tracing.context import SessionScope
from tests.export.troubled import wait_until

PROGRAM = """
    import asyncio, sys, threading
    used = []
    sys.addaudithook(lambda event, _: used.append(event) if event.startswith("socket.") else None)
    from hh_jupyter import HoneyHiveTracer, enrich_session, enrich_span, trace
    tracer = HoneyHiveTracer.init(api_key="key-0123456789", server_url="http://127.0.0.1:9", disable_batch=True)

    @trace
    def double(x):
        enrich_span(metadata={"x": x})
        return 2 * x

    @trace
    async def adouble(x):
        return 2 * x

    @trace
    def count(n):
        yield from range(n)

    session_id = tracer.create_session("work", inputs={"a": 1})
    with tracer.with_session("block") as block, tracer.start_span("span") as span:
        assert not span.is_recording()
        assert double(2) == 4 and list(count(3)) == [0, 1, 2]
    tracer.enrich_session({"a": 1})
    tracer.create_event("event")
    assert tracer.force_flush(60_000)
    threads = [thread.name for thread in threading.enumerate()]
    sockets = list(used)  # An event loop makes some of its own.
    assert asyncio.run(adouble(2)) == 4
    tracer.shutdown()
    print(sockets, threads, tracer.destination, tracer.export_state().made, session_id != block)
    assert "requests" not in sys.modules
"""


@pytest.mark.parametrize("variable", ["HH_DISABLE_TRACING", "OTEL_SDK_DISABLED"])
def test_disabled_tracing_uses_no_threads_or_sockets_and_functions_run_normally(variable: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, variable: "true"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[] ['MainThread'] None 0 True"
    assert not done.stderr


def test_an_experiment_runs_without_sending_anything(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HH_DISABLE_TRACING", "true")
    result = evaluate(
        lambda datapoint: {"answer": datapoint["inputs"]["q"]},
        dataset=[{"inputs": {"q": "a"}}],
        evaluators=[],
        api_key="key-0123456789",
        server_url=backend.url,
        print_results=False,
    )
    assert len(result.passed) == 1
    assert not backend.requests


def our_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith(THREAD_PREFIX)}


def test_tracing_can_be_disabled_and_enabled_again(backend: Backend) -> None:
    """A notebook applies a changed environment variable to its existing tracer."""

    @trace(event_name="call")
    def call() -> None: ...

    ours = {"api_key": "key-0123456789", "server_url": backend.url, "session_name": "mine"}
    tracer = HoneyHiveTracer.init(disable_tracing=True, **ours)
    before = our_threads()
    for off, name in ((True, "off"), (False, "on"), (True, "off again"), (False, "on again")):
        tracer.configure(resolve({"disable_tracing": off, **ours}))
        with tracer.start_span(name):
            call()
        assert tracer.force_flush()
    assert [span["name"] for span in backend.spans()] == ["call", "on", "call", "on again"]
    assert {span["attributes"]["honeyhive.session_id"] for span in backend.spans()} == {tracer.session_id}
    assert backend.sessions()[0]["session_name"] == "mine"
    assert backend.requests[0].path == SESSION_START
    tracer.shutdown()
    assert our_threads() == before


def test_counts_and_registered_sessions_stay_while_tracing_is_off(backend: Backend) -> None:
    """What waits is still sent, no session is registered twice, and one made meanwhile is registered later."""
    on = resolve({"api_key": "key", "server_url": backend.url})
    off = resolve({"api_key": "key", "server_url": backend.url, "disable_tracing": True})
    with HoneyHiveTracer.init(api_key="key", server_url=backend.url, session_name="own") as tracer:
        with tracer.start_span("first"):
            pass
        assert tracer.force_flush()
        backend.force({TRACES: [503] * 100})
        with tracer.start_span("waiting"):
            pass
        assert not tracer.force_flush(300)
        tracer.configure(off)
        state = tracer.export_state()
        assert (state.made, state.sent, state.waiting) == (2, 1, 1)
        assert tracer.destination is None
        assert not tracer.force_flush(300), "it still waits"
        backend.force({})
        assert wait_until(lambda: tracer.force_flush(2_000))
        with tracer.start_span("unseen"), tracer.with_session("meanwhile"):
            pass
        meanwhile = tracer.new_session("entered later")
        state = tracer.export_state()
        assert (state.made, state.sent, state.waiting) == (2, 2, 0)
        tracer.configure(on)
        with SessionScope(tracer, meanwhile), tracer.start_span("last"):
            pass
        assert tracer.force_flush()
        state = tracer.export_state()
        assert (state.made, state.sent, state.waiting) == (3, 3, 0)
    assert [span["name"] for span in backend.spans()] == ["first", "waiting", "last"]
    assert [session["session_name"] for session in backend.sessions()] == ["own", "entered later"]


def test_a_disabled_tracer_can_switch_to_local_mode() -> None:
    with HoneyHiveTracer.init(disable_tracing=True) as tracer:
        tracer.configure(resolve({}, environ={}))
        with tracer.start_span("here"):
            pass
        assert tracer.wait_processed()
        assert tracer.export_state().made == 1


def test_disabled_tracing_leaves_the_global_provider_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HH_DISABLE_TRACING", "true")
    before = otel_trace.get_tracer_provider()
    with HoneyHiveTracer.init(api_key="key-0123456789") as tracer:
        assert otel_trace.get_tracer_provider() is before
        assert tracer.provider is not before
