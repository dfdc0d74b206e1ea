"""The doors by which a process leaves, with delivery before each: its end, SIGTERM, the end of a worker process.

`atexit` covers none but the first: a signal's default action and the workers of `multiprocessing` skip it (measured).
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

_RUN_LAST: Final = -10
"""Priority among the finalizers of a worker: after those that may still make spans."""

POLL: Final = 0.01
"""Seconds between two looks at a delivery that ends the process."""

_LOCKED: Final = ("hh_jupyter.delivery", "hh_jupyter.records", "logging")
_IMPORT: Final = "<frozen importlib"
"""Code that holds locks which delivery needs as well: ours, logging's, those of modules that are being loaded."""

_deliver: Callable[[], None] | None = None
_watched: set[tuple[int, str]] = set()
"""What was registered with multiprocessing, by process: children inherit the set, but not every registration."""

_leaving = False
"""The main thread delivers, at one of the doors."""
_terminated = False
"""SIGTERM came meanwhile."""
_last_delivery: _LastDelivery | None = None


def flush_before_exit(deliver: Callable[[], None]) -> None:
    """Call `deliver` before this process ends, in every way that lets code run.

    To be called whenever a tracer is made: whether this process is a worker is known by then.

    Args:
        deliver: keeps its own time budget and may be called twice.
    """
    global _deliver
    if _deliver is None:
        _deliver = deliver
        atexit.register(_leave)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_begin_in_child)
    _take_sigterm()
    _watch_worker()
    _watch_celery()


def restore_sigterm() -> None:
    """Nothing is left to deliver: the signal does what it does by default."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is _on_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _leave() -> None:
    """Deliver, the process being at its end."""
    global _leaving
    if _deliver is None:
        return
    if _last_delivery is not None:
        _last_delivery.wait()
        return
    _leaving = True
    try:
        _deliver()
    finally:
        _leaving = False
        if _terminated:
            _die()


def _take_sigterm() -> None:
    """Deliver on SIGTERM where nobody else decides what it does; servers have handlers of their own."""
    if threading.current_thread() is not threading.main_thread():
        return  # Only the main thread may.
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_sigterm)


class _LastDelivery(threading.Thread):
    """Delivers because of SIGTERM, then sends it again.

    Not on the main thread: that may have been stopped inside a lock that delivery needs.
    """

    over = False

    def run(self) -> None:
        try:
            if _deliver is not None:
                _deliver()
        finally:
            self.over = True
            os.kill(os.getpid(), signal.SIGTERM)

    def wait(self) -> None:
        """Until it is over. The signal may come once more meanwhile, so no lock is waited for, which `join` does."""
        while not self.over:
            time.sleep(POLL)


def _on_sigterm(_signum: int, frame: FrameType | None) -> None:
    global _last_delivery, _terminated
    if _leaving:
        _terminated = True
        return
    if _last_delivery is None:
        _last_delivery = _LastDelivery(daemon=True)
        _last_delivery.start()
    if not _last_delivery.over:
        if _holds_locks(frame):
            return  # The main thread goes on, and lets go of them; the signal comes back.
        _last_delivery.wait()
    _die()


def _holds_locks(frame: FrameType | None) -> bool:
    """Whether the main thread was stopped in code that may hold what delivery waits for."""
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        if name.startswith(_LOCKED) or frame.f_code.co_filename.startswith(_IMPORT):
            return True
        frame = frame.f_back
    return False


def _die() -> None:
    """Do what the signal does by default."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def _begin_in_child() -> None:
    """A forked process has not been told to end, nor the thread that its parent may have had for that."""
    global _leaving, _terminated, _last_delivery
    _leaving, _terminated, _last_delivery = False, False, None
    _watch_worker()


def _watch_worker() -> None:
    """Have `multiprocessing` call us at the end of its workers, which leave without `atexit`.

    Whoever uses it has loaded it. A worker drops the finalizers that it inherits, then runs what is registered for
    after the fork, also if it was not forked but spawned.
    """
    util: Any = sys.modules.get("multiprocessing.util")
    if util is None:
        return
    if _first_time("after fork"):
        util.register_after_fork(_MARK, _finalize_worker)
    _finalize_worker(_MARK)


def _finalize_worker(_: object) -> None:
    util, process = sys.modules["multiprocessing.util"], sys.modules["multiprocessing.process"]
    if process.parent_process() is not None and _first_time("finalizer"):
        util.Finalize(None, _leave, exitpriority=_RUN_LAST)


def _watch_celery() -> None:
    """Have Celery call us at the end of its worker processes, which leave by `os._exit`.

    Whoever uses it has loaded it, and the processes inherit what is connected here.
    """
    signals: Any = sys.modules.get("celery.signals")
    if signals is not None:
        # Connected again under the same name, it is connected once.
        signals.worker_process_shutdown.connect(_on_celery_shutdown, weak=False, dispatch_uid="hh_jupyter")


def _on_celery_shutdown(**_: object) -> None:
    _leave()


def _first_time(what: str) -> bool:
    """Whether this process has not registered it yet."""
    mark = (os.getpid(), what)
    if mark in _watched:
        return False
    _watched.add(mark)
    return True


class _Mark:
    """What multiprocessing wants: an object that lives as long as the registration."""


_MARK: Final = _Mark()
