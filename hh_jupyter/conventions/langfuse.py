"""Spans of the Langfuse SDK, its decorators and wrappers: `langfuse.observation.*`, with objects as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from math import fsum
from typing import Any, Final

from hh_jupyter.conventions import plain
from hh_jupyter.conventions.event_type import LANGFUSE_TYPE
from hh_jupyter.conventions.facts import (
    EventLike,
    SpanContent,
    SpanFacts,
    Usage,
    as_amount,
    counts_of,
    documents_of,
    first_of,
    json_value,
    mapping,
    parsed,
    prefixed,
    provider_name,
    text,
    usage_of,
)
from hh_jupyter.conventions.messages import (
    finish_reason_of,
    input_and_output,
    params_of,
    tools_asked,
    tools_offered,
)
from hh_jupyter.conventions.otel_genai import MODEL_KINDS

FAMILY: Final = "langfuse"
MARKER_KEYS: Final = (LANGFUSE_TYPE,)

_KINDS: Final = {
    "generation": "llm", "embedding": "embedding", "agent": "agent", "tool": "tool", "chain": "chain",
    "retriever": "retriever", "evaluator": "evaluator", "guardrail": "guardrail",
}  # fmt: skip
_NAMESPACE: Final = "langfuse.observation."
_INPUT: Final = _NAMESPACE + "input"
_OUTPUT: Final = _NAMESPACE + "output"
_METADATA: Final = (_NAMESPACE + "metadata", "langfuse.trace.metadata")
_EXTRA: Final = {
    "langfuse.trace.tags": "tags",
    "langfuse.trace.name": "trace",
    "langfuse.environment": "environment",
    "langfuse.release": "release",
    "langfuse.version": "version",
    _NAMESPACE + "prompt.name": "prompt",
    _NAMESPACE + "prompt.version": "prompt version",
    _NAMESPACE + "level": "level",
    _NAMESPACE + "status_message": "status",
}


def facts(
    attributes: Mapping[str, Any], events: Sequence[EventLike], start_ns: int, event_type: str
) -> SpanFacts | None:
    """Facts of a Langfuse observation; otherwise None."""
    observation_type = attributes.get(LANGFUSE_TYPE)
    if observation_type is None:
        return None
    get, kind = attributes.get, _KINDS.get(str(observation_type).lower(), "other")
    usage, cost = _usage(mapping(get(_NAMESPACE + "usage_details"))), langfuse_cost(attributes)
    if kind not in MODEL_KINDS and usage is None and cost is None:
        return plain.shared_facts(kind, event_type, FAMILY)
    provider = json_value(get(_NAMESPACE + "metadata.ls_provider"))  # Written by the LangChain handler.
    first_token = _since(start_ns, get(_NAMESPACE + "completion_start_time"))
    return SpanFacts(
        kind=kind,
        event_type=event_type,
        family=FAMILY,
        # Requested or answering model: the span does not distinguish them.
        model=text(get(_NAMESPACE + "model.name")),
        provider=provider_name(provider),
        usage=usage,
        cost=cost,
        first_token_ns=first_token,
        tools_asked=tools_asked(get(_OUTPUT)) if kind == "llm" else (),
        streamed=first_token is not None,
    )


def _usage(counts: Mapping[str, Any]) -> Usage | None:
    """Token counts under any name that providers and Langfuse use.

    Under Langfuse's own names, "input" and "output", token types exclude each other; OpenAI's prompt includes cached
    tokens.
    """
    prompt, completion, total, cached, written, reasoning = counts_of(counts)
    if prompt is not None and "input" in counts and total != prompt + (completion or 0):
        prompt += (cached or 0) + (written or 0)
    if completion is not None and "output" in counts and reasoning and total == (prompt or 0) + completion + reasoning:
        completion += reasoning
    return usage_of(prompt, completion, total, cached, written, reasoning)


def langfuse_cost(attributes: Mapping[str, Any]) -> float | None:
    """US dollars that the Langfuse SDK wrote on a span of any convention: the total, or the sum of the parts."""
    amounts = mapping(attributes.get(_NAMESPACE + "cost_details"))
    total = as_amount(amounts.get("total"))
    parts = [part for part in map(as_amount, amounts.values()) if part is not None]
    return (fsum(parts) if total is None and parts else total) or None


def _since(start_ns: int, value: Any) -> int | None:
    """Nanoseconds from the start of the span to a time in ISO 8601."""
    iso_time = json_value(value)
    try:
        moment = datetime.fromisoformat(iso_time) if isinstance(iso_time, str) else None
        at = None if moment is None or moment.tzinfo is None else round(moment.timestamp() * 1e9)
    except (ValueError, OverflowError):
        return None
    return at - start_ns if at is not None and at >= start_ns else None


def content(attributes: Mapping[str, Any], events: Sequence[EventLike]) -> SpanContent | None:
    """Content of an observation; None for other spans."""
    if LANGFUSE_TYPE not in attributes and _INPUT not in attributes and _OUTPUT not in attributes:
        return None
    get = attributes.get
    kind = _KINDS.get(str(get(LANGFUSE_TYPE)).lower(), "other")
    inputs, outputs = parsed(get(_INPUT)), parsed(get(_OUTPUT))
    request, offered = _without_tools(inputs) if kind == "llm" else (inputs, ())
    documents = documents_of(outputs) if kind == "retriever" else ()
    return SpanContent(
        **input_and_output(kind, request, outputs, documents, arguments=_arguments(inputs), result=outputs),
        params=params_of(get(_NAMESPACE + "model.parameters")),
        tools_offered=offered,
        finish_reason=finish_reason_of(outputs) or text(json_value(get(_NAMESPACE + "metadata.finish_reason"))),
        metadata=_metadata(attributes),
        session_id=text(get("session.id")),
        user_id=text(get("user.id")),
    )


def _without_tools(request: Any) -> tuple[Any, tuple[Mapping[str, Any], ...]]:
    """A request without its tools, and the tools, which Langfuse puts beside or among the messages."""
    if isinstance(request, Mapping):
        return request, tools_offered(first_of(request, ("tools", "functions")))
    if not isinstance(request, list):
        return request, ()
    tools = [entry for entry in request if _is_tool_definition(entry)]
    messages = [entry for entry in request if entry not in tools] if tools else request
    return messages, tools_offered([entry["content"] for entry in tools])


def _is_tool_definition(entry: Any) -> bool:
    """Whether an entry among the messages defines a tool, as the LangChain handler writes it."""
    if not isinstance(entry, Mapping) or entry.get("role") != "tool" or "tool_call_id" in entry:
        return False
    return isinstance(entry.get("content"), Mapping)


def _arguments(value: Any) -> Any:
    """Arguments of a decorated function, without the wrapper {"args", "kwargs"} if one of the two is empty."""
    if isinstance(value, Mapping) and value.keys() == {"args", "kwargs"}:
        if not value["args"]:
            return value["kwargs"]
        if not value["kwargs"]:
            return value["args"]
    return value


def _metadata(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The user's metadata, as one object or by keys, and what Langfuse adds to it."""
    found: dict[str, Any] = {}
    for namespace in _METADATA:
        metadata = json_value(attributes.get(namespace))
        if isinstance(metadata, Mapping):
            found.update(metadata)
        elif metadata is not None:
            found["metadata"] = metadata
        found.update((name, json_value(value)) for name, value in prefixed(attributes, namespace + ".").items())
    extra = {name: attributes[key] for key, name in _EXTRA.items() if attributes.get(key)}
    return {**found, **extra}
