"""Spans of OpenInference instrumentors: `openinference.span.kind`, `llm.*`, `input.value` and so on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from hh_jupyter.conventions import plain
from hh_jupyter.conventions.event_type import OPENINFERENCE_KIND
from hh_jupyter.conventions.facts import (
    MAX_INDEX_DIGITS,
    EventLike,
    Message,
    SpanContent,
    SpanFacts,
    ToolCall,
    Usage,
    as_amount,
    as_text,
    first_of,
    grouped,
    items_of,
    mapping,
    parsed,
    provider_name,
    service_tier,
    text,
    tool_result,
    usage_of,
)
from hh_jupyter.conventions.messages import tools_offered

__all__ = ["FAMILY", "content", "facts"]

# Content for the detail pane.

_INPUTS: Final = ("input.value", "reranker.query")
_PROMPTS: Final = ("llm.prompts", "prompt.text", "user")
_CHOICES: Final = ("llm.choices", "completion.text", "assistant")
_TEXTS: Final = frozenset({"text", "input_text", "output_text", None})
_FUNCTION: Final = re.compile(rf"function\.\d{{1,{MAX_INDEX_DIGITS}}}")
_COST: Final = "llm.cost."
_EXTRA: Final = {
    "llm.prompt_template.template": "prompt template",
    "llm.prompt_template.version": "prompt version",
    "llm.prompt_template.variables": "prompt variables",
    "agent.name": "agent",
    "graph.node.id": "node",
    "graph.node.name": "node name",
    "graph.node.parent_id": "node above",
    "tool.description": "tool description",
    "reranker.top_k": "top_k",
    "prompt.id": "prompt id",
    "prompt.url": "prompt url",
}


def content(attributes: Mapping[str, Any], events: Sequence[EventLike]) -> SpanContent | None:
    """Content of an OpenInference span; None for other spans."""
    if OPENINFERENCE_KIND not in attributes:
        return None
    get, items = attributes.get, attributes.items()
    params = get("llm.invocation_parameters") or get("embedding.invocation_parameters")
    return SpanContent(
        input_messages=_messages(attributes, "llm.input_messages") or _completions(attributes, *_PROMPTS),
        output_messages=_messages(attributes, "llm.output_messages") or _completions(attributes, *_CHOICES),
        input=_input(attributes),
        # The output of an embedding call is vectors of thousands of numbers, which are not shown.
        output=None if "embedding.model_name" in attributes else tool_result(parsed(get("output.value"))),
        tool_name=text(get("tool.name")),
        tool_call_id=text(get("tool_call.id")),
        params=_params(params),
        documents=_documents(attributes),
        tools_offered=tuple(tool for entry in grouped(items, "llm.tools") for tool in _offered(entry)),
        finish_reason=text(get("llm.finish_reason")),
        metadata=_metadata(attributes),
        session_id=text(get("session.id")),
        user_id=text(get("user.id")),
    )


def _params(value: Any) -> Mapping[str, Any]:
    """The parameters of the request, without the tools that LangChain repeats among them."""
    return {name: param for name, param in mapping(value).items() if name not in ("tools", "functions")}


def _metadata(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """The user's metadata and tags, and attributes of the agent, tool, prompt and cost."""
    get = attributes.get
    extra = {
        "tags": list(items_of(get("tag.tags"))) or None,
        **{name: parsed(get(key)) for key, name in _EXTRA.items()},
        "cost": {key.removeprefix(_COST): value for key, value in attributes.items() if key.startswith(_COST)},
    }
    return {**mapping(get("metadata")), **{name: value for name, value in extra.items() if value}}


def _input(attributes: Mapping[str, Any]) -> Any:
    """The input of a span; the texts of an embedding call."""
    texts = [entry.get("embedding.text") for entry in grouped(attributes.items(), "embedding.embeddings")]
    value = [found for found in texts if found is not None] or parsed(first_of(attributes, _INPUTS))
    is_tool = str(attributes.get(OPENINFERENCE_KIND)).upper() == "TOOL"
    return parsed(attributes.get("tool.parameters")) if value is None and is_tool else value


def _messages(attributes: Mapping[str, Any], prefix: str) -> tuple[Message, ...]:
    return tuple(message for fields in grouped(attributes.items(), prefix) for message in _message(fields))


def _completions(attributes: Mapping[str, Any], prefix: str, key: str, role: str) -> tuple[Message, ...]:
    """Messages of a text completion, whose texts have no roles."""
    texts = [entry.get(key) for entry in grouped(attributes.items(), prefix)]
    return tuple(Message(role, found) for found in texts if isinstance(found, str))


def _message(fields: Mapping[str, Any]) -> list[Message]:
    """The message, or one for each function result in a message of AutoGen."""
    results = _function_results(fields)
    if results:
        return results
    texts: list[str] = []
    parts: list[Any] = []
    for part in grouped(fields.items(), "message.contents"):
        content, kind = part.get("message_content.text"), part.get("message_content.type")
        if isinstance(content, str) and kind in _TEXTS:
            texts.append(content)
        elif kind != "tool_use":  # Repeated under message.tool_calls.
            parts.append(part)
    full_text = fields.get("message.content")
    if not texts and isinstance(full_text, str):
        texts.append(full_text)
    calls = [_tool_call(call) for call in grouped(fields.items(), "message.tool_calls")]
    if name := text(fields.get("message.function_call_name")):
        calls.append(ToolCall(name, parsed(fields.get("message.function_call_arguments_json"))))
    own = Message(
        role=text(fields.get("message.role")) or "",
        text="\n".join(texts) if texts else None,
        tool_calls=tuple(calls),
        tool_call_id=text(fields.get("message.tool_call_id")),
        parts=tuple(parts),
    )
    return [own]


def _function_results(fields: Mapping[str, Any]) -> list[Message]:
    """Messages for the results under `function.N`, each in JSON."""
    keys = sorted((key for key in fields if _FUNCTION.fullmatch(key)), key=lambda key: int(key.partition(".")[2]))
    found = (mapping(fields[key]) for key in keys)
    return [
        Message("tool", as_text(result.get("content")), tool_call_id=text(result.get("call_id")))
        for result in found
        if result
    ]


def _offered(tool: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """The tool, named by the attribute beside its schema, else by the schema."""
    name, description = tool.get("tool.name"), tool.get("tool.description")
    if isinstance(name, str) and name:
        named = {"name": name, **({"description": description} if description else {})}
        return tuple({**schema, **named} for schema in tools_offered([tool.get("tool.json_schema")])) or (named,)
    return tools_offered([tool.get("tool.json_schema")])


def _tool_call(fields: Mapping[str, Any]) -> ToolCall:
    return ToolCall(
        name=text(fields.get("tool_call.function.name")) or "?",
        arguments=parsed(fields.get("tool_call.function.arguments")),
        id=text(fields.get("tool_call.id")),
    )


def _documents(attributes: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Retrieved documents as {id, text, score, metadata}, without missing fields."""
    return tuple(
        {
            name: parsed(entry[key]) if name == "metadata" else entry[key]
            for name, key in _DOCUMENT_FIELDS.items()
            if key in entry
        }
        for prefix in ("retrieval.documents", "reranker.output_documents", "output.documents")
        for entry in grouped(attributes.items(), prefix)
    )


_DOCUMENT_FIELDS = {
    "id": "document.id",
    "text": "document.content",
    "score": "document.score",
    "metadata": "document.metadata",
}


# Facts for records and totals.

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
_TOTAL_COST: Final = "llm.cost.total"
_COST_PARTS: Final = ("llm.cost.prompt", "llm.cost.completion")
_MODEL: Final = ("llm.response.model_name", "llm.model_name", "embedding.model_name", "reranker.model_name")
_LANGCHAIN: Final = '{"generations"'
_CACHED_ANSWER = re.compile(r'"total_cost"\s*:\s*0(?:\.0+)?\s*[,}]')
"""LangChain's cache writes this cost into the usage metadata of a cached response."""

_INDEX: Final = rf"(\d{{1,{MAX_INDEX_DIGITS}}})"
_TOOL_CALL = re.compile(rf"llm\.output_messages\.{_INDEX}\.message\.tool_calls\.{_INDEX}\.tool_call\.function\.name")
_TOOL_CALL_END: Final = ".tool_call.function.name"

# In characters. Values are parsed while a span is finalized; longer ones are parsed only for the detail pane.
_PARSED_LENGTH: Final = 65_536
_SEARCHED_LENGTH: Final = 262_144
_HEAD_ID = re.compile(r'\{\s*"id"\s*:\s*"([^"\\]{1,200})"')
_TIER = re.compile(r'"service_tier"\s*:\s*"(\w{1,40})"')
_CACHE_MARKER: Final = '_input_tokens":'
_CACHED = re.compile(r'(?<!\\)"cache_(read|creation)_input_tokens":\s*(\d{1,12})\b')
_KNOWN_ID = re.compile(r'"id"\s*:\s*"((resp_|chatcmpl-|msg_)[\w.:-]{1,200})"')
_ID_ORDER: Final = ("resp_", "chatcmpl-", "msg_")


def facts(
    attributes: Mapping[str, Any], events: Sequence[EventLike], start_ns: int, event_type: str
) -> SpanFacts | None:
    """Facts of a span with an OpenInference kind; otherwise None."""
    span_kind = attributes.get(OPENINFERENCE_KIND)
    if span_kind is None:
        return None
    kind = _KINDS.get(str(span_kind).upper(), "other")
    if kind not in _DETAILED:
        if _PROMPT not in attributes and _COMPLETION not in attributes and _TOTAL_COST not in attributes:
            tool = text(attributes.get("tool.name")) if kind == "tool" else None
            return plain.shared_facts(kind, event_type, FAMILY, tool)
        # An agent or a chain may have the sum of its run.
        return SpanFacts(
            kind=kind,
            event_type=event_type,
            family=FAMILY,
            model=_response_model(attributes),
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
    # The Agents SDK copies its parameters from the response: their model is the one that answered.
    own = {} if "id" in params else params
    name = attributes.get("llm.request.model_name") or own.get("model") or own.get("model_name")
    requested = _without_route(text(name), provider)
    first_token = next((event.timestamp - start_ns for event in events if event.name == FIRST_CHUNK_EVENT), None)
    return SpanFacts(
        kind=kind,
        event_type=event_type,
        family=FAMILY,
        model=_without_route(_response_model(attributes), provider) or requested,
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


def _response_model(attributes: Mapping[str, Any]) -> str | None:
    return text(first_of(attributes, _MODEL))


def _without_route(model: str | None, provider: str | None) -> str | None:
    """The model's name without LiteLLM's route: "gpt-4o" for "openai/gpt-4o"."""
    return text(model.removeprefix(f"{provider}/")) if model and provider else model


def _provider(attributes: Mapping[str, Any]) -> str | None:
    return provider_name(attributes.get("llm.provider") or attributes.get("llm.system"))


def _cost(attributes: Mapping[str, Any]) -> float | None:
    total = as_amount(attributes.get(_TOTAL_COST))
    if total is not None:
        return total
    parts = [as_amount(attributes.get(key)) for key in _COST_PARTS]
    return None if None in parts else sum(part for part in parts if part is not None)


def _from_cache(output: Any) -> bool:
    """Whether LangChain's cache answered."""
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
    """The usage with Anthropic's cached tokens from the response, if no attribute counts them separately."""
    if usage is None or usage.cached is not None or usage.cache_write is not None or not isinstance(output, str):
        return usage
    if len(output) > _SEARCHED_LENGTH or _CACHE_MARKER not in output:
        return usage
    found = {name: int(count) for name, count in _CACHED.findall(output)}
    return replace(usage, cached=found.get("read"), cache_write=found.get("creation"))


def _invocation(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of the request: the only place where a failed span names its model."""
    value = attributes.get("llm.invocation_parameters") or attributes.get("embedding.invocation_parameters")
    return mapping(value) if isinstance(value, str) and len(value) <= _PARSED_LENGTH else {}


def _tier(attributes: Mapping[str, Any], params: Mapping[str, Any]) -> str | None:
    """The price tier in the response, else the requested one."""
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
    """The provider's response id in the text of `output.value`; OpenInference has no attribute for it.

    Responses of OpenAI and Anthropic begin with it, reassembled streams have it later, and LangChain nests it beside
    ids of messages, hence the order.
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
    """The provider's id in LangChain's `LLMResult`: `generations[0][0].message.kwargs.response_metadata.id`."""
    at: Any = answer.get("generations")
    for step in (0, 0, "message", "kwargs", "response_metadata", "id"):
        if isinstance(at, list) and isinstance(step, int) and at:
            at = at[step]
        elif isinstance(at, Mapping) and isinstance(step, str):
            at = at.get(step)
        else:
            return None
    return text(at)
