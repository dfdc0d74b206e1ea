"""The trace and its session, into the headers of a request and out of them again (W3C trace context and baggage)."""

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


# Headers in and out of whatever carries them: dicts in any case, lists of pairs (ASGI, gRPC), WSGI environments.

READ: Final = ("traceparent", "tracestate", "baggage")
"""The headers that matter here; others are not looked at."""

_JOINED: Final = frozenset({"tracestate", "baggage"})
"""May come in several lines, which are then one list (W3C). Of several traceparents the first is read."""

_WSGI: Final = "HTTP_"


def read_headers(called: str, carrier: Any) -> dict[str, str]:
    """Trace and baggage headers by their names in lower case; nothing, after a warning, from what carries none.

    Args:
        called: the call to name in the warning.
        carrier: name to text, bytes, or a list of these; or pairs; or a WSGI environment. None has no headers.
    """
    lines: dict[str, list[str]] = {}
    if carrier is None:
        return {}
    try:
        for name, value in _pairs(carrier):
            if name in READ:
                lines.setdefault(name, []).extend(_texts(value))
    except Exception:  # boundary: the headers of somebody's framework; without them the trace begins here.
        warn_argument_once(called, "carrier", carrier, "a dict of headers, or a list of pairs", "A new trace begins.")
        return {}
    return {name: ",".join(found) if name in _JOINED else found[0] for name, found in lines.items() if found}


def _pairs(carrier: Any) -> Iterator[tuple[str, Any]]:
    items = carrier.items() if hasattr(carrier, "items") else carrier
    for name, value in items:
        text = _text(name)
        if text.startswith(_WSGI):  # A WSGI environment spells them HTTP_TRACEPARENT.
            text = text.removeprefix(_WSGI).replace("_", "-")
        yield text.lower(), value


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list | tuple) else [value]
    return [_text(item) for item in values if isinstance(item, str | bytes)]


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def write_headers(called: str, carrier: Any, headers: Mapping[str, str]) -> None:
    """Put headers into a dict, or append them to a list of pairs, as bytes if its pairs are bytes (ASGI)."""
    try:
        if isinstance(carrier, list):
            as_bytes = bool(carrier) and isinstance(carrier[0][0], bytes)
            pairs = [(name.encode(), value.encode()) if as_bytes else (name, value) for name, value in headers.items()]
            carrier.extend(pairs)
            return
        for name, value in headers.items():
            carrier[name] = value
    except Exception:  # boundary: the headers of somebody's framework; the request goes without ours.
        warn_argument_once(
            called, "carrier", carrier, "a dict that takes headers", "The next service begins a new trace."
        )


SPELLINGS: Final = ("honeyhive_", "honeyhive.")
"""Prefixes under which services send session, project and source beside the plain names."""


def inject(tracer: TracerLike, carrier: MutableMapping[str, str], called: str = "inject_context") -> None:
    """Write traceparent and baggage; the session, project and source in force go along, whoever set them."""
    context = otel_context.get_current()
    seen, own = visible_baggage(tracer.sessions, context), tracer.session
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
