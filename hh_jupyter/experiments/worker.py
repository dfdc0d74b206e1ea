"""Run the data points of an experiment, on own threads or on the user's executor.

Results are collected one by one, so that only small outcomes are held in memory, not the outputs.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import itertools
import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace

from hh_jupyter import attributes as keys
from hh_jupyter.experiments.dataset import Datapoint
from hh_jupyter.experiments.evaluators import ARGUMENT_NAMES, CACHE_SIZE, Scalar, arguments_for, parameters_of, score
from hh_jupyter.experiments.invocation import RetryPolicy, RunLoop, RunStopped, error_text, invoke, run_loop
from hh_jupyter.export.model import Session
from hh_jupyter.runtimes.workers import traced
from hh_jupyter.threads import note_problem
from hh_jupyter.tracing.api import current_tracer
from hh_jupyter.tracing.context import SessionScope
from hh_jupyter.tracing.decorators import trace
from hh_jupyter.tracing.spans import enrich_current_span, span_attributes
from hh_jupyter.tracing.tracer import HoneyHiveTracer
from hh_jupyter.values import plain

logger = logging.getLogger(__name__)

# One data point in any process: function and evaluators, in one span. Task and result are plain values, so that an
# executor can pickle them.

EVALUATOR_ERRORS: Final = "evaluator_errors"
"""Metadata field of span and session: errors by evaluator."""

RETRIED: Final = "retried"
"""Metadata field of span and session: errors of attempts that were retried."""


@dataclass(frozen=True, slots=True)
class Task:
    """What to run for every data point.

    Attributes:
        keep_outputs: whether outputs are recorded.
    """

    run_id: str
    function: Callable[..., Any]
    function_name: str
    evaluators: Mapping[str, Callable[..., Any]]
    retry_policy: RetryPolicy = RetryPolicy()
    keep_outputs: bool = True


@dataclass(slots=True)
class TaskResult:
    """The result of a task for one data point.

    Attributes:
        outputs: outputs of the function, in the backend's format; None after an error.
        error: "Type: text" of an exception of the function. No evaluator ran then.
        evaluator_errors: by evaluator, "Type: text" of its exception, or why its return value is not a score.
        ignored_scores: by evaluator, returned entries that are not scalars.
        retried_errors: errors of attempts that were retried.
        seconds: duration of the function, all attempts together.
    """

    outputs: dict[str, Any] | None = None
    metrics: dict[str, Scalar] = field(default_factory=dict)
    error: str | None = None
    evaluator_errors: dict[str, str] = field(default_factory=dict)
    ignored_scores: dict[str, tuple[str, ...]] = field(default_factory=dict)
    retried_errors: list[str] = field(default_factory=list)
    seconds: float = 0.0


def run_datapoint(task: Task, point: Datapoint, _attempt: int = 1) -> TaskResult:
    """Run function and evaluators, in the session of the current context.

    Args:
        _attempt: makes repeated calls distinct for executors that deduplicate equal ones, such as Dask.

    Raises:
        RunStopped: the run was interrupted.
    """
    datapoint_run = _DatapointRun(task, point, run_loop(task.run_id))
    try:
        _traced(task.function_name)(datapoint_run, point.data)
    except (Exception, asyncio.CancelledError, SystemExit) as error:  # boundary: one data point must not end the run.
        if datapoint_run.loop.stopping.is_set():
            raise RunStopped("evaluate: the run was interrupted.") from None
        datapoint_run.result.error = error_text(error)
    return datapoint_run.result


@functools.lru_cache(CACHE_SIZE)
def _traced(name: str) -> Callable[[_DatapointRun, Mapping[str, Any]], Any]:
    """`_DatapointRun.run`, traced with this span name. Cached, since decorating takes as long as a span."""
    return trace(event_type="chain", event_name=name)(_DatapointRun.run)


@dataclass(slots=True)
class _DatapointRun:
    """One execution of function and evaluators, which collects errors and metrics."""

    task: Task
    point: Datapoint
    loop: RunLoop
    result: TaskResult = field(default_factory=TaskResult)

    def run(self, dp: Mapping[str, Any]) -> Any:
        """Run function and evaluators. The span records the argument as `dp`."""
        if self.point.problem:
            raise ValueError(self.point.problem)
        outputs = self.run_function(dp)
        for name, evaluate in self.task.evaluators.items():
            self.evaluate(name, evaluate, outputs)
        if self.task.keep_outputs and outputs is not None:
            self.result.outputs = json_object(outputs, keys.RESULT)
        enrich_current_span(
            span_attributes({"metrics": self.result.metrics or None, "metadata": self.metadata() or None})
        )
        return outputs

    def run_function(self, dp: Mapping[str, Any]) -> Any:
        function, started = self.task.function, time.perf_counter()
        try:
            return self.call(function, (dp,), {"tracer": current_tracer()} if takes_tracer(function) else {})
        except BaseException:  # Also for Ctrl-C: the span gets the errors of earlier attempts.
            enrich_current_span(span_attributes({"metadata": self.metadata() or None}))
            raise
        finally:
            self.result.seconds = time.perf_counter() - started

    def metadata(self) -> dict[str, Any]:
        done = self.result
        found = {EVALUATOR_ERRORS: done.evaluator_errors, RETRIED: done.retried_errors}
        return {name: value for name, value in found.items() if value}

    def evaluate(self, name: str, evaluator: Callable[..., Any], outputs: Any) -> None:
        done, values = self.result, (outputs, self.point.inputs, self.point.ground_truth)
        available = dict(zip(ARGUMENT_NAMES, values if values[-1] is not None else values[:-1], strict=False))
        try:
            args, kwargs = arguments_for(evaluator, available)
            found = score(name, self.call(evaluator, args, kwargs))
        except (Exception, asyncio.CancelledError) as error:  # boundary: one evaluator must not end the others.
            done.evaluator_errors[name] = error_text(error)
            return
        done.metrics.update(found.metrics)
        if found.problem:
            done.evaluator_errors[name] = found.problem
        if found.ignored:
            done.ignored_scores[name] = found.ignored

    def call(self, function: Callable[..., Any], args: Any, kwargs: Mapping[str, Any]) -> Any:
        return invoke(
            function,
            args,
            kwargs,
            loop=self.loop,
            retry_policy=self.task.retry_policy,
            retried_errors=self.result.retried_errors,
        )


def takes_tracer(function: Callable[..., Any]) -> bool:
    """Whether the function has a parameter `tracer`."""
    return any(parameter.name == "tracer" for parameter in parameters_of(function) or ())


def json_object(value: Any, key: str) -> dict[str, Any]:
    """The value as a JSON object, which the backend requires. Other values are wrapped as `{key: value}`."""
    found = json_value(value)
    return found if isinstance(found, dict) else {key: found}


def json_value(value: Any) -> Any:
    """The value if it is JSON serializable, else its nearest JSON representation."""
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return plain(value)
    return value


# The session of each data point. Sessions are created and updated in the process that has the tracer.

SOURCE: Final = "evaluation"
"""Source of sessions that `evaluate` creates."""

PREVIEW_LENGTH: Final = 200
"""Characters of inputs and outputs in the result, which must stay small."""


@dataclass(frozen=True, slots=True)
class DatapointOutcome:
    """The result of one data point with its ids, without the full outputs.

    Attributes:
        index: position in the dataset.
        error: "Type: text" of an exception of the function. No evaluator ran then.
        evaluator_errors: by evaluator, "Type: text" of its exception, or why its return value is not a score.
        seconds: duration of the function, all attempts together.
        retried_errors: errors of attempts that were retried.
        ignored_scores: by evaluator, returned entries that are not scalars.
        inputs, outputs: the first characters, as text.
    """

    index: int
    datapoint_id: str
    session_id: str
    metrics: Mapping[str, Scalar] = field(default_factory=dict)
    error: str | None = None
    evaluator_errors: Mapping[str, str] = field(default_factory=dict)
    seconds: float | None = None
    retried_errors: tuple[str, ...] = ()
    ignored_scores: Mapping[str, Sequence[str]] = field(default_factory=dict)
    inputs: str = ""
    outputs: str = ""


@dataclass(frozen=True, slots=True)
class DatapointSessions:
    """Creates and updates the sessions of a run's data points.

    Attributes:
        ids: `run_id` and `dataset_id`, set on sessions and spans.
        on_start: called with the id of each new session before its first span.
    """

    tracer: HoneyHiveTracer
    run_name: str
    ids: Mapping[str, str]
    on_start: Callable[[str], None]

    def begin(self, point: Datapoint) -> Session:
        """Create a session and make it current. Call this in a copied context, since it is not undone."""
        ids = {**self.ids, "datapoint_id": point.id}
        keep = self.tracer.settings.capture_inputs
        session = self.tracer.new_session(
            self.run_name,
            inputs=json_object(point.inputs, "value") if keep else None,
            metadata=ids,
            source=SOURCE,
        )
        self.on_start(session.id)
        otel_context.attach(_context_of(ids))
        SessionScope(self.tracer, session).enter()
        return session

    def end(self, point: Datapoint, session: Session, result: TaskResult) -> DatapointOutcome:
        """Put the result on the session."""
        settings = self.tracer.settings
        fields: dict[str, Any] = {} if result.outputs is None else {"outputs": result.outputs}
        if point.ground_truth is not None and settings.capture_inputs:
            fields["feedback"] = {"ground_truth": json_value(point.ground_truth)}
        if metadata := _session_metadata(result):
            fields["metadata"] = metadata
        if fields:
            self.tracer.update_event(session.id, fields)
        return DatapointOutcome(
            index=point.index,
            datapoint_id=point.id,
            session_id=session.id,
            metrics=result.metrics,
            error=result.error,
            evaluator_errors=result.evaluator_errors,
            seconds=result.seconds,
            retried_errors=tuple(result.retried_errors),
            ignored_scores=result.ignored_scores,
            inputs=_preview(point.inputs) if settings.capture_inputs else "",
            outputs=_preview(result.outputs) if settings.capture_outputs else "",
        )

    def run(self, task: Task, point: Datapoint) -> DatapointOutcome:
        """Run a data point in its session on this thread. Call this in a copied context."""
        session = self.begin(point)
        return self.end(point, session, run_datapoint(task, point))


def _session_metadata(result: TaskResult) -> dict[str, Any]:
    found = {"error": result.error, EVALUATOR_ERRORS: result.evaluator_errors, RETRIED: result.retried_errors}
    return {name: value for name, value in found.items() if value}


def _context_of(ids: Mapping[str, str]) -> otel_context.Context:
    """The current context with `ids` as baggage and without a span, so that each data point has its own trace."""
    context = otel_trace.set_span_in_context(otel_trace.INVALID_SPAN)
    for name, value in ids.items():
        context = baggage.set_baggage(name, value, context)
    return context


def _preview(value: Any) -> str:
    """The first characters of a value as text. For a dict with one entry, those of its value."""
    if isinstance(value, Mapping) and len(value) == 1:
        (value,) = value.values()
    if value is None:
        return ""
    text = value[: PREVIEW_LENGTH + 1] if isinstance(value, str) else str(value)
    return text if len(text) <= PREVIEW_LENGTH else f"{text[: PREVIEW_LENGTH - 1]}…"


# The pool

POLL_SECONDS: Final = 0.25
"""Longest wait for a result before progress is reported again."""

QUEUE_FACTOR: Final = 2
"""Submitted data points per worker, so that no worker has to wait for the next one."""

INTERRUPT_GRACE_SECONDS: Final = 2.0
"""Longest wait for running data points after Ctrl-C. A second Ctrl-C ends the wait."""


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
        outcomes: in order of completion.
        interrupted: whether Ctrl-C ended the run.
        dataset_error: "Type: text" of an exception raised while iterating the dataset.
    """

    outcomes: list[DatapointOutcome] = field(default_factory=list)
    interrupted: bool = False
    dataset_error: str | None = None

    def in_dataset_order(self) -> list[DatapointOutcome]:
        """Outcomes in the order of the dataset."""
        return sorted(self.outcomes, key=lambda outcome: outcome.index)


class OwnThreads:
    """Threads for data points. If only some can be started, they do all the work; if none can, the caller does it.

    Args:
        most: maximum number of threads.
    """

    def __init__(self, most: int) -> None:
        self._pool = ThreadPoolExecutor(most, "hh_jupyter-evaluate")
        self._started = False

    def submit(self, run: Callable[[], DatapointOutcome]) -> Future[DatapointOutcome]:
        """Call `run` on a thread, or here.

        Raises:
            KeyboardInterrupt: it was called here, and Ctrl-C interrupted it.
        """
        future: Future[DatapointOutcome] = Future()
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
        on_progress: called after each finished data point, and at least every `POLL_SECONDS`.
    """

    def __init__(
        self,
        sessions: DatapointSessions,
        task: Task,
        max_workers: int,
        executor: Executor | None,
        on_progress: Callable[[RunOutcomes], None],
    ) -> None:
        self._sessions, self._task, self._on_progress = sessions, task, on_progress
        self._executor = executor
        self._threads = OwnThreads(max_workers) if executor is None else None
        self._max_in_flight = max_workers * QUEUE_FACTOR
        self._finished: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._in_flight: dict[int, _InFlight] = {}
        self._numbers = itertools.count()
        self._warned: set[str] = set()
        self._outcomes = RunOutcomes()

    def run(self, points: Iterator[Datapoint]) -> RunOutcomes:
        """Run all data points and return their outcomes. After Ctrl-C, return the outcomes so far."""
        try:
            self._run_all(points)
        except KeyboardInterrupt:
            self._outcomes.interrupted = True
            self._cancel()
        finally:
            if self._threads is not None:
                self._threads.close()
        return self._outcomes

    def _run_all(self, points: Iterator[Datapoint]) -> None:
        more = True
        while more or self._in_flight:
            while more and len(self._in_flight) < self._max_in_flight:
                more = self._start_next(points)
            if self._in_flight:
                self._collect(POLL_SECONDS)

    def _start_next(self, points: Iterator[Datapoint]) -> bool:
        try:
            point = next(points, None)
        except Exception as error:  # boundary: keep the outcomes if the user's iterator raises.
            if not (self._outcomes.outcomes or self._in_flight):
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
        flight.future.add_done_callback(functools.partial(_put, self._finished, number))

    def _collect(self, seconds: float) -> None:
        """Wait at most `seconds` for a finished data point, then collect all finished ones."""
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
            self._outcomes.outcomes.append(done)
            self._warn_ignored_scores(done)

    def _retry_or_fail(self, flight: _InFlight, error: BaseException) -> DatapointOutcome | TaskResult | None:
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
        return DatapointOutcome(flight.point.index, flight.point.id, "", error=error_text(error))

    def _cancel(self) -> None:
        """Cancel submitted data points; running ones may finish within `INTERRUPT_GRACE_SECONDS`."""
        run_loop(self._task.run_id).stop()
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

    def _warn_ignored_scores(self, outcome: DatapointOutcome) -> None:
        for name, extras in outcome.ignored_scores.items():
            if name not in self._warned:
                self._warned.add(name)
                text = "evaluate: ignoring entries of %s that are not a number, bool or text: %s"
                logger.warning(text, name, ", ".join(extras))


def _put(finished: queue.SimpleQueue[int], number: int, _future: Future[Any]) -> None:
    finished.put(number)
