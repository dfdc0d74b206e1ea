"""Run all data points of an experiment, on own threads or on the user's executor.

Results are collected one by one, so that only small rows are held in memory, not the outputs.
"""

from __future__ import annotations

import contextvars
import functools
import itertools
import logging
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final

from hh_jupyter.experiments.dataset import Datapoint
from hh_jupyter.experiments.invocation import error_text
from hh_jupyter.experiments.loops import (
    BlockedLoop,
    RunLoop,
    interrupts,
    is_loop_running,
    registered,
)
from hh_jupyter.experiments.rows import ResultRow
from hh_jupyter.experiments.worker import DatapointSessions, Task, TaskResult, run_datapoint
from hh_jupyter.export.model import Session
from hh_jupyter.runtimes.workers import traced
from hh_jupyter.threads import note_problem

logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.25
"""Longest wait for a result before progress is reported again."""

SLOW_SECONDS: Final = 0.05
"""How long reading the dataset may keep a blocked loop from running: then coroutines get as much time as it took."""

QUEUE_FACTOR: Final = 2
"""Submitted data points per worker, so that no worker has to wait for the next one."""

INTERRUPT_GRACE_SECONDS: Final = 2.0
"""Longest wait for running data points after Ctrl-C. A second Ctrl-C ends the wait."""

_WAKE: Final = -1
"""A number without a data point: ends a wait for the next finished one."""

_noted_loops: set[bool] = set()
"""Notes about a running event loop that were logged: whether it could be run from inside."""


@dataclass(slots=True, eq=False)
class _InFlight:
    """A submitted data point.

    Attributes:
        context: the context of the submission.
        session: its session if it runs on the user's executor; None on own threads, which create it themselves.
    """

    point: Datapoint
    future: Future[Any]
    context: contextvars.Context
    session: Session | None = None
    attempts: int = 1


@dataclass(slots=True)
class RunOutcomes:
    """Outcomes of the data points of a run.

    Attributes:
        rows: in order of completion, without cost and tokens.
        interrupted: whether Ctrl-C ended the run.
        dataset_error: "Type: text" of an exception raised while iterating the dataset.
    """

    rows: list[ResultRow] = field(default_factory=list)
    interrupted: bool = False
    dataset_error: str | None = None

    def in_dataset_order(self) -> list[ResultRow]:
        """Rows in the order of the dataset."""
        return sorted(self.rows, key=lambda row: (row.index, row.trial or 0))


class OwnThreads:
    """Threads for data points. If only some can be started, they do all the work; if none can, the caller does it.

    Args:
        most: maximum number of threads.
    """

    def __init__(self, most: int) -> None:
        self._pool = ThreadPoolExecutor(most, "hh_jupyter-evaluate")
        self._started = False

    def submit(self, run: Callable[[], ResultRow]) -> Future[ResultRow]:
        """Call `run` on a thread, or here.

        Raises:
            KeyboardInterrupt: it was called here, and Ctrl-C interrupted it.
        """
        future: Future[ResultRow] = Future()
        taken = threading.Lock()

        def call() -> None:
            if not taken.acquire(blocking=False) or not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(run())
            except BaseException as error:  # boundary: the future has it.
                future.set_exception(error)

        try:
            self._pool.submit(call)
            self._started = True
        except RuntimeError as error:
            note_problem(error)
            if not self._started:  # Otherwise it is queued nevertheless, and a thread will take it.
                call()
                if isinstance(interrupt := future.exception(), KeyboardInterrupt):
                    raise interrupt from None
        return future

    def close(self) -> None:
        """Let the threads end when they have done what they are doing."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Pool:
    """Runs a task for all data points.

    Args:
        executor: the user's executor, which is not shut down; None for own threads.
        loop: awaits the coroutines. Once it has one, a blocked loop is run whenever this thread waits.
        on_progress: called after each finished data point, and at least every `POLL_SECONDS`.
    """

    def __init__(
        self,
        sessions: DatapointSessions,
        task: Task,
        max_workers: int,
        executor: Executor | None,
        loop: RunLoop,
        on_progress: Callable[[RunOutcomes], None],
    ) -> None:
        self._sessions, self._task, self._on_progress = sessions, task, on_progress
        self._executor, self._loop = executor, loop
        self._awaits = False
        self._threads = OwnThreads(max_workers) if executor is None else None
        self._max_in_flight = max_workers * QUEUE_FACTOR
        self._finished: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._in_flight: dict[int, _InFlight] = {}
        self._numbers = itertools.count()
        self._outcomes = RunOutcomes()

    def run(self, points: Iterator[Datapoint]) -> RunOutcomes:
        """Run all data points and return their outcomes. After Ctrl-C, return the outcomes so far."""
        self._loop.on_await = self._note_await
        with registered(self._task.run_id, self._loop), self._interrupts_of_caller():
            try:
                self._run_all(points)
            except KeyboardInterrupt:
                self._outcomes.interrupted = self._loop.interrupted = True
                self._cancel()
            finally:
                self._loop.stop()  # If something else was raised, calls may still be waiting.
                if self._threads is not None:
                    self._threads.close()
        return self._outcomes

    def _interrupts_of_caller(self) -> AbstractContextManager[None]:
        """Handle Ctrl-C here if it would otherwise only cancel the task that called `evaluate`."""
        raises = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        return nullcontext() if raises or not is_loop_running() else interrupts(self._interrupt)

    def _interrupt(self) -> None:
        """End the run. In a signal handler: a second Ctrl-C raises where the program is."""
        if self._loop.interrupted:
            raise KeyboardInterrupt
        self._loop.interrupted = True
        self._finished.put(_WAKE)

    def _note_await(self) -> None:
        """Let the waiting thread run the blocked loop from now on. Called on the thread of a data point."""
        if not self._awaits:
            self._awaits = True
            self._finished.put(_WAKE)

    def _run_all(self, points: Iterator[Datapoint]) -> None:
        more = True
        while more or self._in_flight:
            if self._loop.interrupted:
                raise KeyboardInterrupt
            spent = 0.0
            while more and len(self._in_flight) < self._max_in_flight and spent < SLOW_SECONDS:
                started = time.monotonic()
                more = self._start_next(points)
                spent += time.monotonic() - started if self._awaits and self._loop.blocked is not None else 0.0
            if self._in_flight:
                self._collect(min(spent, POLL_SECONDS) if spent >= SLOW_SECONDS else POLL_SECONDS)

    def _start_next(self, points: Iterator[Datapoint]) -> bool:
        try:
            point = next(points, None)
        except Exception as error:  # boundary: keep the outcomes if the user's iterator raises.
            if not (self._outcomes.rows or self._in_flight):
                raise
            self._outcomes.dataset_error = error_text(error)
            return False
        if point is None:
            return False
        contextvars.copy_context().run(self._start, point)
        return True

    def _start(self, point: Datapoint) -> None:
        if self._threads is not None:
            context = contextvars.copy_context()
            future = self._threads.submit(functools.partial(context.run, self._sessions.run, self._task, point))
            self._watch(_InFlight(point, future, context))
            return
        session = self._sessions.begin(point)
        future = self._submit(point)
        self._watch(_InFlight(point, future, contextvars.copy_context(), session))

    def _submit(self, point: Datapoint, attempt: int = 1) -> Future[Any]:
        """Submit to the user's executor. If it raises, return a failed future with the error."""
        assert self._executor is not None
        try:
            return self._executor.submit(traced(run_datapoint), self._task, point, attempt)
        except Exception as error:  # boundary: executors raise errors of their own types.
            failed: Future[Any] = Future()
            failed.set_exception(error)
            return failed

    def _watch(self, flight: _InFlight) -> None:
        number = next(self._numbers)
        self._in_flight[number] = flight
        # By number: a callback that refers to the future would keep it and its result alive.
        flight.future.add_done_callback(functools.partial(self._put, number))

    def _put(self, number: int, _future: Future[Any]) -> None:
        self._finished.put(number)
        if self._awaits and self._loop.blocked is not None:
            self._loop.blocked.wake()

    def _collect(self, seconds: float) -> None:
        """Wait at most `seconds` for a finished data point, then collect all finished ones."""
        if self._awaits:
            _note_running_loop(self._loop.blocked)
        if self._awaits and self._loop.blocked is not None:
            with interrupts(self._interrupt):
                self._loop.blocked.run_until(lambda: not self._finished.empty(), seconds)
            seconds = 0.0
        try:
            self._collect_one(self._finished.get(timeout=seconds))
            while True:
                self._collect_one(self._finished.get_nowait())
        except queue.Empty:
            pass
        self._on_progress(self._outcomes)

    def _collect_one(self, number: int) -> None:
        flight = self._in_flight.get(number)
        if flight is None:
            return
        error = CancelledError() if flight.future.cancelled() else flight.future.exception()
        done = flight.future.result() if error is None else self._retry_or_fail(flight, error)
        if isinstance(done, TaskResult):
            assert flight.session is not None
            done = self._sessions.end(flight.point, flight.session, done)
        # Last, since Ctrl-C may interrupt any line above; `_cancel` then collects the data point again.
        del self._in_flight[number]
        if done is not None:
            self._outcomes.rows.append(done)

    def _retry_or_fail(self, flight: _InFlight, error: BaseException) -> ResultRow | TaskResult | None:
        """Resubmit a data point that the executor lost, or return its error."""
        if self._outcomes.interrupted:
            return None
        if flight.session is not None and flight.attempts <= self._task.retry_policy.retries:
            attempts = flight.attempts + 1
            future = flight.context.run(self._submit, flight.point, attempts)
            self._watch(_InFlight(flight.point, future, flight.context, flight.session, attempts))
            return None
        if flight.session is not None:
            return TaskResult(error=error_text(error))
        point = flight.point
        return ResultRow(
            **point.row_fields,
            session_id="",
            passed=False,
            error=error_text(error),
        )

    def _cancel(self) -> None:
        """Cancel submitted data points; running ones may finish within `INTERRUPT_GRACE_SECONDS`."""
        self._loop.stop()
        for flight in tuple(self._in_flight.values()):
            flight.future.cancel()
        deadline = time.monotonic() + INTERRUPT_GRACE_SECONDS
        try:
            while any(flight.future.running() for flight in self._in_flight.values()) and time.monotonic() < deadline:
                self._collect(min(POLL_SECONDS, INTERRUPT_GRACE_SECONDS))
            for number in [number for number, flight in self._in_flight.items() if flight.future.done()]:
                self._collect_one(number)  # Ctrl-C may have come between the queue's `get` and `_collect_one`.
        except KeyboardInterrupt:
            pass


def _note_running_loop(blocked: BlockedLoop | None) -> None:
    """Log once that `evaluate` was called where an event loop runs."""
    inside = blocked is not None
    if inside in _noted_loops or not is_loop_running():
        return
    _noted_loops.add(inside)
    if inside:
        logger.warning(
            "evaluate: an event loop is running here. The run awaits its coroutines on that loop and blocks it "
            "until it ends; `await aevaluate(...)` does the same without blocking."
        )
    else:
        logger.warning(
            "evaluate: the event loop that is running here cannot be shared, so coroutines are awaited on another one. "
            "Clients and locks that this loop has used fail there; use `await aevaluate(...)`."
        )
