"""What a span holds, for the detail pane and the static outputs: messages, values, stack, of bounded size."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

from opentelemetry.semconv.attributes import exception_attributes

from hh_jupyter.conventions import capture, content, openllmetry, otel_genai
from hh_jupyter.conventions.attachments import Attachment, attachment_of, media_type, span_images
from hh_jupyter.conventions.evaluations import evaluations
from hh_jupyter.conventions.facts import Message, SpanContent
from hh_jupyter.display import format as fmt
from hh_jupyter.display import media
from hh_jupyter.display.format import clean, clean_block, span_name
from hh_jupyter.display.media import Images
from hh_jupyter.records import prices
from hh_jupyter.records.record import SpanDetails, SpanError, SpanRecord
from hh_jupyter.records.tree import SpanNode, SpanTree

Detail = Literal["summary", "preview", "full"]


# Python stack traces as text: the user's own frames apart from those of libraries.

_FRAME = re.compile(r'^  File "(?P<file>[^"\n]+)", line (?P<line>\d+), in (?P<function>.+)$', re.MULTILINE)
_LIBRARY = re.compile(
    r"[/\\](?:site|dist)-packages[/\\]|[/\\]lib[/\\]python\d|^<frozen |[/\\]Lib[/\\](?!site)"
    r"|[/\\]hh_jupyter[/\\](?:tracing|experiments|notebook)[/\\]"
)
_CELL = re.compile(r"[/\\]ipykernel_\d+[/\\]|^<ipython-input-")
MOST_FRAMES = 60


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack trace in two lengths, outermost frame first.

    Attributes:
        own: frames of user code, as `payments.py:41  in post_refund` and the line of code; empty without any.
        full: the whole text, as recorded.
        library_frames: how many frames `own` leaves out.
    """

    own: str
    full: str
    library_frames: int


def read_stack(text: str) -> Stack:
    """Take a printed Python traceback apart. Of chained ones the last counts, since that is what left the span."""
    last = text.rpartition("Traceback (most recent call last):")[2]
    frames = list(_FRAME.finditer(last))[-MOST_FRAMES:]
    own = [frame for frame in frames if not _LIBRARY.search(frame["file"])]
    places = [_place(frame) for frame in own]
    width = max((len(place) for place in places), default=0)
    lines = []
    for frame, place in zip(own, places, strict=True):
        lines.append(f"{place:<{width}}  in {frame['function']}")
        code = last[frame.end() :].lstrip("\n").partition("\n")[0]
        if code.startswith("    "):
            lines.append(f"    {code.strip()}")
    return Stack("\n".join(lines), text.strip(), len(frames) - len(own))


def _place(frame: re.Match[str]) -> str:
    """`payments.py:41`; a notebook cell has a made-up file name that says nothing."""
    file = "cell" if _CELL.search(frame["file"]) else re.split(r"[/\\]", frame["file"])[-1]
    return f"{file}:{frame['line']}"


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
    dollars, estimated = prices.cost_of(record.facts)
    if dollars is None:
        return {}
    shown = {"cost": fmt.usd(dollars, estimated=estimated)}
    return {**shown, "prices": prices.table()} if estimated else {**shown}


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


# What spans said, as plain text: messages, inputs and outputs for the displays that have no detail pane.
#
# None of it is in an output unless somebody asks: a notebook is committed and mailed.

MODEL_LENGTH: Final = 40


class Level(NamedTuple):
    """How much is said: of how many spans, and bytes of one value, of one span and of all of them; images or none."""

    spans: int
    value: int
    span: int
    whole: int
    images: bool = False


LEVELS: Final[Mapping[str, Level]] = {
    "preview": Level(spans=6, value=2_000, span=8_000, whole=48_000),
    "full": Level(spans=200, value=100_000, span=1_000_000, whole=1_000_000, images=True),
}


@dataclass(frozen=True, slots=True)
class Part:
    """One text of a span, and whose or what it is: user, assistant, tool get_order, input, output, error.

    Its images are named in the text too; they are there only where all that spans said is asked for.
    """

    label: str
    text: str
    images: tuple[Image, ...] = ()


@dataclass(frozen=True, slots=True)
class Image:
    """An image that may be drawn."""

    label: str
    mime: str
    data: bytes

    @property
    def size(self) -> int:
        """Bytes that it takes in a file, as base64."""
        return (len(self.data) + 2) // 3 * 4


@dataclass(frozen=True, slots=True)
class Said:
    """What one span said; `heading` names it: Messages, Input and output, or Error."""

    heading: str
    name: str
    model: str
    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        """Bytes of all texts and images."""
        texts = sum(len(part.text.encode()) for part in self.parts)
        return texts + sum(image.size for part in self.parts for image in part.images)


def what_was_said(
    tree: SpanTree, detail: Detail, load: Callable[[SpanRecord], SpanDetails | None]
) -> tuple[tuple[Said, ...], int]:
    """What the spans of a tree said, in their order, and how many are left out that may have something to say.

    A preview is of the model calls and of what failed, else of the roots. Of many, those that failed come first, then
    model calls.

    Args:
        load: gives the details of a row, None when they are no longer kept.
    """
    level = LEVELS.get(detail)
    if level is None:
        return (), 0
    wanted = _wanted(tree, detail)
    ranked = sorted(range(len(wanted)), key=lambda index: (_rank(wanted[index]), index))
    found: dict[int, Said] = {}
    room, unsaid = level.whole, 0
    for place, index in enumerate(ranked):
        if len(found) == level.spans:
            unsaid += len(ranked) - place
            break
        said = _said_by(wanted[index].record, load, level)
        if said is not None and said.size > room:
            unsaid += 1
        elif said is not None:
            found[index] = said
            room -= said.size
    return tuple(found[index] for index in sorted(found)), unsaid


def _wanted(tree: SpanTree, detail: Detail) -> Sequence[SpanNode]:
    if detail == "full":
        return tree.nodes
    return [node for node in tree.nodes if _rank(node) < 2] or tree.roots


def _rank(node: SpanNode) -> int:
    return 0 if node.error == "uncaught" else 1 if node.record.facts.kind == "llm" else 2


def _said_by(record: SpanRecord, load: Callable[[SpanRecord], SpanDetails | None], level: Level) -> Said | None:
    """None where there is nothing to say."""
    name, model = span_name(record.name), clean(record.facts.model or "", MODEL_LENGTH)
    details = load(record)
    if details is None:
        return Said("Details", name, model, (Part("", "no longer kept"),))
    images = Images() if level.images else None
    shown = span_details(record, details, images)
    parts: list[Part] = []
    room = level.span
    for label, text, attached in _span_texts(shown):
        head = _head(clean_block(text), min(level.value, room))
        room -= len(head.encode())
        drawn = []
        for image in _images(attached, images):
            if image.size <= room:
                drawn.append(image)
                room -= image.size
        parts.append(Part(clean(label, 60), head, tuple(drawn)))
        if room <= 0:
            break
    heading = "Error" if "error" in shown else "Messages" if "messages" in shown else "Input and output"
    return Said(heading, name, model, tuple(parts)) if parts else None


def _images(attached: Sequence[Mapping[str, Any]], images: Images | None) -> Iterator[Image]:
    for one in attached:
        if images is not None and "image" in one:
            yield Image(one["label"], one["mime"], images.taken[one["image"]])


def _span_texts(shown: Mapping[str, Any]) -> Iterator[tuple[str, str, Sequence[Mapping[str, Any]]]]:
    """Label, text and attachments of all that the detail pane shows above the attributes, in its order."""
    if error := shown.get("error"):
        words = (": ".join(filter(None, (error["type"], error["message"]))), error["stack"])
        yield "error", "\n".join(filter(None, words)), ()
    for message in shown.get("messages", ()):
        yield _label(message), "\n".join(_message_lines(message)), message.get("attachments", ())
    for name in ("input", "output", "documents"):
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
    """Text as it is, anything else as JSON: on one line if that is short."""
    if isinstance(value, str):
        return value
    line = json.dumps(value, ensure_ascii=False)
    return line if len(line) <= 100 else json.dumps(value, ensure_ascii=False, indent=2)


def _head(text: str, limit: int) -> str:
    """At most so many bytes of it, and how long it was."""
    data = text.encode()
    if len(data) <= limit:
        return text
    return f"{data[: max(limit, 0)].decode('utf-8', 'ignore')}… ({len(text):,} characters)"
