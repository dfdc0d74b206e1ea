"""Runs of coroutines in a notebook: clients and locks that its cells have used work in runs, and after them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fake_llm import FakeLLM
from tests.kernel.driver import Kernel, kernel_with

SETUP = """
import openai, sys

client, two_at_once = openai.AsyncOpenAI(max_retries=0), asyncio.Semaphore(2)
dataset = [{"id": f"q{n}", "inputs": {"n": n}} for n in range(8)]

async def ask(datapoint={"inputs": {"n": 0}}):
    async with two_at_once:
        await asyncio.sleep(0.001)
        with hh.get_tracer().start_span("ask"):
            answer = await client.chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": f"Question {datapoint['inputs']['n']}"}]
            )
    return answer.choices[0].message.content

async def has_text(outputs):
    return bool((await ask()) and outputs)
"""
EACH_LOOP = "await asyncio.gather(*[ask() for _ in range(5)])\n'fine'"


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with FakeLLM() as fake:
        place = {"OPENAI_BASE_URL": f"{fake.url}/v1", "OPENAI_API_KEY": "sk-fake"}
        with kernel_with(tmp_path_factory.mktemp("kernel"), **place) as kernel:
            kernel.run(SETUP)
            yield kernel


@pytest.mark.slow
@pytest.mark.parametrize("max_workers", [1, 8])
def test_evaluate_and_the_cells_share_clients_and_locks(kernel: Kernel, max_workers: int) -> None:
    for _ in range(2):
        assert kernel.run(EACH_LOOP).results == ["'fine'"]
        cell = kernel.run(
            "result = hh.evaluate(ask, dataset=dataset, evaluators=[has_text], name='shared', "
            f"max_workers={max_workers})"
        )
        assert cell.reply == "ok", cell
        assert kernel.value("(result.errors, len(result.rows), result.success)") == ((), 8, True)
        assert kernel.value("sorted(row.metrics['has_text'] for row in result.rows)") == [True] * 8
    assert kernel.run(EACH_LOOP).results == ["'fine'"]


def test_each_row_has_its_own_session_on_the_loop_of_the_cells(kernel: Kernel) -> None:
    cell = kernel.run(
        "result = hh.evaluate(ask, dataset=dataset)\n"
        "hh.get_tracer().wait_processed()\n"
        "mine = [r for r in span_log().records() if r.session_id in {row.session_id for row in result.rows}]\n"
        "print(sorted(r.name for r in mine) == ['ask'] * 16, len({r.session_id for r in mine}),"
        " len({r.cell for r in mine}))"
    )
    assert cell.stdout == "True 8 1\n", cell


def test_aevaluate_runs_on_the_loop_of_the_cells_and_leaves_it_free(kernel: Kernel) -> None:
    assert kernel.run(EACH_LOOP).results == ["'fine'"]
    cell = kernel.run(
        "ticks = []\n"
        "async def ticking():\n"
        "    while True:\n"
        "        ticks.append(asyncio.get_running_loop())\n"
        "        await asyncio.sleep(0.01)\n"
        "ticker = asyncio.create_task(ticking())\n"
        "def plain(datapoint):\n"
        "    time.sleep(0.05)\n"
        "    return threading.current_thread() is not threading.main_thread()\n"
        "result = await hh.aevaluate(plain, dataset=dataset, evaluators=[has_text], name='awaited')\n"
        "ticker.cancel()\n"
        "result"
    )
    assert cell.kinds == ["display"], cell
    assert cell.output.text.startswith("✓ awaited")
    assert kernel.value("(len(ticks) > 3, {row.outputs for row in result.rows}, result.success)") == (
        True, {"True"}, True
    )  # fmt: skip
    assert kernel.run("result = await hh.aevaluate(ask, dataset=dataset, evaluators=[has_text])").reply == "ok"
    assert kernel.value("(result.errors, len(result.rows))") == ((), 8)
    assert kernel.run(EACH_LOOP).results == ["'fine'"]


def test_cells_that_wait_behind_a_run_are_executed_after_it(kernel: Kernel) -> None:
    first = kernel.start("result = hh.evaluate(ask, dataset=dataset * 3, max_workers=2)\nprint('ran')")
    others = [kernel.start(f"await ask()\nprint('cell', {n})") for n in range(3)]
    kernel.wait_for(lambda: all(cell.stdout for cell in others), "the cells behind a run were not executed")
    assert first.stdout == "ran\n"
    assert kernel.value("len(result.rows), len(result.errors)") == (24, 0)


def test_a_plain_function_that_starts_a_run_shares_them_too(kernel: Kernel) -> None:
    assert kernel.run(EACH_LOOP).results == ["'fine'"]
    for call in ("hh.evaluate(", "await hh.aevaluate("):
        kernel.run(
            "def outer(datapoint):\n    return len(hh.evaluate(ask, dataset=dataset[:2], print_results=False).passed)\n"
            f"result = {call}outer, dataset=dataset)"
        )
        assert kernel.value("(result.errors, {row.outputs for row in result.rows})") == ((), {"2"})
        assert kernel.run(EACH_LOOP).results == ["'fine'"]


def test_a_function_that_exits_fails_its_row_and_not_the_kernel(kernel: Kernel) -> None:
    kernel.run(
        "async def exits(datapoint):\n"
        "    if datapoint['inputs']['n'] == 2:\n"
        "        sys.exit(3)\n"
        "    return await ask()"
    )
    for call in ("hh.evaluate(", "await hh.aevaluate("):
        assert kernel.run(f"result = {call}exits, dataset=dataset)").reply == "ok"
        assert kernel.value("([e.error for e in result.errors], len(result.rows))") == (["SystemExit: 3"], 8)
    assert kernel.run(EACH_LOOP).results == ["'fine'"]


STUCK = (
    "async def stuck(datapoint):\n"
    "    if datapoint['inputs']['n'] == 3:\n"
    "        print('reached', flush=True)\n"
    "        await asyncio.sleep(60)\n"
    "    return await ask(datapoint)\n"
)


@pytest.mark.parametrize("before", ["", "await asyncio.sleep(0)\n"], ids=["plain cell", "cell with await"])
def test_ctrl_c_ends_a_run_of_coroutines_and_everything_works_afterwards(kernel: Kernel, before: str) -> None:
    cell = kernel.run(
        f"{STUCK}{before}result = hh.evaluate(stuck, dataset=dataset, name='stopped', max_workers=1)\nprint('went on')",
        interrupt_at="reached",
    )
    assert (cell.reply, "went on" in cell.stdout) == ("ok", True), cell
    assert cell.outputs[0].text.startswith("■ stopped")
    assert kernel.value("[row.index for row in result.rows]") == [0, 1, 2]
    assert kernel.run(EACH_LOOP).results == ["'fine'"]
    kernel.run("result = hh.evaluate(ask, dataset=dataset)")
    assert kernel.value("(result.errors, len(result.rows))") == ((), 8)


def test_ctrl_c_in_aevaluate_shows_the_result_so_far_and_stops_the_cell(kernel: Kernel) -> None:
    cell = kernel.run(
        f"{STUCK}await hh.aevaluate(stuck, dataset=dataset, name='cancelled', max_workers=1)\nprint('went on')",
        interrupt_at="reached",
    )
    assert (cell.reply, cell.ename) == ("error", "CancelledError"), cell
    assert "went on" not in cell.stdout
    assert cell.outputs[0].text.startswith("■ cancelled")
    assert kernel.value("hh.get_run_result('cancelled').status") == "cancelled"
    assert kernel.run(EACH_LOOP).results == ["'fine'"]


def test_the_running_loop_is_mentioned_once_and_only_for_coroutines(tmp_path_factory: pytest.TempPathFactory) -> None:
    with kernel_with(tmp_path_factory.mktemp("mention")) as kernel:
        kernel.run("async def soon(datapoint):\n    return 1\nd = [{'inputs': {}}]")
        plain = kernel.run("r = hh.evaluate(lambda datapoint: 1, dataset=d)")
        first, again = (kernel.run("r = hh.evaluate(soon, dataset=d)") for _ in range(2))
    assert [cell.stderr.count("await aevaluate(...)") for cell in (plain, first, again)] == [0, 1, 0]
