"""`enrich_span_context`: a span with all fields from its start, in the given session."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import context as otel_context

import hh_jupyter as hh
from hh_jupyter import HoneyHiveTracer
from hh_jupyter.testing import Backend

OTHER = "23232323-2323-4323-8323-232323232323"


def test_session_source_and_project_apply_to_the_span_and_its_children(
    backend: Backend, tracer: HoneyHiveTracer
) -> None:
    before = otel_context.get_current()
    overrides: dict[str, Any] = {"session_id": OTHER, "project": "p2", "source": "s2"}
    with (
        hh.enrich_span_context("outer", **overrides, tracer_instance=tracer),
        tracer.start_span("inner"),
    ):
        pass
    assert otel_context.get_current() == before
    assert tracer.force_flush()
    for span in backend.spans():
        found = {name: span["attributes"][f"honeyhive.{name}"] for name in overrides}
        assert found == overrides, span["name"]
    assert len(backend.spans()) == 2


def test_an_exception_is_recorded_once_and_propagates(backend: Backend, tracer: HoneyHiveTracer) -> None:
    thrown = ValueError("boom")
    with pytest.raises(ValueError, match="boom") as caught, hh.enrich_span_context("fails", tracer_instance=tracer):
        raise thrown
    assert caught.value is thrown
    assert tracer.force_flush()
    (span,) = backend.spans()
    assert [event["name"] for event in span["events"]] == ["exception"]
    assert span["status"]["code"] == "ERROR"
