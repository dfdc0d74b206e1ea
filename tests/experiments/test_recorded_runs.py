"""Runs inside a recording: what did not change is answered from the file and costs nothing, on threads and on loops."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from openinference.instrumentation.openai import OpenAIInstrumentor

import hh_jupyter as hh
from hh_jupyter.experiments.results import ExperimentResultSummary
from hh_jupyter.records import prices
from tests.experiments.runs import run
from tests.fake_llm import FakeLLM

pytestmark = pytest.mark.usefixtures("clients_dropped")

ROWS = [{"id": f"q{n}", "inputs": {"question": f"What is {n}?"}} for n in range(5)]


@pytest.fixture
def fake() -> Iterator[FakeLLM]:
    prices.load()
    with FakeLLM() as server:
        yield server


class Assistant:
    """Functions that ask a model about each row, with a prompt of some version."""

    def __init__(self, fake: FakeLLM, prompt: str = "Be brief.") -> None:
        self.options: Any = {"base_url": f"{fake.url}/v1", "api_key": "sk-fake", "max_retries": 0}
        self.prompt = prompt
        self.client = openai.OpenAI(**self.options)

    def plain(self, row: Any) -> str:
        return str(self.client.chat.completions.create(**self.request(row)).choices[0].message.content)

    async def coroutine(self, row: Any) -> str:
        async with openai.AsyncOpenAI(**self.options) as client:
            return str((await client.chat.completions.create(**self.request(row))).choices[0].message.content)

    def request(self, row: Any) -> Any:
        messages = [
            {"role": "system", "content": self.prompt},
            {"role": "user", "content": row["inputs"]["question"]},
        ]
        return {"model": "gpt-4o", "messages": messages}

    def judge(self) -> Any:
        return hh.judge("Is it brief?", client=self.client, model="gpt-4o")


def outputs(result: ExperimentResultSummary) -> list[str]:
    assert result.success, result.errors
    return [row.outputs for row in result.rows]


@pytest.mark.parametrize("how", ["plain", "coroutine"])
@pytest.mark.parametrize("executor", [False, True])
def test_a_run_that_did_not_change_sends_nothing(fake: FakeLLM, tmp_path: Path, how: str, executor: bool) -> None:
    first = Assistant(fake)
    results = []
    with ThreadPoolExecutor(4) as pool:
        options: Any = {"executor": pool} if executor else {}
        for _ in range(2):
            options["instrumentors"] = [OpenAIInstrumentor]
            with hh.recording(tmp_path / "run.jsonl", hosts=[fake.url.removeprefix("http://")]):
                results.append(run(None, getattr(first, how), ROWS, evaluators=[first.judge()], **options))
    assert len(fake.log) == 10, "a call and a verdict for each row, once"
    assert outputs(results[1]) == outputs(results[0])
    (first_costs, again) = ([result.cost, result.judge_cost] for result in results)
    assert all(cost is not None and cost > 0 for cost in first_costs)
    assert not any(again)
    saved = re.search(r"replayed, saved (~\$[\d.]+)", repr(results[1]).splitlines()[0])
    assert saved is not None
    assert "$0 " not in repr(results[1]).splitlines()[0]
    assert results[1].saved_cost == pytest.approx(sum(cost or 0 for cost in first_costs))
    assert (results[1].replayed_calls, results[0].replayed_calls) == (10, 0)
    assert "replayed" not in repr(results[0])


def test_a_run_says_how_many_of_its_calls_were_replayed(fake: FakeLLM, tmp_path: Path) -> None:
    for rows in (ROWS[:3], ROWS):
        with hh.recording(tmp_path / "run.jsonl"):
            result = run(None, Assistant(fake).plain, rows, instrumentors=[OpenAIInstrumentor])
    first = repr(result).splitlines()[0]
    assert re.search(r"5 rows  ~\$[\d.]+ .*3 of 5 replayed, saved ~\$", first), first
    assert "3 of 5 replayed" in result._repr_html_()


def test_a_changed_prompt_is_sent_and_what_depends_on_the_answers_is_not(fake: FakeLLM, tmp_path: Path) -> None:
    for prompt in ("Be brief.", "Be very brief.", "Be brief."):
        with hh.recording(tmp_path / "run.jsonl"):
            outputs(run(None, Assistant(fake, prompt).plain, ROWS))
    assert len(fake.log) == 10, "the third run has the first one's prompt"


def test_aevaluate_in_a_recording_sends_nothing_again(fake: FakeLLM, tmp_path: Path) -> None:
    async def evaluate() -> list[str]:
        with hh.recording(tmp_path / "run.jsonl"):
            found = await hh.aevaluate(Assistant(fake).coroutine, dataset=ROWS, print_results=False)
        return outputs(found)

    assert asyncio.run(evaluate()) == asyncio.run(evaluate())
    assert len(fake.log) == 5


def test_a_recording_without_sending_answers_all_rows_or_says_what_is_missing(fake: FakeLLM, tmp_path: Path) -> None:
    with hh.recording(tmp_path / "run.jsonl"):
        run(None, Assistant(fake).plain, ROWS[:3])
    with hh.recording(tmp_path / "run.jsonl", mode="only"):
        result = run(None, Assistant(fake).plain, ROWS)
    assert len(fake.log) == 3
    assert [row.state for row in result.rows] == ["passed"] * 3 + ["failed"] * 2
    assert all("not recorded" in error.error for error in result.errors)


def test_trials_are_recorded_one_by_one_and_replayed_in_their_number(fake: FakeLLM, tmp_path: Path) -> None:
    for sent in (15, 15):
        with hh.recording(tmp_path / "run.jsonl"):
            outputs(run(None, Assistant(fake).plain, ROWS, trials=3))
        assert len(fake.log) == sent


def test_a_replayed_call_does_not_count_towards_the_limit(fake: FakeLLM, tmp_path: Path) -> None:
    for _ in range(2):
        with hh.recording(tmp_path / "run.jsonl"):
            outputs(run(None, Assistant(fake).plain, ROWS, max_calls=5))
    with hh.recording(tmp_path / "run.jsonl"):
        outputs(run(None, Assistant(fake).plain, ROWS, max_calls=1))
    assert len(fake.log) == 5
