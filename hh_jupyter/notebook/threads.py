"""Thread starts and executor submits carry the OpenTelemetry context, so that their spans land in the right cell.

A thread begins with an empty context [measured, Python 3.11]. OpenTelemetry's own threading instrumentor does this too
but costs 68 ms to import; this is the part of it that is needed, and it is undone at unload.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from opentelemetry import context as otel
from opentelemetry.context import Context


class ThreadContexts:
    """The two wrappers: installed once, inert after `remove` even where somebody wrapped them in turn."""

    def __init__(self) -> None:
        self._active = False
        self._start: Callable[..., None] = threading.Thread.start
        self._submit: Callable[..., Future[Any]] = ThreadPoolExecutor.submit

    def install(self) -> None:
        """Wrap `Thread.start` and `ThreadPoolExecutor.submit`."""
        self._active = True
        start, submit = self._start, self._submit

        @functools.wraps(start)
        def start_with_context(thread: threading.Thread) -> None:
            if self._active:
                _carry(thread, otel.get_current())
            start(thread)

        @functools.wraps(submit)
        def submit_with_context(
            executor: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
        ) -> Future[Any]:
            if not self._active:
                return submit(executor, fn, *args, **kwargs)
            # An empty context is carried as well: the worker thread still has that of the call which started it.
            return submit(executor, _call, otel.get_current(), fn, args, kwargs)

        self._ours = (start_with_context, submit_with_context)
        threading.Thread.start, ThreadPoolExecutor.submit = self._ours  # type: ignore[method-assign, assignment]

    def remove(self) -> None:
        """Put the originals back where nobody else has wrapped ours."""
        self._active = False
        if threading.Thread.start is self._ours[0]:
            threading.Thread.start = self._start  # type: ignore[method-assign]
        if ThreadPoolExecutor.submit is self._ours[1]:
            ThreadPoolExecutor.submit = self._submit  # type: ignore[method-assign]


def _carry(thread: threading.Thread, context: Context) -> None:
    """Make this thread run in `context`. On the instance, since subclasses override `run` without calling ours."""
    try:
        # A started thread is left alone: `start` is about to say that it cannot start twice.
        if not context or thread.ident is not None:
            return
        run = thread.run

        def run_with_context() -> None:
            del thread.run  # breaks the cycle thread -> closure -> thread
            _call(context, run, (), {})

        thread.run = run_with_context  # type: ignore[method-assign]
    except Exception:  # boundary: a subclass may do anything here, and it is `start` that shall say what is wrong
        return


def _call(context: Context, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    token = otel.attach(context)
    try:
        return fn(*args, **kwargs)
    finally:
        otel.detach(token)
