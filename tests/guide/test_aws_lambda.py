"""AWS Lambda: a tracer kept over warm starts, a session for each invocation, nothing left when the process freezes."""

from __future__ import annotations

import pytest

from hh_jupyter.testing import Backend
from tests.guide.found import SESSION, in_own_sessions, outputs_by_session, registered
from tests.guide.lambda_runtime import Environment

IMMEDIATE, BATCHED = "aws_lambda", "aws_lambda_batched"


@pytest.mark.parametrize("name", [IMMEDIATE, BATCHED])
def test_the_spans_of_each_invocation_have_arrived_in_its_session_when_the_process_freezes(
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


def test_outputs_of_the_session_are_there_as_well(backend: Backend) -> None:
    with Environment(IMMEDIATE) as environment:
        session_id = environment.invoke({"question": "why?"})["session_id"]
        assert outputs_by_session(backend) == {session_id: {"reply": "WHY?"}}


@pytest.mark.parametrize("name", [IMMEDIATE, BATCHED])
def test_a_handler_that_raises_leaves_its_error_behind_and_the_next_invocation_is_fine(
    backend: Backend, name: str
) -> None:
    with Environment(name) as environment:
        assert environment.invoke({"question": 7}) == {"error": "AttributeError: 'int' object has no attribute 'upper'"}
        assert [span["status"]["code"] for span in backend.spans()] == ["ERROR"]
        after = environment.invoke({"question": "after"})["session_id"]
        failed, good = backend.spans()
        assert good["attributes"][SESSION] == after != failed["attributes"][SESSION]


def test_an_invocation_links_to_the_session_that_its_event_names(backend: Backend) -> None:
    """The second invocation is in another environment: only the id travels."""
    with Environment(IMMEDIATE) as first, Environment(IMMEDIATE) as second:
        session_id = first.invoke({"question": "one"})["session_id"]
        linked = second.invoke({"question": "two", "session_id": session_id})
        assert linked["session_id"] == session_id
        assert [span["attributes"][SESSION] for span in backend.spans()] == [session_id, session_id]
    assert registered(backend, "ticket") == [session_id], "linking registers nothing"


def test_a_backend_that_is_away_does_not_fail_the_handler(backend: Backend) -> None:
    backend.close()
    with Environment(IMMEDIATE) as environment:
        assert list(environment.invoke({"question": "why?"})) == ["session_id"]
