"""Runs on process pools and on a cluster: sessions, spans and scores come back, and nothing is counted twice."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

import hh_jupyter as hh
from hh_jupyter.experiments.results import ExperimentResultSummary
from hh_jupyter.testing import Backend
from tests.experiments.runs import calls, run, session_of, updates

ROWS: list[dict[str, Any]] = [{"id": f"p{n}", "inputs": {"n": n}, "ground_truth": n * 2} for n in range(40)]


@hh.trace(event_type="tool", event_name="step")
def step(n: int) -> int:
    if n % 10 == 7:
        raise ValueError(f"no {n}")
    return n * 2


async def task(datapoint: dict[str, Any]) -> dict[str, int]:
    return {"double": step(datapoint["inputs"]["n"])}


def exact(outputs: Any, inputs: Any, ground_truth: Any) -> bool:
    return bool(outputs["double"] == ground_truth)


@hh.evaluator
def process(outputs: Any) -> int:
    return os.getpid()


def check(backend: Backend, result: ExperimentResultSummary, count: int = len(ROWS)) -> None:
    """The expected results, which do not depend on the executor."""
    assert [row.index for row in result.rows] == list(range(count))
    assert [error.error for error in result.errors] == [f"ValueError: no {n}" for n in range(count) if n % 10 == 7]
    assert result.metrics.get_all_metrics()["exact"].values == (True,) * (count - len(result.errors))
    sessions = {row.session_id: row.datapoint_id for row in result.rows}
    assert {session["session_id"] for session in backend.sessions()} == set(sessions)
    for name, number in (("task", count), ("step", count), ("Evaluation", count - len(result.errors))):
        found = [session_of(span) for span in backend.spans(name)]
        assert len(found) == len(set(found)) == number, name
        assert set(found) <= set(sessions)
    roots = {session_of(span): span for span in backend.spans("task")}
    assert all(span["parent_span_id"] == roots[session_of(span)]["span_id"] for span in backend.spans("step"))
    sent = updates(backend)
    assert all(sent[f"EXT-p{n}"]["outputs"] == {"double": n * 2} for n in range(count) if n % 10 != 7)


@pytest.fixture(scope="module")
def processes() -> Iterator[Executor]:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        yield pool


@pytest.mark.slow
def test_a_process_pool_has_the_same_results_as_threads(backend: Backend, processes: Executor) -> None:
    result = run(backend, task, ROWS, evaluators=[exact, process], executor=processes, max_workers=4)
    check(backend, result)
    pids = {row.metrics["process"] for row in result.rows if not row.error}
    assert pids
    assert os.getpid() not in pids


def test_the_users_executor_is_not_shut_down(backend: Backend) -> None:
    with ThreadPoolExecutor(3) as pool:
        check(backend, run(backend, task, ROWS, evaluators=[exact, process], executor=pool))
        assert pool.submit(len, ROWS).result() == len(ROWS)


def test_a_function_that_cannot_be_pickled_is_an_error_of_each_datapoint(processes: Executor) -> None:
    result = run(None, lambda datapoint: 1, ROWS[:3], executor=processes)
    assert len(result.errors) == 3
    assert "pickle" in result.errors[0].error.lower()


def dies_once(datapoint: dict[str, Any]) -> dict[str, int]:
    mark = Path(datapoint["inputs"]["mark"])
    if datapoint["inputs"]["n"] == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"double": step(datapoint["inputs"]["n"])}


def test_a_broken_pool_is_an_error_of_every_datapoint_it_did_not_run(backend: Backend, tmp_path: Path) -> None:
    rows = [{**row, "inputs": {**row["inputs"], "mark": str(tmp_path / "died")}} for row in ROWS[:6]]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        result = run(backend, dies_once, rows, executor=pool, max_workers=1)
    assert [row.index for row in result.rows] == list(range(6))
    lost = [row for row in result.rows if row.error]
    assert lost
    assert all("BrokenProcessPool" in (row.error or "") for row in lost)
    assert len({row.session_id for row in result.rows}) == 6
    assert {point for point, update in updates(backend).items() if "error" in update.get("metadata", {})} == {
        f"EXT-{row.datapoint_id}" for row in lost
    }


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=2, dashboard_address=":0", host="127.0.0.1"
        ) as running,
        distributed.Client(running) as client,
    ):
        client.run(_importable, str(Path(__file__).parents[2]))
        yield client


def _importable(root: str) -> None:
    import sys

    if root not in sys.path:
        sys.path.insert(0, root)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # Its own noise at the end of a cluster.
def test_a_dask_cluster_has_the_same_results_as_threads(backend: Backend, cluster: Any) -> None:
    result = run(backend, task, ROWS, evaluators=[exact, process], executor=cluster.get_executor())
    check(backend, result)
    assert os.getpid() not in {row.metrics["process"] for row in result.rows if not row.error}
    with Backend() as other:
        threads = run(other, task, ROWS, evaluators=[exact])
    assert [(row.datapoint_id, row.metrics["exact"]) for row in threads.rows if not row.error] == [
        (row.datapoint_id, row.metrics["exact"]) for row in result.rows if not row.error
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # Its own noise at the end of a cluster.
def test_datapoints_of_a_lost_dask_worker_run_again_and_count_once(
    backend: Backend, cluster: Any, tmp_path: Path
) -> None:
    rows = [{**row, "inputs": {**row["inputs"], "mark": str(tmp_path / "died")}} for row in ROWS[:12]]
    result = run(backend, dies_once, rows, evaluators=[exact], executor=cluster.get_executor(), retries=1)
    assert (tmp_path / "died").exists()
    assert [row.index for row in result.rows] == list(range(12))
    assert [error.error for error in result.errors] == ["ValueError: no 7"]
    sessions = {row.session_id for row in result.rows}
    # Results that the lost worker held are computed again, and the session has the spans of both attempts.
    assert {session_of(span) for span in backend.spans("dies_once")} == sessions
    updated = [call.body["event_id"] for call in calls(backend, "PUT", "/events")]
    assert sorted(updated) == sorted(sessions)
    ended = calls(backend, "PUT", f"/v1/runs/{result.run_id}")[0].body["event_ids"]
    assert ended == [row.session_id for row in result.rows]
