"""Spans belong to the current session, and `with_session` restores the previous one."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry.trace import get_current_span

from hh_jupyter import HoneyHiveTracer, enrich_span_context, with_distributed_trace_context
from hh_jupyter.testing import Backend

SESSION = "honeyhive.session_id"


def sessions_of(backend: Backend, tracer: HoneyHiveTracer) -> dict[str, str]:
    """Session id by span name, after a flush."""
    assert tracer.force_flush()
    return {span["name"]: span["attributes"][SESSION] for span in backend.spans()}


def test_a_session_applies_to_its_block_only(backend: Backend, tracer: HoneyHiveTracer) -> None:
    """Nested sessions, an exception inside, and spans after them."""
    before = otel_context.get_current()
    with tracer.with_session("outer") as outer:
        with tracer.with_session("inner") as inner, tracer.start_span("in inner"):
            pass
        with tracer.start_span("back in outer"):
            pass
    with pytest.raises(ValueError, match="boom"), tracer.with_session("failing"):
        raise ValueError("boom")
    with tracer.start_span("after"):
        pass
    found = sessions_of(backend, tracer)
    assert found == {"in inner": inner, "back in outer": outer, "after": tracer.session_id}
    assert otel_context.get_current() is before


def test_a_session_is_registered_before_its_spans_arrive(backend: Backend, tracer: HoneyHiveTracer) -> None:
    for number in range(20):
        with tracer.with_session(f"request {number}"), tracer.start_span("work"):
            pass
    assert tracer.force_flush()
    registered: set[str] = set()
    for request in backend.requests:
        if request.path == "/session/start":
            registered.add(request.body["session"]["session_id"])
        elif request.path.endswith("/traces"):
            assert {span["attributes"][SESSION] for span in request.body} <= registered
    assert len(registered) == 21


async def _task(tracer: HoneyHiveTracer, number: int) -> str:
    async with tracer.with_session(f"task {number}") as session_id:
        await asyncio.sleep(0.001)
        with tracer.start_span(f"task {number}"):
            await asyncio.sleep(0.001)
    return session_id


def test_concurrent_tasks_have_separate_sessions(backend: Backend, tracer: HoneyHiveTracer) -> None:
    async def main() -> list[str]:
        return await asyncio.gather(*(_task(tracer, number) for number in range(8)))

    ids = asyncio.run(main())
    found = sessions_of(backend, tracer)
    assert [found[f"task {number}"] for number in range(8)] == ids
    assert len(set(ids)) == 8


def test_a_new_thread_uses_the_startup_session_and_a_copied_context_the_current_one(
    backend: Backend, tracer: HoneyHiveTracer
) -> None:
    session_id = contextvars.copy_context().run(tracer.create_session, "elsewhere")

    def span(name: str) -> None:
        with tracer.start_span(name):
            pass

    with tracer.with_session("main") as main:
        copied = contextvars.copy_context()
        for target, args in ((span, ("plain",)), (copied.run, (span, "copied"))):
            thread = threading.Thread(target=target, args=args)
            thread.start()
            thread.join()
    found = sessions_of(backend, tracer)
    assert found == {"plain": tracer.session_id, "copied": main}
    assert session_id not in found.values()


def test_a_session_closed_in_another_task_logs_nothing_and_leaves_that_context_unchanged(
    tracer: HoneyHiveTracer, caplog: pytest.LogCaptureFixture
) -> None:
    """An async generator finalized by another task, where OpenTelemetry's own `detach` would log an error."""

    async def stream() -> AsyncIterator[int]:
        async with tracer.with_session("stream"):
            yield 1
            yield 2

    async def main() -> Any:
        items = stream()
        await asyncio.create_task(anext(items))  # type: ignore[arg-type]
        before = otel_context.get_current()
        await items.aclose()  # type: ignore[attr-defined]
        return before is otel_context.get_current()

    assert asyncio.run(main())
    assert not caplog.records


def test_closing_a_generator_restores_the_session_and_keeps_its_consumers_span(tracer: HoneyHiveTracer) -> None:
    def stream() -> Generator[int, None, None]:
        with tracer.with_session("stream"):
            yield 1

    before = otel_context.get_current()
    items = stream()
    next(items)
    with tracer.start_span("the consumer's") as span:
        items.close()
        assert tracer.get_baggage("session_id") is None
        assert get_current_span() is span
    assert tracer.get_baggage("session_id") is None
    assert get_current_span() is get_current_span(before)


@pytest.mark.parametrize(
    "block",
    [
        lambda tracer: tracer.with_session("stream"),
        lambda tracer: enrich_span_context("stream", tracer_instance=tracer, source="stream"),
        lambda tracer: with_distributed_trace_context({"baggage": "session_id=of-the-caller"}, tracer),
    ],
    ids=["with_session", "enrich_span_context", "with_distributed_trace_context"],
)
@pytest.mark.parametrize("deeper", [False, True])
def test_a_session_stays_current_when_an_older_generator_is_closed_inside_it(
    tracer: HoneyHiveTracer, block: Callable[[HoneyHiveTracer], AbstractContextManager[object]], deeper: bool
) -> None:
    """And the generator's own session does not become current."""

    def stream() -> Generator[int, None, None]:
        with block(tracer):
            yield 1

    items = stream()
    next(items)
    with tracer.with_session("the consumer's") as session_id:
        if deeper:
            with tracer.with_session("deeper") as inner:
                items.close()
                assert tracer.get_baggage("session_id") == inner
        else:
            items.close()
        assert tracer.get_baggage("session_id") == session_id
    assert tracer.get_baggage("session_id") is None
    assert tracer.get_baggage("source") is None
    assert not get_current_span().get_span_context().is_valid


def test_generators_closed_in_any_order_leave_no_session_behind(tracer: HoneyHiveTracer) -> None:
    def stream() -> Generator[int, None, None]:
        with tracer.with_session("stream"):
            yield 1

    first, second = stream(), stream()
    next(first), next(second)
    with tracer.with_session("the consumer's") as session_id:
        second.close()
        first.close()
        assert tracer.get_baggage("session_id") == session_id
    assert tracer.get_baggage("session_id") is None


def test_the_source_of_a_session_applies_to_its_spans_only(backend: Backend, tracer: HoneyHiveTracer) -> None:
    with tracer.with_session("outer", source="qa"):
        with tracer.start_span("qa"):
            pass
        with tracer.with_session("inner"), tracer.start_span("dev"):
            pass
    assert tracer.force_flush()
    assert {s["name"]: s["attributes"]["honeyhive.source"] for s in backend.spans()} == {"qa": "qa", "dev": "dev"}


def test_a_custom_session_id_always_gives_the_same_uuid(
    backend: Backend, tracer: HoneyHiveTracer, caplog: pytest.LogCaptureFixture
) -> None:
    first = contextvars.copy_context().run(tracer.create_session, "a", session_id="the conversation of this test")
    second = contextvars.copy_context().run(tracer.create_session, "b", session_id="the conversation of this test")
    assert first == second
    assert caplog.text.count("the conversation of this test") == 1, "warned once"
    assert tracer.force_flush()
    made = next(session for session in backend.sessions() if session["session_name"] == "a")
    assert made["metadata"] == {"session_id_given": "the conversation of this test"}


def test_an_explicit_session_id_overrides_baggage_which_overrides_the_tracers_own(
    backend: Backend, tracer: HoneyHiveTracer
) -> None:
    explicit = "77777777-7777-4777-8777-777777777777"
    with tracer.with_session("current") as current:
        tracer.enrich_session(metadata={"which": "current"})
        tracer.enrich_session(metadata={"which": "explicit"}, session_id=explicit)
        tracer.create_event("manual")
    tracer.enrich_session(metadata={"which": "own"})
    assert tracer.force_flush()
    updates = {r.body["metadata"]["which"]: r.body["event_id"] for r in backend.requests if r.method == "PUT"}
    assert updates == {"current": current, "explicit": explicit, "own": tracer.session_id}
    events = [r.body["event"] for r in backend.requests if (r.method, r.path) == ("POST", "/events")]
    assert [event["session_id"] for event in events] == [current]
