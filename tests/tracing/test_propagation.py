"""Headers carry the trace and its session to other services, and no internal baggage."""

from __future__ import annotations

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace

import hh_jupyter as hh
from hh_jupyter import HoneyHiveTracer
from hh_jupyter.testing import Backend

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


def test_headers_carry_the_current_session(tracer: HoneyHiveTracer) -> None:
    @hh.trace(event_type="tool")
    def decorated() -> str:
        return tracer.inject({})["baggage"]

    own = f"session_id={tracer.session_id},project=shop,source=dev"
    assert tracer.inject({})["baggage"] == own
    assert decorated() == own
    with tracer.start_span("work") as span:
        headers = tracer.inject({})
    assert headers["baggage"] == own
    assert headers["traceparent"].split("-")[2] == f"{span.get_span_context().span_id:016x}"
    with tracer.with_session("other") as other:
        assert tracer.inject({})["baggage"] == f"session_id={other},project=shop,source=dev"


def test_creating_a_tracer_does_not_change_the_context(backend: Backend) -> None:
    before = otel_context.get_current()
    with HoneyHiveTracer.init(api_key="test-key-0001", server_url=backend.url) as tracer:
        assert otel_context.get_current() == before
        with tracer.start_span("work"), tracer.with_session("s"):
            pass
        assert otel_context.get_current() == before


@pytest.mark.parametrize("name", ["traceparent", "Traceparent", "TRACEPARENT"])
def test_header_names_are_read_in_any_case(name: str, tracer: HoneyHiveTracer) -> None:
    context = tracer.extract_context({name: PARENT})
    assert f"{otel_trace.get_current_span(context).get_span_context().span_id:016x}" == SPAN


def test_a_project_name_with_special_characters_arrives_unchanged(backend: Backend) -> None:
    """Values are decoded exactly once, so a percent sign in the name survives."""
    project = "50%20 a+b, ü"
    with HoneyHiveTracer.init(api_key="test-key-0001", server_url=backend.url, project=project) as tracer:
        headers = tracer.inject({})
        with hh.with_distributed_trace_context(headers, tracer), tracer.start_span("work"):
            pass
        assert tracer.force_flush()
    assert backend.spans("work")[0]["attributes"]["honeyhive.project"] == project


def test_baggage_is_percent_decoded(backend: Backend, tracer: HoneyHiveTracer) -> None:
    carrier = {"Traceparent": PARENT, "Baggage": "project=a%20b,honeyhive_source=s%2C1"}
    with hh.with_distributed_trace_context(carrier, tracer), tracer.start_span("work"):
        pass
    assert tracer.force_flush()
    (span,) = backend.spans()
    assert (span["attributes"]["honeyhive.project"], span["attributes"]["honeyhive.source"]) == ("a b", "s,1")
    assert (span["trace_id"], span["parent_span_id"]) == (TRACE, SPAN)
