"""OTLP JSON documents, as programs in any language send them."""

from __future__ import annotations

import json
from typing import Any


def span(name: str, number: int = 1, *, trace: int = 1, parent: int = 0, **attributes: str) -> dict[str, Any]:
    """A span of 1 ms; names of attributes have double underscores for dots."""
    start = 10**18 + number % 10**6  # In the order of the numbers, unless they are the ids of real spans.
    return {
        "traceId": f"{trace:032x}",
        "spanId": f"{number:016x}",
        "parentSpanId": f"{parent:016x}" if parent else "",
        "name": name,
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + 1_000_000),
        "attributes": [
            {"key": key.replace("__", "."), "value": {"stringValue": value}} for key, value in attributes.items()
        ],
    }


def document(*spans: dict[str, Any], service: str = "shop") -> bytes:
    """A request with these spans."""
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}).encode()
