"""What spans said, as plain text: messages, inputs and outputs for the displays that have no detail pane.

None of it is in an output unless somebody asks: a notebook is committed and mailed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hh_jupyter.display import media
from hh_jupyter.display.clean import clean, clean_block
from hh_jupyter.display.details import span_details
from hh_jupyter.display.media import Images
from hh_jupyter.display.summary import span_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hh_jupyter.display.view import Detail
    from hh_jupyter.records.record import SpanDetails, SpanRecord
    from hh_jupyter.records.tree import SpanNode, SpanTree

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
        said = _said(wanted[index].record, load, level)
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


def _said(record: SpanRecord, load: Callable[[SpanRecord], SpanDetails | None], level: Level) -> Said | None:
    """None where there is nothing to say."""
    name, model = span_name(record.name), clean(record.facts.model or "", MODEL_LENGTH)
    details = load(record)
    if details is None:
        return Said("Details", name, model, (Part("", "no longer kept"),))
    images = Images() if level.images else None
    shown = span_details(record, details, images)
    parts: list[Part] = []
    room = level.span
    for label, text, attached in _texts(shown):
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


def _texts(shown: Mapping[str, Any]) -> Iterator[tuple[str, str, Sequence[Mapping[str, Any]]]]:
    """Label, text and attachments of all that the detail pane shows above the attributes, in its order."""
    if error := shown.get("error"):
        words = (": ".join(filter(None, (error["type"], error["message"]))), error["stack"])
        yield "error", "\n".join(filter(None, words)), ()
    for message in shown.get("messages", ()):
        yield _label(message), "\n".join(_lines(message)), message.get("attachments", ())
    for name in ("input", "output", "documents"):
        if name in shown:
            yield name, _plain(shown[name]), shown.get(f"{name}_attachments", ())
    if hint := shown.get("hint"):
        yield "", hint, ()


def _label(message: Mapping[str, Any]) -> str:
    return f"{message['role']} {message['tool']}" if "tool" in message else str(message["role"])


def _lines(message: Mapping[str, Any]) -> Iterator[str]:
    if "text" in message:
        yield message["text"]
    if "data" in message:
        yield _plain(message["data"])
    for call in message.get("calls", ()):
        yield f"{call['name']}({_plain(call['arguments'])})  {call['id'] or ''}".rstrip()
    for part in message.get("parts", ()):
        yield f"[{_plain(part)}]"
    for attachment in message.get("attachments", ()):
        yield media.line(attachment)


def _plain(value: Any) -> str:
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
