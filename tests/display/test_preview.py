"""What a row shows of a span's content."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hh_jupyter.display.format import clean
from hh_jupyter.display.preview import LENGTH, preview, previews
from hh_jupyter.records.calls import key_of
from hh_jupyter.records.record import SpanDetails
from tests.browser.sample_cells import ANSWER, QUESTION, conversation, exchange
from tests.display.hostile import HOSTILE
from tests.records.builders import span
from tests.spans import RECORDINGS, recorded

CALLS: dict[str, Any] = {"role": "assistant", "calls": [("check_limit", "1", {}), ("get_order", "2", {})]}


def shown(kind: str, attributes: dict[str, Any]) -> str:
    return preview(span(1, None, 0, 340, "step", kind=kind), SpanDetails(attributes=attributes))


@pytest.mark.parametrize(
    ("kind", "attributes", "text"),
    [
        ("tool", exchange({"city": "Oslo", "k": 4}), "city=Oslo k=4"),
        ("tool", exchange({"order": {"id": 1}, "k": 4, "note": None, "empty": ""}), "k=4"),
        ("tool", exchange({"ok": True, "name": "a b"}), 'ok=True name="a b"'),
        ("retriever", exchange({"query": "cracked lid refund", "k": 4}), 'query="cracked lid refund" k=4'),
        ("retriever", exchange({"query": "cracked lid refund"}), '"cracked lid refund"'),
        ("agent", exchange({"question": "May I?\n\nPlease."}), '"May I? Please."'),
        ("agent", {"openinference.span.kind": "AGENT", "input.value": "Hello"}, '"Hello"'),
        ("tool", {}, ""),
        ("http", exchange({"city": "Oslo"}), ""),
        ("llm", conversation({"role": "user", "content": "Hi"}, CALLS), "→ check_limit, get_order"),
        ("llm", conversation({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}), '→ "Yes."'),
    ],
)
def test_a_preview_is_one_line(kind: str, attributes: dict[str, Any], text: str) -> None:
    assert shown(kind, attributes) == text


def test_a_preview_is_short_and_ends_in_an_ellipsis() -> None:
    text = shown("agent", exchange({"question": QUESTION * 100}))
    assert text.startswith('"Hi, order 48213 arrived')
    assert text.endswith('…"')
    assert len(text) <= LENGTH
    many = shown("tool", exchange({f"argument_{number}": "x" * 30 for number in range(50)}))
    assert len(many) <= LENGTH
    assert len(shown("llm", conversation({"role": "user"}, {"role": "assistant", "content": ANSWER * 9}))) <= LENGTH


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_preview_of_any_text_is_one_printable_line(text: str) -> None:
    given = {"input.value": json.dumps({"a": text, text[:50]: text}), "input.mime_type": "application/json"}
    for kind in ("tool", "agent", "llm"):
        line = shown(kind, {"openinference.span.kind": "TOOL", **given})
        assert len(line) <= LENGTH
        assert line == clean(line, LENGTH)


def test_no_base64_is_in_a_preview() -> None:
    image = "data:image/png;base64," + "iVBORw0KGgo" * 40
    assert "iVBOR" not in shown("tool", exchange({"image of it": image, "k": 1}))


@pytest.mark.parametrize("name", RECORDINGS)
def test_spans_of_every_instrumentor_have_previews(name: str) -> None:
    """None fails, and those that are kept are found by their ids."""
    from hh_jupyter.records.record import record_of

    spans = recorded(name)
    rows = [record_of(one) for one in spans]
    details = {key_of(row): SpanDetails(dict(one.attributes or {})) for row, one in zip(rows, spans, strict=True)}
    found = previews(rows, lambda some: {key_of(row): details[key_of(row)] for row in some[1:]})
    assert found.keys() <= {row.span_id for row in rows[1:]}
    assert all(found.values())
