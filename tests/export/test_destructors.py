"""Spans may end in destructors, threads and signal handlers: none is lost and nothing deadlocks."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator

import pytest

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.testing import Backend


class Leaky:
    """A reference cycle whose destructor ends a span when, and on the thread where, it is garbage-collected."""

    def __init__(self, tracer: HoneyHiveTracer, name: str) -> None:
        self.myself = self
        self._span = tracer.otel_tracer.start_span(name)

    def __del__(self) -> None:
        self._span.end()


@pytest.fixture
def pressure() -> Iterator[None]:
    """Collect garbage at nearly every allocation and switch threads at nearly every bytecode."""
    threshold, interval = gc.get_threshold(), sys.getswitchinterval()
    gc.set_threshold(20)
    sys.setswitchinterval(1e-5)
    yield
    gc.set_threshold(*threshold)
    sys.setswitchinterval(interval)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_spans_ended_by_garbage_collection_in_many_threads_all_arrive(backend: Backend, pressure: None) -> None:
    """Meanwhile sessions are created and counts are read."""
    tracer = HoneyHiveTracer.init(api_key="k", server_url=backend.url)
    threads, each = 4, 1_000

    def work(thread: int) -> None:
        for number in range(each):
            Leaky(tracer, f"{thread}/{number}")
            if number % 100 == 0:
                tracer.create_session("meanwhile")
                tracer.export_state()

    running = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(60)
        assert not thread.is_alive(), "deadlock"
    gc.collect()
    wanted = {f"{thread}/{number}" for thread in range(threads) for number in range(each)}
    # A collection started by another thread may still end spans, so flush until all have arrived; lost ones never do.
    for _ in range(20):
        assert tracer.force_flush()
        if tracer.export_state().sent == len(wanted):
            break
        gc.collect()
    assert sorted(span["name"] for span in backend.spans()) == sorted(wanted)
    tracer.shutdown()


def test_threads_that_end_spans_faster_than_they_can_be_sent_lose_none(backend: Backend) -> None:
    tracer = HoneyHiveTracer.init(api_key="k", server_url=backend.url)

    def work() -> None:
        for number in range(2_500):
            with tracer.start_span(str(number)):
                pass

    running = [threading.Thread(target=work) for _ in range(4)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(60)
        assert not thread.is_alive(), "deadlock"
    assert tracer.force_flush()
    assert len({span["span_id"] for span in backend.spans()}) == tracer.export_state().sent == 10_000
    tracer.shutdown()


@pytest.mark.slow
def test_a_flush_in_a_destructor_returns_and_what_it_left_is_sent_later(backend: Backend, pressure: None) -> None:
    tracer = HoneyHiveTracer.init(api_key="k", server_url=backend.url)

    class Flushes(Leaky):
        def __del__(self) -> None:
            super().__del__()
            tracer.force_flush(50)

    for number in range(40):
        Flushes(tracer, f"leaky {number}")
        with tracer.start_span(f"between {number}"):
            pass
    gc.collect()
    assert any(tracer.force_flush() for _ in range(3))
    assert len({span["name"] for span in backend.spans()}) == 80
    tracer.shutdown()
