"""Spans of Langfuse's own SDK, its decorators and its wrappers: `langfuse.observation.*`, objects as JSON."""

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
    amount,
    counts_of,
    documents_of,
    first_of,
    json_value,
    mapping,
    parsed,
    prefixed,
    provider_name,
    text,
    texts_of,
    tool_answer,
    usage_of,
)
from hh_jupyter.conventions.messages import answered, asked, finish_reason_of, params_of, tools_asked, tools_offered
from hh_jupyter.conventions.otel_genai import MODEL_KINDS

FAMILY: Final = "langfuse"
SIGNS: Final = (LANGFUSE_TYPE,)

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
    """The facts of an observation, else None."""
    given = attributes.get(LANGFUSE_TYPE)
    if given is None:
        return None
    get, kind = attributes.get, _KINDS.get(str(given).lower(), "other")
    usage, cost = _usage(mapping(get(_NAMESPACE + "usage_details"))), cost_told(attributes)
    if kind not in MODEL_KINDS and usage is None and cost is None:
        return plain.shared(kind, event_type, FAMILY)
    provider = json_value(get(_NAMESPACE + "metadata.ls_provider"))  # By its handler for LangChain.
    first_token = _since(start_ns, get(_NAMESPACE + "completion_start_time"))
    return SpanFacts(
        kind=kind,
        event_type=event_type,
        family=FAMILY,
        # The one asked for until the answer tells another: which of them it is, no span says.
        model=text(get(_NAMESPACE + "model.name")),
        provider=provider_name(provider),
        usage=usage,
        cost=cost,
        first_token_ns=first_token,
        tools_asked=tools_asked(get(_OUTPUT)) if kind == "llm" else (),
        streamed=first_token is not None,
    )


def _usage(counts: Mapping[str, Any]) -> Usage | None:
    """The tokens by any of the names that providers and Langfuse give them.

    By Langfuse's own names, "input" and "output", the kinds of tokens exclude each other; OpenAI's prompt includes what
    was cached.
    """
    prompt, completion, total, cached, written, reasoning = counts_of(counts)
    if prompt is not None and "input" in counts and total != prompt + (completion or 0):
        prompt += (cached or 0) + (written or 0)
    if completion is not None and "output" in counts and reasoning and total == (prompt or 0) + completion + reasoning:
        completion += reasoning
    return usage_of(prompt, completion, total, cached, written, reasoning)


def cost_told(attributes: Mapping[str, Any]) -> float | None:
    """US dollars that Langfuse's SDK wrote on a span of any convention: the total, or the sum of the parts."""
    amounts = mapping(attributes.get(_NAMESPACE + "cost_details"))
    total = amount(amounts.get("total"))
    parts = [part for part in map(amount, amounts.values()) if part is not None]
    return (fsum(parts) if total is None and parts else total) or None


def _since(start_ns: int, value: Any) -> int | None:
    """Nanoseconds from the start to a time in ISO 8601."""
    written = json_value(value)
    try:
        moment = datetime.fromisoformat(written) if isinstance(written, str) else None
        at = None if moment is None or moment.tzinfo is None else round(moment.timestamp() * 1e9)
    except (ValueError, OverflowError):
        return None
    return at - start_ns if at is not None and at >= start_ns else None


def content(attributes: Mapping[str, Any], events: Sequence[EventLike]) -> SpanContent | None:
    """What an observation holds, None for another's span."""
    if LANGFUSE_TYPE not in attributes and _INPUT not in attributes and _OUTPUT not in attributes:
        return None
    get = attributes.get
    kind = _KINDS.get(str(get(LANGFUSE_TYPE)).lower(), "other")
    given, returned = parsed(get(_INPUT)), parsed(get(_OUTPUT))
    messages, offered = _without_tools(given) if kind == "llm" else (given, ())
    inputs, outputs = (asked(messages), answered(returned)) if kind == "llm" else ((), ())
    documents = documents_of(returned) if kind == "retriever" else ()
    return SpanContent(
        input_messages=inputs,
        output_messages=outputs,
        input=texts_of(given) if kind == "embedding" else None if inputs else _arguments(given),
        output=None if outputs or documents or kind == "embedding" else tool_answer(returned),
        params=params_of(get(_NAMESPACE + "model.parameters")),
        documents=documents,
        tools_offered=offered,
        finish_reason=finish_reason_of(returned) or text(json_value(get(_NAMESPACE + "metadata.finish_reason"))),
        metadata=_metadata(attributes),
        session_id=text(get("session.id")),
        user_id=text(get("user.id")),
    )


def _without_tools(given: Any) -> tuple[Any, tuple[Mapping[str, Any], ...]]:
    """A request without the tools it offers, and those: Langfuse has them beside the messages, or among them."""
    if isinstance(given, Mapping):
        return given, tools_offered(first_of(given, ("tools", "functions")))
    if not isinstance(given, list):
        return given, ()
    tools = [entry for entry in given if _offers_tool(entry)]
    return [entry for entry in given if entry not in tools] if tools else given, tools_offered(
        [entry["content"] for entry in tools]
    )


def _offers_tool(entry: Any) -> bool:
    """Whether an entry of a list of messages is a tool, as the handler for LangChain writes it."""
    if not isinstance(entry, Mapping) or entry.get("role") != "tool" or "tool_call_id" in entry:
        return False
    return isinstance(entry.get("content"), Mapping)


def _arguments(given: Any) -> Any:
    """What a decorated function was called with, without {"args", "kwargs"} where one of them is empty."""
    if isinstance(given, Mapping) and given.keys() == {"args", "kwargs"}:
        if not given["args"]:
            return given["kwargs"]
        if not given["kwargs"]:
            return given["args"]
    return given


def _metadata(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The user's metadata, whole or by keys, and what Langfuse notes beside it."""
    found: dict[str, Any] = {}
    for namespace in _METADATA:
        whole_one = json_value(attributes.get(namespace))
        if isinstance(whole_one, Mapping):
            found.update(whole_one)
        elif whole_one is not None:
            found["metadata"] = whole_one
        found.update((name, json_value(value)) for name, value in prefixed(attributes, namespace + ".").items())
    extra = {name: attributes[key] for key, name in _EXTRA.items() if attributes.get(key)}
    return {**found, **extra}
