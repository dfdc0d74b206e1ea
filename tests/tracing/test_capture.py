"""`capture_inputs` and `capture_outputs`: the decorator overrides the tracer, which overrides the environment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from hh_jupyter import HoneyHiveTracer, trace
from hh_jupyter.testing import Backend

INPUT, OUTPUT = "honeyhive_inputs.x", "honeyhive_outputs.result"

Switch = bool | None


def captured(backend: Backend, tracer: HoneyHiveTracer) -> tuple[bool, bool]:
    """Return whether the last span has its input, and whether it has any output."""
    assert tracer.force_flush()
    attributes = backend.spans()[-1]["attributes"]
    return INPUT in attributes, any(key.startswith("honeyhive_outputs") for key in attributes)


@pytest.mark.parametrize(
    ("variable", "argument", "decorator", "wanted"),
    [
        (None, None, None, True),
        ("false", None, None, False),
        ("false", True, None, True),
        ("true", False, None, False),
        (None, False, None, False),
        (None, False, True, True),
        ("false", None, True, True),
        (None, True, False, False),
    ],
)
@pytest.mark.parametrize("what", ["inputs", "outputs"])
def test_the_decorator_overrides_the_tracer_and_the_tracer_the_environment(
    backend: Backend,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    variable: str | None,
    argument: Switch,
    decorator: Switch,
    wanted: bool,
) -> None:
    name = f"capture_{what}"
    if variable is not None:
        monkeypatch.setenv(f"HH_{name.upper()}", variable)
    given: dict[str, Any] = {name: argument}
    decoration: dict[str, Any] = {} if decorator is None else {name: decorator}
    with HoneyHiveTracer.init(api_key="k", server_url=backend.url, **given) as tracer:

        @trace(tracer=tracer, **decoration)
        def call(x: int) -> dict[str, int]:
            return {"twice": 2 * x}

        assert call(2) == {"twice": 4}
        found = captured(backend, tracer)
    assert found == ((wanted, True) if what == "inputs" else (True, wanted))


def _function(x: int) -> int:
    return x


async def _coroutine(x: int) -> int:
    return x


def _generator(x: int) -> Iterator[int]:
    yield x


async def _async_generator(x: int) -> AsyncIterator[int]:
    yield x


class _Methods:
    def method(self, x: int) -> int:
        return x


async def _drain(items: AsyncIterator[int]) -> list[int]:
    return [item async for item in items]


RUNS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "function": (_function, lambda made: made(1)),
    "coroutine": (_coroutine, lambda made: asyncio.run(made(1))),
    "generator": (_generator, lambda made: list(made(1))),
    "async generator": (_async_generator, lambda made: asyncio.run(_drain(made(1)))),
    "method": (_Methods.method, lambda made: made(_Methods(), 1)),
}


@pytest.mark.parametrize("kind", RUNS)
def test_capture_can_be_switched_off_for_every_kind_of_function(backend: Backend, kind: str) -> None:
    function, run = RUNS[kind]
    with HoneyHiveTracer.init(api_key="k", server_url=backend.url) as tracer:
        run(trace(tracer=tracer)(function))
        assert captured(backend, tracer) == (True, True)
        run(trace(tracer=tracer, capture_inputs=False, capture_outputs=False)(function))
        assert captured(backend, tracer) == (False, False)


def test_inputs_and_outputs_set_explicitly_are_recorded_without_capture(backend: Backend) -> None:
    with HoneyHiveTracer.init(
        api_key="k", server_url=backend.url, capture_inputs=False, capture_outputs=False
    ) as tracer:
        trace(tracer=tracer, inputs={"q": 1}, outputs={"a": 2})(_function)(3)
        assert tracer.force_flush()
    attributes = backend.spans()[-1]["attributes"]
    assert (attributes["honeyhive_inputs.q"], attributes["honeyhive_outputs.a"]) == (1, 2)
    assert INPUT not in attributes
    assert OUTPUT not in attributes


def test_the_setting_is_read_at_each_call(backend: Backend) -> None:
    """A function is decorated once, at import; a notebook changes the setting later."""
    from hh_jupyter.settings import resolve

    where = {"api_key": "k", "server_url": backend.url}
    with HoneyHiveTracer.init(**where) as tracer:
        call = trace(tracer=tracer)(_function)
        call(1)
        assert captured(backend, tracer) == (True, True)
        tracer.configure(resolve({**where, "capture_inputs": False, "capture_outputs": False}))
        call(1)
        assert captured(backend, tracer) == (False, False)
