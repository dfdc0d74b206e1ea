"""Converts the spans of the OpenAI Agents SDK to OpenTelemetry spans with the attributes of the GenAI conventions.

The SDK has span classes of its own and passes its spans to processors. They are described in
`agents/tracing/span_data.py` of openai-agents; this module was written for versions 0.20 to 0.24.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from hh_jupyter.values import json_text

logger = logging.getLogger(__name__)

_OPERATIONS: Final = {
    "agent": "invoke_agent",
    "function": "execute_tool",
    "generation": "chat",
    "response": "chat",
    "handoff": "execute_tool",
}
_MAX_OPEN: Final = 10_000
"""Above this number of open spans, the oldest ones, which the SDK probably never ends, are discarded."""


class AgentsProcessor:
    """A `TracingProcessor` of the Agents SDK.

    Attributes:
        tracer: makes the spans; None switches the processor off.
    """

    def __init__(self) -> None:
        self.tracer: Tracer | None = None
        self._open: dict[str, Span] = {}

    def on_trace_start(self, trace: Any) -> None:
        """Start the span of a run."""
        self._start(trace.trace_id, str(trace.name or "Agent workflow"), otel_context.get_current())

    def on_trace_end(self, trace: Any) -> None:
        """End the span of a run."""
        self._end(trace.trace_id, {"gen_ai.operation.name": "invoke_workflow"}, None)

    def on_span_start(self, span: Any) -> None:
        """Start the span of a step, as a child of its parent step or of its run."""
        parent = self._open.get(span.parent_id) or self._open.get(span.trace_id)
        context = otel_context.get_current() if parent is None else set_span_in_context(parent)
        self._start(span.span_id, _name(span.span_data), context)

    def on_span_end(self, span: Any) -> None:
        """End the span of a step and set its attributes, which are complete only now."""
        self._end(span.span_id, _attributes(span.span_data), span.error)

    def shutdown(self) -> None:
        """Do nothing: there is no buffer."""

    def force_flush(self) -> None:
        """Do nothing: there is no buffer."""

    def _start(self, key: str, name: str, context: Any) -> None:
        if self.tracer is None:
            return
        while len(self._open) >= _MAX_OPEN:
            self._open.pop(next(iter(self._open)))
        self._open[key] = self.tracer.start_span(name, context=context, kind=SpanKind.INTERNAL)

    def _end(self, key: str, attributes: Mapping[str, Any], error: Any) -> None:
        span = self._open.pop(key, None)
        if span is None:
            return
        span.set_attributes({name: value for name, value in attributes.items() if value is not None})
        if error:
            message = error.get("message") if isinstance(error, Mapping) else str(error)
            span.set_status(Status(StatusCode.ERROR, str(message)))
        span.end()


def _name(data: Any) -> str:
    if data.type == "handoff":
        return f"handoff to {getattr(data, 'to_agent', None) or 'another agent'}"
    name = getattr(data, "name", None) or getattr(data, "agent_name", None)
    return " ".join(filter(None, (_OPERATIONS.get(data.type, data.type), name)))


def _attributes(data: Any) -> dict[str, Any]:
    """The attributes of a step, according to its type."""
    get = lambda name: getattr(data, name, None)  # noqa: E731  # Short, and used a dozen times below.
    found: dict[str, Any] = {"gen_ai.operation.name": _OPERATIONS.get(data.type, "execute_task")}
    if data.type == "agent":
        tools = [{"name": name} for name in get("tools") or ()]
        found |= {"gen_ai.agent.name": get("name"), "gen_ai.tool.definitions": _json(tools)}
    elif data.type == "function":
        found |= {
            "gen_ai.tool.name": get("name"),
            "gen_ai.tool.call.arguments": _text(get("input")),
            "gen_ai.tool.call.result": _text(get("output")),
        }
    elif data.type == "generation":
        usage = get("usage") or {}
        found |= {
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": get("model"),
            "gen_ai.input.messages": _json(get("input")),
            "gen_ai.output.messages": _json(get("output")),
            "gen_ai.usage.input_tokens": usage.get("input_tokens"),
            "gen_ai.usage.output_tokens": usage.get("output_tokens"),
        }
    elif data.type == "response":
        found |= _response(get("response"), get("input"))
    return found


def _response(response: Any, prompt: Any) -> dict[str, Any]:
    """The attributes of a call of the Responses API."""
    found: dict[str, Any] = {"gen_ai.provider.name": "openai", "gen_ai.input.messages": _json(_messages(prompt))}
    if response is None:
        return found
    usage = getattr(response, "usage", None)
    cached = getattr(getattr(usage, "input_tokens_details", None), "cached_tokens", None)
    reasoning = getattr(getattr(usage, "output_tokens_details", None), "reasoning_tokens", None)
    output = [item.model_dump(mode="json", exclude_none=True) for item in response.output]
    return found | {
        "gen_ai.response.id": response.id,
        "gen_ai.response.model": response.model,
        "gen_ai.system_instructions": response.instructions if isinstance(response.instructions, str) else None,
        "gen_ai.output.messages": _json(_messages(output)),
        "gen_ai.request.temperature": response.temperature,
        "gen_ai.usage.input_tokens": getattr(usage, "input_tokens", None),
        "gen_ai.usage.output_tokens": getattr(usage, "output_tokens", None),
        "gen_ai.usage.cache_read.input_tokens": cached,
        "gen_ai.usage.reasoning.output_tokens": reasoning,
    }


def _messages(items: Any) -> list[dict[str, Any]]:
    """Convert items of the Responses API to messages of the GenAI conventions."""
    if isinstance(items, str):
        return [{"role": "user", "parts": [{"type": "text", "content": items}]}]
    return [_message(item) for item in items or () if isinstance(item, Mapping)]


def _message(item: Mapping[str, Any]) -> dict[str, Any]:
    kind = item.get("type")
    if kind == "function_call":
        call = {"type": "tool_call", "id": item.get("call_id"), "name": item.get("name")}
        return {"role": "assistant", "parts": [call | {"arguments": item.get("arguments")}]}
    if kind == "function_call_output":
        answer = {"type": "tool_call_response", "id": item.get("call_id"), "response": item.get("output")}
        return {"role": "tool", "parts": [answer]}
    content = item.get("content")
    if kind == "reasoning" or content is None:
        return {"role": "assistant", "parts": [dict(item)]}
    parts = [content] if isinstance(content, str) else content
    texts = [part if isinstance(part, str) else part.get("text") or part.get("refusal") for part in parts]
    return {
        "role": item.get("role", "assistant"),
        "parts": [{"type": "text", "content": text} for text in texts if text],
    }


def _json(value: Any) -> str | None:
    return json_text(value) if value else None


def _text(value: Any) -> str | None:
    return None if value is None else json_text(value)
