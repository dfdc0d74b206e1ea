"""Spans of OpenLLMetry (Traceloop): `traceloop.*`, and `llm.*` with flattened messages in releases up to 0.40.

Later releases write model spans in OpenTelemetry's names, which `otel_genai` reads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from hh_jupyter.conventions import mcp, otel_genai, plain
from hh_jupyter.conventions.event_type import REQUEST_TYPE, TRACELOOP_KIND
from hh_jupyter.conventions.facts import EventLike, SpanFacts
from hh_jupyter.conventions.openllmetry_content import ENTITY_INPUT, content
from hh_jupyter.conventions.values import MOST_DIGITS, first_of, text

__all__ = ["FAMILY", "content", "facts"]

FAMILY: Final = "openllmetry"
_KINDS: Final = {"workflow": "chain", "task": "chain", "agent": "agent", "tool": "tool"}
_REQUESTS: Final = {"chat": "llm", "completion": "llm", "embedding": "embedding", "rerank": "reranker"}
_ASKED: Final = re.compile(
    rf"gen_ai\.completion\.(\d{{1,{MOST_DIGITS}}})\.(?:tool_calls\.(\d{{1,{MOST_DIGITS}}})|function_call)\.name"
)
"""LiteLLM's own tracing writes a call as `function_call`, the last one only."""

_TOOL_NAME: Final = ("gen_ai.tool.name", "traceloop.entity.name")


def facts(
    attributes: Mapping[str, Any], events: Sequence[EventLike], start_ns: int, event_type: str
) -> SpanFacts | None:
    """The facts of a span with a Traceloop kind or a request type, else None."""
    request = attributes.get(REQUEST_TYPE)
    if request is not None:
        kind = _REQUESTS.get(str(request).lower(), "other")
        found = otel_genai.read(attributes, events, start_ns, kind, event_type, FAMILY, _tools_asked(attributes))
        return replace(found, streamed=True) if _silent_stream(attributes) else found
    said = attributes.get(TRACELOOP_KIND)
    if said is None:
        # Requests of MCP other than of tools have no kind, only what was asked.
        request = mcp.kind_of_request(attributes.get(ENTITY_INPUT))
        return None if request is None else plain.shared(request, event_type, FAMILY)
    # A graph's span is a workflow in one attribute and an agent in the other: the operation says more.
    kind = otel_genai.kind_of(attributes) or _KINDS.get(str(said).lower(), "other")
    if kind == "tool":
        return plain.shared(kind, event_type, FAMILY, text(first_of(attributes, _TOOL_NAME)))
    return otel_genai.read(attributes, events, start_ns, kind, event_type, FAMILY)


def _silent_stream(attributes: Mapping[str, Any]) -> bool:
    """All that 0.40 tells of a stream of Anthropic's: no answer, and 0 tokens."""
    silent = "gen_ai.response.id" not in attributes and "llm.is_streaming" not in attributes
    return silent and attributes.get("llm.usage.total_tokens") == 0


def _tools_asked(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    found: list[tuple[int, int, str]] = []
    for key, value in attributes.items():
        if key.endswith(".name") and (place := _ASKED.fullmatch(key)):
            found.append((int(place[1]), int(place[2] or 0), text(value) or "?"))
    return tuple(name for _, _, name in sorted(found))
