"""Messages, tools, documents, inputs and outputs of spans of OpenTelemetry's GenAI conventions, for the detail pane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from hh_jupyter.conventions.event_type import OPERATION
from hh_jupyter.conventions.facts import EventLike, Message, SpanContent, ToolCall
from hh_jupyter.conventions.values import first_of, items_of, parsed, prefixed, shown_text, text, tool_answer

INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
INSTRUCTIONS: Final = "gen_ai.system_instructions"

_REQUEST: Final = "gen_ai.request."
_DETAILS_EVENT: Final = "gen_ai.client.inference.operation.details"
_LEGACY_EVENTS: Final = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
    "gen_ai.choice": "assistant",
}


def content(attributes: Mapping[str, Any], events: Sequence[EventLike]) -> SpanContent | None:
    """What `gen_ai.*` holds, None for a span without an operation or a model."""
    if OPERATION not in attributes and "gen_ai.request.model" not in attributes:
        return None
    get = attributes.get
    told = next((event.attributes for event in events if event.name == _DETAILS_EVENT and event.attributes), {})
    asked, answered = _from_events(events)
    inputs = messages_of(get(INPUT_MESSAGES) or told.get(INPUT_MESSAGES) or get("pydantic_ai.all_messages")) or asked
    outputs = messages_of(get(OUTPUT_MESSAGES) or told.get(OUTPUT_MESSAGES)) or answered
    instructions = _instructions(get(INSTRUCTIONS) or told.get(INSTRUCTIONS))
    embedded = get(OPERATION) == "embeddings"
    return SpanContent(
        input_messages=() if embedded else (*instructions, *inputs),
        output_messages=outputs,
        input=[message.text for message in inputs] or None if embedded else _input(attributes),
        output=_output(attributes),
        tool_name=text(get("gen_ai.tool.name")),
        tool_call_id=text(get("gen_ai.tool.call.id")),
        params=_params(attributes),
        documents=_documents(get("gen_ai.retrieval.documents")),
        tools_offered=tools_offered(get("gen_ai.tool.definitions") or told.get("gen_ai.tool.definitions")),
        finish_reason=_finish_reason(get("gen_ai.response.finish_reasons"), attributes),
        session_id=text(get("gen_ai.conversation.id")),
        user_id=text(get("user.id")) or text(get("enduser.id")),
    )


def messages_of(value: Any) -> tuple[Message, ...]:
    """The messages of a list in OpenTelemetry's shape, {role, parts}, or in a provider's, {role, content}."""
    return tuple(found for entry in items_of(value) if isinstance(entry, Mapping) for found in messages_in(entry))


def messages_in(entry: Mapping[str, Any]) -> list[Message]:
    """One message of any of these shapes, and one of role tool for each tool result among its parts.

    Parts that are neither text nor tool call are kept as they are.
    """
    texts: list[str] = []
    calls = [_openai_call(call) for call in items_of(entry.get("tool_calls"))]
    others: list[Any] = []
    results: list[Message] = []
    parts = first_of(entry, ("parts", "content"))
    for part in [parts] if isinstance(parts, str) else items_of(parts):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if isinstance(part, str):
            texts.append(part)
        elif kind == "text":
            texts.append(shown_text(first_of(part, ("content", "text"))))
        elif kind in ("tool_call", "tool_use"):
            calls.append(_part_call(part))
        elif kind in ("tool_call_response", "tool_result"):
            results.append(_result(part))
        else:
            others.append(part)
    if results and not (texts or calls or others):
        return results
    own = Message(
        role=text(entry.get("role")) or "",
        text="\n".join(texts) if texts else None,
        tool_calls=tuple(calls),
        tool_call_id=text(entry.get("tool_call_id")),
        parts=tuple(others),
    )
    return [*results, own]


def _result(part: Mapping[str, Any]) -> Message:
    said = tool_answer(first_of(part, ("response", "result", "content")))
    answers = text(first_of(part, ("id", "tool_use_id")))
    return Message(role="tool", text=shown_text(said), tool_call_id=answers)


def tools_offered(value: Any) -> tuple[Mapping[str, Any], ...]:
    """Each tool as {name, description}, of a list in OpenAI's or Anthropic's shape, or flat."""
    found = []
    for entry in items_of(value):
        tool = parsed(entry)
        if isinstance(tool, Mapping):
            inner = _inside(tool, "function")
            found.append({name: inner[name] for name in ("name", "description") if inner.get(name)})
    return tuple(found)


def _part_call(part: Mapping[str, Any]) -> ToolCall:
    return ToolCall(
        name=text(part.get("name")) or "?",
        arguments=parsed(first_of(part, ("arguments", "input"))),
        id=text(part.get("id")),
    )


def _openai_call(call: Any) -> ToolCall:
    given: Mapping[str, Any] = call if isinstance(call, Mapping) else {}
    function = _inside(given, "function")
    return ToolCall(
        name=text(function.get("name")) or "?",
        arguments=parsed(first_of(function, ("arguments", "args", "input"))),
        id=text(given.get("id")),
    )


def _inside(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The mapping under this name, else the fields themselves: some wrap, some do not."""
    inner = fields.get(name)
    return inner if isinstance(inner, Mapping) else fields


def _instructions(value: Any) -> tuple[Message, ...]:
    """The system prompt as a message; it is a list of parts, or a bare text."""
    value = parsed(value)
    if not value:
        return ()
    return tuple(messages_in({"role": "system", "parts": value}))


def _from_events(events: Sequence[EventLike]) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """Messages that stand in span events, as some instrumentors wrote them: (asked, answered)."""
    asked: list[Message] = []
    answered: list[Message] = []
    for event in events:
        role = _LEGACY_EVENTS.get(event.name)
        if role is None or not event.attributes:
            continue
        body = parsed(event.attributes.get("gen_ai.event.content"))
        body = body if isinstance(body, Mapping) else event.attributes
        inner = parsed(body.get("message"))
        found = messages_in({"role": role, **(inner if isinstance(inner, Mapping) else body)})
        # Without content, instrumentors write an event of each message all the same.
        told = [message for message in found if message.text or message.tool_calls or message.parts]
        (answered if event.name == "gen_ai.choice" else asked).extend(told)
    return tuple(asked), tuple(answered)


def answers_in(events: Sequence[EventLike]) -> tuple[Message, ...]:
    """What the model answered, where that stands in events and not on the span."""
    details = (event.attributes or {} for event in events if event.name == _DETAILS_EVENT)
    told = tuple(message for attributes in details for message in messages_of(attributes.get(OUTPUT_MESSAGES)))
    return told or _from_events(events)[1]


def _input(attributes: Mapping[str, Any]) -> Any:
    query = attributes.get("gen_ai.retrieval.query.text")
    if query is not None:
        return query
    variables = prefixed(attributes, "gen_ai.prompt.variable.")
    return parsed(attributes.get("gen_ai.tool.call.arguments")) or variables or None


def _output(attributes: Mapping[str, Any]) -> Any:
    return parsed(first_of(attributes, ("gen_ai.tool.call.result", "final_result")))


def _params(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What the model was asked with, by the names that come after `gen_ai.request.`."""
    found = prefixed(attributes, _REQUEST)
    found.pop("model", None)
    return found


def _documents(value: Any) -> tuple[Mapping[str, Any], ...]:
    """Each as {id, score, ...} without what is null."""
    return tuple(
        {"text" if name == "content" else str(name): known for name, known in entry.items() if known is not None}
        for entry in items_of(value)
        if isinstance(entry, Mapping)
    )


def _finish_reason(value: Any, attributes: Mapping[str, Any]) -> str | None:
    reasons = [str(reason) for reason in items_of(value) if reason]
    return ", ".join(dict.fromkeys(reasons)) or text(attributes.get("anthropic.message.stop_reason"))
