"""One data point of a run: its session, its span, the function, the evaluators, and what came out."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace

from hh_jupyter import attributes as keys
from hh_jupyter.experiments.dataset import Datapoint
from hh_jupyter.experiments.evaluators import NAMES, Scalar, arguments_for, score
from hh_jupyter.tracing.decorators import trace
from hh_jupyter.tracing.enrichment import enrich_current_span, span_attributes
from hh_jupyter.tracing.serialize import plain, text_of
from hh_jupyter.tracing.session import SessionScope
from hh_jupyter.tracing.tracer import HoneyHiveTracer

logger = logging.getLogger(__name__)

SOURCE: Final = "evaluation"
"""Source of every session that `evaluate` makes."""

EVALUATOR_ERRORS: Final = "evaluator_errors"
"""Field of the metadata of span and session: what went wrong, by evaluator."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is done with every data point of a run.

    Attributes:
        ids: `run_id` and `dataset_id`, for sessions and spans.
        said: evaluators of which it was said that they return more than metrics can hold.
    """

    run_name: str
    ids: Mapping[str, str]
    function: Callable[..., Any]
    function_name: str
    evaluators: Mapping[str, Callable[..., Any]]
    tracer: HoneyHiveTracer
    said: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came out for one data point.

    Attributes:
        error: "Type: text" of the exception that left the function; then no evaluator ran.
        evaluator_errors: the same by evaluator, or why what it returned is no score.
    """

    datapoint_id: str
    session_id: str
    metrics: Mapping[str, Scalar]
    error: str | None
    evaluator_errors: Mapping[str, str]


def run_datapoint(task: Task, point: Datapoint) -> Outcome:
    """Run the task on one data point. Call it in a copied context: it leaves its own behind."""
    tracer, settings = task.tracer, task.tracer.settings
    ids = {**task.ids, "datapoint_id": point.id}
    session = tracer.new_session(
        task.run_name,
        inputs=_json_object(point.inputs, "value") if settings.capture_inputs else None,
        metadata=ids,
        source=SOURCE,
    )
    otel_context.attach(_context_of(ids))
    with SessionScope(tracer, session):
        work = _Work(task, point)
        outputs = work.run()
    outcome = Outcome(point.id, session.id, work.metrics, work.error, work.evaluator_errors)
    fields = _session_fields(outcome, outputs if settings.capture_outputs else None)
    if point.ground_truth is not None and settings.capture_inputs:
        fields["feedback"] = {"ground_truth": _json_value(point.ground_truth)}
    if fields:
        tracer.update_event(session.id, fields)
    return outcome


def _context_of(ids: Mapping[str, str]) -> otel_context.Context:
    """The current context, in which spans belong to the data point and are roots: a trace stays in one session."""
    context = otel_trace.set_span_in_context(otel_trace.INVALID_SPAN)
    for name, value in ids.items():
        context = baggage.set_baggage(name, value, context)
    return context


def _session_fields(outcome: Outcome, outputs: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {} if outputs is None else {"outputs": _json_object(outputs, keys.RESULT)}
    metadata: dict[str, Any] = {"error": outcome.error} if outcome.error else {}
    if outcome.evaluator_errors:
        metadata[EVALUATOR_ERRORS] = dict(outcome.evaluator_errors)
    return {**fields, "metadata": metadata} if metadata else fields


@dataclass(slots=True)
class _Work:
    """The function and the evaluators on one data point, inside one span named after the function."""

    task: Task
    point: Datapoint
    metrics: dict[str, Scalar] = field(default_factory=dict)
    error: str | None = None
    evaluator_errors: dict[str, str] = field(default_factory=dict)
    loop: asyncio.Runner | None = None

    def run(self) -> Any:
        """Returns the function's result; None after an error."""
        traced = trace(event_type="chain", event_name=self.task.function_name, tracer=self.task.tracer)(self.steps)
        try:
            return traced(self.point.data)
        except (Exception, asyncio.CancelledError) as error:  # boundary: one bad data point must not end the run.
            self.error = _text_of_error(error)
            return None
        finally:
            if self.loop is not None:
                self.loop.close()

    def steps(self, dp: Mapping[str, Any]) -> Any:
        function = self.task.function
        outputs = self.call(function, dp, **({"tracer": self.task.tracer} if _takes_tracer(function) else {}))
        for name, evaluate in self.task.evaluators.items():
            self.evaluate(name, evaluate, outputs)
        notes = {EVALUATOR_ERRORS: self.evaluator_errors} if self.evaluator_errors else None
        enrich_current_span(span_attributes({"metrics": self.metrics or None, "metadata": notes}))
        return outputs

    def evaluate(self, name: str, evaluator: Callable[..., Any], outputs: Any) -> None:
        values = (outputs, self.point.inputs, self.point.ground_truth)
        given = dict(zip(NAMES, values if values[-1] is not None else values[:-1], strict=False))
        try:
            args, kwargs = arguments_for(evaluator, given)
            found = score(name, self.call(evaluator, *args, **kwargs))
        except (Exception, asyncio.CancelledError) as error:  # boundary: nor must one bad evaluator end the others.
            self.evaluator_errors[name] = _text_of_error(error)
            return
        self.metrics.update(found.metrics)
        if found.problem:
            self.evaluator_errors[name] = found.problem
        if found.left_out and name not in self.task.said:
            self.task.said.add(name)
            extras = ", ".join(found.left_out)
            logger.warning("evaluate: %s returns extras that are no number, bool or text, left out: %s", name, extras)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function, and wait for its result on this data point's own event loop if it is a coroutine."""
        result = function(*args, **kwargs)
        if not inspect.isawaitable(result):
            return result
        if self.loop is None:
            self.loop = asyncio.Runner()
        return self.loop.run(_wait_for(result), context=contextvars.copy_context())


async def _wait_for(result: Awaitable[Any]) -> Any:
    return await result


def _takes_tracer(function: Callable[..., Any]) -> bool:
    try:
        return "tracer" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # Some builtins have no signature.
        return False


def _text_of_error(error: BaseException) -> str:
    return f"{type(error).__name__}: {text_of(error)}"


def _json_object(value: Any, key: str) -> dict[str, Any]:
    """The backend takes objects only: anything else is kept under `key`."""
    found = _json_value(value)
    return found if isinstance(found, dict) else {key: found}


def _json_value(value: Any) -> Any:
    """The value itself if JSON can hold it, else the nearest that it can."""
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return plain(value)
    return value
