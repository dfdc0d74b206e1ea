"""The trace and its session, into the headers of a request and out of them again (W3C trace context and baggage)."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from hh_jupyter import attributes as keys
from hh_jupyter.tracing.scope import with_tracer
from hh_jupyter.tracing.session import session_uuid

if TYPE_CHECKING:
    from hh_jupyter.tracing.tracer import HoneyHiveTracer

TRACE: Final = TraceContextTextMapPropagator()
BAGGAGE: Final = W3CBaggagePropagator()
SPELLINGS: Final = ("honeyhive_", "honeyhive.")
"""Prefixes under which services send session, project and source beside the plain names."""

SHARED: Final = (keys.BAGGAGE_SESSION_ID, keys.BAGGAGE_PROJECT, keys.BAGGAGE_SOURCE)


def inject(tracer: HoneyHiveTracer, carrier: MutableMapping[str, str]) -> None:
    """Write traceparent and baggage; the session, project and source in force go along, whoever set them."""
    context = otel_context.get_current()
    session = tracer.session
    for key, value in zip(SHARED, (session.id, session.project, session.source), strict=True):
        if value and baggage.get_baggage(key, context) is None:
            context = baggage.set_baggage(key, value, context)
    context = baggage.remove_baggage(keys.BAGGAGE_FOREIGN, context)
    TRACE.inject(carrier, context)
    BAGGAGE.inject(carrier, context)


def extract(carrier: Mapping[str, Any], context: Context | None = None) -> Context:
    """A context from headers in any case; broken headers count as absent.

    Args:
        carrier: header name to text, or to a list of texts.
        context: to start from; default: the current one.
    """
    lowered = {str(name).lower(): value for name, value in carrier.items()}
    found = BAGGAGE.extract(
        lowered, TRACE.extract(lowered, context if context is not None else otel_context.get_current())
    )
    for name, value in baggage.get_all(found).items():
        for prefix in SPELLINGS:
            plain = name.removeprefix(prefix)
            if plain != name and plain in SHARED:
                found = baggage.set_baggage(plain, value, baggage.remove_baggage(name, found))
    for name in SHARED:
        value = baggage.get_baggage(name, found)
        if isinstance(value, str) and "%" in value:
            found = baggage.set_baggage(name, urllib.parse.unquote(value), found)
    return baggage.remove_baggage(keys.BAGGAGE_FOREIGN, found)


@contextmanager
def with_distributed_trace_context(
    carrier: Mapping[str, Any], tracer: HoneyHiveTracer, *, session_id: str | None = None
) -> Iterator[Context]:
    """Continue the caller's trace and session for one block; the context of before comes back afterwards.

    Args:
        carrier: headers of the incoming request.
        tracer: undecided `@trace` functions inside use it.
        session_id: beats the one in the headers.
    """
    before = otel_context.get_current()
    context = with_tracer(extract(carrier), tracer)
    if session_id:
        context = baggage.set_baggage(keys.BAGGAGE_SESSION_ID, session_uuid(session_id)[0], context)
    otel_context.attach(context)
    try:
        yield context
    finally:
        otel_context.attach(before)
