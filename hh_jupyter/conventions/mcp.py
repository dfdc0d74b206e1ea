"""Spans of Model Context Protocol clients and servers: `mcp.*`, with the names of OpenTelemetry or OpenLIT."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from hh_jupyter.conventions import plain
from hh_jupyter.conventions.facts import (
    EventLike,
    SpanContent,
    SpanFacts,
    first_of,
    json_value,
    parsed,
    text,
    tool_result,
)

FAMILY: Final = "mcp"

_METHOD: Final = "mcp.method.name"
_OPENLIT_METHOD: Final = "mcp.method"
MARKER_KEYS: Final = (_METHOD, _OPENLIT_METHOD)
_KINDS: Final = {"tools/call": "tool", "resources/read": "retriever", "prompts/get": "chain"}
_REQUEST = re.compile(r'\{\s*"method"\s*:\s*"([a-zA-Z]{1,30}/[a-zA-Z_/]{1,60})"')
_TOOL: Final = ("gen_ai.tool.name", "mcp.tool.name")
_ARGUMENTS: Final = ("gen_ai.tool.call.arguments", "mcp.tool.arguments", "mcp.params", "mcp.request.payload")
_RESULT: Final = ("gen_ai.tool.call.result", "mcp.tool.result", "mcp.result", "mcp.response.payload")
_NAMED: Final = ("mcp.resource.uri", "gen_ai.prompt.name", "mcp.prompt.name")
_METADATA: Final = {
    "mcp.resource.mime_type": "type",
    "mcp.server.name": "server",
    "mcp.server.version": "server version",
    "mcp.protocol.version": "protocol",
    "mcp.request.id": "request",
    "jsonrpc.request.id": "request",
    "mcp.session.id": "session",
    "mcp.transport.type": "transport",
    "network.transport": "transport",
    "mcp.tool.description": "tool description",
    "gen_ai.tool.description": "tool description",
}


def facts(
    attributes: Mapping[str, Any], events: Sequence[EventLike], start_ns: int, event_type: str
) -> SpanFacts | None:
    """Facts of a span with an MCP method; otherwise None."""
    method = attributes.get(_METHOD) or attributes.get(_OPENLIT_METHOD)
    if method is None:
        return None
    kind = _KINDS.get(str(method).lower(), "other")
    return plain.shared_facts(kind, event_type, FAMILY, text(first_of(attributes, _TOOL)) if kind == "tool" else None)


def kind_of_request(request: Any) -> str | None:
    """The kind of an MCP request given as JSON text; None for other text."""
    found = _REQUEST.match(request) if isinstance(request, str) else None
    return None if found is None else _KINDS.get(found[1].lower(), "other")


def content(attributes: Mapping[str, Any], events: Sequence[EventLike]) -> SpanContent | None:
    """Request and response of an MCP span; None for other spans."""
    if _METHOD not in attributes and _OPENLIT_METHOD not in attributes:
        return None
    arguments = first_of(attributes, _ARGUMENTS)
    return SpanContent(
        input=json_value(arguments) if arguments is not None else first_of(attributes, _NAMED),
        output=tool_result(parsed(first_of(attributes, _RESULT))),
        tool_name=text(first_of(attributes, _TOOL)),
        tool_call_id=text(attributes.get("gen_ai.tool.call.id")),
        metadata={name: attributes[key] for key, name in _METADATA.items() if attributes.get(key)},
    )
