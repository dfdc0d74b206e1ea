"""Arguments of a running program never raise: unusual values are recorded in the closest form that the wire allows."""

from __future__ import annotations

import asyncio
import datetime
import inspect
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from opentelemetry import context as otel_context

import hh_jupyter
from hh_jupyter import HoneyHiveTracer
from hh_jupyter.testing import Backend
from tests.any_value import MAKERS
from tests.tracing.odd_values import ODD

FIVE: Any = 5


def test_an_unusual_name_value_or_field_is_recorded(
    tracer: HoneyHiveTracer, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    server: Any = "Server"
    odd: Any = {"when": datetime.date(2026, 1, 2), "list": ["a", "b"], "mixed": [1, "b"], "none": None, 5: {"x": 1}}
    question, note, listed = cast(Any, ("question", "note", [1]))
    with tracer.start_span(FIVE, kind=server, attributes=odd):
        tracer.enrich_span(FIVE, metrics="good")
    tracer.create_session(FIVE, inputs=question, metadata=listed, source=FIVE)
    tracer.enrich_session(note, duration="long")
    tracer.create_event(FIVE, inputs=question, metadata=listed, duration=2)
    tracer.set_baggage(FIVE, FIVE)
    assert tracer.get_baggage("5") == "5"
    assert tracer.force_flush()
    (span,) = backend.spans("5")
    assert span["kind"] == "SERVER"
    attributes = span["attributes"]
    assert attributes["when"] == "2026-01-02"
    assert attributes["list"] == ["a", "b"]
    assert attributes["mixed"] == '[1, "b"]'
    assert attributes["5"] == '{"x": 1}'
    assert "none" not in attributes
    assert (attributes["honeyhive_metadata"], attributes["honeyhive_metrics"]) == (5, "good")
    start = next(session for session in backend.sessions() if session["session_name"] == "5")
    assert start["source"] == "5"
    assert (start["inputs"], start["metadata"]) == ({"value": "question"}, {"value": [1]})
    (update,) = (request.body for request in backend.requests if request.method == "PUT")
    assert update["metadata"] == {"value": "note", "duration": "long"}
    (event,) = (
        request.body["event"] for request in backend.requests if request.path == "/events" and request.method == "POST"
    )
    assert (event["event_name"], event["inputs"], event["duration"]) == ("5", {"value": "question"}, 2.0)
    assert event["metadata"] == {"value": [1]}
    assert not caplog.records


def test_a_datetime_starts_a_span_and_a_span_context_is_a_link(tracer: HoneyHiveTracer, backend: Backend) -> None:
    start: Any = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    with tracer.start_span("first") as first:
        links: Any = [first.get_span_context(), 5]
    with tracer.start_span("second", links=links, start_time=start) as second:
        assert [link.context for link in second.links] == [first.get_span_context()]  # type: ignore[attr-defined]
        assert second.start_time == int(start.timestamp()) * 10**9  # type: ignore[attr-defined]


@pytest.mark.parametrize("start", [-1, 2**63, True, "yesterday", 1700000000.5])
def test_an_invalid_start_time_is_replaced_by_now(local: HoneyHiveTracer, start: Any) -> None:
    before = time.time_ns()
    with local.start_span("work", start_time=start) as span:
        assert before <= span.start_time <= time.time_ns()  # type: ignore[attr-defined]


METHODS = [
    "create_session",
    "acreate_session",
    "with_session",
    "enrich_session",
    "start_span",
    "trace",
    "enrich_span",
    "create_event",
    "inject_context",
    "inject",
    "extract_context",
    "link",
    "unlink",
    "set_baggage",
    "get_baggage",
    "force_flush",
    "flush",
    "flush_all",
]
FUNCTIONS = [
    "enrich_span",
    "enrich_session",
    "flush",
    "with_distributed_trace_context",
    "enrich_span_context",
    "inject_context_into_carrier",
    "extract_context_from_carrier",
    "shutdown_tracer",
]
BLOCKS = {"start_span", "trace", "with_session", "enrich_span_context", "with_distributed_trace_context"}
LIMITS = ("max_cost", "max_calls")
"""A limit that is not understood is refused: without it the calls would be paid for."""
REQUIRED: dict[str, Any] = {
    **dict.fromkeys(("name", "event_name", "event_name_or_dict", "key", "value"), "text"),
    "carrier": {},
    "_token": None,
}


def _calls(tracer: HoneyHiveTracer) -> Iterator[tuple[Callable[..., Any], str]]:
    owners = ((tracer, METHODS), (hh_jupyter, FUNCTIONS))
    functions: list[Callable[..., Any]] = [getattr(owner, name) for owner, names in owners for name in names]
    for function in functions:
        for parameter in inspect.signature(function).parameters.values():
            if parameter.name in LIMITS:
                continue
            if parameter.kind is not parameter.VAR_KEYWORD:
                yield function, parameter.name
            else:
                yield function, "any_other"


def _call(function: Callable[..., Any], name: str, value: Any) -> None:
    needed = {p.name: REQUIRED[p.name] for p in inspect.signature(function).parameters.values() if p.name in REQUIRED}
    found = function(**{**needed, name: value})
    if inspect.iscoroutinefunction(function):
        asyncio.run(found)
    elif function.__name__ in BLOCKS:
        with found:
            pass


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("make", [*((lambda odd=odd: odd) for odd in ODD), *MAKERS])
def test_a_limit_is_understood_or_refused_by_name(local: HoneyHiveTracer, make: Callable[[], Any], limit: str) -> None:
    before = otel_context.get_current()
    try:
        _call(local.with_session, limit, make())
    except (hh_jupyter.SettingError, hh_jupyter.SettingTypeError) as error:
        assert str(error).startswith(f"with_session: {limit} must be ")  # noqa: PT017 - some values are valid.
    assert otel_context.get_current() is before


@pytest.mark.parametrize("make", [*((lambda odd=odd: odd) for odd in ODD), *MAKERS])
def test_no_value_of_any_argument_raises_or_changes_the_context(
    tracer: HoneyHiveTracer, make: Callable[[], Any]
) -> None:
    lasting = ("create_session", "link", "set_baggage", "inject", "extract")
    for function, name in _calls(tracer):
        before = otel_context.get_current()
        try:
            _call(function, name, make())
        except Exception as error:
            raise AssertionError(f"{function.__qualname__}({name}=...) raised {error!r}") from error
        if not function.__name__.startswith(lasting):
            assert otel_context.get_current() is before, f"{function.__name__}({name}=...)"
        otel_context.attach(before)
    assert tracer.force_flush()
