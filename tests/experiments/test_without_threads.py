"""A run takes the threads that it can get; without any, it calls the function itself. Each data point runs once."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import Any

import pytest

import hh_jupyter as hh
from hh_jupyter.experiments import loops
from hh_jupyter.testing import Backend
from tests.experiments.runs import run

ROWS: list[dict[str, Any]] = [{"id": f"p{n}", "inputs": {"n": n}} for n in range(40)]


@pytest.fixture(params=[0, 1, 2])
def at_most(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The number of threads that a run can start."""
    started: list[threading.Thread] = []
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if "evaluate" in thread.name or thread.name in ("hh_jupyter-loop", "hh_jupyter-call"):
            if len(started) >= request.param:
                raise RuntimeError("can't start new thread")
            started.append(thread)
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    return int(request.param)


def test_every_data_point_runs_once(at_most: int, backend: Backend) -> None:
    ran: Counter[int] = Counter()
    threads: set[int] = set()

    def task(datapoint: dict[str, Any]) -> int:
        ran[datapoint["inputs"]["n"]] += 1
        threads.add(threading.get_ident())
        return 1

    result = run(backend, task, dataset=ROWS, max_workers=10)
    assert [row.index for row in result.rows] == list(range(40))
    assert result.errors == ()
    assert set(ran.values()) == {1}
    assert len(ran) == 40
    assert (threading.get_ident() in threads) == (at_most == 0)
    assert len(threads) <= max(1, at_most)


@pytest.mark.parametrize("at_most", [0], indirect=True)
def test_a_coroutine_may_wait_without_a_timer(at_most: int) -> None:
    async def task(datapoint: dict[str, Any]) -> int:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[int] = loop.create_future()
        threading.Timer(0.01, loop.call_soon_threadsafe, (answer.set_result, 1)).start()
        return await answer

    async def main() -> None:
        result = run(None, task, dataset=ROWS[:4])
        assert (result.errors, len(result.passed)) == ((), 4)

    asyncio.run(main())


@pytest.mark.parametrize("at_most", [0], indirect=True)
def test_an_interrupt_ends_a_run_without_threads(at_most: int, backend: Backend) -> None:
    def task(datapoint: dict[str, Any]) -> int:
        if datapoint["inputs"]["n"] == 5:
            raise KeyboardInterrupt
        return 1

    result = run(backend, task, dataset=ROWS)
    assert result.status == "cancelled"
    assert len(result.rows) == 5


def test_a_coroutine_without_a_thread_for_its_loop_is_an_error_of_its_data_point(
    monkeypatch: pytest.MonkeyPatch, backend: Backend
) -> None:
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if "loop" in thread.name:
            raise RuntimeError("can't start new thread")
        real(thread)

    async def task(datapoint: dict[str, Any]) -> int:
        return 1

    monkeypatch.setattr(threading.Thread, "start", start)
    monkeypatch.setattr(loops, "_loop_threads", [])
    monkeypatch.setattr(loops, "_inherited", 0)
    result = run(backend, task, dataset=ROWS[:3])
    assert len(result.errors) == 3
    assert all("none can be started" in error.error for error in result.errors)


def test_coroutines_run_on_the_loop_of_the_caller_with_any_number_of_threads(at_most: int) -> None:
    async def task(datapoint: dict[str, Any]) -> bool:
        await asyncio.sleep(0.001)
        return threading.current_thread() is threading.main_thread()

    async def hangs(datapoint: dict[str, Any]) -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        for result in (
            run(None, task, dataset=ROWS, timeout=30),
            await hh.aevaluate(task, dataset=ROWS, print_results=False),
        ):
            assert [row.outputs for row in result.rows] == ["True"] * 40
        late = run(None, hangs, dataset=ROWS[:2], timeout=0.05)
        assert [error.error for error in late.errors] == ["TimeoutError: took longer than 0.05 s"] * 2

    asyncio.run(main())


def test_a_timeout_without_a_thread_does_not_fail_the_call(at_most: int, backend: Backend) -> None:
    assert run(backend, lambda datapoint: 1, dataset=ROWS[:5], timeout=5).errors == ()
