"""Any ended span is finalized within the limits, states what was removed, and contains no secrets."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.testing import CapturedSpan, capture_spans
from tests.any_value import Number, Word

MOST = 16
LARGEST = 3_000
SECRET = "sk-proj-" + "a1B2" * 12
CORE = {
    "honeyhive.session_id",
    "traceloop.association.properties.session_id",
    "honeyhive.source",
    "traceloop.association.properties.source",
    "honeyhive_event_type",
}
OWN = {*CORE, "honeyhive_metadata.hh_truncated", "honeyhive_metadata.hh_redacted"}
SHARED_TRACER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


class Name(str, enum.Enum):  # noqa: UP042  # what most programs use; its str() differs from that of StrEnum
    SECRET = SECRET


class Real(float):
    """A float subclass, like numpy's."""


KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30) | st.sampled_from(
    ["x" * 5_000, "honeyhive_outputs.result", "gen_ai.request.model"]
)
SCALARS = (
    st.text(max_size=50)
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.binary(max_size=50)
    | st.sampled_from([Word("word"), Number(7), Real(0.5), "y" * 2_000, b"\xff" * 5_000])
)
VALUES = SCALARS | st.lists(st.none() | st.text(max_size=20), max_size=4) | st.lists(st.integers(), max_size=200)


@pytest.fixture
def tracer() -> Iterator[HoneyHiveTracer]:
    """A tracer that sends nothing."""
    made = HoneyHiveTracer.init(test_mode=True, max_attributes=MOST, max_span_size=LARGEST)
    yield made
    made.shutdown()


def finalized(
    tracer: HoneyHiveTracer, attributes: dict[str, Any], events: tuple[dict[str, Any], ...] = ()
) -> tuple[CapturedSpan, int]:
    """Return one span in its final form, and its number of attributes at the end."""
    with capture_spans() as spans:
        span: Any = tracer.provider.get_tracer("another library").start_span("subject")
        for key, value in attributes.items():
            span.set_attribute(key, value)
        for event in events:
            span.add_event("event", event)
        span.end()
    (found,) = spans
    return found, len(span.attributes) + sum(len(event.attributes) for event in span.events)


def size(attributes: Any) -> int:
    values = [item for value in attributes.values() for item in (value if isinstance(value, list) else [value])]
    return sum(map(len, attributes)) + sum(len(value) for value in values if isinstance(value, str))


@pytest.mark.slow
@settings(SHARED_TRACER, max_examples=200)
@given(
    attributes=st.dictionaries(KEYS, VALUES, max_size=40),
    events=st.lists(st.dictionaries(KEYS, VALUES, max_size=3), max_size=3).map(tuple),
)
def test_a_finalized_span_is_within_its_limits_and_states_what_was_removed(
    tracer: HoneyHiveTracer, attributes: dict[str, Any], events: tuple[dict[str, Any], ...]
) -> None:
    span, before = finalized(tracer, attributes, events)
    own = {key: value for key, value in span.attributes.items() if key not in OWN}
    assert set(span.attributes) >= CORE
    assert len(own) <= MOST
    assert size(own) + sum(size(event.attributes) for event in span.events) <= LARGEST
    lost = before - len(own) - sum(len(event.attributes) for event in span.events)
    assert span.dropped == lost
    assert span.attributes.get("honeyhive_metadata.hh_truncated") == (f"{lost} attributes" if lost else None)
    assert len(span.events) == len(events)


@settings(SHARED_TRACER, max_examples=150)
@given(value=st.recursive(VALUES, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=10))
def test_a_span_with_any_value_is_finalized(tracer: HoneyHiveTracer, value: Any) -> None:
    """This includes dicts and nested lists, which newer versions of OpenTelemetry accept."""
    span, _ = finalized(tracer, {"v": value}, ({"v": value},))
    assert span.name == "subject"
    assert set(span.attributes) >= CORE


@pytest.mark.parametrize(
    "value",
    [
        SECRET,
        Word(SECRET),
        Name.SECRET,
        [SECRET],
        [None, SECRET],
        [Word(SECRET)],
        SECRET.encode(),
        {"deep": {"inside": [SECRET]}},
        [{"a": SECRET}],
    ],
    ids=repr,
)
def test_secrets_are_found_in_every_representation_of_a_text(tracer: HoneyHiveTracer, value: Any) -> None:
    span, _ = finalized(tracer, {"note": value}, ({"note": value},))
    assert SECRET not in repr(span)
    assert "note" in span.attributes or not isinstance(value, str)


def test_lists_count_with_their_full_size(tracer: HoneyHiveTracer) -> None:
    span, _ = finalized(tracer, {"small": "x", "list": ["y" * 100] * 100}, ({"list": ["z" * 100] * 100},))
    assert "small" in span.attributes
    assert "list" not in span.attributes
    assert span.events[0].attributes == {}


def test_subclasses_of_numbers_and_texts_are_finalized_as_numbers_and_texts(tracer: HoneyHiveTracer) -> None:
    values = {"n": Number(7), "r": Real(0.5), "w": Word("w"), "list": [Word("a"), Word("b")], "gap": ["a", None]}
    span, _ = finalized(tracer, values)
    wanted = {"n": 7, "r": 0.5, "w": "w", "list": ["a", "b"], "gap": ["a", None]}
    assert {key: span.attributes[key] for key in values} == wanted
