"""What the applications of the runtime tests do, in whatever framework."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from hh_jupyter import get_tracer, trace
from hh_jupyter.tracing.api import current_tracer


@trace(event_type="chain")
def answer(question: str) -> str:
    return part(question)


@trace(event_type="tool")
def part(question: str) -> str:
    return question.upper()


def words(question: str) -> Iterator[bytes]:
    for _ in range(3):
        yield part(question).encode()


async def async_words(question: str) -> AsyncIterator[bytes]:
    for _ in range(3):
        await asyncio.sleep(0)
        yield part(question).encode()


def broken_words(question: str) -> Iterator[bytes]:
    yield part(question).encode()
    raise ValueError(question)


async def async_broken_words(question: str) -> AsyncIterator[bytes]:
    for word in broken_words(question):
        await asyncio.sleep(0)
        yield word


def endless(question: str) -> Iterator[bytes]:
    while True:
        yield part(question).encode() * 10_000


async def async_endless(question: str) -> AsyncIterator[bytes]:
    for word in endless(question):
        await asyncio.sleep(0)
        yield word


@trace(event_type="chain")
def fail(question: str) -> str:
    raise ValueError(question)


def session_here() -> str | None:
    return get_tracer().current_session_id if current_tracer() else None
