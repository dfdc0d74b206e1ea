"""Spans of OpenTelemetry's GenAI conventions: `gen_ai.*`, in today's names and in those that were used before.

Written by the official instrumentors, by OpenLLMetry, by Pydantic AI, and by clients that trace themselves.
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
    amount,
    first_of,
    items_of,
    mapping,
    parsed,
    prefixed,
    provider_name,
    service_tier,
    text,
    tool_answer,
    usage_of,
    whole,
)
from hh_jupyter.conventions.messages import (
    answered,
    asked,
    content_blocks,
    finish_reason_of,
    messages_in,
    messages_of,
    system_prompt,
    tools_asked,
    tools_offered,
)

__all__ = ["FAMILY", "content", "facts", "kind_of", "read"]

# Messages, tools, documents, inputs and outputs of spans of OpenTelemetry's GenAI conventions, for the detail pane.

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
"""Pydantic AI's first versions have the events in an attribute."""

_RAW_REQUESTS: Final = ("pydantic_ai.all_messages", "gen_ai.prompt", "gcp.vertex.agent.llm_request", "request_data")
_RAW_ANSWERS: Final = ("gen_ai.completion", "gcp.vertex.agent.llm_response", "response_data")
"""Whole requests and answers, of LangSmith, OpenLIT, Google's ADK and Logfire, where there are no messages."""

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
"""What the span tells of its agent, tool or answer, by the words of the detail pane."""

_SIGNS: Final = (OPERATION, "gen_ai.request.model", "gen_ai.tool.name", "pydantic_ai.all_messages", *_LISTS)


def content(attributes: Mapping[str, Any], events: Sequence[EventLike]) -> SpanContent | None:
    """What `gen_ai.*` holds, None for a span without an operation, a model, a tool or messages."""
    if not any(sign in attributes for sign in _SIGNS) and not any(event.name in _EVENTS for event in events):
        return None
    found = {**_from_details(events), **attributes} if events else attributes
    get, operation = found.get, found.get(OPERATION)
    inputs, outputs = messages_of(get(INPUT_MESSAGES)), messages_of(get(OUTPUT_MESSAGES))
    one_each = [event for event in (*events, *_listed(found)) if event.name in _MESSAGE_EVENTS and event.attributes]
    inputs = inputs or tuple(m for event in one_each if event.name != _CHOICE for m in _event_messages(event))
    outputs = outputs or tuple(m for event in one_each if event.name == _CHOICE for m in _event_messages(event))
    shared = _shared(found)
    if operation == "execute_tool" or (operation is None and "gen_ai.tool.name" in attributes):
        arguments, result = _input(found), _output(found)
        return SpanContent(
            input=_arguments(inputs) if arguments is None else arguments,
            output=_returned(outputs) if result is None else result,
            **shared,
        )
    if operation == "embeddings":
        return SpanContent(input=[message.text for message in inputs] or None, output=_output(found), **shared)
    return SpanContent(
        input_messages=(*system_prompt(get(INSTRUCTIONS)), *(inputs or asked(first_of(found, _RAW_REQUESTS)))),
        output_messages=outputs or answered(first_of(found, _RAW_ANSWERS)),
        input=_input(found),
        output=_output(found),
        **shared,
    )


def _shared(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What spans of every operation may have."""
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


def _from_details(events: Sequence[EventLike]) -> dict[str, Any]:
    """What events hold that others have in attributes: the details of a request, in one event or several.

    Messages of several events are one conversation; an event that has the earlier ones too stands for them.
    """
    found: dict[str, Any] = {}
    for event in events:
        if not event.attributes or (event.name != DETAILS_EVENT and event.name not in _RAW_EVENTS):
            continue
        for key, value in event.attributes.items():
            if key in _LISTS and key in found:
                before, these = list(items_of(found[key])), list(items_of(value))
                found[key] = these if these[: len(before)] == before else before + these
            else:
                found[key] = value
    return found


def tools_asked_by_events(events: Sequence[EventLike]) -> tuple[str, ...]:
    """Names of the tools that an answer in events asks for."""
    choices: list[Message] = []
    for event in events:
        if event.attributes and event.name == DETAILS_EVENT and OUTPUT_MESSAGES in event.attributes:
            return tools_asked(_from_details(events)[OUTPUT_MESSAGES])
        if event.attributes and event.name == _CHOICE:
            choices += _event_messages(event)
    return tuple(call.name for message in choices for call in message.tool_calls)


class _Listed(NamedTuple):
    """An event that stands in an attribute."""

    name: str
    timestamp: int
    attributes: Mapping[str, Any]


def _listed(attributes: Mapping[str, Any]) -> list[EventLike]:
    entries = items_of(first_of(attributes, _LISTED_EVENTS))
    return [_Listed(str(entry.get("event.name")), 0, entry) for entry in entries if isinstance(entry, Mapping)]


def _event_messages(event: EventLike) -> list[Message]:
    """The message of an event, in its attributes or in the body of a log record.

    Its content is text, or blocks as JSON; a choice has it under "message", and Strands adds the tools' results.
    """
    given = event.attributes or {}
    body = parsed(given.get("gen_ai.event.content"))
    fields: Mapping[str, Any] = body if isinstance(body, Mapping) else given
    inner = parsed(fields.get("message"))
    if inner is not None:
        fields = {**fields, **(inner if isinstance(inner, Mapping) else {"content": inner})}
    said = fields.get("content")
    found = messages_in(
        {**fields, "role": fields.get("role") or _MESSAGE_EVENTS[event.name], "content": content_blocks(said) or said}
    )
    if results := content_blocks(given.get("tool.result")):
        found += messages_in({"role": "tool", "content": results})
    # Without content, instrumentors write an event of each message all the same.
    return [message for message in found if message.text or message.tool_calls or message.parts]


def _arguments(messages: Sequence[Message]) -> Any:
    """What a tool was called with, where a message tells it."""
    calls = [call.arguments for message in messages for call in message.tool_calls]
    return calls[0] if calls else _returned(messages)


def _returned(messages: Sequence[Message]) -> Any:
    """What a tool returned, where a message tells it."""
    return next((parsed(message.text) for message in messages if message.text is not None), None)


def _input(attributes: Mapping[str, Any]) -> Any:
    query = attributes.get("gen_ai.retrieval.query.text")
    if query is not None:
        return query
    arguments = parsed(first_of(attributes, _ARGUMENTS))
    variables = prefixed(attributes, "gen_ai.prompt.variable.")
    return (variables or parsed(first_of(attributes, _TASKS))) if arguments is None else arguments


def _output(attributes: Mapping[str, Any]) -> Any:
    return tool_answer(parsed(first_of(attributes, _RESULT)))


def _params(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What the model was asked with, by the names that come after `gen_ai.request.`."""
    found = prefixed(attributes, _REQUEST)
    for name in ("model", "tools", "user"):
        found.pop(name, None)
    return {**found, **{name: attributes[key] for key, name in _PARAMS.items() if attributes.get(key) is not None}}


def _offered(value: Any) -> tuple[Mapping[str, Any], ...]:
    """The tools among Pydantic AI's parameters of a request."""
    parameters = mapping(value)
    names = ("function_tools", "output_tools", "builtin_tools", "native_tools")
    return tuple(tool for name in names for tool in tools_offered(parameters.get(name)))


def _documents(value: Any) -> tuple[Mapping[str, Any], ...]:
    """Each as {id, score, ...} without what is null."""
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
