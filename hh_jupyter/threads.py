"""Threads of this package, one warning where none can be started, and collections that threads share without a lock.

Pyodide has no threads, a container may limit their number, and none starts while the interpreter shuts down. The
callers of `start_thread` then do their work on the calling thread, or leave out what only decorates.
"""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future
from typing import Any, Final, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")

_PARENT: Final = "_ipykernel_parent_thread_ident"
"""Where ipykernel 6 notes which thread made a thread, to find the cell of what it prints.

Thread ids are used again, so the notes of threads that start each other can form a circle, and the search never ends.
"""

_problem: str | None = None


def start_thread(target: Callable[..., object], name: str, args: Iterable[Any] = ()) -> threading.Thread | None:
    """Start a daemon thread; return None if that is not possible, which is logged once."""
    thread = threading.Thread(target=target, name=name, args=tuple(args), daemon=True)
    if hasattr(thread, _PARENT):
        vars(thread)[_PARENT] = threading.main_thread().ident
    try:
        thread.start()
    except RuntimeError as error:
        note_problem(error)
        return None
    return thread


async def call_off_loop(function: Callable[..., object], *args: Any, **kwargs: Any) -> None:
    """Await a function that may block, called on a thread; call it here, if none can be started.

    The event loop's own executor would not do: once used, it needs a thread to be shut down.
    """
    import asyncio  # Late: a cold start does not need it.

    future: Future[None] = Future()

    def call() -> None:
        try:
            function(*args, **kwargs)
        except BaseException as error:  # boundary: raised again in the coroutine.
            future.set_exception(error)
        else:
            future.set_result(None)

    if start_thread(contextvars.copy_context().run, "hh_jupyter-call", (call,)) is None:
        call()
    await asyncio.wrap_future(future)


def note_problem(error: RuntimeError) -> None:
    """Log that a thread could not be started, once, unless the interpreter is shutting down."""
    global _problem
    if _problem is None and "shutdown" not in str(error):
        _problem = f"no thread can be started here ({error})"
        then = "spans are recorded, and sent at the end of a cell, by a flush and at exit"
        logger.warning("hh_jupyter: %s: %s", _problem, then)


def problem() -> str | None:
    """Return why a thread could not be started; None if that has not happened in this process."""
    return _problem


def evict_oldest(entries: dict[Any, Any], limit: int) -> None:
    """Remove the oldest entries until `limit` are left.

    Takes no lock, since it may run inside a destructor. Other threads may change the dict at the same time.
    """
    while len(entries) > limit:
        try:
            oldest = next(iter(entries))
        except (RuntimeError, StopIteration):  # Another thread has changed the dict between the two calls.
            continue
        entries.pop(oldest, None)


def copied(rows: Collection[T]) -> tuple[T, ...]:
    """All items of a deque or the keys of a dict, although another thread may add some at the same time."""
    while True:
        try:
            return tuple(rows)
        except RuntimeError:  # It changed during the copy.
            continue
