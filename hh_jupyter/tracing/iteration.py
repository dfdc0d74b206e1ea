"""`@trace` on generators: the span lasts until the iteration ends, and is current only while the generator runs."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Generator
from types import TracebackType
from typing import Any, Final, Self

from hh_jupyter.tracing.calls import Call
from hh_jupyter.tracing.serialize import plain

MAX_YIELDED: Final = 100
"""Items that are kept as the output; all are counted."""

Begin = Callable[[tuple[Any, ...], dict[str, Any]], Call | None]


def generator_wrapper(function: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    """A generator function that does what `function` does, as one span."""

    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        call = begin(args, kwargs)
        inner = function(*args, **kwargs)
        return (yield from inner if call is None else _iterate(inner, call))

    return wrapper


def async_generator_wrapper(function: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    """The same for async generator functions."""

    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        call = begin(args, kwargs) or _Untraced()
        inner: AsyncGenerator[Any, Any] = function(*args, **kwargs)
        step: Callable[[], Any] = inner.__anext__
        with _Iteration(call) as iteration:
            while True:
                try:
                    with call:
                        item = await step()
                except StopAsyncIteration:
                    return
                iteration.yielded(item)
                try:
                    sent = yield item
                except GeneratorExit:
                    with call:
                        await inner.aclose()
                    raise
                except BaseException as error:  # Thrown in by the consumer: the generator's to handle.
                    step = functools.partial(inner.athrow, error)
                else:
                    step = functools.partial(inner.asend, sent)

    return wrapper


class _Iteration:
    """Ends the call's span when the iteration ends; to be closed by its consumer is no failure."""

    __slots__ = ("_call", "_count", "_items")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._items: list[Any] = []
        self._count = 0

    def yielded(self, item: Any) -> None:
        self._count += 1
        if self._count <= MAX_YIELDED and self._call.result_wanted:
            self._items.append(plain(item))  # Now: what was yielded may change, and need not be kept alive.

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, GeneratorExit):
            self._call.fail(error)
            return
        more = self._count - len(self._items) if self._items else 0
        self._call.finish([*self._items, f"... {more} more"] if more else self._items)


def _iterate(inner: Generator[Any, Any, Any], call: Call) -> Generator[Any, Any, Any]:
    step: Callable[[], Any] = functools.partial(next, inner)
    with _Iteration(call) as iteration:
        while True:
            try:
                with call:
                    item = step()
            except StopIteration as stop:
                return stop.value
            iteration.yielded(item)
            try:
                sent = yield item
            except GeneratorExit:
                with call:
                    inner.close()
                raise
            except BaseException as error:  # Thrown in by the consumer: the generator's to handle.
                step = functools.partial(inner.throw, error)
            else:
                step = functools.partial(inner.send, sent)


class _Untraced(Call):
    """Stands in where nothing is traced; async generators have no `yield from`."""

    def __init__(self) -> None:
        self.result_wanted = False

    def resume(self) -> None:
        pass

    def pause(self) -> None:
        pass

    def finish(self, result: Any) -> None:
        pass

    def fail(self, error: BaseException) -> None:
        pass
