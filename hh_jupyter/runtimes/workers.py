"""Work for executors: threads, processes, Dask, and whatever else has the interface of `concurrent.futures.Executor`.

    pool.submit(traced(answer), question)
    pool.map(traced(answer), questions)

Context and session go along with the call. In a thread that is all. In another process the spans are kept, travel back
with the result, or with the exception, and are taken in as if they had been made here: in the calling cell, its
session, its backend (`going_home`). Dask leaves results in its workers, so from there they come as events
(`dask_events`).
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

from opentelemetry import context as otel_context
from opentelemetry.context import Context

from hh_jupyter.runtimes import dask_events
from hh_jupyter.runtimes.going_home import Outgoing
from hh_jupyter.runtimes.receipts import Receipts
from hh_jupyter.tracing import away
from hh_jupyter.tracing.arguments import refuse, tracer_or_none
from hh_jupyter.tracing.callables import is_kind, without_partial
from hh_jupyter.tracing.default import current_tracer
from hh_jupyter.tracing.scope import leave, with_tracer

if TYPE_CHECKING:
    from hh_jupyter.tracing.tracer import HoneyHiveTracer

__all__ = ["traced"]

P = ParamSpec("P")
R = TypeVar("R")


def traced(fn: Callable[P, R], tracer: HoneyHiveTracer | None = None) -> Callable[P, R]:
    """A function to hand to an executor: what `fn` does in a worker is traced as if it were done here and now.

    Call it where the work is sent, since it notes the current span, session and notebook cell. `fn` needs no decorator.
    A coroutine function is run to its end. A worker process needs `hh_jupyter` installed, and no key.

    Example:
        >>> from concurrent.futures import ProcessPoolExecutor
        >>> with ProcessPoolExecutor() as pool:  # doctest: +SKIP
        ...     replies = list(pool.map(traced(answer), questions))

    Args:
        fn: whatever the executor can send to its workers.
        tracer: default: the current tracer. Without one, `fn` runs untraced.

    Raises:
        SettingTypeError: `fn` cannot be called.
    """
    if not callable(fn):
        refuse("traced", "fn", fn, "a function", "Its arguments go to the executor: submit(traced(fn), argument).")
    found = tracer_or_none("traced", "tracer", tracer) or current_tracer()
    if found is None or not found.enabled:
        return functools.partial(_run, fn)
    dask_events.listen()
    return _HomeCall(fn, away.carried_by(found), with_tracer(otel_context.get_current(), found))


def _run(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    if is_kind(fn, inspect.iscoroutinefunction):
        return asyncio.run(fn(*args, **kwargs))
    return fn(*args, **kwargs)


def _run_in(context: Context, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    token = otel_context.attach(context)
    try:
        return _run(fn, *args, **kwargs)
    finally:
        leave(token)


class _Call(Generic[P, R]):
    """A function and where its spans belong."""

    def __init__(self, fn: Callable[P, R], carried: away.Carried) -> None:
        self._fn, self._carried = fn, carried
        named: Any = self
        functools.update_wrapper(named, fn, updated=())  # Engines show the name.
        self.__name__ = getattr(without_partial(fn), "__name__", type(fn).__name__)

    def __repr__(self) -> str:
        return f"traced({self._fn!r})"

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """What makes two calls the same to Dask: the function, and who sent it from where."""
        return "hh_jupyter", self._fn, repr(self._carried)


class _HomeCall(_Call[P, R]):
    """The call in the process that made it, or in a fork of it: spans are delivered from right there."""

    def __init__(self, fn: Callable[P, R], carried: away.Carried, context: Context) -> None:
        super().__init__(fn, carried)
        self._context = context
        self._receipts = Receipts(self, carried)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        found: R = _run_in(self._context, self._fn, args, kwargs)
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        dask_events.listen()  # To a client that was made since.
        return _unpickled, (self._fn, self._carried, self._receipts.another())


class _AwayCall(_Call[P, R]):
    """The call in a worker process, or on its way there."""

    def __init__(self, fn: Callable[P, R], carried: away.Carried, receipt: tuple[str, int]) -> None:
        super().__init__(fn, carried)
        self._receipt = receipt

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        carried = self._carried
        outgoing = Outgoing(self.__name__, carried, self._receipt)
        context = carried.context(away.tracer_of(carried.handle))
        events = dask_events.to(carried.handle.process)
        if events is not None:
            events.began(self._receipt[0], self.__name__, carried.handle)
            try:
                found: R = _run_in(context, self._fn, args, kwargs)
                return found
            finally:
                events.send(outgoing.parcel())
        try:
            result = _run_in(context, self._fn, args, kwargs)
        except BaseException as error:
            outgoing.carry_on(error)
            raise
        going_home: Any = outgoing.result(result)  # Once it is there, it is what `fn` returned.
        return cast(R, going_home)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self._fn, self._carried, self._receipt)


def _unpickled(fn: Callable[P, R], carried: away.Carried, receipt: tuple[str, int]) -> _Call[P, R]:
    if carried.at_home:
        return _HomeCall(fn, carried, carried.context(away.tracer_of(carried.handle)))
    return _AwayCall(fn, carried, receipt)
