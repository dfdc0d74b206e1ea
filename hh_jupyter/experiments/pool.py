"""Data points on their way: so many at a time, on threads of our own or wherever an executor takes them.

What comes back is taken one by one, so that nothing grows with the dataset but the small outcomes.
"""

from __future__ import annotations

import contextvars
import logging
import queue
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final

from hh_jupyter.delivery.sealing.stamp import Session
from hh_jupyter.experiments.calling import text_of_error
from hh_jupyter.experiments.datapoint import Desk, Outcome
from hh_jupyter.experiments.dataset import Datapoint
from hh_jupyter.experiments.here import here
from hh_jupyter.experiments.work import Task, Worked, work_on

logger = logging.getLogger(__name__)

TICK: Final = 0.25
"""Seconds between two looks at the clock while nothing comes back."""

AHEAD: Final = 2
"""An executor is given so many times `max_workers` data points, so that none of its workers waits for the next one."""

GRACE: Final = 2.0
"""Seconds that data points get to end after Ctrl-C; a second Ctrl-C ends the wait."""


@dataclass(slots=True, eq=False)
class _Flight:
    """One data point on its way; `session` where this process begins and ends it for somebody else."""

    point: Datapoint
    future: Future[Any]
    session: Session | None = None
    tries: int = 0


@dataclass(slots=True)
class Gathered:
    """What came back.

    Attributes:
        outcomes: in the order in which they came.
        interrupted: Ctrl-C ended the run.
        broken: why the dataset gave no more, if it raised.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    interrupted: bool = False
    broken: str | None = None
    left_out: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def in_order(self) -> list[Outcome]:
        """In the order of the dataset."""
        return sorted(self.outcomes, key=lambda outcome: outcome.index)


class Pool:
    """Runs a task on data points.

    Args:
        executor: the user's, which stays open; None for threads of our own.
        tick: called after each data point that came back, and at least every quarter of a second.
    """

    def __init__(
        self, desk: Desk, task: Task, max_workers: int, executor: Executor | None, tick: Callable[[Gathered], None]
    ) -> None:
        self._desk, self._task, self._tick = desk, task, tick
        self._executor = executor
        self._threads = ThreadPoolExecutor(max_workers, "hh_jupyter-evaluate") if executor is None else None
        self._most = max_workers * AHEAD
        self._back: queue.SimpleQueue[_Flight] = queue.SimpleQueue()
        self._flying: set[_Flight] = set()
        self._gathered = Gathered()

    def run(self, points: Iterator[Datapoint]) -> Gathered:
        """Everything there is, or what there was until Ctrl-C."""
        try:
            self._go(points)
        except KeyboardInterrupt:
            self._gathered.interrupted = True
            self._abandon()
        finally:
            if self._threads is not None:
                self._threads.shutdown(wait=False, cancel_futures=True)
        return self._gathered

    def _go(self, points: Iterator[Datapoint]) -> None:
        more = True
        while more or self._flying:
            while more and len(self._flying) < self._most:
                more = self._start_next(points)
            if self._flying:
                self._take_back(TICK)

    def _start_next(self, points: Iterator[Datapoint]) -> bool:
        try:
            point = next(points, None)
        except Exception as error:  # boundary: a dataset that breaks must not take what was run with it.
            if not (self._gathered.outcomes or self._flying):
                raise
            self._gathered.broken = text_of_error(error)
            return False
        if point is None:
            return False
        contextvars.copy_context().run(self._start, point)
        return True

    def _start(self, point: Datapoint) -> None:
        if self._threads is not None:
            context = contextvars.copy_context()
            flight = _Flight(point, self._threads.submit(context.run, self._desk.run, self._task, point))
        else:
            session = self._desk.begin(point)
            flight = _Flight(point, self._submit(point), session)
        self._watch(flight)

    def _submit(self, point: Datapoint) -> Future[Any]:
        """To the user's executor; where that takes nothing more, it is the trouble of each data point not taken."""
        assert self._executor is not None
        try:
            traced = import_module("hh_jupyter.runtimes.workers").traced
            return self._executor.submit(traced(work_on), self._task, point)
        except Exception as error:  # boundary: a broken pool refuses with errors of its own.
            failed: Future[Any] = Future()
            failed.set_exception(error)
            return failed

    def _watch(self, flight: _Flight) -> None:
        self._flying.add(flight)
        flight.future.add_done_callback(lambda _future: self._back.put(flight))

    def _take_back(self, seconds: float) -> None:
        """Wait so long for one that is done, and take all that are."""
        try:
            self._land(self._back.get(timeout=seconds))
            while True:
                self._land(self._back.get_nowait())
        except queue.Empty:
            pass
        self._tick(self._gathered)

    def _land(self, flight: _Flight) -> None:
        if flight not in self._flying:
            return
        self._flying.discard(flight)
        error = CancelledError() if flight.future.cancelled() else flight.future.exception()
        done = flight.future.result() if error is None else self._lost(flight, error)
        if done is None:
            return
        if isinstance(done, Worked):
            assert flight.session is not None
            done = (self._desk.end(flight.point, flight.session, done), done)
        outcome, worked = done
        self._gathered.outcomes.append(outcome)
        self._say_left_out(worked)

    def _lost(self, flight: _Flight, error: BaseException) -> Any:
        """Nothing came back, so nothing was counted: once more, or it is this data point's error."""
        if self._gathered.interrupted:
            return None
        if flight.session is not None and flight.tries < self._task.patience.retries:
            again = _Flight(flight.point, self._submit(flight.point), flight.session, flight.tries + 1)
            self._watch(again)
            return None
        worked = Worked(error=text_of_error(error))
        if flight.session is not None:
            return worked
        return Outcome(flight.point.index, flight.point.id, "", error=worked.error), worked

    def _abandon(self) -> None:
        """Nothing new begins; what runs may end within the grace, and what does not is left out of the result."""
        here(self._task.run_id).stop()
        for flight in self._flying:
            flight.future.cancel()
        deadline = time.monotonic() + GRACE
        try:
            while any(flight.future.running() for flight in self._flying) and time.monotonic() < deadline:
                self._take_back(min(TICK, GRACE))
        except KeyboardInterrupt:
            pass

    def _say_left_out(self, worked: Worked) -> None:
        for name, extras in worked.left_out.items():
            if name not in self._gathered.left_out:
                self._gathered.left_out[name] = extras
                text = "evaluate: %s returns extras that are no number, bool or text, left out: %s"
                logger.warning(text, name, ", ".join(extras))
