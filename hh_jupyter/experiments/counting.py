"""Results: counted here from what came out, or made of what the backend answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hh_jupyter.experiments.datapoint import Outcome
from hh_jupyter.experiments.meter import Meter
from hh_jupyter.experiments.results import (
    AGGREGATES,
    COMPLETED,
    AggregatedMetrics,
    DatapointError,
    DatapointResult,
    ExperimentResultSummary,
    MetricDetail,
    Row,
)


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


def rows_of(outcomes: Sequence[Outcome], meter: Meter) -> tuple[Row, ...]:
    """What is known of each data point, cost and tokens included."""
    rows = []
    for outcome in outcomes:
        used = meter.of(outcome.session_id)
        rows.append(
            Row(
                index=outcome.index,
                datapoint_id=outcome.datapoint_id,
                session_id=outcome.session_id,
                metrics=outcome.metrics,
                passed=not (outcome.error or outcome.evaluator_errors),
                error=outcome.error,
                evaluator_errors=outcome.evaluator_errors,
                seconds=outcome.seconds,
                cost=used.cost,
                tokens=used.tokens,
                attempts=1 + len(outcome.failures),
                inputs=outcome.inputs,
                outputs=outcome.outputs,
            )
        )
    return tuple(rows)


def result_from_outcomes(
    run_id: str,
    aggregate_function: str,
    outcomes: Sequence[Outcome],
    function_name: str,
    *,
    status: str = COMPLETED,
    problems: Sequence[DatapointError] = (),
    **about: Any,
) -> ExperimentResultSummary:
    """The result counted here, for local mode and for a backend that does not answer in the end.

    Args:
        problems: of the run itself, such as a dataset that ended with an error.
        about: more fields of the result.
    """
    errors = (*errors_of(outcomes), *problems)
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
        status=status,
        success=not errors and status == COMPLETED,
        passed=tuple(point.datapoint_id for point in datapoints if point.passed),
        failed=tuple(point.datapoint_id for point in datapoints if not point.passed),
        metrics=AggregatedMetrics(
            aggregation_function=aggregate_function, details=_details(aggregate_function, outcomes, function_name)
        ),
        datapoints=datapoints,
        errors=errors,
        **about,
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


def result_from_answer(
    run_id: str,
    aggregate_function: str,
    answer: Mapping[str, Any],
    errors: Sequence[DatapointError] = (),
    **about: Any,
) -> ExperimentResultSummary:
    """The result that a backend answered (contract, section 1); what it leaves out is empty."""
    metrics = answer.get("metrics") or {}
    details = tuple(_made(MetricDetail, "metric_name", item) for item in metrics.get("details") or ())
    datapoints = tuple(_made(DatapointResult, "datapoint_id", item) for item in answer.get("datapoints") or ())
    run = answer.get("run_object") or {}
    passed, failed = tuple(answer.get("passed") or ()), tuple(answer.get("failed") or ())
    known = {
        "name": str(run.get("name") or ""),
        "config": (run.get("configuration") or {}).get("config") or {},
        "rows": tuple(_row(index, point, failed) for index, point in enumerate(datapoints)),
        **about,
    }
    return ExperimentResultSummary(
        run_id=run_id,
        status=str(answer.get("status") or "unknown"),
        success=bool(answer.get("success")),
        passed=passed,
        failed=failed,
        metrics=AggregatedMetrics(
            aggregation_function=metrics.get("aggregation_function") or aggregate_function, details=details
        ),
        datapoints=datapoints,
        errors=errors,
        **known,
    )


def is_scored(result: ExperimentResultSummary) -> bool:
    """Whether there is anything in it about data points: a backend answers before it has scored them."""
    return bool(result.passed or result.failed or result.datapoints or result.metrics.details)


def _row(index: int, point: DatapointResult, failed: Sequence[str]) -> Row:
    """What the backend tells of a data point; its metrics are named `name` or `metric_name`, as the version goes."""
    named = {item.get("name") or item.get("metric_name"): item.get("value") for item in point.metrics}
    return Row(
        index=index,
        datapoint_id=point.datapoint_id,
        session_id=point.session_id or "",
        metrics={str(name): value for name, value in named.items() if name},
        passed=False if point.datapoint_id in failed else point.passed,
    )


def _made(kind: Any, required: str, item: Mapping[str, Any]) -> Any:
    """One part of an answer; fields that a newer backend adds are passed over."""
    known = {name: item[name] for name in kind.__dataclass_fields__ if item.get(name) is not None}
    return kind(**{required: "", **known})
