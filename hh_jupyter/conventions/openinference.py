"""Spans of OpenInference instrumentors: `openinference.span.kind`, `llm.*`, `input.value` and so on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from hh_jupyter.conventions import plain
from hh_jupyter.conventions.event_type import OPENINFERENCE_KIND
from hh_jupyter.conventions.facts import EventLike, SpanFacts, Usage
from hh_jupyter.conventions.openinference_content import content
from hh_jupyter.conventions.values import (
    MOST_DIGITS,
    amount,
    first_of,
    mapping,
    provider_name,
    service_tier,
    text,
    usage_of,
)

__all__ = ["FAMILY", "content", "facts"]

FAMILY: Final = "openinference"
FIRST_CHUNK_EVENT: Final = "First Token Stream Event"

_KINDS: Final = {
    "LLM": "llm", "EMBEDDING": "embedding", "TOOL": "tool", "AGENT": "agent", "CHAIN": "chain", "PROMPT": "chain",
    "RETRIEVER": "retriever", "RERANKER": "reranker", "GUARDRAIL": "guardrail", "EVALUATOR": "evaluator",
    "DECISION": "decision",
}  # fmt: skip
_DETAILED: Final = frozenset({"llm", "embedding", "reranker"})
_PROMPT: Final = "llm.token_count.prompt"
_COMPLETION: Final = "llm.token_count.completion"
_TOTAL: Final = "llm.token_count.total"
_COST: Final = "llm.cost.total"
_COST_PARTS: Final = ("llm.cost.prompt", "llm.cost.completion")
_MODEL: Final = ("llm.response.model_name", "llm.model_name", "embedding.model_name", "reranker.model_name")
_LANGCHAIN: Final = '{"generations"'
_CACHED_ANSWER = re.compile(r'"total_cost"\s*:\s*0(?:\.0+)?\s*[,}]')
"""LangChain's cache sets the cost of an answer that it had, in its usage metadata."""

_INDEX: Final = rf"(\d{{1,{MOST_DIGITS}}})"
_TOOL_CALL = re.compile(rf"llm\.output_messages\.{_INDEX}\.message\.tool_calls\.{_INDEX}\.tool_call\.function\.name")
_TOOL_CALL_END: Final = ".tool_call.function.name"

# Parsing happens once a span while it is sealed; longer values are left to the detail pane.
_PARSED_LENGTH: Final = 65_536
_SEARCHED_LENGTH: Final = 262_144
_HEAD_ID = re.compile(r'\{\s*"id"\s*:\s*"([^"\\]{1,200})"')
_TIER = re.compile(r'"service_tier"\s*:\s*"(\w{1,40})"')
_CACHE_SIGN: Final = '_input_tokens":'
_CACHED = re.compile(r'(?<!\\)"cache_(read|creation)_input_tokens":\s*(\d{1,12})\b')
_KNOWN_ID = re.compile(r'"id"\s*:\s*"((resp_|chatcmpl-|msg_)[\w.:-]{1,200})"')
_ID_ORDER: Final = ("resp_", "chatcmpl-", "msg_")


def facts(
    attributes: Mapping[str, Any], events: Sequence[EventLike], start_ns: int, event_type: str
) -> SpanFacts | None:
    """The facts of a span with an OpenInference kind, else None."""
    said = attributes.get(OPENINFERENCE_KIND)
    if said is None:
        return None
    kind = _KINDS.get(str(said).upper(), "other")
    if kind not in _DETAILED:
        if _PROMPT not in attributes and _COMPLETION not in attributes and _COST not in attributes:
            tool = text(attributes.get("tool.name")) if kind == "tool" else None
            return plain.shared(kind, event_type, FAMILY, tool)
        # An agent or a chain may carry the sum of its run.
        return SpanFacts(
            kind=kind,
            event_type=event_type,
            family=FAMILY,
            model=_answered(attributes),
            provider=_provider(attributes),
            usage=_usage(attributes),
            cost=_cost(attributes),
        )
    return _model_call(attributes, events, start_ns, kind, event_type)


def _model_call(
    attributes: Mapping[str, Any], events: Sequence[EventLike], start_ns: int, kind: str, event_type: str
) -> SpanFacts:
    params = _invocation(attributes)
    provider = _provider(attributes)
    # The Agents SDK's parameters are copied from the response, whose model is the one that answered.
    given = {} if "id" in params else params
    asked = attributes.get("llm.request.model_name") or given.get("model") or given.get("model_name")
    requested = _unrouted(text(asked), provider)
    first_token = next((event.timestamp - start_ns for event in events if event.name == FIRST_CHUNK_EVENT), None)
    return SpanFacts(
        kind=kind,
        event_type=event_type,
        family=FAMILY,
        model=_unrouted(_answered(attributes), provider) or requested,
        model_requested=requested,
        provider=provider,
        usage=_with_cached(_usage(attributes), attributes.get("output.value")),
        cost=_cost(attributes),
        first_token_ns=first_token if first_token is not None and first_token >= 0 else None,
        response_id=response_id(attributes.get("output.value")) if kind == "llm" else None,
        tools_asked=_tools_asked(attributes) if kind == "llm" else (),
        streamed=params.get("stream") is True or first_token is not None,
        service_tier=_tier(attributes, params),
        from_cache=_from_cache(attributes.get("output.value")),
    )


def _answered(attributes: Mapping[str, Any]) -> str | None:
    return text(first_of(attributes, _MODEL))


def _unrouted(model: str | None, provider: str | None) -> str | None:
    """The model's own name: LiteLLM routes by "openai/gpt-4o", which says the provider twice."""
    return text(model.removeprefix(f"{provider}/")) if model and provider else model


def _provider(attributes: Mapping[str, Any]) -> str | None:
    return provider_name(attributes.get("llm.provider") or attributes.get("llm.system"))


def _cost(attributes: Mapping[str, Any]) -> float | None:
    total = amount(attributes.get(_COST))
    if total is not None:
        return total
    parts = [amount(attributes.get(key)) for key in _COST_PARTS]
    return None if None in parts else sum(part for part in parts if part is not None)


def _from_cache(output: Any) -> bool:
    """Whether LangChain's own cache answered."""
    if not isinstance(output, str) or not output.startswith(_LANGCHAIN) or len(output) > _SEARCHED_LENGTH:
        return False
    return _CACHED_ANSWER.search(output) is not None


def _usage(attributes: Mapping[str, Any]) -> Usage | None:
    get = attributes.get
    return usage_of(
        get(_PROMPT),
        get(_COMPLETION),
        get(_TOTAL),
        get("llm.token_count.prompt_details.cache_read"),
        get("llm.token_count.prompt_details.cache_write"),
        get("llm.token_count.completion_details.reasoning"),
        get("llm.token_count.prompt_details.audio"),
        get("llm.token_count.completion_details.audio"),
    )


def _with_cached(usage: Usage | None, output: Any) -> Usage | None:
    """The usage with Anthropic's cached tokens from the answer, where the attributes only count them in the prompt."""
    if usage is None or usage.cached is not None or usage.cache_write is not None or not isinstance(output, str):
        return usage
    if len(output) > _SEARCHED_LENGTH or _CACHE_SIGN not in output:
        return usage
    found = {name: int(count) for name, count in _CACHED.findall(output)}
    return replace(usage, cached=found.get("read"), cache_write=found.get("creation"))


def _invocation(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """The request's parameters; a failed span names its model nowhere else."""
    value = attributes.get("llm.invocation_parameters") or attributes.get("embedding.invocation_parameters")
    return mapping(value) if isinstance(value, str) and len(value) <= _PARSED_LENGTH else {}


def _tier(attributes: Mapping[str, Any], params: Mapping[str, Any]) -> str | None:
    """The tier that the answer names, else the one that was asked for."""
    output = attributes.get("output.value")
    if isinstance(output, str) and len(output) <= _SEARCHED_LENGTH and (named := _TIER.search(output)):
        return service_tier(named[1])
    return service_tier(params.get("service_tier"))


def _tools_asked(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    found: list[tuple[int, int, str]] = []
    for key, value in attributes.items():
        if key.endswith(_TOOL_CALL_END) and (place := _TOOL_CALL.fullmatch(key)):
            found.append((int(place[1]), int(place[2]), text(value) or "?"))
    return tuple(name for _, _, name in sorted(found))


def response_id(output: Any) -> str | None:
    """The provider's id of an answer, found in the text of `output.value`: OpenInference has no attribute for it.

    OpenAI and Anthropic answers begin with it, rebuilt streams hold it later, LangChain's hold it deep inside and
    beside ids of messages, hence the order.
    """
    if not isinstance(output, str) or output[:1] not in ("{", "["):
        return None
    if head := _HEAD_ID.match(output):
        return head[1]
    if len(output) > _SEARCHED_LENGTH:
        return None
    found = {match[2]: match[1] for match in reversed(list(_KNOWN_ID.finditer(output)))}
    known = next((found[prefix] for prefix in _ID_ORDER if prefix in found), None)
    if known is None and len(output) <= _PARSED_LENGTH:
        answer = mapping(output)
        return text(answer.get("id")) or _langchain_id(answer)
    return known


def _langchain_id(answer: Mapping[str, Any]) -> str | None:
    """The provider's id in an `LLMResult` of LangChain: `generations[0][0].message.kwargs.response_metadata.id`."""
    at: Any = answer.get("generations")
    for step in (0, 0, "message", "kwargs", "response_metadata", "id"):
        if isinstance(at, list) and isinstance(step, int) and at:
            at = at[step]
        elif isinstance(at, Mapping) and isinstance(step, str):
            at = at.get(step)
        else:
            return None
    return text(at)
