"""`start_span` and `with_session` as `with` blocks and as decorators: what they restore, and entering them twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace

import hh_jupyter as hh
from hh_jupyter import HoneyHiveTracer, SettingTypeError
from hh_jupyter.testing import Backend

SESSION = "honeyhive.session_id"
ELSEWHERE = "77777777-7777-4777-8777-777777777777"


def _create(tracer: HoneyHiveTracer) -> None:
    tracer.create_session("inside")


def _link(tracer: HoneyHiveTracer) -> None:
    tracer.link({"baggage": f"session_id={ELSEWHERE}"})


@pytest.mark.parametrize(
    "change", [_create, _link, lambda tracer: tracer.set_baggage("team", "blue")], ids=["session", "link", "baggage"]
)
def test_a_session_set_inside_a_span_ends_with_the_span(local: HoneyHiveTracer, change: Any) -> None:
    """As in the official client, whose context managers restore the whole context, and as in `@trace`."""
    before = otel_context.get_current()
    with local.start_span("work"):
        change(local)
        assert otel_context.get_current() != before
    assert otel_context.get_current() == before


def test_a_session_that_a_generator_left_open_stays_current_after_the_span(local: HoneyHiveTracer) -> None:
    def read() -> Iterator[str]:
        with local.with_session("of the generator") as session_id:
            yield session_id

    with local.start_span("work"):
        reading = read()
        session_id = next(reading)
    assert (local.current_session_id, otel_trace.get_current_span().is_recording()) == (session_id, False)
    next(reading, None)
    assert local.current_session_id == local.session_id


def test_a_session_starts_when_its_block_is_entered(backend: Backend, tracer: HoneyHiveTracer) -> None:
    tracer.with_session("never entered")
    block = tracer.with_session("entered")
    with block:
        pass
    with block:
        pass
    assert tracer.force_flush()
    assert [session["session_name"] for session in backend.sessions()] == ["startup", "entered", "entered"]


def test_each_call_of_a_decorated_function_gets_its_own_session(backend: Backend, tracer: HoneyHiveTracer) -> None:
    @tracer.with_session("call", source="qa")
    def work(depth: int) -> list[str | None]:
        return [tracer.current_session_id, *(work(depth - 1) if depth else ())]

    @tracer.with_session("call")
    async def ask() -> str | None:
        await asyncio.sleep(0)
        return tracer.current_session_id

    @tracer.with_session("call")
    def read() -> Iterator[str | None]:
        yield tracer.current_session_id
        yield tracer.current_session_id

    async def main() -> list[str | None]:
        return list(await asyncio.gather(ask(), ask()))

    first, again = read()
    assert first == again
    found = [*work(2), *asyncio.run(main()), first]
    assert tracer.current_session_id == tracer.session_id
    assert tracer.force_flush()
    registered = [session["session_id"] for session in backend.sessions() if session["session_name"] == "call"]
    assert (sorted(map(str, found)), len(set(found))) == (sorted(registered), 6)


@pytest.mark.parametrize("call", ["start_span", "with_session"])
def test_decorating_something_else_than_a_function_raises(local: HoneyHiveTracer, call: str) -> None:
    async def items() -> AsyncIterator[int]:
        yield 1

    for wrong, rule in ((dict, "a function"), (5, "a function"), (items, "a function that is not an async generator")):
        with pytest.raises(SettingTypeError, match=f"{call}: function must be {rule}"):
            getattr(local, call)("work")(wrong)


def test_a_block_entered_twice_makes_two_spans_and_restores_the_context(
    backend: Backend, tracer: HoneyHiveTracer
) -> None:
    before = otel_context.get_current()
    session, span = tracer.with_session("twice"), tracer.start_span("twice")
    with session as outer:
        with session as inner:
            assert tracer.current_session_id == inner != outer
        assert tracer.current_session_id == outer
    with span as one, span as two, span as three:
        assert otel_trace.get_current_span() is three
        assert len({id(one), id(two), id(three)}) == 3
    assert otel_context.get_current() == before
    assert tracer.force_flush()
    ids = [span["span_id"] for span in backend.spans("twice")]
    assert [span["parent_span_id"] for span in backend.spans("twice")] == [*ids[1:], None]


@pytest.mark.parametrize("order", [(3, 1, 2), (1, 3, 2)])
def test_tasks_that_share_a_block_each_exit_their_own_span(
    order: tuple[int, ...], backend: Backend, tracer: HoneyHiveTracer
) -> None:
    session, span = tracer.with_session("shared"), tracer.start_span("shared")

    async def one(turns: int) -> None:
        before = otel_context.get_current()
        with session as session_id, span as current:
            current.set_attribute("session", session_id)
            for _ in range(turns):
                await asyncio.sleep(0)
            assert (tracer.current_session_id, otel_trace.get_current_span()) == (session_id, current)
        assert otel_context.get_current() == before

    async def main() -> None:
        await asyncio.gather(*(one(turns) for turns in order))

    asyncio.run(main())
    assert tracer.force_flush()
    spans = [span["attributes"] for span in backend.spans("shared")]
    assert len({span[SESSION] for span in spans}) == 3
    assert all(span["session"] == span[SESSION] for span in spans)


def test_the_current_session_is_that_of_the_request_or_block_or_else_the_tracers(local: HoneyHiveTracer) -> None:
    assert local.current_session_id == local.session_id
    with local.with_session("block") as session_id:
        assert local.current_session_id == session_id != local.session_id
    with hh.with_distributed_trace_context({"baggage": f"session_id={ELSEWHERE}"}, local):
        assert local.current_session_id == ELSEWHERE
    with HoneyHiveTracer.init(test_mode=True, skip_backend_session_creation=True) as without:
        assert (without.current_session_id, without.session_id) == (None, None)
    made = local.create_session("request")
    assert local.current_session_id == made
