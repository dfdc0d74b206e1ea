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
from hh_jupyter.conventions.facts import (
    MOST_DIGITS,
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
    tool_answer,
)
from hh_jupyter.conventions.messages import messages_in

__all__ = ["FAMILY", "content", "facts"]

# Messages, tools, inputs and outputs of OpenLLMetry's spans, for the detail pane.

ENTITY_INPUT: Final = "traceloop.entity.input"
_ASSOCIATION: Final = "traceloop.association.properties."
_EMPTY_TEXTS: Final = ("", '""')
"""0.40 writes the JSON of an empty text beside tool calls."""

_OWN: Final = frozenset({"session_id", "user_id", "project", "source", "parent_id"})
_EXTRA_PARAMS: Final = {
    "llm.frequency_penalty": "frequency_penalty",
    "llm.presence_penalty": "presence_penalty",
    "llm.top_k": "top_k",
    "llm.chat.stop_sequences": "stop_sequences",
    "llm.user": "user",
}


def content(attributes: Mapping[str, Any], events: Sequence[EventLike]) -> SpanContent | None:
    """What an OpenLLMetry span holds, None for another's. Association properties alone make no OpenLLMetry span."""
    if TRACELOOP_KIND in attributes or ENTITY_INPUT in attributes:
        return _step(attributes)
    return _request(attributes) if REQUEST_TYPE in attributes else None


def _step(attributes: Mapping[str, Any]) -> SpanContent:
    """A workflow, task, agent or tool."""
    get = attributes.get
    arguments = parsed(first_of(attributes, (ENTITY_INPUT, "gen_ai.tool.call.arguments")))
    result = parsed(first_of(attributes, ("traceloop.entity.output", "gen_ai.tool.call.result")))
    answer = result.get("output") if isinstance(result, Mapping) else None
    kwargs = answer.get("kwargs") if isinstance(answer, Mapping) else None
    tool = get(TRACELOOP_KIND) == "tool"
    return SpanContent(
        input=_given(arguments),
        output=_returned(result),
        tool_name=text(first_of(attributes, ("gen_ai.tool.name", "traceloop.entity.name"))) if tool else None,
        tool_call_id=text(kwargs.get("tool_call_id")) if isinstance(kwargs, Mapping) else None,
        **_shared(attributes),
    )


def _request(attributes: Mapping[str, Any]) -> SpanContent:
    """A model request of 0.40 and before, its messages flattened."""
    prompts = grouped(attributes.items(), "gen_ai.prompt")
    answers = grouped(attributes.items(), "gen_ai.completion")
    params = {name: attributes[key] for key, name in _EXTRA_PARAMS.items() if key in attributes}
    params.update(prefixed(attributes, "gen_ai.request."))
    params.pop("model", None)
    embedded = attributes.get(REQUEST_TYPE) == "embedding"
    reasons = [str(entry["finish_reason"]) for entry in answers if entry.get("finish_reason")]
    return SpanContent(
        input_messages=() if embedded else tuple(found for entry in prompts for found in _messages(entry)),
        output_messages=_answers(answers),
        input=[entry["content"] for entry in prompts if "content" in entry] or None if embedded else None,
        params=params,
        tools_offered=tuple(
            {name: tool[name] for name in ("name", "description") if tool.get(name)}
            for tool in grouped(attributes.items(), "llm.request.functions")
        ),
        finish_reason=", ".join(dict.fromkeys(reasons)) or None,
        **_shared(attributes),
    )


def _answers(entries: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """The answers; what the model thought, which 0.40 writes as one before the answer, is a part of it."""
    found: list[Message] = []
    thoughts: list[Any] = []
    for entry in entries:
        if entry.get("role") == "thinking":
            thoughts.append({"type": "thinking", "content": entry.get("content")})
            continue
        own = _messages(entry)
        found += [replace(own[0], parts=(*thoughts, *own[0].parts)), *own[1:]]
        thoughts = []
    return (*found, Message("assistant", parts=tuple(thoughts))) if thoughts else tuple(found)


def _messages(fields: Mapping[str, Any]) -> list[Message]:
    """A flattened message; Anthropic's content is the JSON of its parts."""
    said = fields.get("content")
    parts = parsed(said)
    if isinstance(parts, list) and parts and all(isinstance(part, Mapping) and "type" in part for part in parts):
        found = messages_in({"role": fields.get("role"), "content": parts})
    else:
        shown = said if isinstance(said, str) and said not in _EMPTY_TEXTS else None
        answers, thought = text(fields.get("tool_call_id")), first_of(fields, ("reasoning_content", "reasoning"))
        parts = ({"type": "reasoning", "content": thought},) if isinstance(thought, str) and thought else ()
        found = [Message(role=text(fields.get("role")) or "", text=shown, tool_call_id=answers, parts=parts)]
    named = grouped(fields.items(), "tool_calls") or [prefixed(fields, "function_call.")]
    calls = tuple(_call(call) for call in named if call)
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


def _given(value: Any) -> Any:
    """What a step was called with, without the wrapping: {"args", "kwargs"}, {"inputs", ...} or {"input_str", ...}."""
    if not isinstance(value, Mapping):
        return value
    if "inputs" in value:
        return value["inputs"]
    if "input_str" in value:  # {'city': 'Lima'} as Python writes it.
        return parsed(value["input_str"])
    if set(value) == {"args", "kwargs"}:
        if not value["args"]:
            return value["kwargs"]
        if not value["kwargs"]:
            return value["args"][0] if len(value["args"]) == 1 else value["args"]
    return value


def _returned(value: Any) -> Any:
    """What a step returned, without the wrapping; of a serialised message its content."""
    if isinstance(value, Mapping):
        value = first_of(value, ("output", "outputs")) if {"output", "outputs"} & set(value) else value
    elif isinstance(value, str) and value[:1] == '"':  # The decorators write texts as JSON too.
        value = parsed(f"[{value}]")
        value = value[0] if isinstance(value, list) and len(value) == 1 else value
    return tool_answer(value)


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
