"""A session for each request of a Flask application: `init_app(app)`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from hh_jupyter.runtimes.request_session import Inputs, MayLink, RequestSession
from hh_jupyter.runtimes.wsgi import SESSION, Environ, SessionMiddleware
from hh_jupyter.tracing.tracer import HoneyHiveTracer

if TYPE_CHECKING:
    from flask import Flask


__all__ = ["init_app"]


def init_app(
    app: Flask,
    tracer: HoneyHiveTracer | None = None,
    exclude: Iterable[str] = (),
    *,
    may_link: MayLink = False,
    inputs: Inputs | None = None,
) -> None:
    """Give each request of `app` a session, with the same content as in `hh_jupyter.runtimes.asgi.SessionMiddleware`.

    It starts before the first `before_request` function and ends when the response, streamed or not, has been read.

    Args:
        app: the application. A second call for the same application does nothing.
        tracer, exclude, may_link: as for ASGI.
        inputs: gets the WSGI environment and returns more inputs of the session.

    Raises:
        SettingTypeError: an argument has the wrong type.
    """
    if "hh_jupyter" in app.extensions:
        return

    def route(environ: Environ) -> str | None:
        from werkzeug.exceptions import HTTPException
        from werkzeug.routing import RequestRedirect

        try:
            rule, _ = app.url_map.bind_to_environ(environ).match(return_rule=True)
        except (HTTPException, RequestRedirect):
            return None
        return str(rule.rule)

    def note_error(error: BaseException | None) -> None:
        """Note an exception. Flask responds with 500 itself, so the application does not raise it."""
        from flask import request

        session = request.environ.get(SESSION)
        if error is not None and isinstance(session, RequestSession):
            session.set_error(error)

    middleware: Any = SessionMiddleware(app.wsgi_app, tracer, exclude, may_link=may_link, inputs=inputs, route=route)
    app.extensions["hh_jupyter"] = middleware
    app.wsgi_app = middleware  # type: ignore[method-assign]  # As Flask documents it.
    app.teardown_request(note_error)
