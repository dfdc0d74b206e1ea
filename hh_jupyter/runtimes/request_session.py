"""One request or invocation as one session: what the adapters of all frameworks share."""

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
from hh_jupyter.delivery.sealing.stamp import Session
from hh_jupyter.tracing.api import current_tracer
from hh_jupyter.tracing.context import Scope, with_session_baggage, with_tracer
from hh_jupyter.tracing.propagation import extract
from hh_jupyter.tracing.tracer import HoneyHiveTracer
from hh_jupyter.tracing.validation import is_given, refuse, tracer_or_none
from hh_jupyter.values import text_of, type_name

logger = logging.getLogger(__name__)

HEADER: Final = "X-Session-ID"
"""Tells the caller the session; a caller that may link sends it back."""

MayLink = bool | Callable[[Mapping[str, str]], object]
Inputs = Callable[[Any], Mapping[str, Any]]


class Request(NamedTuple):
    """What an adapter knows of a request at its beginning.

    Attributes:
        name: of the session: method and route.
        inputs: of the session: method and path. Never headers or bodies.
        headers: names in lower case; called only where the caller may link.
        native: the framework's own object, for `inputs=`.
        linked: id of a session to continue, from a trusted place.
    """

    name: str
    inputs: Mapping[str, Any]
    headers: Callable[[], Mapping[str, str]]
    native: Any
    linked: str | None = None


class RequestSessions:
    """Begins sessions by what the user told the adapter.

    Args:
        called: name of the adapter, for messages.
        tracer: default: the current tracer, looked up at each request. Without one, requests run untraced.
        exclude: paths without a session, each with everything below it.
        may_link: whether a caller's `X-Session-ID`, `traceparent` and `baggage` are followed: True, or a check that
            is given the request's headers, names in lower case. Who may link can add to any session whose id it knows.
        inputs: more inputs of the session, from the framework's request.

    Raises:
        SettingTypeError: one of them has the wrong type.
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
            refuse(called, "exclude", exclude, "a list of paths", 'Such as exclude=["/health", "/static"].')
        if not isinstance(may_link, bool) and not callable(may_link):
            refuse(called, "may_link", may_link, "True, False or a function", "It is given the request's headers.")
        if inputs is not None and not callable(inputs):
            refuse(called, "inputs", inputs, "a function", "It is given the request and returns a dict.")
        self._called = called
        self._tracer = tracer_or_none(called, "tracer", tracer)
        self._exclude = tuple(path.rstrip("/") for path in paths)
        self._may_link, self._inputs = may_link, inputs

    def wants(self, path: str) -> bool:
        """Whether a request of this path gets a session."""
        if any(path == excluded or path.startswith(f"{excluded}/") for excluded in self._exclude):
            return False
        tracer = self._tracer or current_tracer()
        return tracer is not None and tracer.enabled

    def begin(self, request: Request) -> RequestSession | None:
        """The session of a request, not yet entered; None where nothing is traced."""
        tracer = self._tracer or current_tracer()
        if tracer is None or not tracer.enabled:
            return None
        context, linked, carried = otel_context.get_current(), request.linked, None
        if self._allows(request):
            headers = request.headers()
            context = extract(headers, called=self._called)
            linked = linked or headers.get(HEADER.lower())
            # Of this request only: a session that was in force where the server started is nobody's wish.
            carried = None if linked else _in_baggage(extract(headers, Context(), self._called))
        linked = linked or carried
        link = is_given(linked)
        session = tracer.new_session(
            request.name,
            session_id=linked if link else None,
            inputs={**request.inputs, **self._more_inputs(request.native)} or None,
            register="never" if link else "now",
        )
        tracer.processor.move_request_to(session)
        if carried is None:
            context = with_session_baggage(session, tracer.sessions, context)
        else:  # With the caller's project and source.
            context = baggage.set_baggage(keys.BAGGAGE_SESSION_ID, session.id, context)
        return RequestSession(tracer, session, with_tracer(context, tracer))

    def flush(self) -> None:
        """Deliver what there is, within the time for the end of a program: this is one."""
        tracer = self._tracer or current_tracer()
        if tracer is not None:
            tracer.force_flush(tracer.settings.exit_flush_seconds * 1000)

    def _allows(self, request: Request) -> bool:
        if isinstance(self._may_link, bool):
            return self._may_link
        try:
            return bool(self._may_link(request.headers()))
        except Exception:  # boundary: the user's check; without its word the caller may not.
            logger.warning("%s: may_link failed; the request is not linked", self._called, exc_info=True)
            return False

    def _more_inputs(self, native: Any) -> Mapping[str, Any]:
        if self._inputs is None:
            return {}
        try:
            return dict(self._inputs(native))
        except Exception:  # boundary: the user's function; the request goes on without what it would have told.
            logger.warning("%s: inputs failed; the session has method and path only", self._called, exc_info=True)
            return {}


def _in_baggage(context: Context) -> str | None:
    found = baggage.get_baggage(keys.BAGGAGE_SESSION_ID, context)
    return None if found is None else text_of(found)


class RequestSession:
    """The session of one request, for as long as anything of the request runs.

    Attributes:
        id: of the session.
    """

    def __init__(self, tracer: HoneyHiveTracer, session: Session, context: Context) -> None:
        self._tracer, self.id, self._context = tracer, session.id, context
        self._began = time.perf_counter()
        self._finished = False
        self._error: BaseException | None = None

    @property
    def waits(self) -> bool:
        """Whether `finish` waits for the backend: in immediate mode. Not on the thread of an event loop, then."""
        return self._tracer.settings.disable_batch

    @contextmanager
    def active(self) -> Iterator[None]:
        """Be in the session for one block; what the block changes in the context is there in the next one."""
        scope = Scope()
        scope.attach(otel_context.get_current(), self._context)
        try:
            yield
        finally:
            self._context = otel_context.get_current()
            scope.exit()

    def note(self, error: BaseException) -> None:
        """An exception that the framework turns into a response: told when the session is finished."""
        self._error = error

    def finish(self, status: int | None = None, error: BaseException | None = None, **outputs: Any) -> None:
        """Put status, duration in milliseconds, and what went wrong onto the session. Once; an error also later."""
        fields: dict[str, Any] = {}
        if not self._finished:
            told = {"status": status, "duration_ms": round((time.perf_counter() - self._began) * 1000, 3), **outputs}
            fields["outputs"] = {name: value for name, value in told.items() if value is not None}
            self._finished = True
        error, self._error = error or self._error, None
        if error is not None:
            fields["error"] = f"{type_name(type(error))}: {text_of(error)}"
        if fields:
            self._tracer.update_event(self.id, fields)

    def flush(self, most_seconds: float) -> None:
        """Deliver what there is, within the tracer's time for the end of a program, or less."""
        self._tracer.force_flush(min(most_seconds, self._tracer.settings.exit_flush_seconds) * 1000)
