"""Rows made from stored spans equal those in the span log when the spans were finalized."""

from __future__ import annotations

import dataclasses
import os
from contextlib import suppress

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer
from opentelemetry.util.types import AttributeValue

from hh_jupyter.export.final_span import FinalizePolicy, final_span
from hh_jupyter.export.model import Origin, Session
from hh_jupyter.export.otlp import encode, records_of
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.redaction import Redactor

SESSION = Session("3f2504e0-4f89-41d3-9a0c-0305e82c3301", "s", project="p")


@pytest.fixture
def finished() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(finished: InMemorySpanExporter) -> Tracer:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(finished))
    return provider.get_tracer("my.library")


def finalized(spans: tuple[ReadableSpan, ...]) -> tuple[bytes, list[SpanRecord]]:
    """Return the stored body and the rows for the log."""
    policy = FinalizePolicy(Redactor(environ=os.environ), max_attributes=16)
    pairs = [
        final_span(span, Origin({}, SESSION, "c 1", span.parent and span.parent.span_id), policy, span.resource)
        for span in spans
    ]
    return encode([copy for copy, _ in pairs]), [row for _, row in pairs]


def test_every_field_of_a_row_is_restored(tracer: Tracer, finished: InMemorySpanExporter) -> None:
    llm: dict[str, AttributeValue] = {
        "openinference.span.kind": "LLM",
        "llm.model_name": "gpt-4o-mini",
        "llm.token_count.prompt": 12,
    }
    with suppress(ValueError), tracer.start_as_current_span("outer"):
        tracer.start_span("call", attributes={**llm, "password": "hunter2!"}).end()
        tracer.start_span("many", attributes={f"n{n}": n for n in range(30)}).end()
        raise ValueError("bad")
    body, expected = finalized(finished.get_finished_spans())
    rows = records_of(body, cell="c 1")
    assert rows == expected
    call, many, outer = rows
    assert (call.facts.event_type, call.facts.model, call.redacted) == ("model", "gpt-4o-mini", 1)
    assert (many.dropped, many.parent_id, many.scope) == (14, outer.span_id, "my.library")
    assert outer.error is not None
    assert (outer.status, outer.error.type, outer.session_id) == ("error", "ValueError", SESSION.id)


def test_the_cell_is_known_only_to_the_caller(tracer: Tracer, finished: InMemorySpanExporter) -> None:
    tracer.start_span("one").end()
    body, (expected,) = finalized(finished.get_finished_spans())
    assert records_of(body) == [dataclasses.replace(expected, cell=None)]
    assert len(records_of(body + body)) == 2, "bodies are joined by joining their bytes"


@pytest.mark.parametrize("body", [b"\xff\xff\xff", b"not an export at all", b""])
def test_bytes_that_are_not_an_export_request_have_no_rows(body: bytes) -> None:
    assert records_of(body) == []


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"honeyhive_event_type": "tool", "honeyhive_inputs.question": "why"},
        {"honeyhive_inputs.question": "why", "honeyhive_event_type": "model"},
        {"honeyhive_event_type": "mine"},
        {"openinference.span.kind": "LLM", "llm.model_name": "m"},
        {"openinference.span.kind": "LLM", "honeyhive_event_type": "chain"},
    ],
)
def test_a_type_that_the_sealer_wrote_is_not_mistaken_for_a_user_defined_one(
    tracer: Tracer, finished: InMemorySpanExporter, attributes: dict[str, AttributeValue]
) -> None:
    tracer.start_span("one", attributes=attributes).end()
    body, expected = finalized(finished.get_finished_spans())
    assert records_of(body, cell="c 1") == expected
