"""A session for each request of an ASGI application: FastAPI, Starlette, Litestar, Quart, Django's ASGI handler.

    app.add_middleware(SessionMiddleware)

Implemented as pure ASGI, so that context variables reach the endpoint, its streams and background tasks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

from hh_jupyter.runtimes.request_session import (
    HEADER,
    IncomingRequest,
    Inputs,
    MayLink,
    RequestSession,
    RequestSessionFactory,
)
from hh_jupyter.threads import call_off_loop
from hh_jupyter.tracing.tracer import HoneyHiveTracer

__all__ = ["SessionMiddleware"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

HEADER_BYTES: Final = HEADER.lower().encode()
DISCONNECT_ERRORS: Final = ("ClientDisconnect", "WebSocketDisconnect")
"""Starlette's exceptions for a client that has disconnected."""

RESPONSE_START_TYPES: Final = ("http.response.start", "websocket.accept")
"""Messages with response headers."""


class SessionMiddleware:
    """One session for each HTTP request, and for each WebSocket connection.

    The session name is method and route; inputs are method and path; outputs are status and `duration_ms`, the time
    until the response was sent. The response has the session id in the header `X-Session-ID`.

    Args:
        app: the application.
        tracer: default: the current tracer, looked up for each request. Without one, requests are not traced.
        exclude: paths without a session, including all paths below them: `["/health"]`.
        may_link: use the caller's `X-Session-ID`, `traceparent` and `baggage` headers: True, or a function of the
            headers (lower-case names) that returns whether to use them.
        inputs: gets the ASGI scope and returns more inputs of the session.

    Raises:
        SettingTypeError: an argument has the wrong type.
    """

    def __init__(
        self,
        app: App,
        tracer: HoneyHiveTracer | None = None,
        exclude: Iterable[str] = (),
        *,
        may_link: MayLink = False,
        inputs: Inputs | None = None,
    ) -> None:
        self.app = app
        self._sessions = RequestSessionFactory(
            "SessionMiddleware", tracer=tracer, exclude=exclude, may_link=may_link, inputs=inputs
        )

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request, connection or lifespan."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, self._flushing(send))
            return
        path = scope.get("path", "")
        session = self._sessions.start(_request(scope, path)) if self._sessions.is_traced(path) else None
        if session is None:
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(session, receive, send, websocket=scope["type"] == "websocket")
        with session.active():
            try:
                await self.app(scope, exchange.receive, exchange.send)
            except BaseException as error:
                await exchange.finish(None if _is_disconnect(error) else error)
                raise
            await exchange.finish()

    def _flushing(self, send: Send) -> Send:
        """Wrap `send` to flush before the server is notified that the application has shut down.

        Afterwards it would be too late: uvicorn's workers end by the signal that stopped them.
        """

        async def send_after_flush(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown."):
                await call_off_loop(self._sessions.flush)
            await send(message)

        return send_after_flush


class _Exchange:
    """Observes the messages of one request and adds the session header."""

    def __init__(self, session: RequestSession, receive: Receive, send: Send, *, websocket: bool) -> None:
        self._session, self._receive, self._send, self._websocket = session, receive, send, websocket
        self._status: int | None = None
        self._complete = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            await self._close(message.get("code"))
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind in RESPONSE_START_TYPES:
            self._status = message.get("status", self._status)
            headers = list(message.get("headers") or ())
            if all(bytes(name).lower() != HEADER_BYTES for name, _ in headers):
                message = {**message, "headers": [*headers, (HEADER_BYTES, self._session.id.encode())]}
        await self._send(message)
        if kind == "http.response.body" and not message.get("more_body", False):
            self._complete = True
            await self._finish(status=self._status)
        elif kind == "websocket.close":
            await self._close(message.get("code", 1000))

    async def _close(self, code: int | None) -> None:
        if not self._complete:
            self._complete = True
            await self._finish(code=code)

    async def finish(self, error: BaseException | None = None) -> None:
        """Finish the session after the application has returned, raised, or was cancelled."""
        if error is not None:  # The status that servers send for an exception before a response.
            code = {"code": 1011} if self._websocket else {"status": 500 if self._status is None else self._status}
            await self._finish(**code, error=error)
        elif not self._complete:
            await self._finish(status=self._status, disconnected=True)

    async def _finish(self, **what: Any) -> None:
        if self._session.finish_blocks:
            await call_off_loop(self._session.finish, **what)
        else:
            self._session.finish(**what)


def _is_disconnect(error: BaseException) -> bool:
    """Whether the error only means that the client disconnected or the server is stopping."""
    return isinstance(error, asyncio.CancelledError) or type(error).__name__ in DISCONNECT_ERRORS


def _request(scope: Message, path: str) -> IncomingRequest:
    method = scope.get("method", "WEBSOCKET")

    def headers() -> dict[str, str]:
        return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope.get("headers", ())}

    return IncomingRequest(f"{method} {_route(scope) or path}", {"method": method, "path": path}, headers, scope)


def _route(scope: Message) -> str | None:
    """The route template of a Starlette application, matched here since the router runs later; else None."""
    try:
        for route in scope["app"].router.routes:
            match, _ = route.matches(scope)
            if match.value == 2:  # Starlette's Match.FULL, without importing Starlette.
                return str(route.path)
    except Exception:  # boundary: routes of any framework; fall back to the path.
        return None
    return None
