"""A session for each invocation of an AWS Lambda function, flushed before the process freezes.

@session_handler
def handler(event, context): ...
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar, overload

from hh_jupyter.runtimes.request_session import (
    HEADER,
    IncomingRequest,
    Inputs,
    MayLink,
    RequestSession,
    RequestSessionFactory,
)
from hh_jupyter.tracing.api import current_tracer
from hh_jupyter.tracing.tracer import HoneyHiveTracer
from hh_jupyter.tracing.validation import raise_argument_error

__all__ = ["session_handler"]

Handler = Callable[..., Any]
F = TypeVar("F", bound=Handler)

MARGIN: Final = 0.2
"""Seconds before the invocation's deadline at which the flush ends, so that the function can return."""

_init_lock = threading.Lock()


@overload
def session_handler(handler: F) -> F: ...
@overload
def session_handler(
    *,
    tracer: HoneyHiveTracer | None = None,
    exclude: Iterable[str] = (),
    may_link: MayLink = False,
    inputs: Inputs | None = None,
    session_key: str | None = "session_id",
) -> Callable[[F], F]: ...
def session_handler(
    handler: Any = None,
    *,
    tracer: HoneyHiveTracer | None = None,
    exclude: Iterable[str] = (),
    may_link: MayLink = False,
    inputs: Inputs | None = None,
    session_key: str | None = "session_id",
) -> Any:
    """Give each invocation of a Lambda handler a session, and flush before it returns.

    The session is named after the route of an HTTP event, else after the function. Its outputs are `duration_ms` and,
    for a response with a `statusCode`, `status`; such a response gets the header `X-Session-ID`. Without a tracer, the
    first invocation creates one that sends each span as it ends (`disable_batch`); warm starts reuse it.

    Args:
        handler: the function, if the decorator is used without arguments.
        tracer: default: the current tracer, else one with settings from the environment.
        exclude: paths of HTTP events without a session, including all paths below them.
        may_link: use session and trace in the headers of HTTP events, as in
            `hh_jupyter.runtimes.asgi.SessionMiddleware`.
        inputs: gets the event and returns more inputs of the session.
        session_key: key of the event with the id of a session to continue; None to disable.

    Raises:
        SettingTypeError: an argument has the wrong type.
    """
    if handler is not None and not callable(handler):
        raise_argument_error(
            "session_handler", "handler", handler, "a function", "With arguments: @session_handler(exclude=[...])."
        )
    sessions = RequestSessionFactory(
        "session_handler", tracer=tracer, exclude=exclude, may_link=may_link, inputs=inputs
    )

    def decorate(function: Handler) -> Handler:
        @functools.wraps(function)
        def invoke(event: Any, context: Any, *more: Any) -> Any:
            if tracer is None:
                _make_tracer()
            request = _request(event, context, function, session_key)
            is_traced = sessions.is_traced(request.inputs.get("path", ""))
            session = sessions.start(request) if is_traced else None
            if session is None:
                return function(event, context, *more)
            try:
                return _invoke(session, functools.partial(function, event, context, *more))
            finally:
                session.flush(max(0.0, _seconds_left(context) - MARGIN))

        return invoke

    return decorate if handler is None else decorate(handler)


def _invoke(session: RequestSession, call: Callable[[], Any]) -> Any:
    with session.active():
        try:
            answer = call()
        except BaseException as error:
            session.finish(error=error)
            raise
    is_http = isinstance(answer, dict) and "statusCode" in answer
    session.finish(answer["statusCode"] if is_http else None)
    return _with_id(answer, session.id) if is_http else answer


def _make_tracer() -> None:
    """Create the tracer at the first invocation, to keep the cold start short."""
    with _init_lock:
        if current_tracer() is None:
            HoneyHiveTracer.init(disable_batch=True, skip_backend_session_creation=True)


def _request(event: Any, context: Any, function: Handler, session_key: str | None) -> IncomingRequest:
    fields: Mapping[str, Any] = event if isinstance(event, Mapping) else {}
    linked = fields.get(session_key) if session_key is not None else None
    name, inputs = _http(fields)
    if name is None:
        name = getattr(context, "function_name", None) or getattr(function, "__name__", "handler")

    def headers() -> dict[str, str]:
        return {str(key).lower(): str(value) for key, value in (fields.get("headers") or {}).items()}

    return IncomingRequest(str(name), inputs, headers, event, linked if isinstance(linked, str) else None)


def _http(event: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """Name and inputs of an HTTP event: API Gateway (payload 2.0 and 1.0), function URL or load balancer."""
    http = (event.get("requestContext") or {}).get("http") if isinstance(event.get("requestContext"), Mapping) else None
    if isinstance(http, Mapping):
        method, path, route = http.get("method"), event.get("rawPath") or http.get("path"), event.get("routeKey")
        route = None if route in (None, "$default") else str(route).rpartition(" ")[2]
    else:
        method, path, route = event.get("httpMethod"), event.get("path"), event.get("resource")
    if not method or not isinstance(path, str):
        return None, {}
    return f"{method} {route or path}", {"method": method, "path": path}


def _with_id(answer: dict[str, Any], session_id: str) -> dict[str, Any]:
    headers = answer.get("headers") or {}
    if any(str(name).lower() == HEADER.lower() for name in headers):
        return answer
    return {**answer, "headers": {**headers, HEADER: session_id}}


def _seconds_left(context: Any) -> float:
    remaining = getattr(context, "get_remaining_time_in_millis", None)
    return remaining() / 1000 if callable(remaining) else float("inf")
