"""The module-level functions that act on a tracer given or found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import Span

from hh_jupyter import attributes as keys
from hh_jupyter.tracing import propagation
from hh_jupyter.tracing.default import current_tracer, get_tracer
from hh_jupyter.tracing.enrichment import span_attributes
from hh_jupyter.tracing.session import session_uuid
from hh_jupyter.tracing.spans import SpanBlock
from hh_jupyter.tracing.tracer import HoneyHiveTracer


def enrich_session(
    session_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    tracer: HoneyHiveTracer | None = None,
    **fields: Any,
) -> None:
    """Add fields to a session; the same fields as `HoneyHiveTracer.enrich_session`."""
    found = tracer or current_tracer()
    if found is not None:
        found.enrich_session(metadata, session_id=session_id, **fields)


def flush(tracer: HoneyHiveTracer | None = None, timeout_millis: float = 30_000) -> bool:
    """`HoneyHiveTracer.force_flush` of a tracer, default: the current one. True if there is none."""
    found = tracer or current_tracer()
    return found is None or found.force_flush(timeout_millis)


def inject_context_into_carrier(carrier: MutableMapping[str, str], tracer: HoneyHiveTracer | None = None) -> None:
    """Write the trace and its session into outgoing headers."""
    propagation.inject(tracer or get_tracer(), carrier)


def extract_context_from_carrier(carrier: Mapping[str, Any], tracer: HoneyHiveTracer | None = None) -> Context:
    """A context from incoming headers."""
    return propagation.extract(carrier)


@contextmanager
def enrich_span_context(
    event_name: str,
    *,
    attributes: Mapping[str, Any] | None = None,
    session_id: str | None = None,
    project: str | None = None,
    source: str | None = None,
    error: Any = None,
    event_id: str | None = None,
    tracer_instance: HoneyHiveTracer | None = None,
    **namespaces: Any,
) -> Iterator[Span]:
    """A span that is enriched from its start; session, project and source move it and what runs inside it.

    Args:
        attributes: written under their own names.
        namespaces: inputs, outputs, metadata, metrics, feedback, config, user_properties.
    """
    tracer = tracer_instance or get_tracer()
    values = {**(attributes or {}), **span_attributes(namespaces, error=error, event_id=event_id)}
    moves = {
        keys.BAGGAGE_SESSION_ID: session_uuid(session_id)[0] if session_id else None,
        keys.BAGGAGE_PROJECT: project,
        keys.BAGGAGE_SOURCE: source,
    }
    before = context = otel_context.get_current()
    for key, value in moves.items():
        context = baggage.set_baggage(key, value, context) if value else context
    otel_context.attach(context)
    try:
        with SpanBlock(tracer, event_name, attributes=values) as span:
            yield span
    finally:
        otel_context.attach(before)
