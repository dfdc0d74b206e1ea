"""Invoke a user's function, plain or coroutine, with retries and a timeout."""

from __future__ import annotations

import contextvars
import inspect
import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

from hh_jupyter.experiments.loops import RunLoop, timeout_error
from hh_jupyter.threads import start_thread
from hh_jupyter.values import text_of

BACKOFF_SECONDS: Final = (0.25, 8.0)
"""Pause before the second attempt and maximum pause, in seconds. Pauses double; jitter shortens each by up to half."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Retries and timeout of a call.

    Attributes:
        retries: number of attempts after the first.
        timeout: limit of one attempt in seconds; None for no limit.
    """

    retries: int = 0
    timeout: float | None = None


def invoke(
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    loop: RunLoop,
    retry_policy: RetryPolicy,
    retried_errors: list[str],
) -> Any:
    """Call a function and return its result, awaited if it is awaitable.

    Args:
        retried_errors: the errors of failed attempts that were retried are appended.

    Raises:
        Exception: the error of the last attempt.
    """
    for attempt in range(retry_policy.retries):
        try:
            return _attempt(function, args, kwargs, loop, retry_policy.timeout)
        except Exception as error:  # boundary: any error of the user's function is retried.
            retried_errors.append(error_text(error))
        longest = min(BACKOFF_SECONDS[0] * 2**attempt, BACKOFF_SECONDS[1])
        if loop.stopping.wait(longest * random.uniform(0.5, 1)):
            break
    return _attempt(function, args, kwargs, loop, retry_policy.timeout)


def error_text(error: BaseException) -> str:
    """The error as `Type: text`."""
    return f"{type(error).__name__}: {text_of(error)}"


def _attempt(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], loop: RunLoop, timeout: float | None
) -> Any:
    started = time.monotonic()
    if timeout is None or inspect.iscoroutinefunction(function):
        result = function(*args, **kwargs)
    else:
        result = _on_thread(function, args, kwargs, timeout)
    if not inspect.isawaitable(result):
        return result
    return loop.wait_for(result, timeout, time.monotonic() - started)


def _on_thread(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], timeout: float) -> Any:
    """Call the function on a thread. After a timeout the thread keeps running, and its result is discarded.

    If no thread can be started, call it here, without a timeout.
    """
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:  # boundary: `future.result` raises it in the caller.
            future.set_exception(error)

    if start_thread(contextvars.copy_context().run, "hh_jupyter-call", (run,)) is None:
        run()
    try:
        return future.result(timeout)
    except TimeoutError:
        if future.done():
            raise  # Raised by the function itself.
        raise timeout_error(timeout) from None
