"""Data points at work: on threads of our own, or wherever an executor takes them.

What comes back is taken one by one, so that nothing grows with the dataset but the small outcomes.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import itertools
import json
import logging
import queue
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace

from hh_jupyter import attributes as keys
from hh_jupyter.delivery.sealing.stamp import Session
from hh_jupyter.experiments.calling import Here, Patience, Stopped, call, here, text_of_error
from hh_jupyter.experiments.dataset import Datapoint
from hh_jupyter.experiments.evaluators import NAMES, REMEMBERED, Scalar, arguments_for, parameters_of, score
from hh_jupyter.runtimes.workers import traced
from hh_jupyter.tracing.api import current_tracer
from hh_jupyter.tracing.context import SessionScope
from hh_jupyter.tracing.decorators import trace
from hh_jupyter.tracing.spans import enrich_current_span, span_attributes
from hh_jupyter.tracing.tracer import HoneyHiveTracer
from hh_jupyter.values import plain

# The work on one data point: the function and the evaluators, in one span. It can be done in any process.
#
# Everything is given and returned as values, so that an executor can carry it to another process or machine and back.

EVALUATOR_ERRORS: Final = "evaluator_errors"
"""Field of the metadata of span and session: what went wrong, by evaluator."""

RETRIED: Final = "retried"
"""Field of the same metadata: errors after which something was tried again."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is done with every data point of a run.

    Attributes:
        keep_outputs: they are recorded.
    """

    run_id: str
    function: Callable[..., Any]
    function_name: str
    evaluators: Mapping[str, Callable[..., Any]]
    patience: Patience = Patience()
    keep_outputs: bool = True


@dataclass(slots=True)
class Worked:
    """What came out.

    Attributes:
        outputs: of the function, as the backend takes them; None after an error.
        error: "Type: text" of the exception that left the function; then no evaluator ran.
        evaluator_errors: the same by evaluator, or why what it returned is no score.
        left_out: by evaluator, extras that are no scalars.
        failures: errors after which something was tried again.
        seconds: that the function took, all attempts together.
    """

    outputs: dict[str, Any] | None = None
    metrics: dict[str, Scalar] = field(default_factory=dict)
    error: str | None = None
    evaluator_errors: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, tuple[str, ...]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0


def work_on(task: Task, point: Datapoint, _attempt: int = 1) -> Worked:
    """Run function and evaluators; the current context says whose session it is.

    Args:
        _attempt: makes calls different for engines that answer equal ones once, such as Dask.

    Raises:
        Stopped: the run was interrupted meanwhile.
    """
    work = _Work(task, point, here(task.run_id))
    try:
        _traced(task.function_name)(work, point.data)
    except (Exception, asyncio.CancelledError, SystemExit) as error:  # boundary: one bad point ends no run.
        if work.here.stopping.is_set():
            raise Stopped("evaluate: the run was interrupted.") from None
        work.done.error = text_of_error(error)
    return work.done


@functools.lru_cache(REMEMBERED)
def _traced(name: str) -> Callable[[_Work, Mapping[str, Any]], Any]:
    """`_Work.steps` in a span of that name: decorating takes as long as the span itself."""
    return trace(event_type="chain", event_name=name)(_Work.steps)


@dataclass(slots=True)
class _Work:
    task: Task
    point: Datapoint
    here: Here
    done: Worked = field(default_factory=Worked)

    def steps(self, dp: Mapping[str, Any]) -> Any:
        """The body of the span, which has the name of the function and its argument as `dp`."""
        if self.point.problem:
            raise ValueError(self.point.problem)
        outputs = self.run_function(dp)
        for name, evaluate in self.task.evaluators.items():
            self.evaluate(name, evaluate, outputs)
        if self.task.keep_outputs and outputs is not None:
            self.done.outputs = json_object(outputs, keys.RESULT)
        enrich_current_span(span_attributes({"metrics": self.done.metrics or None, "metadata": self.notes() or None}))
        return outputs

    def run_function(self, dp: Mapping[str, Any]) -> Any:
        function, started = self.task.function, time.perf_counter()
        try:
            return self.call(function, (dp,), {"tracer": current_tracer()} if takes_tracer(function) else {})
        except BaseException:  # Handed on: what had failed before is told whatever ended it, Ctrl-C included.
            enrich_current_span(span_attributes({"metadata": self.notes() or None}))
            raise
        finally:
            self.done.seconds = time.perf_counter() - started

    def notes(self) -> dict[str, Any]:
        done = self.done
        found = {EVALUATOR_ERRORS: done.evaluator_errors, RETRIED: done.failures}
        return {name: value for name, value in found.items() if value}

    def evaluate(self, name: str, evaluator: Callable[..., Any], outputs: Any) -> None:
        done, values = self.done, (outputs, self.point.inputs, self.point.ground_truth)
        given = dict(zip(NAMES, values if values[-1] is not None else values[:-1], strict=False))
        try:
            args, kwargs = arguments_for(evaluator, given)
            found = score(name, self.call(evaluator, args, kwargs))
        except (Exception, asyncio.CancelledError) as error:  # boundary: nor must one bad evaluator end the others.
            done.evaluator_errors[name] = text_of_error(error)
            return
        done.metrics.update(found.metrics)
        if found.problem:
            done.evaluator_errors[name] = found.problem
        if found.left_out:
            done.left_out[name] = found.left_out

    def call(self, function: Callable[..., Any], args: Any, kwargs: Mapping[str, Any]) -> Any:
        return call(function, args, kwargs, here=self.here, patience=self.task.patience, failures=self.done.failures)


def takes_tracer(function: Callable[..., Any]) -> bool:
    """The function has a parameter of that name."""
    return any(parameter.name == "tracer" for parameter in parameters_of(function) or ())


def json_object(value: Any, key: str) -> dict[str, Any]:
    """The backend takes objects only: anything else is kept under `key`."""
    found = json_value(value)
    return found if isinstance(found, dict) else {key: found}


def json_value(value: Any) -> Any:
    """The value itself if JSON can hold it, else the nearest that it can."""
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return plain(value)
    return value


# One data point of a run: its session before the work, what the session is told after it, and what came out.

SOURCE: Final = "evaluation"
"""Source of every session that `evaluate` makes."""

PREVIEW: Final = 200
"""Characters of inputs and outputs that the result keeps: it must stay small however large they are."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came out for one data point, without the outputs themselves.

    Attributes:
        index: its place in the dataset.
        error: "Type: text" of the exception that left the function; then no evaluator ran.
        evaluator_errors: the same by evaluator, or why what it returned is no score.
        seconds: that the function took.
        failures: errors after which something was tried again.
        left_out: by evaluator, extras that are no scalars.
        inputs, outputs: their beginnings, as text.
    """

    index: int
    datapoint_id: str
    session_id: str
    metrics: Mapping[str, Scalar] = field(default_factory=dict)
    error: str | None = None
    evaluator_errors: Mapping[str, str] = field(default_factory=dict)
    seconds: float | None = None
    failures: tuple[str, ...] = ()
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
    inputs: str = ""
    outputs: str = ""


@dataclass(frozen=True, slots=True)
class Desk:
    """Where a run's data points are begun and ended: this process, which has the tracer.

    Attributes:
        ids: `run_id` and `dataset_id`, for sessions and spans.
        began: told the id of each session before anything of it happens.
    """

    tracer: HoneyHiveTracer
    run_name: str
    ids: Mapping[str, str]
    began: Callable[[str], None]

    def begin(self, point: Datapoint) -> Session:
        """Make the point's session and enter it. Call it in a copied context: nothing undoes it."""
        ids = {**self.ids, "datapoint_id": point.id}
        keep = self.tracer.settings.capture_inputs
        session = self.tracer.new_session(
            self.run_name,
            inputs=json_object(point.inputs, "value") if keep else None,
            metadata=ids,
            source=SOURCE,
        )
        self.began(session.id)
        otel_context.attach(_context_of(ids))
        SessionScope(self.tracer, session).enter()
        return session

    def end(self, point: Datapoint, session: Session, worked: Worked) -> Outcome:
        """Tell the session what came out."""
        settings = self.tracer.settings
        fields: dict[str, Any] = {} if worked.outputs is None else {"outputs": worked.outputs}
        if point.ground_truth is not None and settings.capture_inputs:
            fields["feedback"] = {"ground_truth": json_value(point.ground_truth)}
        if metadata := _notes(worked):
            fields["metadata"] = metadata
        if fields:
            self.tracer.update_event(session.id, fields)
        return Outcome(
            index=point.index,
            datapoint_id=point.id,
            session_id=session.id,
            metrics=worked.metrics,
            error=worked.error,
            evaluator_errors=worked.evaluator_errors,
            seconds=worked.seconds,
            failures=tuple(worked.failures),
            left_out=worked.left_out,
            inputs=_preview(point.inputs) if settings.capture_inputs else "",
            outputs=_preview(worked.outputs) if settings.capture_outputs else "",
        )

    def run(self, task: Task, point: Datapoint) -> Outcome:
        """All of it in this thread. Call it in a copied context."""
        session = self.begin(point)
        return self.end(point, session, work_on(task, point))


def _notes(worked: Worked) -> dict[str, Any]:
    found = {"error": worked.error, EVALUATOR_ERRORS: worked.evaluator_errors, RETRIED: worked.failures}
    return {name: value for name, value in found.items() if value}


def _context_of(ids: Mapping[str, str]) -> otel_context.Context:
    """The current context, in which spans belong to the data point and are roots: a trace stays in one session."""
    context = otel_trace.set_span_in_context(otel_trace.INVALID_SPAN)
    for name, value in ids.items():
        context = baggage.set_baggage(name, value, context)
    return context


def _preview(value: Any) -> str:
    """The beginning of a value as text; of a dict with one entry, that entry's."""
    if isinstance(value, Mapping) and len(value) == 1:
        (value,) = value.values()
    if value is None:
        return ""
    text = value[: PREVIEW + 1] if isinstance(value, str) else str(value)
    return text if len(text) <= PREVIEW else f"{text[: PREVIEW - 1]}…"


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
