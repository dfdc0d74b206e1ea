"""Starting a session does not block the caller, and the session is registered in spite of errors of the backend."""

from __future__ import annotations

import asyncio
import time

import pytest

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.testing import Backend

KEY = "test-key-0001"


@pytest.mark.parametrize("status", [503, 429, 500])
def test_a_failed_session_start_is_retried_with_the_same_id(status: int) -> None:
    with Backend(statuses={"/session/start": [status, status]}) as backend:
        with HoneyHiveTracer.init(api_key=KEY, server_url=backend.url, session_name="startup") as tracer:
            made = tracer.create_session("made")
            with tracer.start_span("work"):
                pass
            assert tracer.force_flush()
        assert {session["session_id"] for session in backend.sessions()} == {tracer.session_id, made}
        assert [span["attributes"]["honeyhive.session_id"] for span in backend.spans()] == [made]


def test_a_response_that_contains_only_the_id_is_enough() -> None:
    with Backend(session_response="minimal") as backend:
        with HoneyHiveTracer.init(api_key=KEY, server_url=backend.url) as tracer:
            made = tracer.create_session("made")
            with tracer.start_span("work"):
                pass
            assert tracer.force_flush()
        assert {session["session_id"] for session in backend.sessions()} == {tracer.session_id, made}
        assert [span["attributes"]["honeyhive.session_id"] for span in backend.spans("work")] == [made]


def test_session_start_replaces_the_session_of_later_spans(backend: Backend) -> None:
    with HoneyHiveTracer.init(api_key=KEY, server_url=backend.url, session_name="chat", inputs={"a": 1}) as tracer:
        before = tracer.session_id
        started = tracer.session_start()
        assert before != started == tracer.session_id
        with tracer.start_span("work"):
            pass
        assert tracer.force_flush()
    sessions = {session["session_id"]: session for session in backend.sessions()}
    assert set(sessions) == {before, started}
    assert (sessions[started]["session_name"], sessions[started]["inputs"]) == ("chat", {"a": 1})
    assert [span["attributes"]["honeyhive.session_id"] for span in backend.spans()] == [started]


def test_linking_to_a_session_sends_no_request_and_normalizes_the_id(backend: Backend, tracer: HoneyHiveTracer) -> None:
    session_id = "AAAAAAAA-0000-4000-8000-000000000001"
    assert tracer.create_session(session_id=session_id, skip_api_call=True) == session_id.lower()
    named = tracer.create_session(session_id="conversation 7", skip_api_call=True)
    with tracer.start_span("work"):
        pass
    assert tracer.force_flush()
    assert [session["session_id"] for session in backend.sessions()] == [tracer.session_id]
    assert [span["attributes"]["honeyhive.session_id"] for span in backend.spans()] == [named]


def test_creating_sessions_does_not_wait_for_a_backend_that_hangs() -> None:
    with Backend(hang=("/",)) as backend:
        began = time.monotonic()
        tracer = HoneyHiveTracer.init(api_key=KEY, server_url=backend.url)
        tracer.create_session("sync")

        async def start() -> None:
            await tracer.acreate_session("async")
            async with tracer.with_session("block"):
                pass

        asyncio.run(start())
        assert time.monotonic() - began < 4, "waiting for one response would take 5 s"
        tracer.shut_down_within(0.0)
