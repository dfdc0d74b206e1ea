"""A session for each request of a Django project, served by WSGI or ASGI.

MIDDLEWARE = ["hh_jupyter.runtimes.django.SessionMiddleware", ...]  # First, to cover the whole request.
HH_JUPYTER = {"exclude": ["/health"]}  # Optional: exclude, may_link, inputs, tracer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from asgiref.sync import iscoroutinefunction, markcoroutinefunction

from hh_jupyter.errors import SettingTypeError
from hh_jupyter.runtimes.request_session import HEADER, IncomingRequest, RequestSession, RequestSessionFactory
from hh_jupyter.threads import call_off_loop

__all__ = ["SessionMiddleware"]

OPTIONS: Final = ("exclude", "inputs", "may_link", "tracer")
SESSION: Final = "hh_jupyter_session"
"""Attribute of Django's request with the session."""


class SessionMiddleware:
    """One session for each request, with the same content as in `hh_jupyter.runtimes.asgi`.

    `inputs` in the setting `HH_JUPYTER` gets Django's request.

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
                raise SettingTypeError(f"HH_JUPYTER: unknown entry {name}; expected one of {', '.join(OPTIONS)}.")
        self._sessions = RequestSessionFactory("HH_JUPYTER", **given)
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        """Serve one request. Returns a coroutine under ASGI."""
        session = self._sessions.start(_request(request)) if self._sessions.is_traced(request.path) else None
        if session is None:
            return self.get_response(request)
        setattr(request, SESSION, session)
        return self._serve_async(request, session) if self._is_async else self._serve(request, session)

    def process_exception(self, request: Any, exception: Exception) -> None:
        """Note an exception of a view. Django converts it to a response, so `get_response` does not raise it."""
        session = getattr(request, SESSION, None)
        if session is not None:
            session.set_error(exception)

    def _serve(self, request: Any, session: RequestSession) -> Any:
        with session.active():
            try:
                response = self.get_response(request)
            except BaseException as error:
                session.finish(500, error)
                raise
        if _set_header(response, session):
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
        if _set_header(response, session):
            wrap: Any = _async_parts if response.is_async else _parts
            response.streaming_content = wrap(response.streaming_content, response, session)
        elif session.finish_blocks:
            await call_off_loop(session.finish, response.status_code)
        else:
            session.finish(response.status_code)
        return response


def _request(request: Any) -> IncomingRequest:
    inputs = {"method": request.method, "path": request.path}

    def headers() -> dict[str, str]:
        return {name.lower(): value for name, value in request.headers.items()}

    return IncomingRequest(f"{request.method} {_route(request) or request.path}", inputs, headers, request)


def _route(request: Any) -> str | None:
    """The route template. Django resolves it only after the middlewares."""
    from django.urls import Resolver404, resolve

    try:
        return f"/{resolve(request.path_info).route}"
    except Resolver404:
        return None


def _set_header(response: Any, session: RequestSession) -> bool:
    """Set the session header, and return whether the response is streamed."""
    if HEADER not in response.headers:
        response.headers[HEADER] = session.id
    return bool(response.streaming)


@contextmanager
def _until_read(response: Any, session: RequestSession) -> Iterator[None]:
    """Finish the session at the end of a block that reads a stream."""
    try:
        yield
    except (GeneratorExit, asyncio.CancelledError):  # The client has disconnected.
        session.finish(response.status_code, disconnected=True)
        raise
    except BaseException as error:
        session.finish(response.status_code, error)
        raise
    session.finish(response.status_code)


def _parts(content: Iterator[bytes], response: Any, session: RequestSession) -> Iterator[bytes]:
    """Yield the parts of a stream, each produced in the session."""
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
