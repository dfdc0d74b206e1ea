"""One call of a user's function: plain or coroutine function, retried after an error, within a time limit."""

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
from hh_jupyter.values import text_of

# What a run has in the process that works for it: one event loop for all its coroutines, and the word to stop.
#
# One loop for the whole run, because clients of HTTP and of models keep connections that belong to the loop in which
# they were opened: with a loop for each data point the second one finds them closed.

MOST: Final = 8
"""Runs that are remembered; a worker process is not told when one ends, so the oldest gives way."""

START_SECONDS: Final = 10.0
JOIN_SECONDS: Final = 2.0


class Stopped(HHError):  # noqa: N818  # No error: somebody wanted it.
    """The run was interrupted before this was done."""


class Here:
    """One run in this process. Every method may be called from any thread.

    Attributes:
        stopping: set when nothing new is to begin.
    """

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closing: asyncio.Event | None = None

    def wait_for(self, awaitable: Awaitable[Any], timeout: float | None, spent: float = 0.0) -> Any:
        """Run it on the loop, in the caller's context, and return its result.

        Args:
            timeout: seconds; None for as long as it takes.
            spent: so many of them are over already.

        Raises:
            TimeoutError: it took longer, and was cancelled.
        """
        try:
            loop = self._running()
        except Stopped:
            if inspect.iscoroutine(awaitable):
                awaitable.close()  # Else Python warns that nobody waited for it.
            raise
        future = asyncio.run_coroutine_threadsafe(_awaited(awaitable), loop)
        try:
            return future.result(None if timeout is None else max(0.0, timeout - spent))
        except TimeoutError:
            if future.done():
                raise  # Its own.
            future.cancel()
            raise too_long(timeout) from None

    def stop(self) -> None:
        """Let nothing new begin, and end the coroutines that run."""
        with self._lock:
            if self.stopping.is_set():
                return
            self.stopping.set()
            if self._loop is not None and self._closing is not None:
                self._loop.call_soon_threadsafe(self._closing.set)

    def close(self) -> None:
        """End the loop and its thread."""
        self.stop()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(JOIN_SECONDS)

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self.stopping.is_set():
                raise Stopped("evaluate: the run was interrupted.")
            if self._loop is None:
                ready = threading.Event()
                self._thread = threading.Thread(target=self._run, args=(ready,), name="hh_jupyter-loop", daemon=True)
                self._thread.start()
                ready.wait(START_SECONDS)
            assert self._loop is not None
            return self._loop

    def _run(self, ready: threading.Event) -> None:
        with asyncio.Runner() as runner:  # Its end cancels what still runs.
            runner.run(self._until_closed(ready))

    async def _until_closed(self, ready: threading.Event) -> None:
        self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
        ready.set()
        await self._closing.wait()


def too_long(timeout: float | None) -> TimeoutError:
    """The error of something that took longer than `timeout` seconds."""
    return TimeoutError(f"took longer than {timeout:g} s")


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


_here: dict[str, Here] = {}
_lock = threading.Lock()


def here(run_id: str) -> Here:
    """What the run has in this process."""
    with _lock:
        found = _here.get(run_id)
        if found is None:
            found = _here[run_id] = Here()
            gone = [_here.pop(next(iter(_here))) for _ in range(len(_here) - MOST)]
        else:
            gone = []
    for one in gone:
        one.close()
    return found


def leave(run_id: str) -> None:
    """The run is over in this process."""
    with _lock:
        found = _here.pop(run_id, None)
    if found is not None:
        found.close()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()  # A thread that the child does not have may have held it.
    _here.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


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
