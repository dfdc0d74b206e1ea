"""What a run has in the process that works for it: one event loop for all its coroutines, and the word to stop.

One loop for the whole run, because clients of HTTP and of models keep connections that belong to the loop in which they
were opened: with a loop for each data point the second one finds them closed.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import Awaitable
from typing import Any, Final

from hh_jupyter.errors import HHError

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
