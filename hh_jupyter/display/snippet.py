"""A span as Python code: the line that fetches it in this kernel, and the request of a model call."""

from __future__ import annotations

import json
import pprint
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from hh_jupyter.conventions import content
from hh_jupyter.conventions.attachments import Attachment, attachment_of
from hh_jupyter.conventions.facts import Message, SpanContent
from hh_jupyter.display import media
from hh_jupyter.display.view import CellView
from hh_jupyter.records.record import SpanDetails, SpanRecord

WIDTH: Final = 100
MAX_CHARACTERS: Final = 200_000
"""Maximum length of the code; a longer request is left out."""

_MAX_DEPTH: Final = 40


def python_code(view: CellView, record: SpanRecord, details: SpanDetails | None) -> str:
    """Return code that runs in a cell of this kernel.

    Args:
        view: the output that shows the span.
        record: the span.
        details: its content; None leaves out the request.
    """
    line = f"import hh_jupyter\n\n{_fetch_code(view, record)}"
    request = _request_code(record, content(details.attributes, details.events)) if details is not None else ""
    code = f"{line}\n\n{request}" if request else line
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


def _request_code(record: SpanRecord, call: SpanContent) -> str:
    if record.facts.kind != "llm" or not call.input_messages:
        return ""
    anthropic = record.facts.provider == "anthropic"
    function = "client.messages.create" if anthropic else "client.chat.completions.create"
    messages = [replace(message, parts=_parts(message, anthropic=anthropic)) for message in call.input_messages]
    arguments = _anthropic(messages) if anthropic else {"messages": list(map(_message, messages))}
    model = record.facts.model_requested or record.facts.model
    rest = {key: value for key, value in call.params.items() if key.isidentifier() and key not in {"model", *arguments}}
    lines = [f"    {key}={_literal(value)}," for key, value in {"model": model, **arguments, **rest}.items()]
    client = "anthropic.Anthropic()" if anthropic else "openai.OpenAI()"
    left_out = ["# Base64 data is left out; brackets hold its type and size."] if _has_data(call) else []
    heading = [f"# The same request again, with a client such as {client}:", *left_out]
    return "\n".join([*heading, f"{function}(", *lines, ")"])


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


def _parts(message: Message, *, anthropic: bool) -> tuple[Any, ...]:
    """Convert images to the format of the provider's API; other parts stay unchanged."""
    return tuple(_part(part, attachment_of(part), anthropic=anthropic) for part in message.parts)


def _part(part: Any, attachment: Attachment | None, *, anthropic: bool) -> Any:
    if attachment is None:
        return part
    if attachment.kind != "image":
        return f"[{media.label(attachment)}]" if attachment.data is not None else part
    source = attachment.uri or f"[{media.label(attachment)}]"
    if not anthropic:
        return {"type": "image_url", "image_url": {"url": source}}
    if attachment.uri:
        return {"type": "image", "source": {"type": "url", "url": source}}
    return {"type": "image", "source": {"type": "base64", "media_type": attachment.mime, "data": source}}


def _message(message: Message) -> dict[str, Any]:
    """Convert a message to the format of OpenAI's chat API."""
    shown: dict[str, Any] = {"role": message.role, "content": _body(message)}
    if message.tool_calls:
        shown["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _json(call.arguments)}}
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


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
