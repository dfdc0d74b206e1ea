"""`@trace` on callables that are not plain functions: objects with `__call__`, partial functions."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import hh_jupyter as hh
from hh_jupyter import HoneyHiveTracer
from hh_jupyter.testing import Backend


class Asking:
    async def __call__(self, question: str) -> str:
        await asyncio.sleep(0)
        return question.upper()


class Reading:
    def __call__(self, question: str) -> Iterator[str]:
        yield question.upper()


class Streaming:
    async def __call__(self, question: str) -> AsyncIterator[str]:
        yield question.upper()


class Saying:
    def __call__(self, question: str) -> str:
        return question.upper()


async def ask(prefix: str, question: str) -> str:
    await asyncio.sleep(0)
    return prefix + question.upper()


async def use(traced: Any) -> Any:
    found = traced("why?")
    if hasattr(found, "__aiter__"):
        return [item async for item in found]
    return await found if hasattr(found, "__await__") else found if isinstance(found, str) else list(found)


@pytest.mark.parametrize(
    ("function", "result", "outputs"),
    [
        (Asking(), "WHY?", ["WHY?"]),
        (Saying(), "WHY?", ["WHY?"]),
        (Reading(), ["WHY?"], None),
        (Streaming(), ["WHY?"], None),
        (functools.partial(ask, ""), "WHY?", ["WHY?"]),
        (functools.partial(functools.partial(Asking())), "WHY?", ["WHY?"]),
    ],
    ids=["async object", "object", "generator object", "async generator object", "partial", "partial of an object"],
)
def test_the_span_has_the_result_and_lasts_until_it_is_available(
    backend: Backend, tracer: HoneyHiveTracer, function: Any, result: Any, outputs: list[str] | None
) -> None:
    assert asyncio.run(use(hh.trace(event_type="tool")(function))) == result
    assert tracer.force_flush()
    (span,) = backend.spans()
    found = span["attributes"]
    assert found["honeyhive_inputs.question"] == "why?"
    assert "partial" not in span["name"]
    if outputs is not None:
        assert [value for key, value in found.items() if key.startswith("honeyhive_outputs")] == outputs


def test_start_span_as_a_decorator_waits_for_the_result_too(backend: Backend, tracer: HoneyHiveTracer) -> None:
    assert asyncio.run(use(tracer.start_span("asked")(Asking()))) == "WHY?"
    assert asyncio.run(use(tracer.start_span("read")(Reading()))) == ["WHY?"]
    assert tracer.force_flush()
    assert [span["name"] for span in backend.spans()] == ["asked", "read"]
