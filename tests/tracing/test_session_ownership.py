"""With several tracers, the session of a span is one that exists at the backend of its tracer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span, SpanProcessor

from hh_jupyter import HoneyHiveTracer, with_distributed_trace_context
from hh_jupyter.testing import Backend

SESSION = "honeyhive.session_id"
REMOTE = "11111111-1111-4111-8111-111111111111"


class Pair:
    """Tracers `a` and `b`, each with a backend of its own; `same` sends where `a` sends."""

    def __init__(self, first: Backend, second: Backend) -> None:
        self.first, self.second = first, second
        self.a = HoneyHiveTracer.init(api_key="key-a", server_url=first.url, source="in-a")
        self.b = HoneyHiveTracer.init(api_key="key-b", server_url=second.url, source="in-b")
        self.same = HoneyHiveTracer.init(api_key="key-a", server_url=first.url)

    def span_of(self, tracer: HoneyHiveTracer) -> tuple[str, str]:
        """Session and source of a new span, as its backend received them."""
        with tracer.start_span("probe"):
            pass
        assert tracer.force_flush()
        attributes = (self.second if tracer is self.b else self.first).spans()[-1]["attributes"]
        return attributes[SESSION], attributes["honeyhive.source"]


@pytest.fixture
def pair() -> Iterator[Pair]:
    token = otel_context.attach(otel_context.get_current())
    with ExitStack() as stack:
        made = Pair(stack.enter_context(Backend()), stack.enter_context(Backend()))
        for tracer in (made.a, made.b, made.same):
            stack.enter_context(tracer)
        yield made
    otel_context.detach(token)


def test_a_session_does_not_apply_to_a_tracer_of_another_backend(pair: Pair) -> None:
    with pair.b.with_session("of b", source="special") as of_b:
        assert pair.span_of(pair.b) == (of_b, "special")
        assert pair.span_of(pair.a) == (pair.a.session_id, "in-a")
        assert pair.span_of(pair.same)[0] == pair.same.session_id


def test_nested_sessions_of_two_tracers_apply_to_their_own_tracer_each(pair: Pair) -> None:
    with pair.a.with_session("outer of a", source="s1") as of_a, pair.b.with_session("of b") as of_b:
        assert pair.span_of(pair.a) == (of_a, "s1")
        with pair.a.with_session("inner of a") as inner:
            assert pair.span_of(pair.a) == (inner, "in-a")
            assert pair.span_of(pair.b) == (of_b, "in-b")
        assert pair.span_of(pair.a) == (of_a, "s1")
    assert pair.span_of(pair.a) == (pair.a.session_id, "in-a")


def test_tracers_of_one_backend_share_the_current_session(pair: Pair) -> None:
    """As in the recorded contract: baggage overrides the tracer's own session."""
    with pair.a.with_session("of a") as of_a:
        assert pair.span_of(pair.same)[0] == of_a
        with pair.b.with_session("of b"):
            assert pair.span_of(pair.same)[0] == of_a


def test_a_session_from_a_request_applies_to_every_tracer_until_it_creates_its_own(pair: Pair) -> None:
    headers = {"baggage": f"session_id={REMOTE},source=caller"}
    with with_distributed_trace_context(headers, pair.a):
        assert pair.span_of(pair.a) == pair.span_of(pair.b) == (REMOTE, "caller")
        of_b = pair.b.create_session("of b")
        assert pair.span_of(pair.b)[0] == of_b
        assert pair.span_of(pair.a) == (REMOTE, "caller")
        of_a = pair.a.create_session("of a")
        pair.b.create_session("of b again")
        assert pair.span_of(pair.a)[0] == of_a
        with with_distributed_trace_context(headers, pair.b):
            assert pair.span_of(pair.a) == (REMOTE, "caller")


def test_a_scope_restores_the_session_owner_even_if_baggage_changed_inside(pair: Pair) -> None:
    with pair.a.with_session("of a"):
        with pair.b.with_session("of b"):
            pair.a.set_baggage("kept", "yes")
        assert pair.span_of(pair.b)[0] == pair.b.session_id
        assert pair.a.get_baggage("kept") == "yes"


def test_updates_events_and_headers_use_the_tracers_own_session_too(pair: Pair) -> None:
    with pair.b.with_session("of b") as of_b:
        headers = pair.a.inject({}), pair.b.inject({})
        pair.a.enrich_session(metadata={"k": 1})
        event_id = pair.a.create_event("note")
        assert pair.a.force_flush()
    assert f"session_id={pair.a.session_id}" in headers[0]["baggage"]
    assert f"session_id={of_b}" in headers[1]["baggage"]
    sent = [request.body for request in pair.first.requests if request.path == "/events"]
    assert sent[0]["event_id"] == sent[1]["event"]["session_id"] == pair.a.session_id
    assert sent[1]["event"]["event_id"] == event_id


def test_many_sessions_of_two_tracers_do_not_accumulate_in_the_context(pair: Pair) -> None:
    """A server's loop creates sessions in one context indefinitely."""
    for number in range(200):
        pair.a.create_session(f"a {number}")
        pair.b.create_session(f"b {number}")
    owned: Any = next(value for key, value in otel_context.get_current().items() if "session-owner" in key)
    assert len(owned.others) == 1


# Why the session is in baggage: code that knows nothing of this package reads it there.


class BaggageReader(SpanProcessor):
    """A processor of another library, which files spans under the session in baggage, as honeyhive's own does."""

    def __init__(self) -> None:
        self.sessions: list[object] = []

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self.sessions.append(baggage.get_baggage("session_id", parent_context))


def test_other_processors_find_the_session_in_baggage(pair: Pair) -> None:
    reader = BaggageReader()
    provider: Any = pair.a.provider
    provider.add_span_processor(reader)
    with pair.a.with_session("triage") as session_id, pair.a.start_span("probe"):
        assert baggage.get_all()["session_id"] == session_id
    assert reader.sessions == [session_id]


def test_a_propagator_of_the_program_carries_the_session(pair: Pair) -> None:
    headers: dict[str, str] = {}
    with pair.a.with_session("triage") as session_id:
        W3CBaggagePropagator().inject(headers)
    assert f"session_id={session_id}" in headers["baggage"].split(",")
