"""What `evaluate` returns: the summary of a run, every data point of it, and every error."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pandas as pd

    from hh_jupyter.experiments.comparison import RunComparisonResult

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
        from hh_jupyter.experiments.views import result_text

        sys.stdout.write(result_text(self, run_name, sys.stdout))

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
        from hh_jupyter.experiments.comparison import compared

        return compared(self, old, lower_is_better)

    def to_pandas(self) -> pd.DataFrame:
        """A row for each data point, failed ones included: ids, metrics, seconds, cost, errors.

        Raises:
            ImportError: pandas is not installed.
        """
        from hh_jupyter.experiments.tables import frame_of_rows

        return frame_of_rows(self.rows)

    def _repr_mimebundle_(self, **_which: Any) -> tuple[dict[str, str], dict[str, Any]]:
        from hh_jupyter.experiments.views import bundle

        return bundle(self), {"hh_jupyter": {"run_id": self.run_id}}  # By which `strip` knows it.

    def _repr_html_(self) -> str:
        return self._repr_mimebundle_()[0]["text/html"]

    def __repr__(self) -> str:
        from hh_jupyter.experiments.views import result_text

        return result_text(self).rstrip("\n")

    def _ipython_display_(self) -> None:
        """Nothing where the progress of this run has just become its table; else as usual."""
        from hh_jupyter.display.live import shown_above

        if not shown_above(self):
            raise NotImplementedError  # IPython then takes the other forms [measured with IPython 9].
