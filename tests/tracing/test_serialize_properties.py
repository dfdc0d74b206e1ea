"""Any value, as argument, result, metadata or attribute, becomes valid, bounded attributes without an exception."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from hh_jupyter import HoneyHiveTracer, enrich_span, trace, values
from hh_jupyter.testing import Backend
from hh_jupyter.values import FEW_KEYS, MAX_KEYS, MAX_TEXT, flatten, plain, scalar, text_of
from tests.any_value import ANY_VALUE, LARGE, MAKERS, Made

SHARED_TRACER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
LONGEST = MAX_TEXT + 100_000
"""Characters made of one value: those of its texts, and what JSON puts around them."""


def size_of(attributes: dict[str, Any]) -> int:
    return sum(len(key) + len(str(value)) for key, value in attributes.items())


def check(attributes: dict[str, Any]) -> None:
    """Check that the attributes are valid for OpenTelemetry, UTF-8 and protobuf."""
    for key, value in attributes.items():
        assert type(value) in (str, bool, int, float)
        assert not (isinstance(value, int) and not -(2**63) <= value < 2**63)
        (key + str(value)).encode()


@pytest.mark.slow
@settings(SHARED_TRACER, max_examples=500)
@given(ANY_VALUE)
def test_every_value_becomes_valid_attributes_and_valid_json(drawn: Made) -> None:
    found = flatten("key", drawn.make())
    check(found)
    check({"key": scalar(drawn.make()), "text": text_of(drawn.make())})
    assert len(found) <= MAX_KEYS + 1
    json.dumps(plain(drawn.make()), allow_nan=False).encode()


@settings(SHARED_TRACER, max_examples=200)
@given(ANY_VALUE)
def test_equal_values_are_written_alike(monkeypatch: pytest.MonkeyPatch, drawn: Made) -> None:
    """Two equal values have different memory addresses."""
    monkeypatch.setattr(values, "MAX_SECONDS", 60.0)  # Where reading stops depends on how busy the machine is.
    first, second = drawn.make(), drawn.make()
    assert repr(flatten("key", first)) == repr(flatten("key", second))
    assert repr(scalar(first)) == repr(scalar(second))


@pytest.mark.slow
@settings(SHARED_TRACER, max_examples=300)
@given(ANY_VALUE)
def test_a_value_is_written_alike_among_few_and_among_many(monkeypatch: pytest.MonkeyPatch, drawn: Made) -> None:
    """Small dicts of text and numbers take a shorter way through the code."""
    monkeypatch.setattr(values, "MAX_SECONDS", 60.0)
    others = {f"other {number}": None for number in range(FEW_KEYS)}
    for value in (drawn.make(), "two", "é", "\ud800", "x" * 2000, 2**64, -3, True, 0.5, None):
        for key in ("key", "clé", "\ud800", "k" * 2000, 5, None):
            assert repr(flatten("p", {key: value})) == repr(flatten("p", {key: value, **others}))


@pytest.mark.parametrize("make", LARGE)
def test_large_values_are_cut_and_marked_quickly(make: Callable[[], Any]) -> None:
    value = make()
    started = time.perf_counter()
    found, text, data = flatten("key", value), scalar(value), plain(value)
    assert time.perf_counter() - started < 10, "usually a few milliseconds"
    check(found)
    assert max(size_of(found), len(str(text)), len(json.dumps(data, ensure_ascii=False))) < LONGEST
    if isinstance(value, list | set | tuple):
        assert "more" in str(text)[-1_000:]
        assert "key.hh_truncated" in found


def test_reading_a_slow_value_stops_at_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    class Slow:
        def __str__(self) -> str:
            read.append(1)
            clock.append(clock[-1] + 0.1)
            return "slow"

    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[-1])
    assert plain([Slow() for _ in range(1_000)])[-1] == "... 993 more"
    assert len(read) < 10


def test_long_keys_stay_different_when_they_are_cut() -> None:
    found = plain({"k" * 10_000 + str(number): number for number in range(100)})
    assert len(found) == 100
    assert max(map(len, found)) < 1_100


@settings(SHARED_TRACER, max_examples=100)
@given(drawn=ANY_VALUE)
def test_no_value_changes_the_behaviour_of_a_program(tracer: HoneyHiveTracer, drawn: Made) -> None:
    """As argument, result, metadata, attribute, session field and event, it raises nothing and changes no result."""
    use(tracer, drawn.make())


@pytest.mark.parametrize("make", MAKERS)
def test_no_hostile_value_changes_the_behaviour_of_a_program(
    backend: Backend, tracer: HoneyHiveTracer, make: Callable[[], Any]
) -> None:
    use(tracer, make())
    use(tracer, {"inside": [make()]})
    assert tracer.force_flush(), "nothing was lost"
    assert len(backend.spans("attributes")) == 2


def use(tracer: HoneyHiveTracer, value: Any) -> None:
    """Pass a value to every traced call and every field."""

    @trace(tracer=tracer)
    def echo(one: Any, *many: Any, default: Any = None, **named: Any) -> Any:
        enrich_span(metadata={"v": value}, metrics=value, config=value, error=value, extra=value)
        return one

    @trace(tracer=tracer, metadata={"v": value}, inputs={"v": value})
    def items(one: Any) -> Any:
        yield one

    assert echo(value, value, value, default=value, named=value) is value
    assert next(items(value)) is value
    with tracer.start_span("attributes", attributes={"v": value}):
        tracer.enrich_span(value)
    tracer.enrich_session(metadata={"v": value}, outputs=value, feedback=value)
    tracer.create_event("event", inputs={"v": value}, outputs=value)
    with tracer.with_session("s", inputs={"v": value}, metadata={"v": value}, user_properties=value):
        pass


def test_the_attributes_of_any_value_arrive_at_the_backend(backend: Backend, tracer: HoneyHiveTracer) -> None:
    """The stand-in backend responds with 400 to a batch that it cannot decode, and discards it."""
    kept: list[Made] = []

    @settings(SHARED_TRACER, max_examples=100)
    @given(ANY_VALUE)
    def run(drawn: Made) -> None:
        kept.append(drawn)
        with tracer.start_span("any", attributes={"v": drawn.make()}):
            enrich_span(metadata=drawn.make(), outputs={"v": drawn.make()})
        tracer.enrich_session(metadata={"v": drawn.make()})

    run()
    assert tracer.force_flush()
    assert len(backend.spans("any")) == len(kept)
    assert all(request.undecodable is None for request in backend.requests)
    updates = [request for request in backend.requests if request.method == "PUT"]
    assert len(updates) == len(kept)
