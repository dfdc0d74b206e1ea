"""Images and files in messages are read from every provider's shape, and hostile ones do no harm."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hh_jupyter.conventions.attachments import (
    LANGFUSE,
    LEFT_OUT,
    OPENINFERENCE,
    OPENINFERENCE_LIMIT,
    STRANDS,
    UNREADABLE,
    Attachment,
    attachment_of,
    decoded,
    image_size,
    media_type,
)
from tests.pictures import GIF, JPEG, PDF, SVG, WAV, WEBP, data_uri, encoded, png

PNG = png(64, 48)
PNG_TEXT = encoded(PNG)
URL_SAFE = base64.urlsafe_b64encode(JPEG).decode().rstrip("=")
LOSSLESS_WEBP = b"RIFF\x00\x00\x00\x00WEBPVP8L" + bytes(5) + struct.pack("<I", 639 | 479 << 14) + bytes(8)
ADDRESS = "https://example.org/cat.png"

SHAPES: dict[str, tuple[Any, str, bytes]] = {
    "OpenAI chat": ({"type": "image_url", "image_url": {"url": data_uri(PNG), "detail": "low"}}, "image/png", PNG),
    "OpenAI Responses": ({"type": "input_image", "image_url": data_uri(PNG), "detail": "auto"}, "image/png", PNG),
    "OpenAI audio": ({"type": "input_audio", "input_audio": {"data": encoded(WAV), "format": "wav"}}, "audio/wav", WAV),
    "OpenAI file": (
        {"type": "file", "file": {"filename": "a.pdf", "file_data": data_uri(PDF, "application/pdf")}},
        "application/pdf",
        PDF,
    ),
    "OpenAI Responses file": (
        {"type": "input_file", "filename": "a.pdf", "file_data": data_uri(PDF, "application/pdf")},
        "application/pdf",
        PDF,
    ),
    "Anthropic image": (
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG_TEXT}},
        "image/png",
        PNG,
    ),
    "Anthropic document": (
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": encoded(PDF)}},
        "application/pdf",
        PDF,
    ),
    "Google": ({"inline_data": {"mime_type": "image/jpeg", "data": URL_SAFE}}, "image/jpeg", JPEG),
    "Google in JSON": ({"inlineData": {"mimeType": "image/jpeg", "data": encoded(JPEG)}}, "image/jpeg", JPEG),
    "Google blob": ({"blob": {"mime_type": "audio/wav", "data": encoded(WAV)}}, "audio/wav", WAV),
    "OpenTelemetry blob": (
        {"type": "blob", "modality": "image", "mime_type": "image/png", "content": PNG_TEXT},
        "image/png",
        PNG,
    ),
    "OpenTelemetry blob without a type": ({"type": "blob", "modality": "image", "content": PNG_TEXT}, "image/png", PNG),
    "OpenInference": (
        {"message_content.type": "image", "message_content.image.image.url": data_uri(PNG)},
        "image/png",
        PNG,
    ),
    "Pydantic AI": ({"type": "binary", "media_type": "image/png", "content": PNG_TEXT}, "image/png", PNG),
    "Pydantic AI, dumped": ({"kind": "binary", "media_type": "image/jpeg", "data": URL_SAFE}, "image/jpeg", JPEG),
    "Bedrock": ({"image": {"format": "png", "source": {"bytes": PNG}}}, "image/png", PNG),
    "Bedrock in JSON": ({"image": {"format": "png", "source": {"bytes": PNG_TEXT}}}, "image/png", PNG),
    "Bedrock document": (
        {"document": {"format": "pdf", "name": "report", "source": {"bytes": PDF}}},
        "application/pdf",
        PDF,
    ),
    "MCP": ({"type": "image", "data": PNG_TEXT, "mimeType": "image/png"}, "image/png", PNG),
    "MCP resource": (
        {"type": "resource", "resource": {"uri": "file:///a.pdf", "mimeType": "application/pdf", "blob": encoded(PDF)}},
        "application/pdf",
        PDF,
    ),
    "Vercel": ({"type": "image", "image": PNG_TEXT, "mediaType": "image/png"}, "image/png", PNG),
    "LangChain": ({"type": "image", "base64": PNG_TEXT, "mime_type": "image/png"}, "image/png", PNG),
    "LlamaIndex": ({"block_type": "image", "image": PNG_TEXT, "image_mimetype": "image/png"}, "image/png", PNG),
    "an address by itself": (data_uri(GIF, "image/gif"), "image/gif", GIF),
    "lines of 76 characters": (
        {"type": "image", "data": base64.encodebytes(PNG).decode(), "mimeType": "image/png"},
        "image/png",
        PNG,
    ),
    "percent signs": (
        {"type": "image_url", "image_url": {"url": "data:image/svg+xml,%3Csvg%3E"}},
        "image/svg+xml",
        b"<svg>",
    ),
}


@pytest.mark.parametrize(("part", "mime", "data"), SHAPES.values(), ids=SHAPES)
def test_a_part_with_data_is_read_in_every_shape(part: Any, mime: str, data: bytes) -> None:
    found = attachment_of(part)
    assert found is not None
    assert (found.mime, found.data, found.size_bytes, found.note) == (mime, data, len(data), None)
    assert found.kind == {"image": "image", "audio": "audio"}.get(mime.partition("/")[0], "document")


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ({"type": "image_url", "image_url": {"url": ADDRESS}}, "image"),
        ({"type": "input_image", "image_url": ADDRESS}, "image"),
        ({"type": "image", "source": {"type": "url", "url": ADDRESS}}, "image"),
        ({"type": "uri", "modality": "image", "uri": ADDRESS}, "image"),
        ({"type": "image-url", "url": ADDRESS}, "image"),
        ({"kind": "image-url", "url": ADDRESS}, "image"),
        ({"message_content.type": "image", "message_content.image.image.url": ADDRESS}, "image"),
        ({"file_data": {"mime_type": "video/mp4", "file_uri": ADDRESS}}, "video"),
        ({"type": "image", "image": ADDRESS}, "image"),
    ],
)
def test_an_address_is_kept_and_never_becomes_data(part: Any, kind: str) -> None:
    found = attachment_of(part)
    assert found is not None
    assert (found.kind, found.uri, found.data, found.note) == (kind, ADDRESS, None, None)


def test_a_file_of_the_provider_is_named_by_its_id() -> None:
    found = attachment_of({"type": "file", "modality": "image", "mime_type": "image/png", "file_id": "file-8f3"})
    assert found == Attachment("image", "image/png", uri="file-8f3")
    found = attachment_of({"type": "file", "file": {"file_id": "file-8f3", "filename": "a.pdf"}})
    assert found == Attachment("file", uri="file-8f3", name="a.pdf")


@pytest.mark.parametrize(
    ("part", "mime", "note"),
    [
        (
            {"message_content.type": "image", "message_content.image.image.url": "__REDACTED__"},
            None,
            OPENINFERENCE_LIMIT,
        ),
        ({"type": "image_url", "image_url": {"url": "__REDACTED__"}}, None, OPENINFERENCE_LIMIT),
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "__REDACTED__"}},
            "image/png",
            OPENINFERENCE,
        ),
        ({"message_content.type": "image"}, None, LEFT_OUT),
        ({"type": "binary", "media_type": "image/png"}, "image/png", LEFT_OUT),
        ({"image": {"format": "png", "source": {"bytes": "<replaced>"}}}, "image/png", STRANDS),
        (
            {
                "type": "image_url",
                "image_url": {"url": "@@@langfuseMedia:type=image/png|id=x|source=base64_data_uri@@@"},
            },
            "image/png",
            LANGFUSE,
        ),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,§§"}}, "image/png", UNREADABLE),
        ({"type": "blob", "modality": "image", "content": "not base64!"}, None, UNREADABLE),
    ],
)
def test_missing_data_have_a_note_with_the_reason(part: Any, mime: str | None, note: str) -> None:
    assert attachment_of(part) == Attachment("image", mime, note=note)


@pytest.mark.parametrize(
    "part",
    [
        None,
        7,
        "",
        "just text",
        [],
        {},
        {"type": "text", "text": "hello"},
        {"type": "reasoning", "content": "I think"},
        {"type": "web_search_result", "url": ADDRESS, "title": "a page"},
        {"type": "server_tool_call", "name": "image_search"},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Hello"}},
        {"type": "document", "document": {"data": {"snippet": "a cat"}}},
        {"type": "file_search_call", "id": "x"},
        {"type": "resource", "resource": {"uri": "file:///a.txt", "text": "all of it"}},
        {"type": ["image"]},
        {"image": None, "type": 3, 5: {6: 7}},
    ],
    ids=repr,
)
def test_text_and_unknown_parts_are_no_attachments(part: Any) -> None:
    assert attachment_of(part) is None or attachment_of(part).data is None  # type: ignore[union-attr]
    if not (isinstance(part, dict) and "image" in part):
        assert attachment_of(part) is None


@pytest.mark.parametrize(
    ("claimed", "shown"),
    [
        ('image/png" onload="alert(1)', "image/png"),
        ("image/png\r\nX-Evil: 1", "image/png"),
        ("IMAGE/PNG", "image/png"),
        ("<script>", None),
        ("text/html;charset=x", "text/html"),
        ("a" * 10_000 + "/b", None),
        ("", None),
    ],
)
def test_an_invalid_media_type_is_not_shown(claimed: str, shown: str | None) -> None:
    data = encoded(b"\x00\x01\x02\x03" * 20)
    found = attachment_of({"type": "blob", "modality": "image", "mime_type": claimed, "content": data})
    assert found is not None
    assert found.mime == shown


def test_the_first_bytes_override_the_declared_type() -> None:
    disguised = attachment_of({"type": "image_url", "image_url": {"url": data_uri(PNG, "text/html")}})
    assert disguised is not None
    assert disguised.mime == "image/png"
    svg = attachment_of({"type": "image_url", "image_url": {"url": data_uri(SVG, "image/png")}})
    assert svg is not None
    assert media_type(svg.data or b"") is None


@pytest.mark.parametrize(
    ("data", "mime", "size"),
    [
        (PNG, "image/png", (64, 48)),
        (JPEG, "image/jpeg", (9, 5)),
        (GIF, "image/gif", (3, 2)),
        (WEBP, "image/webp", (9, 5)),
        (b"RIFF\x00\x00\x00\x00WEBPVP8X" + bytes(8) + b"\x7f\x02\x00\xdf\x01\x00", "image/webp", (640, 480)),
        (
            b"RIFF\x00\x00\x00\x00WEBPVP8L" + bytes(5) + struct.pack("<I", 639 | 479 << 14) + bytes(8),
            "image/webp",
            (640, 480),
        ),
        (PNG[:20], "image/png", None),
        (PNG[:16] + bytes(40), "image/png", None),
        (b"\xff\xd8\xff", "image/jpeg", None),
        (b"\xff\xd8\xff" + b"\xff" * 200_000, "image/jpeg", None),
        (b"\xff\xd8" + b"\xff\xe0\x00\x00" * 100_000, "image/jpeg", None),
        (b"GIF89a", "image/gif", None),
        (b"RIFF\x00\x00\x00\x00WEBP", "image/webp", None),
        (PDF, "application/pdf", None),
        (WAV, "audio/wav", None),
        (SVG, None, None),
        (b"", None, None),
    ],
)
def test_type_and_pixels_come_from_the_header(data: bytes, mime: str | None, size: tuple[int, int] | None) -> None:
    assert (media_type(data), image_size(data)) == (mime, size)


def test_truncated_base64_is_decoded_as_far_as_possible() -> None:
    for length in range(8, 60):
        assert (decoded(PNG_TEXT[:length]) or b"").startswith(PNG[: length * 3 // 4 - 2])
    assert decoded("A") is None
    assert decoded("") is None


names = st.sampled_from(
    ["type", "kind", "image", "image_url", "url", "uri", "data", "source", "bytes", "mime_type", "format", "content",
     "modality", "inline_data", "file", "file_id", "blob", "message_content.type", "message_content.image.image.url"]
)  # fmt: skip
texts = st.sampled_from(
    [
        "image",
        "blob",
        "uri",
        "file",
        "image_url",
        "data:image/png;base64,",
        "data:,",
        "data:;base64,====",
        "__REDACTED__",
        PNG_TEXT,
    ]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names | st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(names, json_values | texts, max_size=6))
def test_any_part_is_read_without_an_error(part: dict[str, Any]) -> None:
    found = attachment_of(part)
    if found is not None:
        assert found.kind in ("image", "audio", "video", "document", "file")
        assert found.size_bytes == (None if found.data is None else len(found.data))


def test_depth_and_number_of_fields_are_bounded() -> None:
    deep: dict[str, Any] = {"url": data_uri(PNG)}
    for _ in range(5_000):
        deep = {"image": deep}
    wide = {"type": "image", **{f"field{i}": "x" for i in range(100_000)}, "url": data_uri(PNG)}
    assert attachment_of(deep) == Attachment("image", note=LEFT_OUT)
    assert attachment_of(wide) == Attachment("image", note=LEFT_OUT)
    assert json.dumps(attachment_of(wide), default=str)
