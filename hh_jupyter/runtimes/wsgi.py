"""A session for each request of a WSGI application, until its response has been read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from hh_jupyter.runtimes.request_session import (
    HEADER,
    IncomingRequest,
    Inputs,
    MayLink,
    RequestSession,
    RequestSessionFactory,
)
from hh_jupyter.tracing.tracer import HoneyHiveTracer

__all__ = ["SessionMiddleware"]

Environ = dict[str, Any]
SESSION: Final = "hh_jupyter.session"
"""Key of the WSGI environment with the session."""


class SessionMiddleware:
    """One session for each request, with the same content as in `hh_jupyter.runtimes.asgi`.

    Args:
        app: the application.
        tracer, exclude, may_link: as for ASGI.
        inputs: gets the WSGI environment and returns more inputs of the session.
        route: gets the WSGI environment and returns the route template or None.

    Raises:
        SettingTypeError: an argument has the wrong type.
    """

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        tracer: HoneyHiveTracer | None = None,
        exclude: Iterable[str] = (),
        *,
        may_link: MayLink = False,
        inputs: Inputs | None = None,
        route: Callable[[Environ], str | None] | None = None,
    ) -> None:
        self.app, self._route = app, route
        self._sessions = RequestSessionFactory(
            "SessionMiddleware", tracer=tracer, exclude=exclude, may_link=may_link, inputs=inputs
        )

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request."""
        path = environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8", "replace")  # PEP 3333.
        session = self._sessions.start(self._request(environ, path)) if self._sessions.is_traced(path) else None
        if session is None:
            return self.app(environ, start_response)
        environ[SESSION] = session
        response = _Response(session)
        with session.active():
            try:
                body = self.app(environ, response.wrap_start(start_response))
            except BaseException as error:
                response.fail(error)
                raise
        return response.wrap_body(body)

    def _request(self, environ: Environ, path: str) -> IncomingRequest:
        method = environ.get("REQUEST_METHOD", "")
        route = self._route(environ) if self._route is not None else None
        return IncomingRequest(
            f"{method} {route or path}", {"method": method, "path": path}, lambda: _headers(environ), environ
        )


def _headers(environ: Mapping[str, Any]) -> dict[str, str]:
    found = ((name[5:], value) for name, value in environ.items() if name.startswith("HTTP_"))
    return {name.replace("_", "-").lower(): str(value) for name, value in found}


class _Response:
    """The response of the application, until its last part has been read."""

    def __init__(self, session: RequestSession) -> None:
        self._session = session
        self._status: int | None = None

    def wrap_start(self, start_response: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap `start_response` to add the session header."""

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            self._status = int(status.split(" ", 1)[0])
            if all(name.lower() != HEADER.lower() for name, _ in headers):
                headers = [*headers, (HEADER, self._session.id)]
            return start_response(status, headers, *more)

        return start

    def fail(self, error: BaseException) -> None:
        """Finish the session after an exception. Before a response, servers respond with 500."""
        self._session.finish(500 if self._status is None else self._status, error)

    def wrap_body(self, body: Iterable[bytes]) -> _Body:
        """Wrap the body, so that each part is produced in the session."""
        return _Body(body, self._session, self)

    def complete(self, *, read: bool) -> None:
        """Finish the session after the server closed the body. If it was not read, the client has disconnected."""
        self._session.finish(self._status, disconnected=None if read else True)


class _Body:
    """An iterator with `close`, as WSGI requires."""

    def __init__(self, body: Iterable[bytes], session: RequestSession, response: _Response) -> None:
        self._body, self._session, self._response = body, session, response
        self._parts: Iterator[bytes] | None = None
        self._read = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with self._session.active():
            try:
                if self._parts is None:
                    self._parts = iter(self._body)
                return next(self._parts)
            except StopIteration:
                self._read = True
                raise
            except BaseException as error:
                self._response.fail(error)
                raise

    def close(self) -> None:
        """Close the body and finish the session. The server always calls this once."""
        with self._session.active():
            try:
                close = getattr(self._body, "close", None)
                if close is not None:
                    close()
            except BaseException as error:
                self._response.fail(error)
                raise
        self._response.complete(read=self._read)
