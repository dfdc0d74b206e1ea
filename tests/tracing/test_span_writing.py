"""`set_span_attributes` sets the same attributes as the SDK, and calls the SDK if the span has limits or has ended."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.trace import INVALID_SPAN, Span

from hh_jupyter import HoneyHiveTracer, trace
from hh_jupyter.testing import Backend
from hh_jupyter.tracing.spans import set_span_attributes
from hh_jupyter.values import Scalar

WRITTEN: dict[str, Scalar] = {"text": "é", "number": 1, "yes": True, "half": 0.5}
UNLIMITED = TracerProvider(span_limits=SpanLimits(max_span_attributes=SpanLimits.UNSET))


def attributes_of(span: Span) -> dict[str, object]:
    assert isinstance(span, ReadableSpan)
    return dict(span.attributes or {})


def test_the_attributes_are_those_that_the_sdk_would_set() -> None:
    quick, slow = (UNLIMITED.get_tracer("t").start_span("s", attributes={"number": 0, "a": 1}) for _ in range(2))
    set_span_attributes(quick, WRITTEN)
    slow.set_attributes(WRITTEN)
    assert attributes_of(quick) == attributes_of(slow)


def test_the_installed_sdk_allows_the_fast_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, spans are still correct, but every traced call costs a quarter more."""
    span = UNLIMITED.get_tracer("t").start_span("s")

    def checked(*_: object) -> None:
        raise AssertionError("the SDK checked every value")

    monkeypatch.setattr(BoundedAttributes, "_set_items", checked)
    set_span_attributes(span, WRITTEN)
    assert attributes_of(span) == WRITTEN


def test_the_limits_of_a_provider_apply() -> None:
    few = TracerProvider(span_limits=SpanLimits(max_span_attributes=2)).get_tracer("t").start_span("s")
    set_span_attributes(few, {"a": 0, "b": 1, "c": 2})
    assert attributes_of(few) == {"b": 1, "c": 2}
    short = SpanLimits(max_span_attributes=SpanLimits.UNSET, max_span_attribute_length=3)
    span = TracerProvider(span_limits=short).get_tracer("t").start_span("s")
    set_span_attributes(span, {"a": "long text"})
    assert attributes_of(span) == {"a": "lon"}


def test_an_ended_span_is_not_changed() -> None:
    span = UNLIMITED.get_tracer("t").start_span("s", attributes={"a": 1})
    span.end()
    set_span_attributes(span, WRITTEN)
    assert attributes_of(span) == {"a": 1}


def test_spans_of_other_sdks_get_their_attributes_by_set_attributes() -> None:
    class Foreign(type(INVALID_SPAN)):  # type: ignore[misc]
        _attributes = object()
        found: dict[str, object]

        def set_attributes(self, attributes: dict[str, object]) -> None:
            self.found = attributes

    span = Foreign(INVALID_SPAN.get_span_context())
    set_span_attributes(span, WRITTEN)
    assert span.found == WRITTEN
    set_span_attributes(INVALID_SPAN, WRITTEN)


def test_inputs_are_set_while_the_function_runs(backend: Backend) -> None:
    tracer = HoneyHiveTracer.init(api_key="k", server_url=backend.url)

    @trace(event_type="chain")
    def work(question: str) -> None:
        tracer.enrich_span(inputs={"question": "asked anew"})

    work("asked first")
    assert tracer.force_flush()
    (span,) = backend.spans()
    assert span["attributes"]["honeyhive_inputs.question"] == "asked anew"
    assert span["attributes"]["honeyhive_event_type"] == "chain"
    tracer.shutdown()


def test_custom_samplers_and_processors_see_the_inputs_at_the_start() -> None:
    program = """
        from opentelemetry import trace as otel
        from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON
        from hh_jupyter import HoneyHiveTracer, trace
        from hh_jupyter.settings import resolve

        seen = []

        class Sampler(type(ALWAYS_ON)):
            def should_sample(self, context, trace_id, name, kind=None, attributes=None, *rest, **more):
                seen.append(dict(attributes or {}))
                return super().should_sample(context, trace_id, name, kind, attributes, *rest, **more)

        class Processor(SpanProcessor):
            def on_start(self, span, parent_context=None):
                seen.append(dict(span.attributes))

        provider = TracerProvider(sampler=Sampler(ALWAYS_ON._decision))
        provider.add_span_processor(Processor())
        otel.set_tracer_provider(provider)
        tracer = HoneyHiveTracer.from_settings(resolve({}), name="joined", join=True)

        @trace(event_type="tool")
        def work(a):
            pass

        work(1)
        print(len(seen), all(one["honeyhive_inputs.a"] == 1 for one in seen))
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "2 True"
