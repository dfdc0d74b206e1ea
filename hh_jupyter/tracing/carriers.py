"""Headers in and out of whatever carries them: dicts in any case, lists of pairs (ASGI, gRPC), WSGI environments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from hh_jupyter.tracing.arguments import tell

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
        tell(called, "carrier", carrier, "a dict of headers, or a list of pairs", "A new trace begins.")
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
        tell(called, "carrier", carrier, "a dict that takes headers", "The next service begins a new trace.")
