"""`traced` on thread and process pools: unchanged results, and spans in the calling session, span and cell."""

from __future__ import annotations

import copyreg
import functools
import multiprocessing
import pickle
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest
from opentelemetry import context as otel_context

from hh_jupyter import HoneyHiveTracer, SettingTypeError, WorkerError, set_default_tracer
from hh_jupyter.runtimes.workers import traced
from hh_jupyter.testing import Backend
from hh_jupyter.tracing.context import with_cell
from hh_jupyter.tracing.span_store import span_log
from tests.runtimes import jobs
from tests.runtimes.conftest import KEY
from tests.runtimes.received import SESSION, numbers

ENGINES: dict[str, Callable[[], Executor]] = {
    "threads": lambda: ThreadPoolExecutor(2),
    "forked": lambda: ProcessPoolExecutor(2, multiprocessing.get_context("fork")),
    "spawned": lambda: ProcessPoolExecutor(1, multiprocessing.get_context("spawn")),
}
PROCESSES = ("forked", "spawned")


@pytest.fixture(params=ENGINES)
def pool(request: pytest.FixtureRequest, tracer: HoneyHiveTracer) -> Iterator[Executor]:
    with ENGINES[request.param]() as executor:
        yield executor


@pytest.fixture
def forked(tracer: HoneyHiveTracer) -> Iterator[Executor]:
    with ENGINES["forked"]() as executor:
        yield executor


def test_results_are_plain_and_spans_land_in_the_calling_session_span_and_cell(
    pool: Executor, tracer: HoneyHiveTracer, backend: Backend
) -> None:
    otel_context.attach(with_cell(otel_context.get_current(), "7-run"))
    with tracer.with_session("batch") as session_id, tracer.start_span("parent") as parent:
        assert list(pool.map(traced(jobs.double), range(5))) == [0, 2, 4, 6, 8]
        assert pool.submit(traced(jobs.double), 5).result() == 10
    assert pool.submit(jobs.double, 99).result() == 198
    assert tracer.force_flush()
    spans = [span for span in backend.spans("tests.runtimes.jobs.double") if span["attributes"][SESSION] == session_id]
    assert sorted(span["attributes"]["honeyhive_inputs.number"] for span in spans) == list(range(6))
    parent_id = f"{parent.get_span_context().span_id:016x}"
    assert {span["parent_span_id"] for span in spans} == {parent_id}
    assert {span["attributes"]["honeyhive_event_type"] for span in spans} == {"tool"}
    rows = [row for row in span_log().records() if row.session_id == session_id]
    assert [row.cell for row in rows] == ["7-run"] * 7
    assert sorted(session["session_name"] for session in backend.sessions()) == ["batch", "home"]


def test_an_exception_is_raised_unchanged_and_its_spans_are_sent(
    pool: Executor, tracer: HoneyHiveTracer, backend: Backend
) -> None:
    with pytest.raises(KeyError) as caught:
        pool.submit(traced(jobs.fail), 3).result()
    assert (type(caught.value), caught.value.args) == (KeyError, (3,))
    assert tracer.force_flush()
    assert numbers(backend) == [3]


def test_sessions_and_updates_of_a_worker_reach_the_backend(
    pool: Executor, tracer: HoneyHiveTracer, backend: Backend
) -> None:
    with tracer.with_session("batch") as session_id:
        inner = pool.submit(traced(jobs.open_a_session), 1).result()
        pool.submit(traced(jobs.enrich_the_session), 2).result()
    assert tracer.force_flush()
    assert sorted(session["session_name"] for session in backend.sessions()) == ["batch", "home", "session 1"]
    updates = {r.body["event_id"]: r.body["metadata"] for r in backend.requests if r.method == "PUT"}
    assert updates == {inner: {"number": 1}, session_id: {"number": 2}}
    (span,) = backend.spans("tests.runtimes.jobs.double")
    assert span["attributes"][SESSION] == inner


def test_spans_of_instrumentors_and_of_a_tracer_that_was_sent_along_come_back_once(
    pool: Executor, tracer: HoneyHiveTracer, backend: Backend
) -> None:
    with tracer.with_session("batch") as session_id:
        pool.submit(traced(jobs.instrumented), 1).result()
        pool.submit(traced(jobs.by_that_tracer), tracer, 2).result()
        pool.submit(traced(functools.partial(jobs.by_that_tracer, tracer)), 3).result()
    pool.shutdown()
    assert tracer.force_flush()
    assert sorted(span["name"].rpartition(".")[2] for span in backend.spans()) == [
        *["by that tracer"] * 2,
        *["double"] * 3,
        "theirs",
    ]
    assert {span["attributes"][SESSION] for span in backend.spans()} == {session_id}
    assert len({span["span_id"] for span in backend.spans()}) == 6


def test_a_coroutine_function_is_awaited_in_the_worker(
    pool: Executor, tracer: HoneyHiveTracer, backend: Backend
) -> None:
    done: Any = pool.submit(traced(jobs.double_later), 4).result()
    assert done == 8
    assert tracer.force_flush()
    assert numbers(backend) == [4]


def test_secrets_are_redacted_and_the_api_key_is_not_sent_to_workers(
    pool: Executor, tracer: HoneyHiveTracer, backend: Backend, request: pytest.FixtureRequest
) -> None:
    key = pool.submit(traced(jobs.secret_span), "sk-proj-" + 5 * "aB3dE5fG").result()
    assert key == (KEY if "threads" in request.node.name else None)
    assert tracer.force_flush()
    (span,) = backend.spans("secret")
    assert span["attributes"]["note"].startswith("[redacted")
    assert KEY not in pickle.dumps(traced(jobs.double)).decode("latin-1")


def test_spans_of_an_exception_whose_type_has_a_registered_reducer_are_sent(
    monkeypatch: pytest.MonkeyPatch, forked: Executor, tracer: HoneyHiveTracer, backend: Backend
) -> None:
    """tblib, which Dask loads, registers one for every exception."""
    monkeypatch.setitem(copyreg.dispatch_table, KeyError, lambda error: (KeyError, error.args))
    with pytest.raises(KeyError) as caught:
        forked.submit(traced(jobs.fail), 3).result()
    assert caught.value.args == (3,)
    assert tracer.force_flush()
    assert numbers(backend) == [3]


def test_a_result_or_exception_that_cannot_be_pickled_raises_and_its_spans_are_sent(
    monkeypatch: pytest.MonkeyPatch, forked: Executor, tracer: HoneyHiveTracer, backend: Backend
) -> None:
    # Both come with Dask and can pickle these.
    monkeypatch.delitem(sys.modules, "cloudpickle", raising=False)
    monkeypatch.delitem(copyreg.dispatch_table, jobs.UnsendableError, raising=False)
    with pytest.raises(pickle.PicklingError, match="give_a_lambda returned a function that cannot be sent back: "):
        forked.submit(traced(jobs.give_a_lambda), 1).result()
    with pytest.raises(WorkerError, match=r"UnsendableError: 2 \(raised by fail_unsendably in a worker; the exception"):
        forked.submit(traced(jobs.fail_unsendably), 2).result()
    assert forked.submit(traced(jobs.double), 3).result() == 6
    assert tracer.force_flush()
    assert numbers(backend) == [1, 2, 3]


def test_lost_spans_of_a_killed_worker_are_reported(
    forked: Executor, tracer: HoneyHiveTracer, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    assert forked.submit(traced(jobs.double), 1).result() == 2
    assert tracer.force_flush()
    with pytest.raises(BrokenProcessPool):
        forked.submit(traced(jobs.die), 2).result()
    forked.shutdown()  # The call is dropped with the pool's last thread.
    assert not tracer.force_flush()
    assert "1 call of die did not return from a worker process" in caplog.text
    assert numbers(backend) == [1]
    assert tracer.force_flush()


def test_a_call_that_cannot_be_pickled_is_not_reported_as_lost(forked: Executor, tracer: HoneyHiveTracer) -> None:
    with pytest.raises((AttributeError, pickle.PicklingError)):
        forked.submit(traced(lambda: 1)).result()
    forked.shutdown()
    assert tracer.force_flush()


def test_a_span_that_ends_after_its_call_is_sent_with_the_next_result(
    tracer: HoneyHiveTracer, backend: Backend
) -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        with tracer.with_session("batch") as session_id:
            pool.submit(traced(jobs.leave_open), 1).result()
        pool.submit(traced(jobs.end_in_a_thread), 2).result()
    assert tracer.force_flush()
    (span,) = backend.spans("late")
    assert span["attributes"][SESSION] == session_id


def test_spans_of_nested_pools_are_sent_through_the_worker(
    tracer: HoneyHiveTracer, backend: Backend, forked: Executor
) -> None:
    with tracer.with_session("batch") as session_id:
        assert forked.submit(traced(jobs.delegate), 1).result() == [2, 4]
    assert tracer.force_flush()
    (delegating,) = backend.spans("delegate")
    children = backend.spans("tests.runtimes.jobs.double")
    assert {span["parent_span_id"] for span in children} == {delegating["span_id"]}
    assert [span["attributes"][SESSION] for span in (delegating, *children)] == [session_id] * 3


def test_sessions_of_nested_pools_reach_the_backend_through_the_worker(
    tracer: HoneyHiveTracer, backend: Backend, forked: Executor
) -> None:
    inner = forked.submit(traced(jobs.delegate_a_session), 1).result()
    assert tracer.force_flush()
    assert inner in [session["session_id"] for session in backend.sessions()]
    updates = {r.body["event_id"]: r.body["metadata"] for r in backend.requests if r.method == "PUT"}
    assert updates == {inner: {"number": 1}}
    (span,) = backend.spans("tests.runtimes.jobs.double")
    assert span["attributes"][SESSION] == inner


def test_spans_of_nested_pools_belong_to_the_cell_of_the_first_call(
    tracer: HoneyHiveTracer, backend: Backend, forked: Executor
) -> None:
    otel_context.attach(with_cell(otel_context.get_current(), "8-run"))
    forked.submit(traced(jobs.delegate), 1).result()
    assert tracer.force_flush()
    rows = [row for row in span_log().records() if row.cell == "8-run"]
    assert sorted(row.name.rpartition(".")[2] for row in rows) == ["delegate", "double", "double"]


def test_children_of_a_filtered_span_get_the_nearest_kept_ancestor(backend: Backend) -> None:
    filters = {"exclude": [{"type": "prefix", "value": "inner"}, {"type": "prefix", "value": "delegate"}]}
    with (
        HoneyHiveTracer.init(api_key=KEY, server_url=backend.url, span_name_filters=filters) as tracer,
        ENGINES["forked"]() as pool,
        tracer.start_span("outer"),
        tracer.start_span("inner"),
    ):
        pool.submit(traced(jobs.double), 1).result()
        pool.submit(traced(jobs.delegate), 2).result()
    (outer,) = backend.spans("outer")
    spans = backend.spans("tests.runtimes.jobs.double")
    assert [span["parent_span_id"] for span in spans] == [outer["span_id"]] * 3
    assert {span["name"] for span in backend.spans()} == {"outer", "tests.runtimes.jobs.double"}


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_multiprocessing_pool_works_too(tracer: HoneyHiveTracer, backend: Backend, method: str) -> None:
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.map(traced(jobs.double), range(4), chunksize=2) == [0, 2, 4, 6]
        with pytest.raises(KeyError):
            pool.apply(traced(jobs.fail), (4,))
    assert tracer.force_flush()
    assert numbers(backend) == [0, 1, 2, 3, 4]


def test_a_forked_process_with_a_traced_target_sends_its_spans_itself(
    tracer: HoneyHiveTracer, backend: Backend
) -> None:
    process = multiprocessing.get_context("fork").Process(target=traced(jobs.double), args=(1,))
    process.start()
    process.join()
    assert backend.wait_for(lambda found: numbers(found) == [1])


def test_two_tracers_get_their_own_spans(tracer: HoneyHiveTracer, forked: Executor) -> None:
    with Backend() as other_backend, HoneyHiveTracer(api_key=KEY, server_url=other_backend.url) as other:
        calls = [forked.submit(traced(jobs.double), 1), forked.submit(traced(jobs.double, tracer=other), 2)]
        assert [call.result() for call in calls] == [2, 4]
        assert other.force_flush()
        assert numbers(other_backend) == [2]


def test_without_a_tracer_the_function_runs_untraced() -> None:
    set_default_tracer(None)
    call = traced(jobs.double)
    assert pickle.loads(pickle.dumps(call))(2) == 4


def test_a_traced_function_keeps_name_and_signature(tracer: HoneyHiveTracer) -> None:
    call: Any = traced(jobs.double)
    assert (call.__name__, call.__wrapped__) == ("double", jobs.double)
    named: Any = traced(functools.partial(jobs.double, 1))
    assert named.__name__ == "double"


def test_an_object_that_is_not_callable_is_rejected() -> None:
    wrong: Any = 7
    with pytest.raises(SettingTypeError, match=r"traced: fn must be a function; got 7 \(int\)"):
        traced(wrong)


@pytest.mark.slow
def test_a_worker_that_makes_too_many_spans_reports_how_many_were_dropped(
    forked: Executor, tracer: HoneyHiveTracer, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    forked.submit(traced(jobs.many_spans), 10_050).result()
    assert not tracer.force_flush()
    assert len(backend.spans()) == 10_000
    assert "50 spans of a worker were dropped" in caplog.text


def test_a_worker_whose_spans_are_too_large_reports_how_many_were_dropped(
    monkeypatch: pytest.MonkeyPatch, tracer: HoneyHiveTracer, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("hh_jupyter.export.remote.MAX_BYTES", 10)  # The forked worker inherits it.
    with ENGINES["forked"]() as pool:
        assert pool.submit(traced(jobs.many_spans), 3).result() is None
    assert not tracer.force_flush()
    assert "3 spans of a worker were dropped" in caplog.text
