"""Spans of the Vercel AI SDK up to version 6: `ai.*`. A call has one span, and one below it for each request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from hh_jupyter.conventions import plain
from hh_jupyter.conventions.event_type import VERCEL_OPERATION
from hh_jupyter.conventions.facts import (
    EventLike,
    Message,
    SpanContent,
    SpanFacts,
    Usage,
    as_amount,
    first_of,
    items_of,
    json_value,
    mapping,
    parsed,
    prefixed,
    text,
    tool_result,
    usage_of,
)
from hh_jupyter.conventions.messages import request_messages, tool_calls_of, tools_offered

FAMILY: Final = "vercel"
MARKER_KEYS: Final = (VERCEL_OPERATION,)

_RUNS: Final = frozenset({"ai.generateText", "ai.streamText", "ai.generateObject", "ai.streamObject"})
_REQUESTS: Final = (".doGenerate", ".doStream")
_KINDS: Final = {
    **dict.fromkeys(_RUNS, "agent"),
    **{run + request: "llm" for run in _RUNS for request in _REQUESTS},
    **dict.fromkeys(("ai.embed", "ai.embed.doEmbed", "ai.embedMany", "ai.embedMany.doEmbed"), "embedding"),
    **dict.fromkeys(("ai.rerank", "ai.rerank.doRerank"), "reranker"),
    "ai.toolCall": "tool",
}
_TOOL: Final = "ai.toolCall."
_RESPONSE: Final = "ai.response."
_USAGE: Final = "ai.usage."
_PROMPT_TOKENS: Final = tuple(_USAGE + name for name in ("inputTokens", "promptTokens", "tokens"))
_COMPLETION_TOKENS: Final = (_USAGE + "outputTokens", _USAGE + "completionTokens")
_CACHED: Final = (_USAGE + "inputTokenDetails.cacheReadTokens", _USAGE + "cachedInputTokens")
_REASONING: Final = (_USAGE + "outputTokenDetails.reasoningTokens", _USAGE + "reasoningTokens")
_PROVIDER_METADATA: Final = _RESPONSE + "providerMetadata"
_PROVIDER_CACHED: Final = ("cachedPromptTokens", "cacheReadInputTokens")
_PROVIDER_WRITTEN: Final = ("cacheCreationInputTokens",)
_FIRST_CHUNK: Final = (_RESPONSE + "msToFirstChunk", "ai.stream.msToFirstChunk")
_METADATA: Final = "ai.telemetry.metadata."
_SETTINGS: Final = "ai.settings."
_SESSION: Final = ("sessionId", "session_id", "threadId", "conversationId", "chatId")
_USER: Final = ("userId", "user_id")


def facts(
    attributes: Mapping[str, Any], events: Sequence[EventLike], start_ns: int, event_type: str
) -> SpanFacts | None:
    """Facts of an AI SDK span; otherwise None."""
    operation = attributes.get(VERCEL_OPERATION)
    if operation is None:
        return None
    get, kind = attributes.get, _KINDS.get(str(operation), "other")
    if kind in ("tool", "other"):
        return plain.shared_facts(kind, event_type, FAMILY, text(get(_TOOL + "name")))
    requested = text(get("ai.model.id")) or text(get("gen_ai.request.model"))
    milliseconds = as_amount(first_of(attributes, _FIRST_CHUNK))
    calls = tool_calls_of(get(_RESPONSE + "toolCalls")) if kind == "llm" else ()
    return SpanFacts(
        kind=kind,
        event_type=event_type,
        family=FAMILY,
        model=text(first_of(attributes, (_RESPONSE + "model", "gen_ai.response.model"))) or requested,
        model_requested=requested,
        provider=_provider(first_of(attributes, ("ai.model.provider", "gen_ai.system"))),
        usage=_usage(attributes),
        first_token_ns=None if milliseconds is None else round(milliseconds * 1e6),
        response_id=text(first_of(attributes, (_RESPONSE + "id", "gen_ai.response.id"))) if kind == "llm" else None,
        tools_asked=tuple(call.name for call in calls),
        streamed=str(operation).endswith(".doStream"),
    )


def _provider(value: Any) -> str | None:
    """The provider of the model: "openai" for "openai.chat"."""
    return text(value.lower().partition(".")[0]) if isinstance(value, str) else None


def _usage(attributes: Mapping[str, Any]) -> Usage | None:
    get = attributes.get
    cached, written = first_of(attributes, _CACHED), get(_USAGE + "inputTokenDetails.cacheWriteTokens")
    if cached is None and written is None:  # Up to version 4, only the provider's metadata have it.
        for counts in mapping(get(_PROVIDER_METADATA)).values():
            if isinstance(counts, Mapping):
                cached, written = first_of(counts, _PROVIDER_CACHED), first_of(counts, _PROVIDER_WRITTEN)
    return usage_of(
        first_of(attributes, _PROMPT_TOKENS) or get("gen_ai.usage.input_tokens"),
        first_of(attributes, _COMPLETION_TOKENS) or get("gen_ai.usage.output_tokens"),
        get(_USAGE + "totalTokens"),
        cached,
        written,
        first_of(attributes, _REASONING),
    )


def content(attributes: Mapping[str, Any], events: Sequence[EventLike]) -> SpanContent | None:
    """Content of an AI SDK span; None for other spans."""
    if VERCEL_OPERATION not in attributes:
        return None
    get = attributes.get
    kind = _KINDS.get(str(get(VERCEL_OPERATION)), "other")
    noted = {name: json_value(value) for name, value in prefixed(attributes, _METADATA).items()}
    embedded = [json_value(value) for value in (get("ai.value"), *items_of(get("ai.values"))) if value is not None]
    return SpanContent(
        input_messages=request_messages(get("ai.prompt.messages")) or request_messages(get("ai.prompt")),
        output_messages=_response(attributes),
        input=json_value(get(_TOOL + "args")) if kind == "tool" else embedded or None,
        output=tool_result(json_value(get(_TOOL + "result"))),
        tool_name=text(get(_TOOL + "name")),
        tool_call_id=text(get(_TOOL + "id")),
        params=_params(attributes),
        documents=_reranked_documents(attributes),
        tools_offered=tools_offered(get("ai.prompt.tools")),
        finish_reason=text(get(_RESPONSE + "finishReason")),
        metadata={**noted, **({"function": get("resource.name")} if get("resource.name") else {})},
        session_id=next(filter(None, (text(noted.get(name)) for name in _SESSION)), None),
        user_id=next(filter(None, (text(noted.get(name)) for name in _USER)), None),
    )


def _response(attributes: Mapping[str, Any]) -> tuple[Message, ...]:
    """The response: its text or object, its tool calls, and its reasoning and files as parts."""
    content = first_of(attributes, (_RESPONSE + "text", _RESPONSE + "object"))
    calls, reasoning = tool_calls_of(attributes.get(_RESPONSE + "toolCalls")), attributes.get(_RESPONSE + "reasoning")
    parts: list[Any] = [part for part in items_of(attributes.get(_RESPONSE + "files")) if isinstance(part, Mapping)]
    if isinstance(reasoning, str) and reasoning:
        parts.insert(0, {"type": "reasoning", "content": reasoning})
    if not (isinstance(content, str) or calls or parts):
        return ()
    return (Message("assistant", content if isinstance(content, str) else None, calls, None, tuple(parts)),)


def _params(attributes: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: json_value(value) for name, value in prefixed(attributes, _SETTINGS).items()}
    found.update(prefixed(attributes, "gen_ai.request."))
    found.pop("model", None)
    choice, schema = parsed(attributes.get("ai.prompt.toolChoice")), attributes.get("ai.schema.name")
    return {**found, **({"toolChoice": choice} if choice else {}), **({"schema": schema} if schema else {})}


def _reranked_documents(attributes: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """The reranked documents in their new order, with their scores."""
    documents = [json_value(document) for document in items_of(attributes.get("ai.documents"))]
    found = []
    for entry in items_of(attributes.get("ai.ranking")):
        rank = parsed(entry)
        if not isinstance(rank, Mapping):
            continue
        index = rank.get("originalIndex", rank.get("index"))
        valid = isinstance(index, int) and 0 <= index < len(documents)
        score = first_of(rank, ("relevanceScore", "score"))
        found.append({"id": index, "score": score, **({"text": documents[index]} if valid else {})})
    return tuple(found) or tuple({"text": document} for document in documents)
