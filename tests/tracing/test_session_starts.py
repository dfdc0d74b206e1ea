"""Starting a session costs the caller nothing, and whatever the backend answers, the session is there in the end."""

from __future__ import annotations

import asyncio
import time

import pytest

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.testing import Backend

KEY = "test-key-0001"


@pytest.mark.parametrize("status", [503, 429, 500])
def test_a_start_that_fails_is_tried_again_under_the_same_id(status: int) -> None:
    with Backend(statuses={"/session/start": [status, status]}) as backend:
        with HoneyHiveTracer.init(api_key=KEY, server_url=backend.url, session_name="startup") as tracer:
            made = tracer.create_session("made")
            with tracer.start_span("work"):
                pass
            assert tracer.force_flush()
        assert {session["session_id"] for session in backend.sessions()} == {tracer.session_id, made}
        assert [span["attributes"]["honeyhive.session_id"] for span in backend.spans()] == [made]


def test_an_answer_with_nothing_but_the_id_is_enough() -> None:
    with Backend(session_response="minimal") as backend:
        with HoneyHiveTracer.init(api_key=KEY, server_url=backend.url) as tracer:
            made = tracer.create_session("made")
            with tracer.start_span("work"):
                pass
            assert tracer.force_flush()
        assert {session["session_id"] for session in backend.sessions()} == {tracer.session_id, made}
        assert [span["attributes"]["honeyhive.session_id"] for span in backend.spans("work")] == [made]


def test_session_start_begins_a_session_that_the_spans_are_in(backend: Backend) -> None:
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


def test_linking_to_a_session_calls_nobody_and_checks_the_id(backend: Backend, tracer: HoneyHiveTracer) -> None:
    given = "AAAAAAAA-0000-4000-8000-000000000001"
    assert tracer.create_session(session_id=given, skip_api_call=True) == given.lower()
    named = tracer.create_session(session_id="conversation 7", skip_api_call=True)
    with tracer.start_span("work"):
        pass
    assert tracer.force_flush()
    assert [session["session_id"] for session in backend.sessions()] == [tracer.session_id]
    assert [span["attributes"]["honeyhive.session_id"] for span in backend.spans()] == [named]


def test_nobody_waits_for_a_backend_that_hangs() -> None:
    with Backend(hang=("/",)) as backend:
        began = time.monotonic()
        tracer = HoneyHiveTracer.init(api_key=KEY, server_url=backend.url)
        tracer.create_session("sync")

        async def start() -> None:
            await tracer.acreate_session("async")
            async with tracer.with_session("block"):
                pass

        asyncio.run(start())
        assert time.monotonic() - began < 4, "one answer that is waited for takes 5 s"
        tracer.shut_down_within(0.0)
