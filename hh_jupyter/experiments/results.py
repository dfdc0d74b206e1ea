"""Results of `evaluate` and `compare_runs`: classes, aggregation, plain data and DataFrames."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TextIO

from hh_jupyter.display.updatable_output import already_shown
from hh_jupyter.experiments.dataset import own_id, wire_id
from hh_jupyter.experiments.usage import UsageCounter

if TYPE_CHECKING:
    import pandas as pd

AGGREGATES: Final[Mapping[str, Callable[[Sequence[float]], float]]] = MappingProxyType(
    {"average": statistics.fmean, "sum": sum, "min": min, "max": max}
)
"""Aggregate functions that can be computed locally; a backend may support others."""

SENT: Final = "Sent"
PARTLY_SENT: Final = "Not all sent"
LOCAL_ONLY: Final = "Local only"

COMPLETED: Final = "completed"
INTERRUPTED: Final = "cancelled"
"""Status of a run that Ctrl-C ended, as the backend names it."""


class ResultRenderer(Protocol):
    """Interface of `hh_jupyter.experiments.views`, which renders results."""

    def result_text(
        self, result: ExperimentResultSummary, name: str | None = None, stream: TextIO | None = None
    ) -> str: ...

    def result_bundle(self, result: ExperimentResultSummary) -> dict[str, str]: ...

    def comparison_text(self, found: RunComparisonResult, stream: TextIO | None = None) -> str: ...

    def comparison_html(self, found: RunComparisonResult) -> str: ...


class ResultComparer(Protocol):
    """Interface of `hh_jupyter.experiments.comparison`, which compares results."""

    def compare_results(
        self, new: ExperimentResultSummary, old: ExperimentResultSummary | str, lower_is_better: Sequence[str] = ()
    ) -> RunComparisonResult: ...


class ResultExtensions:
    """Modules that import this one, for methods of results. `hh_jupyter.experiments` sets them."""

    renderer: ResultRenderer
    comparer: ResultComparer


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricDetail:
    """One metric over all data points.

    Attributes:
        aggregate: `values`, aggregated by the run's aggregate function.
        datapoints: ids under `passed` and `failed`, if the backend has a pass criterion for the metric.
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
        """Names of the metrics."""
        return [detail.metric_name for detail in self.details]

    def get_metric(self, name: str) -> MetricDetail | None:
        """The metric of this name, or None."""
        return self.get_all_metrics().get(name)

    def get_all_metrics(self) -> dict[str, MetricDetail]:
        """Metrics by name."""
        return {detail.metric_name: detail for detail in self.details}


@dataclass(frozen=True, slots=True, kw_only=True)
class DatapointResult:
    """One data point of a run. `metrics` as the backend lists them; in local results, dicts with `name` and `value`."""

    datapoint_id: str
    session_id: str | None = None
    passed: bool | None = None
    metrics: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DatapointError:
    """An error of one data point.

    Attributes:
        evaluator: name of the evaluator that failed; None for an error of the function.
        error: "Type: text" of an exception, or why the evaluator's return value is not a score.
    """

    datapoint_id: str
    session_id: str
    evaluator: str | None
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow:
    """One data point of a result, with everything that this process has measured.

    Attributes:
        index: position in the dataset.
        datapoint_id: the id that the user gave, or a generated one.
        content: hash of the row if it has no id of its own; see `Datapoint`.
        passed: False if something raised or an evaluator returned False; None if all scores are 0 or a text such as
            "no", which may be good or bad; else True. Or the backend's verdict.
        error: "Type: text" of an exception of the function. No evaluator ran then.
        evaluator_errors: by evaluator, "Type: text" of its exception, or why its return value is not a score.
        seconds: duration of the function, all attempts together; None if it did not run in this process.
        cost: cost of its model calls in US dollars, as far as known; None if unknown.
        attempts: 1, plus the number of retries of function and evaluators.
        inputs, outputs: the first characters, as text.
    """

    index: int
    datapoint_id: str
    session_id: str
    metrics: Mapping[str, Any] = field(default_factory=dict)
    passed: bool | None = None
    error: str | None = None
    evaluator_errors: Mapping[str, str] = field(default_factory=dict)
    seconds: float | None = None
    cost: float | None = None
    tokens: int | None = None
    attempts: int = 1
    inputs: str = ""
    outputs: str = ""
    content: str = ""

    @property
    def state(self) -> Literal["failed", "wrong", "unclear", "passed"]:
        """`failed` if something raised, else by `passed`: `wrong`, `unclear` or `passed`."""
        if self.error or self.evaluator_errors:
            return "failed"
        return "unclear" if self.passed is None else "passed" if self.passed else "wrong"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentResultSummary:
    """The result of a run. A notebook displays it as a table.

    Attributes:
        status: completed, or cancelled after Ctrl-C; a backend may return others.
        success: whether the run is complete and nothing raised.
        passed, failed: ids of data points, by `passed` of the rows. Unclear ones are in neither.
        errors: errors of the function and the evaluators, in the order of the dataset.
        name: name of the run.
        config: `config` of `evaluate`.
        rows: every data point that was run, in the order of the dataset.
        planned: number of data points in the dataset; None if unknown.
        seconds: duration of the run.
        cost: cost of all model calls in US dollars, as far as known. `cost_complete`: whether the cost of each call is
            known. `cost_estimated`: whether some of it comes from a price table.
        delivery: "Sent", "Not all sent", or "Local only", which `%hh send` sends. Empty for a run that was read from
            the backend.
    """

    run_id: str
    status: str
    success: bool
    passed: Sequence[str] = ()
    failed: Sequence[str] = ()
    metrics: AggregatedMetrics
    datapoints: Sequence[DatapointResult] = ()
    errors: Sequence[DatapointError] = ()
    name: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    rows: Sequence[ResultRow] = ()
    planned: int | None = None
    seconds: float | None = None
    cost: float | None = None
    cost_complete: bool = True
    cost_estimated: bool = False
    tokens: int | None = None
    delivery: str = ""

    def model_dump(self) -> dict[str, Any]:
        """The result as plain data."""
        return asdict(self)

    def print_table(self, run_name: str | None = None) -> None:
        """Print the run, its metrics, first data points and errors to standard output."""
        sys.stdout.write(ResultExtensions.renderer.result_text(self, run_name, sys.stdout))

    def compare(
        self, old: ExperimentResultSummary | str, *, lower_is_better: Sequence[str] = ()
    ) -> RunComparisonResult:
        """Compare this run with an older one: metrics, data points, config.

        Example:
            >>> new.compare(old, lower_is_better=["seconds"])  # doctest: +SKIP

        Args:
            old: result or id of the older run.
            lower_is_better: metrics for which lower is better, such as a distance.

        Raises:
            SettingError: no run of this id is stored on this machine, and there is no API key to query the backend.
        """
        return ResultExtensions.comparer.compare_results(self, old, lower_is_better)

    def to_pandas(self) -> pd.DataFrame:
        """One row for each data point, including failed ones: ids, metrics, seconds, cost, errors.

        Raises:
            ImportError: pandas is not installed.
        """
        return dataframe_of_rows(self.rows)

    def _repr_mimebundle_(self, **_which: Any) -> tuple[dict[str, str], dict[str, Any]]:
        return ResultExtensions.renderer.result_bundle(self), {
            "hh_jupyter": {"run_id": self.run_id}
        }  # Marks the output for `strip`.

    def _repr_html_(self) -> str:
        return self._repr_mimebundle_()[0]["text/html"]

    def __repr__(self) -> str:
        return ResultExtensions.renderer.result_text(self).rstrip("\n")

    def _ipython_display_(self) -> None:
        """Display the result, unless the progress display of this cell already shows it."""
        if not already_shown(self):
            raise NotImplementedError  # IPython then uses the other representations.


@dataclass(frozen=True, slots=True, kw_only=True)
class RunComparisonResult:
    """The changes between two runs. A notebook displays them as a table.

    Attributes:
        common_datapoints: number of data points in both runs; only these are compared.
        new_only_datapoints, old_only_datapoints: number of data points in one run only; 0 in a comparison by the
            backend, which does not return them.
        newly_failed, newly_wrong, newly_passed: ids of data points by their state in the new run, if it was another one
            before. An exception is worse than a wrong answer. Empty in a comparison by the backend, as what follows.
        added, missing: ids of data points in the new run only, and in the old run only.
        metric_deltas: by metric: `old_aggregate` and `new_aggregate`; the numbers of data points `improved_count`,
            `degraded_count`, `same_count` and `found_count`; their ids under `improved`, `degraded` and `same`;
            `old_values` and `new_values`. The backend has its own rule for what is better. In a local comparison,
            higher is better, except for metrics in `lower_is_better`; an exception is worse than any score. It also has
            `changed`: ids of data points with another text, and `found_once_count`: data points with a score in one run
            only, though nothing raised.
        new_only_metrics, old_only_metrics: names of metrics that one run only has.
        config_changes: (old, new) by key of `config`, in a local comparison.
        new, old: the results, in a local comparison.
        pairs: rows of both runs, (new, old).
        lower_is_better: metrics for which lower is better.
    """

    new_run_id: str
    old_run_id: str
    common_datapoints: int = 0
    new_only_datapoints: int = 0
    old_only_datapoints: int = 0
    newly_failed: Sequence[str] = ()
    newly_wrong: Sequence[str] = ()
    newly_passed: Sequence[str] = ()
    added: Sequence[str] = ()
    missing: Sequence[str] = ()
    metric_deltas: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    new_only_metrics: Sequence[str] = ()
    old_only_metrics: Sequence[str] = ()
    config_changes: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    new: ExperimentResultSummary | None = field(default=None, repr=False)
    old: ExperimentResultSummary | None = field(default=None, repr=False)
    pairs: Sequence[tuple[ResultRow, ResultRow]] = field(default=(), repr=False)
    lower_is_better: Sequence[str] = ()

    def get_metric_delta(self, metric_name: str) -> Mapping[str, Any] | None:
        """The delta of a metric, or None if it is not in both runs."""
        return self.metric_deltas.get(metric_name)

    def list_improved_metrics(self) -> list[str]:
        """Names of metrics that improved on at least one data point."""
        return [name for name, delta in self.metric_deltas.items() if delta["improved_count"] > 0]

    def list_degraded_metrics(self) -> list[str]:
        """Names of metrics that degraded on at least one data point; a metric may be in both lists."""
        return [name for name, delta in self.metric_deltas.items() if delta["degraded_count"] > 0]

    def print_table(self) -> None:
        """Print changed metrics, config and data points to standard output."""
        sys.stdout.write(ResultExtensions.renderer.comparison_text(self, sys.stdout))

    def _repr_mimebundle_(self, **_which: Any) -> tuple[dict[str, str], dict[str, Any]]:
        found = {"text/plain": repr(self), "text/html": ResultExtensions.renderer.comparison_html(self)}
        return found, {"hh_jupyter": {"run_id": self.new_run_id}}  # Marks the output for `strip`.

    def _repr_html_(self) -> str:
        return self._repr_mimebundle_()[0]["text/html"]

    def __repr__(self) -> str:
        return ResultExtensions.renderer.comparison_text(self).rstrip("\n")


# Results: computed locally from rows, or built from a response of the backend


def errors_of(rows: Sequence[ResultRow]) -> tuple[DatapointError, ...]:
    """All errors of a run."""
    return tuple(
        DatapointError(datapoint_id=row.datapoint_id, session_id=row.session_id, evaluator=evaluator, error=error)
        for row in rows
        for evaluator, error in [*([(None, row.error)] if row.error else []), *row.evaluator_errors.items()]
    )


def with_usage(rows: Sequence[ResultRow], usage: UsageCounter) -> tuple[ResultRow, ...]:
    """The rows with cost and tokens."""
    used = [usage.usage_of(row.session_id) for row in rows]
    return tuple(replace(row, cost=one.cost, tokens=one.tokens) for row, one in zip(rows, used, strict=True))


def result_from_rows(
    run_id: str,
    aggregate_function: str,
    rows: Sequence[ResultRow],
    function_name: str,
    *,
    status: str = COMPLETED,
    problems: Sequence[DatapointError] = (),
    **more_fields: Any,
) -> ExperimentResultSummary:
    """Compute a result locally, for local mode and for a backend that does not respond.

    Args:
        problems: errors of the run itself, such as a dataset iterator that raised.
        more_fields: further fields of the result.
    """
    errors = (*errors_of(rows), *problems)
    datapoints = tuple(
        DatapointResult(
            datapoint_id=row.datapoint_id,
            session_id=row.session_id,
            passed=row.passed,
            metrics=tuple({"name": name, "value": value} for name, value in row.metrics.items()),
        )
        for row in rows
    )
    return ExperimentResultSummary(
        run_id=run_id,
        status=status,
        success=not errors and status == COMPLETED,
        passed=tuple(row.datapoint_id for row in rows if row.passed),
        failed=tuple(row.datapoint_id for row in rows if row.passed is False),
        metrics=AggregatedMetrics(
            aggregation_function=aggregate_function, details=_details(aggregate_function, rows, function_name)
        ),
        datapoints=datapoints,
        errors=errors,
        rows=rows,
        **more_fields,
    )


def _details(aggregate_function: str, rows: Sequence[ResultRow], function_name: str) -> tuple[MetricDetail, ...]:
    """Metrics with numbers and bools, aggregated over all data points. Texts cannot be aggregated."""
    values: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.metrics.items():
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
    **more_fields: Any,
) -> ExperimentResultSummary:
    """Build a result from a response of the backend. Missing fields are empty; ids are those that the user gave.

    Args:
        more_fields: further fields of the result. `rows` are those of this process, with its ids.
    """
    rows: Sequence[ResultRow] = more_fields.pop("rows", ())
    ids = {wire_id(row.datapoint_id): row.datapoint_id for row in rows}

    def own_ids(items: Any) -> tuple[str, ...]:
        return tuple(ids.get(item) or own_id(item) for item in map(str, items or ()))

    metrics = answer.get("metrics") or {}
    details = tuple(
        replace(detail, datapoints={key: own_ids(value) for key, value in detail.datapoints.items()})
        for detail in (_part_from_answer(MetricDetail, "metric_name", item) for item in metrics.get("details") or ())
    )
    datapoints = tuple(
        replace(point, datapoint_id=own_ids([point.datapoint_id])[0])
        for point in (
            _part_from_answer(DatapointResult, "datapoint_id", item) for item in answer.get("datapoints") or ()
        )
    )
    run = answer.get("run_object") or {}
    passed, failed = own_ids(answer.get("passed")), own_ids(answer.get("failed"))
    known = {
        "name": str(run.get("name") or ""),
        "config": (run.get("configuration") or {}).get("config") or {},
        "rows": tuple(replace(row, passed=False) if row.datapoint_id in failed else row for row in rows)
        or tuple(_row_from_answer(index, point, failed) for index, point in enumerate(datapoints)),
        **more_fields,
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
    """Whether the result has data points. The backend responds with an empty result before it has scored them."""
    return bool(result.passed or result.failed or result.datapoints or result.metrics.details)


def _row_from_answer(index: int, point: DatapointResult, failed: Sequence[str]) -> ResultRow:
    """The row of a data point in a response. Depending on the version, metrics have a `name` or a `metric_name`."""
    named = {item.get("name") or item.get("metric_name"): item.get("value") for item in point.metrics}
    return ResultRow(
        index=index,
        datapoint_id=point.datapoint_id,
        session_id=point.session_id or "",
        metrics={str(name): value for name, value in named.items() if name},
        passed=False if point.datapoint_id in failed else point.passed,
    )


def _part_from_answer(kind: Any, required: str, item: Mapping[str, Any]) -> Any:
    """Build `kind` from an object of a response. Ignores unknown fields of newer backends."""
    known = {name: item[name] for name in kind.__dataclass_fields__ if item.get(name) is not None}
    return kind(**{required: "", **known})


# Results as plain data and as DataFrames

_PARTS = {"datapoints": DatapointResult, "errors": DatapointError, "rows": ResultRow}


def dataframe_of_rows(rows: Sequence[ResultRow]) -> pd.DataFrame:
    """A DataFrame with one row for each data point.

    Columns: `datapoint_id`, `session_id`, `passed`, the metrics by name, `seconds`, `cost` (US dollars), `tokens`,
    `attempts`, `error`, `evaluator_errors` (dict or None), `inputs` and `outputs` (first characters). A metric with the
    name of another column is renamed to `metric_<name>`.

    Raises:
        ImportError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError:
        raise ImportError("to_pandas needs pandas: pip install pandas") from None
    before = ("datapoint_id", "session_id", "passed")
    after = ("seconds", "cost", "tokens", "attempts", "error", "evaluator_errors", "inputs", "outputs")
    taken = {*before, *after}
    names = dict.fromkeys(name for row in rows for name in row.metrics)
    columns = {name: f"metric_{name}" if name in taken else name for name in names}
    records = [
        {
            **{name: getattr(row, name) for name in before},
            **{column: row.metrics.get(name) for name, column in columns.items()},
            **{name: getattr(row, name) for name in after},
            "evaluator_errors": dict(row.evaluator_errors) or None,
        }
        for row in rows
    ]
    return pd.DataFrame(records, columns=[*before, *columns.values(), *after])


def plain_result(result: ExperimentResultSummary) -> dict[str, Any]:
    """The result as JSON-serializable data."""
    return asdict(result)


def result_from_plain(data: Mapping[str, Any]) -> ExperimentResultSummary:
    """Rebuild a result from plain data. Ignores unknown fields of other versions."""
    found = _known_fields(ExperimentResultSummary, data)
    metrics = found.get("metrics") or {}
    details = tuple(MetricDetail(**_known_fields(MetricDetail, item)) for item in metrics.get("details") or ())
    parts = {
        name: tuple(kind(**_known_fields(kind, item)) for item in found.get(name) or ())
        for name, kind in _PARTS.items()
    }
    aggregated = AggregatedMetrics(
        aggregation_function=str(metrics.get("aggregation_function") or "average"), details=details
    )
    return ExperimentResultSummary(**{**found, **parts, "metrics": aggregated})


def _known_fields(kind: Any, data: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in data.items() if name in names}
