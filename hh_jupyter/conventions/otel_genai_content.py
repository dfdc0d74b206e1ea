"""Messages, tools, documents, inputs and outputs of spans of OpenTelemetry's GenAI conventions, for the detail pane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from hh_jupyter.conventions.event_type import OPERATION
from hh_jupyter.conventions.facts import EventLike, Message, SpanContent
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
from hh_jupyter.conventions.values import first_of, items_of, mapping, parsed, prefixed, text, tool_answer

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
