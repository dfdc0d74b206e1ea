"""Spans made in another process arrive as if they had been made here."""

from __future__ import annotations

import json
import math
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.runtimes.workers import traced
from hh_jupyter.testing import Backend, CapturedSpan, capture_spans
from tests.export import remote_jobs as jobs
from tests.export.troubled import EVENT, StrictBackend, updates
from tests.spans import RECORDINGS

TOO_LARGE = 70 * 1024 * 1024
OF_ONE_SPAN = {"trace_id", "span_id", "parent_span_id", "start_ns", "end_ns", "resource"}
OF_ONE_PROCESS = {"host.name", "process.pid", "service.instance.id"}


@pytest.fixture(scope="module")
def worker() -> Iterator[Executor]:
    """One process for all tests of this module, started before they have threads."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.fixture
def tracer(backend: Backend) -> Iterator[HoneyHiveTracer]:
    made = HoneyHiveTracer.init(api_key="a-test-key", server_url=backend.url, session_name="here")
    yield made
    made.shutdown()


def delivered(backend: Backend, *, after: int = 0) -> list[dict[str, Any]]:
    """Return what the backend received of each span, without what differs between two spans or processes.

    Sorted, since requests sent at the same time arrive in either order.
    """
    spans = [{key: value for key, value in span.items() if key not in OF_ONE_SPAN} for span in backend.spans()[after:]]
    return sorted(spans, key=lambda span: json.dumps(span, sort_keys=True, default=repr))


def shown(span: CapturedSpan) -> tuple[Any, ...]:
    """Return what displays know of a span, without what differs between two spans."""
    name = span.name.encode("utf-8", "replace")  # OTLP holds no unpaired surrogates.
    return name, span.status, span.facts, span.scope, span.error, span.session_id, span.redacted, span.dropped


def both(backend: Backend, tracer: HoneyHiveTracer, worker: Executor, fn: Callable[..., None], *args: Any) -> None:
    """Run a function here and in the worker, and check that its spans arrive and are shown alike."""
    fn(*args)
    assert tracer.force_flush(20_000)
    here = delivered(backend)
    worker.submit(traced(fn), *args).result()
    assert tracer.force_flush(20_000)
    assert here
    assert delivered(backend, after=len(here)) == here
    rows: list[list[tuple[Any, ...]]] = []
    for call in (fn, lambda *args: worker.submit(traced(fn), *args).result()):
        with capture_spans() as spans:
            call(*args)
        rows.append([shown(span) for span in spans])
    assert rows[0] == rows[1]


@pytest.mark.parametrize("recording", RECORDINGS)
def test_recorded_spans_of_a_worker_are_those_of_this_process(
    backend: Backend, tracer: HoneyHiveTracer, worker: Executor, recording: str
) -> None:
    both(backend, tracer, worker, jobs.replay, recording)


def test_every_part_of_a_span_arrives(backend: Backend, tracer: HoneyHiveTracer, worker: Executor) -> None:
    both(backend, tracer, worker, jobs.make_every_part)
    here, there = backend.spans()
    assert (here["start_ns"], here["end_ns"]) == (there["start_ns"], there["end_ns"]) == (10, 20)
    assert here["trace_id"] == there["trace_id"] == f"{jobs.ELSEWHERE.trace_id:032x}"
    assert here["parent_span_id"] == there["parent_span_id"] == f"{jobs.ELSEWHERE.span_id:016x}"
    differing = {key for key in there["resource"] if there["resource"].get(key) != here["resource"].get(key)}
    assert differing <= OF_ONE_PROCESS
    assert "process.pid" in differing, "the worker's"


def test_an_event_that_came_as_a_log_record_arrives_as_an_event_of_the_span(
    backend: Backend, tracer: HoneyHiveTracer, worker: Executor
) -> None:
    both(backend, tracer, worker, jobs.write_event, "hello")
    assert [[event["name"] for event in span["events"]] for span in backend.spans()] == [["gen_ai.choice"]] * 2


VALUES = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(min_size=1), VALUES, max_size=8))
def test_any_attributes_arrive(tracer: HoneyHiveTracer, worker: Executor, attributes: dict[str, Any]) -> None:
    found = []
    for call in (jobs.set_attributes, lambda given: worker.submit(traced(jobs.set_attributes), given).result()):
        with capture_spans() as spans:
            call(attributes)
        found.append({key: _comparable(value) for key, value in spans[0].attributes.items()})
    assert found[0] == found[1]


def _comparable(value: object) -> object:
    """Distinguish 1 from 1.0 and True."""
    return (type(value), value, math.copysign(1, value) if isinstance(value, float) else 0)


def test_updates_of_a_worker_arrive_in_order(backend: Backend, tracer: HoneyHiveTracer, worker: Executor) -> None:
    worker.submit(traced(jobs.enrich_in_order), 20).result()
    assert tracer.force_flush(10_000)
    assert [request.body["metadata"]["number"] for request in updates(backend)] == list(range(20))


def test_an_update_of_a_worker_follows_the_span_of_its_event(
    backend: Backend, tracer: HoneyHiveTracer, worker: Executor
) -> None:
    """Also if the spans are more than are handled at once."""
    strict = StrictBackend(backend)
    worker.submit(traced(jobs.rate_last_span), 1_100, EVENT).result()
    assert tracer.force_flush(20_000)
    assert (strict.refused, len(updates(backend))) == (0, 1)


def test_spans_for_which_there_is_no_room_in_the_result_are_reported(
    backend: Backend, tracer: HoneyHiveTracer, worker: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    worker.submit(traced(jobs.make_one_too_large), TOO_LARGE).result()
    complete = tracer.force_flush(20_000)
    names = [span["name"] for span in backend.spans()]
    assert "first" in names
    assert complete == (len(names) == 3)
    assert complete or f"{3 - len(names)} spans of a worker were dropped" in caplog.text
