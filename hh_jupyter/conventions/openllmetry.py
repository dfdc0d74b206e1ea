"""Spans of OpenLLMetry (Traceloop): `traceloop.*`, and up to release 0.40 `llm.*` with flattened messages.

Later releases write model calls with OpenTelemetry's names, which `otel_genai` reads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from hh_jupyter.conventions import mcp, otel_genai, plain
from hh_jupyter.conventions.event_type import REQUEST_TYPE, TRACELOOP_KIND
from hh_jupyter.conventions.facts import (
    MAX_INDEX_DIGITS,
    EventLike,
    Message,
    SpanContent,
    SpanFacts,
    ToolCall,
    first_of,
    grouped,
    parsed,
    prefixed,
    text,
    tool_result,
)
from hh_jupyter.conventions.messages import messages_in, tools_offered

__all__ = ["FAMILY", "content", "facts"]

# Content for the detail pane.

ENTITY_INPUT: Final = "traceloop.entity.input"
_ASSOCIATION: Final = "traceloop.association.properties."
_EMPTY_TEXTS: Final = ("", '""')
"""Content beside tool calls; 0.40 writes the JSON of an empty text."""

_OWN: Final = frozenset({"session_id", "user_id", "project", "source", "parent_id"})
_EXTRA_PARAMS: Final = {
    "llm.frequency_penalty": "frequency_penalty",
    "llm.presence_penalty": "presence_penalty",
    "llm.top_k": "top_k",
    "llm.chat.stop_sequences": "stop_sequences",
    "llm.user": "user",
}


def content(attributes: Mapping[str, Any], events: Sequence[EventLike]) -> SpanContent | None:
    """Content of an OpenLLMetry span; None for other spans, including those with association properties only."""
    if TRACELOOP_KIND in attributes or ENTITY_INPUT in attributes:
        return _step(attributes)
    return _request(attributes) if REQUEST_TYPE in attributes else None


def _step(attributes: Mapping[str, Any]) -> SpanContent:
    """Content of a workflow, task, agent or tool."""
    get = attributes.get
    arguments = parsed(first_of(attributes, (ENTITY_INPUT, "gen_ai.tool.call.arguments")))
    result = parsed(first_of(attributes, ("traceloop.entity.output", "gen_ai.tool.call.result")))
    answer = result.get("output") if isinstance(result, Mapping) else None
    kwargs = answer.get("kwargs") if isinstance(answer, Mapping) else None
    tool = get(TRACELOOP_KIND) == "tool"
    return SpanContent(
        input=_unwrapped_arguments(arguments),
        output=_unwrapped_result(result),
        tool_name=text(first_of(attributes, ("gen_ai.tool.name", "traceloop.entity.name"))) if tool else None,
        tool_call_id=text(kwargs.get("tool_call_id")) if isinstance(kwargs, Mapping) else None,
        **_shared(attributes),
    )


def _request(attributes: Mapping[str, Any]) -> SpanContent:
    """Content of a model call of releases up to 0.40, with flattened messages."""
    prompts = grouped(attributes.items(), "gen_ai.prompt")
    answers = grouped(attributes.items(), "gen_ai.completion")
    params = {name: attributes[key] for key, name in _EXTRA_PARAMS.items() if key in attributes}
    params.update(prefixed(attributes, "gen_ai.request."))
    params.pop("model", None)
    is_embedding = attributes.get(REQUEST_TYPE) == "embedding"
    reasons = [str(entry["finish_reason"]) for entry in answers if entry.get("finish_reason")]
    return SpanContent(
        input_messages=() if is_embedding else tuple(found for entry in prompts for found in _messages(entry)),
        output_messages=_responses(answers),
        input=[entry["content"] for entry in prompts if "content" in entry] or None if is_embedding else None,
        params=params,
        tools_offered=tools_offered(grouped(attributes.items(), "llm.request.functions")),
        finish_reason=", ".join(dict.fromkeys(reasons)) or None,
        **_shared(attributes),
    )


def _responses(entries: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """The response messages; reasoning, which 0.40 writes as a message before the response, becomes a part of it."""
    found: list[Message] = []
    reasoning: list[Any] = []
    for entry in entries:
        if entry.get("role") == "thinking":
            reasoning.append({"type": "thinking", "content": entry.get("content")})
            continue
        own = _messages(entry)
        found += [replace(own[0], parts=(*reasoning, *own[0].parts)), *own[1:]]
        reasoning = []
    return (*found, Message("assistant", parts=tuple(reasoning))) if reasoning else tuple(found)


def _messages(fields: Mapping[str, Any]) -> list[Message]:
    """The messages of flattened fields; Anthropic's content is JSON of its parts."""
    content = fields.get("content")
    parts = parsed(content)
    if isinstance(parts, list) and parts and all(isinstance(part, Mapping) and "type" in part for part in parts):
        found = messages_in({"role": fields.get("role"), "content": parts})
    else:
        shown = content if isinstance(content, str) and content not in _EMPTY_TEXTS else None
        call_id, reasoning = text(fields.get("tool_call_id")), first_of(fields, ("reasoning_content", "reasoning"))
        parts = ({"type": "reasoning", "content": reasoning},) if isinstance(reasoning, str) and reasoning else ()
        found = [Message(role=text(fields.get("role")) or "", text=shown, tool_call_id=call_id, parts=parts)]
    entries = grouped(fields.items(), "tool_calls") or [prefixed(fields, "function_call.")]
    calls = tuple(_call(call) for call in entries if call)
    if calls and not found[-1].tool_calls:
        last = found[-1]
        found[-1] = Message(last.role, last.text, calls, last.tool_call_id, last.parts)
    return found


def _call(fields: Mapping[str, Any]) -> ToolCall:
    arguments = parsed(fields.get("arguments"))
    return ToolCall(name=text(fields.get("name")) or "?", arguments=arguments, id=text(fields.get("id")))


def _shared(attributes: Mapping[str, Any]) -> dict[str, Any]:
    properties = prefixed(attributes, _ASSOCIATION)
    return {
        "session_id": text(properties.get("session_id")),
        "user_id": text(first_of(properties, ("user_id",))) or text(attributes.get("llm.user")),
        "metadata": {name: parsed(value) for name, value in properties.items() if name not in _OWN},
    }


def _unwrapped_arguments(value: Any) -> Any:
    """Arguments of a step without their wrapper: {"args", "kwargs"}, {"inputs", ...} or {"input_str", ...}."""
    if not isinstance(value, Mapping):
        return value
    if "inputs" in value:
        return value["inputs"]
    if "input_str" in value:  # A Python literal: {'city': 'Lima'}.
        return parsed(value["input_str"])
    if set(value) == {"args", "kwargs"}:
        if not value["args"]:
            return value["kwargs"]
        if not value["kwargs"]:
            return value["args"][0] if len(value["args"]) == 1 else value["args"]
    return value


def _unwrapped_result(value: Any) -> Any:
    """Result of a step without its wrapper; the content of a serialized message."""
    if isinstance(value, Mapping):
        value = first_of(value, ("output", "outputs")) if {"output", "outputs"} & set(value) else value
    elif isinstance(value, str) and value[:1] == '"':  # The decorators also write text as JSON.
        value = parsed(f"[{value}]")
        value = value[0] if isinstance(value, list) and len(value) == 1 else value
    return tool_result(value)


# Facts for records and totals.

FAMILY: Final = "openllmetry"
_KINDS: Final = {"workflow": "chain", "task": "chain", "agent": "agent", "tool": "tool"}
_REQUESTS: Final = {"chat": "llm", "completion": "llm", "embedding": "embedding", "rerank": "reranker"}
_TOOL_CALL: Final = re.compile(
    rf"gen_ai\.completion\.(\d{{1,{MAX_INDEX_DIGITS}}})\.(?:tool_calls\.(\d{{1,{MAX_INDEX_DIGITS}}})|function_call)\.name"
)
"""LiteLLM's own tracing writes only the last call, as `function_call`."""

_TOOL_NAME: Final = ("gen_ai.tool.name", "traceloop.entity.name")


def facts(
    attributes: Mapping[str, Any], events: Sequence[EventLike], start_ns: int, event_type: str
) -> SpanFacts | None:
    """Facts of a span with a Traceloop kind or a request type; otherwise None."""
    request = attributes.get(REQUEST_TYPE)
    if request is not None:
        kind = _REQUESTS.get(str(request).lower(), "other")
        found = otel_genai.read(attributes, events, start_ns, kind, event_type, FAMILY, _tools_asked(attributes))
        return replace(found, streamed=True) if _is_empty_stream(attributes) else found
    span_kind = attributes.get(TRACELOOP_KIND)
    if span_kind is None:
        # MCP requests other than tool calls have no kind, only an input.
        request = mcp.kind_of_request(attributes.get(ENTITY_INPUT))
        return None if request is None else plain.shared_facts(request, event_type, FAMILY)
    # A graph's span is a workflow by its kind and an agent by its operation, which is more precise.
    kind = otel_genai.kind_of(attributes) or _KINDS.get(str(span_kind).lower(), "other")
    if kind == "tool":
        return plain.shared_facts(kind, event_type, FAMILY, text(first_of(attributes, _TOOL_NAME)))
    return otel_genai.read(attributes, events, start_ns, kind, event_type, FAMILY)


def _is_empty_stream(attributes: Mapping[str, Any]) -> bool:
    """Whether this is a stream of Anthropic in 0.40, which records no response and 0 tokens."""
    without_response = "gen_ai.response.id" not in attributes and "llm.is_streaming" not in attributes
    return without_response and attributes.get("llm.usage.total_tokens") == 0


def _tools_asked(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    found: list[tuple[int, int, str]] = []
    for key, value in attributes.items():
        if key.endswith(".name") and (place := _TOOL_CALL.fullmatch(key)):
            found.append((int(place[1]), int(place[2] or 0), text(value) or "?"))
    return tuple(name for _, _, name in sorted(found))
