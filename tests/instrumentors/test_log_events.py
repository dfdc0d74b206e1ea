"""Messages that OpenTelemetry's own instrumentor writes as log records are shown, and sent with the spans."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from hh_jupyter.testing import Backend
from tests.conftest import OUR_VARIABLES, TESTS
from tests.fake_llm import FakeLLM

CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
DETAILS, CHOICE = "gen_ai.client.inference.operation.details", "gen_ai.choice"
ANSWER = "Hello! How can I help you today?"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("conventions", "value", "event"), [("today", "EVENT_ONLY", DETAILS), ("before", "true", CHOICE)]
)
def test_messages_in_log_records_are_shown_and_sent(conventions: str, value: str, event: str) -> None:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(OUR_VARIABLES)}
    with Backend() as backend, FakeLLM() as fake:
        ours = {"HH_API_KEY": "test-key-0001", "HH_API_URL": backend.url, "FAKE_LLM": fake.url, CAPTURE: value}
        done = subprocess.run(
            [sys.executable, "-m", "tests.instrumentors.log_events", conventions],
            cwd=TESTS.parent,
            env={**inherited, **ours, "NO_PROXY": "127.0.0.1"},
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        shown = json.loads(done.stdout)
        sent = [[one["name"] for one in span["events"]] for span in backend.spans()]
    assert [call["texts"] for call in shown] == [
        ["Hello", ANSWER],
        ["Hello", ANSWER],
        ["What is the weather in Paris?", None],
    ]
    assert [call["asked"] for call in shown] == [[], [], ["get_weather"]]
    assert not any("gen_ai.input.messages" in call["attributes"] for call in shown), "only the records have them"
    assert [names[-1] for names in sent] == [event] * 3
