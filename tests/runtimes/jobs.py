"""Functions that tests send to workers; a worker process imports them by name."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from opentelemetry import trace as otel_trace

from hh_jupyter import HoneyHiveTracer, enrich_session, enrich_span, get_tracer, trace
from hh_jupyter.runtimes.workers import traced

LEFT_OPEN: list[Any] = []
"""Spans that a call starts and another one ends."""


@trace(event_type="tool")
def double(number: int) -> int:
    enrich_span(metrics={"number": number})
    return 2 * number


async def double_later(number: int) -> int:
    return double(number)


def fail(number: int) -> None:
    double(number)
    raise KeyError(number)


class UnsendableError(Exception):
    """It can be pickled but not unpickled: it takes two arguments and keeps one."""

    def __init__(self, number: int, more: int) -> None:
        super().__init__(number)
        self.more = more


def fail_unsendably(number: int) -> None:
    double(number)
    raise UnsendableError(number, 1)


def give_a_lambda(number: int) -> Callable[[], int]:
    double(number)
    return lambda: number


def die(number: int) -> None:
    double(number)
    os._exit(1)


def open_a_session(number: int) -> str:
    with get_tracer().with_session(f"session {number}", inputs={"number": number}) as session_id:
        double(number)
        enrich_session(metadata={"number": number})
    return session_id


def enrich_the_session(number: int) -> None:
    enrich_session(metadata={"number": number})


def instrumented(number: int) -> int:
    """Make a span like an instrumentor, with the global provider of this process."""
    with otel_trace.get_tracer("somebody").start_as_current_span("theirs"):
        return double(number)


def by_that_tracer(tracer: HoneyHiveTracer, number: int) -> int:
    with tracer.start_span("by that tracer"):
        return double(number)


def secret_span(secret: str) -> str | None:
    with get_tracer().start_span("secret", attributes={"note": secret}):
        return get_tracer().settings.sending_key


def leave_open(number: int) -> None:
    LEFT_OPEN.append(get_tracer().otel_tracer.start_span("late"))


def end_in_a_thread(number: int) -> None:
    thread = threading.Thread(target=LEFT_OPEN.pop().end)
    thread.start()
    thread.join()


def delegate(number: int) -> list[int]:
    """Run the work on another pool in the worker."""
    with get_tracer().start_span("delegate"), ProcessPoolExecutor(1) as pool:
        return list(pool.map(traced(double), [number, number + 1]))


def delegate_a_session(number: int) -> str:
    """Open a session on another pool in the worker."""
    with ProcessPoolExecutor(1) as pool:
        return pool.submit(traced(open_a_session), number).result()


def many_spans(number: int) -> None:
    for _ in range(number):
        double(1)
