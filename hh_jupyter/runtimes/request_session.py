"""A session for each request or invocation: the base of all web and Lambda integrations."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry.context import Context

from hh_jupyter import attributes as keys
from hh_jupyter.export.model import Session
from hh_jupyter.tracing.api import current_tracer
from hh_jupyter.tracing.context import ContextScope, with_session_baggage, with_tracer
from hh_jupyter.tracing.propagation import extract
from hh_jupyter.tracing.tracer import HoneyHiveTracer
from hh_jupyter.tracing.validation import is_given, raise_argument_error, tracer_or_none
from hh_jupyter.values import text_of, type_name

logger = logging.getLogger(__name__)

HEADER: Final = "X-Session-ID"
"""Response header with the session id. A caller that may link sends it back as a request header."""

MayLink = bool | Callable[[Mapping[str, str]], object]
Inputs = Callable[[Any], Mapping[str, Any]]


class IncomingRequest(NamedTuple):
    """A request, as an integration passes it on.

    Attributes:
        name: session name: method and route.
        inputs: session inputs: method and path. Never headers or bodies.
        headers: returns the headers with lower-case names; called only if `may_link` is set.
        native: the framework's request object, passed to the `inputs` function.
        linked: id of a session to continue, from a trusted source.
    """

    name: str
    inputs: Mapping[str, Any]
    headers: Callable[[], Mapping[str, str]]
    native: Any
    linked: str | None = None


class RequestSessionFactory:
    """Starts a session for each request, as configured by the user.

    Args:
        called: name of the integration, for error messages.
        tracer: default: the current tracer, looked up for each request. Without one, requests are not traced.
        exclude: paths without a session, including all paths below them.
        may_link: whether a caller's `X-Session-ID`, `traceparent` and `baggage` headers are used: True, or a function
            of the request headers (lower-case names). A caller that may link can add to any session whose id it knows.
        inputs: returns more inputs of the session from the framework's request.

    Raises:
        SettingTypeError: an argument has the wrong type.
    """

    def __init__(
        self,
        called: str,
        *,
        tracer: HoneyHiveTracer | None = None,
        exclude: Iterable[str] = (),
        may_link: MayLink = False,
        inputs: Inputs | None = None,
    ) -> None:
        paths = () if isinstance(exclude, str) else tuple(exclude)
        if isinstance(exclude, str) or not all(isinstance(path, str) for path in paths):
            raise_argument_error(
                called, "exclude", exclude, "a list of paths", 'Such as exclude=["/health", "/static"].'
            )
        if not isinstance(may_link, bool) and not callable(may_link):
            raise_argument_error(
                called, "may_link", may_link, "True, False or a function", "It gets the request's headers."
            )
        if inputs is not None and not callable(inputs):
            raise_argument_error(called, "inputs", inputs, "a function", "It gets the request and returns a dict.")
        self._called = called
        self._tracer = tracer_or_none(called, "tracer", tracer)
        self._exclude = tuple(path.rstrip("/") for path in paths)
        self._may_link, self._inputs = may_link, inputs

    def is_traced(self, path: str) -> bool:
        """Whether requests to this path get a session."""
        if any(path == excluded or path.startswith(f"{excluded}/") for excluded in self._exclude):
            return False
        tracer = self._tracer or current_tracer()
        return tracer is not None and tracer.enabled

    def start(self, request: IncomingRequest) -> RequestSession | None:
        """Start the session of a request without making it current. Returns None without an enabled tracer."""
        tracer = self._tracer or current_tracer()
        if tracer is None or not tracer.enabled:
            return None
        context, linked, baggage_session_id = otel_context.get_current(), request.linked, None
        if self._may_follow_caller(request):
            headers = request.headers()
            context = extract(headers, called=self._called)
            linked = linked or headers.get(HEADER.lower())
            # Only from this request: ignore a session that was current where the server was started.
            baggage_session_id = None if linked else _session_id_in_baggage(extract(headers, Context(), self._called))
        linked = linked or baggage_session_id
        link = is_given(linked)
        session = tracer.new_session(
            request.name,
            session_id=linked if link else None,
            inputs={**request.inputs, **self._more_inputs(request.native)} or None,
            register="never" if link else "now",
        )
        tracer.processor.move_request_to(session)
        if baggage_session_id is None:
            context = with_session_baggage(session, tracer.sessions, context)
        else:  # Keeps the caller's project and source.
            context = baggage.set_baggage(keys.BAGGAGE_SESSION_ID, session.id, context)
        return RequestSession(tracer, session, with_tracer(context, tracer))

    def flush(self) -> None:
        """Flush at server shutdown, within `exit_flush_seconds`."""
        tracer = self._tracer or current_tracer()
        if tracer is not None:
            tracer.force_flush(tracer.settings.exit_flush_seconds * 1000)

    def _may_follow_caller(self, request: IncomingRequest) -> bool:
        if isinstance(self._may_link, bool):
            return self._may_link
        try:
            return bool(self._may_link(request.headers()))
        except Exception:  # boundary: the user's function; if it fails, linking is denied.
            logger.warning("%s: may_link failed; the request is not linked", self._called, exc_info=True)
            return False

    def _more_inputs(self, native: Any) -> Mapping[str, Any]:
        if self._inputs is None:
            return {}
        try:
            return dict(self._inputs(native))
        except Exception:  # boundary: the user's function; the request must not fail because of it.
            logger.warning("%s: inputs failed; the session has method and path only", self._called, exc_info=True)
            return {}


def _session_id_in_baggage(context: Context) -> str | None:
    found = baggage.get_baggage(keys.BAGGAGE_SESSION_ID, context)
    return None if found is None else text_of(found)


class RequestSession:
    """The session of one request, until its response is complete.

    Attributes:
        id: session id.
    """

    def __init__(self, tracer: HoneyHiveTracer, session: Session, context: Context) -> None:
        self._tracer, self.id, self._context = tracer, session.id, context
        self._started = time.perf_counter()
        self._finished = False
        self._error: BaseException | None = None

    @property
    def finish_blocks(self) -> bool:
        """Whether `finish` blocks until the backend responds (immediate mode). Then do not call it on an event loop."""
        return self._tracer.settings.disable_batch

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make the session current for a block. Changes of the context are kept for the next block."""
        scope = ContextScope()
        scope.attach(otel_context.get_current(), self._context)
        try:
            yield
        finally:
            self._context = otel_context.get_current()
            scope.exit()

    def set_error(self, error: BaseException) -> None:
        """Note an exception that the framework converts to a response. `finish` puts it on the session."""
        self._error = error

    def finish(self, status: int | None = None, error: BaseException | None = None, **outputs: Any) -> None:
        """Put status, duration in milliseconds and error on the session. Later calls only add an error."""
        fields: dict[str, Any] = {}
        if not self._finished:
            values = {
                "status": status,
                "duration_ms": round((time.perf_counter() - self._started) * 1000, 3),
                **outputs,
            }
            fields["outputs"] = {name: value for name, value in values.items() if value is not None}
            self._finished = True
        error, self._error = error or self._error, None
        if error is not None:
            fields["error"] = f"{type_name(type(error))}: {text_of(error)}"
        if fields:
            self._tracer.update_event(self.id, fields)

    def flush(self, max_seconds: float) -> None:
        """Flush within `max_seconds` and the setting `exit_flush_seconds`."""
        self._tracer.force_flush(min(max_seconds, self._tracer.settings.exit_flush_seconds) * 1000)
