"""The spending limit of a session in cells: what is sent, the client's error, and the bar of the output."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fake_llm import FakeLLM
from tests.kernel.conftest import StartKernel
from tests.kernel.driver import Kernel

SETUP = """
import openai, threading, time
%hh instrument openai
client = openai.OpenAI()
def ask():
    return client.chat.completions.create(model='gpt-4o', messages=[{'role': 'user', 'content': 'Hello'}])
def status():
    try:
        ask()
        return 200
    except openai.APIStatusError as error:
        return error.status_code
"""
"""A call of `ask` costs $0.0001."""


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeLLM]:
    with FakeLLM() as fake:
        yield fake


@pytest.fixture
def kernel(start_kernel: StartKernel, fake: FakeLLM) -> Kernel:
    kernel = start_kernel(OPENAI_BASE_URL=f"{fake.url}/v1", OPENAI_API_KEY="sk-fake")
    kernel.run(SETUP)
    kernel.run("from hh_jupyter.records import prices; prices.load()")
    fake.log.clear()
    return kernel


@pytest.mark.slow
def test_a_cell_stops_at_its_limit_and_running_it_again_has_a_new_one(kernel: Kernel, fake: FakeLLM) -> None:
    cell = "%%hh_session batch --max-cost 0.0005\nfor _ in range(20): ask()"
    for number in (1, 2):
        found = kernel.run(cell)
        assert (found.reply, len(fake.log)) == ("error", 5 * number)
        assert "402" in found.tracebacks[0]
        assert "~$0.0005 of $0.0005" in found.output.text
        assert "stopped at the limit" in found.output.text
        assert "5 calls went out, 1 did not." in found.output.text
        assert "%%hh_session batch --max-cost 0.001" in found.output.text
        assert "stopped at the limit" in found.output.html
        assert "%%hh_session batch --max-cost 0.001" in found.output.html


@pytest.mark.slow
def test_a_cell_within_its_limit_shows_what_is_spent(kernel: Kernel) -> None:
    text = kernel.run("%%hh_session batch --max-cost 0.50 --max-calls 40\nask(), ask();").output.text
    assert "~$0.0002 of $0.50, 2 of 40 calls" in text
    assert "stopped" not in text


@pytest.mark.slow
def test_the_lines_that_raise_a_limit_do(kernel: Kernel, fake: FakeLLM) -> None:
    kernel.run("%%hh_session one --max-calls 1\nask(), status()")
    assert kernel.run("%%hh_session --join one --max-calls 2\nstatus(), status()").results == ["(200, 402)"]
    assert len(fake.log) == 2
    kernel.run("%hh_session all --max-calls 1\nask();")
    assert kernel.run("status()").results == ["402"]
    assert kernel.run("%hh_session all --max-calls 2\nstatus()").results == ["200"]


@pytest.mark.slow
def test_threads_of_a_cell_share_its_limit_also_after_its_end(kernel: Kernel, fake: FakeLLM) -> None:
    threads = "threads = [threading.Thread(target=status) for _ in range(9)]\nfor one in threads: one.start()"
    late = "go = threading.Event()\nthreads.append(threading.Thread(target=lambda: (go.wait(60), status())))"
    kernel.run(f"%%hh_session threads --max-calls 4\n{threads}\n{late}\nthreads[-1].start()")
    kernel.run("go.set()\nfor one in threads: one.join()")
    assert len(fake.log) == 4


@pytest.mark.slow
def test_a_limited_cell_is_recorded_and_replayed(kernel: Kernel, fake: FakeLLM) -> None:
    cell = "%%hh_session both --replay auto --max-calls 2\nfirst = status(), status(), status()\nfirst"
    assert kernel.run(cell).results == ["(200, 200, 402)"]
    assert len(fake.log) == 2
    again = kernel.run(cell)
    assert (again.results, len(fake.log)) == (["(200, 200, 200)"], 3)
    assert "2 of 3 replayed" in again.output.text
    assert kernel.run(cell.replace("auto", "only")).results == ["(200, 200, 200)"]
    kernel.run("%hh replay auto")
    kernel.run("%config HHJupyter.max_calls = 1")
    kernel.run("thread = threading.Thread(target=ask)\nthread.start(); thread.join()")
    assert kernel.run("%hh_session rest\nstatus(), status(), status()").results == ["(200, 200, 402)"]
    assert len(fake.log) == 5
    assert kernel.run("%hh replay only\nstatus()").results == ["200"]
    assert len(fake.log) == 5


@pytest.mark.slow
def test_the_setting_limits_each_session_and_the_notebooks_own(kernel: Kernel, fake: FakeLLM) -> None:
    kernel.run("%config HHJupyter.max_calls = 2")
    first = kernel.run("status(), status(), status()")
    assert first.results == ["(200, 200, 402)"]
    assert "%config HHJupyter.max_calls = 4" in first.output.text
    assert kernel.run("%%hh_session other\nstatus(), status(), status()").results == ["(200, 200, 402)"]
    kernel.run("%config HHJupyter.max_calls = 4")
    raised = kernel.run("status()")
    assert raised.results == ["200"]
    assert "stopped" not in raised.output.text
    assert "stopped at the limit" in first.output.text


@pytest.mark.slow
def test_the_limit_of_a_session_that_a_cell_opens_is_shown_under_the_cell(kernel: Kernel) -> None:
    block = "with hh_jupyter.get_tracer().with_session('inside', max_calls=1):\n    ask()\n    print(status())"
    cell = kernel.run(f"import hh_jupyter\n{block}")
    assert cell.stdout == "402\n"
    assert "1 of 1 call" in cell.output.text
    assert "with_session(..., max_calls=2)" in cell.output.text


@pytest.mark.slow
def test_a_limit_that_is_no_limit_is_refused_by_config(kernel: Kernel) -> None:
    for value in ("-1", "0", "'abc'", "float('nan')"):
        found = kernel.run(f"%config HHJupyter.max_cost = {value}")
        assert "a number of US dollars above 0" in found.stderr + "".join(found.tracebacks)


@pytest.mark.slow
def test_a_cell_without_a_limit_and_an_unloaded_extension_have_no_hooks(kernel: Kernel, fake: FakeLLM) -> None:
    hooked = "'hh_jupyter' in __import__('httpx2').Client._transport_for_url.__code__.co_filename"
    assert kernel.value(hooked) is False
    kernel.run("%%hh_session one --max-calls 1\nask();")
    kernel.run("%unload_ext hh_jupyter")
    assert kernel.value(hooked) is False
    kernel.run("ask(), ask();")
    assert len(fake.log) == 3


@pytest.mark.parametrize("value", ["abc", "-1", "0", "nan", "inf", "{1/0}"])
@pytest.mark.parametrize("option", ["--max-cost", "--max-calls"])
def test_a_bad_limit_is_one_line(local: Kernel, option: str, value: str) -> None:
    cell = local.run(f"%%hh_session one {option} {value}\nraise SystemError")
    assert cell.reply == "error"
    assert "SystemError" not in "".join(cell.tracebacks)
    (line,) = cell.stderr.strip().splitlines()
    assert line.startswith(f"UsageError: %%hh_session: {option}")
