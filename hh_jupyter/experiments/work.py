"""The work on one data point: the function and the evaluators, in one span. It can be done in any process.

Everything is given and returned as values, so that an executor can carry it to another process or machine and back.
"""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hh_jupyter import attributes as keys
from hh_jupyter.experiments.calling import Patience, call, text_of_error
from hh_jupyter.experiments.dataset import Datapoint
from hh_jupyter.experiments.evaluators import NAMES, REMEMBERED, Scalar, arguments_for, parameters_of, score
from hh_jupyter.experiments.here import Here, Stopped, here
from hh_jupyter.tracing.decorators import trace
from hh_jupyter.tracing.default import current_tracer
from hh_jupyter.tracing.enrichment import enrich_current_span, span_attributes
from hh_jupyter.tracing.serialize import plain

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
