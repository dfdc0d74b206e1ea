"""What `evaluate` and `compare_runs` return, how it is counted, and its forms as plain data and as a DataFrame."""

from __future__ import annotations

import queue
import statistics
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from math import fsum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol, TextIO

from hh_jupyter.display.updatable_output import already_shown
from hh_jupyter.experiments.worker import Outcome
from hh_jupyter.records import prices
from hh_jupyter.records.log import SpanLog
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.records.totals import Totals, summarize

if TYPE_CHECKING:
    import pandas as pd

AGGREGATES: Final[Mapping[str, Callable[[Sequence[float]], float]]] = MappingProxyType(
    {"average": statistics.fmean, "sum": sum, "min": min, "max": max}
)
"""What can be counted here; a backend may know more."""

SENT: Final = "Sent"
PARTLY_SENT: Final = "Not all sent"
LOCAL_ONLY: Final = "Local only"

COMPLETED: Final = "completed"
INTERRUPTED: Final = "cancelled"
"""Status of a run that Ctrl-C ended, in the backend's word."""


class Renderer(Protocol):
    """Draws results: `hh_jupyter.experiments.views`."""

    def result_text(
        self, result: ExperimentResultSummary, name: str | None = None, stream: TextIO | None = None
    ) -> str: ...

    def result_bundle(self, result: ExperimentResultSummary) -> dict[str, str]: ...

    def comparison_text(self, found: RunComparisonResult, stream: TextIO | None = None) -> str: ...

    def comparison_html(self, found: RunComparisonResult) -> str: ...


class Comparer(Protocol):
    """Compares results: `hh_jupyter.experiments.comparison`."""

    def compared(
        self, new: ExperimentResultSummary, old: ExperimentResultSummary | str, lower_is_better: Sequence[str] = ()
    ) -> RunComparisonResult: ...


class Above:
    """Modules above this one, with which results show and compare themselves; `hh_jupyter.experiments` sets them."""

    renderer: Renderer
    comparer: Comparer


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
class Row:
    """What this process knows of one data point, however little the backend answers.

    Attributes:
        index: its place in the dataset.
        passed: nothing raised, or what the backend says of it.
        seconds: that the function took, all attempts together; None if it was not run here.
        cost: US dollars of its model calls, as far as known; None if nothing is known.
        attempts: 1, and one more for each time that something was tried again.
        inputs, outputs: their beginnings, as text.
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
    """The result of a run. In a notebook it shows itself as a table.

    Attributes:
        status: completed, or cancelled after Ctrl-C; a backend may know more words.
        passed: ids of data points; counted here, those on which nothing raised.
        errors: of the function and the evaluators, in the order of the dataset.
        name: of the run.
        config: what `evaluate` was given as `config`.
        rows: every data point that was run, in the order of the dataset.
        planned: how many data points the dataset has, None if nobody counted.
        seconds: the whole run took.
        cost: US dollars of all model calls, as far as known; `cost_complete`: of each of them; `cost_estimated`: some
            of it comes from a price table.
        delivery: what became of it: "Sent", "Not all sent", or "Local only", which `%hh send` delivers; empty for a run
            that was read from the backend.
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
    rows: Sequence[Row] = ()
    planned: int | None = None
    seconds: float | None = None
    cost: float | None = None
    cost_complete: bool = True
    cost_estimated: bool = False
    tokens: int | None = None
    delivery: str = ""

    def model_dump(self) -> dict[str, Any]:
        """Everything as plain data."""
        return asdict(self)

    def print_table(self, run_name: str | None = None) -> None:
        """Print run, metrics, the first data points and the errors to standard output."""
        sys.stdout.write(Above.renderer.result_text(self, run_name, sys.stdout))

    def compare(
        self, old: ExperimentResultSummary | str, *, lower_is_better: Sequence[str] = ()
    ) -> RunComparisonResult:
        """What this run changed against an older one: metrics, data points, config.

        Example:
            >>> new.compare(old, lower_is_better=["seconds"])  # doctest: +SKIP

        Args:
            old: its result, or its id.
            lower_is_better: metrics of which less is better, such as a distance.

        Raises:
            SettingError: no run of that id is known here, and there is no API key to ask for it.
        """
        return Above.comparer.compared(self, old, lower_is_better)

    def to_pandas(self) -> pd.DataFrame:
        """A row for each data point, failed ones included: ids, metrics, seconds, cost, errors.

        Raises:
            ImportError: pandas is not installed.
        """
        return frame_of_rows(self.rows)

    def _repr_mimebundle_(self, **_which: Any) -> tuple[dict[str, str], dict[str, Any]]:
        return Above.renderer.result_bundle(self), {"hh_jupyter": {"run_id": self.run_id}}  # By which `strip` knows it.

    def _repr_html_(self) -> str:
        return self._repr_mimebundle_()[0]["text/html"]

    def __repr__(self) -> str:
        return Above.renderer.result_text(self).rstrip("\n")

    def _ipython_display_(self) -> None:
        """Nothing where the progress of this run has just become its table; else as usual."""
        if not already_shown(self):
            raise NotImplementedError  # IPython then takes the other forms [measured with IPython 9].


# What the model calls of each session of a run come to, counted while the run goes on and then forgotten.


@dataclass(frozen=True, slots=True, kw_only=True)
class RunComparisonResult:
    """What changed from one run to another. In a notebook it shows itself as a table.

    Attributes:
        common_datapoints: how many data points are in both runs; only these are compared.
        new_only_datapoints, old_only_datapoints: how many are in one run only; 0 where the backend compared, which does
            not tell.
        metric_deltas: by metric: `old_aggregate`, `new_aggregate`, how many data points `improved_count`,
            `degraded_count`, `same_count` and `found_count` are, their ids under `improved`, `degraded`, `same`, and
            `old_values`, `new_values`. Which direction is better, the backend knows; counted here, more is better,
            unless the metric was named.
        config_changes: by key of `config`, (old, new), where the runs' results are known here.
        new, old: the results, where they are known here.
        lower_is_better: metrics of which less is better.
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
        """The entry of one metric, if it is in both runs."""
        return self.metric_deltas.get(metric_name)

    def list_improved_metrics(self) -> list[str]:
        """Names of metrics that are better on some data point."""
        return [name for name, delta in self.metric_deltas.items() if delta["improved_count"] > 0]

    def list_degraded_metrics(self) -> list[str]:
        """Names of metrics that are worse on some data point; one may be in both lists."""
        return [name for name, delta in self.metric_deltas.items() if delta["degraded_count"] > 0]

    def print_table(self) -> None:
        """Print metrics, config and data points that changed to standard output."""
        sys.stdout.write(Above.renderer.comparison_text(self, sys.stdout))

    def _repr_mimebundle_(self, **_which: Any) -> tuple[dict[str, str], dict[str, Any]]:
        found = {"text/plain": repr(self), "text/html": Above.renderer.comparison_html(self)}
        return found, {"hh_jupyter": {"run_id": self.new_run_id}}  # By which `strip` knows it.

    def _repr_html_(self) -> str:
        return self._repr_mimebundle_()[0]["text/html"]

    def __repr__(self) -> str:
        return Above.renderer.comparison_text(self).rstrip("\n")


@dataclass(frozen=True, slots=True)
class Used:
    """Of one session.

    Attributes:
        cost: US dollars, as far as known; None if nothing is known.
        tokens: None without a model call.
        complete: the cost of each call is known.
        estimated: some of the cost comes from the price table.
    """

    cost: float | None = None
    tokens: int | None = None
    complete: bool = True
    estimated: bool = False


class Meter:
    """Listens to the log while it is open; a session is counted when its root has ended, and its rows are let go."""

    def __init__(self, log: SpanLog) -> None:
        self._log = log
        self._rows: dict[str, list[SpanRecord]] = {}
        self._lock = threading.RLock()  # A span that garbage collection ends in here may bring rows itself.
        self._ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._waiting: dict[str, list[SpanRecord]] = {}
        self._used: dict[str, Used] = {}

    def __enter__(self) -> Meter:
        self._log.listen(self._arrived)
        return self

    def __exit__(self, *_error: object) -> None:
        self._log.unlisten(self._arrived)

    def watch(self, session_id: str) -> None:
        """Count this session, whose first span is still to come."""
        with self._lock:
            self._rows[session_id] = []

    def of(self, session_id: str) -> Used:
        """What it came to, as far as counted."""
        return self._used.get(session_id, Used())

    def total(self) -> Used:
        """Of all sessions counted so far."""
        each = self._used.values()
        costs = [used.cost for used in each if used.cost is not None]
        tokens = [used.tokens for used in each if used.tokens is not None]
        return Used(
            fsum(costs) if costs else None,
            sum(tokens) if tokens else None,
            all(used.complete for used in each),
            any(used.estimated for used in each),
        )

    def count(self) -> None:
        """Count what has ended; what needs the price table waits until that is loaded."""
        while True:
            try:
                session_id = self._ended.get_nowait()
            except queue.Empty:
                break
            with self._lock:
                rows = self._rows.pop(session_id, None)
            if rows:
                self._waiting[session_id] = rows
        for session_id, rows in list(self._waiting.items()):
            if not prices.ready() and any(prices.needs_table(row.facts) for row in rows):
                prices.load_in_background()
                continue
            del self._waiting[session_id]
            self._note(session_id, rows)

    def finish(self) -> None:
        """Count all that is there, with prices."""
        self.count()
        with self._lock:
            rest, self._rows = self._rows, {}
        self._waiting |= {session_id: rows for session_id, rows in rest.items() if rows}
        if any(prices.needs_table(row.facts) for rows in self._waiting.values() for row in rows):
            prices.load()
        for session_id, rows in self._waiting.items():
            self._note(session_id, rows)
        self._waiting.clear()

    def _note(self, session_id: str, rows: list[SpanRecord]) -> None:
        if not any(row.facts.model or row.facts.usage for row in rows):
            return  # No model call: nothing is remembered of it.
        found = summarize(rows)
        self._used[session_id] = Used(found.cost, _tokens(found), found.cost_complete, found.cost_estimated)

    def _arrived(self, rows: tuple[SpanRecord, ...]) -> None:
        ended = []
        with self._lock:
            for row in rows:
                kept = self._rows.get(row.session_id or "")
                if kept is not None:
                    kept.append(row)
                    if row.parent_id is None:
                        ended.append(row.session_id or "")
        for session_id in ended:
            self._ended.put(session_id)


def _tokens(totals: Totals) -> int | None:
    calls = totals.llm_calls or totals.embedding_calls
    return totals.total_tokens + totals.embedding_tokens if calls else None


# Results: counted here from what came out, or made of what the backend answers.


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


# A result as plain data and back, and as a DataFrame.

_PARTS = {"datapoints": DatapointResult, "errors": DatapointError, "rows": Row}


def frame_of_rows(rows: Sequence[Row]) -> pd.DataFrame:
    """One line for each data point.

    Columns: `datapoint_id`, `session_id`, `passed`, the metrics by name, `seconds`, `cost` (US dollars), `tokens`,
    `attempts`, `error`, `evaluator_errors` (dict or None), `inputs` and `outputs` (their beginnings). A metric that has
    the name of another column is `metric_<name>`.

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
    """The result as data that JSON can hold."""
    return asdict(result)


def result_from_plain(data: Mapping[str, Any]) -> ExperimentResultSummary:
    """The result again; fields of another version are passed over."""
    found = _known(ExperimentResultSummary, data)
    metrics = found.get("metrics") or {}
    details = tuple(MetricDetail(**_known(MetricDetail, item)) for item in metrics.get("details") or ())
    parts = {name: tuple(kind(**_known(kind, item)) for item in found.get(name) or ()) for name, kind in _PARTS.items()}
    aggregated = AggregatedMetrics(
        aggregation_function=str(metrics.get("aggregation_function") or "average"), details=details
    )
    return ExperimentResultSummary(**{**found, **parts, "metrics": aggregated})


def _known(kind: Any, data: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in data.items() if name in names}
