"""Inject the trace and its session into request headers and extract them (W3C trace context and baggage)."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry.context import Context

from hh_jupyter import attributes as keys
from hh_jupyter.tracing.context import SESSION_KEYS, TracerLike, visible_baggage
from hh_jupyter.tracing.validation import warn_argument_once

if TYPE_CHECKING:
    from opentelemetry.propagators.textmap import TextMapPropagator

_HEADERS: Final = ("traceparent", "tracestate", "baggage")

_LIST_HEADERS: Final = frozenset({"tracestate", "baggage"})
"""Headers that may be repeated, which is the same as one list (W3C). A second traceparent is ignored."""

_WSGI_PREFIX: Final = "HTTP_"

SESSION_PREFIXES: Final = ("honeyhive_", "honeyhive.")
"""Prefixes under which some services send session, project and source, besides the plain names."""


def inject(tracer: TracerLike, carrier: MutableMapping[str, str], called: str = "inject_context") -> None:
    """Write traceparent and baggage, including the current session, project and source."""
    context = otel_context.get_current()
    entries, own = visible_baggage(tracer.sessions, context), tracer.session
    for key, default in zip(SESSION_KEYS, (tracer.sessions.current_id(), own.project, own.source), strict=True):
        value = entries.get(key) or default
        context = baggage.set_baggage(key, value, context) if value else baggage.remove_baggage(key, context)
    context = baggage.remove_baggage(keys.BAGGAGE_FOREIGN, context)
    headers: dict[str, str] = {}
    for propagator in _propagators():
        propagator.inject(headers, context)
    write_headers(called, carrier, headers)


def extract(carrier: Mapping[str, Any], context: Context | None = None, called: str = "extract_context") -> Context:
    """A context from headers; names in any case, malformed headers are ignored.

    Args:
        carrier: as for `read_headers`.
        context: the context to extend; default: the current one.
        called: the call, for the warning.
    """
    headers = read_headers(called, carrier)
    context = otel_context.get_current() if context is None else context
    if not headers:
        return context
    for propagator in _propagators():
        context = propagator.extract(headers, context)
    for name, value in baggage.get_all(context).items():
        for prefix in SESSION_PREFIXES:
            plain = name.removeprefix(prefix)
            if plain != name and plain in SESSION_KEYS:
                context = baggage.set_baggage(plain, value, baggage.remove_baggage(name, context))
    return baggage.remove_baggage(keys.BAGGAGE_FOREIGN, context)


@functools.cache
def _propagators() -> tuple[TextMapPropagator, ...]:
    """The W3C propagators; imported on first use, since many programs call no other service."""
    from opentelemetry.baggage.propagation import W3CBaggagePropagator
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator(), W3CBaggagePropagator()


def read_headers(called: str, carrier: Any) -> dict[str, str]:
    """The trace and baggage headers, by lower-case name. Logs a warning and returns none if `carrier` is not readable.

    Args:
        called: the call, for the warning.
        carrier: a mapping from name to text, bytes or a list of these; a list of pairs (ASGI, gRPC); a WSGI
            environment; or None.
    """
    lines: dict[str, list[str]] = {}
    if carrier is None:
        return {}
    try:
        for name, value in _pairs(carrier):
            if name in _HEADERS:
                lines.setdefault(name, []).extend(_texts(value))
    except Exception:  # boundary: a framework's header object may raise anything; a new trace starts here.
        warn_argument_once(called, "carrier", carrier, "a dict of headers, or a list of pairs", "Starting a new trace.")
        return {}
    return {name: ",".join(found) if name in _LIST_HEADERS else found[0] for name, found in lines.items() if found}


def _pairs(carrier: Any) -> Iterator[tuple[str, Any]]:
    items = carrier.items() if hasattr(carrier, "items") else carrier
    for name, value in items:
        text = _text(name)
        if text.startswith(_WSGI_PREFIX):  # WSGI: HTTP_TRACEPARENT
            text = text.removeprefix(_WSGI_PREFIX).replace("_", "-")
        yield text.lower(), value


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list | tuple) else [value]
    return [_text(item) for item in values if isinstance(item, str | bytes)]


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def write_headers(called: str, carrier: Any, headers: Mapping[str, str]) -> None:
    """Write headers to a dict, or append them to a list of pairs, as bytes if its pairs are bytes (ASGI)."""
    try:
        if isinstance(carrier, list):
            as_bytes = bool(carrier) and isinstance(carrier[0][0], bytes)
            pairs = [(name.encode(), value.encode()) if as_bytes else (name, value) for name, value in headers.items()]
            carrier.extend(pairs)
            return
        for name, value in headers.items():
            carrier[name] = value
    except Exception:  # boundary: a framework's header object may raise anything; ours are not sent.
        warn_argument_once(
            called, "carrier", carrier, "a dict that takes headers", "The next service will start a new trace."
        )
