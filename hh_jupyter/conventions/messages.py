"""Messages, tool calls and tools in the shapes of providers and frameworks, read into one.

Instrumentors write a request or an answer as its client has it: OpenAI's chat completions and responses, Anthropic's,
Gemini's, Bedrock's and Cohere's; LangChain's and the Vercel AI SDK's messages; or OpenTelemetry's own {role, parts}.
What is neither text nor tool call, such as thinking, images and files, stays a part of its message in the shape that
it has: data in it is never text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from hh_jupyter.conventions.facts import (
    Message,
    ToolCall,
    first_of,
    items_of,
    json_value,
    parsed,
    shown_text,
    text,
    tool_answer,
)

MOST_PARSED: Final = 262_144
"""Characters of an answer that is read for the tools it asks for, once for each span."""

SYSTEM_ROLES: Final = frozenset({"system", "developer"})

_ROLES: Final = {
    "human": "user", "HumanMessage": "user", "HumanMessageChunk": "user",
    "ai": "assistant", "AIMessage": "assistant", "AIMessageChunk": "assistant", "model": "assistant",
    "SystemMessage": "system", "ToolMessage": "tool", "FunctionMessage": "function",
}  # fmt: skip
"""LangChain's and Gemini's names of roles; others are kept."""

_LANGCHAIN: Final = frozenset({"human", "ai", "system", "tool", "function", *_ROLES})
_TEXTS: Final = frozenset({"text", "input_text", "output_text", "refusal"})
_CALLS: Final = frozenset({"tool_call", "tool_use", "tool-call", "function_call", "custom_tool_call"})
_RESULTS: Final = frozenset(
    {
        "tool_call_response", "tool_result", "tool-result", "tool-error", "function_call_output",
        "custom_tool_call_output",
    }
)  # fmt: skip
_WRAPPED_CALLS: Final = ("toolUse", "functionCall", "function_call", "tool_use")
_WRAPPED_RESULTS: Final = ("toolResult", "functionResponse", "function_response", "tool_result")
_BLOCKS: Final = frozenset(
    {
        "text", "json", "image", "document", "video", "audio", "cachePoint", "guardContent", "reasoningContent",
        "citationsContent", "inlineData", "inline_data", "fileData", "file_data", *_WRAPPED_CALLS, *_WRAPPED_RESULTS,
    }
)  # fmt: skip
"""Keys of which a block without a type has one."""

_BLOCK_TYPES: Final = frozenset(
    {
        *_TEXTS, *_CALLS, *_RESULTS, "image", "image_url", "input_image", "document", "file", "input_file", "audio",
        "input_audio", "video", "media", "blob", "uri", "resource", "resource_link", "thinking", "redacted_thinking",
        "reasoning", "server_tool_use", "server_tool_call", "search_result",
    }
)  # fmt: skip

_THOUGHTS: Final = ("reasoning_content", "reasoning", "thinking")
"""Fields of a message beside its content, in which OpenAI's imitators and LangChain keep what the model thought."""

_CALL_WORDS: Final = ("tool_call", "tool_use", "toolUse", "tool-call", "function_call", "functionCall")
_SYSTEM: Final = ("system", "instructions", "system_instruction", "systemInstruction", "system_prompt")
_TURNS: Final = ("messages", "input", "contents", "prompt", "prompts", "message")
_INSIDE: Final = ("kwargs", "request", "body", "data")
"""Where those who note the arguments of a function have the request."""

_ANSWERS: Final = (
    "message", "output", "outputs", "response", "text", "output_text", "completion", "combined_chunk_content", "result",
)  # fmt: skip
_DEEPEST: Final = 4
"""Wrappings around a request or an answer."""

_NO_PARAMS: Final = frozenset(
    {
        *_SYSTEM, *_TURNS, *_INSIDE, "args", "self", "tools", "functions", "toolConfig", "model", "modelId", "model_id",
        "model_name", "text", "texts", "query", "documents", "_type",
    }
)  # fmt: skip


def messages_of(value: Any) -> tuple[Message, ...]:
    """The messages of a list, in any of the shapes; of a list of lists all of them, as LangChain writes a batch."""
    return tuple(_messages(items_of(value)))


def _messages(entries: Sequence[Any]) -> Iterator[Message]:
    for entry in entries:
        if isinstance(entry, Mapping):
            yield from messages_in(entry)
        elif isinstance(entry, list | tuple):
            yield from (found for inner in entry if isinstance(inner, Mapping) for found in messages_in(inner))


def messages_in(entry: Mapping[str, Any], role: str = "") -> list[Message]:
    """One message of any of these shapes, and one of role tool for each tool result among its parts.

    Parts that are neither text nor tool call are kept as they are.

    Args:
        role: of a message that does not tell its own.
    """
    entry = _unwrapped(entry)
    kind = text(entry.get("type"))
    found = _Parts()
    said = first_of(entry, ("parts", "content"))
    if "role" not in entry and _is_part(entry, said):
        found.add(entry)
        role = role or "assistant"
    else:
        role = text(entry.get("role")) or (kind if kind and kind in _LANGCHAIN else role)
    calls = [*items_of(entry.get("tool_calls")), *items_of(entry.get("function_call") if said is None else None)]
    found.calls.extend(_call(call) for call in calls if isinstance(call, Mapping))
    found.add_all(said)
    _add_fields(found, entry)
    if found.results and not (found.texts or found.calls or found.others):
        return found.results
    own = Message(
        role=_ROLES.get(role, role),
        text="\n".join(found.texts) if found.texts else None,
        tool_calls=tuple(_distinct(found.calls)),
        tool_call_id=text(entry.get("tool_call_id")),
        parts=tuple(found.others),
    )
    return [*found.results, own]


def _unwrapped(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """LangChain's serialised messages: {"lc": 1, "id": [..., "HumanMessage"], "kwargs"}, or {"type", "data"}."""
    inner = entry.get("kwargs") if "lc" in entry else entry.get("data") if "content" not in entry else None
    if not isinstance(inner, Mapping) or "content" not in inner:
        return entry
    names = entry.get("id")
    named = names[-1] if isinstance(names, list) and names and isinstance(names[-1], str) else None
    return {"type": named or entry.get("type"), **inner}


def _distinct(calls: Sequence[ToolCall]) -> Iterator[ToolCall]:
    """Each call once: some write it among the parts and beside them, or again without its id."""
    seen: set[str] = set()
    named = [(call.name, call.arguments) for call in calls if call.id is not None]
    for call in calls:
        if call.id is None and (call.name, call.arguments) in named:
            continue
        if call.id is None or call.id not in seen:
            yield call
        seen.add(call.id or "")


def _add_fields(found: _Parts, entry: Mapping[str, Any]) -> None:
    """What some write beside the content: a refusal, thoughts, spoken words."""
    extra = entry.get("additional_kwargs")
    for fields in (entry, extra if isinstance(extra, Mapping) else {}):
        thought = next((fields[name] for name in _THOUGHTS if isinstance(fields.get(name), str) and fields[name]), None)
        if thought is not None and not any(_thinks(part) for part in found.others):
            found.others.insert(0, {"type": "reasoning", "content": thought})
    refusal, audio = entry.get("refusal"), entry.get("audio")
    if isinstance(refusal, str) and refusal and not found.texts:
        found.texts.append(refusal)
    if isinstance(audio, Mapping):
        found.others.append({"type": "audio", "audio": audio})
        if isinstance(audio.get("transcript"), str) and not found.texts:
            found.texts.append(audio["transcript"])


def _thinks(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") in ("reasoning", "thinking")


class _Parts:
    """The parts of a message, sorted by what they are."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.calls: list[ToolCall] = []
        self.results: list[Message] = []
        self.others: list[Any] = []

    def add_all(self, parts: Any) -> None:
        for part in [parts] if isinstance(parts, str) else items_of(parts):
            self.add(part)

    def add(self, part: Any) -> None:
        said = _text_of(part)
        kind = part.get("type") if isinstance(part, Mapping) else None
        if said is not None:
            self.texts.append(said)
        elif not isinstance(part, Mapping):
            self.others.append(part)
        elif not isinstance(kind, str):
            self._add_wrapped(part)
        elif kind in _CALLS and not part.get("providerExecuted"):
            self.calls.append(_call(part))
        elif kind in _RESULTS:
            self.results.append(_result(part))
        elif kind not in _TEXTS or len(part) > 1:  # A text that was left out has a type only.
            self.others.append(part)

    def _add_wrapped(self, part: Mapping[str, Any]) -> None:
        """A block whose one key says what it is, as Bedrock and Gemini write them."""
        if (call := _wrapped(part, _WRAPPED_CALLS)) is not None:
            self.calls.append(_call(call))
        elif (result := _wrapped(part, _WRAPPED_RESULTS)) is not None:
            self.results.append(_result(result))
        else:
            self.others.append(part)


def _text_of(part: Any) -> str | None:
    """The text of a part that is text for the reader; None for all others, thoughts among them."""
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping) or part.get("thought"):
        return None
    kind = part.get("type")
    if isinstance(kind, str):
        said = first_of(part, ("content", "text", "refusal")) if kind in _TEXTS else None
    else:
        said = first_of(part, ("text", "json"))
    return None if said is None else shown_text(said)


def _wrapped(part: Mapping[str, Any], names: Sequence[str]) -> Mapping[str, Any] | None:
    """The block under one of these names: Bedrock's and Gemini's have no type."""
    inner = first_of(part, names)
    return inner if isinstance(inner, Mapping) else None


def _is_part(entry: Mapping[str, Any], said: Any) -> bool:
    """Whether an entry without a role is no message but an item of one, as in the Responses API."""
    kind = entry.get("type")
    if isinstance(kind, str):
        return kind in _RESULTS or (said is None and kind not in _LANGCHAIN and kind != "message")
    return said is None and not entry.keys().isdisjoint(_BLOCKS)


def content_blocks(value: Any) -> list[Any] | None:
    """The blocks of a message's content that was written as JSON; None for plain text, and for other JSON."""
    found = parsed(value)
    return found if isinstance(found, list) and found and all(map(_is_block, found)) else None


def _is_block(block: Any) -> bool:
    """Whether this is a part of a message for certain, and no data of a tool's that looks a little like one."""
    if not isinstance(block, Mapping):
        return False
    kind = block.get("type")
    if isinstance(kind, str):
        return kind in _BLOCK_TYPES
    return len(block) == 1 and not block.keys().isdisjoint(_BLOCKS)


def _result(part: Mapping[str, Any]) -> Message:
    said = _result_value(first_of(part, ("response", "result", "content", "output", "error")))
    answers = text(first_of(part, ("id", "tool_use_id", "toolUseId", "call_id", "toolCallId", "tool_call_id")))
    blocks = content_blocks(said)
    if blocks is None:
        return Message(role="tool", text=shown_text(said), tool_call_id=answers)
    texts = [said for block in blocks if (said := _text_of(block)) is not None]
    return Message(
        role="tool",
        text="\n".join(texts) if texts else None,
        tool_call_id=answers,
        parts=tuple(block for block in blocks if _text_of(block) is None),
    )


def _result_value(value: Any) -> Any:
    """What a tool returned, without the wrapping: {"type": "json", "value"}, {"content": [...]}."""
    if isinstance(value, Mapping):
        if value.keys() == {"type", "value"}:
            return value["value"]
        if isinstance(value.get("content"), list) and content_blocks(value["content"]) is not None:
            return value["content"]
    return tool_answer(value)


def _call(given: Mapping[str, Any]) -> ToolCall:
    function = next((given[name] for name in ("function", "custom") if isinstance(given.get(name), Mapping)), given)
    return ToolCall(
        name=text(first_of(function, ("name", "toolName", "tool_name"))) or "?",
        arguments=parsed(first_of(function, ("arguments", "args", "input"))),
        id=text(first_of(given, ("call_id", "id", "toolUseId", "toolCallId", "tool_call_id"))),
    )


def asked(value: Any) -> tuple[Message, ...]:
    """The messages of a whole request: its system prompt and its turns. Empty for what is no model request."""
    request = parsed(value)
    for _ in range(_DEEPEST):
        if not isinstance(request, Mapping) or not request.keys().isdisjoint(_TURNS):
            break
        request = next((request[name] for name in _INSIDE if isinstance(request.get(name), Mapping)), None)
    if not isinstance(request, Mapping):
        return _turns(request)
    config, turns = request.get("config"), parsed(first_of(request, _TURNS))
    if isinstance(turns, Mapping) and "messages" in turns:
        request, turns = turns, turns["messages"]
    system = first_of(request, _SYSTEM) or (first_of(config, _SYSTEM) if isinstance(config, Mapping) else None)
    return (*system_prompt(system), *_turns(turns))


def _turns(value: Any) -> tuple[Message, ...]:
    found: list[Message] = []
    for entry in (value,) if isinstance(value, str) else items_of(value):
        if isinstance(entry, Mapping):
            found += messages_in(entry, "user")
        elif not isinstance(entry, str):
            found += _messages([entry])
        elif entry:
            found.append(Message("user", entry))
    return tuple(found)


def system_prompt(value: Any) -> tuple[Message, ...]:
    """The system prompt as a message; it is a bare text, a list of parts, or a message."""
    value = parsed(value)
    if not value:
        return ()
    if isinstance(value, Mapping) and ("parts" in value or "content" in value):
        return tuple(replace(message, role="system") for message in messages_in(value))
    return tuple(messages_in({"role": "system", "parts": value}))


def answered(value: Any) -> tuple[Message, ...]:
    """The messages of a whole answer. Empty for what is no model's."""
    answer = parsed(value)
    if not isinstance(answer, list | tuple):
        return _answer(answer)
    return tuple(message for entry in _each(answer) for message in _answer(entry))


def _each(entries: Sequence[Any]) -> Iterator[Any]:
    """The entries of a list, and of the lists in it."""
    for entry in entries:
        yield from entry if isinstance(entry, list | tuple) else (entry,)


def _answer(answer: Any) -> tuple[Message, ...]:
    for _ in range(_DEEPEST):
        if isinstance(answer, str):
            return (Message("assistant", answer),) if answer else ()
        if isinstance(answer, list | tuple):
            items = (item for item in answer if isinstance(item, Mapping))
            return tuple(found for item in items for found in messages_in(item, "assistant"))
        if not isinstance(answer, Mapping):
            return ()
        for name in ("choices", "generations", "candidates"):
            if isinstance(answer.get(name), list):
                return tuple(message for choice in _flat(answer[name]) for message in _choice(choice))
        if "role" in answer or "content" in answer or "lc" in answer or answer.get("type") in _ROLES:
            return tuple(messages_in(answer, "assistant"))
        inner = first_of(answer, _ANSWERS)
        if inner is None:
            return tuple(messages_in(answer)) if _is_part(answer, None) else ()
        answer = inner
    return ()


def _flat(entries: Sequence[Any]) -> Iterator[Mapping[str, Any]]:
    yield from (entry for entry in _each(entries) if isinstance(entry, Mapping))


def _choice(choice: Mapping[str, Any]) -> list[Message]:
    names = ("message", "delta", "content")
    inner = next((choice[name] for name in names if isinstance(choice.get(name), Mapping)), None)
    if inner is not None:
        return messages_in(inner, "assistant")
    said = choice.get("text")
    return [Message("assistant", said)] if isinstance(said, str) else []


def tools_asked(answer: Any) -> tuple[str, ...]:
    """Names of the tools that an answer asks for. Most answers ask for none: only those that may are parsed."""
    if isinstance(answer, str) and (
        len(answer) > MOST_PARSED or answer[:1] not in ("{", "[") or not any(word in answer for word in _CALL_WORDS)
    ):
        return ()
    return tuple(call.name for message in answered(answer) for call in message.tool_calls) if answer else ()


def tools_offered(value: Any) -> tuple[Mapping[str, Any], ...]:
    """Each tool as {name, description}, of a list in a provider's shape, or flat."""
    found: list[dict[str, Any]] = []
    for entry in items_of(value):
        tool = parsed(entry)
        if not isinstance(tool, Mapping):
            continue
        declared = first_of(tool, ("functionDeclarations", "function_declarations"))
        for each in items_of(declared) if declared is not None else (tool,):
            found.extend(_offered(each))
    return tuple(found)


def _offered(tool: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(tool, Mapping):
        return
    names = ("function", "toolSpec", "custom")
    inner = next((tool[name] for name in names if isinstance(tool.get(name), Mapping)), tool)
    shown = {name: inner[name] for name in ("name", "description") if inner.get(name)}
    if "name" not in shown and isinstance(tool.get("type"), str) and tool["type"] != "function":
        shown = {"name": tool["type"], **shown}  # One of the provider's own: {"type": "web_search"}.
    yield shown


def params_of(request: Any) -> dict[str, Any]:
    """The settings of a whole request: what is neither its messages nor its tools."""
    found = parsed(request)
    if not isinstance(found, Mapping):
        return {}
    return {
        str(name): json_value(value)
        for name, value in found.items()
        if name not in _NO_PARAMS and value is not None and value not in ("", [], {})
    }


def finish_reason_of(answer: Any) -> str | None:
    """Why the model stopped, of a whole answer."""
    found = parsed(answer)
    if not isinstance(found, Mapping):
        return None
    names = ("finish_reason", "finishReason", "stop_reason", "stopReason")
    choices = [found]
    for name in ("choices", "generations", "candidates"):
        if isinstance(found.get(name), list):
            choices.extend(_flat(found[name]))
    infos = [inner for choice in choices if isinstance(inner := choice.get("generation_info"), Mapping)]
    reasons = [reason for fields in (*choices, *infos) if isinstance(reason := first_of(fields, names), str) and reason]
    return ", ".join(dict.fromkeys(reasons)) or None


def once(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Without the system prompts that repeat one before them: as instructions and as a message, say.

    Later in the conversation a repeated one was sent again, and stays.
    """
    said: set[str] = set()
    kept: list[Message] = []
    for place, message in enumerate(messages):
        if message.role not in SYSTEM_ROLES:
            return (*kept, *messages[place:]) if len(kept) < place else messages
        words = " ".join((message.text or "").split())
        if words not in said or message.parts:
            kept.append(message)
        said.add(words)
    return tuple(kept)


def calls_of(value: Any) -> tuple[ToolCall, ...]:
    """The tool calls of a list, in any of the shapes."""
    return tuple(_call(call) for call in items_of(value) if isinstance(call, Mapping))


def served_by(answer: Any) -> tuple[str | None, str | None]:
    """The model that gave a whole answer, and the provider's id of it."""
    if not isinstance(answer, Mapping):
        return None, None
    places = [answer]
    if isinstance(answer.get("llm_output"), Mapping):  # LangChain has them deep inside, of a stream in each message.
        places.append(answer["llm_output"])
    generations = answer.get("generations")
    for choice in _flat(generations if isinstance(generations, list) else ()):
        message = _unwrapped(choice["message"]) if isinstance(choice.get("message"), Mapping) else {}
        places += [found for found in (message.get("response_metadata"), message) if isinstance(found, Mapping)]
    model = next(filter(None, (text(first_of(place, _MODELS)) for place in places)), None)
    ids = (text(first_of(place, _IDS)) for place in places)
    return model, next((found for found in ids if found and not found.startswith(_OWN_IDS)), None)


_MODELS: Final = ("model", "model_name", "modelVersion", "model_version")
_IDS: Final = ("id", "responseId", "response_id")
_OWN_IDS: Final = ("lc_run", "run-")
"""LangChain's, where the provider's are not known."""
