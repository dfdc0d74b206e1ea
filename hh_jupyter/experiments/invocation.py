"""Invoke a user's function, plain or coroutine, with retries and a timeout.

All coroutines of a run share one event loop per process, because HTTP and model clients keep connections that belong to
the loop in which they were opened: with a loop for each data point, the second one would find them closed.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import random
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

from hh_jupyter.errors import HHError
from hh_jupyter.threads import start_thread
from hh_jupyter.values import text_of

MAX_RUN_LOOPS: Final = 8
"""Most loops per process. A worker process is not notified when a run ends, so the oldest loop is closed."""

START_SECONDS: Final = 10.0
JOIN_SECONDS: Final = 2.0


class RunStopped(HHError):  # noqa: N818  # Not an error: the user interrupted the run.
    """The run was interrupted before this call was finished."""


class RunLoop:
    """Event loop and stop flag of one run in this process. Thread-safe.

    Attributes:
        stopping: set when no new call may start.
    """

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closing: asyncio.Event | None = None

    def wait_for(self, awaitable: Awaitable[Any], timeout: float | None, spent: float = 0.0) -> Any:
        """Run an awaitable on the loop, in the caller's context, and return its result.

        Args:
            timeout: in seconds; None for no limit.
            spent: seconds of the timeout that have already passed.

        Raises:
            TimeoutError: the awaitable took longer and was cancelled.
            RunStopped: the run was interrupted.
            HHError: no thread can be started for the loop.
        """
        try:
            loop = self._event_loop()
        except HHError:
            if inspect.iscoroutine(awaitable):
                awaitable.close()  # Otherwise Python warns about a coroutine that was never awaited.
            raise
        future = asyncio.run_coroutine_threadsafe(_awaited(awaitable), loop)
        try:
            return future.result(None if timeout is None else max(0.0, timeout - spent))
        except TimeoutError:
            if future.done():
                raise  # Raised by the function itself.
            future.cancel()
            raise timeout_error(timeout) from None

    def stop(self) -> None:
        """Prevent new calls and cancel running coroutines."""
        with self._lock:
            if self.stopping.is_set():
                return
            self.stopping.set()
            if self._loop is not None and self._closing is not None:
                self._loop.call_soon_threadsafe(self._closing.set)

    def close(self) -> None:
        """Stop the loop and its thread."""
        self.stop()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(JOIN_SECONDS)

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self.stopping.is_set():
                raise RunStopped("evaluate: the run was interrupted.")
            if self._loop is None:
                ready = threading.Event()
                self._thread = start_thread(self._run_thread, "hh_jupyter-loop", (ready,))
                if self._thread is None:
                    raise HHError("evaluate: the event loop of async functions needs a thread, and none can be started")
                ready.wait(START_SECONDS)
            assert self._loop is not None
            return self._loop

    def _run_thread(self, ready: threading.Event) -> None:
        with asyncio.Runner() as runner:  # Exiting the runner cancels pending tasks.
            runner.run(self._until_closed(ready))

    async def _until_closed(self, ready: threading.Event) -> None:
        self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
        ready.set()
        await self._closing.wait()


def timeout_error(timeout: float | None) -> TimeoutError:
    """The error of a call that exceeded `timeout` seconds."""
    return TimeoutError(f"took longer than {timeout:g} s")


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


_run_loops: dict[str, RunLoop] = {}
_lock = threading.Lock()


def run_loop(run_id: str) -> RunLoop:
    """The loop of a run in this process, created on first use."""
    with _lock:
        found = _run_loops.get(run_id)
        if found is None:
            found = _run_loops[run_id] = RunLoop()
            evicted = [_run_loops.pop(next(iter(_run_loops))) for _ in range(len(_run_loops) - MAX_RUN_LOOPS)]
        else:
            evicted = []
    for one in evicted:
        one.close()
    return found


def close_run_loop(run_id: str) -> None:
    """Close the loop of a run that has ended."""
    with _lock:
        found = _run_loops.pop(run_id, None)
    if found is not None:
        found.close()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()  # It may be held by a thread that does not exist in the child.
    _run_loops.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


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
