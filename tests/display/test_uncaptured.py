"""A model call whose messages were not captured shows a hint with the setting that captures them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hh_jupyter.display.content import span_details
from hh_jupyter.records.record import RecordedEvent, SpanDetails, record_of
from tests.spans import recorded

VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


def shown(name: str, scope: str | None = None, **details: Any) -> list[dict[str, Any]]:
    rows = [(span, record_of(span)) for span in recorded(name)]
    return [
        span_details(
            replace(row, scope=row.scope if scope is None else scope),
            SpanDetails(dict(span.attributes or {}), **details),
        )
        for span, row in rows
        if row.facts.kind == "llm"
    ]


@pytest.mark.parametrize(
    ("scope", "words"),
    [
        ("opentelemetry.util.genai.handler", f"set {VARIABLE}=SPAN_ONLY "),
        ("opentelemetry.instrumentation.genai.openai", f"set {VARIABLE}=SPAN_ONLY "),
        ("opentelemetry.instrumentation.openai_v2", f"set {VARIABLE}=true "),
        ("com.anthropic.sdk.python", "not captured by com.anthropic.sdk.python"),
    ],
)
def test_the_hint_names_variable_and_value_for_the_instrumentor(scope: str, words: str) -> None:
    calls = shown("otel-openai-nocontent-errors.json", scope)
    assert calls
    assert all(words in call["hint"] for call in calls)


def test_message_events_without_content_are_not_messages() -> None:
    """openai-v2 writes an event per message even if it captures no content."""
    empty = [
        RecordedEvent("gen_ai.user.message", 1, {"gen_ai.event.content": "{}"}),
        RecordedEvent("gen_ai.choice", 2, {"gen_ai.event.content": '{"index": 0, "message": {"role": "assistant"}}'}),
    ]
    for call in shown("otel-openai-nocontent-errors.json", events=tuple(empty)):
        assert "messages" not in call
        assert VARIABLE in call["hint"]


@pytest.mark.parametrize(
    "name", ["otel-openai-mixed.json", "openllmetry-openai-chat.json", "openinference-openai-redacted.json"]
)
def test_a_call_with_content_has_no_hint(name: str) -> None:
    calls = shown(name)
    assert calls
    assert not any("hint" in call for call in calls)


def test_evaluations_precede_the_attributes() -> None:
    events = (
        RecordedEvent(
            "gen_ai.evaluation.result", 1, {"gen_ai.evaluation.name": "fit", "gen_ai.evaluation.score.value": 1}
        ),
    )
    call = shown("otel-openai-mixed.json", events=events)[0]
    assert ("evaluation fit", 1) in call["attributes"]
