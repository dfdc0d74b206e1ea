"""The module-level functions: each uses the tracer passed to it, or the current one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any, cast

from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import Span

from hh_jupyter import attributes as keys
from hh_jupyter.tracing import context as context_module
from hh_jupyter.tracing import propagation
from hh_jupyter.tracing.context import ContextScope, default_lock, with_session_overrides, with_tracer
from hh_jupyter.tracing.sessions import session_uuid
from hh_jupyter.tracing.spans import SpanBlock, span_attributes, start_attributes
from hh_jupyter.tracing.tracer import HoneyHiveTracer
from hh_jupyter.tracing.validation import is_given, safe_isinstance, tracer_or_none
from hh_jupyter.values import as_object, plain, text_of


def current_tracer() -> HoneyHiveTracer | None:
    """The tracer of the current context, else the default tracer; None if there is neither."""
    return cast("HoneyHiveTracer | None", context_module.current_tracer())


def get_default_tracer() -> HoneyHiveTracer | None:
    """The tracer used where neither the call nor the context names one; None if there is none (see `get_tracer`)."""
    return cast("HoneyHiveTracer | None", context_module.default_tracer())


def get_tracer() -> HoneyHiveTracer:
    """The current tracer; creates one from the environment's settings if there is none yet."""
    with default_lock:
        return current_tracer() or HoneyHiveTracer.init()


def enrich_session(
    session_id: str | Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    tracer: HoneyHiveTracer | None = None,
    tracer_instance: HoneyHiveTracer | None = None,
    **fields: Any,
) -> None:
    """Add fields to a session.

    Args:
        session_id: default: the current session. A dict is taken as `metadata`, as in the tracer's own method.
        tracer, tracer_instance: the tracer that sends the update; default: the current tracer.
        fields: the arguments of `HoneyHiveTracer.enrich_session`.
    """
    passed = tracer if tracer is not None else tracer_instance
    found = tracer_or_none("enrich_session", "tracer", passed) or current_tracer()
    if found is None:
        return
    if safe_isinstance(session_id, Mapping):
        found.enrich_session({**as_object(plain(session_id)), **as_object(plain(metadata))}, **fields)
    else:
        found.enrich_session(metadata, session_id=cast("str | None", session_id), **fields)


def flush(tracer_instance: HoneyHiveTracer | None = None, timeout_millis: float = 30_000) -> bool:
    """`HoneyHiveTracer.force_flush` of a tracer (default: the current one); True if there is no tracer."""
    found = tracer_or_none("flush", "tracer_instance", tracer_instance) or current_tracer()
    return found is None or found.force_flush(timeout_millis)


def shutdown_tracer(tracer_instance: HoneyHiveTracer | None = None) -> None:
    """`HoneyHiveTracer.shutdown` of a tracer. Without one it does nothing: other code may share the current tracer."""
    found = tracer_or_none("shutdown_tracer", "tracer_instance", tracer_instance, "Nothing is shut down.")
    if found is not None:
        found.shutdown()


def inject_context_into_carrier(
    carrier: MutableMapping[str, str], tracer_instance: HoneyHiveTracer | None = None
) -> None:
    """Write the trace and its session into outgoing headers."""
    called = "inject_context_into_carrier"
    found = tracer_or_none(called, "tracer_instance", tracer_instance) or get_tracer()
    propagation.inject(found, carrier, called)


def extract_context_from_carrier(carrier: Mapping[str, Any], tracer_instance: HoneyHiveTracer | None = None) -> Context:
    """A context from incoming headers. It is the same for every tracer, so `tracer_instance` is ignored."""
    return propagation.extract(carrier, called="extract_context_from_carrier")


@contextmanager
def enrich_span_context(
    event_name: str,
    *,
    attributes: Mapping[str, Any] | None = None,
    inputs: Any = None,
    outputs: Any = None,
    metadata: Any = None,
    metrics: Any = None,
    feedback: Any = None,
    config: Any = None,
    user_properties: Any = None,
    error: Any = None,
    event_id: str | None = None,
    session_id: str | None = None,
    project: str | None = None,
    source: str | None = None,
    tracer_instance: HoneyHiveTracer | None = None,
) -> Iterator[Span]:
    """A span with fields set from its start. Session, project and source also apply to the spans inside it.

    Args:
        attributes: span attributes, written under their own names.
    """
    tracer = tracer_or_none("enrich_span_context", "tracer_instance", tracer_instance) or get_tracer()
    fields = {
        "inputs": inputs,
        "outputs": outputs,
        "metadata": metadata,
        "metrics": metrics,
        "feedback": feedback,
        "config": config,
        "user_properties": user_properties,
    }
    values = start_attributes(attributes, "enrich_span_context") or {}
    values = {**values, **span_attributes(fields, error=error, event_id=event_id)}
    before = otel_context.get_current()
    scope = ContextScope()
    scope.attach(before, with_session_overrides(before, _session_overrides(session_id, project, source)))
    try:
        with SpanBlock(tracer, event_name, attributes=values) as span:
            yield span
    finally:
        scope.exit()


def _session_overrides(session_id: str | None, project: str | None, source: str | None) -> dict[str, str]:
    """The baggage entries that assign spans to this session, project and source."""
    entries = {
        keys.BAGGAGE_SESSION_ID: session_uuid(session_id)[0] if is_given(session_id) else None,
        keys.BAGGAGE_PROJECT: text_of(project) if is_given(project) else None,
        keys.BAGGAGE_SOURCE: text_of(source) if is_given(source) else None,
    }
    return {key: value for key, value in entries.items() if value}


@contextmanager
def with_distributed_trace_context(
    carrier: Mapping[str, Any], tracer_instance: HoneyHiveTracer | None = None, *, session_id: str | None = None
) -> Iterator[Context]:
    """Continue the caller's trace and session for one block; restores the previous context afterwards.

    Args:
        carrier: headers of the incoming request.
        tracer_instance: the tracer for `@trace` functions inside that name none; default: the current tracer.
        session_id: overrides the one in the headers.
    """
    called = "with_distributed_trace_context"
    tracer = tracer_or_none(called, "tracer_instance", tracer_instance) or get_tracer()
    context = with_tracer(propagation.extract(carrier, called=called), tracer)
    if is_given(session_id):
        context = baggage.set_baggage(keys.BAGGAGE_SESSION_ID, session_uuid(session_id)[0], context)
    scope = ContextScope()
    scope.attach(otel_context.get_current(), context)
    try:
        yield context
    finally:
        scope.exit()
