"""A session for each request, in every framework, with the same application and requests."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import httpx
import pytest

from hh_jupyter import HoneyHiveTracer, SettingTypeError, set_default_tracer
from hh_jupyter.runtimes.request_session import RequestSessionFactory
from hh_jupyter.testing import Backend
from tests.guide.received import QUESTION, SESSION, in_own_sessions, programs_spans
from tests.runtimes.received import HEADER, sessions, updates
from tests.runtimes.serving import ADAPTERS, Serve

REQUESTS = {"fastapi": 200, "flask": 200}
"""Number of concurrent requests; fewer for the other frameworks, which share most of the code."""

KINDS = {"fastapi": ("ask", "async-ask", "async-stream"), "django_asgi": ("ask", "async-ask")}
ROUTES = {"fastapi": "/{}/{{question}}", "flask": "/{}/<question>", "django": "/{}/<question>"}


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest, tracer: HoneyHiveTracer) -> str:
    return str(request.param)


@pytest.fixture
def serve(adapter: str) -> Serve:
    return ADAPTERS[adapter]


def ask(url: str, paths: Iterable[str], **headers: str) -> list[httpx.Response]:
    """All at once."""

    async def main() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=100)
        async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits, headers=headers) as client:
            return list(await asyncio.gather(*(client.get(path) for path in paths)))

    return asyncio.run(main())


@pytest.mark.slow
def test_each_of_many_concurrent_requests_has_its_own_session(
    adapter: str, serve: Serve, tracer: HoneyHiveTracer, backend: Backend
) -> None:
    kinds = [*KINDS.get(adapter, ("ask",)), "stream"]
    paths = [f"/{kinds[number % len(kinds)]}/q{number}" for number in range(REQUESTS.get(adapter, 60))]
    with serve() as url:
        answers = ask(url, paths)
    assert tracer.force_flush()
    assert {answer.status_code for answer in answers} == {200}
    ids = {f"q{number}": answer.headers[HEADER] for number, answer in enumerate(answers)}
    assert in_own_sessions(backend, ids)
    spans = sum(3 if "stream" in path else 2 for path in paths)
    assert len(programs_spans(backend)) == spans
    assert set(sessions(backend)) == set(ids.values())
    outputs = {key: found["outputs"] for key, found in updates(backend).items()}
    assert {key: found["status"] for key, found in outputs.items()} == dict.fromkeys(ids.values(), 200)
    assert all(found["duration_ms"] > 0 for found in outputs.values())


def test_a_session_has_the_route_as_name_and_method_and_path_as_inputs(
    adapter: str, serve: Serve, tracer: HoneyHiveTracer, backend: Backend
) -> None:
    with serve() as url:
        asked = httpx.get(f"{url}/ask/why?secret=1", headers={"Cookie": "a=b"})
        missing = httpx.get(f"{url}/no/such/page")
    assert tracer.force_flush()
    found = sessions(backend)
    session = found[asked.headers[HEADER]]
    assert session["session_name"] == "GET " + ROUTES[adapter.partition("_")[0]].format("ask")
    assert session["inputs"] == {"method": "GET", "path": "/ask/why"}
    assert found[missing.headers[HEADER]]["session_name"] == "GET /no/such/page"
    assert updates(backend)[missing.headers[HEADER]]["outputs"]["status"] == 404
    assert asked.headers[HEADER] == str(uuid.UUID(asked.headers[HEADER]))


def test_an_exception_is_on_its_session_and_the_response_is_unchanged(
    serve: Serve, tracer: HoneyHiveTracer, backend: Backend
) -> None:
    with serve() as url:
        failed = httpx.get(f"{url}/fail/why")
        after = httpx.get(f"{url}/ask/next")
    assert tracer.force_flush()
    assert (failed.status_code, after.status_code) == (500, 200)
    (session_id,) = set(sessions(backend)) - {after.headers[HEADER]}
    assert updates(backend)[session_id]["outputs"]["status"] == 500
    assert updates(backend)[session_id]["error"] == "ValueError: why"
    assert "error" not in updates(backend)[after.headers[HEADER]]
    assert {span["attributes"][SESSION] for span in programs_spans(backend) if span["status"]["code"] == "ERROR"} == {
        session_id
    }


def test_an_exception_after_the_response_started_is_on_its_session_too(
    serve: Serve, tracer: HoneyHiveTracer, backend: Backend
) -> None:
    with serve() as url:
        # HTTP/1.0 servers just close.
        with suppress(httpx.RemoteProtocolError), httpx.stream("GET", f"{url}/break/why") as answer:
            session_id = answer.headers[HEADER]
            answer.read()
        httpx.get(f"{url}/ask/next")
        assert backend.wait_for(lambda found: "error" in updates(found).get(session_id, {}), 60)
    assert tracer.force_flush()
    assert updates(backend)[session_id]["outputs"]["status"] == 200
    assert updates(backend)[session_id]["error"] == "ValueError: why"
    assert [s["attributes"][SESSION] for s in programs_spans(backend) if s["attributes"][QUESTION] == "why"] == [
        session_id
    ]


def test_a_client_that_disconnects_ends_only_its_own_session(
    serve: Serve, tracer: HoneyHiveTracer, backend: Backend
) -> None:
    with serve() as url:
        with httpx.stream("GET", f"{url}/endless/why") as answer:
            session_id = answer.headers[HEADER]
            next(answer.iter_raw())
        assert backend.wait_for(lambda found: session_id in updates(found), 60)
        after = httpx.get(f"{url}/ask/next").headers[HEADER]
    assert tracer.force_flush()
    outputs = updates(backend)[session_id]["outputs"]
    assert (outputs["status"], outputs.get("disconnected")) == (200, True)
    of_next = {s["attributes"][SESSION] for s in programs_spans(backend) if s["attributes"][QUESTION] == "next"}
    assert of_next == {after} != {session_id}


def test_excluded_paths_have_no_session(serve: Serve, tracer: HoneyHiveTracer, backend: Backend) -> None:
    with serve(exclude=(path for path in ("/health/",))) as url:
        ping = httpx.get(f"{url}/health/ping")
        asked = httpx.get(f"{url}/ask/health")
    assert tracer.force_flush()
    assert (ping.text, HEADER in ping.headers) == (tracer.session_id, False)
    assert list(sessions(backend)) == [asked.headers[HEADER]]


def test_a_caller_is_linked_only_if_may_link_allows_it(serve: Serve, tracer: HoneyHiveTracer, backend: Backend) -> None:
    known = str(uuid.uuid4())
    with serve() as url:
        unlinked = httpx.get(f"{url}/ask/unlinked", headers={HEADER: known, "baggage": f"session_id={known}"})
    with serve(may_link=lambda headers: headers.get("authorization") == "yes") as url:
        refused = httpx.get(f"{url}/ask/refused", headers={HEADER: known})
        linked = httpx.get(f"{url}/ask/linked", headers={HEADER: known, "Authorization": "yes"})
    assert tracer.force_flush()
    ids = {"unlinked": unlinked.headers[HEADER], "refused": refused.headers[HEADER], "linked": linked.headers[HEADER]}
    assert ids["linked"] == known
    assert in_own_sessions(backend, ids)
    assert set(sessions(backend)) == {ids["unlinked"], ids["refused"]}, "linking registers nothing"
    assert updates(backend)[known]["outputs"]["status"] == 200


def test_trace_and_session_of_a_caller_that_may_link_are_continued(
    serve: Serve, tracer: HoneyHiveTracer, backend: Backend
) -> None:
    with serve(may_link=True) as url, tracer.with_session("caller") as session_id, tracer.start_span("call") as span:
        headers: dict[str, str] = {}
        tracer.inject_context(headers)
        answer = httpx.get(f"{url}/ask/why", headers=headers)
    assert tracer.force_flush()
    assert answer.headers[HEADER] == session_id
    (served,) = (s for s in programs_spans(backend) if s["name"].endswith("answer"))
    assert served["trace_id"] == f"{span.get_span_context().trace_id:032x}"
    assert served["parent_span_id"] is not None
    assert served["attributes"][SESSION] == session_id
    assert {session["session_name"] for session in sessions(backend).values()} == {"caller"}


def test_a_request_succeeds_if_may_link_or_inputs_raises(
    serve: Serve, tracer: HoneyHiveTracer, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: Any) -> Any:
        raise RuntimeError("mine")

    with serve(may_link=broken, inputs=broken) as url:
        answer = httpx.get(f"{url}/ask/why", headers={HEADER: str(uuid.uuid4())})
    assert answer.status_code == 200
    assert tracer.force_flush()
    assert sessions(backend)[answer.headers[HEADER]]["inputs"] == {"method": "GET", "path": "/ask/why"}
    assert "may_link failed" in caplog.text
    assert "inputs failed" in caplog.text


def test_inputs_returned_by_the_inputs_function_are_recorded(
    serve: Serve, tracer: HoneyHiveTracer, backend: Backend
) -> None:
    with serve(inputs=lambda request: {"kind": type(request).__name__}) as url:
        answer = httpx.get(f"{url}/ask/why")
    assert tracer.force_flush()
    assert set(sessions(backend)[answer.headers[HEADER]]["inputs"]) == {"method", "path", "kind"}


def test_without_a_tracer_the_application_runs_untraced(serve: Serve, backend: Backend) -> None:
    set_default_tracer(None)
    with serve() as url:
        answers = ask(url, ["/ask/why", "/stream/why", "/fail/why"])
    assert [answer.status_code for answer in answers] == [200, 200, 500]
    assert not any(HEADER in answer.headers for answer in answers)
    assert backend.spans() == []


def test_a_tracer_passed_as_argument_is_used(serve: Serve, tracer: HoneyHiveTracer, backend: Backend) -> None:
    with Backend() as other_backend, HoneyHiveTracer(api_key="other-key-0001", server_url=other_backend.url) as other:
        with serve(tracer=other) as url:
            answer = httpx.get(f"{url}/ask/why")
        assert other.force_flush()
        assert {span["attributes"][SESSION] for span in other_backend.spans()} == {answer.headers[HEADER]}
    assert backend.spans() == []


@pytest.mark.parametrize("wrong", [{"exclude": "/health"}, {"may_link": "yes"}, {"inputs": 7}])
def test_a_wrong_argument_is_rejected(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(SettingTypeError, match=f"SessionMiddleware: {name} must be "):
        RequestSessionFactory("SessionMiddleware", **wrong)
