"""Images are drawn from the span's bytes within limits, others are labelled, and base64 is never shown as text."""

from __future__ import annotations

import ast
import base64
import json
import random
import re
from dataclasses import replace
from typing import Any

import pytest

from hh_jupyter.display import html, text
from hh_jupyter.display.content import CONTENT_LIMITS, collect_content, span_details
from hh_jupyter.display.media import MAX_IMAGE_BYTES, MAX_TOTAL_BYTES, ImageCollector, size, without_base64
from hh_jupyter.display.snippet import python_code
from hh_jupyter.display.view import CellView
from hh_jupyter.records.record import SpanDetails
from tests.browser.sample_cells import Cell, exchange
from tests.display.hostile import HOSTILE
from tests.display.rendered import TAGS, Page
from tests.pictures import GIF, JPEG, PDF, SVG, WAV, WEBP, data_uri, encoded, png

PNG = png(64, 48)
RANDOM = random.Random(3).randbytes(40_000)
LONG_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{200,}")


def genai(*parts: Any, answer: Any = "A cat.", provider: str = "openai") -> dict[str, Any]:
    """A model call as OpenTelemetry's conventions write it."""
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4.1",
        "gen_ai.provider.name": provider,
        "gen_ai.input.messages": json.dumps([{"role": "user", "parts": list(parts)}]),
        "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": answer}]}]),
    }


def blob(data: bytes, mime: str = "image/png") -> dict[str, str]:
    return {"type": "blob", "modality": mime.partition("/")[0], "mime_type": mime, "content": encoded(data)}


def cell_of(attributes: dict[str, Any], kind: str = "llm") -> Cell:
    cell = Cell(1)
    cell.add(kind, "chat", 0, 9, model="gpt-4.1", attributes=attributes)
    return cell


def pane(attributes: dict[str, Any], images: ImageCollector | None = None, kind: str = "llm") -> dict[str, Any]:
    cell = cell_of(attributes, kind)
    return span_details(cell.records[0], next(iter(cell.details.values())), images)


def attachments(*parts: Any, images: ImageCollector | None = None) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = pane(genai(*parts), images)["messages"][0]["attachments"]
    return shown


@pytest.mark.parametrize(
    ("data", "mime", "pixels"),
    [
        (PNG, "image/png", "64×48"),
        (JPEG, "image/jpeg", "9×5"),
        (GIF, "image/gif", "3×2"),
        (WEBP, "image/webp", "9×5"),
    ],
)
def test_raster_images_are_drawn_from_their_own_bytes(data: bytes, mime: str, pixels: str) -> None:
    images = ImageCollector()
    assert attachments(blob(data, mime), images=images) == [
        {"label": f"{mime}, {size(len(data))}, {pixels}", "image": 0, "mime": mime}
    ]
    assert images.taken == [data]


@pytest.mark.parametrize(
    ("part", "label", "note"),
    [
        (blob(SVG, "image/svg+xml"), "image/svg+xml, 71 B", "SVG is not drawn: it may hold scripts"),
        (blob(SVG, "image/png"), "image/png, 71 B", "not drawn: its data is damaged"),
        (blob(b"\x00" * 300, "image/png"), "image/png, 300 B", "not drawn: its data is damaged"),
        (blob(PNG[:20]), "image/png, 20 B", "not drawn: its data is damaged"),
        (blob(b"BM" + b"\x00" * 98, "image/bmp"), "image/bmp, 100 B", "not drawn"),
        (blob(PDF, "application/pdf"), "application/pdf, 1.0 kB", None),
        (blob(WAV, "audio/wav"), "audio/wav, 2.0 kB", None),
        (
            {"type": "image_url", "image_url": {"url": "__REDACTED__"}},
            "image",
            "hidden by OpenInference's 32 kB limit; OPENINFERENCE_BASE64_IMAGE_MAX_LENGTH raises it",
        ),
    ],
)
def test_other_attachments_show_type_size_and_the_reason(part: Any, label: str, note: str | None) -> None:
    images = ImageCollector()
    (shown,) = attachments(part, images=images)
    assert (shown["label"], shown.get("note")) == (label, note)
    assert "image" not in shown
    assert images.taken == []


def test_an_address_is_text_of_bounded_length() -> None:
    address = "https://example.org/cat.png?" + "x" * 5_000
    (shown,) = attachments({"type": "uri", "modality": "image", "uri": address}, images=ImageCollector())
    assert shown == {"label": "image", "uri": address[:1_999] + "…"}


def test_an_image_over_the_size_limit_is_not_drawn() -> None:
    large = png(noise=MAX_IMAGE_BYTES)
    (shown,) = attachments(blob(large), images=ImageCollector())
    assert shown == {"label": f"image/png, {size(len(large))}, 640×480", "note": "not drawn: over 2 MiB"}


def test_a_small_file_with_too_many_pixels_is_not_drawn() -> None:
    bomb = PNG[:16] + (50_000).to_bytes(4, "big") * 2 + PNG[24:]
    (shown,) = attachments(blob(bomb), images=ImageCollector())
    assert shown["note"] == "not drawn: over 40 megapixels"


def test_the_images_of_a_span_have_a_common_limit() -> None:
    image = png(noise=MAX_IMAGE_BYTES - 10_000)
    images = ImageCollector()
    shown = attachments(*[blob(image)] * 6, images=images)
    assert [one.get("image") for one in shown] == [0, 1, 2, 3, None, None]
    assert shown[5]["note"] == "not drawn: the images of this span are over 8 MiB"
    assert sum(map(len, images.taken)) <= MAX_TOTAL_BYTES


def test_images_in_a_tool_result_become_attachments() -> None:
    result = [{"type": "text", "text": "done"}, {"type": "image", "data": encoded(PNG), "mimeType": "image/png"}]
    part = {"type": "tool_call_response", "id": "call_1", "response": result}
    images = ImageCollector()
    (message,) = [one for one in pane(genai(part), images)["messages"] if one["role"] == "tool"]
    assert message["text"] == "done"
    assert message["attachments"] == [{"label": f"image/png, {len(PNG)} B, 64×48", "image": 0, "mime": "image/png"}]


def test_an_image_hidden_by_the_instrumentor_shows_the_reason() -> None:
    hidden = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "__REDACTED__"}}
    part = {"type": "tool_call_response", "id": "call_1", "response": [hidden]}
    (message,) = [one for one in pane(genai(part), ImageCollector())["messages"] if one["role"] == "tool"]
    assert message == {
        "role": "tool",
        "tool": "call_1",
        "attachments": [{"label": "image/png", "note": "hidden by OpenInference"}],
    }


def test_images_in_inputs_and_outputs_become_attachments() -> None:
    images = ImageCollector()
    shown = pane(exchange({"page": 3, "shot": data_uri(PNG)}, data_uri(JPEG, "image/jpeg")), images, "tool")
    assert shown["input"] == {"page": 3, "shot": f"[image/png, {len(PNG)} B, 64×48]"}
    assert shown["output"] == f"[image/jpeg, {len(JPEG)} B, 9×5]"
    assert [shown[f"{name}_attachments"][0]["image"] for name in ("input", "output")] == [0, 1]
    assert images.taken == [PNG, JPEG]


def test_images_of_an_image_model_are_shown_as_its_input_and_output() -> None:
    attributes = {
        "openinference.span.kind": "LLM",
        "input.images.0.image.url": data_uri(JPEG, "image/jpeg"),
        "output.images.1.image.url": "__REDACTED__",
        "output.images.0.image.url": data_uri(PNG),
    }
    images = ImageCollector()
    shown = pane(attributes, images)
    assert shown["input"] == [f"[image/jpeg, {len(JPEG)} B, 9×5]"]
    assert [one["label"] for one in shown["output_attachments"]] == [f"image/png, {len(PNG)} B, 64×48", "image"]
    assert images.taken == [JPEG, PNG]
    answered = {**attributes, "llm.output_messages.0.message.role": "assistant"}
    last = pane(answered, ImageCollector())["messages"][-1]
    assert [one["label"] for one in last["attachments"]] == [f"image/png, {len(PNG)} B, 64×48", "image"]


def test_fields_with_names_like_images_stay_data() -> None:
    given = {"image": "cat", "file": {"name": "a.txt", "data": "hello"}, "type": "file", "content": "abcd"}
    assert pane(exchange(given), ImageCollector(), "tool")["input"] == given


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (data_uri(RANDOM), "[image/png, 40.0 kB, base64]"),
        (data_uri(PNG, "text/html"), f"[image/png, {len(PNG)} B, base64]"),
        (f'{{"url": "{data_uri(RANDOM)}"}}', '{"url": "[image/png, 40.0 kB, base64]"}'),
        (f"![]({data_uri(GIF, 'image/gif')})", f"![]([image/gif, {len(GIF)} B, base64])"),
        ("data:;base64,aGVsbG8=", "[5 B, base64]"),
        ("data:text/plain;charset=utf-8;base64,aGVsbG8=", "[text/plain, 5 B, base64]"),
        (encoded(RANDOM), "[40.0 kB, base64]"),
        (f"the file {encoded(PDF)} is", "the file [application/pdf, 1.0 kB, base64] is"),
        (base64.urlsafe_b64encode(RANDOM).decode(), "[40.0 kB, base64]"),
        (f"x\n{base64.encodebytes(RANDOM).decode()}The end", "x\n[40.0 kB, base64]\nThe end"),
        (json.dumps(base64.encodebytes(RANDOM[:600]).decode()), '"[600 B, base64]\\n"'),
        (json.dumps({"url": data_uri(RANDOM)}).replace("/", "\\/"), '{"url": "[image/png, 40.0 kB, base64]"}'),
        (json.dumps({"data": encoded(RANDOM)}).replace("/", "\\/"), '{"data": "[40.0 kB, base64]"}'),
        (json.dumps(json.dumps({"data": encoded(RANDOM)})), '"{\\"data\\": \\"[40.0 kB, base64]\\"}"'),
    ],
)
def test_base64_in_a_text_is_replaced_by_type_and_size(given: str, shown: str) -> None:
    assert without_base64(given) == shown
    assert without_base64(shown) == shown


@pytest.mark.parametrize(
    "kept",
    [
        "x" * 100_000,
        "0123456789abcdef" * 40,
        "GATTACA" * 200,
        "word/" * 200,
        "https://example.org/" + "path/" * 20,
        "a sentence about data:image/png and base64, which is no address",
        "The quick brown Fox jumps over 13 lazy dogs. " * 50,
        "\n".join(f"Line {i} of Names" for i in range(200)),
        *HOSTILE.values(),
    ],
    ids=lambda kept: kept[:20],
)
def test_text_that_is_not_base64_is_unchanged(kept: str) -> None:
    assert without_base64(kept) == kept


SOURCES: dict[str, dict[str, Any]] = {
    "a blob": genai(blob(png(320, 240, noise=20_000))),
    "OpenAI's own part": genai({"type": "image_url", "image_url": {"url": data_uri(RANDOM)}}),
    "Anthropic": genai({"type": "image", "source": {"type": "base64", "data": encoded(RANDOM)}}, provider="anthropic"),
    "an unknown part": genai({"type": "odd", "stuff": {"deep": [encoded(RANDOM)]}}),
    "text": genai({"type": "text", "content": f"see {data_uri(RANDOM)}"}, answer=encoded(RANDOM)),
    "audio": genai({"type": "input_audio", "input_audio": {"data": encoded(RANDOM), "format": "mp3"}}),
    "a document": genai(blob(RANDOM, "application/pdf")),
    "a tool's result": genai({"type": "tool_call_response", "id": "1", "response": {"shot": encoded(RANDOM)}}),
    "a tool's arguments": genai({"type": "tool_call", "id": "1", "name": "t", "arguments": {"shot": encoded(RANDOM)}}),
    "input and output": exchange({"shot": encoded(RANDOM)}, data_uri(RANDOM)),
    "bytes": {"shot": RANDOM},
    "another attribute": {"custom": json.dumps({"a": [encoded(RANDOM)]})},
}


@pytest.mark.parametrize("attributes", SOURCES.values(), ids=SOURCES)
def test_no_display_shows_base64_as_text(attributes: dict[str, Any]) -> None:
    cell = cell_of(attributes)
    view = asked(cell)
    record, details = cell.records[0], next(iter(cell.details.values()))
    code = python_code(view, record, details)
    ast.parse(code)
    page = re.sub(r'src="data:image/png;base64,[^"]*"', "", html.render(view))
    for shown in (code, json.dumps(span_details(record, details)), text.render(view), page):
        assert not LONG_BASE64.search(shown)


def asked(cell: Cell, detail: str = "full") -> CellView:
    shown = cell.view("hh-1", "4", mode="tree", content_requested=True)
    content, omitted = collect_content(shown.tree, detail, lambda row: cell.details[f"{row.span_id:016x}"])  # type: ignore[arg-type]
    return replace(shown, detail=detail, content=content, content_omitted=omitted)  # type: ignore[arg-type]


def drawn(view: CellView) -> list[dict[str, str | None]]:
    return [dict(attributes) for tag, attributes in Page(html.render(view)).elements if tag == "img"]


def test_outputs_contain_images_only_at_full_detail() -> None:
    cell = cell_of(genai({"type": "text", "content": "What is it?"}, blob(PNG)))
    for detail in ("summary", "preview"):
        assert drawn(asked(cell, detail)) == []
    assert f"[image/png, {len(PNG)} B, 64×48]" in html.render(asked(cell, "preview"))
    full = asked(cell)
    (image,) = drawn(full)
    assert (image["src"], image["alt"]) == (data_uri(PNG), f"image/png, {len(PNG)} B, 64×48")
    assert f"[image/png, {len(PNG)} B, 64×48]" in text.render(full)
    assert "64×48" not in html.render(asked(cell, "summary"))


def test_images_count_towards_the_size_limit() -> None:
    image = png(noise=400_000)
    view = asked(cell_of(genai(*[blob(image)] * 3)))
    assert len(drawn(view)) == 1
    assert view.content[0].parts[0].text.count(f"[image/png, {len(image) / 1000:.1f} kB, 640×480]") == 3
    assert view.content[0].size <= CONTENT_LIMITS["full"].span_bytes
    assert len(html.render(view)) < CONTENT_LIMITS["full"].total_bytes


def test_code_has_the_image_in_the_format_of_the_provider() -> None:
    for provider, wanted in (
        ("openai", {"type": "image_url", "image_url": {"url": f"[image/png, {len(PNG)} B, 64×48]"}}),
        (
            "anthropic",
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": f"[image/png, {len(PNG)} B, 64×48]"},
            },
        ),
    ):
        attributes = {
            "openinference.span.kind": "LLM",
            "llm.model_name": "m",
            "llm.input_messages.0.message.role": "user",
            "llm.input_messages.0.message.contents.0.message_content.type": "image",
            "llm.input_messages.0.message.contents.0.message_content.image.image.url": data_uri(PNG),
        }
        cell = cell_of(attributes)
        record = replace(cell.records[0], facts=replace(cell.records[0].facts, provider=provider))
        code = python_code(asked(cell), record, SpanDetails(attributes=attributes, events=()))
        arguments = {node.arg: node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.keyword)}
        messages = ast.literal_eval(arguments["messages"])
        assert messages[0]["content"] == [wanted]
        assert "# Base64 data is left out" in code


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_types_and_addresses_create_no_markup(value: str) -> None:
    parts = [
        {"type": "blob", "modality": "image", "mime_type": value, "content": encoded(PNG)},
        {"type": value, "image": value, "url": f"https://{value}"},
        {"type": "image_url", "image_url": {"url": f"https://{value}"}},
        {"type": "input_file", "filename": value, "file_data": data_uri(PDF, value)},
        {"type": "image", "source": {"type": "base64", "media_type": value, "data": value}},
        {"type": "image", "source": value},
        {"type": "image_url", "image_url": {"url": f"data:{value};base64,{value}"}},
    ]
    view = asked(cell_of(genai(*parts)))
    page = Page(html.render(view))
    assert {tag for tag, _ in page.elements} <= TAGS | {"img"}
    for tag, attributes in page.elements:
        if tag == "img":
            assert dict(attributes).keys() == {"src", "alt", "style"}
            assert str(dict(attributes)["src"]).startswith("data:image/png;base64,iVBOR")
    json.dumps(pane(genai(*parts), ImageCollector()), allow_nan=False).encode()
