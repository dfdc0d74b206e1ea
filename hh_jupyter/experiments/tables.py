"""A result as plain data and back, and as a DataFrame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from hh_jupyter.experiments.results import (
    AggregatedMetrics,
    DatapointError,
    DatapointResult,
    ExperimentResultSummary,
    MetricDetail,
    Row,
)

if TYPE_CHECKING:
    import pandas as pd

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
