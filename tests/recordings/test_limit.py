"""The limit with real clients: their own error after one attempt, nothing sent above it, and no hooks without one."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest

import hh_jupyter
from hh_jupyter import HoneyHiveTracer, SettingError, SettingTypeError
from hh_jupyter.recordings import recording
from hh_jupyter.recordings.budget import Budget
from hh_jupyter.recordings.limit import dollars, limited, line_to_raise
from hh_jupyter.records import prices
from tests.conftest import OUR_VARIABLES
from tests.fake_llm import FakeLLM

pytestmark = pytest.mark.usefixtures("clients_dropped")

HELLO: Any = [{"role": "user", "content": "hello"}]
CHAT_COST = 0.0001
"""Dollars of one call of `Clients.chat`: 8 tokens in, 8 out."""


class Clients:
    """Real clients of the fake server."""

    def __init__(self, fake: FakeLLM) -> None:
        self.fake = fake
        self.openai = openai.OpenAI(base_url=f"{fake.url}/v1", api_key="sk-fake")
        self.anthropic = anthropic.Anthropic(base_url=fake.url, api_key="sk-ant-fake")

    @property
    def requests(self) -> int:
        return len(self.fake.log)

    def chat(self, **options: Any) -> Any:
        return self.openai.chat.completions.create(**{"model": "gpt-4o", "messages": HELLO, **options})

    async def achat(self, **options: Any) -> Any:
        async with openai.AsyncOpenAI(base_url=f"{self.fake.url}/v1", api_key="sk-fake") as client:
            return await client.chat.completions.create(**{"model": "gpt-4o", "messages": HELLO, **options})

    def message(self, **options: Any) -> Any:
        return self.anthropic.messages.create(model="claude-sonnet-4-0", max_tokens=50, messages=HELLO, **options)

    def sent(self, *_: object) -> bool:
        """Make a call; whether it was sent."""
        try:
            self.chat()
        except openai.APIStatusError as error:
            return error.status_code != 402
        return True


@pytest.fixture
def clients() -> Iterator[Clients]:
    prices.load()
    with FakeLLM() as fake:
        clients = Clients(fake)
        with clients.openai, clients.anthropic:
            yield clients


@pytest.fixture
def tracer() -> Iterator[HoneyHiveTracer]:
    with HoneyHiveTracer.init(test_mode=True) as tracer:
        yield tracer


CALLS: dict[str, Callable[[Clients], Any]] = {
    "openai chat": lambda clients: clients.chat(),
    "openai stream": lambda clients: list(clients.chat(stream=True)),
    "openai tools": lambda clients: clients.chat(tools=[{"type": "function", "function": {"name": "f"}}]),
    "openai responses": lambda clients: clients.openai.responses.create(model="gpt-4o", input="hello"),
    "openai responses stream": lambda clients: list(
        clients.openai.responses.create(model="gpt-4o", input="hello", stream=True)
    ),
    "openai embeddings": lambda clients: clients.openai.embeddings.create(model="text-embedding-3-small", input="x"),
    "openai async": lambda clients: asyncio.run(clients.achat()),
    "anthropic": lambda clients: clients.message(),
    "anthropic stream": lambda clients: list(clients.message(stream=True)),
}


@pytest.mark.parametrize("name", CALLS)
def test_above_the_limit_each_client_raises_its_own_error_after_one_attempt_and_sends_nothing(
    clients: Clients, name: str
) -> None:
    call = CALLS[name]
    with limited(Budget(10.0, 1, raise_with="with_session({name}={value})")) as budget:
        call(clients)
        assert (clients.requests, budget.calls) == (1, 1)
        assert 0 < budget.spent < 0.01
        with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)) as raised:
            call(clients)
    error: Any = raised.value
    assert error.status_code == 402
    for text in ("stopped at the limit", "of $10.00, 1 of 1 call sent", "with_session(max_calls=2)"):
        assert text in str(error)
    assert (clients.requests, budget.calls, budget.refused) == (1, 1, 1)


def test_the_same_body_is_an_error_of_other_apis(clients: Clients) -> None:
    with limited(Budget(max_calls=1)):
        clients.chat()
        response = httpx.post(f"{clients.fake.url}/v1/chat/completions", json={"model": "gpt-4o", "messages": HELLO})
    assert (response.status_code, response.headers["x-should-retry"]) == (402, "false")
    body = response.json()
    assert body["message"] == body["error"]["message"]  # Cohere and Mistral; OpenAI, Anthropic and Google.
    assert (body["type"], body["error"]["type"]) == ("error", "billing_error")
    assert (body["error"]["code"], body["error"]["status"]) == (402, "RESOURCE_EXHAUSTED")


def test_calls_stop_before_the_cost_exceeds_the_limit(clients: Clients) -> None:
    with limited(Budget(10.5 * CHAT_COST)) as budget:
        assert [clients.sent() for _ in range(15)] == [True] * 10 + [False] * 5
    assert budget.spent == pytest.approx(10 * CHAT_COST)


def test_threads_that_carry_no_context_share_the_limit(clients: Clients) -> None:
    with limited(Budget(15.5 * CHAT_COST)) as budget, ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(clients.sent, range(60))) == clients.requests == 15
    assert budget.spent == pytest.approx(15 * CHAT_COST)


def test_threads_that_make_their_calls_in_spans_share_the_limit(clients: Clients, tracer: HoneyHiveTracer) -> None:
    @hh_jupyter.trace
    def work(_: int) -> bool:
        with tracer.start_span("step"):
            return clients.sent()

    with tracer.with_session("batch", max_calls=7), ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(work, range(20))) == clients.requests == 7


@pytest.mark.slow
def test_tasks_share_the_limit(clients: Clients) -> None:
    async def one() -> bool:
        try:
            await clients.achat()
        except openai.APIStatusError:
            return False
        return True

    async def main() -> list[bool]:
        return await asyncio.gather(*(one() for _ in range(60)))

    with limited(Budget(15.5 * CHAT_COST)):
        assert sum(asyncio.run(main())) == clients.requests == 15


def test_of_two_limited_blocks_a_thread_without_context_counts_towards_none(clients: Clients) -> None:
    def other() -> None:
        with limited(Budget(max_calls=1)):
            entered.set()
            done.wait(30)

    entered, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=other)
    thread.start()
    assert entered.wait(30)
    with limited(Budget(max_calls=1)), ThreadPoolExecutor(1) as pool:
        assert [pool.submit(clients.sent).result() for _ in range(3)] == [True] * 3
    done.set()
    thread.join(30)


def test_a_stream_that_is_left_before_its_end_is_counted(clients: Clients) -> None:
    with limited(Budget(1.0)) as budget:
        with clients.chat(stream=True, messages=[{"role": "user", "content": "Tell me something long"}]) as stream:
            next(iter(stream))
        assert budget.spent > 0
        assert budget.calls == 1


def test_a_stream_that_is_never_read_holds_up_no_other_call(clients: Clients) -> None:
    with limited(Budget(5 * CHAT_COST)) as budget:
        clients.chat()
        stream = clients.chat(stream=True)
        with ThreadPoolExecutor(1) as pool:
            assert sum(pool.submit(clients.sent).result(30) for _ in range(5)) in (2, 3)
        list(stream)
    assert budget.spent <= 5.3 * CHAT_COST


@pytest.mark.parametrize("model", ["gpt-4o-err400", "gpt-4o-err500"])
def test_failed_calls_count_as_calls_and_cost_nothing(clients: Clients, model: str) -> None:
    client = clients.openai.with_options(max_retries=0)
    with limited(Budget(1.0, 2)) as budget:
        for _ in range(2):
            with pytest.raises(openai.APIStatusError):
                client.chat.completions.create(model=model, messages=HELLO)
        assert not clients.sent()
    assert (budget.calls, budget.spent) == (2, 0.0)


def test_a_server_that_cannot_be_reached_uses_up_nothing(clients: Clients) -> None:
    nowhere = openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="sk-fake", max_retries=1)
    with limited(Budget(1.0, 1)) as budget:
        with nowhere, pytest.raises(openai.APIConnectionError):
            nowhere.chat.completions.create(model="gpt-4o", messages=HELLO)
        assert (budget.calls, budget.spent) == (0, 0.0)
        assert clients.sent()


def test_a_call_that_times_out_counts_as_one_of_usual_cost() -> None:
    prices.load()
    with FakeLLM(latency_ms=2000) as slow, limited(Budget(1.0)) as budget:
        client = openai.OpenAI(base_url=f"{slow.url}/v1", api_key="sk-fake", timeout=0.2, max_retries=0)
        with client, pytest.raises(openai.APITimeoutError):
            client.chat.completions.create(model="gpt-4o", messages=HELLO)
        assert 0.001 < budget.spent < 0.01


def test_a_model_without_a_price_is_named_once_and_limited_by_the_number_of_calls(
    clients: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    with limited(Budget(0.0001, 3)) as budget, caplog.at_level(logging.WARNING):
        for _ in range(3):
            clients.chat(model="acme-large")
        with pytest.raises(openai.APIStatusError):
            clients.chat(model="acme-large")
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["the price of acme-large is unknown"]
    assert (budget.unpriced, budget.spent) == ({"acme-large"}, 0.0)


def test_requests_that_call_no_model_are_not_counted(clients: Clients) -> None:
    with limited(Budget(max_calls=1)) as budget:
        clients.openai.models.list()
        assert budget.calls == 0


def test_replayed_calls_cost_nothing_and_are_no_calls(clients: Clients, tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    with recording(file):
        clients.chat()
        clients.message()
    for inside in (True, False):
        blocks: list[Any] = [lambda: recording(file), lambda: limited(Budget(1.0, 1))]
        outer, inner = blocks if inside else blocks[::-1]
        with outer() as first, inner() as second:
            clients.chat()
            budget = second if inside else first
            assert (budget.calls, budget.spent) == (0, 0.0)
            clients.chat(messages=[{"role": "user", "content": f"new {inside}"}])
            assert budget.calls == 1
            with pytest.raises(openai.APIStatusError):
                clients.chat(messages=[{"role": "user", "content": f"newer {inside}"}])
            clients.message()  # Recorded.
            assert (budget.calls, budget.refused) == (1, 1)
    assert clients.requests == 4
    assert "stopped at the limit" not in file.read_text()


def test_a_limit_changes_nothing_about_which_recording_holds(clients: Clients, tmp_path: Path) -> None:
    def inside() -> None:
        with limited(Budget(1.0)):
            clients.chat()

    with recording(tmp_path / "mine.jsonl"):
        context = contextvars.copy_context()
        with recording(tmp_path / "other.jsonl"):
            thread = threading.Thread(target=context.run, args=(inside,))
            thread.start()
            thread.join(20)
    assert (tmp_path / "mine.jsonl").exists()
    assert not (tmp_path / "other.jsonl").exists()


def test_the_line_that_raises_a_limit_has_a_number_that_people_write() -> None:
    for limit, text in ((0.00001, "0.00002"), (0.25, "0.5"), (1e12, "2000000000000")):
        assert line_to_raise(Budget(limit)) == f"max_cost={text}"


def test_the_hooks_are_there_only_while_something_is_limited(clients: Clients, tracer: HoneyHiveTracer) -> None:
    before = httpx.Client._transport_for_url, httpx2.Client._transport_for_url
    with tracer.with_session("plain"):
        assert (httpx.Client._transport_for_url, httpx2.Client._transport_for_url) == before
    with tracer.with_session("limited", max_calls=1):
        assert httpx2.Client._transport_for_url is not before[1]
    assert (httpx.Client._transport_for_url, httpx2.Client._transport_for_url) == before


# Sessions and settings


def test_a_session_has_its_limit_in_its_block_only(clients: Clients, tracer: HoneyHiveTracer) -> None:
    with tracer.with_session("first", max_calls=2):
        assert [clients.sent() for _ in range(3)] == [True, True, False]
    assert clients.sent()
    with tracer.with_session("second", max_cost=2.5 * CHAT_COST):
        assert [clients.sent() for _ in range(3)] == [True, True, False]


def test_each_call_of_a_decorated_function_has_a_limit_of_its_own(clients: Clients, tracer: HoneyHiveTracer) -> None:
    @tracer.with_session("each", max_calls=1)
    def work() -> list[bool]:
        return [clients.sent(), clients.sent()]

    assert work() == work() == [True, False]


def test_a_session_inside_another_has_its_own_limit_and_counts_towards_the_outer_one(
    clients: Clients, tracer: HoneyHiveTracer
) -> None:
    with tracer.with_session("outer", max_calls=4):
        with tracer.with_session("inner", max_calls=2):
            assert [clients.sent() for _ in range(3)] == [True, True, False]
        with tracer.with_session("plain"):
            assert clients.sent()
        assert [clients.sent(), clients.sent()] == [True, False]
        with tracer.with_session("inner", max_calls=2):
            assert not clients.sent()


def test_a_generator_that_its_consumer_closes_leaves_no_limit_behind(clients: Clients, tracer: HoneyHiveTracer) -> None:
    def numbers() -> Generator[bool, None, None]:
        with tracer.with_session("inside", max_calls=1):
            yield clients.sent()
            yield clients.sent()

    with limited(Budget(max_calls=3)) as budget:
        generator = numbers()
        assert next(generator)
        with tracer.with_session("plain"):
            generator.close()
        assert [clients.sent(), clients.sent(), clients.sent()] == [True, True, False]
    assert budget.calls == 3


def test_the_setting_limits_each_session_anew(clients: Clients) -> None:
    with HoneyHiveTracer.init(test_mode=True, max_calls=2) as tracer:
        assert [clients.sent() for _ in range(3)] == [True, True, False]
        with tracer.with_session("other"):
            assert [clients.sent() for _ in range(3)] == [True, True, False]
        with tracer.with_session("other", max_calls=1):
            assert [clients.sent() for _ in range(2)] == [True, False]
        tracer.create_session("new")
        assert [clients.sent() for _ in range(3)] == [True, True, False]
    assert clients.sent()


def script(code: str, clients: Clients, **env: str) -> Any:
    """The JSON that a program prints, and its standard error."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OUR_VARIABLES)}
    head = (
        "import json, openai\nfrom concurrent.futures import *\n"
        f"client = openai.OpenAI(base_url='{clients.fake.url}/v1', api_key='sk-fake')\n"
        "def sent(*_):\n"
        "    try:\n"
        "        client.chat.completions.create(model='gpt-4o', messages=[{'role': 'user', 'content': 'hello'}])\n"
        "    except openai.APIStatusError as error:\n"
        "        return str(error)\n"
        "    return True\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", head + code],
        env={**kept, "HH_TEST_MODE": "1", **env},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    return json.loads(done.stdout), done.stderr


START = "import hh_jupyter\ntracer = hh_jupyter.HoneyHiveTracer.init()\n"


@pytest.mark.slow
def test_the_environment_variable_limits_a_program_and_its_threads(clients: Clients) -> None:
    code = "with ThreadPoolExecutor(4) as pool: found = list(pool.map(sent, range(9)))\nprint(json.dumps(found))"
    found, _ = script(START + code, clients, HH_MAX_CALLS="3")
    assert found.count(True) == clients.requests == 3
    assert any("HH_MAX_CALLS=6" in str(text) for text in found)


@pytest.mark.slow
def test_a_dollar_sign_in_the_variable_does_no_harm_and_a_mistyped_limit_sends_nothing(clients: Clients) -> None:
    code = "print(json.dumps([sent() for _ in range(3)]))"
    found, _ = script(START + code, clients, HH_MAX_COST="$0.00025")
    assert [one is True for one in found] == [True, True, False]
    found, errors = script(START + code, clients, HH_MAX_COST="five")
    assert True not in found
    assert "HH_MAX_COST must be a number of US dollars above 0; got 'five'" in errors


def test_nothing_is_imported_or_hooked_without_a_limit(clients: Clients) -> None:
    code = (
        "import sys, httpx2\nsent()\n"
        "with tracer.with_session('plain'): sent()\n"
        "loaded = [name for name in sys.modules if name.startswith('hh_jupyter.recordings')]\n"
        "print(json.dumps([loaded, httpx2.Client._transport_for_url.__module__]))"
    )
    found, _ = script(START + code, clients)
    assert found == [[], "httpx2._client"]


@pytest.mark.slow
def test_a_call_in_another_process_is_not_limited_which_a_warning_says(clients: Clients) -> None:
    code = (
        "from hh_jupyter.runtimes.workers import traced\nimport multiprocessing\n"
        "with tracer.with_session('pool', max_calls=1):\n"
        "    with ProcessPoolExecutor(1, multiprocessing.get_context('fork')) as pool:\n"
        "        found = [pool.submit(traced(sent)).result() for _ in range(2)]\n"
        "print(json.dumps(found))"
    )
    found, errors = script(START + code, clients)
    assert found == [True, True]
    assert errors.count("max_cost and max_calls do not limit calls in other processes") == 1


@pytest.mark.parametrize("name", ["max_cost", "max_calls"])
@pytest.mark.parametrize("value", ["abc", -1, 0, float("nan"), float("inf"), True, [1]])
def test_a_bad_limit_is_refused(tracer: HoneyHiveTracer, name: str, value: Any) -> None:
    arguments: Any = {name: value}
    rows: list[dict[str, Any]] = [{"inputs": {}}]
    for called, call in (
        ("with_session", lambda: tracer.with_session("x", **arguments)),
        ("evaluate", lambda: hh_jupyter.evaluate(len, dataset=rows, print_results=False, **arguments)),
        ("HoneyHiveTracer.init", lambda: HoneyHiveTracer.init(test_mode=True, **arguments)),
    ):
        with pytest.raises((SettingError, SettingTypeError), match=f"^{called}: {name} must be ") as raised:
            call()
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0.5, "$0.50"),
        (0.4988, "$0.4988"),
        (0, "$0.00"),
        (1200, "$1,200.00"),
        (0.0437, "$0.0437"),
        (0.00012, "$0.00012"),
        (0.0005, "$0.0005"),
        (3e-9, "$0.000000003"),
        (1e-300, f"$0.{'0' * 299}1"),
    ],
)
def test_amounts_are_short_and_the_smallest_are_not_0(amount: float, text: str) -> None:
    assert dollars(amount) == text
