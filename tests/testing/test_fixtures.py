"""The fixtures: with `hh_recording` a test is recorded once and sends nothing afterwards; `hh_spans` are its spans."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_llm import FakeLLM

PROJECT = Path(__file__).parents[2]
TESTS = """
import asyncio, openai, pytest
ARGUMENTS = {'model': 'gpt-4o', 'messages': [{'role': 'user', 'content': 'Hello'}]}

def test_asks(hh_recording):
    assert openai.OpenAI(max_retries=0).chat.completions.create(**ARGUMENTS).id

@pytest.mark.parametrize('path', ['a/b'])
class TestAgent:
    def test_waits(self, path, hh_recording):
        async def ask():
            return await openai.AsyncOpenAI(max_retries=0).chat.completions.create(**ARGUMENTS)
        assert asyncio.run(ask()).id
"""
WITH_SPANS = """
import pytest
from hh_jupyter import SpanList, trace

@trace(event_type='tool')
def look_up(order):
    return {'A-1': 'sent'}[order]

@pytest.fixture
def order(hh_spans):
    return look_up('A-1')

def test_the_list_grows(order, hh_spans):
    assert isinstance(hh_spans, SpanList)
    assert hh_spans.tools == ['look_up']
    with pytest.raises(KeyError):
        look_up('B-2')
    assert hh_spans.tools == ['look_up', 'look_up']
    assert hh_spans.errors == ["look_up: KeyError: 'B-2'"]

def test_each_test_has_its_own_spans(hh_spans):
    assert len(hh_spans) == 0 and hh_spans.tools == hh_spans.errors == []
"""


@pytest.fixture
def fake() -> Iterator[FakeLLM]:
    with FakeLLM() as server:
        yield server


def run(folder: Path, fake: FakeLLM, tests: str = TESTS, **env: str) -> str:
    """The last line of pytest, and what failed."""
    (folder / "conftest.py").write_text('pytest_plugins = ["hh_jupyter.testing.fixtures"]\n')
    (folder / "test_agent.py").write_text(tests)
    base = {"OPENAI_BASE_URL": f"{fake.url}/v1", "OPENAI_API_KEY": "sk-fake", "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."]
    ran = subprocess.run(command, cwd=folder, env={**base, **env}, capture_output=True, text=True)
    return ran.stdout


@pytest.mark.timeout(300)  # Three runs of pytest, each of which imports a client.
def test_the_first_run_records_beside_the_tests_and_the_second_sends_nothing(tmp_path: Path, fake: FakeLLM) -> None:
    assert "2 passed" in run(tmp_path, fake)
    names = sorted(path.name for path in (tmp_path / "recordings").iterdir())
    assert names[1] == "test_asks.jsonl"
    assert names[0].startswith("TestAgent.test_waits[a_b]-")
    assert len(fake.log) == 2
    assert "2 passed" in run(tmp_path, fake)
    assert "2 passed" in run(tmp_path, fake, CI="true")
    assert len(fake.log) == 2


@pytest.mark.slow
def test_in_ci_what_is_not_recorded_fails_and_is_not_sent(tmp_path: Path, fake: FakeLLM) -> None:
    said = run(tmp_path, fake, CI="true")
    assert "2 failed" in said
    assert "not recorded in test_asks.jsonl" in said
    assert fake.log == []
    assert "2 passed" in run(tmp_path, fake, CI="true", HH_REPLAY="auto")
    assert len(fake.log) == 2


@pytest.mark.slow
def test_the_variable_switches_it_off(tmp_path: Path, fake: FakeLLM) -> None:
    assert "2 passed" in run(tmp_path, fake, HH_REPLAY="off")
    assert not (tmp_path / "recordings").exists()


def test_the_spans_of_a_test_are_a_list_that_grows(tmp_path: Path, fake: FakeLLM) -> None:
    assert "2 passed" in run(tmp_path, fake, WITH_SPANS)
