"""The life of the process: forks, normal exit, SIGTERM, and the ends of multiprocessing and Celery workers.

`atexit` covers normal exits only: neither the default action of a signal nor a worker of `multiprocessing` runs it.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from types import FrameType
from typing import Any, Final

# Locks that our threads share with the program: those of the import system and of log handlers.

_in_shared_locks: Final[set[int]] = set()
"""Our threads that are importing or logging."""


@contextmanager
def taking_shared_locks() -> Iterator[None]:
    """Mark code of our threads that may wait for the program's main thread: imports and log lines."""
    thread = threading.get_ident()
    _in_shared_locks.add(thread)
    try:
        yield
    finally:
        _in_shared_locks.discard(thread)


# Signals, while the program's main thread does the work of our threads, because none can be started.


class DeferredSignals:
    """A block in which no handler of a signal runs, so that none can cut the work short by an exception.

    Signals that arrived are handled at the end of the block, or in `allowed` within it. Handlers run on the main
    thread: elsewhere it does nothing.

    Attributes:
        raised: what a handler raised in `allowed`; raised again at the end of the block.
    """

    def __init__(self) -> None:
        self.raised: BaseException | None = None
        self._handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._arrived: list[int] = []

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            found = {number: signal.getsignal(number) for number in signal.valid_signals()}
            self._handlers = {number: handler for number, handler in found.items() if callable(handler)}
        self._install(self._note)

    def __exit__(self, *_error: object) -> None:
        handlers, self._handlers = self._handlers, {}
        arrived, self._arrived = self._arrived, []
        raised, self.raised = self.raised, None
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if raised is not None:
            raise raised
        for number in arrived:
            handlers[number](number, None)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Let handlers run in this block, such as one that waits for the network."""
        try:
            self._install(self._run)
            while self._arrived:
                self._run(self._arrived.pop(0), None)
            yield
        finally:
            self._install(self._note)

    def _install(self, handler: Callable[[int, FrameType | None], None]) -> None:
        for number in self._handlers:
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._arrived.append(number)

    def _run(self, number: int, frame: FrameType | None) -> None:
        try:
            self._handlers[number](number, frame)
        except BaseException as error:
            self.raised = error
            raise


# Forks. A thread that is importing during a fork does not exist in the child, but its module locks stay held there: the
# child's threads would wait for them forever. Importing the same modules on the forking thread waits until the running
# import has finished.

FINALIZING: Final = (
    "hh_jupyter.export.finalize",
    "opentelemetry.proto.collector.trace.v1.trace_service_pb2",
)
SENDING: Final = (
    "hh_jupyter.export.http",
    "requests",
    "google.protobuf.json_format",
    "gzip",
    "email.utils",
    "encodings.idna",  # Imported by the first host name lookup.
)
SPOOLING: Final = ("hh_jupyter.export.spool", "hh_jupyter.export.spool_file", "sqlite3")


def import_late_modules(*, sending: bool, spooling: bool) -> None:
    """Import the modules that our threads import late, before a fork or the last flush."""
    for name in (*FINALIZING, *(SENDING if sending else ()), *(SPOOLING if spooling else ())):
        with suppress(ImportError):  # The threads get the same error and report what is lost.
            import_module(name)


def at_fork(
    *, before: Callable[[], None], after_in_parent: Callable[[], None], after_in_child: Callable[[], None]
) -> None:
    """Call these functions on the forking thread, before and after each fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=before, after_in_parent=after_in_parent, after_in_child=after_in_child)


# Normal exit

_shut_down: Callable[[], None] | None = None
_flush: Callable[[], Callable[[float], bool]] | None = None
_registered: set[tuple[int, str]] = set()
"""Hooks registered with multiprocessing, by process: a child inherits the set, but not every registration."""

_exiting = False
"""The main thread is flushing because the process exits."""
_sigterm_received = False
"""SIGTERM arrived during that flush."""


def flush_before_exit(shut_down: Callable[[], None], flush: Callable[[], Callable[[float], bool]]) -> None:
    """Flush before this process ends, on every kind of exit that still runs Python code.

    Call this for every new tracer: only then is it certain whether this process is a worker.

    Args:
        shut_down: flushes within its own time budget; may be called twice.
        flush: begins a flush for a signal and returns a function that waits for it. It takes no lock.
    """
    global _shut_down, _flush
    if _shut_down is None:
        _shut_down, _flush = shut_down, flush
        atexit.register(_flush_at_exit)
    _install_sigterm_handler()
    _hook_multiprocessing()
    _hook_celery()


def _flush_at_exit() -> None:
    """Flush at the end of the process."""
    global _exiting
    if _last_wait is not None:
        _terminate_after(_last_wait)
    if _shut_down is None or _exiting:
        return
    _exiting = True
    try:
        _shut_down()
    finally:
        _exiting = False
        if _sigterm_received:
            _terminate()


# SIGTERM. The handler runs on the main thread, which the signal may have stopped anywhere. That is safe because the
# exporter's threads need no lock of the program, except while they import or log.

POLL_SECONDS: Final = 0.01
GRACE_SECONDS: Final = 0.1
"""If one of our threads is importing or logging for longer than this, the main thread may hold the lock."""


_last_wait: Callable[[float], bool] | None = None
"""Waits for the flush after SIGTERM."""

_done: Final[list[bool]] = []
"""Filled when the flush after SIGTERM has finished while the main thread continued."""


def _install_sigterm_handler() -> None:
    """Handle SIGTERM if the program does not: servers install handlers of their own, which stay."""
    if threading.current_thread() is not threading.main_thread():
        return  # Python allows only the main thread to set handlers.
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_sigterm)


def restore_sigterm() -> None:
    """Restore the default action of SIGTERM, when no tracer is left to flush."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is _on_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _on_sigterm(_signum: int, _frame: FrameType | None) -> None:
    global _exiting, _sigterm_received, _last_wait
    _sigterm_received = True
    if _done:
        _terminate()
    if _exiting or _flush is None:
        return  # The flush that is running ends the process when it is done.
    _exiting = True
    try:
        wait = _last_wait = _flush()
        waited = 0
        while not wait(POLL_SECONDS):
            waited = waited + 1 if _in_shared_locks else 0
            if waited * POLL_SECONDS >= GRACE_SECONDS:
                # The main thread continues and releases the lock; then the process ends.
                try:
                    threading.Thread(target=_terminate_after, args=(wait,), daemon=True).start()
                except RuntimeError:  # None can be started. The flush has an end, even if the lock is ours.
                    continue
                return
    except BaseException:  # boundary: such as Ctrl-C while it waits.
        _terminate()
    _terminate()


def _terminate_after(wait: Callable[[float], bool]) -> None:
    while not wait(POLL_SECONDS):
        pass
    _done.append(True)
    os.kill(os.getpid(), signal.SIGTERM)  # The main thread ends the process.


def _terminate() -> None:
    """End the process as SIGTERM does by default."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


# Forked processes and workers


def reset_in_child() -> None:
    """Forget the parent's exit: a forked process is not exiting."""
    global _exiting, _sigterm_received, _last_wait
    _exiting, _sigterm_received, _last_wait = False, False, None
    _in_shared_locks.clear()
    _done.clear()
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


_RUN_LAST: Final = -10
"""Priority among the finalizers of a worker: after those that may still make spans."""


def _register_finalizer(_: object) -> None:
    util, module = sys.modules["multiprocessing.util"], sys.modules["multiprocessing.process"]
    if module.parent_process() is not None and _is_first_registration("finalizer"):
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
