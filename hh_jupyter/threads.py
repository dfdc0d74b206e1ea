"""Threads of this package, and the one warning where none can be started.

Pyodide has no threads, a container may limit their number, and none starts while the interpreter shuts down. The
callers of `start_thread` then do their work on the calling thread, or leave out what only decorates.
"""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

logger = logging.getLogger(__name__)

_problem: str | None = None


def start_thread(target: Callable[..., object], name: str, args: Iterable[Any] = ()) -> threading.Thread | None:
    """Start a daemon thread; return None if that is not possible, which is logged once."""
    thread = threading.Thread(target=target, name=name, args=tuple(args), daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        note_problem(error)
        return None
    return thread


async def call_off_loop(function: Callable[..., object], *args: Any, **kwargs: Any) -> None:
    """Call a function that may block on a thread of the event loop's executor; here, if none can be started."""
    import asyncio  # Late: a cold start does not need it.

    # The executor keeps a call in its queue even if it could not start a thread for it.
    pending = [partial(contextvars.copy_context().run, function, *args, **kwargs)]

    def call_once() -> None:
        for call in pending[:]:
            pending.clear()
            call()

    try:
        future = asyncio.get_running_loop().run_in_executor(None, call_once)
    except RuntimeError as error:
        note_problem(error)
        call_once()
    else:
        await future


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
