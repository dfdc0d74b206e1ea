"""ASGI only: WebSockets, lifespans, background tasks, cancelled requests."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import suppress
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.export.exporter import Exporter
from hh_jupyter.runtimes.asgi import SessionMiddleware
from hh_jupyter.testing import Backend
from tests.guide.received import SESSION, programs_spans
from tests.runtimes.received import HEADER, sessions, updates
from tests.runtimes.serving import fastapi


def talking(url: str) -> Any:
    return connect(f"{url.replace('http', 'ws')}/talk/q")


def test_a_websocket_connection_is_one_session(tracer: HoneyHiveTracer, backend: Backend) -> None:
    with fastapi() as url, talking(url) as socket:
        session_id = socket.response.headers[HEADER]
        for word in ("one", "two"):
            socket.send(word)
            assert socket.recv() == word.upper()
        socket.send("bye")
    assert tracer.force_flush()
    assert sessions(backend)[session_id]["session_name"] == "WEBSOCKET /talk/{question}"
    assert updates(backend)[session_id]["outputs"]["code"] == 1000
    assert [span["attributes"][SESSION] for span in programs_spans(backend)] == [session_id] * 2


def test_a_websocket_session_ends_if_the_client_disconnects_or_the_endpoint_fails(
    tracer: HoneyHiveTracer, backend: Backend
) -> None:
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    with fastapi() as url:
        with talking(url) as socket:
            left_id = socket.response.headers[HEADER]
        with talking(url) as socket:
            failed_id = socket.response.headers[HEADER]
            socket.send("fail")
            with pytest.raises(ConnectionClosedError):
                socket.recv()
    assert tracer.force_flush()
    left, failed = updates(backend)[left_id], updates(backend)[failed_id]
    assert left["outputs"]["code"] == 1000
    assert "error" not in left, "a disconnect is not an error"
    assert (failed["outputs"]["code"], failed["error"]) == (1011, "ValueError: q")


def test_background_tasks_are_in_the_session_of_their_request(tracer: HoneyHiveTracer, backend: Backend) -> None:
    with fastapi() as url:
        session_id = httpx.get(f"{url}/background/why").headers[HEADER]
    assert tracer.force_flush()
    assert {span["attributes"][SESSION] for span in programs_spans(backend)} == {session_id}
    assert updates(backend)[session_id]["outputs"]["status"] == 200
    assert updates(backend)[session_id]["error"] == "ValueError: why"


def test_lifespans_have_no_session(tracer: HoneyHiveTracer, backend: Backend) -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"
        seen.append((await receive())["type"])
        await send({"type": "lifespan.startup.complete"})

    async def receive() -> dict[str, str]:
        return {"type": "lifespan.startup"}

    async def send(message: dict[str, str]) -> None:
        seen.append(message["type"])

    middleware: Any = SessionMiddleware(app)
    asyncio.run(middleware({"type": "lifespan"}, receive, send))
    assert seen == ["lifespan.startup", "lifespan.startup.complete"]
    assert tracer.force_flush()
    assert sessions(backend) == {}


def test_a_cancelled_request_ends_its_session_and_restores_the_context(
    tracer: HoneyHiveTracer, backend: Backend
) -> None:
    """Servers cancel running requests when they stop."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(60)

    async def main() -> str | None:
        middleware: Any = SessionMiddleware(app)
        scope = {"type": "http", "method": "GET", "path": "/slow", "headers": []}
        request = asyncio.ensure_future(middleware(scope, None, None))
        await asyncio.sleep(0.01)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        return tracer.current_session_id

    assert asyncio.run(main()) == tracer.session_id
    assert tracer.force_flush()
    (session_id,) = sessions(backend)
    assert updates(backend)[session_id]["outputs"]["disconnected"] is True
    assert "error" not in updates(backend)[session_id]


@pytest.mark.parametrize("failing", [False, True], ids=["answers", "fails"])
def test_the_context_of_the_serving_task_is_restored_after_a_request(tracer: HoneyHiveTracer, failing: bool) -> None:
    seen: list[str | None] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(tracer.current_session_id)
        if failing:
            raise ValueError

    async def main() -> None:
        middleware: Any = SessionMiddleware(app)
        for _ in range(2):
            with suppress(ValueError):
                await middleware({"type": "http", "method": "GET", "path": "/", "headers": []}, None, None)
            seen.append(tracer.current_session_id)

    asyncio.run(main())
    assert seen[1] == seen[3] == tracer.session_id
    assert len(set(seen)) == 3


def test_requests_do_not_use_the_session_that_was_current_at_server_start(tracer: HoneyHiveTracer) -> None:
    seen: list[str | None] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(tracer.current_session_id)

    async def main() -> None:
        middleware: Any = SessionMiddleware(app, may_link=True)
        for _ in range(2):
            await middleware({"type": "http", "method": "GET", "path": "/", "headers": []}, None, None)

    started_in = tracer.create_session("start")
    asyncio.run(main())
    assert len({*seen, started_in}) == 3


def test_immediate_mode_does_not_block_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[int] = []
    wait = Exporter.wait_if_immediate

    def noted(exporter: Exporter) -> None:
        waiting.append(threading.get_ident())
        wait(exporter)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    async def send(message: dict[str, Any]) -> None: ...

    monkeypatch.setattr(Exporter, "wait_if_immediate", noted)
    with Backend() as backend:
        options: dict[str, Any] = {"api_key": "test-key-0001", "server_url": backend.url, "disable_batch": True}
        with HoneyHiveTracer(**options, skip_backend_session_creation=True) as tracer:
            middleware: Any = SessionMiddleware(app, tracer)
            asyncio.run(middleware({"type": "http", "method": "GET", "path": "/", "headers": []}, None, send))
            (found,) = updates(backend).values()
    assert found["outputs"]["status"] == 204
    assert waiting
    assert threading.get_ident() not in waiting
