"""Recordings with the clients of this environment: openai 2, and frameworks on top of it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import OUR_VARIABLES, TESTS
from tests.recordings.fake_apis import FakeAPIs

CLIENTS = ("openai_chat", "openai_async", "cohere_chat", "litellm_completion", "langchain_openai", "llama_index")


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_gets_the_same_answers_from_a_recording_without_a_request(
    name: str, compressed: bool, tmp_path: Path
) -> None:
    # LiteLLM would fetch a table of prices.
    kept = {key: value for key, value in os.environ.items() if not key.startswith(OUR_VARIABLES)}
    environ = {**kept, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}

    def run(mode: str, url: str) -> Any:
        command = [os.environ["KERNEL_PYTHON"], "-m", "tests.recordings.clients"]
        arguments = [str(tmp_path / "calls.jsonl"), mode, url, name]
        done = subprocess.run([*command, *arguments], cwd=TESTS.parent, env=environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    with FakeAPIs(compressed=compressed) as fake:
        first = run("auto", fake.url)
        sent = len(fake.log)
        assert sent > 0
        assert run("auto", fake.url) == first
        assert len(fake.log) == sent
    assert run("only", fake.url) == first  # Offline.
