"""The wrapper around a decorated function: never in a traceback, and no hindrance to copies and garbage collection."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
import functools
import gc
import inspect
import io
import pickle
import sys
import traceback
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import hh_jupyter as hh
from hh_jupyter import HoneyHiveTracer, trace, trace_class
from hh_jupyter.testing import Backend

Decorator = Callable[[Any], Any]


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    """Assigning any attribute to it raises."""

    code: int


def scenarios(  # noqa: C901  # One list.
    decorate: Decorator, decorate_class: Decorator
) -> dict[str, Callable[[], object]]:
    """Calls that raise, by name. They are the same lines of code for every decorator."""

    @decorate
    def fails(n: int = 0) -> float:
        return 1 / n

    @decorate
    async def fails_later(n: int = 0) -> float:
        await asyncio.sleep(0)
        return fails(n)  # type: ignore[no-any-return]

    @decorate
    def one() -> Iterator[int]:
        yield 1
        raise FrozenError(1)

    @decorate
    def delegates() -> Iterator[int]:
        yield from one()

    @decorate
    def handles() -> Iterator[int]:
        try:
            yield 1
        except ValueError as error:
            raise KeyError("handled") from error
        finally:
            fails()

    @decorate
    async def stream() -> AsyncIterator[int]:
        try:
            yield 1
        except LookupError:
            await fails_later()
        fails()

    @decorate
    async def fails_at_close() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await fails_later()

    @contextlib.contextmanager
    @decorate
    def managed() -> Iterator[int]:
        try:
            yield 1
        except ValueError as error:
            raise KeyError("managed") from error

    @contextlib.asynccontextmanager
    @decorate
    async def managed_later() -> AsyncIterator[int]:
        yield 1

    @decorate_class
    class Tool:
        def run(self) -> None:
            fails()

        @classmethod
        def made(cls) -> Iterator[int]:
            return one()  # type: ignore[no-any-return]

        async def later(self) -> None:
            await fails_later()

    def thrown() -> None:
        generator = delegates()
        next(generator)
        try:
            fails()
        except ZeroDivisionError as error:
            generator.throw(error)

    def closed() -> None:
        generator = handles()
        next(generator)
        generator.close()

    def handled() -> None:
        generator = handles()
        next(generator)
        generator.throw(ValueError("thrown"))

    async def with_stream(step: Callable[[Any], Any], made: Callable[[], Any] = stream) -> None:
        generator = made()
        await generator.__anext__()
        await step(generator)

    def with_managed() -> None:
        with managed():
            raise ValueError("in the block")

    async def with_managed_later() -> None:
        async with managed_later():
            await fails_later()

    return {
        "function": fails,
        "wrong arguments": lambda: fails(1, 2, 3),
        "builtin": lambda: decorate(len)(3),
        "partial": decorate(functools.partial(fails, 0)),
        "coroutine": lambda: asyncio.run(fails_later()),
        "generator": lambda: list(one()),
        "yield from": lambda: list(delegates()),
        "throw": thrown,
        "throw that is handled": handled,
        "close that fails": closed,
        "async generator": lambda: asyncio.run(with_stream(lambda stream: stream.__anext__())),
        "asend": lambda: asyncio.run(with_stream(lambda stream: stream.asend(1))),
        "athrow": lambda: asyncio.run(with_stream(lambda stream: stream.athrow(KeyError("thrown")))),
        "athrow that is not handled": lambda: asyncio.run(with_stream(lambda stream: stream.athrow(OSError("no")))),
        "aclose that fails": lambda: asyncio.run(with_stream(lambda stream: stream.aclose(), fails_at_close)),
        "context manager": with_managed,
        "async context manager": lambda: asyncio.run(with_managed_later()),
        "method of a traced class": lambda: Tool().run(),
        "class method that returns a generator": lambda: list(Tool.made()),
        "coroutine method": lambda: asyncio.run(Tool().later()),
    }


NAMES = list(scenarios(lambda function: function, lambda cls: cls))


def raised(call: Callable[[], object]) -> str:
    with pytest.raises(Exception) as caught:  # noqa: PT011  # Any: what it is, is compared.
        call()
    return "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("name", NAMES)
def test_a_traceback_is_the_same_as_without_the_decorator(backend: Backend, tracer: HoneyHiveTracer, name: str) -> None:
    plain = raised(scenarios(lambda function: function, lambda cls: cls)[name])
    assert raised(scenarios(trace, trace_class)[name]) == plain
    assert tracer.force_flush()
    stacks = [
        event["attributes"]["exception.stacktrace"] for span in backend.spans() for event in span.get("events", ())
    ]
    assert stacks or name in ("throw that is handled", "close that fails")
    assert not any("tracing/wrappers.py" in stack for stack in stacks)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_same_while_nothing_is_traced(name: str) -> None:
    plain = raised(scenarios(lambda function: function, lambda cls: cls)[name])
    assert raised(scenarios(trace(event_type="tool"), trace_class)[name]) == plain


@pytest.mark.parametrize("name", [name for name in NAMES if "async" not in name and not name.startswith("a")])
def test_it_is_the_same_below_start_span_and_with_session(tracer: HoneyHiveTracer, name: str) -> None:
    def decorate(function: Any) -> Any:
        if inspect.isasyncgenfunction(function):
            return function
        return tracer.start_span("step")(tracer.with_session("mine")(function))

    plain = raised(scenarios(lambda function: function, lambda cls: cls)[name])
    assert raised(scenarios(decorate, lambda cls: cls)[name]) == plain


def test_printing_the_exception_of_a_script_shows_the_users_lines_only(tracer: HoneyHiveTracer) -> None:
    text = io.StringIO()
    try:
        scenarios(trace, trace_class)["yield from"]()
    except FrozenError:
        traceback.print_exc(file=text)
    assert "hh_jupyter/" not in text.getvalue()


def test_a_wrapper_has_the_place_of_its_function_in_the_file() -> None:
    @trace
    def asked() -> None: ...

    assert inspect.getsourcefile(asked) == __file__
    assert asked.__code__.co_filename == __file__
    assert asked.__code__.co_firstlineno == inspect.unwrap(asked).__code__.co_firstlineno


def test_names_of_the_users_variables_do_not_matter(tracer: HoneyHiveTracer) -> None:
    """They are free variables of the function, and of its wrapper."""
    wrapped, call, args, kwargs, result, reference = "w", "c", "a", "k", "r", "x"

    @trace
    def together() -> str:
        return wrapped + call + args + kwargs + result + reference

    assert together() == "wcakrx"


class Base:
    def hello(self) -> str:
        return "hello"


class Derived(Base):
    @trace
    def hello(self) -> str:
        return super().hello() + "!"


def test_super_works_in_a_traced_method(tracer: HoneyHiveTracer) -> None:
    assert Derived().hello() == "hello!"


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_traced_function_is_copied_and_pickled_by_its_name(make: Callable[[Any], Any]) -> None:
    assert make(Derived.hello) is Derived.hello


def test_a_traced_function_that_refers_to_itself_is_collected(tracer: HoneyHiveTracer) -> None:
    def make() -> weakref.ref[Any]:
        class Local(Base):
            @trace
            def hello(self) -> str:
                return super().hello() + repr(factorial)

        @trace
        def factorial(n: int) -> int:
            return n * factorial(n - 1) if n else len(Local.__name__) - 4

        assert factorial(3) == 6
        return weakref.ref(factorial)

    gone = make()
    tracer.wait_processed()
    gc.collect()
    assert gone() is None


class _ActsWhenFreed:
    def __init__(self) -> None:
        self.cycle = self

    def __del__(self) -> None:
        list(range(20))


def _function_with(variables: int) -> Callable[[], Any]:
    names = ", ".join(f"v{number}" for number in range(variables))
    found: dict[str, Any] = {}
    exec(f"def outer({names}):\n    def function(): return [{names}]\n    return function", found)
    return found["outer"](*range(variables))  # type: ignore[no-any-return]


def test_functions_may_be_decorated_in_many_threads() -> None:
    """In Python 3.11, threads that build syntax trees make each other fail when one collects garbage meanwhile."""
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(1e-6)
    gc.set_threshold(10)

    def decorate(first: int) -> list[Any]:
        return [(_ActsWhenFreed(), trace(_function_with(number))())[1] for number in range(first, 200)]

    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(decorate, (0, 1, 2, 3)))
    finally:
        sys.setswitchinterval(interval)
        gc.set_threshold(*threshold)
    assert found == [[list(range(number)) for number in range(first, 200)] for first in (0, 1, 2, 3)]


def test_the_event_loop_may_close_a_generator_before_its_wrapper(tracer: HoneyHiveTracer) -> None:
    """The event loop closes the wrapper and the generator in it, in either order."""

    @hh.trace
    async def stream() -> AsyncIterator[int]:
        yield 1

    async def abandon(*, inner_first: bool) -> None:
        generator: Any = stream()
        assert await generator.__anext__() == 1
        inner = next(
            value for value in gc.get_objects() if inspect.isasyncgen(value) and value.__name__ == "stream"
            and value is not generator and value.ag_frame is not None
        )  # fmt: skip
        for one in (inner, generator) if inner_first else (generator, inner):
            await one.aclose()

    for inner_first in (True, False):
        asyncio.run(abandon(inner_first=inner_first))
