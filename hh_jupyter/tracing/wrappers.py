"""Wrappers of user functions: something happens around each call, and nothing else about the function changes.

A wrapper is never seen in a traceback, and it survives a reload of the user's module. IPython's autoreload keeps the
old function object, which other modules and existing instances refer to, and gives it the new function's code, defaults
and `__dict__`, but in most versions neither its closure nor its globals. Therefore

- the code of a wrapper is its own, and has a reference to the `Wrapped` among its constants; the `__dict__` keeps it
  alive (weak, because a cycle through a code object is never collected);
- it uses no global names, and has the globals and the closure of the function. A function and its wrapper can thus
  take each other's place, when a decorator is added or removed.
"""

from __future__ import annotations

import functools
import inspect
import types
import weakref
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Final, Protocol, TypeVar

from hh_jupyter.tracing.validation import callable_matches, raise_argument_error
from hh_jupyter.values import plain

F = TypeVar("F", bound=Callable[..., Any])

KEY: Final = "__hh_wrapped__"
"""Key of the `Wrapped` in the `__dict__` of a wrapper."""

MAX_YIELDED: Final = 100
"""Number of yielded items that are recorded as the output; all are counted."""


class Call(Protocol):
    """What happens around one call, until it finishes or fails.

    A generator is attached while it runs, and suspended while its consumer does.
    """

    result_wanted: bool

    def attach(self) -> None: ...
    def suspend(self) -> None: ...
    def finish(self, result: Any) -> None: ...
    def fail(self, error: BaseException) -> None: ...


class Wrapped:
    """The function behind a wrapper. A subclass defines what happens around its calls.

    The methods are for the code of wrappers, which uses no names but this object's.
    """

    __slots__ = ("__weakref__", "_class_cell", "function")

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        names = function.__code__.co_freevars if isinstance(function, types.FunctionType) else ()
        cells: Any = getattr(function, "__closure__", None)
        self._class_cell: Any = cells[names.index("__class__")] if "__class__" in names else None

    def start(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        """Start a call; None if nothing is to happen around it."""
        raise NotImplementedError

    def function_of(self, cls: type) -> Callable[..., Any]:
        """Return the function with `super()` for a class: after a reload, there are instances of the old one."""
        if self._class_cell.cell_contents is cls:
            return self.function
        function: Any = self.function
        cells = tuple(types.CellType(cls) if cell is self._class_cell else cell for cell in function.__closure__)
        bound = types.FunctionType(
            function.__code__, function.__globals__, function.__name__, function.__defaults__, cells
        )
        bound.__kwdefaults__ = function.__kwdefaults__
        return bound

    @staticmethod
    def fail(call: Call | None, error: BaseException) -> None:
        """Remove the wrapper from the traceback of an exception, and record it."""
        Wrapped.hide(error)
        if call is not None:
            call.fail(error)

    @staticmethod
    def hide(error: BaseException) -> None:
        """Remove the frame that caught an exception from its traceback, and frames of this module below it.

        A bare `raise` does not add the frame again.
        """
        rest = error.__traceback__.tb_next if error.__traceback__ is not None else None
        while rest is not None and rest.tb_frame.f_code.co_filename == __file__:
            rest = rest.tb_next
        BaseException.with_traceback(error, rest)  # Assigning `__traceback__` fails for a frozen dataclass.

    def iterate(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Generator[Any, Any, Any]:
        """Return the generator that a wrapper of a generator function delegates to."""
        call = self.start(args, kwargs)
        if call is None:
            return function(*args, **kwargs)  # type: ignore[no-any-return]
        return Iteration(call, function, args, kwargs).run()

    def iterate_async(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AsyncIteration:
        """Return the steps of an async generator, which cannot delegate to another one."""
        return AsyncIteration(self.start(args, kwargs) or _NoCall(), function, args, kwargs)


class Iteration:
    """The iteration over a generator. The call ends with it; a generator that its consumer closes has not failed."""

    __slots__ = ("_count", "_inner", "_items", "call", "step")

    def __init__(self, call: Call, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.call = call
        self._items: list[Any] = []
        self._count = 0
        try:
            self._inner = function(*args, **kwargs)
        except BaseException as error:
            call.fail(error)
            raise
        self.step: Callable[[], Any] = self._first_step()

    def _first_step(self) -> Callable[[], Any]:
        return self._inner.__next__  # type: ignore[no-any-return]

    def run(self) -> Generator[Any, Any, Any]:
        """Iterate, with everything that the consumer sends or throws."""
        __tracebackhide__ = True
        while True:
            self.call.attach()
            try:
                item = self.step()
            except StopIteration as stop:
                self.finish()
                return stop.value
            except BaseException as error:
                self.fail(error)
                raise
            self.yielded(item)
            try:
                sent = yield item
            except BaseException as error:  # Thrown in by the consumer: the generator's to handle.
                self.throw(error)
            else:
                self.send(sent)

    def send(self, value: Any) -> None:
        """Send a value into the generator at the next step."""
        self.step = functools.partial(self._inner.send, value)

    def throw(self, error: BaseException) -> None:
        """Throw an exception into the generator at the next step."""
        Wrapped.hide(error)
        self.step = functools.partial(self._inner.throw, error)

    def yielded(self, item: Any) -> None:
        """Suspend the call, and record an item."""
        self.call.suspend()
        self._count += 1
        if self._count <= MAX_YIELDED and self.call.result_wanted:
            self._items.append(plain(item))  # Converted now: the item may change later, and need not be kept alive.

    def finish(self) -> None:
        """Finish the call with the items."""
        more = self._count - len(self._items) if self._items else 0
        self.call.finish([*self._items, f"... {more} more"] if more else self._items)

    def fail(self, error: BaseException) -> None:
        """Let the call fail, unless the consumer closed the generator."""
        if isinstance(error, GeneratorExit):
            self.finish()
        else:
            self.call.fail(error)


class AsyncIteration(Iteration):
    """The iteration over an async generator; the wrapper takes its steps, as it cannot delegate to a generator."""

    __slots__ = ()

    _inner: AsyncGenerator[Any, Any]

    def _first_step(self) -> Callable[[], Any]:
        return self._inner.__anext__

    def send(self, value: Any) -> None:
        self.step = functools.partial(self._inner.asend, value)

    def throw(self, error: BaseException) -> None:
        Wrapped.hide(error)
        throw = self._close if isinstance(error, GeneratorExit) else self._inner.athrow
        self.step = functools.partial(throw, error)

    async def _close(self, error: BaseException) -> None:
        """Close the generator. The event loop may have closed it already; `athrow` would return None then."""
        await self._inner.aclose()
        raise error


class _NoCall:
    """Does nothing around a call."""

    result_wanted = False

    def attach(self) -> None:
        pass

    def suspend(self) -> None:
        pass

    def finish(self, result: Any) -> None:
        pass

    def fail(self, error: BaseException) -> None:
        pass


# Making a wrapper. Its code is compiled from text, because a function has as many free variables as it is written with.

_PLACEHOLDER: Final = "<wrapped>"
_CALL: Final = """
{async_}def wrapper(*args, **kwargs):
    __tracebackhide__ = True
    reference = "<wrapped>"
    wrapped = reference()
    call = wrapped.start(args, kwargs)
    if call is not None:
        call.attach()
    try:
        result = {await_}{function}(*args, **kwargs)
    except BaseException as error:
        wrapped.fail(call, error)
        raise
    if call is not None:
        call.finish(result)
    return result
"""
_GENERATOR: Final = """
def wrapper(*args, **kwargs):
    __tracebackhide__ = True
    reference = "<wrapped>"
    wrapped = reference()
    try:
        return (yield from wrapped.iterate({function}, args, kwargs))
    except BaseException as error:
        wrapped.hide(error)
        raise
"""
_ASYNC_GENERATOR: Final = """
async def wrapper(*args, **kwargs):
    __tracebackhide__ = True
    reference = "<wrapped>"
    wrapped = reference()
    try:
        iteration = wrapped.iterate_async({function}, args, kwargs)
    except BaseException as error:
        wrapped.hide(error)
        raise
    call = iteration.call
    try:
        while True:
            call.attach()
            try:
                item = await iteration.step()
            except StopAsyncIteration:
                iteration.finish()
                return
            iteration.yielded(item)
            try:
                sent = yield item
            except BaseException as error:
                iteration.throw(error)
            else:
                iteration.send(sent)
    except BaseException as error:
        wrapped.hide(error)
        iteration.fail(error)
        raise
"""


class _Reference(weakref.ref[Wrapped]):
    """A weak reference that can be pickled by value, with the function that refers to it."""

    __slots__ = ()

    def __reduce__(self) -> tuple[type[_Reference], tuple[Wrapped | None]]:
        return _Reference, (self(),)


def wrap(wrapped: Wrapped) -> Any:
    """Return a wrapper of the same kind as `wrapped.function`: function, coroutine function or (async) generator."""
    function: Any = wrapped.function
    own = function if isinstance(function, types.FunctionType) else None
    free = own.__code__.co_freevars if own is not None else ()
    super_cell = free.index("__class__") if "__class__" in free else None
    code = _code(_source(function), len(free), super_cell)
    constants = tuple(_Reference(wrapped) if value == _PLACEHOLDER else value for value in code.co_consts)
    code = code.replace(co_consts=constants, co_freevars=free)
    if own is not None:  # Stack dumps show the decorated function; autoreload compiles its new code for this file.
        code = code.replace(
            co_filename=own.__code__.co_filename,
            co_firstlineno=own.__code__.co_firstlineno,
            co_name=own.__code__.co_name,
            co_qualname=own.__code__.co_qualname,
        )
    namespace = getattr(own or inspect.unwrap(function), "__globals__", None)
    wrapper: Any = types.FunctionType(
        code, globals() if namespace is None else namespace, code.co_name, None, own and own.__closure__
    )
    functools.update_wrapper(wrapper, function)
    wrapper.__dict__[KEY] = wrapped
    wrapper.__kwdefaults__ = own and own.__kwdefaults__  # For the function's own code, should that replace ours.
    return wrapper


def is_wrapper(function: Callable[..., Any]) -> bool:
    """Whether a function is a wrapper, or is itself wrapped around one by `functools.wraps`."""
    return KEY in getattr(function, "__dict__", ())


def _source(function: Callable[..., Any]) -> str:
    """The text of a wrapper for this kind of function, without the function and the reference."""
    if callable_matches(function, inspect.isasyncgenfunction):
        return _ASYNC_GENERATOR
    if callable_matches(function, inspect.isgeneratorfunction):
        return _GENERATOR
    if callable_matches(function, inspect.iscoroutinefunction):
        return _CALL.replace("{async_}", "async ").replace("{await_}", "await ")
    return _CALL.replace("{async_}", "").replace("{await_}", "")


@functools.lru_cache(maxsize=64)
def _code(source: str, cells: int, super_cell: int | None) -> types.CodeType:
    """Compile the code of a wrapper. All of it is on line 1.

    Args:
        cells: number of free variables.
        super_cell: index of the one for `super()`.
    """
    names = [f"cell_{index}" for index in range(cells)]
    function = "wrapped.function" if super_cell is None else f"wrapped.function_of({names[super_cell]})"
    text = source.format(function=function)
    if names:
        text = f"def outer({', '.join(names)}):{text}    if 0: {', '.join(names)}\n".replace("\n", "\n    ")
    code = compile(text, __file__, "exec", dont_inherit=True)
    while code.co_name != "wrapper":
        code = next(value for value in code.co_consts if isinstance(value, types.CodeType))
    return _on_first_line(code)


def _on_first_line(code: types.CodeType) -> types.CodeType:
    """Move all instructions to line 1.

    A change of the syntax tree would do, too, but in Python 3.11 two threads that build trees can make each other fail.

    Source: `Objects/locations.md` of CPython. An entry has one byte for its kind (13: a line without columns) and its
    length of up to 8 units, and one for the difference of its line to that of the entry before, or to the first line.
    """
    units = len(code.co_code) // 2
    lengths = (min(8, units - start) for start in range(0, units, 8))
    table = b"".join(bytes((0x80 | 13 << 3 | length - 1, 0)) for length in lengths)
    return code.replace(co_firstlineno=1, co_linetable=table)


# Context managers used as decorators.


class _Block:
    """A context manager around a call."""

    result_wanted = False

    def __init__(self, block: AbstractContextManager[Any]) -> None:
        self._block = block
        block.__enter__()

    def attach(self) -> None:
        pass

    def suspend(self) -> None:
        pass

    def finish(self, result: Any) -> None:
        self._exit(None)

    def fail(self, error: BaseException) -> None:
        self._exit(error)

    def _exit(self, error: BaseException | None) -> None:
        traceback: TracebackType | None = error.__traceback__ if error is not None else None
        self._block.__exit__(type(error) if error is not None else None, error, traceback)


class _InBlock(Wrapped):
    __slots__ = ("_block",)

    def __init__(self, function: Callable[..., Any], block: Callable[[], AbstractContextManager[Any]]) -> None:
        super().__init__(function)
        self._block = block

    def start(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        return _Block(self._block())


def wrap_each_call(called: str, function: F, block: Callable[[], AbstractContextManager[Any]]) -> F:
    """`function`, with a new context manager entered around each call.

    Args:
        called: the call that created the context manager, for error messages.
        function: a function, coroutine function or generator function.
        block: returns a new context manager, which suppresses no exception; calls may overlap, so each gets its own.

    Raises:
        SettingTypeError: `function` is not a function, or is an async generator function.
    """
    target: Any = function
    if inspect.isclass(target) or not callable(target):
        raise_argument_error(called, "function", function, "a function", f"For a block: with tracer.{called}(...).")
    if callable_matches(target, inspect.isasyncgenfunction):
        then = f"Use it as a block inside the generator: with tracer.{called}(...)."
        raise_argument_error(called, "function", function, "a function that is not an async generator", then)
    wrapper: F = wrap(_InBlock(function, block))
    return wrapper
