"""Converts messages, tool calls and tools of providers and frameworks to one shape.

Instrumentors write requests and responses in the shape of the client library: OpenAI's chat completions and responses,
Anthropic, Gemini, Bedrock, Cohere, LangChain, the Vercel AI SDK, or OpenTelemetry's own {role, parts}. Parts that are
neither text nor tool calls, such as reasoning, images and files, stay in their message unchanged and never become text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from hh_jupyter.conventions.facts import (
    Message,
    ToolCall,
    as_text,
    first_of,
    items_of,
    json_value,
    mapping,
    parsed,
    text,
    texts_of,
    tool_result,
)

MAX_PARSED_LENGTH: Final = 262_144
"""Characters of a response that is parsed for its tool calls when a span is finalized."""

SYSTEM_ROLES: Final = frozenset({"system", "developer"})

_ROLES: Final = {
    "human": "user", "HumanMessage": "user", "HumanMessageChunk": "user",
    "ai": "assistant", "AIMessage": "assistant", "AIMessageChunk": "assistant", "model": "assistant",
    "SystemMessage": "system", "ToolMessage": "tool", "FunctionMessage": "function",
}  # fmt: skip
"""Roles of LangChain and Gemini; other roles are kept."""

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
"""A block without a type has one of these keys."""

_BLOCK_TYPES: Final = frozenset(
    {
        *_TEXTS, *_CALLS, *_RESULTS, "image", "image_url", "input_image", "document", "file", "input_file", "audio",
        "input_audio", "video", "media", "blob", "uri", "resource", "resource_link", "thinking", "redacted_thinking",
        "reasoning", "server_tool_use", "server_tool_call", "search_result",
    }
)  # fmt: skip

_REASONING_FIELDS: Final = ("reasoning_content", "reasoning", "thinking")
"""Fields beside the content in which OpenAI-compatible servers and LangChain write the model's reasoning."""

_CALL_WORDS: Final = ("tool_call", "tool_use", "toolUse", "tool-call", "function_call", "functionCall")
_SYSTEM: Final = ("system", "instructions", "system_instruction", "systemInstruction", "system_prompt")
_TURNS: Final = ("messages", "input", "contents", "prompt", "prompts", "message")
_INSIDE: Final = ("kwargs", "request", "body", "data")
"""Arguments of a traced function that may hold the request."""

_ANSWERS: Final = (
    "message", "output", "outputs", "response", "text", "output_text", "completion", "combined_chunk_content", "result",
)  # fmt: skip
_MAX_WRAPPERS: Final = 4
"""How many wrappers around a request or a response are opened."""

_NO_PARAMS: Final = frozenset(
    {
        *_SYSTEM, *_TURNS, *_INSIDE, "args", "self", "tools", "functions", "toolConfig", "model", "modelId", "model_id",
        "model_name", "text", "texts", "query", "documents", "_type",
    }
)  # fmt: skip


def messages_of(value: Any) -> tuple[Message, ...]:
    """The messages of a list in any shape; a list of lists, as LangChain writes for a batch, is flattened."""
    return tuple(_messages(items_of(value)))


def _messages(entries: Sequence[Any]) -> Iterator[Message]:
    for entry in entries:
        if isinstance(entry, Mapping):
            yield from messages_in(entry)
        elif isinstance(entry, list | tuple):
            yield from (found for inner in entry if isinstance(inner, Mapping) for found in messages_in(inner))


def messages_in(entry: Mapping[str, Any], role: str = "") -> list[Message]:
    """One message in any shape, preceded by a message of role "tool" for each tool result among its parts.

    Parts that are neither text nor tool calls are kept unchanged.

    Args:
        role: of a message that has none.
    """
    entry = _unwrapped(entry)
    kind = text(entry.get("type"))
    found = _Parts()
    content = first_of(entry, ("parts", "content"))
    if "role" not in entry and _is_part(entry, content):
        found.add(entry)
        role = role or "assistant"
    else:
        role = text(entry.get("role")) or (kind if kind and kind in _LANGCHAIN else role)
    calls = [*items_of(entry.get("tool_calls")), *items_of(entry.get("function_call") if content is None else None)]
    found.calls.extend(_call(call) for call in calls if isinstance(call, Mapping))
    found.add_all(content)
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
    """Fields of a LangChain message serialized as {"lc", "id": [..., "HumanMessage"], "kwargs"} or {"type", "data"}."""
    inner = entry.get("kwargs") if "lc" in entry else entry.get("data") if "content" not in entry else None
    if not isinstance(inner, Mapping) or "content" not in inner:
        return entry
    names = entry.get("id")
    named = names[-1] if isinstance(names, list) and names and isinstance(names[-1], str) else None
    return {"type": named or entry.get("type"), **inner}


def _distinct(calls: Sequence[ToolCall]) -> Iterator[ToolCall]:
    """Each call once; some instrumentors write it both in the parts and beside them, or again without its id."""
    seen: set[str] = set()
    named = [(call.name, call.arguments) for call in calls if call.id is not None]
    for call in calls:
        if call.id is None and (call.name, call.arguments) in named:
            continue
        if call.id is None or call.id not in seen:
            yield call
        seen.add(call.id or "")


def _add_fields(found: _Parts, entry: Mapping[str, Any]) -> None:
    """Add fields beside the content: reasoning, a refusal, audio with its transcript."""
    extra = entry.get("additional_kwargs")
    for fields in (entry, extra if isinstance(extra, Mapping) else {}):
        reasoning = next(
            (fields[name] for name in _REASONING_FIELDS if isinstance(fields.get(name), str) and fields[name]), None
        )
        if reasoning is not None and not any(_is_reasoning(part) for part in found.others):
            found.others.insert(0, {"type": "reasoning", "content": reasoning})
    refusal, audio = entry.get("refusal"), entry.get("audio")
    if isinstance(refusal, str) and refusal and not found.texts:
        found.texts.append(refusal)
    if isinstance(audio, Mapping):
        found.others.append({"type": "audio", "audio": audio})
        if isinstance(audio.get("transcript"), str) and not found.texts:
            found.texts.append(audio["transcript"])


def _is_reasoning(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") in ("reasoning", "thinking")


class _Parts:
    """The parts of a message, sorted by type."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.calls: list[ToolCall] = []
        self.results: list[Message] = []
        self.others: list[Any] = []

    def add_all(self, parts: Any) -> None:
        for part in [parts] if isinstance(parts, str) else items_of(parts):
            self.add(part)

    def add(self, part: Any) -> None:
        content = _text_of(part)
        kind = part.get("type") if isinstance(part, Mapping) else None
        if content is not None:
            self.texts.append(content)
        elif not isinstance(part, Mapping):
            self.others.append(part)
        elif not isinstance(kind, str):
            self._add_wrapped(part)
        elif kind in _CALLS and not part.get("providerExecuted"):
            self.calls.append(_call(part))
        elif kind in _RESULTS:
            self.results.append(_result(part))
        elif kind not in _TEXTS or len(part) > 1:  # Omitted text leaves only a type.
            self.others.append(part)

    def _add_wrapped(self, part: Mapping[str, Any]) -> None:
        """A block of Bedrock or Gemini, whose only key is its type."""
        if (call := _wrapped(part, _WRAPPED_CALLS)) is not None:
            self.calls.append(_call(call))
        elif (result := _wrapped(part, _WRAPPED_RESULTS)) is not None:
            self.results.append(_result(result))
        else:
            self.others.append(part)


def _text_of(part: Any) -> str | None:
    """The text of a text part; None for all other parts, including reasoning."""
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping) or part.get("thought"):
        return None
    kind = part.get("type")
    if isinstance(kind, str):
        content = first_of(part, ("content", "text", "refusal")) if kind in _TEXTS else None
    else:
        content = first_of(part, ("text", "json"))
    return None if content is None else as_text(content)


def _wrapped(part: Mapping[str, Any], names: Sequence[str]) -> Mapping[str, Any] | None:
    """The block under one of these keys, as in Bedrock and Gemini."""
    inner = first_of(part, names)
    return inner if isinstance(inner, Mapping) else None


def _is_part(entry: Mapping[str, Any], content: Any) -> bool:
    """Whether an entry without a role is not a message but a part of one, as in the Responses API."""
    kind = entry.get("type")
    if isinstance(kind, str):
        return kind in _RESULTS or (content is None and kind not in _LANGCHAIN and kind != "message")
    return content is None and not entry.keys().isdisjoint(_BLOCKS)


def content_blocks(value: Any) -> list[Any] | None:
    """The blocks of message content in JSON; None for plain text and for other JSON."""
    found = parsed(value)
    return found if isinstance(found, list) and found and all(map(_is_block, found)) else None


def _is_block(block: Any) -> bool:
    """Whether this is certainly a part of a message, not tool data that resembles one."""
    if not isinstance(block, Mapping):
        return False
    kind = block.get("type")
    if isinstance(kind, str):
        return kind in _BLOCK_TYPES
    return len(block) == 1 and not block.keys().isdisjoint(_BLOCKS)


def _result(part: Mapping[str, Any]) -> Message:
    value = _result_value(first_of(part, ("response", "result", "content", "output", "error")))
    call_id = text(first_of(part, ("id", "tool_use_id", "toolUseId", "call_id", "toolCallId", "tool_call_id")))
    blocks = content_blocks(value)
    if blocks is None:
        return Message(role="tool", text=as_text(value), tool_call_id=call_id)
    texts = [content for block in blocks if (content := _text_of(block)) is not None]
    return Message(
        role="tool",
        text="\n".join(texts) if texts else None,
        tool_call_id=call_id,
        parts=tuple(block for block in blocks if _text_of(block) is None),
    )


def _result_value(value: Any) -> Any:
    """The result of a tool without its wrapper: {"type": "json", "value"} or {"content": [...]}."""
    if isinstance(value, Mapping):
        if value.keys() == {"type", "value"}:
            return value["value"]
        if isinstance(value.get("content"), list) and content_blocks(value["content"]) is not None:
            return value["content"]
    return tool_result(value)


def _call(call: Mapping[str, Any]) -> ToolCall:
    function = next((call[name] for name in ("function", "custom") if isinstance(call.get(name), Mapping)), call)
    return ToolCall(
        name=text(first_of(function, ("name", "toolName", "tool_name"))) or "?",
        arguments=parsed(first_of(function, ("arguments", "args", "input"))),
        id=text(first_of(call, ("call_id", "id", "toolUseId", "toolCallId", "tool_call_id"))),
    )


def request_messages(value: Any) -> tuple[Message, ...]:
    """The messages of a request: system prompt and turns; empty if it is not a model request."""
    request = parsed(value)
    for _ in range(_MAX_WRAPPERS):
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
    """The system prompt as a message, from text, a list of parts, or a message."""
    value = parsed(value)
    if not value:
        return ()
    if isinstance(value, Mapping) and ("parts" in value or "content" in value):
        return tuple(replace(message, role="system") for message in messages_in(value))
    return tuple(messages_in({"role": "system", "parts": value}))


def response_messages(value: Any) -> tuple[Message, ...]:
    """The messages of a response; empty if it is not a model response."""
    response = parsed(value)
    if not isinstance(response, list | tuple):
        return _one_response(response)
    return tuple(message for entry in _flattened(response) for message in _one_response(entry))


def _flattened(entries: Sequence[Any]) -> Iterator[Any]:
    """The entries of a list and of lists in it."""
    for entry in entries:
        yield from entry if isinstance(entry, list | tuple) else (entry,)


def _one_response(answer: Any) -> tuple[Message, ...]:
    for _ in range(_MAX_WRAPPERS):
        if isinstance(answer, str):
            return (Message("assistant", answer),) if answer else ()
        if isinstance(answer, list | tuple):
            items = (item for item in answer if isinstance(item, Mapping))
            return tuple(found for item in items for found in messages_in(item, "assistant"))
        if not isinstance(answer, Mapping):
            return ()
        for name in ("choices", "generations", "candidates"):
            if isinstance(answer.get(name), list):
                return tuple(message for choice in _mappings(answer[name]) for message in _choice(choice))
        if "role" in answer or "content" in answer or "lc" in answer or answer.get("type") in _ROLES:
            return tuple(messages_in(answer, "assistant"))
        inner = first_of(answer, _ANSWERS)
        if inner is None:
            return tuple(messages_in(answer)) if _is_part(answer, None) else ()
        answer = inner
    return ()


def _mappings(entries: Sequence[Any]) -> Iterator[Mapping[str, Any]]:
    yield from (entry for entry in _flattened(entries) if isinstance(entry, Mapping))


def _choice(choice: Mapping[str, Any]) -> list[Message]:
    names = ("message", "delta", "content")
    inner = next((choice[name] for name in names if isinstance(choice.get(name), Mapping)), None)
    if inner is not None:
        return messages_in(inner, "assistant")
    content = choice.get("text")
    return [Message("assistant", content)] if isinstance(content, str) else []


def tools_asked(answer: Any) -> tuple[str, ...]:
    """Names of the tools that a response calls. Responses that cannot contain a call are not parsed."""
    if isinstance(answer, str) and (
        len(answer) > MAX_PARSED_LENGTH
        or answer[:1] not in ("{", "[")
        or not any(word in answer for word in _CALL_WORDS)
    ):
        return ()
    return tuple(call.name for message in response_messages(answer) for call in message.tool_calls) if answer else ()


def tools_offered(value: Any) -> tuple[Mapping[str, Any], ...]:
    """Each tool as {name, description, parameters, strict}, from a list in any provider's shape."""
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
        shown = {"name": tool["type"], **shown}  # A built-in tool of the provider: {"type": "web_search"}.
    schema = mapping(first_of(inner, _SCHEMAS))
    schema = schema["json"] if isinstance(schema.get("json"), Mapping) else schema
    strict = {"strict": inner["strict"]} if isinstance(inner.get("strict"), bool) else {}
    yield {**shown, **({"parameters": schema} if schema else {}), **strict}


_SCHEMAS: Final = ("parameters", "input_schema", "inputSchema", "parameters_json_schema", "parametersJsonSchema")
"""Names of the JSON schema of a tool's arguments; Bedrock wraps it in {"json": ...}."""


def params_of(request: Any) -> dict[str, Any]:
    """The parameters of a request: everything but its messages and tools."""
    found = parsed(request)
    if not isinstance(found, Mapping):
        return {}
    return {
        str(name): json_value(value)
        for name, value in found.items()
        if name not in _NO_PARAMS and value is not None and value not in ("", [], {})
    }


def finish_reason_of(answer: Any) -> str | None:
    """Why the model stopped, from a response."""
    found = parsed(answer)
    if not isinstance(found, Mapping):
        return None
    names = ("finish_reason", "finishReason", "stop_reason", "stopReason")
    choices = [found]
    for name in ("choices", "generations", "candidates"):
        if isinstance(found.get(name), list):
            choices.extend(_mappings(found[name]))
    infos = [inner for choice in choices if isinstance(inner := choice.get("generation_info"), Mapping)]
    reasons = [reason for fields in (*choices, *infos) if isinstance(reason := first_of(fields, names), str) and reason]
    return ", ".join(dict.fromkeys(reasons)) or None


def without_repeated_prompts(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages without repeated system prompts at the start, such as instructions that are also a message.

    A system prompt later in the conversation was sent again, and is kept.
    """
    seen: set[str] = set()
    kept: list[Message] = []
    for index, message in enumerate(messages):
        if message.role not in SYSTEM_ROLES:
            return (*kept, *messages[index:]) if len(kept) < index else messages
        words = " ".join((message.text or "").split())
        if words not in seen or message.parts:
            kept.append(message)
        seen.add(words)
    return tuple(kept)


def input_and_output(
    kind: str,
    request: Any,
    response: Any,
    documents: tuple[Mapping[str, Any], ...],
    *,
    arguments: Any,
    result: Any,
) -> dict[str, Any]:
    """Fields of `SpanContent` for a span that has one input and one output.

    A model call has messages, an embedding call has only its texts, and every other span has plain values.

    Args:
        kind: of the span.
        request, response: the input and the output.
        documents: those in the response, which are not shown again as output.
        arguments, result: input and output of a span without messages, unwrapped.
    """
    is_call, is_embedding = kind == "llm", kind == "embedding"
    inputs = request_messages(request) if is_call else ()
    outputs = response_messages(response) if is_call else ()
    return {
        "input_messages": inputs,
        "output_messages": outputs,
        "input": texts_of(request) if is_embedding else None if inputs else arguments,
        "output": None if outputs or documents or is_embedding else tool_result(result),
        "documents": documents,
    }


def tool_calls_of(value: Any) -> tuple[ToolCall, ...]:
    """The tool calls of a list in any shape."""
    return tuple(_call(call) for call in items_of(value) if isinstance(call, Mapping))


def model_and_response_id(answer: Any) -> tuple[str | None, str | None]:
    """The answering model and the provider's response id, from a response."""
    if not isinstance(answer, Mapping):
        return None, None
    sources = [answer]
    if isinstance(answer.get("llm_output"), Mapping):  # LangChain nests them; for streams, in each message.
        sources.append(answer["llm_output"])
    generations = answer.get("generations")
    for choice in _mappings(generations if isinstance(generations, list) else ()):
        message = _unwrapped(choice["message"]) if isinstance(choice.get("message"), Mapping) else {}
        sources += [found for found in (message.get("response_metadata"), message) if isinstance(found, Mapping)]
    model = next(filter(None, (text(first_of(source, _MODELS)) for source in sources)), None)
    ids = (text(first_of(source, _IDS)) for source in sources)
    return model, next((found for found in ids if found and not found.startswith(_LANGCHAIN_IDS)), None)


_MODELS: Final = ("model", "model_name", "modelVersion", "model_version")
_IDS: Final = ("id", "responseId", "response_id")
_LANGCHAIN_IDS: Final = ("lc_run", "run-")
"""Prefixes of ids that LangChain generates if it does not know the provider's."""
