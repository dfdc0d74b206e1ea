"""Data points on their way: so many at a time, on threads of our own or wherever an executor takes them.

What comes back is taken one by one, so that nothing grows with the dataset but the small outcomes.
"""

from __future__ import annotations

import contextvars
import functools
import itertools
import logging
import queue
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
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
    """One data point on its way.

    Attributes:
        context: in which it was sent: that of its session, where this process began it.
        session: where this process begins and ends it for somebody else.
    """

    point: Datapoint
    future: Future[Any]
    context: contextvars.Context
    session: Session | None = None
    tries: int = 1


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
        self._back: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._flying: dict[int, _Flight] = {}
        self._numbers = itertools.count()
        self._said: set[str] = set()
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
            future = self._threads.submit(context.run, self._desk.run, self._task, point)
            self._watch(_Flight(point, future, context))
            return
        session = self._desk.begin(point)
        future = self._submit(point)
        self._watch(_Flight(point, future, contextvars.copy_context(), session))

    def _submit(self, point: Datapoint, attempt: int = 1) -> Future[Any]:
        """To the user's executor; where that takes nothing more, it is the trouble of each data point not taken."""
        from hh_jupyter.runtimes.workers import traced  # Only where somebody has an executor.

        assert self._executor is not None
        try:
            return self._executor.submit(traced(work_on), self._task, point, attempt)
        except Exception as error:  # boundary: a broken pool refuses with errors of its own.
            failed: Future[Any] = Future()
            failed.set_exception(error)
            return failed

    def _watch(self, flight: _Flight) -> None:
        number = next(self._numbers)
        self._flying[number] = flight
        # By number: a future that knew its flight would keep itself alive, and its result with it.
        flight.future.add_done_callback(functools.partial(_put, self._back, number))

    def _take_back(self, seconds: float) -> None:
        """Wait so long for one that is done, and take all that are."""
        try:
            self._land(self._back.get(timeout=seconds))
            while True:
                self._land(self._back.get_nowait())
        except queue.Empty:
            pass
        self._tick(self._gathered)

    def _land(self, number: int) -> None:
        flight = self._flying.get(number)
        if flight is None:
            return
        error = CancelledError() if flight.future.cancelled() else flight.future.exception()
        done = flight.future.result() if error is None else self._lost(flight, error)
        if isinstance(done, Worked):
            assert flight.session is not None
            done = self._desk.end(flight.point, flight.session, done)
        del self._flying[number]  # Only now: Ctrl-C may come at any of these lines, and what was done counts.
        if done is not None:
            self._gathered.outcomes.append(done)
            self._say_left_out(done)

    def _lost(self, flight: _Flight, error: BaseException) -> Outcome | Worked | None:
        """Nothing came back, so nothing was counted: once more, or it is this data point's error."""
        if self._gathered.interrupted:
            return None
        if flight.session is not None and flight.tries <= self._task.patience.retries:
            tries = flight.tries + 1
            future = flight.context.run(self._submit, flight.point, tries)
            self._watch(_Flight(flight.point, future, flight.context, flight.session, tries))
            return None
        if flight.session is not None:
            return Worked(error=text_of_error(error))
        return Outcome(flight.point.index, flight.point.id, "", error=text_of_error(error))

    def _abandon(self) -> None:
        """Nothing new begins; what runs may end within the grace, and what does not is left out of the result."""
        here(self._task.run_id).stop()
        for flight in tuple(self._flying.values()):
            flight.future.cancel()
        deadline = time.monotonic() + GRACE
        try:
            while any(flight.future.running() for flight in self._flying.values()) and time.monotonic() < deadline:
                self._take_back(min(TICK, GRACE))
            for number in [number for number, flight in self._flying.items() if flight.future.done()]:
                self._land(number)  # Ctrl-C came when the queue had said so and nobody had listened yet.
        except KeyboardInterrupt:
            pass

    def _say_left_out(self, outcome: Outcome) -> None:
        for name, extras in outcome.left_out.items():
            if name not in self._said:
                self._said.add(name)
                text = "evaluate: %s returns extras that are no number, bool or text, left out: %s"
                logger.warning(text, name, ", ".join(extras))


def _put(back: queue.SimpleQueue[int], number: int, _future: Future[Any]) -> None:
    back.put(number)
