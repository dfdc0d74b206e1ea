"""Event loops of runs: what the program has bound to its loop works in `evaluate` and `aevaluate`, and afterwards."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import httpx
import pytest

import hh_jupyter as hh
from hh_jupyter.experiments import loops, pool
from hh_jupyter.experiments.loops import BlockedLoop, RunLoop, process_loop
from hh_jupyter.experiments.results import ExperimentResultSummary
from hh_jupyter.testing import Backend
from tests.experiments.runs import KEY, ROWS, run, session_of
from tests.fake_llm import FakeLLM

ROOT = Path(__file__).parents[2]
MANY = [{"id": f"q{n}", "inputs": {"n": n}} for n in range(8)]


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeLLM]:
    with FakeLLM() as running:
        yield running


class Client:
    """A client with connections that are kept alive, and a lock for two calls at a time."""

    def __init__(self, fake: FakeLLM) -> None:
        self.web, self.two_at_once, self.url = httpx.AsyncClient(), asyncio.Semaphore(2), f"{fake.url}/v1/models"

    async def ask(self, _datapoint: object = None) -> int:
        async with self.two_at_once:
            await asyncio.sleep(0.001)
            return (await self.web.get(self.url)).status_code

    async def use(self) -> None:
        """Use it as a cell does: afterwards connections and lock are bound to this loop."""
        assert set(await asyncio.gather(*[self.ask() for _ in range(5)])) == {200}


@asynccontextmanager
async def client_of(fake: FakeLLM) -> AsyncIterator[Client]:
    client = Client(fake)
    async with client.web:
        yield client


async def judge(outputs: Any) -> bool:
    await asyncio.sleep(0)
    return bool(outputs == 200)


def check(result: ExperimentResultSummary) -> None:
    assert (result.errors, len(result.rows), result.success) == ((), len(MANY), True)


async def aevaluate(function: Any, **arguments: Any) -> ExperimentResultSummary:
    return await hh.aevaluate(function, dataset=MANY, **{"print_results": False, "name": "awaited", **arguments})


@pytest.mark.parametrize("max_workers", [1, 8])
def test_what_a_running_loop_has_used_works_in_evaluate_and_afterwards(fake: FakeLLM, max_workers: int) -> None:
    async def main() -> None:
        async with client_of(fake) as client:

            async def judge_with_client(outputs: Any) -> bool:
                return bool(outputs == await client.ask())

            await client.use()
            for _ in range(2):
                check(run(None, client.ask, MANY, evaluators=[judge_with_client], max_workers=max_workers))
            await client.use()
            check(run(None, lambda datapoint: client.ask(), MANY, timeout=30))
            await client.use()

    asyncio.run(main())


def test_what_a_running_loop_has_used_works_in_aevaluate_and_afterwards(fake: FakeLLM) -> None:
    async def main() -> None:
        async with client_of(fake) as client:
            await client.use()
            for _ in range(2):
                check(await aevaluate(client.ask, evaluators=[judge]))
            check(run(None, client.ask, MANY))
            both = await asyncio.gather(aevaluate(client.ask), aevaluate(client.ask, name="beside"))
            for result in both:
                check(result)
            await client.use()

    asyncio.run(main())


def test_without_a_running_loop_all_runs_share_one_loop(fake: FakeLLM) -> None:
    client = Client(fake)
    for _ in range(2):
        check(run(None, client.ask, MANY, evaluators=[judge]))
    assert len([thread for thread in threading.enumerate() if thread.name == "hh_jupyter-loop"]) == 1
    asyncio.run_coroutine_threadsafe(client.web.aclose(), process_loop()).result(10)


def test_other_tasks_go_on_while_coroutines_run_in_evaluate() -> None:
    async def main() -> None:
        release = asyncio.Event()

        async def waits(datapoint: Any) -> int:
            await release.wait()
            return 1

        asyncio.get_running_loop().call_later(0.05, release.set)
        check(run(None, waits, MANY))
        assert asyncio.current_task() is not None
        await asyncio.sleep(0)

    asyncio.run(main())


def test_what_is_scheduled_in_the_context_of_the_caller_runs_after_evaluate() -> None:
    """ipykernel handles all messages of the shell in one context, so also the next cell."""
    order: list[str] = []

    async def soon(datapoint: Any) -> int:
        await asyncio.sleep(0.01)
        return 1

    async def main() -> None:
        context = contextvars.copy_context()

        async def next_cell() -> None:
            order.append("next cell")

        async def cell() -> None:
            next_one = asyncio.create_task(next_cell(), context=context)
            check(run(None, soon, MANY))
            order.append("ran")
            await next_one

        await asyncio.create_task(cell(), context=context)

    asyncio.run(main())
    assert order == ["ran", "next cell"]


def test_evaluate_inside_a_callback_and_inside_the_function_of_another_run() -> None:
    async def inner(datapoint: Any) -> int:
        await asyncio.sleep(0.001)
        return 1

    async def outer(datapoint: Any) -> int:
        await asyncio.sleep(0.001)
        return len(run(None, inner, ROWS).passed)

    async def main() -> None:
        done: asyncio.Future[ExperimentResultSummary] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: done.set_result(run(None, outer, MANY)))
        assert {row.outputs for row in (await done).rows} == {"3"}

    asyncio.run(main())
    assert {row.outputs for row in run(None, outer, MANY).rows} == {"3"}


def test_plain_functions_that_run_a_loop_of_their_own_work_everywhere() -> None:
    def own_loop(datapoint: Any) -> int:
        asyncio.run(asyncio.sleep(0))
        return 200

    async def main() -> None:
        check(run(None, own_loop, MANY, evaluators=[judge]))
        check(await aevaluate(own_loop, evaluators=[judge]))

    asyncio.run(main())
    check(run(None, own_loop, MANY, evaluators=[judge]))


async def in_worker(datapoint: dict[str, Any]) -> int:
    await asyncio.sleep(0)
    return os.getpid()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_workers_have_loops_of_their_own() -> None:
    check(run(None, in_worker, MANY))  # Makes the loop of this process, which a forked child has no thread for.

    async def main() -> None:
        with ProcessPoolExecutor(2, mp_context=get_context("fork")) as workers:
            for result in (run(None, in_worker, MANY, executor=workers), await aevaluate(in_worker, executor=workers)):
                check(result)
                assert str(os.getpid()) not in {row.outputs for row in result.rows}

    asyncio.run(main())


def test_each_row_has_its_session_and_context_on_the_loop_of_the_caller(backend: Backend) -> None:
    variable = contextvars.ContextVar("variable", default=-1)

    async def task(datapoint: dict[str, Any]) -> bool:
        variable.set(datapoint["inputs"]["n"])
        await asyncio.sleep(0.01)
        with hh.get_tracer().start_span("inner"):
            return bool(variable.get() == datapoint["inputs"]["n"])

    place = {"api_key": KEY, "server_url": backend.url}

    async def main() -> tuple[ExperimentResultSummary, ExperimentResultSummary]:
        with hh.HoneyHiveTracer.init(**place):
            return run(None, task, MANY, **place), await aevaluate(task, **place)

    for result in asyncio.run(main()):
        check(result)
        assert {row.outputs for row in result.rows} == {"True"}
    inner = [(span["parent_span_id"], session_of(span)) for span in backend.spans("inner")]
    assert sorted(inner) == sorted((span["span_id"], session_of(span)) for span in backend.spans("task"))
    assert len({session for _, session in inner}) == 2 * len(MANY)


async def exits(datapoint: dict[str, Any]) -> int:
    if datapoint["inputs"]["n"] == 2:
        sys.exit(3)
    return 1


async def leaves_a_task_that_exits(datapoint: dict[str, Any]) -> int:
    asyncio.get_running_loop().call_soon(sys.exit)
    await asyncio.sleep(0.01)
    return 1


def test_a_coroutine_that_exits_fails_its_row_only() -> None:
    def check_exits(result: ExperimentResultSummary) -> None:
        assert ([error.error for error in result.errors], len(result.passed)) == (["SystemExit: 3"], 7)

    async def main() -> None:
        check_exits(run(None, exits, MANY))
        check_exits(await aevaluate(exits))
        check(run(None, in_worker, MANY))

    asyncio.run(main())
    check_exits(run(None, exits, MANY))
    check(run(None, in_worker, MANY))


def test_the_loop_of_the_process_survives_what_a_function_leaves_behind() -> None:
    check(run(None, leaves_a_task_that_exits, MANY))
    check(run(None, in_worker, MANY))


def test_a_run_inside_a_plain_function_shares_what_the_caller_of_the_outer_one_has_used(fake: FakeLLM) -> None:
    async def main() -> None:
        async with client_of(fake) as client:

            def outer(datapoint: Any) -> int:
                inner = run(None, client.ask, MANY[:2])
                assert inner.errors == ()
                return 200

            await client.use()
            check(run(None, outer, MANY, evaluators=[judge]))
            check(run(None, outer, MANY, timeout=30))
            check(await aevaluate(outer))
            await client.use()

    asyncio.run(main())


def test_what_another_exception_leaves_waiting_is_cancelled() -> None:
    begun, cancelled = threading.Event(), threading.Event()

    async def hangs(datapoint: Any) -> None:
        try:
            begun.set()
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def rows() -> Iterator[dict[str, Any]]:
        yield MANY[0]
        begun.wait(30)
        raise SystemExit

    with pytest.raises(SystemExit):
        run(None, hangs, rows())
    assert cancelled.wait(30)


def test_a_coroutine_that_has_not_begun_does_not_begin_after_ctrl_c() -> None:
    begun, scheduled = threading.Event(), threading.Event()

    async def begins() -> None:
        begun.set()

    async def main() -> None:
        loop = RunLoop(asyncio.get_running_loop())
        loop.on_await = scheduled.set
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(loop.wait_for, begins(), None)
            assert scheduled.wait(30)
            loop.stop()
            assert waiting.exception(30) is not None
            await asyncio.sleep(0.01)

    asyncio.run(main())
    assert not begun.is_set()


def test_a_loop_that_is_to_stop_does_not_spin_until_the_run_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[None] = []
    real = BlockedLoop._run_once

    def counted(blocked: BlockedLoop, deferred: Any) -> None:
        steps.append(None)
        real(blocked, deferred)

    async def waits(datapoint: Any) -> None:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.3)

    monkeypatch.setattr(BlockedLoop, "_run_once", counted)
    loop = asyncio.new_event_loop()
    loop.call_soon(lambda: check(run(None, waits, MANY)))
    loop.run_forever()
    loop.close()
    assert 0 < len(steps) < 200


NESTING = """
import asyncio
import nest_asyncio2
import hh_jupyter as hh

async def again(datapoint):
    asyncio.get_running_loop().run_until_complete(asyncio.sleep(0.01))
    return 1

async def main():
    result = hh.evaluate(again, dataset=[{"inputs": {"n": n}} for n in range(8)], print_results=False)
    print(len(result.passed), result.errors)

nest_asyncio2.apply()
asyncio.run(main())
"""


def test_functions_may_run_the_loop_again_as_nest_asyncio_lets_them(tmp_path: Path) -> None:
    pytest.importorskip("nest_asyncio2")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", NESTING]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=100)
    assert done.stdout == "8 ()\n", done.stderr


def test_a_coroutine_is_cancelled_at_its_timeout() -> None:
    cancelled = threading.Event()

    async def hangs() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(TimeoutError, match=r"took longer than 0\.2 s"):
        RunLoop().wait_for(hangs(), 0.2)
    assert cancelled.wait(30)  # And not only at the end of the run.


async def stuck(datapoint: dict[str, Any]) -> int:
    if datapoint["inputs"]["n"] == 3:
        await asyncio.sleep(60)
    return 1


def test_a_cancelled_aevaluate_completes_the_run_as_cancelled(backend: Backend) -> None:
    async def main() -> None:
        place = {"api_key": KEY, "server_url": backend.url, "max_workers": 1}
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(aevaluate(stuck, **place), 1)

    asyncio.run(main())
    ended = next(request for request in backend.requests if request.method == "PUT" and "/runs/" in request.path)
    assert (ended.body["status"], len(ended.body["event_ids"])) == ("cancelled", 3)


def test_mistakes_are_raised_by_aevaluate_as_by_evaluate() -> None:
    async def main() -> None:
        with pytest.raises(hh.SettingError, match="retries must be 0 or more"):
            await aevaluate(judge, retries=-1)

    asyncio.run(main())


def test_a_loop_that_cannot_be_shared_is_mentioned_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class OtherLoop(asyncio.SelectorEventLoop):
        """As uvloop's, one that does not take callbacks as asyncio does."""

        def call_soon(  # type: ignore[override]
            self, callback: Any, *args: Any, context: contextvars.Context | None = None
        ) -> asyncio.Handle:
            return super().call_soon(callback, *args, context=context)

    async def main() -> None:
        for _ in range(2):
            check(run(None, in_worker, MANY))

    monkeypatch.setattr(pool, "_noted_loops", set())
    with asyncio.Runner(loop_factory=OtherLoop) as runner:
        runner.run(main())
    assert caplog.text.count("cannot be shared") == caplog.text.count("await aevaluate(...)") == 1


@pytest.mark.parametrize("name", ["_process_events", "_scheduled", "_context", "_leave_task"])
def test_a_loop_of_a_python_without_what_is_needed_is_not_run_from_inside(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = hasattr
    monkeypatch.setattr(loops, "hasattr", lambda owner, one: one != name and real(owner, one), False)

    async def main() -> None:
        assert BlockedLoop.current() is None
        check(run(None, in_worker, MANY))

    asyncio.run(main())


SCRIPT = """
import asyncio, os, sys, time
import hh_jupyter as hh

async def stuck(datapoint):
    if datapoint["inputs"]["n"] == 3:
        print("started", flush=True)
        await asyncio.sleep(300)
    return 1

def plain(datapoint):
    if datapoint["inputs"]["n"] == 3:
        print("started", flush=True)
        time.sleep(300)
    return 1

async def main():
    rows = [{"inputs": {"n": n}} for n in range(9)]
    if sys.argv[1] == "evaluate":
        result = hh.evaluate(stuck, dataset=rows, max_workers=1, name="stopped")
    elif sys.argv[1] == "plain":
        result = hh.evaluate(plain, dataset=rows, max_workers=1, name="stopped")
    else:
        result = await hh.aevaluate(stuck, dataset=rows, max_workers=1, name="stopped")
    print(result.status, len(result.rows), flush=True)
    await asyncio.sleep(0)

try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted", flush=True)
os._exit(0)
"""


@pytest.mark.parametrize(
    ("function", "end"), [("evaluate", "cancelled 3\n"), ("plain", "cancelled 3\n"), ("aevaluate", "interrupted\n")]
)
def test_ctrl_c_in_an_asyncio_program_ends_the_run(function: str, end: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    program = subprocess.Popen(
        [sys.executable, "-c", f"import signal\nsignal.signal(2, signal.default_int_handler)\n{SCRIPT}", function],
        stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path,
    )  # fmt: skip
    assert program.stdout is not None
    started = time.monotonic()
    assert program.stdout.readline() == "started\n"
    program.send_signal(signal.SIGINT)
    try:
        printed, _ = program.communicate(timeout=100)
    finally:
        program.kill()
    assert printed.startswith("■ stopped")
    assert printed.endswith(end)
    assert time.monotonic() - started < 100


def test_aevaluate_does_not_need_a_thread_of_the_loops_executor() -> None:
    async def in_thread(datapoint: Any) -> int:
        return await asyncio.to_thread(lambda: 1)

    async def main() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        check(await aevaluate(in_thread))

    asyncio.run(main())


def test_a_slow_dataset_does_not_keep_coroutines_from_running() -> None:
    begun: list[int] = []
    begun_at_last_row = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal begun_at_last_row
        for number in range(8):
            time.sleep(0.1)
            begun_at_last_row = len(begun)
            yield {"inputs": {"n": number}}

    async def task(datapoint: dict[str, Any]) -> None:
        begun.append(datapoint["inputs"]["n"])

    async def cell() -> None:
        assert len(run(None, task, rows()).rows) == 8

    asyncio.run(cell())
    assert begun_at_last_row > 0
