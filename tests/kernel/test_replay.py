"""Model calls of cells are answered from a recording: which file, which mode, what is shown, and offline runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_llm import FakeLLM
from tests.kernel.conftest import StartKernel
from tests.kernel.driver import Kernel

ASK = "print(ask('Hello'))"
PRELUDE = """
%hh instrument
import openai
client = openai.OpenAI(max_retries=0)
def ask(text, model='gpt-4o'):
    return client.chat.completions.create(model=model, messages=[{'role': 'user', 'content': text}]).id
"""


@pytest.fixture
def fake() -> Iterator[FakeLLM]:
    with FakeLLM() as server:
        yield server


@pytest.fixture
def kernel(start_kernel: StartKernel, fake: FakeLLM) -> Kernel:
    """A kernel that can `ask` the fake server."""
    kernel = start_kernel(OPENAI_BASE_URL=f"{fake.url}/v1", OPENAI_API_KEY="sk-fake")
    assert kernel.run(PRELUDE).reply == "ok"
    return kernel


def recorded(folder: Path, name: str) -> list[str]:
    """The questions in a file."""
    lines = (folder / "recordings" / f"{name}.jsonl").read_text().splitlines()
    return [json.loads(line)["request"]["body"]["messages"][0]["content"] for line in lines]


def test_the_second_run_of_a_cell_sends_nothing_and_says_what_it_saved(
    kernel: Kernel, fake: FakeLLM, tmp_path: Path
) -> None:
    cell = "%%hh_session refund-triage --replay auto\n" + ASK
    first, second = kernel.run(cell), kernel.run(cell)
    assert len(fake.log) == 1
    assert first.stdout == second.stdout
    assert recorded(tmp_path, "refund-triage") == ["Hello"]
    assert "replayed" not in first.output.text
    assert "replayed, saved ~$" in second.output.text
    assert "replayed, saved ~$" in second.output.html
    assert "tokens" in second.output.text
