"""Runs the scenario for each instrumentor in a separate process, since not all of them can be undone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pytest

from hh_jupyter.testing import Backend
from tests.conftest import OUR_VARIABLES, TESTS
from tests.fake_llm import FakeLLM

INSTRUMENTORS: Final = {
    "openinference, openai": ("openinference.instrumentation.openai", "OpenAIInstrumentor"),
    "openllmetry, openai": ("opentelemetry.instrumentation.openai", "OpenAIInstrumentor"),
    "official, openai": ("opentelemetry.instrumentation.openai_v2", "OpenAIInstrumentor"),
    "openinference, anthropic": ("openinference.instrumentation.anthropic", "AnthropicInstrumentor"),
    "openllmetry, anthropic": ("opentelemetry.instrumentation.anthropic", "AnthropicInstrumentor"),
}
RUNS: Final = (
    *((name, "") for name in INSTRUMENTORS),
    ("openinference, openai", "private"),
)
SHARED_SCOPE: Final = "opentelemetry.util.genai"
"""The scope of the common library that makes the spans of OpenTelemetry's own instrumentors."""


@dataclass(frozen=True, slots=True)
class Run:
    """What the backend received from one run of the scenario.

    Attributes:
        scope: the scope of the instrumentor's spans.
        sessions: the session of each labelled call.
        spans: all received spans.
    """

    scope: str
    sessions: Mapping[str, str]
    spans: list[dict[str, Any]]

    @property
    def calls(self) -> dict[str, dict[str, Any]]:
        """The instrumentor's spans, each by the label of our span around it."""
        ours = {span["span_id"]: span["name"] for span in self.spans if span["scope"] == "hh_jupyter"}
        theirs = [span for span in self.spans if span["scope"].startswith((self.scope, SHARED_SCOPE))]
        assert len(theirs) == len(self.sessions)
        return {ours[span["parent_span_id"]]: span for span in theirs}


@pytest.fixture(scope="module", params=RUNS, ids=" ".join)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    name, private = request.param
    module, instrumentor = INSTRUMENTORS[name]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(OUR_VARIABLES)}
    with Backend() as backend, FakeLLM() as fake:
        ours = {"HH_API_KEY": "test-key-0001", "HH_API_URL": backend.url, "FAKE_LLM": fake.url, "NO_PROXY": "127.0.0.1"}
        command = [sys.executable, "-m", "tests.instrumentors.scenario", module, instrumentor, private]
        done = subprocess.run(
            command, cwd=TESTS.parent, env={**inherited, **ours}, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, done.stderr
        yield Run(module, json.loads(done.stdout), backend.spans())
