"""Images and other attachments in displays: labels, which images may be drawn, removal of base64 from texts.

Only raster images are drawn, from the bytes in the span. An address is shown as text and never fetched. SVG may hold
scripts, so its type and size are shown instead. Base64 is never shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from hh_jupyter.conventions.attachments import HIDDEN, Attachment, attachment_of, decoded, image_size, media_type
from hh_jupyter.display.format import clean

DRAWN: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
MAX_IMAGE_BYTES: Final = 2 * 1024 * 1024
"""Maximum size of an image that is drawn, in bytes."""

MAX_TOTAL_BYTES: Final = 8 * 1024 * 1024
"""Maximum size of all drawn images of a span, in bytes."""

MAX_PIXELS: Final = 40_000_000
"""Maximum pixels of an image: a small file can take gigabytes when it is drawn."""

MIN_BASE64_LENGTH: Final = 256
"""Minimum length of base64 that is recognised without `data:` in front of it, in characters."""

MAX_URI_LENGTH: Final = 2_000
MAX_NAME_LENGTH: Final = 120
_MIN_NESTED_BYTES: Final = 64

_END: Final = r"(?:\r?\n|\\r\\n|\\n)"
_BODIES: Final = re.compile(
    r"(?P<head>data:(?P<mime>[\w.+-]{1,60}\\?/[\w.+-]{1,60})?(?:;[\w.+-]{1,40}=[\w.+ -]{0,80}){0,4};base64,)"
    r"(?P<body>(?:[A-Za-z0-9+/_-]++|\\/|%2[BbFf])*+)(?:=|%3[Dd]){0,2}"
    # Slashes escaped as in some JSON encoders.
    r"|(?<![A-Za-z0-9+/_\\-])(?P<slashed>(?:[A-Za-z0-9+]++\\/|\\/){4,}+[A-Za-z0-9+]*+={0,2})"
    # Of the others, those that are long; also in lines of equal length.
    rf"|(?<![A-Za-z0-9+/_-])(?P<bare>[A-Za-z0-9+/_-]{{60,}}+(?:{_END}[A-Za-z0-9+/_-]{{60,}}+)*+"
    rf"(?:{_END}[A-Za-z0-9+/_-]{{1,59}}+(?==|[\"'\\]|\Z))?={{0,2}})"
)
_PART: Final = re.compile(r"[A-Za-z0-9+/_-]{24}")
_ESCAPES: Final = re.compile(r"\\r|\\n|\\|\s")
_PERCENT: Final = {"%2B": "+", "%2b": "+", "%2F": "/", "%2f": "/"}
_NO_DATA: Final = {"\\/": 1, "\\n": 2, "\\r": 2, "\n": 1, "\r": 1, "%2": 2}
"""Escapes and line ends inside base64 that are not data, and how many characters each one adds."""

_HEAD: Final = 96  # characters, a multiple of 4: more than media_type reads


class ImageCollector:
    """Collects the images of one span to draw, within the limits.

    Attributes:
        taken: the bytes of each image; an attachment refers to its own by index.
    """

    def __init__(self, largest: int = MAX_IMAGE_BYTES, total: int = MAX_TOTAL_BYTES) -> None:
        self.taken: list[bytes] = []
        self._largest, self._remaining = largest, total

    def take(self, attachment: Attachment) -> tuple[int | None, str | None]:
        """Take an image to draw. Returns its index in `taken` and None, or None and the reason why it is not drawn."""
        data, mime = attachment.data, attachment.mime
        if data is None or attachment.kind != "image":
            return None, None
        if mime not in DRAWN:
            return None, "SVG is not drawn: it may hold scripts" if mime == "image/svg+xml" else "not drawn"
        size = image_size(data)
        if media_type(data) != mime or size is None:
            return None, "not drawn: its data is damaged"
        if len(data) > self._largest:
            return None, f"not drawn: over {self._largest / 2**20:,.0f} MiB"
        if size[0] * size[1] > MAX_PIXELS:
            return None, f"not drawn: over {MAX_PIXELS // 10**6} megapixels"
        if len(data) > self._remaining:
            return None, f"not drawn: the images of this span are over {MAX_TOTAL_BYTES / 2**20:,.0f} MiB"
        self._remaining -= len(data)
        self.taken.append(data)
        return len(self.taken) - 1, None


def attachment_details(attachment: Attachment, images: ImageCollector | None) -> dict[str, Any]:
    """Describe an attachment for the detail pane: label, note and URI, and for a drawn image its type and index."""
    index, reason = images.take(attachment) if images is not None else (None, None)
    shown = {
        "label": label(attachment),
        "note": attachment.note or reason,
        "uri": clean(attachment.uri, MAX_URI_LENGTH) if attachment.uri else None,
        "image": index,
        "mime": attachment.mime if index is not None else None,
    }
    return {key: value for key, value in shown.items() if value is not None}


def label(attachment: Attachment) -> str:
    """`image/png, 24.3 kB, 640×480`; `cat.pdf, application/pdf, 1.2 MB`; `image` if nothing else is known."""
    pixels = image_size(attachment.data) if attachment.data is not None else None
    words = (
        clean(attachment.name, MAX_NAME_LENGTH) if attachment.name else None,
        attachment.mime or attachment.kind,
        size(attachment.size_bytes) if attachment.size_bytes is not None else None,
        f"{pixels[0]}×{pixels[1]}" if pixels else None,
    )
    return ", ".join(filter(None, words))


def line(shown: Mapping[str, Any]) -> str:
    """Describe an attachment in one line of text: `[image/png, 24.3 kB]`, `[image, https://example.org/cat.png]`."""
    return f"[{', '.join(filter(None, (shown['label'], shown.get('uri'), shown.get('note'))))}]"


def nested_attachment(value: Mapping[Any, Any] | str) -> Attachment | None:
    """Return the attachment in a nested value if it holds data or an instrumentor's placeholder for it; else None."""
    found = attachment_of(value)
    if found is None or found.data is None:
        return found if found is not None and found.note in HIDDEN else None
    return found if len(found.data) >= _MIN_NESTED_BYTES or media_type(found.data) else None


def size(number: int) -> str:
    """`812 B`, `24.3 kB`, `1.2 MB`."""
    if number < 1_000:
        return f"{number} B"
    return f"{number / 1e3:,.1f} kB" if number < 999_950 else f"{number / 1e6:,.1f} MB"


def without_base64(text: str) -> str:
    """Replace each data URI and each long piece of base64 by a label such as `[image/png, 24.3 kB, base64]`."""
    if "base64," not in text and (len(text) < MIN_BASE64_LENGTH or not _may_hold_base64(text)):
        return text
    return _BODIES.sub(_described, text)


def _may_hold_base64(text: str) -> bool:
    """A quick check that samples the text every 32 characters: ten times as fast as the full search for prose."""
    return any(_PART.match(text, at) for at in range(0, len(text), 32))


def _described(match: re.Match[str]) -> str:
    body = match["body"] if match["head"] is not None else match["bare"] or match["slashed"]
    head = "".join(_PERCENT.get(piece, piece) for piece in re.split(r"(%2[BbFf])", body[: 2 * _HEAD]))
    start = decoded(_ESCAPES.sub("", head)[:_HEAD]) or b""
    known = media_type(start)
    if match["head"] is None and not (len(body) >= MIN_BASE64_LENGTH and (known or _mixed(body))):
        return match[0]
    characters = len(body.rstrip("=")) - sum(body.count(mark) * length for mark, length in _NO_DATA.items())
    words = (known or (match["mime"] or "").replace("\\", ""), size(characters * 3 // 4), "base64")
    return f"[{', '.join(filter(None, words))}]"


def _mixed(body: str) -> bool:
    """Whether a text mixes upper case, lower case and digits, as base64 does and hex digests or fillers do not."""
    head = body[: 4 * MIN_BASE64_LENGTH]
    return bool(re.search("[A-Z]", head) and re.search("[a-z]", head) and re.search("[0-9]", head))
