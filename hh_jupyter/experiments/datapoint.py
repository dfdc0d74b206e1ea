"""One data point of a run: its session before the work, what the session is told after it, and what came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace

from hh_jupyter.delivery.sealing.stamp import Session
from hh_jupyter.experiments.dataset import Datapoint
from hh_jupyter.experiments.evaluators import Scalar
from hh_jupyter.experiments.work import EVALUATOR_ERRORS, RETRIED, Task, Worked, json_object, json_value, work_on
from hh_jupyter.tracing.session import SessionScope
from hh_jupyter.tracing.tracer import HoneyHiveTracer

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
