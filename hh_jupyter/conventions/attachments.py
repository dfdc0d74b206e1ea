"""Images, audio, documents and other files in messages, in one shape for all providers.

Nothing is fetched or rendered here. Base64 is decoded. The media type is taken from the first bytes if they identify
it, since the declared type may be wrong or deliberately misleading.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from struct import unpack_from
from typing import Any, Final, Literal
from urllib.parse import unquote_to_bytes

from hh_jupyter.conventions.facts import grouped

OPENINFERENCE_LIMIT: Final = "hidden by OpenInference's 32 kB limit; OPENINFERENCE_BASE64_IMAGE_MAX_LENGTH raises it"
OPENINFERENCE: Final = "hidden by OpenInference"
STRANDS: Final = "left out by Strands"
LANGFUSE: Final = "uploaded by Langfuse"
LEFT_OUT: Final = "not in the span"
UNREADABLE: Final = "its data cannot be read"

HIDDEN: Final = frozenset({OPENINFERENCE_LIMIT, OPENINFERENCE, STRANDS, LANGFUSE})
"""Notes on data that an instrumentor left out."""

_MARKS: Final = {"__REDACTED__": OPENINFERENCE, "<replaced>": STRANDS}
"""Text that instrumentors write in place of data. OpenInference hides long URLs, and all data of files."""

_LANGFUSE_REFERENCE: Final = re.compile(r"@@@langfuseMedia:type=([^|@]{0,80})\|")

_KINDS: Final = ("image", "audio", "video", "document", "file")
_TYPES: Final = {
    **{kind: kind for kind in _KINDS},
    **{f"{kind}{ending}": kind for kind in _KINDS for ending in ("_url", "-url", "_file", "_content")},
    **{f"{way}_{kind}": kind for kind in _KINDS for way in ("input", "output")},
    **dict.fromkeys(
        ("blob", "binary", "uri", "media", "resource", "inline_data", "inlineData", "file_data", "fileData"), "file"
    ),
}
"""Type of a part, or the name of the field that holds a part without a type -> kind of attachment."""

_TYPE_FIELDS: Final = ("type", "message_content.type", "kind", "block_type")
_MIME_FIELDS: Final = frozenset({"mime_type", "mimeType", "media_type", "mediaType", "image_mimetype", "mimetype"})
_DATA_FIELDS: Final = frozenset(
    {"data", "content", "bytes", "b64_json", "base64", "file_data", "blob", "image", "audio", "file"}
)
_URI_FIELDS: Final = frozenset({"url", "uri", "image_url", "file_uri", "fileUri", "image", "audio", "file"})
_ID_FIELDS: Final = frozenset({"file_id", "fileId"})
_NAME_FIELDS: Final = frozenset({"filename", "name", "title"})

_MIME: Final = re.compile(r"[a-z]{2,20}/[a-z0-9][a-z0-9.+-]{0,60}")
_DATA_URI: Final = re.compile(r"data:([^,;]{0,100})((?:;[^,;]{0,100}){0,8}),", re.IGNORECASE)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_\-\r\n]+")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,20}:")
_MAX_FIELDS: Final = 50
_MAX_DEPTH: Final = 4

_SIGNATURES: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"ID3", "audio/mpeg"),
    (b"OggS", "audio/ogg"),
    (b"BM", "image/bmp"),
)
_RIFF: Final = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}


@dataclass(frozen=True, slots=True)
class Attachment:
    """A part of a message that is not text.

    Attributes:
        kind: image, audio, video, document or file.
        mime: by the first bytes, else as declared; None if unknown.
        size_bytes: of the data; None if the span does not hold the data.
        data: the bytes.
        uri: URI of the original, or its id at the provider. It must never be fetched.
        name: of the file.
        note: why the data are missing.
    """

    kind: str
    mime: str | None = None
    size_bytes: int | None = None
    data: bytes | None = None
    uri: str | None = None
    name: str | None = None
    note: str | None = None


def attachment_of(part: Any) -> Attachment | None:
    """The attachment in a part of a message, in any provider's shape; None for text and everything else."""
    if isinstance(part, str):
        return _of_data_uri(part)
    kind = _kind(part) if isinstance(part, Mapping) else None
    if kind is None:
        return None
    leaves = list(islice(_leaves(part), _MAX_FIELDS))
    if any((name == "text" and value) or (name == "type" and value == "text") for name, value in leaves):
        return None  # A document with plain text.
    modality = _first(leaves, {"modality"})
    kind = modality if modality in _KINDS else kind
    mime = _mime(kind, leaves)
    found = _with_data(kind, mime, leaves) or _without_data(kind, mime, leaves)
    if found.note in (LEFT_OUT, UNREADABLE) and found.kind in ("document", "file"):
        return None  # Not a file: other data with a field of such a name.
    return found


def span_images(attributes: Mapping[str, Any], side: Literal["input", "output"]) -> list[Attachment]:
    """Images in attributes of an OpenInference span beside its messages: input or output of an image model."""
    entries = grouped(attributes.items(), f"{side}.images")
    found = (attachment_of({"type": "image", **entry}) for entry in entries)
    return [attachment for attachment in found if attachment is not None]


def data_uri(text: str) -> tuple[str | None, bytes | None] | None:
    """Media type and data of a `data:` URI. None for other text; the data are None if they cannot be decoded."""
    head = _DATA_URI.match(text)
    if head is None:
        return None
    body = text[head.end() :]
    encoded = head[2].lower().endswith(";base64")
    return _clean_mime(head[1]), decoded(body) if encoded else unquote_to_bytes(body)


def decoded(text: str) -> bytes | None:
    """The bytes of base64 text in either alphabet, with or without padding; None if it is not base64 or is empty."""
    text = text.rstrip("=\r\n\t ")
    if not _BASE64.fullmatch(text):
        return None
    text = text.replace("-", "+").replace("_", "/").replace("\r", "").replace("\n", "")
    try:
        return b64decode(text + "=" * (-len(text) % 4)) or None
    except ValueError:  # An impossible length: the text was truncated.
        return b64decode(text[: len(text) // 4 * 4]) or None


def media_type(data: bytes) -> str | None:
    """The media type by the first bytes; None if they identify none."""
    if data[:4] == b"RIFF":
        return _RIFF.get(data[8:12])
    if data[4:8] == b"ftyp":
        return "video/mp4"
    return next((mime for start, mime in _SIGNATURES if data.startswith(start)), None)


def image_size(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels of a PNG, JPEG, GIF or WebP image, by its header; None if it is unreadable."""
    try:
        found = _SIZES[media_type(data) or ""](data)
    except (KeyError, IndexError, ValueError):
        return None
    return found if found is not None and min(found) > 0 else None


def _kind(part: Mapping[Any, Any]) -> str | None:
    named = [part[name] for name in _TYPE_FIELDS if isinstance(part.get(name), str)]
    if named:
        return _TYPES.get(named[0])
    return next((_TYPES[key] for key in islice(part, 10) if isinstance(key, str) and key in _TYPES), None)


def _leaves(part: Mapping[Any, Any], depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Every text and bytes value with the last part of its key: "url" for "image.image.url"."""
    for key, value in part.items():
        if isinstance(value, Mapping):
            if depth < _MAX_DEPTH:
                yield from _leaves(value, depth + 1)
        elif isinstance(value, str | bytes):
            yield str(key).rpartition(".")[2], value


def _mime(kind: str, leaves: list[tuple[str, Any]]) -> str | None:
    texts = {name: value for name, value in reversed(leaves) if isinstance(value, str)}
    for name in _MIME_FIELDS & texts.keys():
        if mime := _clean_mime(texts[name]):
            return mime
    if form := texts.get("format"):
        return _clean_mime("application/pdf" if form == "pdf" else f"{kind}/{form}")
    return None


def _clean_mime(text: str) -> str | None:
    found = _MIME.match(text.strip().lower())
    return found[0] if found else None


def _with_data(kind: str, mime: str | None, leaves: list[tuple[str, Any]]) -> Attachment | None:
    name = _first(leaves, _NAME_FIELDS)
    for field, value in leaves:
        if isinstance(value, bytes):
            return _attachment(kind, mime, value, name)
        if (inline := data_uri(value)) is not None:
            return _attachment(kind, inline[0] or mime, inline[1], name)
        if field in _DATA_FIELDS and value not in _MARKS and (data := decoded(value)) is not None:
            return _attachment(kind, mime, data, name)
    return None


def _without_data(kind: str, mime: str | None, leaves: list[tuple[str, Any]]) -> Attachment:
    """An attachment without data: its URI, or a note on why the data are missing."""
    name, uri = _first(leaves, _NAME_FIELDS), None
    for field, value in leaves:
        if mark := _MARKS.get(value):
            note = OPENINFERENCE_LIMIT if mark is OPENINFERENCE and field in _URI_FIELDS else mark
            return Attachment(_kind_of(kind, mime), mime, name=name, note=note)
        if reference := _LANGFUSE_REFERENCE.match(value):
            mime = _clean_mime(reference[1]) or mime
            return Attachment(_kind_of(kind, mime), mime, name=name, note=LANGFUSE)
        if uri is None and value and (field in _ID_FIELDS or (field in _URI_FIELDS and _SCHEME.match(value))):
            uri = value
    if any(field in _DATA_FIELDS and value for field, value in leaves) and uri is None:
        return Attachment(_kind_of(kind, mime), mime, name=name, note=UNREADABLE)
    return Attachment(_kind_of(kind, mime), mime, uri=uri, name=name, note=None if uri else LEFT_OUT)


def _of_data_uri(text: str) -> Attachment | None:
    inline = data_uri(text)
    return None if inline is None else _attachment("file", *inline, None)


def _attachment(kind: str, mime: str | None, data: bytes | None, name: str | None) -> Attachment:
    if data is None:
        return Attachment(_kind_of(kind, mime), mime, name=name, note=UNREADABLE)
    mime = media_type(data) or mime
    return Attachment(_kind_of(kind, mime), mime, len(data), data, name=name)


def _kind_of(kind: str, mime: str | None) -> str:
    """The kind by the media type, else as declared."""
    family = (mime or "").partition("/")[0]
    if family in ("image", "audio", "video"):
        return family
    return "document" if mime == "application/pdf" else kind


def _first(leaves: list[tuple[str, Any]], names: frozenset[str] | set[str]) -> str | None:
    return next((value for name, value in leaves if name in names and isinstance(value, str) and value), None)


def _png_size(data: bytes) -> tuple[int, int]:
    return _numbers(">II", data, 16)


def _gif_size(data: bytes) -> tuple[int, int]:
    return _numbers("<HH", data, 6)


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """The size in the frame header, which follows segments of any length."""
    at = 2
    for _ in range(1_000):
        while data[at] == 0xFF and data[at + 1] == 0xFF:
            at += 1
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = _numbers(">HH", data, at + 5)
            return width, height
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    form = data[12:16]
    if form == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if form == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if form == b"VP8 ":
        width, height = _numbers("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _numbers(form: str, data: bytes, at: int) -> tuple[int, int]:
    if len(data) < at + 8:
        raise ValueError("too short")
    first, second = unpack_from(form, data, at)
    return first, second


_SIZES: Final = {
    "image/png": _png_size,
    "image/jpeg": _jpeg_size,
    "image/gif": _gif_size,
    "image/webp": _webp_size,
}
