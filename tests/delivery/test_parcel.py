"""Everything that sealing reads survives the transfer of spans between processes."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from hh_jupyter.delivery.away import Address, Kept
from hh_jupyter.delivery.parcel import MOST_BYTES, opened, packed
from hh_jupyter.delivery.sealing.encoding import encode
from hh_jupyter.delivery.sealing.resource import own_resource
from hh_jupyter.delivery.sealing.sealed_span import SealPolicy, encodable, seal
from hh_jupyter.delivery.sealing.stamp import Stamp
from hh_jupyter.delivery.sending.item import Call
from hh_jupyter.redaction import Redactor
from hh_jupyter.settings import resolve
from tests.spans import RECORDINGS, recorded

ADDRESS = Address("process", "tracer", "3-run")
STAMP = Stamp(MappingProxyType({"session_id": "s", "project": "p"}), None, "3-run", 7)
POLICY = SealPolicy(Redactor(enabled=True))


def there_and_back(*spans: ReadableSpan) -> list[ReadableSpan]:
    parcel = packed([Kept((span, STAMP), ADDRESS) for span in spans], 0, "process", ("call", 1))
    found = opened(parcel)
    assert (found.process, found.receipt, found.dropped) == ("process", ("call", 1), 0)
    assert {(tracer, stamp.cell, stamp.parent_id) for tracer, _, stamp in found.spans} == {("tracer", "3-run", 7)}
    return [span for _, span, _ in found.spans]


def sealed(span: ReadableSpan) -> tuple[Any, ...]:
    """Return the delivered span and its row, without the resource, which also names the worker."""
    final, record = seal(span, STAMP, POLICY, span.resource)
    resource = {
        key: value for key, value in span.resource.attributes.items() if key not in ("host.name", "process.pid")
    }
    final = encodable(final)
    return encode([final._replace(resource=own_resource(resolve({})))]), resource, dataclasses.asdict(record)


@pytest.mark.parametrize("name", RECORDINGS)
def test_recorded_spans_are_sealed_like_spans_of_this_process(name: str) -> None:
    spans = recorded(name)
    assert [sealed(span) for span in there_and_back(*spans)] == [sealed(span) for span in spans]


def test_every_part_of_a_span_arrives() -> None:
    context = SpanContext(2**127 + 1, 2**63 + 1, False, TraceFlags(1), TraceState([("vendor", "value")]))
    parent = SpanContext(2**127 + 1, 5, True, TraceFlags(1))
    span = ReadableSpan(
        name="na\ud800me",
        context=context,
        parent=parent,
        resource=TracerProvider().resource,
        attributes={"text": "t", "int": 2**70, "float": float("inf"), "bool": True, "list": ("a", "b"), "bytes": b"x"},
        events=[Event("event", {"key": 1}, 17)],
        links=[Link(parent, {"key": "value"})],
        kind=SpanKind.CLIENT,
        status=Status(StatusCode.ERROR, "why"),
        start_time=10,
        end_time=20,
        instrumentation_scope=InstrumentationScope("scope", "1.0", "https://schema", {"a": 1}),
    )
    (arrived,) = there_and_back(span)
    assert sealed(arrived) == sealed(span)
    assert (arrived.context, arrived.parent) == (context, parent)
    assert arrived.instrumentation_scope == span.instrumentation_scope
    assert set(arrived.resource.attributes) - set(span.resource.attributes) == {"host.name", "process.pid"}


def test_events_that_came_as_log_records_arrive_as_events_of_the_span() -> None:
    (span,) = recorded("openinference-openai-chat.json")[:1]
    stamp = STAMP._replace(events=(Event("gen_ai.choice", {"gen_ai.event.content": "{}"}, 17),))
    found = opened(packed([Kept((span, stamp), ADDRESS)], 0, "process", ("call", 1)))
    ((_, arrived, _),) = found.spans
    assert [event.name for event in arrived.events] == [*(event.name for event in span.events), "gen_ai.choice"]


def test_spans_of_one_worker_share_one_resource_and_one_scope() -> None:
    resource, scope = TracerProvider().resource, InstrumentationScope("scope")
    context = SpanContext(1, 2, False)
    spans = [ReadableSpan("name", context, resource=resource, instrumentation_scope=scope) for _ in range(3)]
    arrived = [*there_and_back(*spans), *there_and_back(*spans)]
    assert (
        len({id(span.resource) for span in arrived}) == len({id(span.instrumentation_scope) for span in arrived}) == 1
    )


@given(st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()))
def test_any_attributes_arrive(attributes: dict[str, Any]) -> None:
    (arrived,) = there_and_back(ReadableSpan("name", SpanContext(1, 2, False), attributes=attributes))
    assert dict(arrived.attributes or {}) == attributes


def test_calls_arrive_in_order() -> None:
    calls = [Call("event_update", str(number), {"n": number}, number == 1) for number in range(3)]
    found = opened(packed([Kept(call, ADDRESS) for call in calls], 4, "process", ("call", 1)))
    assert found.calls == [("tracer", call, "3-run") for call in calls]
    assert found.dropped == 4


def test_items_that_are_too_large_or_cannot_be_encoded_are_skipped_and_counted() -> None:
    def span(value: Any) -> Kept:
        return Kept((ReadableSpan("name", SpanContext(1, 2, False), attributes={"key": value}), STAMP), ADDRESS)

    unwritable = Kept(Call("event_update", "id", {"key": object()}), ADDRESS)
    found = opened(packed([span(1), unwritable, span("x" * (MOST_BYTES + 1)), span(2)], 0, "process", ("call", 1)))
    assert [dict(each.attributes or {}) for _, each, _ in found.spans] == [{"key": 1}]
    assert found.dropped == 3
