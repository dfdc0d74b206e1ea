"""Model, tool or chain: what was said comes before what a name suggests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hh_jupyter.conventions import event_type

RECORDING = Path(__file__).parents[1] / "data" / "contract" / "event_type_rules.json"
EVENT_TYPE = "honeyhive_event_type"
OWN_PREFIXES = ("honeyhive", "traceloop.association.")

# Where we decide otherwise than the official SDK, and why.
BETTER = {
    "html_parse": "tool",  # contains "ml_", is no word of its own
    "palmtree": "tool",  # contains "palm"
    "google search": "tool",  # people search with it
    "explicit tool chat": "tool",  # said so
    "explicit dot": "chain",  # said so
    "attr f": "chain",  # traceloop.span.kind is read
    "late attributes": "model",  # attributes present when the span ends count
}
SAID = {
    "explicit underscore": {EVENT_TYPE: "chain"},
    "explicit tool chat": {EVENT_TYPE: "tool"},
    "explicit odd": {EVENT_TYPE: "banana"},
    "odd type": {EVENT_TYPE: "banana"},
    "chat typed tool": {EVENT_TYPE: "tool"},
    "explicit dot": {"honeyhive.event_type": "chain"},
    "explicit raw": {"honeyhive_event_type_raw": "chain"},
}


def recorded_spans() -> list[tuple[str, dict[str, Any]]]:
    document = json.loads(RECORDING.read_text("utf-8"))
    return [
        (span["name"], span["attributes"])
        for request in document["requests"]
        if "otlp" in (request.get("body") or {})
        for batch in request["body"]["otlp"]
        for span in batch["spans"]
    ]


@pytest.mark.parametrize(
    ("name", "attributes"), recorded_spans(), ids=lambda value: value if type(value) is str else ""
)
def test_recorded_types_are_the_same_except_for_the_listed_faults(name: str, attributes: dict[str, Any]) -> None:
    given = {key: value for key, value in attributes.items() if not key.startswith(OWN_PREFIXES)} | SAID.get(name, {})
    assert event_type(name, given) == BETTER.get(name, attributes[EVENT_TYPE])


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("ChatOpenAI", "model"),
        ("LLMChain", "model"),
        ("gpt4o", "model"),
        ("askGemini", "model"),
        ("ask-claude", "model"),
        ("nlp_clean", "model"),
        ("chatter", "tool"),
        ("remodeling", "tool"),
        ("PALMTREE", "tool"),
        ("GoogleSearch.tool", "tool"),
        ("email_sender", "tool"),
    ],
)
def test_names_are_read_by_whole_words(name: str, wanted: str) -> None:
    assert event_type(name, {}) == wanted


def test_a_traceloop_kind_beats_a_model_like_name() -> None:
    assert event_type("LangGraph.model", {"traceloop.span.kind": "task"}) == "chain"
    assert event_type("chat_tool", {"traceloop.span.kind": "tool"}) == "tool"


def test_a_model_attribute_makes_a_model_whatever_the_name() -> None:
    assert event_type("POST /v1/messages", {"gen_ai.request.model": "m"}) == "model"
