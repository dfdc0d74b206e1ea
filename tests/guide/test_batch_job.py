"""A batch job: `with_session` for each item, in a loop, in threads and in tasks; some items fail."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from hh_jupyter import HoneyHiveTracer, enrich_session, trace
from hh_jupyter.testing import Backend
from tests.guide.received import in_own_sessions, outputs_by_session, registered, sessions_by_question

ITEMS = tuple(f"item {number}" for number in range(20))


@pytest.fixture
def tracer() -> Iterator[HoneyHiveTracer]:
    with HoneyHiveTracer.init(session_name="nightly") as made:
        yield made


@trace(event_type="tool")
def step(question: str) -> str:
    if question.endswith("7"):
        raise ValueError(question)
    return question


@trace(event_type="chain")
def work(question: str) -> str:
    return step(question)


def process(tracer: HoneyHiveTracer, item: str) -> str:
    with tracer.with_session(item, inputs={"item": item}) as session_id:
        try:
            tracer.enrich_session(outputs={"reply": work(item)})
        except ValueError as error:
            enrich_session(metadata={"failed": str(error)})
    return session_id


def each_in_its_own(backend: Backend, tracer: HoneyHiveTracer, ids: dict[str, str]) -> None:
    assert tracer.flush()
    assert in_own_sessions(backend, ids)
    assert len(backend.spans()) == 2 * len(ids)
    assert all(registered(backend, item) == [session_id] for item, session_id in ids.items())
    assert outputs_by_session(backend) == {ids[item]: {"reply": item} for item in ids if not item.endswith("7")}
    failed = [r.body for r in backend.requests if r.method == "PUT" and "metadata" in r.body]
    assert {update["event_id"]: update["metadata"]["failed"] for update in failed} == {
        ids[item]: item for item in ids if item.endswith("7")
    }


def test_each_item_of_a_loop_has_its_own_session(backend: Backend, tracer: HoneyHiveTracer) -> None:
    ids = {item: process(tracer, item) for item in ITEMS}
    each_in_its_own(backend, tracer, ids)


def test_each_item_has_its_own_session_in_threads(backend: Backend, tracer: HoneyHiveTracer) -> None:
    with ThreadPoolExecutor(4) as pool:
        ids = dict(zip(ITEMS, pool.map(lambda item: process(tracer, item), ITEMS), strict=True))
    each_in_its_own(backend, tracer, ids)


def test_each_item_has_its_own_session_in_tasks(backend: Backend, tracer: HoneyHiveTracer) -> None:
    async def one(item: str) -> str:
        async with tracer.with_session(item, inputs={"item": item}) as session_id:
            await asyncio.sleep(0)
            try:
                reply = await asyncio.to_thread(work, item)
            except ValueError as error:
                tracer.enrich_session(metadata={"failed": str(error)})
            else:
                await asyncio.sleep(0.001)
                tracer.enrich_session(outputs={"reply": reply})
        return session_id

    async def main() -> list[str]:
        return await asyncio.gather(*(one(item) for item in ITEMS))

    each_in_its_own(backend, tracer, dict(zip(ITEMS, asyncio.run(main()), strict=True)))


def test_workers_with_a_copy_of_the_context_are_in_the_session_of_their_item(
    backend: Backend, tracer: HoneyHiveTracer
) -> None:
    """The guide's rule for thread pools: copy the context for each submit."""
    ids = {}
    with ThreadPoolExecutor(3) as pool:
        futures = []
        for item in ("a", "b", "c"):
            with tracer.with_session(item) as ids[item], tracer.start_span(f"parent {item}"):
                futures += [pool.submit(contextvars.copy_context().run, step, item) for _ in range(5)]
        assert [future.result() for future in futures] == [item for item in "abc" for _ in range(5)]
    assert tracer.flush()
    assert in_own_sessions(backend, ids)
    parents = {
        span["name"].removeprefix("parent "): span["span_id"] for span in backend.spans() if "parent" in span["name"]
    }
    steps = [span for span in backend.spans() if span["name"].endswith("step")]
    assert len(steps) == 15
    assert all(span["parent_span_id"] == parents[span["attributes"]["honeyhive_inputs.question"]] for span in steps)


def test_a_nested_session_ends_with_its_block_even_if_it_raises(backend: Backend, tracer: HoneyHiveTracer) -> None:
    with tracer.with_session("batch") as batch:
        step("before")
        with pytest.raises(ValueError, match="item 7"), tracer.with_session("item 7") as item:
            work("item 7")
        step("after")
    step("outside")
    assert tracer.flush()
    own = {str(tracer.session_id)}
    expected = {"before": {batch}, "item 7": {item}, "after": {batch}, "outside": own}
    assert sessions_by_question(backend) == expected
