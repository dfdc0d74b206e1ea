"""Spans of OpenTelemetry's GenAI conventions: `gen_ai.*`, with current and older attribute names.

The official instrumentors, OpenLLMetry, Pydantic AI, and clients with built-in tracing write them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from hh_jupyter.conventions import plain
from hh_jupyter.conventions.event_type import OPERATION
from hh_jupyter.conventions.facts import (
    EventLike,
    Message,
    SpanContent,
    SpanFacts,
    Usage,
    as_amount,
    as_count,
    first_of,
    items_of,
    mapping,
    parsed,
    prefixed,
    provider_name,
    service_tier,
    text,
    tool_result,
    usage_of,
)
from hh_jupyter.conventions.messages import (
    content_blocks,
    finish_reason_of,
    messages_in,
    messages_of,
    request_messages,
    response_messages,
    system_prompt,
    tools_asked,
    tools_offered,
)

__all__ = ["FAMILY", "content", "facts", "kind_of", "read"]

# Content for the detail pane.

INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
INSTRUCTIONS: Final = "gen_ai.system_instructions"
DETAILS_EVENT: Final = "gen_ai.client.inference.operation.details"

_REQUEST: Final = "gen_ai.request."
_CHOICE: Final = "gen_ai.choice"
_MESSAGE_EVENTS: Final = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
    _CHOICE: "assistant",
}
_LISTS: Final = (INPUT_MESSAGES, OUTPUT_MESSAGES)
_LISTED_EVENTS: Final = ("events", "all_messages_events")
"""Attributes in which early versions of Pydantic AI write events."""

_RAW_REQUESTS: Final = ("pydantic_ai.all_messages", "gen_ai.prompt", "gcp.vertex.agent.llm_request", "request_data")
_RAW_ANSWERS: Final = ("gen_ai.completion", "gcp.vertex.agent.llm_response", "response_data")
"""Complete requests and responses of LangSmith, OpenLIT, Google's ADK and Logfire, used if there are no messages."""

_RAW_EVENTS: Final = frozenset({"gen_ai.content.prompt", "gen_ai.content.completion"})
_EVENTS: Final = frozenset({DETAILS_EVENT, *_MESSAGE_EVENTS, *_RAW_EVENTS})
_ARGUMENTS: Final = (
    "gen_ai.tool.call.arguments", "tool_arguments", "mistral_ai.tool.call.arguments", "gcp.vertex.agent.tool_call_args",
    "gen_ai.tool.input", "gen_ai.tool.args",
)  # fmt: skip
_RESULT: Final = (
    "gen_ai.tool.call.result", "tool_response", "gcp.vertex.agent.tool_response", "gen_ai.tool.output", "final_result",
    "crewai.crew.result",
)  # fmt: skip
_TASKS: Final = ("crewai.task.description", "crewai.crew.tasks")
_PARAMS: Final = {
    "gen_ai.output.type": "output_type",
    "gen_ai.retrieval.top_k": "top_k",
    "gen_ai.embeddings.dimension.count": "dimensions",
    "gen_ai.openai.request.service_tier": "service_tier",
    "gen_ai.openai.request.response_format": "response_format",
    "gen_ai.openai.request.seed": "seed",
    "openai.request.service_tier": "service_tier",
}
_METADATA: Final = {
    "gen_ai.agent.id": "agent id",
    "gen_ai.agent.name": "agent",
    "gen_ai.agent.version": "agent version",
    "gen_ai.agent.description": "agent description",
    "crewai.agent.goal": "agent goal",
    "crewai.agent.backstory": "agent backstory",
    "crewai.task.expected_output": "expected output",
    "gen_ai.workflow.name": "workflow",
    "gen_ai.tool.type": "tool type",
    "gen_ai.tool.description": "tool description",
    "gen_ai.data_source.id": "data source",
    "gen_ai.prompt.name": "prompt",
    "gen_ai.openai.response.service_tier": "service tier",
    "openai.response.service_tier": "service tier",
    "gen_ai.response.service_tier": "service tier",
    "gen_ai.openai.response.system_fingerprint": "system fingerprint",
    "openai.response.system_fingerprint": "system fingerprint",
    "openai.api.type": "api",
}
"""Attributes of the agent, tool or response -> label in the detail pane."""

_MARKER_KEYS: Final = (OPERATION, "gen_ai.request.model", "gen_ai.tool.name", "pydantic_ai.all_messages", *_LISTS)


def content(attributes: Mapping[str, Any], events: Sequence[EventLike]) -> SpanContent | None:
    """Content of a GenAI span; None for a span without operation, model, tool and messages."""
    if not any(key in attributes for key in _MARKER_KEYS) and not any(event.name in _EVENTS for event in events):
        return None
    found = {**_event_details(events), **attributes} if events else attributes
    get, operation = found.get, found.get(OPERATION)
    inputs, outputs = messages_of(get(INPUT_MESSAGES)), messages_of(get(OUTPUT_MESSAGES))
    message_events = [
        event for event in (*events, *_attribute_events(found)) if event.name in _MESSAGE_EVENTS and event.attributes
    ]
    inputs = inputs or tuple(m for event in message_events if event.name != _CHOICE for m in _event_messages(event))
    outputs = outputs or tuple(m for event in message_events if event.name == _CHOICE for m in _event_messages(event))
    common = _common_fields(found)
    if operation == "execute_tool" or (operation is None and "gen_ai.tool.name" in attributes):
        arguments, result = _input(found), _output(found)
        return SpanContent(
            input=_tool_arguments(inputs) if arguments is None else arguments,
            output=_tool_response(outputs) if result is None else result,
            **common,
        )
    if operation == "embeddings":
        return SpanContent(input=[message.text for message in inputs] or None, output=_output(found), **common)
    return SpanContent(
        input_messages=(
            *system_prompt(get(INSTRUCTIONS)),
            *(inputs or request_messages(first_of(found, _RAW_REQUESTS))),
        ),
        output_messages=outputs or response_messages(first_of(found, _RAW_ANSWERS)),
        input=_input(found),
        output=_output(found),
        **common,
    )


def _common_fields(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `SpanContent` that spans of every operation may have."""
    get = attributes.get
    offered = tools_offered(get("gen_ai.tool.definitions")) or _offered(get("model_request_parameters"))
    return {
        "tool_name": text(get("gen_ai.tool.name")),
        "tool_call_id": text(get("gen_ai.tool.call.id")),
        "params": _params(attributes),
        "documents": _documents(get("gen_ai.retrieval.documents")),
        "tools_offered": offered or tools_offered(mapping(get("request_data")).get("tools")),
        "finish_reason": _finish_reason(attributes),
        "metadata": {name: parsed(attributes[key]) for key, name in _METADATA.items() if attributes.get(key)},
        "session_id": text(get("gen_ai.conversation.id")) or text(get("session.id")),
        "user_id": text(get("user.id")) or text(get("enduser.id")) or text(get("gen_ai.request.user")),
    }


def _event_details(events: Sequence[EventLike]) -> dict[str, Any]:
    """Attributes of the events that hold the details of a request.

    Messages of several events form one conversation; an event that repeats the earlier messages replaces them.
    """
    found: dict[str, Any] = {}
    for event in events:
        if not event.attributes or (event.name != DETAILS_EVENT and event.name not in _RAW_EVENTS):
            continue
        for key, value in event.attributes.items():
            if key in _LISTS and key in found:
                earlier, new = list(items_of(found[key])), list(items_of(value))
                found[key] = new if new[: len(earlier)] == earlier else earlier + new
            else:
                found[key] = value
    return found


def tools_asked_by_events(events: Sequence[EventLike]) -> tuple[str, ...]:
    """Names of the tools that a response in events calls."""
    choices: list[Message] = []
    for event in events:
        if event.attributes and event.name == DETAILS_EVENT and OUTPUT_MESSAGES in event.attributes:
            return tools_asked(_event_details(events)[OUTPUT_MESSAGES])
        if event.attributes and event.name == _CHOICE:
            choices += _event_messages(event)
    return tuple(call.name for message in choices for call in message.tool_calls)


class _AttributeEvent(NamedTuple):
    """An event that was written as an attribute."""

    name: str
    timestamp: int
    attributes: Mapping[str, Any]


def _attribute_events(attributes: Mapping[str, Any]) -> list[EventLike]:
    entries = items_of(first_of(attributes, _LISTED_EVENTS))
    return [_AttributeEvent(str(entry.get("event.name")), 0, entry) for entry in entries if isinstance(entry, Mapping)]


def _event_messages(event: EventLike) -> list[Message]:
    """The messages of an event, from its attributes or from the body of a log record.

    Content is text or JSON blocks. A choice has it under "message", and Strands adds tool results.
    """
    attributes = event.attributes or {}
    body = parsed(attributes.get("gen_ai.event.content"))
    fields: Mapping[str, Any] = body if isinstance(body, Mapping) else attributes
    inner = parsed(fields.get("message"))
    if inner is not None:
        fields = {**fields, **(inner if isinstance(inner, Mapping) else {"content": inner})}
    content = fields.get("content")
    found = messages_in(
        {
            **fields,
            "role": fields.get("role") or _MESSAGE_EVENTS[event.name],
            "content": content_blocks(content) or content,
        }
    )
    if results := content_blocks(attributes.get("tool.result")):
        found += messages_in({"role": "tool", "content": results})
    # Instrumentors write an event for each message even if content is not captured.
    return [message for message in found if message.text or message.tool_calls or message.parts]


def _tool_arguments(messages: Sequence[Message]) -> Any:
    """The arguments of a tool call, from messages."""
    calls = [call.arguments for message in messages for call in message.tool_calls]
    return calls[0] if calls else _tool_response(messages)


def _tool_response(messages: Sequence[Message]) -> Any:
    """The result of a tool, from messages."""
    return next((parsed(message.text) for message in messages if message.text is not None), None)


def _input(attributes: Mapping[str, Any]) -> Any:
    query = attributes.get("gen_ai.retrieval.query.text")
    if query is not None:
        return query
    arguments = parsed(first_of(attributes, _ARGUMENTS))
    variables = prefixed(attributes, "gen_ai.prompt.variable.")
    return (variables or parsed(first_of(attributes, _TASKS))) if arguments is None else arguments


def _output(attributes: Mapping[str, Any]) -> Any:
    return tool_result(parsed(first_of(attributes, _RESULT)))


def _params(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Request parameters, by their names after `gen_ai.request.`."""
    found = prefixed(attributes, _REQUEST)
    for name in ("model", "tools", "user"):
        found.pop(name, None)
    return {**found, **{name: attributes[key] for key, name in _PARAMS.items() if attributes.get(key) is not None}}


def _offered(value: Any) -> tuple[Mapping[str, Any], ...]:
    """The tools in Pydantic AI's request parameters."""
    parameters = mapping(value)
    names = ("function_tools", "output_tools", "builtin_tools", "native_tools")
    return tuple(tool for name in names for tool in tools_offered(parameters.get(name)))


def _documents(value: Any) -> tuple[Mapping[str, Any], ...]:
    """Each document as {id, score, ...} without null fields."""
    return tuple(
        {"text" if name == "content" else str(name): known for name, known in entry.items() if known is not None}
        for entry in items_of(value)
        if isinstance(entry, Mapping)
    )


def _finish_reason(attributes: Mapping[str, Any]) -> str | None:
    one, several = (attributes.get(f"gen_ai.response.finish_{name}") for name in ("reason", "reasons"))
    reasons = [str(reason) for reason in items_of(several) if reason] or ([one] if isinstance(one, str) and one else [])
    # Semantic Kernel writes the name of a Python constant: "FinishReason.TOOL_CALLS".
    found = [reason.partition(".")[2].lower() if reason.startswith("FinishReason.") else reason for reason in reasons]
    return (
        ", ".join(dict.fromkeys(found))
        or text(attributes.get("anthropic.message.stop_reason"))
        or finish_reason_of(first_of(attributes, _RAW_ANSWERS))
    )


# Facts for records and totals.

FAMILY: Final = "otel"
MODEL_KINDS: Final = frozenset({"llm", "embedding", "reranker"})
REQUEST_MODEL: Final = "gen_ai.request.model"

_KINDS: Final = {
    "chat": "llm", "text_completion": "llm", "generate_content": "llm", "embeddings": "embedding",
    "execute_tool": "tool", "invoke_agent": "agent", "create_agent": "agent", "invoke_workflow": "chain",
    "execute_task": "chain", "plan": "chain", "retrieval": "retriever", "search_memory": "retriever",
    "rerank": "reranker", "load_skill": "tool", "read_skill_resource": "tool",
    # Retrieves an earlier response, whose tokens were used then.
    "fetch_response": "http",
    "create_memory": "db", "update_memory": "db", "upsert_memory": "db", "delete_memory": "db",
    "create_memory_store": "db", "delete_memory_store": "db",
}  # fmt: skip

# The first name that is present counts: two names of one quantity are never added.
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
"""Logfire's copy of the provider's usage object."""

_COST: Final = ("operation.cost", "gen_ai.cost.total_cost", "litellm.cost.total", "gen_ai.usage.cost")
"""Names of Pydantic AI and Logfire, LiteLLM (two releases) and OpenLIT; the conventions have none."""

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
_CLIENT_KEYS: Final = frozenset({*_PROVIDER, "http.request.method"})
"""Attributes of a client beside the model's name; Mistral 1.x has only the method for streams and failures."""

_ENDPOINTS: Final = {"embed": "embedding", "ocr": "other", "moderat": "other", "classif": "other"}
_CREW: Final = "crewai.crew.usage_metrics"


def facts(
    attributes: Mapping[str, Any], events: Sequence[EventLike], start_ns: int, event_type: str
) -> SpanFacts | None:
    """Facts of a span with a GenAI operation, or of a model call without one in older conventions; otherwise None."""
    kind = kind_of(attributes) or _kind_without_operation(attributes)
    return None if kind is None else read(attributes, events, start_ns, kind, event_type, FAMILY)


def kind_of(attributes: Mapping[str, Any]) -> str | None:
    """The kind by the name of the operation; "other" for an unknown name, None without an operation."""
    operation = attributes.get(OPERATION)
    return None if operation is None else _KINDS.get(str(operation).lower(), "other")


def _kind_without_operation(attributes: Mapping[str, Any]) -> str | None:
    """The kind of a span without an operation: a model call of older conventions, or a span of Pydantic AI 2."""
    if REQUEST_MODEL in attributes:
        if _CLIENT_KEYS.isdisjoint(attributes):
            return None
        # The Mistral 1.x client names the endpoint, which is not always a chat.
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
    requested_tools: tuple[str, ...] | None = None,
) -> SpanFacts:
    """Facts from `gen_ai.*` attributes.

    Args:
        requested_tools: names of the called tools, if the caller found them outside the output messages.
    """
    usage, get = _usage(attributes, kind), attributes.get
    if kind not in MODEL_KINDS:
        if usage is None and _CREW in attributes:
            usage = _crew_usage(attributes)
        if usage is None:
            tool = text(get("gen_ai.tool.name")) if kind == "tool" else None
            return plain.shared_facts(kind, event_type, family, tool)
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
        tools_asked=(_tools_asked(attributes, events) if requested_tools is None else requested_tools)
        if kind == "llm"
        else (),
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
    """The usage with counts that only the provider's usage object has."""
    prompt = mapping(first_of(raw, ("prompt_tokens_details", "input_tokens_details")))
    completion = mapping(first_of(raw, ("completion_tokens_details", "output_tokens_details")))
    details = {
        "cached": first_of(prompt, ("cached_tokens",)) or raw.get("cache_read_input_tokens"),
        "cache_write": first_of(prompt, ("cache_write_tokens",)) or raw.get("cache_creation_input_tokens"),
        "reasoning": completion.get("reasoning_tokens"),
        "audio_prompt": prompt.get("audio_tokens"),
        "audio_completion": completion.get("audio_tokens"),
    }
    missing = {
        name: as_count(count) for name, count in details.items() if getattr(usage, name) is None and as_count(count)
    }
    return replace(usage, **missing) if missing else usage


def _provider(attributes: Mapping[str, Any]) -> str | None:
    return provider_name(first_of(attributes, _PROVIDER))


def _cost(attributes: Mapping[str, Any]) -> float | None:
    total = as_amount(first_of(attributes, _COST))
    if total is not None:
        return total
    parts = [as_amount(first_of(attributes, names)) for names in _COST_PARTS]
    return None if None in parts else sum(part for part in parts if part is not None)


def _response_id(attributes: Mapping[str, Any]) -> str | None:
    value = attributes.get("gen_ai.response.id")
    return value if isinstance(value, str) and value else None


def _first_token(attributes: Mapping[str, Any], events: Sequence[EventLike], start_ns: int) -> int | None:
    """Nanoseconds from the start to the first token; the attribute is in seconds."""
    seconds = as_amount(first_of(attributes, _FIRST_CHUNK))
    if seconds is not None:
        return round(seconds * 1e9)
    first = next((event.timestamp for event in events if event.name in _CHUNK_EVENTS), None)
    return first - start_ns if first is not None and first >= start_ns else None


def _streamed(attributes: Mapping[str, Any]) -> bool:
    value = first_of(attributes, _STREAM)
    # Logfire records the usage of a stream in a log after the span.
    return value in (True, "True", "true") or attributes.get("logfire.span_type") == "log"


def _tools_asked(attributes: Mapping[str, Any], events: Sequence[EventLike]) -> tuple[str, ...]:
    output = attributes.get(OUTPUT_MESSAGES)
    if output is None:
        found = tools_asked_by_events(events) if events else ()
        # OpenLIT writes the tools that a chat calls as if the span were a tool.
        names = text(attributes.get("gen_ai.tool.name")) if not found and "gen_ai.tool.call.id" in attributes else None
        return tuple(name.strip() for name in names.split(",")) if names else found
    return tools_asked(output)


def _crew_usage(attributes: Mapping[str, Any]) -> Usage | None:
    """Tokens of a CrewAI run, which OpenLLMetry writes as a Python literal."""
    get = mapping(attributes.get(_CREW)).get
    return usage_of(
        get("prompt_tokens"),
        get("completion_tokens"),
        get("total_tokens"),
        get("cached_prompt_tokens"),
        get("cache_creation_tokens"),
        get("reasoning_tokens"),
    )
