"""A span that a cancellation ended, Ctrl-C or another `BaseException`, is not a success: status and text say so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from hh_jupyter import HoneyHiveTracer, trace
from hh_jupyter.testing import Backend


class StopAgentError(BaseException):
    """A user's own way out."""


@trace(event_name="work")
def function(error: BaseException) -> None:
    raise error


@trace(event_name="work")
async def coroutine(error: BaseException) -> None:
    raise error


@trace(event_name="work")
def generator(error: BaseException) -> Iterator[int]:
    yield 1
    raise error


@trace(event_name="work")
async def async_generator(error: BaseException) -> AsyncIterator[int]:
    yield 1
    raise error


async def consume(error: BaseException) -> None:
    async for _ in async_generator(error):
        pass


def run(make: Any) -> None:
    """Run a coroutine as a loop does: asyncio.run() turns KeyboardInterrupt into something else."""
    try:
        make.send(None)
    except StopIteration:
        pass


def exhaust(items: Iterator[int]) -> None:
    for _ in items:
        pass


def block(tracer: HoneyHiveTracer, error: BaseException) -> None:
    with tracer.start_span("work"):
        raise error


CALLS: dict[str, Callable[[HoneyHiveTracer, BaseException], None]] = {
    "function": lambda tracer, error: function(error),
    "coroutine": lambda tracer, error: run(coroutine(error)),
    "generator": lambda tracer, error: exhaust(generator(error)),
    "async generator": lambda tracer, error: run(consume(error)),
    "block": block,
}


def sent(backend: Backend, tracer: HoneyHiveTracer) -> dict[str, Any]:
    assert tracer.force_flush()
    (span,) = backend.spans("work")
    return span


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (asyncio.CancelledError(), "CancelledError"),
        (asyncio.CancelledError("too late"), "CancelledError: too late"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (SystemExit(3), "SystemExit: 3"),
        (StopAgentError("enough"), "StopAgentError: enough"),
    ],
    ids=["cancelled", "cancelled with a message", "Ctrl-C", "exit", "of the user"],
)
@pytest.mark.parametrize("kind", CALLS)
def test_status_and_text_say_that_it_was_cancelled(
    backend: Backend, tracer: HoneyHiveTracer, kind: str, error: BaseException, message: str
) -> None:
    with pytest.raises(type(error)) as raised:
        CALLS[kind](tracer, error)
    assert raised.value is error
    span = sent(backend, tracer)
    assert span["status"] == {"code": "ERROR", "message": message}
    assert [event["name"] for event in span["events"]] == ["exception"]
    assert span["attributes"]["honeyhive_metadata.hh_cancelled"] is True


@pytest.mark.parametrize("error", [GeneratorExit(), SystemExit(0), SystemExit()], ids=["closed", "exit 0", "exit"])
@pytest.mark.parametrize("kind", ["function", "coroutine", "block"])
def test_an_orderly_end_is_not_an_error(
    backend: Backend, tracer: HoneyHiveTracer, kind: str, error: BaseException
) -> None:
    with pytest.raises(type(error)):
        CALLS[kind](tracer, error)
    span = sent(backend, tracer)
    assert (span["status"]["code"], span["events"]) == ("UNSET", [])
    assert "honeyhive_metadata.hh_cancelled" not in span["attributes"]


def test_a_consumer_that_closes_a_generator_ends_its_spans_without_an_error(
    backend: Backend, tracer: HoneyHiveTracer
) -> None:
    @trace(event_name="numbers")
    def numbers() -> Iterator[int]:
        with tracer.start_span("work"):
            yield 1

    for _ in numbers():
        break
    assert sent(backend, tracer)["status"]["code"] == "UNSET"
    assert {span["status"]["code"] for span in backend.spans()} == {"UNSET"}


def test_a_timeout_cancels_the_call_and_fails_its_caller(backend: Backend, tracer: HoneyHiveTracer) -> None:
    @trace(event_name="work")
    async def slow() -> None:
        await asyncio.sleep(60)

    @trace(event_name="caller")
    async def caller() -> None:
        await asyncio.wait_for(slow(), 0.01)

    with pytest.raises(TimeoutError):
        asyncio.run(caller())
    assert sent(backend, tracer)["status"] == {"code": "ERROR", "message": "CancelledError"}
    (failed,) = backend.spans("caller")
    assert failed["status"]["message"].startswith("TimeoutError")
    assert "honeyhive_metadata.hh_cancelled" not in failed["attributes"]


def test_an_exception_is_not_a_cancellation(backend: Backend, tracer: HoneyHiveTracer) -> None:
    with pytest.raises(ValueError, match="no"):
        function(ValueError("no"))
    assert "honeyhive_metadata.hh_cancelled" not in sent(backend, tracer)["attributes"]
