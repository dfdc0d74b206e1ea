"""FastAPI on uvicorn: a session for each of many concurrent requests, on whatever thread or task its code runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from types import ModuleType
from typing import Any

import httpx
import pytest
from fastapi import BackgroundTasks
from fastapi.responses import PlainTextResponse, StreamingResponse

from hh_jupyter import trace
from hh_jupyter.testing import Backend
from tests.guide import serving
from tests.guide.received import QUESTION, SESSION, in_own_sessions, outputs_by_session, programs_spans, registered

REQUESTS = 30


@pytest.fixture
def service(program: Callable[[str], ModuleType]) -> ModuleType:
    return program("fastapi_app")


def ask(service: ModuleType, path: str, questions: int = REQUESTS, status: int = 200) -> dict[str, str]:
    """Ask all questions concurrently; return the session ids of the responses, by question."""

    async def main(url: str) -> dict[str, str]:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            names = [f"q{number}" for number in range(questions)]
            answers = await asyncio.gather(*(client.get(path.format(name)) for name in names))
        assert {answer.status_code for answer in answers} == {status}
        return {name: answer.headers["X-Session-ID"] for name, answer in zip(names, answers, strict=True)}

    with serving.asgi(service.app) as url:
        return asyncio.run(main(url))


def test_each_of_many_concurrent_requests_has_its_own_session(backend: Backend, service: ModuleType) -> None:
    ids = ask(service, "/ask/{}")
    assert service.tracer.flush()
    assert in_own_sessions(backend, ids)
    assert sorted(registered(backend, "chat")) == sorted(ids.values())
    assert outputs_by_session(backend) == {key: {"status": 200} for key in ids.values()}


@trace(event_type="tool")
async def part(question: str, delay: float) -> None:
    for _ in range(5):
        await asyncio.sleep(delay)


@trace(event_type="tool")
def sync_part(question: str) -> str:
    return question


@trace(event_type="model")
async def async_stream(question: str) -> AsyncIterator[str]:
    for word in ("one", "two", "three"):
        await asyncio.sleep(0)
        sync_part(question)
        yield word


@trace(event_type="model")
def sync_stream(question: str) -> Iterator[str]:
    for word in ("one", "two", "three"):
        sync_part(question)
        yield word


def add_nested(app: Any) -> None:
    @app.get("/nested/{question}")
    @trace(event_type="chain")
    async def nested(question: str) -> str:
        """Await at the same time as all other requests, and start tasks."""
        await asyncio.gather(part(question, 0), part(question, 0.001), asyncio.to_thread(sync_part, question))
        return sync_part(question)


def add_sync(app: Any) -> None:
    @app.get("/sync/{question}")
    @trace(event_type="chain")
    def sync(question: str) -> str:
        """Run in the thread pool, on threads that serve many requests."""
        return sync_part(question)


def add_streams(app: Any) -> None:
    @app.get("/stream/{question}")
    async def stream(question: str) -> StreamingResponse:
        return StreamingResponse(async_stream(question))

    @app.get("/sync-stream/{question}")
    def stream_in_threads(question: str) -> StreamingResponse:
        """Yield each item from another thread of the pool."""
        return StreamingResponse(sync_stream(question))


def add_background(app: Any) -> None:
    @app.get("/background/{question}")
    async def background(question: str, tasks: BackgroundTasks) -> None:
        tasks.add_task(part, question, 0.001)
        tasks.add_task(sync_part, question)


@pytest.mark.parametrize(
    ("add", "path", "spans"),
    [
        (add_nested, "/nested/{}", 5),
        (add_sync, "/sync/{}", 2),
        (add_streams, "/stream/{}", 4),
        (add_streams, "/sync-stream/{}", 4),
        (add_background, "/background/{}", 2),
    ],
    ids=["nested awaits", "sync endpoint", "async stream", "sync stream", "background tasks"],
)
def test_everything_that_a_request_starts_is_in_its_session(
    backend: Backend, service: ModuleType, add: Callable[[Any], None], path: str, spans: int
) -> None:
    add(service.app)
    ids = ask(service, path)
    assert service.tracer.flush()
    assert in_own_sessions(backend, ids)
    assert len(programs_spans(backend)) == spans * REQUESTS
    assert {span["status"]["code"] for span in programs_spans(backend)} == {"UNSET"}


def test_spans_inside_a_stream_are_its_children(backend: Backend, service: ModuleType) -> None:
    add_streams(service.app)
    ask(service, "/stream/{}", 3)
    ask(service, "/sync-stream/{}", 3)
    assert service.tracer.flush()
    streams = {s["span_id"]: s["attributes"][QUESTION] for s in programs_spans(backend) if s["name"].endswith("stream")}
    parts = [s for s in programs_spans(backend) if s["name"].endswith("sync_part")]
    assert len(streams) == 6
    assert len(parts) == 18
    assert {streams[s["parent_span_id"]] == s["attributes"][QUESTION] for s in parts} == {True}


def test_the_error_of_an_endpoint_is_in_the_session_of_its_request(backend: Backend, service: ModuleType) -> None:
    @service.app.get("/fail/{question}")
    @trace(event_type="chain")
    async def fail(question: str) -> None:
        await part(question, 0)
        raise ValueError(question)

    @service.app.exception_handler(ValueError)
    async def answer(request: Any, error: ValueError) -> PlainTextResponse:
        return PlainTextResponse(str(error), status_code=418)

    ids = ask(service, "/fail/{}", status=418)
    assert service.tracer.flush()
    assert in_own_sessions(backend, ids)
    failed = {s["attributes"][QUESTION]: s["status"] for s in programs_spans(backend) if s["name"].endswith("fail")}
    assert failed == {question: {"code": "ERROR", "message": f"ValueError: {question}"} for question in ids}
    assert outputs_by_session(backend) == {key: {"status": 418} for key in ids.values()}


def test_an_unhandled_exception_is_in_the_session_of_its_request(backend: Backend, service: ModuleType) -> None:
    @service.app.get("/fail/{question}")
    async def fail(question: str) -> None:
        raise ValueError(question)

    async def main(url: str) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            answers = await asyncio.gather(*(client.get(f"/fail/q{number}") for number in range(3)))
        assert {answer.status_code for answer in answers} == {500}

    with serving.asgi(service.app) as url:
        asyncio.run(main(url))
    assert service.tracer.flush()
    assert outputs_by_session(backend) == {key: {"status": 500} for key in registered(backend, "chat")}
    updates = [request.body for request in backend.requests if request.method == "PUT"]
    assert sorted(update["metadata"]["error"] for update in updates) == [f"ValueError('q{n}')" for n in range(3)]
    assert len(backend.sessions()) == 3, "no empty session of the tracer's own"


def test_later_turns_that_send_the_session_id_are_in_the_same_session(backend: Backend, service: ModuleType) -> None:
    """Ten concurrent conversations of three turns each; a turn uses any free connection."""

    async def conversation(client: httpx.AsyncClient, number: int) -> list[str]:
        headers: dict[str, str] = {}
        ids = []
        for turn in range(3):
            answer = await client.get(f"/ask/c{number}t{turn}", headers=headers)
            ids.append(answer.headers["X-Session-ID"])
            headers = {"X-Session-ID": ids[0]}
        return ids

    async def main(url: str) -> list[list[str]]:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            return await asyncio.gather(*(conversation(client, number) for number in range(10)))

    with serving.asgi(service.app) as url:
        conversations = asyncio.run(main(url))
    assert service.tracer.flush()
    assert all(len(set(ids)) == 1 for ids in conversations)
    assert sorted(registered(backend, "chat")) == sorted(ids[0] for ids in conversations)
    found = {span["attributes"][QUESTION]: span["attributes"][SESSION] for span in programs_spans(backend)}
    assert found == {f"c{c}t{t}": ids[0] for c, ids in enumerate(conversations) for t in range(3)}


def test_the_frameworks_own_spans_of_a_request_are_in_its_session(backend: Backend, service: ModuleType) -> None:
    """FastAPI makes spans if a global provider is set, and so do instrumentors of web frameworks."""
    ids = ask(service, "/ask/{}", 3)
    assert service.tracer.flush()
    served = [span for span in backend.spans() if span["kind"] == "SERVER"]
    assert {span["attributes"]["url.path"]: span["attributes"][SESSION] for span in served} == {
        f"/ask/{question}": session_id for question, session_id in ids.items()
    }
    assert service.tracer.session_id not in {span["attributes"][SESSION] for span in backend.spans()}
