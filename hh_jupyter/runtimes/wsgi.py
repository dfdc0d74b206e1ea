"""A session for each request of a WSGI application, for as long as its response is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from hh_jupyter.runtimes.request_session import HEADER, Inputs, MayLink, Request, RequestSession, RequestSessions
from hh_jupyter.tracing.tracer import HoneyHiveTracer

__all__ = ["SessionMiddleware"]

Environ = dict[str, Any]
SESSION: Final = "hh_jupyter.session"
"""Where the request's session stands in the WSGI environment."""


class SessionMiddleware:
    """One session for each request. Name, inputs, outputs and header as `hh_jupyter.runtimes.asgi` has them.

    Args:
        app: the application.
        tracer, exclude, may_link: as there.
        inputs: is given the WSGI environment, returns more inputs of the session.
        route: is given the WSGI environment, returns the route's template or None.

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
        self._sessions = RequestSessions(
            "SessionMiddleware", tracer=tracer, exclude=exclude, may_link=may_link, inputs=inputs
        )

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request."""
        path = environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8", "replace")  # PEP 3333.
        session = self._sessions.begin(self._request(environ, path)) if self._sessions.wants(path) else None
        if session is None:
            return self.app(environ, start_response)
        environ[SESSION] = session
        response = _Response(session)
        with session.active():
            try:
                body = self.app(environ, response.starting(start_response))
            except BaseException as error:
                response.fail(error)
                raise
        return response.reading(body)

    def _request(self, environ: Environ, path: str) -> Request:
        method = environ.get("REQUEST_METHOD", "")
        route = self._route(environ) if self._route is not None else None
        return Request(
            f"{method} {route or path}", {"method": method, "path": path}, lambda: _headers(environ), environ
        )


def _headers(environ: Mapping[str, Any]) -> dict[str, str]:
    found = ((name[5:], value) for name, value in environ.items() if name.startswith("HTTP_"))
    return {name.replace("_", "-").lower(): str(value) for name, value in found}


class _Response:
    """What the application answers, until its last part has been read."""

    def __init__(self, session: RequestSession) -> None:
        self._session = session
        self._status: int | None = None

    def starting(self, start_response: Callable[..., Any]) -> Callable[..., Any]:
        """`start_response` with one more header."""

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            self._status = int(status.split(" ", 1)[0])
            if all(name.lower() != HEADER.lower() for name, _ in headers):
                headers = [*headers, (HEADER, self._session.id)]
            return start_response(status, headers, *more)

        return start

    def fail(self, error: BaseException) -> None:
        """An exception leaves the application; servers answer 500 to one before a response."""
        self._session.finish(500 if self._status is None else self._status, error)

    def reading(self, body: Iterable[bytes]) -> _Body:
        """The body, each part made inside the session."""
        return _Body(body, self._session, self)

    def complete(self, *, read: bool) -> None:
        """The server has closed the body, after its last part or before it: the client is gone."""
        self._session.finish(self._status, disconnected=None if read else True)


class _Body:
    """An iterable with `close`, as WSGI wants it."""

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
        """Called by the server in any case, once."""
        with self._session.active():
            try:
                close = getattr(self._body, "close", None)
                if close is not None:
                    close()
            except BaseException as error:
                self._response.fail(error)
                raise
        self._response.complete(read=self._read)
