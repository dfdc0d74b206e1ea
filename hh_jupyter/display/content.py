"""What the detail pane of one span shows, as JSON-safe data of bounded size."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from opentelemetry.semconv.attributes import exception_attributes

from hh_jupyter.conventions import capture, content, openllmetry, otel_genai
from hh_jupyter.conventions.attachments import Attachment, attachment_of, media_type, span_images
from hh_jupyter.conventions.evaluations import evaluations
from hh_jupyter.conventions.facts import Message, SpanContent
from hh_jupyter.display import format as fmt
from hh_jupyter.display import media
from hh_jupyter.display.stack import read_stack
from hh_jupyter.records import cost
from hh_jupyter.records.record import SpanDetails, SpanError, SpanRecord

LONGEST_TEXT = 100_000
"""Characters of one text. Longer ones are cut here, and say so: the page must stay quick."""

MOST_ITEMS = 2_000
"""Entries of one list or mapping."""

DEEPEST = 40

_CAPTURING = frozenset({otel_genai.FAMILY, openllmetry.FAMILY})
"""Families of instrumentors that may be configured not to capture messages."""


def span_details(record: SpanRecord, details: SpanDetails, images: media.Images | None = None) -> dict[str, Any]:
    """The detail pane of a span: error, messages, input and output, attributes; what there is none of is left out.

    Args:
        record: the span.
        details: its content.
        images: takes the images that are drawn; without it all are named by type and size only.
    """
    said = content(details.attributes, details.events)
    shown: dict[str, Any] = {
        "usage": _usage(record),
        **_cost(record),
        "redacted": record.redacted,
        "dropped": record.dropped,
        "finish_reason": said.finish_reason,
        "error": _error(record.error, details) if record.error else None,
        "messages": _messages(said, details.attributes, images),
        "documents": [plain(document) for document in said.documents],
        "attributes": _attributes(record, details),
    }
    if not shown["messages"]:
        shown |= _side("input", said.input, details.attributes, images)
        shown |= _side("output", said.output, details.attributes, images)
        shown["hint"] = _hint(record) if shown["input"] is None and shown["output"] is None else None
    elif record.error:
        shown["input"] = plain(said.params) if said.params else None
    elif said.output is not None and not said.output_messages and not span_images(details.attributes, "output"):
        # OpenInference's agents and chains have the question as messages, and the answer as a value.
        shown |= _side("output", said.output, details.attributes, images)
    return {key: value for key, value in shown.items() if value not in (None, [], 0, "")}


def _usage(record: SpanRecord) -> dict[str, int | None] | None:
    usage = record.facts.usage
    if usage is None or (usage.prompt is None and usage.completion is None):
        return None
    return {
        "prompt": usage.prompt,
        "completion": usage.completion,
        "cached": usage.cached,
        "reasoning": usage.reasoning,
    }


def _cost(record: SpanRecord) -> dict[str, str | None]:
    """What the span says, else an estimate and the prices it is made with, once they are loaded; {} is unknown."""
    dollars, estimated = cost.cost_of(record.facts)
    if dollars is None:
        return {}
    shown = {"cost": fmt.usd(dollars, estimated=estimated)}
    return {**shown, "prices": cost.table()} if estimated else {**shown}


def _error(error: SpanError, details: SpanDetails) -> dict[str, Any]:
    """The whole message and the stack come from the exception event; the row keeps one line of them."""
    recorded: Mapping[str, Any] = {}
    for event in details.events:
        if exception_attributes.EXCEPTION_TYPE in event.attributes:
            recorded = event.attributes
    stack = read_stack(_text(str(recorded.get(exception_attributes.EXCEPTION_STACKTRACE, ""))))
    return {
        "type": error.type,
        "message": _text(str(recorded.get(exception_attributes.EXCEPTION_MESSAGE, "") or error.message)),
        "stack": stack.own,
        "full_stack": stack.full,
        "library_frames": stack.library_frames,
    }


def _hint(record: SpanRecord) -> str | None:
    """The reason why a model call has no messages, and how to capture them next time."""
    if record.facts.kind != "llm" or record.facts.family not in _CAPTURING or record.end_ns is None:
        return None
    value = capture.value_for(record.scope)
    if value is None:
        return f"messages were not captured by {_text(record.scope)}" if record.scope else "messages were not captured"
    return (
        f"messages were not captured: set {capture.VARIABLE}={value} before the instrumentor is switched on; "
        "%hh instrument sets it"
    )


def _messages(said: SpanContent, attributes: Mapping[str, Any], images: media.Images | None) -> list[dict[str, Any]]:
    """The conversation in order. A tool's result names the tool whose call it answers."""
    everything = (*said.input_messages, *said.output_messages)
    asked = {call.id: call.name for message in everything for call in message.tool_calls if call.id}
    shown = [_message(message, asked, images) for message in everything]
    if shown and (made := span_images(attributes, "output")):
        shown.append({"role": "assistant", "attachments": [media.shown_attachment(one, images) for one in made]})
    return shown


def _side(
    side: Literal["input", "output"], value: Any, attributes: Mapping[str, Any], images: media.Images | None
) -> dict[str, Any]:
    """Input or output of a span, and the images in it."""
    found: list[Attachment] = []
    shown = plain(value, found)
    found += span_images(attributes, side)
    if found and shown is None:
        shown = [f"[{media.label(one)}]" for one in found]
    return {side: shown, f"{side}_attachments": [media.shown_attachment(one, images) for one in found]}


def _message(message: Message, asked: Mapping[str, str], images: media.Images | None) -> dict[str, Any]:
    shown: dict[str, Any] = {"role": message.role}
    found: list[Attachment] = []
    data = _parsed(message.text) if message.role in ("tool", "function") else None
    if data is not None:
        shown["data"] = plain(data, found)
        if found and shown["data"] in ([f"[{media.label(one)}]" for one in found], f"[{media.label(found[0])}]"):
            del shown["data"]  # Images alone.
    elif message.text:
        shown["text"] = _text(message.text)
    if message.tool_call_id:
        shown["tool"] = asked.get(message.tool_call_id, message.tool_call_id)
    if message.tool_calls:
        shown["calls"] = [
            {"name": call.name, "id": call.id, "arguments": plain(call.arguments)} for call in message.tool_calls
        ]
    parts = [(part, attachment_of(part)) for part in message.parts]
    if others := [plain(part, found) for part, attachment in parts if attachment is None]:
        shown["parts"] = others
    if attached := [*found, *(attachment for _, attachment in parts if attachment is not None)]:
        shown["attachments"] = [media.shown_attachment(attachment, images) for attachment in attached]
    return shown


def _parsed(text: str | None) -> Any:
    """A tool's result is mostly JSON in a text; a plain number or word stays text."""
    try:
        data = json.loads(text) if text and text.lstrip()[:1] in ("{", "[") else None
    except (ValueError, RecursionError):
        return None
    return data


def _attributes(record: SpanRecord, details: SpanDetails) -> list[tuple[str, Any]]:
    """What every span has first, then results of evaluations, then all attributes as delivered, by name."""
    start = datetime.fromtimestamp(record.start_ns / 1e9, tz=UTC).isoformat(timespec="milliseconds")
    known = [
        ("event type", record.facts.event_type),
        ("model", record.facts.model),
        (
            "model asked for",
            record.facts.model_requested if record.facts.model_requested != record.facts.model else None,
        ),
        ("provider", record.facts.provider),
        ("started", start),
        ("session", record.session_id),
        ("trace id", f"{record.trace_id:032x}"),
        ("span id", f"{record.span_id:016x}"),
        ("instrumentation", record.scope),
        ("status", details.status_message),
    ]
    raw = [(str(key), plain(value)) for key, value in sorted(details.attributes.items(), key=lambda item: str(item[0]))]
    judged = [(_text(f"evaluation {name}"), plain(value)) for name, value in evaluations(details.events).items()]
    return [(name, value) for name, value in known if value] + judged + raw


def plain(value: Any, found: list[Attachment] | None = None, depth: int = 0) -> Any:
    """Any value as JSON that a browser can parse: bounded, finite, without lone surrogates and without base64.

    Args:
        value: what a span holds.
        found: takes the images and other attachments inside; labels stand in their place.
        depth: of the value in the whole.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _attached(value, found) or _text(value) if value[:5] == "data:" else _text(value)
    if isinstance(value, int):
        # JavaScript's numbers are exact up to 2**53.
        return value if abs(value) < 2**53 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        return f"[{', '.join(filter(None, (media_type(value), media.size(len(value)))))}]"
    if depth >= DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        return _mapping(value, found, depth)
    if isinstance(value, Sequence):
        shown = [plain(item, found, depth + 1) for item in value[:MOST_ITEMS]]
        return shown + list(_left_out(len(value)))
    return _text(str(value))


def _mapping(value: Mapping[Any, Any], found: list[Attachment] | None, depth: int) -> Any:
    if attached := _attached(value, found):
        return attached
    items = list(value.items())[:MOST_ITEMS]
    return {_text(str(key)): plain(item, found, depth + 1) for key, item in items} | _left_out(len(value))


def _attached(value: Mapping[Any, Any] | str, found: list[Attachment] | None) -> str | None:
    """The label of an attachment, which is added to those found; None for another value."""
    attachment = media.nested(value)
    if attachment is None:
        return None
    if found is not None:
        found.append(attachment)
    return f"[{media.label(attachment)}]"


def _left_out(length: int) -> dict[str, str]:
    return {f"… {length - MOST_ITEMS:,} more": "not shown"} if length > MOST_ITEMS else {}


def _text(text: str) -> str:
    """Text that survives UTF-8, has no base64, and is cut when it is very long."""
    text = media.without_base64(text)
    if len(text) > LONGEST_TEXT:
        text = f"{text[:LONGEST_TEXT]}… ({len(text):,} characters)"
    return text.encode("utf-8", "replace").decode("utf-8")
