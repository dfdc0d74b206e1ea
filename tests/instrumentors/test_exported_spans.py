"""A SpanList reads spans of a real instrumentor from a user's own exporter as it reads the tracer's."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import OUR_VARIABLES, TESTS
from tests.fake_llm import FakeLLM
from tests.instrumentors.exported import QUESTION


@pytest.mark.slow
def test_the_responses_of_the_server_are_in_the_list_and_in_its_file() -> None:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(OUR_VARIABLES)}
    with FakeLLM() as fake:
        done = subprocess.run(
            [sys.executable, "-m", "tests.instrumentors.exported"],
            cwd=TESTS.parent,
            env={**inherited, "FAKE_LLM": fake.url, "NO_PROXY": "127.0.0.1"},
            capture_output=True,
            text=True,
            timeout=100,
        )
        served = [record["usage"]["total_tokens"] for record in fake.log]
    assert done.returncode == 0, done.stderr
    listed, read = json.loads(done.stdout)
    assert listed.pop("same content by span") is True
    assert listed == read
    assert listed["tokens"] == sum(served)
    assert (listed["calls"], len(served)) == (2, 2)
    assert listed["tree"] == [["answer", 0], ["ChatCompletion", 1], ["ChatCompletion", 1]]
    assert listed["questions"] == [QUESTION, QUESTION]
    assert listed["tools"] == ["get_weather"]
