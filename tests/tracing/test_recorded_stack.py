"""The recorded stack trace starts in the user's code, as that of the exception does."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import hh_jupyter
from hh_jupyter import HoneyHiveTracer, trace
from hh_jupyter.testing import Backend


@pytest.fixture
def tracer(backend: Backend) -> Iterator[HoneyHiveTracer]:
    made = HoneyHiveTracer.init(api_key="k", server_url=backend.url)
    yield made
    made.shutdown()


def stack_of(backend: Backend, tracer: HoneyHiveTracer) -> str:
    """Return the stack trace of the only span at the backend."""
    assert tracer.force_flush()
    (span,) = backend.spans()
    return str(span["events"][0]["attributes"]["exception.stacktrace"])


def fail(call: Callable[..., Any]) -> list[str]:
    """Return the files of the frames of the exception that `call` raises, the innermost last."""
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    return [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]


def test_our_frames_are_neither_recorded_nor_in_the_exception(backend: Backend, tracer: HoneyHiveTracer) -> None:
    @trace
    def work() -> None:
        raise ValueError("no")

    assert set(fail(work)) == {__file__}
    stack = stack_of(backend, tracer)
    assert stack.startswith("Traceback (most recent call last):\n")
    assert stack.endswith("ValueError: no\n")
    assert stack.count("File ") == 1
    assert __file__ in stack


def test_our_frames_are_not_recorded_for_generators_either(backend: Backend, tracer: HoneyHiveTracer) -> None:
    @trace
    def stream() -> Iterator[int]:
        yield 1
        raise ValueError("no")

    fail(lambda: list(stream()))
    stack = stack_of(backend, tracer)
    assert hh_jupyter.__file__.removesuffix("__init__.py") not in stack
    assert __file__ in stack


def test_a_call_with_wrong_arguments_has_no_frame_of_its_own(backend: Backend, tracer: HoneyHiveTracer) -> None:
    @trace
    def work(number: int) -> None:
        pass

    assert set(fail(work)) == {__file__}
    stack = stack_of(backend, tracer)
    assert stack.startswith("TypeError: ")
    assert "File " not in stack
