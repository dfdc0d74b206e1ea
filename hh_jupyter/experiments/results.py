"""What `evaluate` returns: the backend's summary of a run, or the same counted here, and every error."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Final

from hh_jupyter.experiments.datapoint import Outcome

AGGREGATES: Final[Mapping[str, Callable[[Sequence[float]], float]]] = MappingProxyType(
    {"average": statistics.fmean, "sum": sum, "min": min, "max": max}
)
"""What can be counted here; a backend may know more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricDetail:
    """One metric over all data points.

    Attributes:
        aggregate: what the run's aggregate function made of `values`.
        datapoints: ids under `passed` and `failed`, where the backend judges the metric.
    """

    metric_name: str
    metric_type: str = "numeric"
    event_name: str | None = None
    event_type: str | None = None
    aggregate: Any = None
    values: Sequence[Any] = ()
    datapoints: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregatedMetrics:
    """The metrics of a run."""

    aggregation_function: str
    details: tuple[MetricDetail, ...] = ()

    def list_metrics(self) -> list[str]:
        """Names, in the order of the details."""
        return [detail.metric_name for detail in self.details]

    def get_metric(self, name: str) -> MetricDetail | None:
        """The metric of that name, if there is one."""
        return self.get_all_metrics().get(name)

    def get_all_metrics(self) -> dict[str, MetricDetail]:
        """Metrics by name."""
        return {detail.metric_name: detail for detail in self.details}


@dataclass(frozen=True, slots=True, kw_only=True)
class DatapointResult:
    """One data point in the result. `metrics` as the backend lists them; counted here, dicts of name and value."""

    datapoint_id: str
    session_id: str | None = None
    passed: bool | None = None
    metrics: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DatapointError:
    """Something that went wrong on one data point.

    Attributes:
        evaluator: whose error it is; None for the function's own.
        error: "Type: text" of an exception, or what an evaluator returned that is no score.
    """

    datapoint_id: str
    session_id: str
    evaluator: str | None
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentResultSummary:
    """The result of a run.

    Attributes:
        passed: ids of data points; counted here, those on which nothing raised.
        errors: of the function and the evaluators, in the order of the dataset.
    """

    run_id: str
    status: str
    success: bool
    passed: Sequence[str]
    failed: Sequence[str]
    metrics: AggregatedMetrics
    datapoints: Sequence[DatapointResult]
    errors: Sequence[DatapointError] = ()

    def model_dump(self) -> dict[str, Any]:
        """Everything as plain data."""
        return asdict(self)

    def print_table(self, run_name: str | None = None) -> None:
        """Print run, metrics, the first data points and the errors to standard output."""
        from hh_jupyter.experiments.table import table_text

        sys.stdout.write(table_text(self, run_name or self.run_id))


def errors_of(outcomes: Sequence[Outcome]) -> tuple[DatapointError, ...]:
    """Every error of a run."""
    found = []
    for outcome in outcomes:
        own = [(None, outcome.error)] if outcome.error else []
        for evaluator, error in [*own, *outcome.evaluator_errors.items()]:
            found.append(
                DatapointError(
                    datapoint_id=outcome.datapoint_id, session_id=outcome.session_id, evaluator=evaluator, error=error
                )
            )
    return tuple(found)


def result_from_answer(
    run_id: str, aggregate_function: str, answer: Mapping[str, Any], errors: Sequence[DatapointError] = ()
) -> ExperimentResultSummary:
    """The result that a backend answered (contract, section 1); what it leaves out is empty."""
    metrics = answer.get("metrics") or {}
    details = tuple(_made(MetricDetail, "metric_name", item) for item in metrics.get("details") or ())
    return ExperimentResultSummary(
        run_id=run_id,
        status=str(answer.get("status") or "unknown"),
        success=bool(answer.get("success")),
        passed=tuple(answer.get("passed") or ()),
        failed=tuple(answer.get("failed") or ()),
        metrics=AggregatedMetrics(
            aggregation_function=metrics.get("aggregation_function") or aggregate_function, details=details
        ),
        datapoints=tuple(_made(DatapointResult, "datapoint_id", item) for item in answer.get("datapoints") or ()),
        errors=errors,
    )


def is_scored(result: ExperimentResultSummary) -> bool:
    """Whether there is anything in it about data points: a backend answers before it has scored them."""
    return bool(result.passed or result.failed or result.datapoints or result.metrics.details)


def _made(kind: Any, required: str, item: Mapping[str, Any]) -> Any:
    """One part of an answer; fields that a newer backend adds are passed over."""
    known = {name: item[name] for name in kind.__dataclass_fields__ if item.get(name) is not None}
    return kind(**{required: "", **known})


def result_from_outcomes(
    run_id: str, aggregate_function: str, outcomes: Sequence[Outcome], function_name: str
) -> ExperimentResultSummary:
    """The result counted here, for local mode and for a backend that does not answer in the end."""
    errors = errors_of(outcomes)
    bad = {error.datapoint_id for error in errors}
    datapoints = tuple(
        DatapointResult(
            datapoint_id=outcome.datapoint_id,
            session_id=outcome.session_id,
            passed=outcome.datapoint_id not in bad,
            metrics=tuple({"name": name, "value": value} for name, value in outcome.metrics.items()),
        )
        for outcome in outcomes
    )
    return ExperimentResultSummary(
        run_id=run_id,
        status="completed",
        success=not errors,
        passed=tuple(point.datapoint_id for point in datapoints if point.passed),
        failed=tuple(point.datapoint_id for point in datapoints if not point.passed),
        metrics=AggregatedMetrics(
            aggregation_function=aggregate_function, details=_details(aggregate_function, outcomes, function_name)
        ),
        datapoints=datapoints,
        errors=errors,
    )


def _details(aggregate_function: str, outcomes: Sequence[Outcome], function_name: str) -> tuple[MetricDetail, ...]:
    """Numbers and bools over all data points; a text cannot be aggregated and stays with its data point."""
    values: dict[str, list[float]] = {}
    for outcome in outcomes:
        for name, value in outcome.metrics.items():
            if not isinstance(value, str):
                values.setdefault(name, []).append(value)
    aggregate = AGGREGATES.get(aggregate_function)
    return tuple(
        MetricDetail(
            metric_name=name,
            metric_type="boolean" if all(isinstance(value, bool) for value in numbers) else "numeric",
            event_name=function_name,
            event_type="chain",
            aggregate=aggregate(numbers) if aggregate else None,
            values=tuple(numbers),
        )
        for name, numbers in values.items()
    )
