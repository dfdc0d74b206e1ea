"""What kind of function a callable is, and blocks used as decorators.

`inspect` tells functions apart by their code, which an object with `__call__` does not have.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar, cast

from hh_jupyter.tracing.arguments import refuse

F = TypeVar("F", bound=Callable[..., Any])


def is_kind(function: Any, test: Callable[[Any], bool]) -> bool:
    """Whether a callable passes a test of `inspect`, such as `iscoroutinefunction`, itself or by its `__call__`."""
    function = without_partial(function)
    return test(function) or (callable(function) and not inspect.isroutine(function) and test(type(function).__call__))


def without_partial(function: Any) -> Any:
    """The function below any `functools.partial`."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def each_call_in(called: str, function: F, block: Callable[[], AbstractContextManager[Any]]) -> F:
    """`function` with a block of its own around each call.

    Args:
        called: the call that made the block, for error messages.
        function: a function, coroutine function or generator function.
        block: makes a block; calls may overlap, so no two share one.

    Raises:
        SettingTypeError: it is no function, or an async generator function.
    """
    given: Any = function
    if inspect.isclass(given) or not callable(given):
        refuse(called, "function", function, "a function", f"As a block: with tracer.{called}(...).")
    if is_kind(given, inspect.isasyncgenfunction):
        then = f"Write the block, with tracer.{called}(...), inside it."
        refuse(called, "function", function, "no async generator function", then)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with block():
            return function(*args, **kwargs)

    @functools.wraps(function)
    async def coroutine_wrapper(*args: Any, **kwargs: Any) -> Any:
        with block():
            return await function(*args, **kwargs)

    @functools.wraps(function)
    def generator_wrapper(*args: Any, **kwargs: Any) -> Any:
        with block():
            return (yield from function(*args, **kwargs))

    if is_kind(given, inspect.isgeneratorfunction):
        return cast(F, generator_wrapper)
    return cast(F, coroutine_wrapper if is_kind(given, inspect.iscoroutinefunction) else wrapper)
