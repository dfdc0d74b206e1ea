"""Results of `evaluate` and `compare_runs`: classes, aggregation, plain data and DataFrames."""

from __future__ import annotations

import os
import shutil
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, cast

from hh_jupyter.display.content import Detail
from hh_jupyter.display.html import METADATA_KEY
from hh_jupyter.display.live_report import shown_reports
from hh_jupyter.display.report import (
    TEXT_ROWS,
    Report,
    as_output,
    output_id,
    report_bundle,
    report_html,
    report_text,
)
from hh_jupyter.display.updatable_output import already_shown
from hh_jupyter.experiments.metrics import Kind
from hh_jupyter.experiments.rows import ResultRow, joined_trials
from hh_jupyter.experiments.statistics import Mean
from hh_jupyter.experiments.usage import UsageCounter
from hh_jupyter.query import data_frame
from hh_jupyter.settings import display_settings

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


class ReportOf(Protocol):
    """Makes the report of a result or a comparison."""

    def __call__(self, found: Any, name: str | None, max_rows: int, detail: Detail, /) -> Report: ...


class Compare(Protocol):
    """Compares two results."""

    def __call__(
        self, new: ExperimentResultSummary, old: ExperimentResultSummary | str, lower_is_better: Sequence[str] = ()
    ) -> RunComparisonResult: ...


class Save(Protocol):
    """Writes a result to a file."""

    def __call__(self, result: ExperimentResultSummary, path: Path, /) -> None: ...


class ResultExtensions:
    """Functions of modules that import this one, for methods of results. `hh_jupyter.experiments` sets them."""

    reports: Mapping[type, ReportOf]
    live: Mapping[type, Callable[[Any, Report], Report]]
    compare: Compare
    save: Save


class Displayed:
    """What a notebook displays as a report: a result, or a comparison. Texts follow the setting `saved_detail`."""

    __slots__ = ()

    def print_table(self, run_name: str | None = None) -> None:
        """Print the report to standard output. In a terminal it fits the width, and has the beginnings of texts.

        Args:
            run_name: the title. Default: the name of the run.
        """
        stream = sys.stdout
        terminal = stream.isatty()  # Nothing of it is saved in a notebook.
        unicode = (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"
        width = shutil.get_terminal_size().columns if terminal else None
        text = report_text(self._report(run_name, texts=terminal), unicode=unicode, width=width)
        stream.write(f"{text}\n")

    def _report(self, name: str | None = None, *, texts: bool = False) -> Report:
        settings = display_settings()
        detail = cast("Detail", settings.saved_detail)
        detail = "preview" if texts and detail == "summary" else detail
        return ResultExtensions.reports[type(self)](self, name, settings.display_rows, detail)

    def _repr_mimebundle_(self, **_which: Any) -> tuple[dict[str, str], dict[str, Any]]:
        run_id = getattr(self, "run_id", None) or getattr(self, "new_run_id", "")
        report = self._report()
        data = report_bundle(report)
        page = data["text/html"]
        shown_reports.add(output_id(page), lambda: ResultExtensions.live[type(self)](self, report), self._row_count())
        return {**data, "text/html": as_output(page)}, {METADATA_KEY: {"run_id": run_id}}  # Marks it for `strip`.

    def _row_count(self) -> int:
        return len(getattr(self, "rows", ()) or getattr(self, "row_changes", ()))

    def _repr_html_(self) -> str:
        return report_html(self._report())

    def __repr__(self) -> str:
        return report_text(self._report(), limit=TEXT_ROWS)


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


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ExperimentResultSummary(Displayed):
    """The result of a run. A notebook displays it as a table.

    Attributes:
        status: completed, or cancelled after Ctrl-C; a backend may return others.
        success: whether the run is complete and nothing raised.
        passed, failed: ids of data points, by `passed` of the rows, or of most trials. Unclear ones are in neither.
        errors: errors of the function and the evaluators, in the order of the dataset.
        name: name of the run.
        config: `config` of `evaluate`.
        rows: every data point that was run, in the order of the dataset; with trials, one row for each trial.
        planned: number of rows if all data points are run; None if unknown.
        trials: how often each data point is run.
        lower_is_better: metrics whose evaluator says so; see `evaluator`.
        seconds: duration of the run.
        cost, tokens: of the model calls of the function in all rows, the cost in US dollars as far as known.
        judge_cost: cost of the model calls of the evaluators.
        cost_complete: whether the cost of each call is known. `cost_estimated`: whether some of it comes from a price
            table.
        calls: number of model calls of the function and the evaluators, of which a recording answered `replayed_calls`;
            `saved_cost` is what those would have cost, in US dollars, None if unknown.
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
    trials: int = 1
    lower_is_better: Sequence[str] = ()
    seconds: float | None = None
    cost: float | None = None
    judge_cost: float | None = None
    cost_complete: bool = True
    cost_estimated: bool = False
    calls: int = 0
    replayed_calls: int = 0
    saved_cost: float | None = None
    tokens: int | None = None
    delivery: str = ""

    def model_dump(self) -> dict[str, Any]:
        """The result as plain data."""
        return asdict(self)

    def compare(
        self, old: ExperimentResultSummary | str, *, lower_is_better: Sequence[str] = ()
    ) -> RunComparisonResult:
        """Compare this run with an older one: metrics, data points, config.

        Example:
            >>> new.compare(old, lower_is_better=["seconds"])  # doctest: +SKIP

        Args:
            old: result or id of the older run.
            lower_is_better: metrics for which lower is better, such as a distance, besides those of evaluators that
                say so.

        Raises:
            SettingError: no run of this id is stored on this machine, and there is no API key to query the backend.
        """
        return ResultExtensions.compare(self, old, lower_is_better)

    def save(self, path: str | os.PathLike[str], *, replace: bool = False) -> None:
        """Write the result to an HTML page, which opens from disk without a network. Only the user may read the file.

        The page has the report with the texts of the rows; failed and wrong rows unfold to their redacted spans. It
        holds up to 5 MB of the spans' content, and says what it leaves out. `%hh show run.html` shows the spans.

        Example:
            >>> result.save("run.html")  # doctest: +SKIP

        Args:
            path: path of the file.
            replace: overwrite an existing file.

        Raises:
            ValueError: the name does not end with `.html`.
            FileExistsError: the file exists, and `replace` is false.
            OSError: the file cannot be written.
        """
        target = Path(os.path.expanduser(path))  # noqa: PTH111  # An unknown home folder must not raise.
        if target.suffix.lower() not in (".html", ".htm"):
            hint = "result.to_pandas() has the rows for other formats"
            raise ValueError(f"save({os.fspath(path)!r}): a result is saved as a page, NAME.html; {hint}.")
        if os.path.exists(target) and not replace:  # noqa: PTH110  # A name that is too long must not raise.
            raise FileExistsError(f"{target} exists. save({os.fspath(path)!r}, replace=True) replaces it.")
        ResultExtensions.save(self, target)

    def to_pandas(self) -> pd.DataFrame:
        """One row for each data point, including failed ones: ids, metrics, seconds, cost, errors.

        With trials, one row for each trial, with its number in the column `trial`.

        Raises:
            ImportError: pandas is not installed.
        """
        return dataframe_of_rows(self.rows)

    def _ipython_display_(self) -> None:
        """Display the result, unless the progress display of this cell already shows it."""
        if not already_shown(self):
            raise NotImplementedError  # IPython then uses the other representations.


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricChange:
    """The change of one metric between two runs.

    Attributes:
        old, new: means over all rows with a score; None if there are none, or the scores are texts.
        difference: mean of the differences of the rows that have the score in both runs. `low` and `high` are the ends
            of its 95 % interval; None if unknown.
        n: number of these rows. `better` of them are better in the new run, `worse` are worse; `changed` have another
            value that is neither.
        verdict: `better`, `worse`, `changed` for labels, `same` if no row changed, or that no difference can be told;
            empty for too few rows, and in a comparison by the backend.
    """

    name: str
    kind: Kind
    old: Mean | None = None
    new: Mean | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    better: int = 0
    worse: int = 0
    changed: int = 0
    lower_is_better: bool = False
    verdict: str = ""


RowState = Literal[
    "newly failed", "newly wrong", "newly right", "missing", "added", "failed in both", "wrong in both",
    "worse", "better", "changed", "same",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RowChange:
    """One data point of a comparison.

    Attributes:
        state: `missing` and `added` are in the old and in the new run only. The first metric that changed decides
            between worse and better. `changed` is any other score or output.
        new, old: the rows; None in the run that lacks it, and in a comparison by the backend.
        metrics: how each metric changed that did.
    """

    datapoint_id: str
    state: RowState
    new: ResultRow | None = None
    old: ResultRow | None = None
    metrics: Mapping[str, Literal["better", "worse", "changed"]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RunComparisonResult(Displayed):
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
        changes: the change of each metric, then of time and cost.
        row_changes: every data point, the most important change first.
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
    changes: Sequence[MetricChange] = field(default=(), repr=False)
    row_changes: Sequence[RowChange] = field(default=(), repr=False)

    def get_metric_delta(self, metric_name: str) -> Mapping[str, Any] | None:
        """The delta of a metric, or None if it is not in both runs."""
        return self.metric_deltas.get(metric_name)

    def list_improved_metrics(self) -> list[str]:
        """Names of metrics that improved on at least one data point."""
        return [name for name, delta in self.metric_deltas.items() if delta["improved_count"] > 0]

    def list_degraded_metrics(self) -> list[str]:
        """Names of metrics that degraded on at least one data point; a metric may be in both lists."""
        return [name for name, delta in self.metric_deltas.items() if delta["degraded_count"] > 0]

    def to_pandas(self) -> pd.DataFrame:
        """One row for each data point: id, state, old and new scores, outputs, errors and session ids.

        Raises:
            ImportError: pandas is not installed.
        """
        return dataframe_of_changes(self)


# Results computed locally from rows


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
    return tuple(
        replace(row, cost=one.cost, tokens=one.tokens, judge_cost=one.judge_cost)
        for row, one in zip(rows, used, strict=True)
    )


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
    errors, joined = (*errors_of(rows), *problems), joined_trials(rows)
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
        passed=tuple(row.datapoint_id for row in joined if row.passed),
        failed=tuple(row.datapoint_id for row in joined if row.passed is False),
        metrics=AggregatedMetrics(
            aggregation_function=aggregate_function, details=_details(aggregate_function, rows, function_name)
        ),
        datapoints=datapoints,
        errors=errors,
        rows=rows,
        **more_fields,
    )


def aggregated(values: Sequence[float], function: str) -> float | None:
    """The values, aggregated by a function of this name; None if it is unknown, or the result has no float."""
    aggregate = AGGREGATES.get(function)
    try:
        return aggregate(values) if aggregate is not None and values else None
    except OverflowError:
        return None


def _details(aggregate_function: str, rows: Sequence[ResultRow], function_name: str) -> tuple[MetricDetail, ...]:
    """Metrics with numbers and bools, aggregated over all data points. Texts cannot be aggregated."""
    values: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.metrics.items():
            if not isinstance(value, str):
                values.setdefault(name, []).append(value)
    return tuple(
        MetricDetail(
            metric_name=name,
            metric_type="boolean" if all(isinstance(value, bool) for value in numbers) else "numeric",
            event_name=function_name,
            event_type="chain",
            aggregate=aggregated(numbers, aggregate_function),
            values=tuple(numbers),
        )
        for name, numbers in values.items()
    )


# Results as plain data and as DataFrames

_PARTS = {"datapoints": DatapointResult, "errors": DatapointError, "rows": ResultRow}


def dataframe_of_rows(rows: Sequence[ResultRow]) -> pd.DataFrame:
    """A DataFrame with one row for each data point.

    Columns: `datapoint_id`, `session_id`, `passed`, the metrics by name, `seconds`, `cost` and `judge_cost` (US
    dollars), `tokens`, `attempts`, `error`, `evaluator_errors` (dict or None), `inputs`, `expected` and `outputs`
    (first characters). A metric with the name of another column is renamed to `metric_<name>`. Runs with trials or
    clusters have the columns `trial` and `cluster` after `datapoint_id`.

    Raises:
        ImportError: pandas is not installed.
    """
    some = [
        name for name, unset in (("trial", None), ("cluster", "")) if any(getattr(row, name) != unset for row in rows)
    ]
    before = ("datapoint_id", *some, "session_id", "passed")
    after = (
        "seconds",
        "cost",
        "judge_cost",
        "tokens",
        "attempts",
        "error",
        "evaluator_errors",
        "inputs",
        "expected",
        "outputs",
    )
    taken = {*before, *after, "trial", "cluster"}
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
    return data_frame(records, [*before, *columns.values(), *after])


def dataframe_of_changes(found: RunComparisonResult) -> pd.DataFrame:
    """A DataFrame with one row for each data point of a comparison, the most important change first.

    Columns: `datapoint_id`, `state`, and with the prefixes `old_` and `new_` the metrics by name, `outputs`, `error`
    and `session_id`.

    Raises:
        ImportError: pandas is not installed.
    """
    sides = [(change, (("old_", change.old), ("new_", change.new))) for change in found.row_changes]
    names = dict.fromkeys(name for _, pair in sides for _, row in pair if row is not None for name in row.metrics)
    fields_of_row = ("outputs", "error", "session_id")
    columns_of = {name: f"metric_{name}" if name in fields_of_row else name for name in names}
    records = [
        {
            "datapoint_id": change.datapoint_id,
            "state": change.state,
            **{
                f"{side}{column}": row.metrics.get(name)
                for name, column in columns_of.items()
                for side, row in pair
                if row is not None
            },
            **{f"{side}{name}": getattr(row, name) for name in fields_of_row for side, row in pair if row is not None},
        }
        for change, pair in sides
    ]
    columns = [f"{side}{name}" for name in [*columns_of.values(), *fields_of_row] for side in ("old_", "new_")]
    return data_frame(records, ["datapoint_id", "state", *columns])


def plain_result(result: ExperimentResultSummary) -> dict[str, Any]:
    """The result as data that can be serialized as JSON. `asdict` copies each value, which takes a tenth of a run."""
    found = _fields_of(result)
    metrics = result.metrics
    found["metrics"] = {**_fields_of(metrics), "details": [_fields_of(detail) for detail in metrics.details]}
    return found | {name: [_fields_of(part) for part in found[name]] for name in _PARTS}


def _fields_of(part: Any) -> dict[str, Any]:
    return {name: getattr(part, name) for name in part.__dataclass_fields__}


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
