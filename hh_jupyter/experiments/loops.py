"""The event loops on which runs await coroutines.

A client, lock or semaphore belongs to the event loop that used it first; another loop gets an error from it. So a run
awaits on the loop that the caller's own `await` uses:

- `aevaluate`: the running loop.
- `evaluate` where a loop runs, as in a notebook's cell: the same loop. `evaluate` blocks it, so it is run from inside.
- `evaluate` in a plain function of another run: the loop of that run.
- `evaluate` in a terminal's IPython: the loop that runs while a cell awaits.
- `evaluate` elsewhere: one loop for all runs of the process, on a thread.
"""

from __future__ import annotations

import asyncio
import atexit
import heapq
import inspect
import os
import signal
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import Context, ContextVar
from typing import Any, Final

from hh_jupyter.errors import HHError
from hh_jupyter.threads import start_thread

JOIN_SECONDS: Final = 2.0
LONGEST_SECONDS: Final = 1e8
"""Three years, for calls without a timeout: an event loop needs a number."""


class RunStopped(HHError):  # noqa: N818  # Not an error: the user interrupted the run.
    """The run was interrupted before this call was finished."""


class RunLoop:
    """Awaits the coroutines of one run in this process, and cancels them when the run is stopped. Thread-safe.

    Args:
        loop: where to await; default: the loop of this process.

    Attributes:
        blocked: the loop, if it runs on the thread of the caller, who has to run it from inside.
        interrupted: whether the run is to end early; the caller stops it then.
        stopping: set when no new call may start.
        on_await: called when a coroutine was scheduled.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | BlockedLoop | None = None) -> None:
        self.blocked = loop if isinstance(loop, BlockedLoop) else None
        outer: RunLoop | None = _outer.get() if loop is None else None
        self._outer = outer if outer is not None and not outer.stopping.is_set() else None
        self.interrupted = False
        self.stopping: threading.Event = threading.Event()
        self.on_await: Callable[[], None] | None = None
        self._loop = loop.loop if isinstance(loop, BlockedLoop) else loop
        self._lock = threading.Lock()
        self._awaited: set[Future[Any]] = set()

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
        future = self._schedule(awaitable)
        rest = None if timeout is None else max(0.0, timeout - spent)
        try:
            if self.blocked is not None and self.blocked.is_of_this_thread:  # No other thread could be started.
                self.blocked.run_until(future.done, LONGEST_SECONDS if rest is None else rest)
                rest = 0.0
            value, exit_error = future.result(rest)
        except TimeoutError:
            if future.done():
                raise  # Raised by the function itself.
            future.cancel()
            raise timeout_error(timeout) from None
        if exit_error is not None:
            raise exit_error
        return value

    def stop(self) -> None:
        """Prevent new calls and cancel running coroutines."""
        with self._lock:
            self.stopping.set()
            running = tuple(self._awaited)
        for future in running:
            future.cancel()

    def _schedule(self, awaitable: Awaitable[Any]) -> Future[Any]:
        try:
            with self._lock:
                if self.stopping.is_set():
                    raise RunStopped("evaluate: the run was interrupted.")
                if self._outer is not None:
                    future = self._outer._schedule(awaitable)
                else:
                    loop = self._loop or process_loop()
                    future = asyncio.run_coroutine_threadsafe(self._awaited_value(awaitable), loop)
                self._awaited.add(future)
            future.add_done_callback(self._awaited.discard)
        except HHError:
            _close(awaitable)
            raise
        if self.on_await is not None:
            self.on_await()
        return future

    async def _awaited_value(self, awaitable: Awaitable[Any]) -> tuple[Any, BaseException | None]:
        """The value, or an exception that would end the event loop, as that of `sys.exit()` does."""
        if self.stopping.is_set():  # The call that cancels this one may come after its first step.
            _close(awaitable)
            raise asyncio.CancelledError
        try:
            return await awaitable, None
        except SystemExit as error:
            return None, error
        except KeyboardInterrupt as error:
            if threading.current_thread() is threading.main_thread():
                raise  # Ctrl-C.
            return None, error


def timeout_error(timeout: float | None) -> TimeoutError:
    """The error of a call that exceeded `timeout` seconds."""
    return TimeoutError(f"took longer than {timeout:g} s")


def _close(awaitable: Awaitable[Any]) -> None:
    """Prevent Python's warning about a coroutine that was never awaited."""
    if inspect.iscoroutine(awaitable):
        awaitable.close()


_outer: ContextVar[RunLoop | None] = ContextVar("hh_jupyter_outer_run_loop", default=None)
"""The loop of the run whose function or evaluator is running."""


@contextmanager
def entered(loop: RunLoop) -> Iterator[None]:
    """Let runs that start inside the block, on a thread without a loop, await on this one."""
    token = _outer.set(loop)
    try:
        yield
    finally:
        _outer.reset(token)


# Runs of this process by id, for executors, which get the id only.

_run_loops: dict[str, RunLoop] = {}


def run_loop(run_id: str) -> RunLoop:
    """The loop of a run that was started in this process; for a run of another process, a new one."""
    return _run_loops.get(run_id) or RunLoop()


@contextmanager
def registered(run_id: str, loop: RunLoop) -> Iterator[None]:
    """Let `run_loop` find the loop inside the block."""
    _run_loops[run_id] = loop
    try:
        yield
    finally:
        del _run_loops[run_id]


# The loop of this process


class _LoopThread:
    """An event loop on its own thread, until the process ends."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._thread = start_thread(self._run, "hh_jupyter-loop")
        if self._thread is None:
            self.loop.close()
            raise HHError("evaluate: the event loop of async functions needs a thread, and none can be started")
        atexit.register(self._close)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:  # Exiting the runner cancels pending tasks.
            while not self._closing.is_set():
                with suppress(SystemExit, KeyboardInterrupt):  # Raised by a task that a function left behind.
                    runner.run(self._closing.wait())

    def _close(self) -> None:
        if self._thread is not None and self._thread.is_alive() and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._closing.set)
            self._thread.join(JOIN_SECONDS)


_loop_threads: list[_LoopThread] = []
"""At most one; in a forked child, after those of its parents, which do not run there."""
_lock = threading.Lock()
_inherited = 0


def process_loop() -> asyncio.AbstractEventLoop:
    """The event loop of this process, which is started on first use."""
    with _lock:
        if len(_loop_threads) == _inherited:
            _loop_threads.append(_LoopThread())
        return _loop_threads[-1].loop


def _after_fork_in_child() -> None:
    global _lock, _inherited
    _lock = threading.Lock()  # It may be held by a thread that does not exist in the child.
    _inherited = len(_loop_threads)  # Kept, since a loop warns when it is garbage-collected while it is open.
    _run_loops.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


# The caller's loop, run from inside

_INTERNALS: Final = ("_ready", "_scheduled", "_selector", "_process_events", "_clock_resolution")
_INTERNALS_OF_HANDLES: Final = ("_context", "_run", "_scheduled")
_INTERNALS_OF_TASKS: Final = ("_enter_task", "_leave_task")
LONGEST_WAIT: Final = 3600.0
"""In seconds: a selector refuses a wait of months."""


def is_loop_running() -> bool:
    """Whether an event loop runs on this thread."""
    return asyncio._get_running_loop() is not None


_cells_loop: Callable[[], asyncio.AbstractEventLoop] | None = None


def set_cells_loop(find: Callable[[], asyncio.AbstractEventLoop] | None) -> None:
    """Set the function that returns the loop of cells, where it only runs while a cell awaits; None removes it."""
    global _cells_loop
    _cells_loop = find


class BlockedLoop:
    """The event loop of this thread, which cannot run by itself during the current call.

    If it is running, `run_until` does what asyncio's `BaseEventLoop._run_once` does, which cannot be called from inside
    itself.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._woken = asyncio.Event()
        self._thread_id = threading.get_ident()

    @property
    def is_of_this_thread(self) -> bool:
        """Whether this is the thread that the loop belongs to."""
        return threading.get_ident() == self._thread_id

    @classmethod
    def current(cls) -> BlockedLoop | None:
        """The loop of this thread. None if there is none, or if it is not asyncio's own, such as uvloop's."""
        loop = asyncio._get_running_loop()
        if loop is None and _cells_loop is not None and threading.current_thread() is threading.main_thread():
            loop = _cells_loop()
            return None if loop.is_running() or loop.is_closed() else cls(loop)
        if not isinstance(loop, asyncio.BaseEventLoop) or type(loop).call_soon is not asyncio.BaseEventLoop.call_soon:
            return None
        return cls(loop) if _has_internals(loop) else None

    def wake(self) -> None:
        """End the current wait of `run_until`, so that it checks its condition. Thread-safe."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._woken.set)

    def run_until(self, done: Callable[[], bool], seconds: float) -> None:
        """Run the loop until the condition is true, at most for some seconds."""
        if self.loop.is_running():
            self._run_from_inside(done, seconds)
        else:
            self.loop.run_until_complete(self._wait(done, seconds))

    async def _wait(self, done: Callable[[], bool], seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not done():
                    self._woken.clear()
                    await self._woken.wait()

    def _run_from_inside(self, done: Callable[[], bool], seconds: float) -> None:
        loop: Any = self.loop
        task, deadline = asyncio.current_task(loop), loop.time() + seconds
        timer, waiting, deferred = loop.call_later(seconds, _nothing), len(loop._ready), deque[asyncio.Handle]()
        if task is not None:
            asyncio.tasks._leave_task(loop, task)
        try:
            while not done() and loop.time() < deadline:
                self._run_once(deferred)
        finally:
            if task is not None:
                asyncio.tasks._enter_task(loop, task)
            timer.cancel()
            loop._ready.extendleft(reversed(deferred))
            # The iteration of the loop that we are inside of is going to take as many handles as it counted before.
            for _ in range(waiting - len(loop._ready)):
                loop.call_soon(_nothing)

    def _run_once(self, deferred: deque[asyncio.Handle]) -> None:
        loop: Any = self.loop
        ready, scheduled = loop._ready, loop._scheduled
        wait = 0.0 if ready else scheduled[0].when() - loop.time() if scheduled else LONGEST_WAIT
        loop._process_events(loop._selector.select(min(max(0.0, wait), LONGEST_WAIT)))
        now = loop.time() + loop._clock_resolution
        while scheduled and scheduled[0].when() < now:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False
            if timer.cancelled():
                loop._timer_cancelled_count -= 1
            ready.append(timer)
        for _ in range(len(ready)):
            if not ready:  # A handle has run the loop itself, as nest_asyncio lets it.
                break
            handle = ready.popleft()
            if handle.cancelled():
                continue
            if _is_entered(handle._context):
                # ipykernel runs all messages of the shell in one context: not before we return.
                deferred.append(handle)
            else:
                handle._run()


def _has_internals(loop: asyncio.BaseEventLoop) -> bool:
    """Whether this version of Python has all that running its loop from inside needs."""
    needed = ((loop, _INTERNALS), (asyncio.TimerHandle, _INTERNALS_OF_HANDLES), (asyncio.tasks, _INTERNALS_OF_TASKS))
    return all(hasattr(owner, name) for owner, names in needed for name in names)


def _is_entered(context: Context) -> bool:
    try:
        context.run(_nothing)
    except RuntimeError:
        return True
    return False


def _nothing() -> None: ...


# Ctrl-C where an event loop runs


@contextmanager
def interrupts(on_interrupt: Callable[[], None]) -> Iterator[None]:
    """Call a function at each Ctrl-C inside the block, instead of the handler that is installed.

    The default one would interrupt a step of the loop itself; those of `asyncio.run` and of cells with `await` cancel
    the task that called `evaluate`, which happens after the run. Leaves handlers of `loop.add_signal_handler` alone,
    and does nothing outside the main thread.
    """
    previous = signal.getsignal(signal.SIGINT)
    replaceable = callable(previous) and getattr(previous, "__module__", "") != "asyncio.unix_events"
    if not replaceable or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, lambda _signal, _frame: on_interrupt())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
