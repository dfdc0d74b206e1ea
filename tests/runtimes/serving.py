"""The same application in every framework, behind that framework's real server."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from fastapi import BackgroundTasks, FastAPI, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse
from flask import Flask, Response

from hh_jupyter.runtimes.asgi import SessionMiddleware
from hh_jupyter.runtimes.flask import init_app
from tests.guide import serving
from tests.runtimes.views import answer, async_words, broken_words, endless, fail, part, session_here, words

Serve = Callable[..., AbstractContextManager[str]]


@contextmanager
def fastapi(**options: Any) -> Iterator[str]:
    """FastAPI behind uvicorn."""
    with serving.asgi(fastapi_app(**options)) as url:
        yield url


def fastapi_app(**options: Any) -> Any:
    """The application; `/ask` runs in the thread pool, `/async-ask` on the event loop."""
    app = FastAPI()
    app.add_middleware(SessionMiddleware, **options)
    app.get("/ask/{question}")(answer)

    @app.get("/async-ask/{question}")
    async def async_ask(question: str) -> str:
        return answer(question)

    @app.get("/stream/{question}")
    def stream(question: str) -> StreamingResponse:
        return StreamingResponse(words(question))

    @app.get("/async-stream/{question}")
    async def async_stream(question: str) -> StreamingResponse:
        return StreamingResponse(async_words(question))

    app.get("/fail/{question}")(fail)
    app.get("/break/{question}")(lambda question: StreamingResponse(broken_words(question)))
    app.get("/endless/{question}")(lambda question: StreamingResponse(endless(question)))

    @app.get("/background/{question}")
    async def background(question: str, tasks: BackgroundTasks) -> str:
        tasks.add_task(part, question)
        tasks.add_task(fail, question)
        return "later"

    @app.get("/health/ping")
    async def ping() -> PlainTextResponse:
        return PlainTextResponse(str(session_here()))

    @app.websocket("/talk/{question}")
    async def talk(socket: WebSocket, question: str) -> None:
        await socket.accept()
        while (said := await socket.receive_text()) != "bye":
            if said == "fail":
                fail(question)
            await socket.send_text(part(said))
        await socket.close(1000)

    return app


@contextmanager
def flask(**options: Any) -> Iterator[str]:
    """Flask behind werkzeug, four threads that serve one request after the other."""
    with serving.wsgi(flask_app(**options), threads=4) as url:
        yield url


def flask_app(**options: Any) -> Any:
    """The application; Flask's own async views run on threads of their own."""
    app = Flask(__name__)
    app.logger.disabled = True
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    init_app(app, **options)
    init_app(app, **options)  # As an application factory may; the second one does nothing.
    app.get("/ask/<question>")(answer)
    app.get("/stream/<question>", endpoint="stream")(lambda question: Response(words(question)))
    app.get("/fail/<question>")(fail)
    app.get("/break/<question>", endpoint="break")(lambda question: Response(broken_words(question)))
    app.get("/endless/<question>", endpoint="endless")(lambda question: Response(endless(question)))
    app.get("/health/ping", endpoint="ping")(lambda: str(session_here()))
    return app


@contextmanager
def _django(options: dict[str, Any]) -> Iterator[None]:
    import django
    from django.conf import settings
    from django.test.utils import override_settings

    if not settings.configured:
        middlewares = ["hh_jupyter.runtimes.django.SessionMiddleware", "django.middleware.common.CommonMiddleware"]
        settings.configure(
            ROOT_URLCONF="tests.runtimes.django_urls",
            MIDDLEWARE=middlewares,
            ALLOWED_HOSTS=["127.0.0.1"],
            SECRET_KEY="not one",
            LOGGING_CONFIG=None,
        )
        django.setup()
    logging.getLogger("django").setLevel(logging.CRITICAL)
    with override_settings(HH_JUPYTER=options):
        yield


@contextmanager
def django(**options: Any) -> Iterator[str]:
    """Django behind its own development server."""
    with _django(options):
        from django.core.handlers.wsgi import WSGIHandler
        from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler

        server = ThreadedWSGIServer(("127.0.0.1", 0), WSGIRequestHandler)
        server.daemon_threads = False  # So that closing it waits for the last request.
        server.set_app(WSGIHandler())
        with serving.running(server) as url:
            yield url


@contextmanager
def django_asgi(**options: Any) -> Iterator[str]:
    """Django behind uvicorn; sync views run on a thread."""
    with _django(options):
        from django.core.handlers.asgi import ASGIHandler

        with serving.asgi(ASGIHandler()) as url:
            yield url


ADAPTERS: dict[str, Serve] = {"fastapi": fastapi, "flask": flask, "django": django, "django_asgi": django_asgi}
