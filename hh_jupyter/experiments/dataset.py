"""What a run goes over: data points with their ids, from rows, DataFrames or the backend (contract, section 10)."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hh_jupyter.delivery.ask import BackendClient
from hh_jupyter.errors import BackendError, SettingError, SettingTypeError
from hh_jupyter.redaction import shown
from hh_jupyter.values import text_of

# DataFrames as datasets. No library is imported here: a frame is known by what it can do.

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


logger = logging.getLogger(__name__)

LOCAL_PREFIX: Final = "EXT-"
"""Ids that the backend did not give; a hash of the content follows, so equal data has equal ids everywhere."""

HASH_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class Datapoint:
    """One row.

    Attributes:
        index: its place in the dataset.
        data: the dict that the function gets, as it was given.
        problem: why the function cannot get it, for rows that only turned up when others had been run.
    """

    index: int
    id: str
    data: Mapping[str, Any]
    problem: str | None = None

    @property
    def inputs(self) -> Any:
        """What the evaluators get as `inputs`."""
        found = self.data.get("inputs")
        return {} if found is None else found

    @property
    def ground_truth(self) -> Any:
        """The expected outputs; None when there are none."""
        return self.data.get("ground_truth")


@dataclass(frozen=True, slots=True)
class Dataset:
    """Data points in their order.

    Attributes:
        points: may be had once only, when nobody knows how many there are.
        ids: of all of them; empty when they are not known beforehand.
        total: how many there are, if that is known.
        stored: the backend holds the dataset and knows its id.
    """

    id: str
    points: Iterable[Datapoint]
    ids: Sequence[str]
    total: int | None
    stored: bool = False


def given_dataset(rows: Any, run_id: str) -> Dataset:
    """A dataset from rows: a list or DataFrame, or anything that gives one dict after the other.

    What can be gone over once only is read while the run goes on, and never held as a whole. Its id is then one of the
    run's, since its content is not known when the first session needs it.

    Raises:
        SettingTypeError: something else.
        SettingError: there is nothing that could be run.
    """
    listed = _listed(rows)
    if listed is None:
        rest = iter(rows)
        first = list(itertools.islice(rest, 1))
        check_rows(first)  # Before anything runs; what is wrong with later rows is an error of theirs.
        return Dataset(LOCAL_PREFIX + _digest(run_id), _streamed(itertools.chain(first, rest)), (), None)
    check_rows(listed)
    points = tuple(Datapoint(index, _datapoint_id(row, index), row) for index, row in enumerate(listed))
    ids = [point.id for point in points]
    return Dataset(LOCAL_PREFIX + _digest(_canonical(list(listed))), points, ids, len(points))


def check_rows(rows: Sequence[Any]) -> None:
    """Raise for rows that cannot be data points.

    An empty dict among others is let through, as by the official client: the function may not need any inputs.

    Raises:
        SettingTypeError: one that is no dict.
        SettingError: one without inputs.
    """
    for index, row in enumerate(rows):
        if problem := _type_problem(row):
            raise SettingTypeError(f"evaluate: dataset[{index}] {problem}")
    some = any("inputs" in row for row in rows)
    for index, row in enumerate(rows):
        if "inputs" not in row and (row or not some):
            raise SettingError(f"evaluate: dataset[{index}] {_lacks_inputs(row)}")


def _type_problem(row: Any) -> str | None:
    return None if isinstance(row, Mapping) else f"must be a dict; got {type(row).__name__}."


def _lacks_inputs(row: Mapping[Any, Any]) -> str:
    from difflib import get_close_matches

    near = get_close_matches("inputs", [key for key in row if isinstance(key, str)], n=1, cutoff=0.6)
    has = f"it has {', '.join(f'{key!r:.40}' for key in list(row)[:5])}" if row else "it is empty"
    hint = f" Did you mean {near[0]!r}?" if near else ""
    example = '{"inputs": {...}, "ground_truth": ...}'
    return f"has no 'inputs'; {has}.{hint} A datapoint looks like {example}."


def _listed(rows: Any) -> Sequence[Any] | None:
    """Rows that are all there; None for those that come one by one."""
    if isinstance(rows, list | tuple):
        return rows
    if (frame := rows_of_frame(rows)) is not None:
        return frame
    if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
        kinds = "a list of dicts, a DataFrame or an iterator of dicts"
        raise SettingTypeError(f"evaluate: dataset must be {kinds}; got {type(rows).__name__}.")
    return None


def _streamed(rows: Iterator[Any]) -> Iterator[Datapoint]:
    for index, row in enumerate(rows):
        problem = _type_problem(row) or (_lacks_inputs(row) if "inputs" not in row else None)
        data = row if isinstance(row, Mapping) else {}
        yield Datapoint(index, _datapoint_id(data, index), data, problem and f"dataset[{index}] {problem}")


def stored_dataset(backend: BackendClient, dataset_id: str) -> Dataset:
    """A dataset that the backend holds; a data point that cannot be fetched is left out and said.

    Raises:
        SettingError: no such dataset, or none of its data points can be fetched.
        BackendError: the backend does not answer.
    """
    found = backend.dataset(dataset_id)
    if found is None:
        raise SettingError(f"evaluate: no dataset of id {_shown(dataset_id)} in the backend.")
    ids = [str(item) for item in found.get("datapoints") or ()]
    fetched = [data for item in ids if (data := _stored_datapoint(backend, item)) is not None]
    if not fetched:
        raise SettingError(
            f"evaluate: none of the {len(ids)} data points of dataset {_shown(dataset_id)} can be fetched."
        )
    points = tuple(Datapoint(index, data["id"], data) for index, data in enumerate(fetched))
    return Dataset(dataset_id, points, [point.id for point in points], len(points), stored=True)


def _shown(dataset_id: str) -> str:

    return shown("dataset_id", dataset_id)


def _stored_datapoint(backend: BackendClient, datapoint_id: str) -> dict[str, Any] | None:
    try:
        found = backend.datapoint(datapoint_id)
    except BackendError as error:
        logger.warning("evaluate: a data point is left out. %s", error)
        return None
    if found is None:
        logger.warning("evaluate: data point %s is left out: the backend does not hold it", datapoint_id)
        return None
    return {"inputs": found.get("inputs") or {}, "ground_truth": found.get("ground_truth"), "id": datapoint_id}


def _datapoint_id(row: Mapping[str, Any], index: int) -> str:
    own = row.get("id") or row.get("datapoint_id")
    if not own:
        return LOCAL_PREFIX + _digest(f"{_canonical(row)}{index}")
    text = text_of(own)
    return text if text.startswith(LOCAL_PREFIX) else LOCAL_PREFIX + text


def _canonical(value: Any) -> str:
    """JSON with sorted keys, as the official client hashes it; what JSON cannot hold counts as its text."""
    try:
        return json.dumps(value, sort_keys=True, default=text_of)
    except (TypeError, ValueError, RecursionError) as error:
        raise SettingTypeError(f"evaluate: dataset must be data that JSON can hold; {error}.") from None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_DIGITS]
