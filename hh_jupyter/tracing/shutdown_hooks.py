"""Flush before the process exits: atexit, SIGTERM, multiprocessing and Celery workers.

`atexit` covers normal exits only: neither the default action of a signal nor a worker of `multiprocessing` runs it.
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

POLL_SECONDS: Final = 0.01
"""Interval at which the main thread checks whether the flush after SIGTERM has finished."""

_LOCKING_MODULES: Final = ("hh_jupyter.delivery", "hh_jupyter.records", "logging")
_IMPORT: Final = "<frozen importlib"
"""Code that may hold locks that a flush needs as well: this package, logging, and the import system."""

_flush: Callable[[], None] | None = None
_registered: set[tuple[int, str]] = set()
"""Hooks registered with multiprocessing, by process: a child inherits the set, but not every registration."""

_exiting = False
"""The main thread is flushing because the process exits."""
_sigterm_received = False
"""SIGTERM arrived during that flush."""
_sigterm_flush: _SigtermFlush | None = None


def flush_before_exit(flush: Callable[[], None]) -> None:
    """Call `flush` before this process ends, on every kind of exit that still runs Python code.

    Call this for every new tracer: only then is it certain whether this process is a worker.

    Args:
        flush: keeps its own time budget and may be called twice.
    """
    global _flush
    if _flush is None:
        _flush = flush
        atexit.register(_flush_at_exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_reset_in_child)
    _install_sigterm_handler()
    _hook_multiprocessing()
    _hook_celery()


def restore_sigterm() -> None:
    """Restore the default action of SIGTERM, when no tracer is left to flush."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is _on_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _flush_at_exit() -> None:
    """Flush at the end of the process, or wait for the flush that SIGTERM started."""
    global _exiting
    if _flush is None:
        return
    if _sigterm_flush is not None:
        _sigterm_flush.wait()
        return
    _exiting = True
    try:
        _flush()
    finally:
        _exiting = False
        if _sigterm_received:
            _terminate()


# SIGTERM


def _install_sigterm_handler() -> None:
    """Handle SIGTERM if the program does not: servers install handlers of their own, which stay."""
    if threading.current_thread() is not threading.main_thread():
        return  # Python allows only the main thread to set handlers.
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_sigterm)


class _SigtermFlush(threading.Thread):
    """Flushes after SIGTERM, then sends the signal again.

    It does not run on the main thread, which the signal may have interrupted while it held a lock that the flush needs.
    """

    finished = False

    def run(self) -> None:
        try:
            if _flush is not None:
                _flush()
        finally:
            self.finished = True
            os.kill(os.getpid(), signal.SIGTERM)

    def wait(self) -> None:
        """Wait until the flush has finished.

        It polls because the signal may arrive again meanwhile, and `join` would then wait for a lock inside the
        handler.
        """
        while not self.finished:
            time.sleep(POLL_SECONDS)


def _on_sigterm(_signum: int, frame: FrameType | None) -> None:
    global _sigterm_flush, _sigterm_received
    if _exiting:
        _sigterm_received = True
        return
    if _sigterm_flush is None:
        _sigterm_flush = _SigtermFlush(daemon=True)
        _sigterm_flush.start()
    if not _sigterm_flush.finished:
        if _may_hold_locks(frame):
            return  # The main thread continues and releases them; the flush sends the signal again when it is done.
        _sigterm_flush.wait()
    _terminate()


def _may_hold_locks(frame: FrameType | None) -> bool:
    """Whether the signal interrupted the main thread in code that may hold a lock that the flush needs."""
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        if name.startswith(_LOCKING_MODULES) or frame.f_code.co_filename.startswith(_IMPORT):
            return True
        frame = frame.f_back
    return False


def _terminate() -> None:
    """End the process as SIGTERM does by default."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


# Forked processes and workers


def _reset_in_child() -> None:
    """Forget the parent's exit: a forked process is not exiting and has no flush thread."""
    global _exiting, _sigterm_received, _sigterm_flush
    _exiting, _sigterm_received, _sigterm_flush = False, False, None
    _hook_multiprocessing()


def _hook_multiprocessing() -> None:
    """Register a finalizer in `multiprocessing` workers, which exit without running `atexit`.

    A program that uses `multiprocessing` has already imported it. A worker discards the finalizers that it inherits,
    then runs the after-fork hooks, even if it was spawned rather than forked.
    """
    util: Any = sys.modules.get("multiprocessing.util")
    if util is None:
        return
    if _is_first_registration("after fork"):
        util.register_after_fork(_FORK_KEY, _register_finalizer)
    _register_finalizer(_FORK_KEY)


def _register_finalizer(_: object) -> None:
    util, process = sys.modules["multiprocessing.util"], sys.modules["multiprocessing.process"]
    if process.parent_process() is not None and _is_first_registration("finalizer"):
        util.Finalize(None, _flush_at_exit, exitpriority=_RUN_LAST)


def _is_first_registration(hook: str) -> bool:
    """Whether this process has not registered the hook yet; notes that it has."""
    key = (os.getpid(), hook)
    if key in _registered:
        return False
    _registered.add(key)
    return True


class _ForkKey:
    """The object that multiprocessing ties a registration to, which ends when the object is collected."""


_FORK_KEY: Final = _ForkKey()


def _hook_celery() -> None:
    """Connect to the shutdown signal of Celery's worker processes, which exit by `os._exit`.

    A program that uses Celery has already imported it, and the worker processes inherit the connection.
    """
    signals: Any = sys.modules.get("celery.signals")
    if signals is not None:
        # Because of the dispatch_uid, a repeated call connects only once.
        signals.worker_process_shutdown.connect(_on_celery_shutdown, weak=False, dispatch_uid="hh_jupyter")


def _on_celery_shutdown(**_: object) -> None:
    _flush_at_exit()
