"""A session for each request of a Django project, served by WSGI or ASGI.

MIDDLEWARE = ["hh_jupyter.runtimes.django.SessionMiddleware", ...]  # First, so that it sees the whole request.
HH_JUPYTER = {"exclude": ["/health"]}  # Optional: exclude, may_link, inputs, tracer, as for ASGI.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from asgiref.sync import iscoroutinefunction, markcoroutinefunction

from hh_jupyter.errors import SettingTypeError
from hh_jupyter.runtimes.request_session import HEADER, Request, RequestSession, RequestSessions

__all__ = ["SessionMiddleware"]

OPTIONS: Final = ("exclude", "inputs", "may_link", "tracer")
SESSION: Final = "hh_jupyter_session"
"""Where the request's session stands on Django's request."""


class SessionMiddleware:
    """One session for each request. Name, inputs, outputs and header as `hh_jupyter.runtimes.asgi` has them.

    `inputs` in the setting `HH_JUPYTER` is given Django's request.

    Raises:
        SettingTypeError: an entry of `HH_JUPYTER` is unknown or has the wrong type.
    """

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        from django.conf import settings

        self.get_response = get_response
        given = dict(getattr(settings, "HH_JUPYTER", {}))
        for name in given:
            if name not in OPTIONS:
                raise SettingTypeError(f"HH_JUPYTER: unknown entry {name}. There are {', '.join(OPTIONS)}.")
        self._sessions = RequestSessions("HH_JUPYTER", **given)
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        """Serve one request; for ASGI a coroutine."""
        session = self._sessions.begin(_request(request)) if self._sessions.wants(request.path) else None
        if session is None:
            return self.get_response(request)
        setattr(request, SESSION, session)
        return self._serve_async(request, session) if self._is_async else self._serve(request, session)

    def process_exception(self, request: Any, exception: Exception) -> None:
        """What a view raised; Django makes a response of it, so that it does not come out of `get_response`."""
        session = getattr(request, SESSION, None)
        if session is not None:
            session.note(exception)

    def _serve(self, request: Any, session: RequestSession) -> Any:
        with session.active():
            try:
                response = self.get_response(request)
            except BaseException as error:
                session.finish(500, error)
                raise
        if _mark(response, session):
            response.streaming_content = _parts(response.streaming_content, response, session)
        else:
            session.finish(response.status_code)
        return response

    async def _serve_async(self, request: Any, session: RequestSession) -> Any:
        with session.active():
            try:
                response = await self.get_response(request)
            except asyncio.CancelledError:
                session.finish(disconnected=True)
                raise
            except BaseException as error:
                session.finish(500, error)
                raise
        if _mark(response, session):
            wrap: Any = _async_parts if response.is_async else _parts
            response.streaming_content = wrap(response.streaming_content, response, session)
        elif session.waits:
            await asyncio.to_thread(session.finish, response.status_code)
        else:
            session.finish(response.status_code)
        return response


def _request(request: Any) -> Request:
    inputs = {"method": request.method, "path": request.path}

    def headers() -> dict[str, str]:
        return {name.lower(): value for name, value in request.headers.items()}

    return Request(f"{request.method} {_route(request) or request.path}", inputs, headers, request)


def _route(request: Any) -> str | None:
    """The route's template; Django looks for it again, after the middlewares."""
    from django.urls import Resolver404, resolve

    try:
        return f"/{resolve(request.path_info).route}"
    except Resolver404:
        return None


def _mark(response: Any, session: RequestSession) -> bool:
    """Tell the id in the response; whether it is a streaming one."""
    if HEADER not in response.headers:
        response.headers[HEADER] = session.id
    return bool(response.streaming)


@contextmanager
def _until_read(response: Any, session: RequestSession) -> Iterator[None]:
    """Finish the session when the block that reads a stream is over."""
    try:
        yield
    except (GeneratorExit, asyncio.CancelledError):  # The client is gone.
        session.finish(response.status_code, disconnected=True)
        raise
    except BaseException as error:
        session.finish(response.status_code, error)
        raise
    session.finish(response.status_code)


def _parts(content: Iterator[bytes], response: Any, session: RequestSession) -> Iterator[bytes]:
    """Each part of a stream, made inside the session."""
    parts = iter(content)
    with _until_read(response, session):
        while True:
            with session.active():
                part = next(parts, None)
            if part is None:
                return
            yield part


async def _async_parts(content: AsyncIterator[bytes], response: Any, session: RequestSession) -> AsyncIterator[bytes]:
    parts = aiter(content)
    with _until_read(response, session):
        while True:
            with session.active():
                part = await anext(parts, None)
            if part is None:
                return
            yield part
