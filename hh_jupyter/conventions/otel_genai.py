"""Spans of OpenTelemetry's GenAI conventions: `gen_ai.*`, in today's names and in those that were used before.

Written by the official instrumentors, by OpenLLMetry, by Pydantic AI, and by clients that trace themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from hh_jupyter.conventions import plain
from hh_jupyter.conventions.event_type import OPERATION
from hh_jupyter.conventions.facts import EventLike, SpanFacts, Usage
from hh_jupyter.conventions.messages import tools_asked
from hh_jupyter.conventions.otel_genai_content import OUTPUT_MESSAGES, content, tools_asked_by_events
from hh_jupyter.conventions.values import amount, first_of, mapping, provider_name, service_tier, text, usage_of, whole

__all__ = ["FAMILY", "content", "facts", "kind_of", "read"]

FAMILY: Final = "otel"
MODEL_KINDS: Final = frozenset({"llm", "embedding", "reranker"})
REQUEST_MODEL: Final = "gen_ai.request.model"

_KINDS: Final = {
    "chat": "llm", "text_completion": "llm", "generate_content": "llm", "embeddings": "embedding",
    "execute_tool": "tool", "invoke_agent": "agent", "create_agent": "agent", "invoke_workflow": "chain",
    "execute_task": "chain", "plan": "chain", "retrieval": "retriever", "search_memory": "retriever",
    "rerank": "reranker", "load_skill": "tool", "read_skill_resource": "tool",
    # A response that was made earlier is fetched again: its tokens were used then.
    "fetch_response": "http",
    "create_memory": "db", "update_memory": "db", "upsert_memory": "db", "delete_memory": "db",
    "create_memory_store": "db", "delete_memory_store": "db",
}  # fmt: skip

# Each from the first name that is there: two names of one quantity are never added.
_PROMPT: Final = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")
_COMPLETION: Final = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")
_TOTAL: Final = ("gen_ai.usage.total_tokens", "llm.usage.total_tokens")
_CACHED: Final = (
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_read_input_tokens",
    "gen_ai.usage.details.cache_read_tokens",
    "gen_ai.usage.details.cache_read_input_tokens",
    "gen_ai.usage.details.cached_tokens",
)
_CACHE_WRITE: Final = (
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.usage.cache_creation_input_tokens",
    "gen_ai.usage.cache_write_input_tokens",
    "gen_ai.usage.details.cache_write_tokens",
    "gen_ai.usage.details.cache_creation_input_tokens",
)
_REASONING: Final = (
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.usage.reasoning_tokens",
    "gen_ai.usage.details.reasoning_tokens",
    "gen_ai.usage.details.thoughts_tokens",
)
_AUDIO_PROMPT: Final = (
    "gen_ai.usage.audio.input_tokens",
    "gen_ai.usage.input_audio_tokens",
    "gen_ai.usage.details.input_audio_tokens",
)
_AUDIO_COMPLETION: Final = (
    "gen_ai.usage.audio.output_tokens",
    "gen_ai.usage.output_audio_tokens",
    "gen_ai.usage.details.output_audio_tokens",
)
_RAW: Final = "gen_ai.usage.raw"
"""Logfire's copy of the provider's own usage object."""

_COST: Final = ("operation.cost", "gen_ai.cost.total_cost", "litellm.cost.total", "gen_ai.usage.cost")
"""Pydantic AI and Logfire, LiteLLM (two releases), OpenLIT; the conventions have none."""

_COST_PARTS: Final = (
    ("gen_ai.cost.input_cost", "litellm.cost.input"),
    ("gen_ai.cost.output_cost", "litellm.cost.output"),
)
_TIER: Final = (
    "openai.response.service_tier",
    "gen_ai.openai.response.service_tier",
    "gen_ai.response.service_tier",
    "anthropic.response.service_tier",
    "openai.request.service_tier",
    "gen_ai.openai.request.service_tier",
)
_CACHE_HIT: Final = "litellm.cache_hit"
_RUN: Final = "gen_ai.aggregated_usage."
_PROVIDER: Final = ("gen_ai.provider.name", "gen_ai.system")
_STATUS: Final = ("http.response.status_code", "http.status_code")
_STREAM: Final = ("gen_ai.request.stream", "gen_ai.request.is_stream", "gen_ai.is_streaming", "llm.is_streaming")
_FIRST_CHUNK: Final = ("gen_ai.response.time_to_first_chunk", "gen_ai.client.operation.time_to_first_chunk")
_CHUNK_EVENTS: Final = frozenset({"gen_ai.content.completion.chunk", "llm.content.completion.chunk"})
_CLIENTS: Final = frozenset({*_PROVIDER, "http.request.method"})
"""What a client notes beside the model's name: Mistral's of 1.x only its request, for streams and failures."""

_ENDPOINTS: Final = {"embed": "embedding", "ocr": "other", "moderat": "other", "classif": "other"}
_CREW: Final = "crewai.crew.usage_metrics"


def facts(
    attributes: Mapping[str, Any], events: Sequence[EventLike], start_ns: int, event_type: str
) -> SpanFacts | None:
    """The facts of a span with a GenAI operation, or of a model call of older conventions without one; else None."""
    kind = kind_of(attributes) or _kind_without_operation(attributes)
    return None if kind is None else read(attributes, events, start_ns, kind, event_type, FAMILY)


def kind_of(attributes: Mapping[str, Any]) -> str | None:
    """The kind that the operation's name says; "other" for a name not known here, None without one."""
    operation = attributes.get(OPERATION)
    return None if operation is None else _KINDS.get(str(operation).lower(), "other")


def _kind_without_operation(attributes: Mapping[str, Any]) -> str | None:
    """The kind of a span of older conventions: of a model call, or of Pydantic AI's second version."""
    if REQUEST_MODEL in attributes:
        if _CLIENTS.isdisjoint(attributes):
            return None
        # Mistral's client of 1.x names its endpoint; that of embeddings is no chat.
        endpoint = text(attributes.get("mistral_ai.operation.id") or attributes.get("http.url")) or ""
        return next((kind for word, kind in _ENDPOINTS.items() if word in endpoint), "llm")
    if "gen_ai.tool.name" in attributes:
        return "tool"
    return "agent" if "agent_name" in attributes and "model_name" in attributes else None


def read(
    attributes: Mapping[str, Any],
    events: Sequence[EventLike],
    start_ns: int,
    kind: str,
    event_type: str,
    family: str,
    asked: tuple[str, ...] | None = None,
) -> SpanFacts:
    """The facts that `gen_ai.*` tells.

    Args:
        asked: names of the tools asked for, where they are told elsewhere than in the output messages.
    """
    usage, get = _usage(attributes, kind), attributes.get
    if kind not in MODEL_KINDS:
        if usage is None and _CREW in attributes:
            usage = _crew_usage(attributes)
        if usage is None:
            tool = text(get("gen_ai.tool.name")) if kind == "tool" else None
            return plain.shared(kind, event_type, family, tool)
        return SpanFacts(kind, event_type, family, _model(attributes), usage=usage, cost=_cost(attributes))
    requested, first_token = text(get(REQUEST_MODEL)), _first_token(attributes, events, start_ns)
    return SpanFacts(
        kind=kind,
        event_type=event_type,
        family=family,
        model=text(get("gen_ai.response.model")) or requested,
        model_requested=requested,
        provider=_provider(attributes),
        usage=usage,
        cost=_cost(attributes),
        first_token_ns=first_token,
        response_id=_response_id(attributes) if kind == "llm" else None,
        tools_asked=(_tools_asked(attributes, events) if asked is None else asked) if kind == "llm" else (),
        streamed=first_token is not None or _streamed(attributes),
        http_status=plain.failed_status(first_of(attributes, _STATUS)),
        service_tier=service_tier(first_of(attributes, _TIER)),
        from_cache=get(_CACHE_HIT) in (True, "True", "true"),
    )


def _usage(attributes: Mapping[str, Any], kind: str) -> Usage | None:
    usage = usage_of(*(first_of(attributes, names) for names in (
        _PROMPT, _COMPLETION, _TOTAL, _CACHED, _CACHE_WRITE, _REASONING, _AUDIO_PROMPT, _AUDIO_COMPLETION
    )))  # fmt: skip
    if usage is not None and _RAW in attributes:
        return _with_raw(usage, mapping(attributes[_RAW]))
    if usage is None and kind == "agent":
        get = attributes.get
        return usage_of(
            get(_RUN + "input_tokens"),
            get(_RUN + "output_tokens"),
            None,
            get(_RUN + "cache_read.input_tokens") or get(_RUN + "details.cache_read_tokens"),
            get(_RUN + "cache_creation.input_tokens") or get(_RUN + "details.cache_write_tokens"),
            get(_RUN + "details.reasoning_tokens") or get(_RUN + "details.thoughts_tokens"),
        )
    return usage


def _model(attributes: Mapping[str, Any]) -> str | None:
    return text(first_of(attributes, ("gen_ai.response.model", REQUEST_MODEL, "model_name")))


def _with_raw(usage: Usage, raw: Mapping[str, Any]) -> Usage:
    """The usage with what only the provider's own object tells."""
    asked = mapping(first_of(raw, ("prompt_tokens_details", "input_tokens_details")))
    answered = mapping(first_of(raw, ("completion_tokens_details", "output_tokens_details")))
    told = {
        "cached": first_of(asked, ("cached_tokens",)) or raw.get("cache_read_input_tokens"),
        "cache_write": first_of(asked, ("cache_write_tokens",)) or raw.get("cache_creation_input_tokens"),
        "reasoning": answered.get("reasoning_tokens"),
        "audio_prompt": asked.get("audio_tokens"),
        "audio_completion": answered.get("audio_tokens"),
    }
    missing = {name: whole(count) for name, count in told.items() if getattr(usage, name) is None and whole(count)}
    return replace(usage, **missing) if missing else usage


def _provider(attributes: Mapping[str, Any]) -> str | None:
    return provider_name(first_of(attributes, _PROVIDER))


def _cost(attributes: Mapping[str, Any]) -> float | None:
    total = amount(first_of(attributes, _COST))
    if total is not None:
        return total
    parts = [amount(first_of(attributes, names)) for names in _COST_PARTS]
    return None if None in parts else sum(part for part in parts if part is not None)


def _response_id(attributes: Mapping[str, Any]) -> str | None:
    said = attributes.get("gen_ai.response.id")
    return said if isinstance(said, str) and said else None


def _first_token(attributes: Mapping[str, Any], events: Sequence[EventLike], start_ns: int) -> int | None:
    """Nanoseconds; the attribute is in seconds."""
    seconds = amount(first_of(attributes, _FIRST_CHUNK))
    if seconds is not None:
        return round(seconds * 1e9)
    first = next((event.timestamp for event in events if event.name in _CHUNK_EVENTS), None)
    return first - start_ns if first is not None and first >= start_ns else None


def _streamed(attributes: Mapping[str, Any]) -> bool:
    said = first_of(attributes, _STREAM)
    # Logfire tells the usage of a stream in a log that comes after the span.
    return said in (True, "True", "true") or attributes.get("logfire.span_type") == "log"


def _tools_asked(attributes: Mapping[str, Any], events: Sequence[EventLike]) -> tuple[str, ...]:
    output = attributes.get(OUTPUT_MESSAGES)
    if output is None:
        found = tools_asked_by_events(events) if events else ()
        # OpenLIT writes what a chat asked for as if it were a tool itself.
        asked = text(attributes.get("gen_ai.tool.name")) if not found and "gen_ai.tool.call.id" in attributes else None
        return tuple(name.strip() for name in asked.split(",")) if asked else found
    return tools_asked(output)


def _crew_usage(attributes: Mapping[str, Any]) -> Usage | None:
    """The tokens of a run of CrewAI's, which OpenLLMetry writes as a Python literal."""
    get = mapping(attributes.get(_CREW)).get
    return usage_of(
        get("prompt_tokens"),
        get("completion_tokens"),
        get("total_tokens"),
        get("cached_prompt_tokens"),
        get("cache_creation_tokens"),
        get("reasoning_tokens"),
    )
