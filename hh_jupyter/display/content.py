"""The content of spans for the detail pane and the static displays: messages, values, stack traces, of bounded size."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

from opentelemetry.semconv.attributes import exception_attributes

from hh_jupyter.conventions import capture, content, evaluations, openllmetry, otel_genai
from hh_jupyter.conventions.attachments import Attachment, attachment_of, media_type, span_images
from hh_jupyter.conventions.facts import Message, SpanContent, from_json
from hh_jupyter.display import format as fmt
from hh_jupyter.display import media
from hh_jupyter.display.format import clean, clean_block, span_name
from hh_jupyter.display.media import ImageCollector
from hh_jupyter.records import prices
from hh_jupyter.records.record import SpanDetails, SpanError, SpanRecord
from hh_jupyter.records.tree import SpanNode, SpanTree
from hh_jupyter.values import valid_utf8

Detail = Literal["summary", "preview", "full"]


# Stack traces: frames of user code, separated from library frames.

_FRAME = re.compile(r'^  File "(?P<file>[^"\n]+)", line (?P<line>\d+), in (?P<function>.+)$', re.MULTILINE)
_LIBRARY = re.compile(
    r"[/\\](?:site|dist)-packages[/\\]|[/\\]lib[/\\]python\d|^<frozen |[/\\]Lib[/\\](?!site)"
    r"|[/\\]hh_jupyter[/\\](?:tracing|experiments|notebook)[/\\]"
)
_CELL = re.compile(r"[/\\]ipykernel_\d+[/\\]|^<ipython-input-")
MAX_FRAMES = 60


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack trace in a short and a full form, outermost frame first.

    Attributes:
        own: frames of user code, each as `payments.py:41  in post_refund` and the line of code; may be empty.
        full: the whole text as recorded.
        library_frames: number of frames that `own` leaves out.
    """

    own: str
    full: str
    library_frames: int


def read_stack(text: str) -> Stack:
    """Parse a printed Python traceback. If several are chained, the last one counts: its exception left the span."""
    last = text.rpartition("Traceback (most recent call last):")[2]
    frames = list(_FRAME.finditer(last))[-MAX_FRAMES:]
    own = [frame for frame in frames if not _LIBRARY.search(frame["file"])]
    locations = [_location(frame) for frame in own]
    width = max(map(len, locations), default=0)
    lines = []
    for frame, location in zip(own, locations, strict=True):
        lines.append(f"{location:<{width}}  in {frame['function']}")
        code = last[frame.end() :].lstrip("\n").partition("\n")[0]
        if code.startswith("    "):
            lines.append(f"    {code.strip()}")
    return Stack("\n".join(lines), text.strip(), len(frames) - len(own))


def _location(frame: re.Match[str]) -> str:
    """`payments.py:41`; `cell:3` for a notebook cell, whose generated file name means nothing to users."""
    file = "cell" if _CELL.search(frame["file"]) else re.split(r"[/\\]", frame["file"])[-1]
    return f"{file}:{frame['line']}"


# The detail pane of one span, as JSON-safe data.

MAX_TEXT_LENGTH = 100_000
"""Maximum characters of one text. Longer texts are cut and marked, so that the page stays fast."""

MAX_ITEMS = 2_000
"""Maximum entries of one list or mapping."""

MAX_DEPTH = 40
"""Maximum nesting of a value."""

_CAPTURING = frozenset({otel_genai.FAMILY, openllmetry.FAMILY})
"""Families of instrumentors that capture messages only if configured to."""


def span_details(record: SpanRecord, details: SpanDetails, images: ImageCollector | None = None) -> dict[str, Any]:
    """Return the detail pane of a span: error, messages, input and output, attributes. Empty parts are left out.

    Args:
        record: the span.
        details: its attributes and events.
        images: collects the images to draw; without it, images are shown by type and size only.
    """
    parsed = content(details.attributes, details.events)
    shown: dict[str, Any] = {
        "usage": _usage(record),
        **_cost(record),
        "redacted": record.redacted,
        "dropped": record.dropped,
        "finish_reason": parsed.finish_reason,
        "error": _error(record.error, details) if record.error else None,
        "messages": _messages(parsed, details.attributes, images),
        "params": plain(parsed.params) or None,
        "tools": [plain(tool) for tool in parsed.tools_offered],
        "documents": [plain(document) for document in parsed.documents],
        "metrics": plain(parsed.metrics) or None,
        "feedback": plain(parsed.feedback) or None,
        "attributes": _attributes(record, details),
    }
    if not shown["messages"]:
        shown |= _value_and_images("input", parsed.input, details.attributes, images)
        shown |= _value_and_images("output", parsed.output, details.attributes, images)
        shown["hint"] = _capture_hint(record) if shown["input"] is None and shown["output"] is None else None
    elif record.error:
        shown["input"] = plain(parsed.params) if parsed.params else None
    elif parsed.output is not None and not parsed.output_messages and not span_images(details.attributes, "output"):
        # Agents and chains of OpenInference record the question as messages and the answer as a value.
        shown |= _value_and_images("output", parsed.output, details.attributes, images)
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
    """Return the recorded cost, else an estimate and the price table behind it; {} if the cost is unknown.

    A replayed call cost nothing; what it would have cost is said instead.
    """
    replayed = record.facts.replayed
    dollars, estimated = (prices.saved_cost if replayed else prices.cost_of)(record.facts)
    if dollars is None:
        return {"cost": "$0, replayed"} if replayed else {}
    shown = {"cost": f"{'$0, saved ' if replayed else ''}{fmt.usd(dollars, estimated=estimated)}"}
    return {**shown, "prices": prices.table()} if estimated else {**shown}


def _error(error: SpanError, details: SpanDetails) -> dict[str, Any]:
    """Return the whole message and the stack from the exception event; the record keeps only one line of them."""
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


def _capture_hint(record: SpanRecord) -> str | None:
    """Return why a model call has no messages, and how to capture them next time."""
    if record.facts.kind != "llm" or record.facts.family not in _CAPTURING or record.end_ns is None:
        return None
    value = capture.value_for(record.scope)
    if value is None:
        return f"messages were not captured by {_text(record.scope)}" if record.scope else "messages were not captured"
    return (
        f"messages were not captured: set {capture.VARIABLE}={value} before the instrumentor is enabled; "
        "%hh instrument sets it"
    )


def _messages(
    parsed: SpanContent, attributes: Mapping[str, Any], images: ImageCollector | None
) -> list[dict[str, Any]]:
    """Return the conversation in order. A tool result has the name of the tool that was called."""
    everything = (*parsed.input_messages, *parsed.output_messages)
    tool_names = {call.id: call.name for message in everything for call in message.tool_calls if call.id}
    shown = [_message(message, tool_names, images) for message in everything]
    if shown and (generated := span_images(attributes, "output")):
        shown.append({"role": "assistant", "attachments": [media.attachment_details(one, images) for one in generated]})
    return shown


def answer_messages(details: SpanDetails) -> list[dict[str, Any]]:
    """Return what a model call answered, in the form of the detail pane's messages; other output as one message."""
    parsed = content(details.attributes, details.events)
    found = _messages(parsed, details.attributes, None)[len(parsed.input_messages) :]
    if not found and parsed.output is not None:
        found = [{"role": "assistant", "text" if isinstance(parsed.output, str) else "data": plain(parsed.output)}]
    return found


def _value_and_images(
    side: Literal["input", "output"], value: Any, attributes: Mapping[str, Any], images: ImageCollector | None
) -> dict[str, Any]:
    """Return input or output of a span and the attachments in it."""
    found: list[Attachment] = []
    shown = plain(value, found)
    found += span_images(attributes, side)
    if found and shown is None:
        shown = [f"[{media.label(one)}]" for one in found]
    return {side: shown, f"{side}_attachments": [media.attachment_details(one, images) for one in found]}


def _message(message: Message, tool_names: Mapping[str, str], images: ImageCollector | None) -> dict[str, Any]:
    shown: dict[str, Any] = {"role": message.role}
    found: list[Attachment] = []
    data = _parsed(message.text) if message.role in ("tool", "function") else None
    if data is not None:
        shown["data"] = plain(data, found)
        if found and shown["data"] in ([f"[{media.label(one)}]" for one in found], f"[{media.label(found[0])}]"):
            del shown["data"]  # ImageCollector alone.
    elif message.text:
        shown["text"] = _text(message.text)
    if message.tool_call_id:
        shown["tool"] = tool_names.get(message.tool_call_id, message.tool_call_id)
    if message.tool_calls:
        shown["calls"] = [
            {"name": call.name, "id": call.id, "arguments": plain(call.arguments)} for call in message.tool_calls
        ]
    parts = [(part, attachment_of(part)) for part in message.parts]
    if others := [plain(part, found) for part, attachment in parts if attachment is None]:
        shown["parts"] = others
    if attached := [*found, *(attachment for _, attachment in parts if attachment is not None)]:
        shown["attachments"] = [media.attachment_details(attachment, images) for attachment in attached]
    return shown


def _parsed(text: str | None) -> Any:
    """Parse a tool result that is JSON; None for other text."""
    try:
        return from_json(text) if text and text.lstrip()[:1] in ("{", "[") else None
    except ValueError:
        return None


def _attributes(record: SpanRecord, details: SpanDetails) -> list[tuple[str, Any]]:
    """Return general facts, then results of evaluations, then all attributes as exported, sorted by name."""
    start = datetime.fromtimestamp(record.start_ns / 1e9, tz=UTC).isoformat(timespec="milliseconds")
    known = [
        ("event type", record.facts.event_type),
        ("model", record.facts.model),
        (
            "model requested",
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
    scores = [(_text(f"evaluation {name}"), plain(value)) for name, value in evaluations(details.events).items()]
    return [(name, value) for name, value in known if value] + scores + raw


def plain(value: Any, found: list[Attachment] | None = None, depth: int = 0) -> Any:
    """Convert any value to JSON that a browser can parse: bounded, finite, without lone surrogates and base64.

    Args:
        value: from a span.
        found: collects the images and other attachments inside, which labels replace in the result.
        depth: nesting level of the value.
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
    if depth >= MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        return _mapping(value, found, depth)
    if isinstance(value, Sequence):
        shown = [plain(item, found, depth + 1) for item in value[:MAX_ITEMS]]
        return shown + list(_omitted_entry(len(value)))
    return _text(str(value))


def _mapping(value: Mapping[Any, Any], found: list[Attachment] | None, depth: int) -> Any:
    if attached := _attached(value, found):
        return attached
    items = list(value.items())[:MAX_ITEMS]
    return {_text(str(key)): plain(item, found, depth + 1) for key, item in items} | _omitted_entry(len(value))


def _attached(value: Mapping[Any, Any] | str, found: list[Attachment] | None) -> str | None:
    """Return the label of an attachment and add it to `found`; None for any other value."""
    attachment = media.nested_attachment(value)
    if attachment is None:
        return None
    if found is not None:
        found.append(attachment)
    return f"[{media.label(attachment)}]"


def _omitted_entry(length: int) -> dict[str, str]:
    return {f"… {length - MAX_ITEMS:,} more": "not shown"} if length > MAX_ITEMS else {}


def _text(text: str) -> str:
    """Return text that can be encoded as UTF-8, without base64, and cut if it is very long."""
    text = media.without_base64(text)
    if len(text) > MAX_TEXT_LENGTH:
        text = f"{text[:MAX_TEXT_LENGTH]}… ({len(text):,} characters)"
    return valid_utf8(text)


# Content as plain text, for the static displays: messages, inputs and outputs.
#
# Outputs hold none of it unless the user requests it: notebooks are committed and mailed.

MODEL_LENGTH: Final = 40


class ContentLimits(NamedTuple):
    """Limits of the content in an output: number of spans, and bytes of a value, of a span and in total."""

    spans: int
    value_bytes: int
    span_bytes: int
    total_bytes: int
    images: bool = False


CONTENT_LIMITS: Final[Mapping[str, ContentLimits]] = {
    "preview": ContentLimits(spans=6, value_bytes=2_000, span_bytes=8_000, total_bytes=48_000),
    "full": ContentLimits(spans=200, value_bytes=100_000, span_bytes=1_000_000, total_bytes=1_000_000, images=True),
}


@dataclass(frozen=True, slots=True)
class ContentPart:
    """One text of a span with its label: user, assistant, tool get_order, input, output or error.

    `images` is filled only at full detail. The text names the images at any detail.
    """

    label: str
    text: str
    images: tuple[InlineImage, ...] = ()


@dataclass(frozen=True, slots=True)
class InlineImage:
    """An image to draw."""

    label: str
    mime: str
    data: bytes

    @property
    def size(self) -> int:
        """Bytes of the image in a file, as base64."""
        return (len(self.data) + 2) // 3 * 4


@dataclass(frozen=True, slots=True)
class ContentBlock:
    """The content of one span. `heading` is Messages, Input and output, or Error."""

    heading: str
    name: str
    model: str
    parts: tuple[ContentPart, ...]

    @property
    def size(self) -> int:
        """Bytes of all texts and images."""
        texts = sum(len(part.text.encode()) for part in self.parts)
        return texts + sum(image.size for part in self.parts for image in part.images)


def collect_content(
    tree: SpanTree, detail: Detail, load: Callable[[SpanRecord], SpanDetails | None]
) -> tuple[tuple[ContentBlock, ...], int]:
    """Return the content of a tree's spans in tree order, and the number of spans left out for lack of room.

    A preview holds model calls and failed spans, or the roots if there are none. If there are too many spans, failed
    ones take precedence, then model calls.

    Args:
        tree: the spans.
        detail: how much content to collect.
        load: returns the details of a record, or None if they are no longer in memory.
    """
    limits = CONTENT_LIMITS.get(detail)
    if limits is None:
        return (), 0
    wanted = _wanted(tree, detail)
    ranked = sorted(range(len(wanted)), key=lambda index: (_rank(wanted[index]), index))
    found: dict[int, ContentBlock] = {}
    remaining, omitted = limits.total_bytes, 0
    for rank, index in enumerate(ranked):
        if len(found) == limits.spans:
            omitted += len(ranked) - rank
            break
        block = _content_block(wanted[index].record, load, limits)
        if block is not None and block.size > remaining:
            omitted += 1
        elif block is not None:
            found[index] = block
            remaining -= block.size
    return tuple(found[index] for index in sorted(found)), omitted


def _wanted(tree: SpanTree, detail: Detail) -> Sequence[SpanNode]:
    if detail == "full":
        return tree.nodes
    return [node for node in tree.nodes if _rank(node) < 2] or tree.roots


def _rank(node: SpanNode) -> int:
    return 0 if node.error == "uncaught" else 1 if node.record.facts.kind == "llm" else 2


def _content_block(
    record: SpanRecord, load: Callable[[SpanRecord], SpanDetails | None], limits: ContentLimits
) -> ContentBlock | None:
    """Return the content of a span; None if it has none."""
    name, model = span_name(record.name), clean(record.facts.model or "", MODEL_LENGTH)
    details = load(record)
    if details is None:
        return ContentBlock("Details", name, model, (ContentPart("", "no longer in memory"),))
    images = ImageCollector() if limits.images else None
    shown = span_details(record, details, images)
    parts: list[ContentPart] = []
    remaining = limits.span_bytes
    for label, text, attached in _span_texts(shown):
        head = _head(clean_block(text), min(limits.value_bytes, remaining))
        remaining -= len(head.encode())
        drawn = []
        for image in _images(attached, images):
            if image.size <= remaining:
                drawn.append(image)
                remaining -= image.size
        parts.append(ContentPart(clean(label, 60), head, tuple(drawn)))
        if remaining <= 0:
            break
    heading = "Error" if "error" in shown else "Messages" if "messages" in shown else "Input and output"
    return ContentBlock(heading, name, model, tuple(parts)) if parts else None


def _images(attached: Sequence[Mapping[str, Any]], images: ImageCollector | None) -> Iterator[InlineImage]:
    for one in attached:
        if images is not None and "image" in one:
            yield InlineImage(one["label"], one["mime"], images.taken[one["image"]])


def _span_texts(shown: Mapping[str, Any]) -> Iterator[tuple[str, str, Sequence[Mapping[str, Any]]]]:
    """Yield label, text and attachments of each part that the detail pane shows above the attributes."""
    if error := shown.get("error"):
        lines = (": ".join(filter(None, (error["type"], error["message"]))), error["stack"])
        yield "error", "\n".join(filter(None, lines)), ()
    for message in shown.get("messages", ()):
        yield _label(message), "\n".join(_message_lines(message)), message.get("attachments", ())
    for name in ("input", "output", "documents", "metrics", "feedback"):
        if name in shown:
            yield name, _plain_text(shown[name]), shown.get(f"{name}_attachments", ())
    if hint := shown.get("hint"):
        yield "", hint, ()


def _label(message: Mapping[str, Any]) -> str:
    return f"{message['role']} {message['tool']}" if "tool" in message else str(message["role"])


def _message_lines(message: Mapping[str, Any]) -> Iterator[str]:
    if "text" in message:
        yield message["text"]
    if "data" in message:
        yield _plain_text(message["data"])
    for call in message.get("calls", ()):
        yield f"{call['name']}({_plain_text(call['arguments'])})  {call['id'] or ''}".rstrip()
    for part in message.get("parts", ()):
        yield f"[{_plain_text(part)}]"
    for attachment in message.get("attachments", ()):
        yield media.line(attachment)


def _plain_text(value: Any) -> str:
    """Return text unchanged and anything else as JSON, on one line if it is short."""
    if isinstance(value, str):
        return value
    line = json.dumps(value, ensure_ascii=False)
    return line if len(line) <= 100 else json.dumps(value, ensure_ascii=False, indent=2)


def _head(text: str, limit: int) -> str:
    """Return at most `limit` bytes of a text; a cut text is followed by its full length."""
    data = text.encode()
    if len(data) <= limit:
        return text
    return f"{data[: max(limit, 0)].decode('utf-8', 'ignore')}… ({len(text):,} characters)"
