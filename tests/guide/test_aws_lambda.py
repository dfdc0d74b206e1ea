"""AWS Lambda: one tracer for all warm starts, a session per invocation, all spans sent before the process freezes."""

from __future__ import annotations

import pytest

from hh_jupyter.testing import Backend
from tests.guide.lambda_runtime import Environment
from tests.guide.received import SESSION, in_own_sessions, outputs_by_session, registered

IMMEDIATE, BATCHED = "aws_lambda", "aws_lambda_batched"


@pytest.mark.parametrize("name", [IMMEDIATE, BATCHED])
def test_spans_arrive_in_the_session_of_their_invocation_before_the_process_freezes(
    backend: Backend, name: str
) -> None:
    ids: dict[str, str] = {}
    with Environment(name) as environment:
        for question in ("first", "second", "third"):
            ids[question] = environment.invoke({"question": question})["session_id"]
            assert in_own_sessions(backend, ids)
    assert registered(backend, "ticket") == list(ids.values())
    assert len(registered(backend, "cold-start")) == (name == BATCHED), "a warm start uses the tracer again"
    assert len(backend.sessions()) == 3 + (name == BATCHED), "no empty session of the tracer's own"


def test_outputs_of_the_session_arrive_as_well(backend: Backend) -> None:
    with Environment(IMMEDIATE) as environment:
        session_id = environment.invoke({"question": "why?"})["session_id"]
        assert outputs_by_session(backend) == {session_id: {"reply": "WHY?"}}


@pytest.mark.parametrize("name", [IMMEDIATE, BATCHED])
def test_the_error_of_a_handler_is_recorded_and_the_next_invocation_succeeds(backend: Backend, name: str) -> None:
    with Environment(name) as environment:
        assert environment.invoke({"question": 7}) == {"error": "AttributeError: 'int' object has no attribute 'upper'"}
        assert [span["status"]["code"] for span in backend.spans()] == ["ERROR"]
        after = environment.invoke({"question": "after"})["session_id"]
        failed, good = backend.spans()
        assert good["attributes"][SESSION] == after != failed["attributes"][SESSION]


@pytest.mark.slow
def test_an_invocation_joins_the_session_whose_id_its_event_carries(backend: Backend) -> None:
    """The second invocation runs in another environment; only the id is passed on."""
    with Environment(IMMEDIATE) as first, Environment(IMMEDIATE) as second:
        session_id = first.invoke({"question": "one"})["session_id"]
        linked = second.invoke({"question": "two", "session_id": session_id})
        assert linked["session_id"] == session_id
        assert [span["attributes"][SESSION] for span in backend.spans()] == [session_id, session_id]
    assert registered(backend, "ticket") == [session_id], "linking registers nothing"


def test_an_unreachable_backend_does_not_fail_the_handler(backend: Backend) -> None:
    backend.close()
    with Environment(IMMEDIATE) as environment:
        assert list(environment.invoke({"question": "why?"})) == ["session_id"]
