"""The limit of a run: all of its data points share it, on threads, on event loops and on executors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

import hh_jupyter as hh
from hh_jupyter.records import prices
from tests.fake_llm import FakeLLM

pytestmark = pytest.mark.usefixtures("clients_dropped")

ROWS: list[dict[str, Any]] = [{"inputs": {"question": f"What is {number}?"}} for number in range(20)]


@pytest.fixture
def fake() -> Iterator[FakeLLM]:
    prices.load()
    with FakeLLM() as fake:
        yield fake


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HH_TEST_MODE", "1")


class Ask:
    """Functions that ask a model; a call costs about $0.0001."""

    def __init__(self, fake: FakeLLM) -> None:
        self.options: Any = {"base_url": f"{fake.url}/v1", "api_key": "sk-fake"}

    def plain(self, row: Any) -> str:
        with openai.OpenAI(**self.options) as client:
            return str(client.chat.completions.create(**self.request(row)).id)

    async def coroutine(self, row: Any) -> str:
        async with openai.AsyncOpenAI(**self.options) as client:
            return str((await client.chat.completions.create(**self.request(row))).id)

    def request(self, row: Any) -> Any:
        return {"model": "gpt-4o", "messages": [{"role": "user", "content": row["inputs"]["question"]}]}


@pytest.mark.parametrize("how", ["plain", "coroutine"])
@pytest.mark.parametrize("executor", [False, True])
def test_the_data_points_of_a_run_share_its_limit(fake: FakeLLM, how: str, executor: bool) -> None:
    with ThreadPoolExecutor(4) as pool:
        options: Any = {"executor": pool} if executor else {}
        result = hh.evaluate(
            getattr(Ask(fake), how), dataset=ROWS, max_calls=7, print_results=False, max_workers=4, **options
        )
    assert len(fake.log) == 7
    assert len([error for error in result.errors if "stopped at the limit: 7 of 7 calls sent" in error.error]) == 13


def test_aevaluate_has_a_limit_too(fake: FakeLLM) -> None:
    result = asyncio.run(hh.aevaluate(Ask(fake).coroutine, dataset=ROWS, max_calls=7, print_results=False))
    assert (len(fake.log), len(result.errors)) == (7, 13)


def test_a_run_stops_before_its_cost_exceeds_the_limit_which_a_warning_says(
    fake: FakeLLM, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        hh.evaluate(Ask(fake).plain, dataset=ROWS, max_cost=0.002, print_results=False)
    assert 1 < len(fake.log) < 20
    (warning,) = [text for text in caplog.messages if "limit" in text]
    assert warning.startswith("evaluate: stopped at the limit: ~$0.00")
    assert warning.endswith(
        f"{20 - len(fake.log)} model calls were not sent. To raise the limit: evaluate(..., max_cost=0.004)"
    )


def test_the_setting_limits_the_run_and_each_of_its_data_points(fake: FakeLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HH_MAX_CALLS", "5")
    hh.evaluate(Ask(fake).plain, dataset=ROWS, print_results=False)
    assert len(fake.log) == 5


def test_the_calls_of_a_run_count_towards_the_session_around_it(fake: FakeLLM) -> None:
    tracer = hh.HoneyHiveTracer.init()
    with tracer.with_session("outer", max_calls=4):
        hh.evaluate(Ask(fake).plain, dataset=ROWS, max_calls=7, print_results=False)
    assert len(fake.log) == 4


@pytest.mark.slow
def test_after_a_run_nothing_is_limited(fake: FakeLLM) -> None:
    ask = Ask(fake)
    hh.evaluate(ask.plain, dataset=ROWS, max_calls=1, print_results=False)
    assert [bool(ask.plain(row)) for row in ROWS] == [True] * 20
