"""The test kit captures what code under test makes, sends nothing, and leaves everything as it was."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace
from opentelemetry.sdk.trace import TracerProvider

import hh_jupyter
from hh_jupyter import HoneyHiveTracer, SpanList, enrich_span, get_default_tracer, trace
from hh_jupyter.testing import Backend, capture_spans, sequential_ids, stepping_clock


@trace
def search(query: str) -> list[str]:
    return [query.upper()]


@trace(event_type="chain")
def answer(question: str) -> str:
    enrich_span(metadata={"tenant": "acme"})
    return search(question)[0]


@pytest.fixture(autouse=True)
def no_default_tracer() -> Iterator[None]:
    before = get_default_tracer()
    hh_jupyter.set_default_tracer(None)
    yield
    hh_jupyter.set_default_tracer(before)


def test_decorated_functions_are_captured_without_any_tracer() -> None:
    with capture_spans() as spans:
        answer("otlp?")
    assert [(span.name.rpartition(".")[2], span.status) for span in spans] == [("search", "ok"), ("answer", "ok")]
    outer = spans[1]
    assert spans.children(outer) == [spans[0]]
    assert spans.named(outer.name) == [outer]
    assert outer.facts.event_type == "chain"
    assert outer.attributes["honeyhive_metadata.tenant"] == "acme"
    assert (outer.content.input, outer.content.output) == ({"question": "otlp?"}, "OTLP?")
    assert outer.session_id == spans[0].session_id is not None


def test_the_spans_can_be_read_inside_the_block_and_stay_the_same_after_it() -> None:
    with capture_spans() as spans:
        search("a")
        assert len(spans) == 1
        search("b")
        assert len(spans) == 2
    with capture_spans() as others:
        search("c")
    assert (len(spans), len(others)) == (2, 1)


def test_an_exception_leaves_the_block_and_its_span_is_captured() -> None:
    @trace
    def fail() -> None:
        raise LookupError("no such key")

    with pytest.raises(LookupError), capture_spans() as spans:
        fail()
    (span,) = spans
    assert span.error is not None
    assert (span.status, span.error.type, span.error.message) == ("error", "LookupError", "no such key")
    assert [event.name for event in span.events] == ["exception"]


def test_spans_of_threads_and_of_plain_opentelemetry_are_captured() -> None:
    with capture_spans() as spans:
        thread = threading.Thread(target=search, args=("a",))
        thread.start()
        thread.join()
        with otel_trace.get_tracer("library").start_as_current_span("request"):
            pass
    assert sorted(span.name.rpartition(".")[2] for span in spans) == ["request", "search"]


def test_a_tracer_that_a_module_keeps_is_captured_in_each_block() -> None:
    kept = otel_trace.get_tracer("a module's own")
    found = []
    for _ in range(2):
        with capture_spans() as spans:
            kept.start_span("kept").end()
        found.append(len(spans))
    assert found == [1, 1]


def test_a_tracer_with_a_key_sends_nothing_inside_the_block_and_sends_again_after_it(backend: Backend) -> None:
    with HoneyHiveTracer.init(api_key="test-key", server_url=backend.url, session_name="app") as tracer:
        tracer.force_flush()
        requests = len(backend.requests)
        with capture_spans() as spans, tracer.start_span("captured"):
            tracer.create_session("a customer")
        assert tracer.force_flush()
        assert [span.name for span in spans] == ["captured"]
        assert len(backend.requests) == requests
        tracer.start_span("sent").__enter__().end()
        assert tracer.force_flush()
    assert [span["name"] for span in backend.spans()] == ["sent"]


def test_a_tracer_that_the_code_makes_inside_the_block_sends_nothing(backend: Backend) -> None:
    def serve() -> None:
        with HoneyHiveTracer.init(api_key="test-key", server_url=backend.url) as tracer, tracer.start_span("work"):
            pass

    with capture_spans() as spans:
        serve()
    assert [span.name for span in spans] == ["work"]
    assert backend.requests == []


def test_the_block_leaves_default_tracer_session_and_context_as_they_were() -> None:
    before = otel_context.get_current()
    with capture_spans():
        made = get_default_tracer()
        assert made is not None
        made.create_session("a customer")
    assert get_default_tracer() is None
    assert made.closed
    assert otel_context.get_current() is before


def test_a_default_tracer_that_the_code_sets_inside_the_block_is_not_the_default_after_it() -> None:
    with HoneyHiveTracer.init(test_mode=True) as tracer:
        hh_jupyter.set_default_tracer(None)
        with capture_spans():
            hh_jupyter.set_default_tracer(tracer)
        assert get_default_tracer() is None


def test_a_default_tracer_that_is_shut_down_inside_the_block_is_not_the_default_after_it() -> None:
    with HoneyHiveTracer.init(test_mode=True) as tracer:
        assert get_default_tracer() is tracer
        with capture_spans():
            tracer.shutdown()
        assert get_default_tracer() is None


def test_spans_that_ended_before_the_block_are_not_captured() -> None:
    with HoneyHiveTracer.init(test_mode=True):
        for _ in range(300):
            search("before")
        with capture_spans() as spans:
            pass
        assert len(spans) == 0


@pytest.mark.slow
def test_captured_spans_that_are_no_longer_used_are_freed() -> None:
    with capture_spans() as spans:
        search("a")
    reference = weakref.ref(spans)
    del spans
    gc.collect()
    assert reference() is None


def test_the_global_provider_can_still_be_set_after_the_block() -> None:
    code = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from hh_jupyter.testing import capture_spans
with capture_spans():
    assert isinstance(trace.get_tracer_provider(), TracerProvider)
assert not isinstance(trace.get_tracer_provider(), TracerProvider)
theirs = TracerProvider()
trace.set_tracer_provider(theirs)
assert trace.get_tracer_provider() is theirs
with capture_spans() as spans:
    theirs.get_tracer("app").start_span("theirs").end()
assert [span.name for span in spans] == ["theirs"]
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_ids_count_from_one_in_each_block() -> None:
    for _ in range(2):
        with sequential_ids(), capture_spans() as spans:
            answer("a")
        assert [(span.trace_id, span.span_id, span.parent_id) for span in spans] == [(1, 2, 1), (1, 1, None)]
        assert {span.session_id for span in spans} == {"00000000-0000-4000-8000-000000000001"}


def test_ids_of_any_provider_count_from_one() -> None:
    with sequential_ids():
        span = TracerProvider().get_tracer("app").start_span("work")
    assert (span.get_span_context().trace_id, span.get_span_context().span_id) == (1, 1)


def test_ids_are_random_again_after_the_block() -> None:
    with sequential_ids():
        pass
    with capture_spans() as spans:
        search("a")
    assert spans[0].trace_id > 2**32


def test_a_span_lasts_one_step_of_the_clock() -> None:
    with stepping_clock(), capture_spans() as spans:
        answer("a")
    assert [(span.duration_ns, span.attributes["honeyhive_duration_ms"]) for span in spans] == [
        (1_000_000_000, 1000.0), (3_000_000_000, 3000.0),
    ]  # fmt: skip
    assert spans[1].start_ns == 1_735_689_600_000_000_000
    with stepping_clock(step_seconds=0.25, start_ns=7), capture_spans() as spans:
        search("a")
    assert (spans[0].start_ns, spans[0].duration_ns) == (7, 250_000_000)


def test_captured_spans_can_be_shown_as_a_tree() -> None:
    with stepping_clock(), capture_spans() as spans:
        answer("a")
    assert "search" in repr(SpanList(spans))
    assert SpanList(spans).totals.spans == 2


def test_importing_the_package_does_not_import_the_test_kit() -> None:
    code = "import sys, hh_jupyter, hh_jupyter.query\nassert 'hh_jupyter.testing' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
