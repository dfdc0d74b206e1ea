"""A span as Python code: the line that fetches it in this kernel, and the call of a model or a tool."""

from __future__ import annotations

import pprint
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from keyword import iskeyword
from typing import Any, Final, NamedTuple

from hh_jupyter.conventions import content
from hh_jupyter.conventions.attachments import Attachment, attachment_of
from hh_jupyter.conventions.facts import Message, SpanContent, mapping
from hh_jupyter.display import media
from hh_jupyter.display.view import CellView
from hh_jupyter.records.record import SpanDetails, SpanRecord
from hh_jupyter.values import json_text

WIDTH: Final = 100
MAX_CHARACTERS: Final = 200_000
"""Maximum length of the code; a longer request is left out."""

_MAX_DEPTH: Final = 40


def python_code(view: CellView, record: SpanRecord, details: SpanDetails | None) -> str:
    """Return code that runs in a cell of this kernel.

    Args:
        view: the output that shows the span.
        record: the span.
        details: its content; None leaves out the call.
    """
    line = f"import hh_jupyter\n\n{_fetch_code(view, record)}"
    again = _again_code(record, details) if details is not None else ""
    code = f"{line}\n\n{again}" if again else line
    return code if len(code) <= MAX_CHARACTERS else line


def _fetch_code(view: CellView, record: SpanRecord) -> str:
    if view.file is not None:
        return (
            f"trace = hh_jupyter.SpanList.from_otlp({view.file!r})\n"
            f"span = next(span for span in trace if span.span_id == {record.span_id:#018x})"
        )
    return f"span = hh_jupyter.spans({_arguments(view, record)})[{_index(view, record)}]"


def _arguments(view: CellView, record: SpanRecord) -> str:
    """Arguments that select the span: cell number and name, else session and name, else the name alone."""
    named = f"name={record.name!r}"
    if view.cell is not None:
        return f"cell={view.cell}, {named}"
    return f"session={record.session_id!r}, {named}" if record.session_id else named


def _index(view: CellView, record: SpanRecord) -> int:
    """Index of the span among the selected ones of this name, in order of their start."""
    same = [node.record for node in view.tree.nodes if node.record.name == record.name]
    if view.cell is None:
        same = [other for other in same if other.session_id == record.session_id]
    same.sort(key=lambda other: (other.start_ns, other.span_id))
    return [other.span_id for other in same].index(record.span_id)


def _again_code(record: SpanRecord, details: SpanDetails) -> str:
    """Return code that makes a model call or a tool call again; empty for other spans."""
    call = content(details.attributes, details.events)
    if record.facts.kind == "tool":
        return _tool_code(record, call)
    return _request_code(record, call, details.attributes) if record.facts.kind == "llm" else ""


# Tools: the call of the user's function.


def _tool_code(record: SpanRecord, call: SpanContent) -> str:
    name = record.facts.tool_name or call.tool_name or record.name
    parts = name.removeprefix("__main__.").split(".")
    if not all(map(_is_name, parts)):
        return f"# The arguments of the tool:\narguments = {_literal(call.input)}" if call.input is not None else ""
    module = next((found for n in range(len(parts) - 1, 0, -1) if (found := ".".join(parts[:n])) in sys.modules), None)
    imported = [f"import {module}"] if module is not None else []
    return "\n".join(["# The same call again:", *imported, _call_code(".".join(parts), call.input)])


def _call_code(function: str, argument: Any) -> str:
    """Return a call with keyword arguments, or with one argument if they have no names."""
    if argument is None or argument == {}:
        return f"{function}()"
    if isinstance(argument, Mapping) and all(map(_is_name, argument)):
        lines = [f"    {name}={_literal(value)}," for name, value in argument.items()]
        return "\n".join([f"{function}(", *lines, ")"])
    return f"{function}({'**' if isinstance(argument, Mapping) else ''}{_literal(argument)})"


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and name.isidentifier() and not iskeyword(name)


# Model calls: the request to the provider.


class _Api(NamedTuple):
    """One of the providers' APIs.

    Attributes:
        renamed: parameters that instrumentors write under another name.
    """

    function: str
    client: str
    parameters: frozenset[str]
    renamed: Mapping[str, str]


_SHARED: Final = frozenset(
    {
        "extra_body", "extra_headers", "extra_query", "metadata", "model", "service_tier", "stream", "temperature",
        "timeout", "tool_choice", "tools", "top_p",
    }
)  # fmt: skip
_OPENAI: Final = _SHARED | {
    "parallel_tool_calls", "prompt_cache_key", "safety_identifier", "store", "stream_options", "top_logprobs", "user",
}  # fmt: skip
_CHAT: Final = _Api(
    "client.chat.completions.create",
    "openai.OpenAI()",
    _OPENAI | {
        "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens",
        "max_tokens", "messages", "modalities", "n", "prediction", "presence_penalty", "reasoning_effort",
        "response_format", "seed", "stop", "verbosity", "web_search_options",
    },
    {"stop_sequences": "stop", "choice.count": "n", "max_output_tokens": "max_completion_tokens"},
)  # fmt: skip
_RESPONSES: Final = _Api(
    "client.responses.create",
    "openai.OpenAI()",
    _OPENAI | {
        "background", "conversation", "include", "input", "instructions", "max_output_tokens", "max_tool_calls",
        "previous_response_id", "prompt", "reasoning", "text", "truncation",
    },
    {"max_tokens": "max_output_tokens", "max_completion_tokens": "max_output_tokens"},
)  # fmt: skip
_ANTHROPIC: Final = _Api(
    "client.messages.create",
    "anthropic.Anthropic()",
    _SHARED | {"container", "max_tokens", "messages", "stop_sequences", "system", "thinking", "top_k"},
    {"stop": "stop_sequences", "max_completion_tokens": "max_tokens"},
)
_OPENAI_PROVIDERS: Final = frozenset({None, "openai", "azure", "azure.ai.openai", "azure.openai", "az.ai.openai"})
_RESPONSE_NAME: Final = re.compile(r"(?:^|[\s._])responses?(?:$|[\s._])", re.IGNORECASE)
_OBJECTS: Final = frozenset({"response_format", "text", "reasoning", "stream_options", "thinking", "metadata"})
"""Parameters that are objects; some instrumentors record only a word of them."""

MAX_TOKENS: Final = 1024
"""Used for a call of Anthropic's API, which requires the parameter, if it was not recorded."""


def _request_code(record: SpanRecord, call: SpanContent, attributes: Mapping[str, Any]) -> str:
    if not call.input_messages:
        return ""
    api = _api(record, call, attributes)
    request = dict(_recorded_request(attributes, api) or _rebuilt_request(record, call, api))
    if record.facts.streamed:
        request.setdefault("stream", True)  # Not recorded of a client's `stream()`, which sends it.
    arguments: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for name, recorded in request.items():
        value = _own_headers(recorded) if name == "extra_headers" else recorded
        if value is None:
            continue
        used = name if name in api.parameters else api.renamed.get(name, name)
        accepted = used in api.parameters and (used not in _OBJECTS or isinstance(value, Mapping))
        (arguments if accepted else others).setdefault(used if accepted else name, value)
    notes = _notes(record, call, others)
    if api is _ANTHROPIC and "max_tokens" not in arguments:
        arguments["max_tokens"] = MAX_TOKENS
        notes.append("# max_tokens is required; its value was not recorded.")
    heading = f"# The same request again, with a client such as {api.client}:"
    return "\n".join([heading, *notes, _call_code(api.function, arguments)])


def _own_headers(headers: Any) -> dict[str, Any] | None:
    """Return the headers without those that the client adds itself, such as for `with_raw_response`."""
    own = {name: value for name, value in mapping(headers).items() if not name.lower().startswith("x-stainless-")}
    return own or None


def _notes(record: SpanRecord, call: SpanContent, others: Mapping[str, Any]) -> list[str]:
    """Return comments: what the code cannot express."""
    notes = []
    if record.facts.provider not in _OPENAI_PROVIDERS | {"anthropic"}:
        notes.append(f"# The provider was {record.facts.provider!r}; this is the format of OpenAI's chat API.")
    if _has_data(call):
        notes.append("# Base64 data is left out; brackets hold its type and size.")
    if others:
        notes += ["# Recorded as well, but no parameters of this API:"]
        notes += [f"#   {line}" for name, value in others.items() for line in f"{name}={_literal(value)}".splitlines()]
    return notes


def _api(record: SpanRecord, call: SpanContent, attributes: Mapping[str, Any]) -> _Api:
    """The API that was called: chat completions if the span does not show another one."""
    facts = record.facts
    if facts.provider == "anthropic":
        return _ANTHROPIC
    if facts.provider not in _OPENAI_PROVIDERS:
        return _CHAT
    is_response = (
        attributes.get("openai.api.type") == "responses"
        or (facts.response_id or "").startswith("resp_")
        or _RESPONSE_NAME.search(record.name) is not None
        or not call.params.keys().isdisjoint({"max_output_tokens", "instructions", "previous_response_id"})
    )
    return _RESPONSES if is_response else _CHAT


def _recorded_request(attributes: Mapping[str, Any], api: _Api) -> Mapping[str, Any]:
    """Return the arguments of the client, which OpenInference records as they are; empty if there are none."""
    request = mapping(attributes.get("input.value"))
    content_name = "input" if api is _RESPONSES else "messages"
    return request if isinstance(request.get("model"), str) and request.get(content_name) else {}


def _rebuilt_request(record: SpanRecord, call: SpanContent, api: _Api) -> dict[str, Any]:
    """Return the arguments made from what the instrumentor recorded of them."""
    messages = [replace(message, parts=_parts(message, api)) for message in call.input_messages]
    model = record.facts.model_requested or record.facts.model
    if api is _ANTHROPIC:
        content_arguments = _anthropic(messages)
    elif api is _RESPONSES:
        content_arguments = _responses(messages, call.params.get("instructions"))
    else:
        content_arguments = {"messages": [_message(message) for message in messages]}
    tools = [_tool(tool, api) for tool in call.tools_offered if tool.get("name")]
    request = {"model": model, **content_arguments, **({"tools": tools} if tools else {})}
    return {**request, **{name: value for name, value in call.params.items() if name not in request}}


def _tool(tool: Mapping[str, Any], api: _Api) -> dict[str, Any]:
    named = {name: tool[name] for name in ("name", "description") if tool.get(name)}
    schema = tool.get("parameters") or {"type": "object", "properties": {}}
    if api is _ANTHROPIC:
        return {**named, "input_schema": schema}
    function = {**named, "parameters": schema, **({"strict": tool["strict"]} if "strict" in tool else {})}
    return {"type": "function", **function} if api is _RESPONSES else {"type": "function", "function": function}


def _literal(value: Any) -> str:
    return pprint.pformat(_without_base64(value), width=WIDTH, sort_dicts=False).replace("\n", "\n    ")


def _without_base64(value: Any, depth: int = 0) -> Any:
    """Return the value without base64."""
    if isinstance(value, str):
        return media.without_base64(value)
    if depth < _MAX_DEPTH and isinstance(value, Mapping):
        return {name: _without_base64(item, depth + 1) for name, item in value.items()}
    if depth < _MAX_DEPTH and isinstance(value, list | tuple):
        return [_without_base64(item, depth + 1) for item in value]
    return value


def _has_data(call: SpanContent) -> bool:
    attached = (attachment_of(part) for message in call.input_messages for part in message.parts)
    return any(attachment is not None and attachment.data is not None for attachment in attached)


def _parts(message: Message, api: _Api) -> tuple[Any, ...]:
    """Convert images to the format of the provider's API; other parts stay unchanged."""
    return tuple(_part(part, attachment_of(part), api) for part in message.parts)


def _part(part: Any, attachment: Attachment | None, api: _Api) -> Any:
    if attachment is None:
        return part
    if attachment.kind != "image":
        return f"[{media.label(attachment)}]" if attachment.data is not None else part
    source = attachment.uri or f"[{media.label(attachment)}]"
    if api is _RESPONSES:
        return {"type": "input_image", "image_url": source}
    if api is _CHAT:
        return {"type": "image_url", "image_url": {"url": source}}
    if attachment.uri:
        return {"type": "image", "source": {"type": "url", "url": source}}
    return {"type": "image", "source": {"type": "base64", "media_type": attachment.mime, "data": source}}


def _message(message: Message) -> dict[str, Any]:
    """Convert a message to the format of OpenAI's chat API."""
    shown: dict[str, Any] = {"role": message.role, "content": _body(message)}
    if message.tool_calls:
        shown["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": json_text(call.arguments)}}
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        shown["tool_call_id"] = message.tool_call_id
    return shown


def _anthropic(messages: Sequence[Message]) -> dict[str, Any]:
    """Convert messages for Anthropic's messages API: system prompt apart, tool calls and results as blocks."""
    system = [message.text for message in messages if message.role == "system" and message.text]
    turns = [_turn(message) for message in messages if message.role != "system"]
    return {**({"system": "\n\n".join(system)} if system else {}), "messages": turns}


def _responses(messages: Sequence[Message], instructions: Any) -> dict[str, Any]:
    """Convert messages for OpenAI's responses API: instructions apart, tool calls and results as items."""
    system = [message.text for message in messages if message.role == "system" and message.text]
    rest = [message for message in messages if message.role != "system"]
    given: dict[str, Any] = {"instructions": instructions or "\n\n".join(system)} if instructions or system else {}
    if len(rest) == 1 and rest[0] == Message("user", rest[0].text):
        return {"input": rest[0].text, **given}
    return {"input": [item for message in rest for item in _items(message)], **given}


def _items(message: Message) -> list[dict[str, Any]]:
    if message.tool_call_id:
        return [{"type": "function_call_output", "call_id": message.tool_call_id, "output": message.text or ""}]
    calls = [
        {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": json_text(call.arguments)}
        for call in message.tool_calls
    ]
    if calls and not message.text:
        return calls
    text = [{"type": "input_text", "text": message.text}] if message.text else []
    body = [*text, *message.parts] if message.parts else message.text
    return [{"role": message.role, "content": body}, *calls]


def _turn(message: Message) -> Mapping[str, Any]:
    if message.tool_call_id:
        block = {"type": "tool_result", "tool_use_id": message.tool_call_id, "content": message.text or ""}
        return {"role": "user", "content": [block]}
    calls = [{"type": "tool_use", "id": c.id, "name": c.name, "input": c.arguments} for c in message.tool_calls]
    if not calls:
        return {"role": message.role, "content": _body(message)}
    text = [{"type": "text", "text": message.text}] if message.text else []
    return {"role": message.role, "content": [*text, *calls]}


def _body(message: Message) -> Any:
    if not message.parts:
        return message.text
    return [*([{"type": "text", "text": message.text}] if message.text else []), *message.parts]
