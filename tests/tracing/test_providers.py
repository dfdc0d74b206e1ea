"""Which TracerProvider a tracer uses, whose spans it records, and which providers it leaves alone."""

from __future__ import annotations

import pytest
from opentelemetry import trace as otel_trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.testing import Backend
from tests.tracing.process import run


def test_the_first_tracer_sets_the_global_provider_and_a_tracer_after_its_shutdown_reuses_it() -> None:
    printed = run(
        """
        from opentelemetry import trace
        from hh_jupyter import HoneyHiveTracer
        one = HoneyHiveTracer.init()
        assert trace.get_tracer_provider() is one.provider
        two = HoneyHiveTracer.init()
        assert two.provider is not one.provider
        one.shutdown()
        three = HoneyHiveTracer.init()
        assert three.provider is trace.get_tracer_provider()
        with trace.get_tracer("library").start_as_current_span("library's"):
            pass
        three.wait_processed()
        print(one.export_state().made, two.export_state().made, three.export_state().made)
        """
    )
    assert printed == "0 0 1"


def test_a_foreign_global_provider_is_left_alone_unless_joined() -> None:
    printed = run(
        """
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        from hh_jupyter import HoneyHiveTracer
        from hh_jupyter.settings import resolve
        mine, memory = TracerProvider(), InMemorySpanExporter()
        mine.add_span_processor(SimpleSpanProcessor(memory))
        trace.set_tracer_provider(mine)
        apart = HoneyHiveTracer.init()
        joined = HoneyHiveTracer.from_settings(resolve({}), name="joined", join=True)
        assert apart.provider is not mine and joined.provider is mine
        with joined.start_span("shared"), apart.start_span("own"):
            pass
        apart.wait_processed(), joined.wait_processed()
        joined.shutdown()
        with trace.get_tracer("app").start_as_current_span("later"):
            pass
        shared, later = memory.get_finished_spans()
        print(shared.name, dict(shared.attributes), later.name, apart.export_state().made, joined.export_state().made)
        """
    )
    assert printed == "shared {} later 1 1"


def test_each_tracer_sends_to_its_own_backend_with_its_own_key() -> None:
    with Backend() as first, Backend() as second:
        one = HoneyHiveTracer.init(api_key="key-one", server_url=first.url)
        two = HoneyHiveTracer.init(api_key="key-two", server_url=second.url)
        with one.start_span("one"), two.start_span("two"):
            pass
        assert one.force_flush()
        assert two.force_flush()
        one.shutdown()
        two.shutdown()
        for backend, key, name in ((first, "key-one", "one"), (second, "key-two", "two")):
            assert [span["name"] for span in backend.spans()] == [name]
            assert {request.headers["authorization"] for request in backend.requests} == {f"Bearer {key}"}


@pytest.mark.parametrize(("flags", "recorded"), [("01", ["request", "step"]), ("00", [])])
def test_a_remote_parent_that_is_not_sampled_has_no_spans_here(
    backend: Backend, tracer: HoneyHiveTracer, flags: str, recorded: list[str]
) -> None:
    parent = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-{flags}", "tracestate": "vendor=1"}
    context = TraceContextTextMapPropagator().extract(parent)
    otel_tracer = tracer.provider.get_tracer("framework")
    with otel_tracer.start_as_current_span("request", context) as span, otel_tracer.start_as_current_span("step"):
        assert dict(span.get_span_context().trace_state) == {"vendor": "1"}
    assert tracer.force_flush()
    assert sorted(span["name"] for span in backend.spans()) == recorded


def test_flushing_the_provider_sends_the_spans(backend: Backend, tracer: HoneyHiveTracer) -> None:
    """Wrappers of Lambda handlers know only the provider, and the process is frozen afterwards."""
    with tracer.start_span("work"):
        pass
    assert isinstance(tracer.provider, TracerProvider)
    assert tracer.provider.force_flush(10_000)
    assert [span["name"] for span in backend.spans()] == ["work"]
    backend.close()
    with tracer.start_span("lost"):
        pass
    assert not tracer.provider.force_flush(300), "the backend is unreachable"


def test_the_parent_of_a_filtered_spans_child_is_the_nearest_kept_ancestor(backend: Backend) -> None:
    filters = {"exclude": [{"type": "prefix", "value": "noise"}]}
    with HoneyHiveTracer.init(api_key="k", server_url=backend.url, span_name_filters=filters) as tracer:
        with (
            tracer.start_span("keep"),
            tracer.start_span("noise 1"),
            tracer.start_span("noise 2"),
            tracer.start_span("leaf"),
        ):
            pass
        with tracer.start_span("noise root"), tracer.start_span("root now"):
            pass
        assert tracer.force_flush()
    spans = {span["name"]: span for span in backend.spans()}
    assert set(spans) == {"keep", "leaf", "root now"}
    assert spans["leaf"]["parent_span_id"] == spans["keep"]["span_id"]
    assert spans["root now"]["parent_span_id"] is None


def test_a_shut_down_tracer_records_nothing_and_leaves_no_thread() -> None:
    printed = run(
        """
        import threading, time
        from hh_jupyter import HoneyHiveTracer, trace
        for _ in range(10):
            tracer = HoneyHiveTracer.init(api_key="k", server_url="http://127.0.0.1:9", exit_flush_seconds=0.0)
            tracer.shutdown()
        with tracer.start_span("nothing") as span:
            assert not span.is_recording()
        assert trace(lambda: 7)() == 7
        deadline = time.monotonic() + 30  # The threads have been asked to stop, and do so when they are scheduled.
        while threading.active_count() > 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        print([thread.name for thread in threading.enumerate()])
        """
    )
    assert printed == "['MainThread']"


def test_the_global_provider_of_this_process_is_never_shut_down_by_a_tracer() -> None:
    with HoneyHiveTracer.init():
        provider = otel_trace.get_tracer_provider()
    with provider.get_tracer("app").start_as_current_span("still recording") as span:
        assert span.is_recording()
