"""Spans of replayed calls say so, under every instrumentor, and their calls cost nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hh_jupyter.testing import Backend
from tests.conftest import OUR_VARIABLES, TESTS
from tests.instrumentors.conftest import INSTRUMENTORS
from tests.recordings.fake_apis import FakeAPIs

pytestmark = pytest.mark.usefixtures("clients_dropped")

ALWAYS = ("openinference, openai", "openllmetry, openai", "openinference, anthropic")
"""Each starts a process that imports a client and its instrumentor, which takes seconds."""


@pytest.mark.parametrize(
    "name", [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.slow) for name in INSTRUMENTORS]
)
def test_the_spans_of_the_second_run_are_marked_and_its_calls_cost_nothing(name: str, tmp_path: Path) -> None:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(OUR_VARIABLES)}
    with Backend() as backend, FakeAPIs() as fake:
        ours = {"HH_API_KEY": "test-key-0001", "HH_API_URL": backend.url, "NO_PROXY": "127.0.0.1"}
        command = [sys.executable, "-m", "tests.recordings.spans_program", *INSTRUMENTORS[name]]
        done = subprocess.run(
            [*command, str(tmp_path / "calls.jsonl"), fake.url],
            cwd=TESTS.parent,
            env={**inherited, **ours},
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        first, second, every = json.loads(done.stdout)
        spans = [span for span in backend.spans() if span["scope"] != "hh_jupyter"]
    assert len(fake.log) == (2 if "anthropic" in name else 4)
    calls = first["llm_calls"] + first["embedding_calls"]
    assert calls >= 2
    assert (first["replayed_calls"], first["saved_cost"]) == (0, None)
    assert (second["replayed_calls"], second["cost"]) == (calls, 0)
    assert second["saved_cost"] == pytest.approx(first["cost"])
    for key in ("llm_calls", "embedding_calls", "prompt_tokens", "completion_tokens", "tool_calls_requested"):
        assert second[key] == first[key]
    # A replayed call is another call than its original, whose response id it has.
    assert every["llm_calls"] == first["llm_calls"] + second["llm_calls"]
    assert every["cost"] == pytest.approx(first["cost"])
    marked = [span for span in spans if span["attributes"].get("honeyhive_metadata.hh_replayed")]
    each = 2 if "anthropic" in name else 1  # Anthropic's client has spans of its own, beside the instrumentor's.
    assert len(marked) == len(spans) / 2 == calls * each
    assert all(span["attributes"]["honeyhive_metadata.hh_replayed_ms"] >= 0 for span in marked)
    saved = [span["attributes"].get("honeyhive_metadata.hh_replayed_cost") for span in marked]
    # OpenLLMetry counts one token more at the end of a stream than the client itself.
    assert sum(filter(None, saved)) == pytest.approx(second["saved_cost"] * each, rel=0.1)
