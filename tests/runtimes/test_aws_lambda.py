"""Lambda handlers: a session for each invocation, for all kinds of events, sent before the handler returns."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from hh_jupyter import HoneyHiveTracer, SettingTypeError, get_default_tracer, set_default_tracer
from hh_jupyter.export.exporter import Exporter
from hh_jupyter.runtimes.aws_lambda import session_handler
from hh_jupyter.testing import Backend
from tests.guide.lambda_runtime import Environment
from tests.guide.received import SESSION, in_own_sessions
from tests.runtimes.received import HEADER, sessions, updates
from tests.runtimes.views import answer, fail


class Context:
    """The used part of the runtime's context object."""

    function_name = "triage"
    aws_request_id = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"

    def __init__(self, remaining_millis: int = 3_000) -> None:
        self._remaining = remaining_millis

    def get_remaining_time_in_millis(self) -> int:
        return self._remaining


HTTP_2 = {
    "version": "2.0",
    "routeKey": "GET /orders/{id}",
    "rawPath": "/orders/7",
    "headers": {"host": "example.org"},
    "requestContext": {"http": {"method": "GET", "path": "/orders/7"}},
}
FUNCTION_URL = {**HTTP_2, "routeKey": "$default"}
HTTP_1 = {
    "resource": "/orders/{id}",
    "path": "/orders/7",
    "httpMethod": "GET",
    "headers": None,
    "requestContext": {"resourcePath": "/orders/{id}"},
}
LOAD_BALANCER = {"requestContext": {"elb": {}}, "httpMethod": "GET", "path": "/orders/7", "headers": {}}
QUEUE = {"Records": [{"messageId": "1", "body": "{}", "eventSource": "aws:sqs"}]}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, backend: Backend) -> Iterator[None]:
    """A cold start: no tracer yet, key and address in the environment."""
    monkeypatch.setenv("HH_API_KEY", "test-key-0001")
    monkeypatch.setenv("HH_API_URL", backend.url)
    set_default_tracer(None)
    yield
    if (made := get_default_tracer()) is not None:
        made.shutdown()


@pytest.mark.usefixtures("environment")
def test_the_first_invocation_creates_the_tracer_and_later_ones_reuse_it(backend: Backend) -> None:
    @session_handler
    def handler(event: dict[str, Any], context: Any) -> str:
        return answer(event["question"])

    assert get_default_tracer() is None
    for question in ("one", "two", "three"):
        assert handler({"question": question}, Context()) == question.upper()
        assert len(backend.spans()) == len(sessions(backend)) * 2, "sent when the handler returns"
    tracer = get_default_tracer()
    assert tracer is not None
    assert tracer.settings.disable_batch
    assert [session["session_name"] for session in backend.sessions()] == ["triage"] * 3
    assert set(updates(backend)) == set(sessions(backend))
    assert all(found["outputs"]["duration_ms"] > 0 for found in updates(backend).values())
    assert all("inputs" not in session for session in backend.sessions()), "the event is recorded only with inputs="


@pytest.mark.parametrize(
    ("event", "name", "inputs"),
    [
        (HTTP_2, "GET /orders/{id}", {"method": "GET", "path": "/orders/7"}),
        (FUNCTION_URL, "GET /orders/7", {"method": "GET", "path": "/orders/7"}),
        (HTTP_1, "GET /orders/{id}", {"method": "GET", "path": "/orders/7"}),
        (LOAD_BALANCER, "GET /orders/7", {"method": "GET", "path": "/orders/7"}),
        (QUEUE, "triage", None),
        ("a text", "triage", None),
    ],
    ids=["HTTP API", "function URL", "REST API", "load balancer", "queue", "text"],
)
def test_a_session_is_named_after_the_route_or_the_function(
    tracer: HoneyHiveTracer, backend: Backend, event: Any, name: str, inputs: dict[str, str] | None
) -> None:
    answered = {"statusCode": 201, "headers": {"a": "b"}, "body": "made"}
    handler = session_handler(lambda event, context: answered)
    answer = handler(event, Context())
    (session_id,) = sessions(backend)
    assert answer == {"statusCode": 201, "headers": {"a": "b", HEADER: session_id}, "body": "made"}
    assert answered["headers"] == {"a": "b"}
    session = sessions(backend)[session_id]
    assert (session["session_name"], session.get("inputs")) == (name, inputs)
    assert updates(backend)[session_id]["outputs"]["status"] == 201
    assert tracer.force_flush()


def test_other_return_values_are_unchanged(tracer: HoneyHiveTracer) -> None:
    for value in (None, "text", ["list"], {"reply": 1}):
        assert session_handler(lambda event, context, value=value: value)({}, None) is value


def test_an_exception_is_on_its_session_and_propagates(tracer: HoneyHiveTracer, backend: Backend) -> None:
    handler = session_handler(lambda event, context: fail("why"))
    with pytest.raises(ValueError, match="why"):
        handler({}, Context())
    ((session_id, found),) = updates(backend).items()
    assert found["error"] == "ValueError: why"
    (span,) = backend.spans()
    assert span["attributes"][SESSION] == session_id
    assert tracer.current_session_id == tracer.session_id


def test_an_event_with_a_session_id_continues_that_session(tracer: HoneyHiveTracer, backend: Backend) -> None:
    handler = session_handler(lambda event, context: tracer.current_session_id)
    known = str(uuid.uuid4())
    assert handler({"session_id": known}, None) == known
    assert sessions(backend) == {}, "linking registers nothing"
    other = session_handler(session_key="conversation")(lambda event, context: tracer.current_session_id)
    assert other({"conversation": known}, None) == known
    for event in ({"session_id": known}, {"conversation": 7}):
        assert other(event, None) != known
    closed = session_handler(session_key=None)(lambda event, context: tracer.current_session_id)
    assert closed({"session_id": known}, None) != known


def test_headers_of_an_http_event_are_used_only_if_may_link_allows_it(tracer: HoneyHiveTracer) -> None:
    known = str(uuid.uuid4())
    event = {**HTTP_2, "headers": {HEADER: known, "authorization": "yes"}}
    here = lambda event, context: tracer.current_session_id  # noqa: E731
    assert session_handler(here)(event, None) != known
    checked = session_handler(may_link=lambda headers: headers["authorization"] == "yes")(here)
    assert checked(event, None) == known


def test_exclude_inputs_and_tracer_arguments_are_used(tracer: HoneyHiveTracer, backend: Backend) -> None:
    with Backend() as other_backend, HoneyHiveTracer(api_key="other-key-0001", server_url=other_backend.url) as other:
        handler = session_handler(tracer=other, exclude=["/health"], inputs=lambda event: {"kind": event["version"]})(
            lambda event, context: answer("why")
        )
        handler({**HTTP_2, "rawPath": "/health"}, None)
        handler(HTTP_2, None)
        (session,) = (found for found in other_backend.sessions() if found["session_name"].startswith("GET"))
        assert session["inputs"] == {"method": "GET", "path": "/orders/7", "kind": "2.0"}
    assert sessions(backend) == {}


def test_the_flush_ends_before_the_deadline_of_the_invocation(
    tracer: HoneyHiveTracer, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def noted(exporter: Exporter, seconds: float) -> bool:
        asked.append(seconds)
        return False

    monkeypatch.setattr(Exporter, "flush", noted)
    handler = session_handler(lambda event, context: answer("why"))
    for remaining in (700, 100, 900_000):
        handler({}, Context(remaining))
    assert asked == [pytest.approx(0.5), 0, 2]


def test_decorating_an_object_that_is_not_callable_is_rejected() -> None:
    wrong: Any = 7
    with pytest.raises(SettingTypeError, match="session_handler: handler must be a function"):
        session_handler(wrong)


@pytest.mark.usefixtures("environment")
def test_all_spans_are_sent_before_the_process_freezes(backend: Backend) -> None:
    with Environment("lambda_handler") as frozen:
        ids: dict[str, str] = {}
        for question in ("first", "second"):
            assert frozen.invoke({"question": question}) == {"reply": question.upper()}
            (new,) = set(sessions(backend)) - set(ids.values())
            ids[question] = new
            assert in_own_sessions(backend, ids)
        assert frozen.invoke({"question": 7})["error"].startswith("AttributeError")
        linked = frozen.invoke({"question": "again", "session_id": ids["first"]})
        assert linked == {"reply": "AGAIN"}
    assert [span["attributes"][SESSION] for span in backend.spans()][-1] == ids["first"]
    assert {session["session_name"] for session in sessions(backend).values()} == {"handler"}
