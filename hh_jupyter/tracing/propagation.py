"""The trace and its session, into the headers of a request and out of them again (W3C trace context and baggage)."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry.context import Context

from hh_jupyter import attributes as keys
from hh_jupyter.tracing.arguments import is_given, tracer_or_none
from hh_jupyter.tracing.carriers import read_headers, write_headers
from hh_jupyter.tracing.default import get_tracer
from hh_jupyter.tracing.scope import with_tracer
from hh_jupyter.tracing.session import Scope, session_uuid
from hh_jupyter.tracing.session_baggage import SESSION_KEYS, entries_for

if TYPE_CHECKING:
    from opentelemetry.propagators.textmap import TextMapPropagator

    from hh_jupyter.tracing.tracer import HoneyHiveTracer

SPELLINGS: Final = ("honeyhive_", "honeyhive.")
"""Prefixes under which services send session, project and source beside the plain names."""


def inject(tracer: HoneyHiveTracer, carrier: MutableMapping[str, str], called: str = "inject_context") -> None:
    """Write traceparent and baggage; the session, project and source in force go along, whoever set them."""
    context = otel_context.get_current()
    seen, own = entries_for(tracer.sessions, context), tracer.session
    for key, mine in zip(SESSION_KEYS, (tracer.sessions.current_id(), own.project, own.source), strict=True):
        value = seen.get(key) or mine
        context = baggage.set_baggage(key, value, context) if value else baggage.remove_baggage(key, context)
    context = baggage.remove_baggage(keys.BAGGAGE_FOREIGN, context)
    headers: dict[str, str] = {}
    for form in _forms():
        form.inject(headers, context)
    write_headers(called, carrier, headers)


def extract(carrier: Mapping[str, Any], context: Context | None = None, called: str = "extract_context") -> Context:
    """A context from headers in any case; broken headers count as absent.

    Args:
        carrier: header name to text, or to a list of texts; also a list of pairs, a WSGI environment, or None.
        context: to start from; default: the current one.
        called: the call to name when it carries no headers at all.
    """
    headers = read_headers(called, carrier)
    context = otel_context.get_current() if context is None else context
    if not headers:
        return context
    found = context
    for form in _forms():
        found = form.extract(headers, found)
    for name, value in baggage.get_all(found).items():
        for prefix in SPELLINGS:
            plain = name.removeprefix(prefix)
            if plain != name and plain in SESSION_KEYS:
                found = baggage.set_baggage(plain, value, baggage.remove_baggage(name, found))
    return baggage.remove_baggage(keys.BAGGAGE_FOREIGN, found)


@functools.cache
def _forms() -> tuple[TextMapPropagator, ...]:
    """What the headers are written in; imported with the first ones, since many programs talk to no service."""
    from opentelemetry.baggage.propagation import W3CBaggagePropagator
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator(), W3CBaggagePropagator()


@contextmanager
def with_distributed_trace_context(
    carrier: Mapping[str, Any], tracer_instance: HoneyHiveTracer | None = None, *, session_id: str | None = None
) -> Iterator[Context]:
    """Continue the caller's trace and session for one block; the context of before comes back afterwards.

    Args:
        carrier: headers of the incoming request.
        tracer_instance: undecided `@trace` functions inside use it; default: the current tracer.
        session_id: beats the one in the headers.
    """
    called = "with_distributed_trace_context"
    tracer = tracer_or_none(called, "tracer_instance", tracer_instance) or get_tracer()
    context = with_tracer(extract(carrier, called=called), tracer)
    if is_given(session_id):
        context = baggage.set_baggage(keys.BAGGAGE_SESSION_ID, session_uuid(session_id)[0], context)
    scope = Scope()
    scope.attach(otel_context.get_current(), context)
    try:
        yield context
    finally:
        scope.exit()
