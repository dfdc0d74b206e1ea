"""`traced` on Dask: worker processes on the loopback interface, and a cluster of threads in this process."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.runtimes.workers import traced
from hh_jupyter.testing import Backend
from hh_jupyter.tracing.span_store import span_log
from tests.runtimes import jobs
from tests.runtimes.received import SESSION, numbers

dask: Any = pytest.importorskip("dask")
distributed: Any = pytest.importorskip("distributed")

# Its own noise at the end of a cluster.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    # A task may have a pool of processes of its own, if the worker is no daemon.
    with (
        dask.config.set({"distributed.worker.daemon": False}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=":0") as running,
    ):
        yield running


@pytest.fixture
def client(cluster: Any) -> Iterator[Any]:
    with distributed.Client(cluster) as made:
        yield made


def add(*found: int) -> int:
    return sum(found)


def die_once(path: str) -> int:
    """Kill the worker the first time."""
    jobs.double(1)
    if not Path(path).exists():
        Path(path).touch()
        time.sleep(0.5)  # Until earlier events have been sent.
        os._exit(1)
    return jobs.double(2)


def double_by_delegates(number: int) -> int:
    with distributed.worker_client() as client:
        return int(client.submit(traced(jobs.double), number, pure=False).result())


def test_every_way_to_submit_returns_unchanged_results_and_all_spans(
    client: Any, tracer: HoneyHiveTracer, backend: Backend
) -> None:
    with tracer.with_session("batch") as session_id, tracer.start_span("parent") as parent:
        assert client.submit(traced(jobs.double), 1).result() == 2
        assert client.gather(client.map(traced(jobs.double), [2, 3])) == [4, 6]
        with client.get_executor() as executor:
            assert executor.submit(traced(jobs.double), 4).result() == 8
            assert list(executor.map(traced(jobs.double), [5, 6])) == [10, 12]
        with pytest.raises(KeyError):
            client.submit(traced(jobs.fail), 7).result()
        assert client.submit(traced(jobs.double_later), 8).result() == 16
    assert tracer.force_flush()
    assert numbers(backend) == list(range(1, 9))
    spans = backend.spans("tests.runtimes.jobs.double")
    assert {span["attributes"][SESSION] for span in spans} == {session_id}
    assert {span["parent_span_id"] for span in spans} == {f"{parent.get_span_context().span_id:016x}"}


def test_spans_are_received_before_the_result(client: Any, tracer: HoneyHiveTracer) -> None:
    with tracer.with_session("batch") as session_id:
        for number in range(20):
            client.submit(traced(jobs.double), number, pure=False).result()
            tracer.wait_processed()
            assert len([row for row in span_log().records() if row.session_id == session_id]) == number + 1


def test_a_result_that_stays_in_the_cluster_is_the_unchanged_value(client: Any, tracer: HoneyHiveTracer) -> None:
    doubled = client.map(traced(jobs.double), range(10))
    assert client.submit(add, *doubled).result() == 90
    assert client.submit(traced(add), *doubled).result() == 90


def test_a_client_that_is_created_after_the_call_receives_spans_too(
    cluster: Any, tracer: HoneyHiveTracer, backend: Backend
) -> None:
    call = traced(jobs.double)
    with distributed.Client(cluster) as client:
        assert client.submit(call, 1).result() == 2
    assert tracer.force_flush()
    assert numbers(backend) == [1]


def test_two_clients_of_one_process_receive_each_span_once(
    client: Any, cluster: Any, tracer: HoneyHiveTracer, backend: Backend
) -> None:
    with distributed.Client(cluster) as second:
        assert [each.submit(traced(jobs.double), number).result() for number, each in enumerate((client, second))]
    assert tracer.force_flush()
    assert numbers(backend) == [0, 1]


def test_sessions_and_updates_of_a_worker_reach_the_backend(
    client: Any, tracer: HoneyHiveTracer, backend: Backend
) -> None:
    session_id = client.submit(traced(jobs.open_a_session), 1).result()
    assert tracer.force_flush()
    assert session_id in [session["session_id"] for session in backend.sessions()]
    assert backend.spans()[0]["attributes"][SESSION] == session_id


def test_functions_of_a_notebook_are_pickled_with_the_tracer_they_use(
    client: Any, tracer: HoneyHiveTracer, backend: Backend
) -> None:
    """Dask sends functions of `__main__` by value, with everything they refer to."""

    def local(number: int) -> int:
        with tracer.start_span("by the tracer"):
            return jobs.double(number)

    local.__module__ = "__main__"
    assert client.submit(traced(local), 1).result() == 2
    assert tracer.force_flush()
    assert sorted(span["name"] for span in backend.spans()) == ["by the tracer", "tests.runtimes.jobs.double"]


def test_a_task_that_runs_again_is_traced_and_the_lost_worker_is_reported(
    client: Any, tracer: HoneyHiveTracer, backend: Backend, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert client.submit(traced(die_once), str(tmp_path / "died")).result() == 4
    assert not tracer.force_flush()
    assert "a Dask worker was lost while running die_once" in caplog.text
    assert numbers(backend) == [1, 2]
    assert client.submit(traced(jobs.double), 3).result() == 6
    assert tracer.force_flush()
    assert numbers(backend) == [1, 2, 3]


def test_a_restarted_worker_continues_to_trace(client: Any, tracer: HoneyHiveTracer, backend: Backend) -> None:
    assert client.submit(traced(jobs.double), 1).result() == 2
    client.restart()
    assert client.submit(traced(jobs.double), 2).result() == 4
    assert tracer.force_flush()
    assert numbers(backend) == [1, 2]


def test_spans_of_nested_tasks_are_sent_through_the_worker(
    client: Any, tracer: HoneyHiveTracer, backend: Backend
) -> None:
    with tracer.with_session("batch") as session_id:
        assert client.submit(traced(double_by_delegates), 4).result() == 8
        assert client.submit(traced(jobs.delegate), 1).result() == [2, 4]
    assert tracer.force_flush()
    assert numbers(backend) == [1, 2, 4]
    assert {span["attributes"][SESSION] for span in backend.spans()} == {session_id}


@pytest.mark.timeout(600)
def test_all_spans_of_10_000_tasks_arrive(client: Any, tracer: HoneyHiveTracer, backend: Backend) -> None:
    with tracer.with_session("batch"):
        assert sum(client.gather(client.map(traced(jobs.double), range(10_000)))) == 99_990_000
    assert tracer.force_flush(60_000)
    assert numbers(backend) == list(range(10_000))


def test_a_cluster_of_threads_in_this_process_exports_directly(tracer: HoneyHiveTracer, backend: Backend) -> None:
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with (
        distributed.LocalCluster(processes=False, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
        tracer.with_session("batch") as session_id,
    ):
        assert client.gather(client.map(traced(jobs.double), [1, 2])) == [2, 4]
        with pytest.raises(KeyError):
            client.submit(traced(jobs.fail), 3).result()
    assert tracer.force_flush()
    assert numbers(backend) == [1, 2, 3]
    assert {span["attributes"][SESSION] for span in backend.spans()} == {session_id}
