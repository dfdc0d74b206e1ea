"""Results of `evaluate` and `compare_runs`: classes, aggregation, usage per session, plain data and DataFrames."""

from __future__ import annotations

import queue
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from math import fsum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol, TextIO

from hh_jupyter.display.updatable_output import already_shown
from hh_jupyter.experiments.worker import DatapointOutcome
from hh_jupyter.records import prices
from hh_jupyter.records.log import SpanLog
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.records.totals import Totals, summarize

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
        passed: whether nothing raised, or the backend's verdict.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentResultSummary:
    """The result of a run. A notebook displays it as a table.

    Attributes:
        status: completed, or cancelled after Ctrl-C; a backend may return others.
        passed: ids of data points; in a local result, those on which nothing raised.
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
        metric_deltas: by metric: `old_aggregate` and `new_aggregate`; the numbers of data points `improved_count`,
            `degraded_count`, `same_count` and `found_count`; their ids under `improved`, `degraded` and `same`;
            `old_values` and `new_values`. The backend has its own rule for what is better. In a local comparison,
            higher is better, except for metrics in `lower_is_better`.
        config_changes: (old, new) by key of `config`, in a local comparison.
        new, old: the results, in a local comparison.
        lower_is_better: metrics for which lower is better.
    """

    new_run_id: str
    old_run_id: str
    common_datapoints: int = 0
    new_only_datapoints: int = 0
    old_only_datapoints: int = 0
    metric_deltas: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    config_changes: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    new: ExperimentResultSummary | None = field(default=None, repr=False)
    old: ExperimentResultSummary | None = field(default=None, repr=False)
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


# Usage per session, counted while the run goes on


@dataclass(frozen=True, slots=True)
class SessionUsage:
    """Tokens and cost of the model calls of a session.

    Attributes:
        cost: in US dollars, as far as known; None if unknown.
        tokens: None without a model call.
        complete: whether the cost of each call is known.
        estimated: whether some of the cost comes from the price table.
    """

    cost: float | None = None
    tokens: int | None = None
    complete: bool = True
    estimated: bool = False


class UsageCounter:
    """Counts usage per session from the span log. Drops the records of a session once its root span has ended."""

    def __init__(self, log: SpanLog) -> None:
        self._log = log
        self._records: dict[str, list[SpanRecord]] = {}
        self._ended_sessions: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._unpriced: dict[str, list[SpanRecord]] = {}
        self._usage: dict[str, SessionUsage] = {}

    def __enter__(self) -> UsageCounter:
        self._log.listen(self._on_records)
        return self

    def __exit__(self, *_error: object) -> None:
        self._log.unlisten(self._on_records)

    def watch(self, session_id: str) -> None:
        """Start counting a session. Call this before its first span."""
        self._records[session_id] = []

    def usage_of(self, session_id: str) -> SessionUsage:
        """Usage of a session so far."""
        return self._usage.get(session_id, SessionUsage())

    def total(self) -> SessionUsage:
        """Usage of all sessions so far."""
        each = self._usage.values()
        costs = [used.cost for used in each if used.cost is not None]
        tokens = [used.tokens for used in each if used.tokens is not None]
        return SessionUsage(
            fsum(costs) if costs else None,
            sum(tokens) if tokens else None,
            all(used.complete for used in each),
            any(used.estimated for used in each),
        )

    def count(self) -> None:
        """Count ended sessions. Sessions that need the price table wait until it is loaded."""
        while True:
            try:
                session_id = self._ended_sessions.get_nowait()
            except queue.Empty:
                break
            records = self._records.pop(session_id, None)
            if records:
                self._unpriced[session_id] = records
        for session_id, records in list(self._unpriced.items()):
            if not prices.ready() and any(prices.needs_table(record.facts) for record in records):
                prices.load_in_background()
                continue
            del self._unpriced[session_id]
            self._store(session_id, records)

    def finish(self) -> None:
        """Count all sessions, and load the price table if necessary."""
        self.count()
        rest, self._records = self._records, {}
        self._unpriced |= {session_id: records for session_id, records in rest.items() if records}
        if any(prices.needs_table(record.facts) for records in self._unpriced.values() for record in records):
            prices.load()
        for session_id, records in self._unpriced.items():
            self._store(session_id, records)
        self._unpriced.clear()

    def _store(self, session_id: str, records: list[SpanRecord]) -> None:
        if not any(record.facts.model or record.facts.usage for record in records):
            return  # No model call.
        found = summarize(records)
        self._usage[session_id] = SessionUsage(found.cost, _tokens(found), found.cost_complete, found.cost_estimated)

    def _on_records(self, records: tuple[SpanRecord, ...]) -> None:
        ended = []
        for record in records:  # On the export's thread, which must not wait for a lock of the program's.
            collected = self._records.get(record.session_id or "")
            if collected is not None:
                collected.append(record)
                if record.parent_id is None:
                    ended.append(record.session_id or "")
        for session_id in ended:
            self._ended_sessions.put(session_id)


def _tokens(totals: Totals) -> int | None:
    calls = totals.llm_calls or totals.embedding_calls
    return totals.total_tokens + totals.embedding_tokens if calls else None


# Results: computed locally from outcomes, or built from a response of the backend


def errors_of(outcomes: Sequence[DatapointOutcome]) -> tuple[DatapointError, ...]:
    """All errors of a run."""
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


def rows_of(outcomes: Sequence[DatapointOutcome], usage: UsageCounter) -> tuple[ResultRow, ...]:
    """Result rows with cost and tokens."""
    rows = []
    for outcome in outcomes:
        used = usage.usage_of(outcome.session_id)
        rows.append(
            ResultRow(
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
                attempts=1 + len(outcome.retried_errors),
                inputs=outcome.inputs,
                outputs=outcome.outputs,
            )
        )
    return tuple(rows)


def result_from_outcomes(
    run_id: str,
    aggregate_function: str,
    outcomes: Sequence[DatapointOutcome],
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
        **more_fields,
    )


def _details(
    aggregate_function: str, outcomes: Sequence[DatapointOutcome], function_name: str
) -> tuple[MetricDetail, ...]:
    """Metrics with numbers and bools, aggregated over all data points. Texts cannot be aggregated."""
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
    **more_fields: Any,
) -> ExperimentResultSummary:
    """Build a result from a response of the backend. Missing fields are empty."""
    metrics = answer.get("metrics") or {}
    details = tuple(_part_from_answer(MetricDetail, "metric_name", item) for item in metrics.get("details") or ())
    datapoints = tuple(
        _part_from_answer(DatapointResult, "datapoint_id", item) for item in answer.get("datapoints") or ()
    )
    run = answer.get("run_object") or {}
    passed, failed = tuple(answer.get("passed") or ()), tuple(answer.get("failed") or ())
    known = {
        "name": str(run.get("name") or ""),
        "config": (run.get("configuration") or {}).get("config") or {},
        "rows": tuple(_row_from_answer(index, point, failed) for index, point in enumerate(datapoints)),
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
