"""One call of a user's function: plain or coroutine function, again after an error, and not longer than allowed."""

from __future__ import annotations

import contextvars
import inspect
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

from hh_jupyter.experiments.here import Here, too_long
from hh_jupyter.tracing.serialize import text_of

PAUSE: Final = (0.25, 8.0)
"""Seconds before the second attempt, and the most it grows to, doubling; each is shortened by chance, up to half."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How much a call may fail and take.

    Attributes:
        retries: attempts after the first.
        timeout: seconds that one attempt may take; None for as long as it takes.
    """

    retries: int = 0
    timeout: float | None = None


def call(
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    here: Here,
    patience: Patience,
    failures: list[str],
) -> Any:
    """Call it and wait for its result.

    Args:
        failures: gets the errors of attempts that were followed by another one.

    Raises:
        Exception: that of the last attempt.
    """
    for attempt in range(patience.retries):
        try:
            return _attempt(function, args, kwargs, here, patience.timeout)
        except Exception as error:  # boundary: whatever it is, there is another attempt.
            failures.append(text_of_error(error))
        longest = min(PAUSE[0] * 2**attempt, PAUSE[1])
        if here.stopping.wait(longest * random.uniform(0.5, 1)):
            break
    return _attempt(function, args, kwargs, here, patience.timeout)


def text_of_error(error: BaseException) -> str:
    """`Type: text`."""
    return f"{type(error).__name__}: {text_of(error)}"


def _attempt(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], here: Here, timeout: float | None
) -> Any:
    started = time.monotonic()
    if timeout is None or inspect.iscoroutinefunction(function):
        result = function(*args, **kwargs)
    else:
        result = _on_thread(function, args, kwargs, timeout)
    if not inspect.isawaitable(result):
        return result
    return here.wait_for(result, timeout, time.monotonic() - started)


def _on_thread(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], timeout: float) -> Any:
    """A thread cannot be ended from outside: one that takes too long is left to itself, and its result forgotten."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:  # boundary: it is raised where it is waited for.
            future.set_exception(error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), name="hh_jupyter-call", daemon=True)
    thread.start()
    try:
        return future.result(timeout)
    except TimeoutError:
        if future.done():
            raise  # Its own.
        raise too_long(timeout) from None
