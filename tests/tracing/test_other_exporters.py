"""If another exporter of the provider sends a span to our backend, we show the span but do not send it again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult

from hh_jupyter import HoneyHiveTracer, attributes
from hh_jupyter.testing import Backend
from hh_jupyter.testing.responses import SESSION_START, TRACES
from hh_jupyter.tracing.span_store import span_log

KEY = "test-key-0001"


class Wrapped(SpanProcessor):
    """A processor that wraps another one, as Logfire and honeyhive do."""

    def __init__(self, inner: SpanProcessor) -> None:
        self.inner = inner

    def on_end(self, span: ReadableSpan) -> None:
        self.inner.on_end(span)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self.inner.force_flush(timeout_millis)


class JsonExporter(SpanExporter):
    """An exporter that holds its URL as honeyhive's does, and collects span names instead of sending them."""

    def __init__(self, endpoint: str, key: str) -> None:
        self.endpoint, self.headers = endpoint, {"Authorization": f"Bearer {key}"}
        self.names: list[str] = []

    def export(self, spans: Any) -> SpanExportResult:
        self.names += [span.name for span in spans]
        return SpanExportResult.SUCCESS


class ClaimsItsSession(SpanProcessor):
    """Sets the session as an attribute of the span, as honeyhive's processor does."""

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        span.set_attribute(
            attributes.SESSION_ID, str(baggage.get_baggage(attributes.BAGGAGE_SESSION_ID, parent_context))
        )


@pytest.fixture
def make() -> Iterator[Callable[..., HoneyHiveTracer]]:
    """Make tracers with their own providers, since a processor cannot be removed from a provider."""
    with ExitStack() as stack:
        stack.enter_context(HoneyHiveTracer.init(test_mode=True))  # It has the global provider, if any of these.

        def made(**settings: Any) -> HoneyHiveTracer:
            tracer = stack.enter_context(HoneyHiveTracer.init(api_key=KEY, session_name="startup", **settings))
            assert isinstance(tracer.provider, TracerProvider)
            stack.callback(tracer.provider.shutdown)
            return tracer

        yield made


@pytest.fixture
def tracer(backend: Backend, make: Callable[..., HoneyHiveTracer]) -> HoneyHiveTracer:
    return make(server_url=backend.url)


def exporter(backend: Backend) -> OTLPSpanExporter:
    return OTLPSpanExporter(endpoint=backend.url + TRACES, headers={"authorization": f"Bearer {KEY}"})


def add(tracer: HoneyHiveTracer, processor: SpanProcessor) -> None:
    assert isinstance(tracer.provider, TracerProvider)
    tracer.provider.add_span_processor(processor)


def trace(tracer: HoneyHiveTracer, name: str) -> None:
    with tracer.start_span(name):
        pass
    assert tracer.force_flush(10_000)
    assert isinstance(tracer.provider, TracerProvider)
    assert tracer.provider.force_flush(10_000)


def arrived(backend: Backend) -> list[str]:
    return sorted(span["name"] for span in backend.spans())


@pytest.mark.parametrize(
    "processor",
    [BatchSpanProcessor, SimpleSpanProcessor, lambda made: Wrapped(BatchSpanProcessor(made))],
    ids=["batch", "simple", "wrapped"],
)
def test_a_span_that_another_exporter_sends_arrives_once_and_is_shown(
    backend: Backend, tracer: HoneyHiveTracer, processor: Callable[[SpanExporter], SpanProcessor]
) -> None:
    left = [tracer.exported_elsewhere]
    trace(tracer, "before")
    add(tracer, processor(exporter(backend)))
    left.append(tracer.exported_elsewhere)
    trace(tracer, "after")
    assert left == [False, True]
    assert arrived(backend) == ["after", "before"]
    assert [row.name for row in span_log().records()][-2:] == ["before", "after"]
    state = tracer.export_state()
    assert (state.made, state.sent, state.exported_elsewhere) == (1, 1, 1)


def test_an_exporter_of_another_library_is_recognised_by_its_url(backend: Backend, tracer: HoneyHiveTracer) -> None:
    theirs = JsonExporter(backend.url + TRACES, KEY)
    add(tracer, SimpleSpanProcessor(theirs))
    trace(tracer, "theirs")
    assert (theirs.names, arrived(backend)) == (["theirs"], [])


@pytest.mark.parametrize("other", [{"key": "another-project-01"}, {"path": "/v1/traces"}])
def test_another_key_or_path_is_another_destination(
    backend: Backend, tracer: HoneyHiveTracer, other: dict[str, str]
) -> None:
    theirs = JsonExporter(backend.url + other.get("path", TRACES), other.get("key", KEY))
    add(tracer, SimpleSpanProcessor(theirs))
    trace(tracer, "ours")
    assert theirs.names == ["ours"]
    assert arrived(backend) == ["ours"]


def test_spans_are_sent_if_the_other_exporter_is_shut_down(backend: Backend, tracer: HoneyHiveTracer) -> None:
    theirs = BatchSpanProcessor(exporter(backend))
    add(tracer, theirs)
    trace(tracer, "theirs")
    theirs.shutdown()
    with tracer.start_span("ours"):
        pass
    assert tracer.force_flush(10_000)
    assert arrived(backend) == ["ours", "theirs"]
    state = tracer.export_state()
    assert (state.made, state.sent, state.exported_elsewhere) == (1, 1, 1)


def test_a_session_without_own_spans_is_not_created_unless_spans_of_other_exporters_name_it(
    backend: Backend, tracer: HoneyHiveTracer
) -> None:
    add(tracer, BatchSpanProcessor(exporter(backend)))

    def session(name: str) -> None:
        made = tracer.new_session(name, register="first_span")
        token = otel_context.attach(baggage.set_baggage(attributes.BAGGAGE_SESSION_ID, made.id))
        trace(tracer, f"in {name}")
        otel_context.detach(token)

    session("silent")
    add(tracer, ClaimsItsSession())
    session("named")
    backend.wait_for(lambda b: any(request.path == SESSION_START for request in b.requests))
    assert [made["session_name"] for made in backend.sessions()] == ["startup", "named"]
    assert arrived(backend) == ["in named", "in silent"]


def test_another_destination_of_the_tracer_still_receives_the_span(
    backend: Backend, make: Callable[..., HoneyHiveTracer], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Backend() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", collector.url + TRACES)
        tracer = make(exporter="honeyhive,otlp", server_url=backend.url)
        add(tracer, SimpleSpanProcessor(exporter(backend)))
        assert not tracer.exported_elsewhere
        trace(tracer, "once each")
        assert (arrived(backend), arrived(collector)) == (["once each"], ["once each"])
        assert tracer.export_state().word == "Sent"
