"""Flask on werkzeug: a session for each request, on threads that serve several requests one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import httpx
import pytest
from flask import Flask, g, request

from hh_jupyter import HoneyHiveTracer, trace
from hh_jupyter.testing import Backend
from tests.guide import serving
from tests.guide.received import SESSION, in_own_sessions, outputs_by_session, registered, sessions_by_question

THREADS, REQUESTS = 4, 24


@trace(event_type="tool")
def part(question: str) -> str:
    return question


def ask(app: Flask, path: str, threads: int | None) -> dict[str, str]:
    """Send the questions concurrently; return the session ids by question."""

    def one(url: str, question: str) -> str:
        answer = httpx.get(url + path.format(question), timeout=30)
        assert answer.status_code == 200
        return str(answer.headers["X-Session-ID"])

    questions = [f"q{number}" for number in range(REQUESTS)]
    with serving.wsgi(app, threads) as url, ThreadPoolExecutor(8) as pool:
        return dict(zip(questions, pool.map(lambda question: one(url, question), questions), strict=True))


of_both_kinds = pytest.mark.parametrize("threads", [None, THREADS], ids=["thread for each request", "pool"])


@pytest.mark.slow
@of_both_kinds
def test_each_request_has_its_own_session_even_on_a_reused_thread(
    backend: Backend, program: Callable[[str], ModuleType], threads: int | None
) -> None:
    service = program("flask_app")
    ids = ask(service.app, "/ask/{}", threads)
    assert service.tracer.flush()
    assert in_own_sessions(backend, ids)
    assert sorted(registered(backend, "request")) == sorted(ids.values())
    assert outputs_by_session(backend) == {key: {"status": 200} for key in ids.values()}


@pytest.mark.slow
@of_both_kinds
def test_calls_and_streams_of_a_view_are_in_the_session_of_its_request(
    backend: Backend, program: Callable[[str], ModuleType], threads: int | None
) -> None:
    service = program("flask_app")

    @service.app.get("/stream/<question>")
    def stream(question: str) -> Iterator[str]:
        part(question)

        @trace(event_type="model")
        def words(question: str) -> Iterator[str]:
            yield part(question)
            yield part(question)

        return words(question)

    ids = ask(service.app, "/stream/{}", threads)
    assert service.tracer.flush()
    assert in_own_sessions(backend, ids)
    assert len(backend.spans()) == 4 * len(ids)


def test_a_request_without_a_matching_view_gets_a_session_too(
    backend: Backend, program: Callable[[str], ModuleType]
) -> None:
    """Otherwise the thread would stay in the session of the previous request."""
    service = program("flask_app")
    with serving.wsgi(service.app, threads=1) as url, httpx.Client(base_url=url) as client:
        ids = [client.get(path).headers["X-Session-ID"] for path in ("/ask/why", "/no-such-page", "/ask/what")]
    assert service.tracer.flush()
    assert sorted(registered(backend, "request")) == sorted(ids)
    assert [outputs_by_session(backend)[session_id]["status"] for session_id in ids] == [200, 404, 200]


def test_the_error_of_a_view_is_in_the_session_of_its_request(
    backend: Backend, program: Callable[[str], ModuleType]
) -> None:
    service = program("flask_app")
    service.app.logger.disabled = True

    @service.app.get("/fail/<question>")
    @trace(event_type="chain")
    def fail(question: str) -> None:
        raise ValueError(question)

    with serving.wsgi(service.app, threads=1) as url, httpx.Client(base_url=url) as client:
        answer = client.get("/fail/why")
    assert answer.status_code == 500
    assert service.tracer.flush()
    (span,) = backend.spans()
    assert span["status"] == {"code": "ERROR", "message": "ValueError: why"}
    assert span["attributes"][SESSION] == answer.headers["X-Session-ID"]


def app_with_sessions_for_some(tracer: HoneyHiveTracer) -> Flask:
    """An application in which only some requests start a session, which ends with the request."""
    app = Flask(__name__)

    @app.before_request
    def enter() -> None:
        if "session" in request.args:
            g.scope = tracer.with_session("request")
            g.scope.enter()

    @app.teardown_request
    def leave(error: BaseException | None) -> None:
        if "scope" in g:
            g.scope.exit()

    @app.get("/<question>")
    def view(question: str) -> str:
        return part(question)

    return app


def test_a_session_that_ends_with_its_request_does_not_affect_the_next_one(backend: Backend) -> None:
    """Requests without their own session are in the session of the tracer."""
    with HoneyHiveTracer.init(session_name="web") as tracer:
        app = app_with_sessions_for_some(tracer)
        with serving.wsgi(app, threads=1) as url, httpx.Client(base_url=url) as client:
            for path in ("/first?session", "/second", "/third?session", "/fourth"):
                client.get(path)
        assert tracer.flush()
        found, own = sessions_by_question(backend), {tracer.session_id}
    assert found["second"] == found["fourth"] == own
    assert sorted(found["first"] | found["third"]) == sorted(registered(backend, "request"))
    assert not found["first"] & found["third"]


def test_a_session_of_create_session_lasts_until_the_next_one_on_its_thread(backend: Backend) -> None:
    """`create_session` applies from then on. A server that calls it only for some requests must end it with them."""
    with HoneyHiveTracer.init(session_name="web") as tracer:
        app = Flask(__name__)

        @app.get("/<question>")
        def view(question: str) -> str:
            if "session" in request.args:
                tracer.create_session("request")
            return part(question)

        with serving.wsgi(app, threads=1) as url, httpx.Client(base_url=url) as client:
            for path in ("/first?session", "/second"):
                client.get(path)
        with serving.wsgi(app, threads=1) as url:
            httpx.get(f"{url}/on-a-new-thread")
        assert tracer.flush()
        (session_id,), own = registered(backend, "request"), str(tracer.session_id)
        found = sessions_by_question(backend)
    assert found == {"first": {session_id}, "second": {session_id}, "on-a-new-thread": {own}}
