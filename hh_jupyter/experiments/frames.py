"""DataFrames as datasets. No library is imported here: a frame is known by what it can do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

READ_BY_NAME: Final = ("ground_truth", "id", "datapoint_id")
"""Columns that are no input."""


def rows_of_frame(frame: Any) -> list[dict[str, Any]] | None:
    """The rows of a DataFrame of pandas or polars as data points; None for anything else.

    With a column `inputs`, the columns are those of a data point. Without one, each column but `ground_truth`, `id` and
    `datapoint_id` is an input of its name. Missing values are left out of ground truths and ids, and None in inputs.
    """
    records = _records(frame)
    if records is None:
        return None
    return [_datapoint({str(name): value for name, value in record.items()}) for record in records]


def _records(frame: Any) -> list[dict[Any, Any]] | None:
    if isinstance(frame, Mapping) or not hasattr(frame, "columns"):
        return None
    if hasattr(frame, "to_dicts"):
        return list(frame.to_dicts())
    if hasattr(frame, "to_dict") and hasattr(frame, "iloc"):
        return list(frame.to_dict(orient="records"))
    return None


def _datapoint(record: Mapping[str, Any]) -> dict[str, Any]:
    apart = {name: record[name] for name in READ_BY_NAME if name in record and not _missing(record[name])}
    if "inputs" in record:
        others = {name: value for name, value in record.items() if name not in READ_BY_NAME}
        return {**others, **apart}
    inputs = {name: None if _missing(value) else value for name, value in record.items() if name not in READ_BY_NAME}
    return {"inputs": inputs, **apart}


def _missing(value: Any) -> bool:
    """None, NaN, NaT and NA: what a frame has where nothing is."""
    if value is None:
        return True
    try:
        return bool(value != value)  # NaN and NaT.
    except (TypeError, ValueError):  # pandas' NA has no truth, an array has several.
        return type(value).__name__ == "NAType"
