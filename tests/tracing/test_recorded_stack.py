"""The recorded stack of a failed call begins in the user's code; the exception itself keeps every frame."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import hh_jupyter
from hh_jupyter import HoneyHiveTracer, trace
from hh_jupyter.testing import Backend
from hh_jupyter.tracing import decorators


@pytest.fixture
def tracer(backend: Backend) -> Iterator[HoneyHiveTracer]:
    made = HoneyHiveTracer.init(api_key="k", server_url=backend.url)
    yield made
    made.shutdown()


def stack_of(backend: Backend, tracer: HoneyHiveTracer) -> str:
    """The stack that the backend got with the only span."""
    assert tracer.force_flush()
    (span,) = backend.spans()
    return str(span["events"][0]["attributes"]["exception.stacktrace"])


def fail(call: Callable[..., Any]) -> list[str]:
    """Files of the frames of what `call` raises, the innermost last."""
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    return [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]


def test_our_own_frames_are_left_out_of_the_record_and_stay_in_the_exception(
    backend: Backend, tracer: HoneyHiveTracer
) -> None:
    @trace
    def work() -> None:
        raise ValueError("no")

    assert decorators.__file__ in fail(work)
    stack = stack_of(backend, tracer)
    assert stack.startswith("Traceback (most recent call last):\n")
    assert stack.endswith("ValueError: no\n")
    assert stack.count("File ") == 1
    assert __file__ in stack


def test_those_of_generators_too(backend: Backend, tracer: HoneyHiveTracer) -> None:
    @trace
    def stream() -> Iterator[int]:
        yield 1
        raise ValueError("no")

    fail(lambda: list(stream()))
    stack = stack_of(backend, tracer)
    assert hh_jupyter.__file__.removesuffix("__init__.py") not in stack
    assert __file__ in stack


def test_where_there_are_no_others_they_are_recorded(backend: Backend, tracer: HoneyHiveTracer) -> None:
    @trace
    def work(number: int) -> None:
        pass

    fail(work)
    assert decorators.__file__ in stack_of(backend, tracer)
