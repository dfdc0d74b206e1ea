"""Run one data point: its function and evaluators in one span, in its own session."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace

from hh_jupyter import attributes as keys
from hh_jupyter.conventions import EVALUATION, evaluation_attributes
from hh_jupyter.display.format import shorten
from hh_jupyter.experiments.dataset import Datapoint
from hh_jupyter.experiments.evaluators import (
    ARGUMENT_NAMES,
    CACHE_SIZE,
    Scalar,
    arguments_for,
    parameters_of,
    prefers_lower,
    score,
)
from hh_jupyter.experiments.invocation import RetryPolicy, error_text, invoke
from hh_jupyter.experiments.loops import RunLoop, RunStopped, entered, run_loop
from hh_jupyter.experiments.rows import ResultRow
from hh_jupyter.export.model import Session
from hh_jupyter.export.remote import kept_spans
from hh_jupyter.query import SpanList
from hh_jupyter.tracing.api import current_tracer
from hh_jupyter.tracing.context import SessionScope
from hh_jupyter.tracing.decorators import trace
from hh_jupyter.tracing.registry import wait_all_processed
from hh_jupyter.tracing.span_store import span_log
from hh_jupyter.tracing.spans import enrich_current_span, span_attributes
from hh_jupyter.tracing.tracer import HoneyHiveTracer
from hh_jupyter.values import plain, text_of

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
        passed: False if something raised or an evaluator returned False, or True if it prefers lower scores; None if
            there is no score though there are evaluators, or if all scores are 0 or a text such as "no", which may be
            good or bad; else True.
        seconds: duration of the function, all attempts together.
        evaluators_began_ns: when the function had returned, in nanoseconds since the epoch by the clock of its spans:
            spans that start later are those of evaluators. None if none ran.
    """

    outputs: dict[str, Any] | None = None
    metrics: dict[str, Scalar] = field(default_factory=dict)
    error: str | None = None
    evaluator_errors: dict[str, str] = field(default_factory=dict)
    ignored_scores: dict[str, tuple[str, ...]] = field(default_factory=dict)
    retried_errors: list[str] = field(default_factory=list)
    passed: bool | None = False
    seconds: float = 0.0
    evaluators_began_ns: int | None = None


def run_datapoint(task: Task, point: Datapoint, _attempt: int = 1) -> TaskResult:
    """Run function and evaluators, in the session of the current context.

    Args:
        _attempt: makes repeated calls distinct for executors that deduplicate equal ones, such as Dask.

    Raises:
        RunStopped: the run was interrupted.
    """
    datapoint_run = _DatapointRun(task, point, run_loop(task.run_id))
    try:
        with entered(datapoint_run.loop):
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
        self.result.evaluators_began_ns = time.time_ns()
        for name, evaluate in self.task.evaluators.items():
            self.evaluate(name, evaluate, outputs)
        self.result.passed = self.verdict()
        if self.task.keep_outputs and outputs is not None:
            self.result.outputs = json_object(outputs, keys.RESULT)
        enrich_current_span(
            span_attributes({"metrics": self.result.metrics or None, "metadata": self.metadata() or None})
        )
        return outputs

    def verdict(self) -> bool | None:
        """See `TaskResult.passed`."""
        metrics, evaluators = self.result.metrics, self.task.evaluators
        scores = [(metrics[name], prefers_lower(evaluators[name])) for name in evaluators if name in metrics]
        if self.result.evaluator_errors or any(score is lower for score, lower in scores):
            return False
        unclear = all(_says_no(score) and not lower for score, lower in scores)
        return None if unclear and evaluators else True

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
            args, kwargs = arguments_for(evaluator, available, _finished_spans)
            found = score(name, self.call(evaluator, args, kwargs))
        except (Exception, asyncio.CancelledError) as error:  # boundary: one evaluator must not end the others.
            done.evaluator_errors[name] = error_text(error)
            _add_result(evaluation_attributes(name, None, error_type=type(error).__qualname__))
            return
        done.metrics.update(found.metrics)
        if name in found.metrics:
            _add_result(found.result_attributes(name))
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


def _add_result(attributes: Mapping[str, Any]) -> None:
    """Put the result of an evaluator on the row's span as OpenTelemetry defines it, for backends of any kind."""
    otel_trace.get_current_span().add_event(EVALUATION, attributes)


def _finished_spans() -> SpanList:
    """The spans of the current data point that have ended, in its process."""
    wait_all_processed()
    trace_id = otel_trace.get_current_span().get_span_context().trace_id
    records = [record for record in span_log().records() if record.trace_id == trace_id]
    return SpanList([*records, *kept_spans(trace_id)])


NO: Final = frozenset({"no", "false", "fail", "failed", "incorrect", "wrong"})


def _says_no(score: Scalar) -> bool:
    return score.strip().lower() in NO if isinstance(score, str) else score == 0


def takes_tracer(function: Callable[..., Any]) -> bool:
    """Whether the function has a parameter `tracer`."""
    return any(parameter.name == "tracer" for parameter in parameters_of(function) or ())


def json_object(value: Any, key: str) -> dict[str, Any]:
    """The value as a JSON object, which the backend requires. Other values are wrapped as `{key: value}`."""
    try:
        json.dumps(value)
        found = value
    except (TypeError, ValueError, RecursionError):
        found = plain(value)
    return found if isinstance(found, dict) else {key: found}


# The session of each data point. Sessions are created and updated in the process that has the tracer.

SOURCE: Final = "evaluation"
"""Source of sessions that `evaluate` creates."""

PREVIEW_LENGTH: Final = 200
"""Characters of inputs, expected and actual outputs in the result, which must stay small."""


@dataclass(frozen=True, slots=True)
class DatapointSessions:
    """Creates and updates the sessions of a run's data points.

    Attributes:
        ids: `run_id` and `dataset_id`, set on sessions and spans.
        on_start: called with the id of each new session before its first span.
        on_end: called with the id of a session and `TaskResult.evaluators_began_ns` when the data point is done.
        warned: evaluators whose ignored entries were mentioned.
    """

    tracer: HoneyHiveTracer
    run_name: str
    ids: Mapping[str, str]
    on_start: Callable[[str], None]
    on_end: Callable[[str, int | None], None]
    warned: set[str] = field(default_factory=set)

    def begin(self, point: Datapoint) -> Session:
        """Create a session and make it current. Call this in a copied context, since it is not undone."""
        ids = {**self.ids, "datapoint_id": point.id}
        keep = self.tracer.settings.capture_inputs
        session = self.tracer.new_session(
            self.run_name,
            inputs=point.inputs if keep else None,
            metadata={**ids, **point.metadata},
            source=SOURCE,
        )
        self.on_start(session.id)
        otel_context.attach(_context_of(ids))
        SessionScope(self.tracer, session).enter()
        return session

    def end(self, point: Datapoint, session: Session, result: TaskResult) -> ResultRow:
        """Put the result on the session."""
        self.on_end(session.id, result.evaluators_began_ns)
        settings = self.tracer.settings
        fields: dict[str, Any] = {} if result.outputs is None else {"outputs": result.outputs}
        if point.ground_truth is not None and settings.capture_inputs:
            fields["feedback"] = {"ground_truth": point.ground_truth}
        if metadata := _session_metadata(result):
            fields["metadata"] = metadata
        if fields:
            self.tracer.update_event(session.id, fields)
        self.warn_of_ignored_scores(result)
        given = (point.inputs, point.ground_truth) if settings.capture_inputs else (None, None)
        inputs, expected = (_preview(value)[0] for value in given)
        outputs, digest = _preview(result.outputs if settings.capture_outputs else None)
        return ResultRow(
            **point.row_fields,
            session_id=session.id,
            metrics=result.metrics,
            passed=result.passed,
            error=result.error,
            evaluator_errors=result.evaluator_errors,
            seconds=result.seconds,
            attempts=1 + len(result.retried_errors),
            inputs=inputs,
            expected=expected,
            outputs=outputs,
            outputs_digest=digest,
        )

    def warn_of_ignored_scores(self, result: TaskResult) -> None:
        """Warn once per evaluator of entries that are not scores."""
        for name, extras in result.ignored_scores.items():
            if name not in self.warned:
                self.warned.add(name)
                text = "evaluate: ignoring entries of %s that are not a number, bool or text: %s"
                logger.warning(text, name, ", ".join(extras))

    def run(self, task: Task, point: Datapoint) -> ResultRow:
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


def _preview(value: Any) -> tuple[str, str]:
    """The first characters of a value as text, and a hash of the whole text if that is not all of it.

    For a dict with one entry, those of its value.
    """
    if isinstance(value, Mapping) and len(value) == 1:
        (value,) = value.values()
    text = "" if value is None else value if isinstance(value, str) else _whole_text(value)
    if len(text) <= PREVIEW_LENGTH:
        return text, ""
    digest = hashlib.blake2b(text.encode(errors="replace"), digest_size=8).hexdigest()
    return shorten(text[: PREVIEW_LENGTH + 1], PREVIEW_LENGTH), digest


def _whole_text(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # boundary: the text of a user's object must not fail the row.
        return text_of(value)
