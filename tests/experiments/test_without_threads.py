"""A run takes the threads that it can get; without any, it calls the function itself. Each data point runs once."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest

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
    result = run(backend, task, dataset=ROWS[:3])
    assert len(result.errors) == 3
    assert all("none can be started" in error.error for error in result.errors)


def test_a_timeout_without_a_thread_does_not_fail_the_call(at_most: int, backend: Backend) -> None:
    assert run(backend, lambda datapoint: 1, dataset=ROWS[:5], timeout=5).errors == ()
