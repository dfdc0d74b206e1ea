"""Datasets of a run: data points with ids, from rows, DataFrames, iterators or the backend."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hh_jupyter.errors import BackendError, SettingError, SettingTypeError
from hh_jupyter.export.backend import BackendClient
from hh_jupyter.records.dataset_rows import DatasetRows
from hh_jupyter.redaction import shown
from hh_jupyter.values import plain, text_of

logger = logging.getLogger(__name__)

NON_INPUT_COLUMNS: Final = ("ground_truth", "id", "datapoint_id")
"""Columns of a DataFrame that are not inputs."""

LOCAL_PREFIX: Final = "EXT-"
"""Prefix of ids that the backend did not assign. A hash of the content follows, so equal data has equal ids."""

HASH_DIGITS: Final = 16

MAX_KEYS: Final = 6
"""Keys that a message lists."""

ORIGIN_KEY: Final = "dataset_span"
"""Metadata field of the session of a data point that was made from a span."""

TRIAL_KEY: Final = "trial"
"""Metadata field of the session of a data point that is run several times."""


def wire_id(datapoint_id: str) -> str:
    """The id in the backend of a data point that the backend does not store."""
    return datapoint_id if datapoint_id.startswith(LOCAL_PREFIX) else LOCAL_PREFIX + datapoint_id


def own_id(wire: str) -> str:
    """The id that the user gave to a data point, from its id in the backend. A generated id is returned as it is."""
    own = wire.removeprefix(LOCAL_PREFIX)
    return wire if is_generated(wire) else own


def is_generated(datapoint_id: str) -> bool:
    """Whether an id is a hash of the content, since the data point has no id of its own."""
    own = datapoint_id.removeprefix(LOCAL_PREFIX)
    return own != datapoint_id and len(own) == HASH_DIGITS and set(own) <= set("0123456789abcdef")


def rows_from_dataframe(frame: Any) -> list[dict[str, Any]] | None:
    """The rows of a pandas or polars DataFrame as data points; None for anything else.

    With a column `inputs`, columns are keys of the data point. Without one, each column except `ground_truth`, `id` and
    `datapoint_id` is an input. A missing value is omitted as ground truth or id, and None as input. Neither library is
    imported: a DataFrame is recognized by its methods.
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
    apart = {name: record[name] for name in NON_INPUT_COLUMNS if name in record and not _is_missing(record[name])}
    if "inputs" in record:
        others = {name: value for name, value in record.items() if name not in NON_INPUT_COLUMNS}
        return {**others, **apart}
    inputs = {
        name: None if _is_missing(value) else value for name, value in record.items() if name not in NON_INPUT_COLUMNS
    }
    return {"inputs": inputs, **apart}


def _is_missing(value: Any) -> bool:
    """Whether the value is None, NaN, NaT or NA, which DataFrames use for missing values."""
    if value is None:
        return True
    try:
        return bool(value != value)  # NaN and NaT.
    except (TypeError, ValueError):  # pandas' NA and arrays have no truth value.
        return type(value).__name__ == "NAType"


@dataclass(frozen=True, slots=True)
class Datapoint:
    """One row of a dataset.

    Attributes:
        index: position in the dataset.
        id: in the backend.
        own_id: the id that the user gave; a generated id if there is none.
        content: hash of the row if it has no id of its own, to find the same row in another run; else empty.
        trial: number of the trial, from 1 on; None if each row is run once.
        cluster: name of the group of rows that depend on each other; empty for none.
        data: the dict that is passed to the function, unchanged.
        problem: why this row is invalid. Only set for rows of an iterator, which are checked while the run goes on.
    """

    index: int
    id: str
    data: Mapping[str, Any]
    problem: str | None = None
    own_id: str = ""
    content: str = ""
    trial: int | None = None
    cluster: str = ""

    @property
    def inputs(self) -> Any:
        """The `inputs` that are passed to evaluators."""
        found = self.data.get("inputs")
        return {} if found is None else found

    @property
    def ground_truth(self) -> Any:
        """The expected outputs, or None."""
        return self.data.get("ground_truth")

    @property
    def metadata(self) -> dict[str, Any]:
        """Metadata of the session: the span from which `SpanList.to_dataset` made the row, and the trial."""
        found = self.data.get("span")
        origin = {ORIGIN_KEY: dict(found)} if isinstance(found, Mapping) and "span_id" in found else {}
        return origin if self.trial is None else {**origin, TRIAL_KEY: self.trial}

    @property
    def row_fields(self) -> dict[str, Any]:
        """Fields of the row in the result."""
        return {
            "index": self.index,
            "datapoint_id": self.own_id,
            "content": self.content,
            "trial": self.trial,
            "cluster": self.cluster,
        }


@dataclass(frozen=True, slots=True)
class Dataset:
    """Data points in order.

    Attributes:
        points: can be iterated only once if `total` is None.
        ids: ids of all points, each once; empty if the points come from an iterator.
        total: number of points; None if the points come from an iterator.
        stored: whether the dataset is stored in the backend.
    """

    id: str
    points: Iterable[Datapoint]
    ids: Sequence[str]
    total: int | None
    stored: bool = False


def dataset_from_rows(rows: Any, run_id: str) -> Dataset:
    """Make a dataset from rows: a list, a DataFrame, a file of JSON lines, or an iterable of dicts.

    An iterator is read while the run goes on and never held as a whole. Its dataset id is derived from the run id,
    since the first session needs an id before the content is known.

    Raises:
        SettingTypeError: `rows` has another type.
        SettingError: a row has no inputs, or the file cannot be read.
    """
    listed = _as_sequence(rows)
    if listed is None:
        rest = iter(rows)
        first = list(itertools.islice(rest, 1))
        check_rows(first)  # Fail before anything runs; an invalid later row is an error of that row only.
        return Dataset(LOCAL_PREFIX + _digest(run_id), _iterate(itertools.chain(first, rest)), (), None)
    check_rows(listed)
    points = tuple(_datapoint_of(row, index) for index, row in enumerate(listed))
    ids = [point.id for point in points]
    return Dataset(LOCAL_PREFIX + _digest(_canonical(list(listed))), points, ids, len(points))


def check_rows(rows: Sequence[Any]) -> None:
    """Check that all rows are data points.

    As in the official client, an empty dict is allowed among other rows: the function may not need inputs.

    Raises:
        SettingTypeError: a row is not a dict.
        SettingError: a row has no inputs.
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

    keys = {key.lower(): key for key in row if isinstance(key, str)}
    similar = [keys[key] for key in get_close_matches("inputs", keys, n=1, cutoff=0.6)]
    found = f"found {', '.join(f'{key!r:.40}' for key in list(row)[:5])}" if row else "the row is empty"
    example = 'A datapoint looks like {"inputs": {...}, "ground_truth": ...}.'
    fix = f"Rename {similar[0]!r} to 'inputs'." if similar else example
    return f"has no key 'inputs' ({found}). {fix}"


def _as_sequence(rows: Any) -> Sequence[Any] | None:
    """The rows as a sequence; None for an iterator."""
    if isinstance(rows, list | tuple):
        return rows
    if isinstance(rows, str | os.PathLike):
        return _from_file(rows)
    if (frame := rows_from_dataframe(rows)) is not None:
        return frame
    if isinstance(rows, bytes | Mapping) or not isinstance(rows, Iterable):
        kinds = "a list of dicts, a DataFrame, the path of a file of JSON lines or an iterator of dicts"
        raise SettingTypeError(f"evaluate: dataset must be {kinds}; got {type(rows).__name__}.")
    return None


def _from_file(path: str | os.PathLike[str]) -> Sequence[Any]:
    try:
        return DatasetRows.load(path)
    except SettingError as error:
        raise SettingError(f"evaluate: dataset: {error}") from None
    except (OSError, ValueError) as error:  # A ValueError if the path has a null character.
        file, reason = shown("file", str(Path(path).absolute()), 200), getattr(error, "strerror", None) or error
        raise SettingError(f"evaluate: dataset: cannot read {file}: {reason}.") from None


def _iterate(rows: Iterator[Any]) -> Iterator[Datapoint]:
    for index, row in enumerate(rows):
        problem = _type_problem(row) or (_lacks_inputs(row) if "inputs" not in row else None)
        data = row if isinstance(row, Mapping) else {}
        yield _datapoint_of(data, index, problem and f"dataset[{index}] {problem}")


def with_trials(data: Dataset, trials: int) -> Dataset:
    """The dataset with each point several times, one after the other."""
    if trials == 1:
        return data
    points = (dataclasses.replace(point, trial=number) for point in data.points for number in range(1, trials + 1))
    return dataclasses.replace(data, points=points, total=None if data.total is None else data.total * trials)


def with_clusters(data: Dataset, cluster: str | Callable[[Mapping[str, Any]], Any] | None) -> Dataset:
    """The dataset with the cluster of each point.

    Args:
        cluster: a key of `inputs`, or of the row itself; or a function of the row. A row without the key, or with None,
            has no cluster.

    Raises:
        SettingError: no row has the key, or the function raised. In rows of an iterator, that is a problem of the row.
    """
    if cluster is None:
        return data
    if data.total is None:
        return dataclasses.replace(data, points=(_clustered(point, cluster) for point in data.points))
    points = [_clustered(point, cluster) for point in data.points]
    if problem := next((new.problem for new, old in zip(points, data.points, strict=True) if not old.problem), None):
        raise SettingError(f"evaluate: {problem}")
    if isinstance(cluster, str) and points and not any(point.cluster for point in points):
        keys = dict.fromkeys(str(key) for point in points for key in _keys(point))
        known = f"; inputs have {', '.join(f'{key!r:.40}' for key in list(keys)[:MAX_KEYS])}" if keys else ""
        raise SettingError(f"evaluate: cluster: no row has a value for {shown('cluster', cluster, 60)}{known}.")
    return dataclasses.replace(data, points=points)


def _clustered(point: Datapoint, cluster: str | Callable[[Mapping[str, Any]], Any]) -> Datapoint:
    if point.problem:
        return point
    if isinstance(cluster, str):
        value = point.inputs.get(cluster) if cluster in _keys(point) else point.data.get(cluster)
    else:
        try:
            value = cluster(point.data)
        except Exception as error:  # boundary: any error of the user's function.
            problem = f"cluster raised {type(error).__name__} for dataset[{point.index}]: {text_of(error)}"
            return dataclasses.replace(point, problem=problem)
    if _is_missing(value):
        return point
    return dataclasses.replace(point, cluster=value if isinstance(value, str) else _canonical(value))


def _keys(point: Datapoint) -> Mapping[Any, Any]:
    return point.inputs if isinstance(point.inputs, Mapping) else {}


def fetch_dataset(backend: BackendClient, dataset_id: str) -> Dataset:
    """Fetch a dataset that is stored in the backend. Skips data points that cannot be fetched, with a warning.

    Raises:
        SettingError: the dataset does not exist, or none of its data points can be fetched.
        BackendError: the backend does not respond.
    """
    found = backend.dataset(dataset_id)
    if found is None:
        raise SettingError(f"evaluate: dataset_id {_shown(dataset_id)} does not exist in the backend.")
    ids = [str(item) for item in found.get("datapoints") or ()]
    fetched = [data for item in ids if (data := _stored_datapoint(backend, item)) is not None]
    if not fetched:
        raise SettingError(
            f"evaluate: none of the {len(ids)} data points of dataset {_shown(dataset_id)} can be fetched."
        )
    points = tuple(Datapoint(index, data["id"], data, own_id=data["id"]) for index, data in enumerate(fetched))
    return Dataset(dataset_id, points, [point.id for point in points], len(points), stored=True)


def _shown(dataset_id: str) -> str:
    return shown("dataset_id", dataset_id)


def _stored_datapoint(backend: BackendClient, datapoint_id: str) -> dict[str, Any] | None:
    try:
        found = backend.datapoint(datapoint_id)
    except BackendError as error:
        logger.warning("evaluate: skipping a data point. %s", error)
        return None
    if found is None:
        logger.warning("evaluate: skipping data point %s: it does not exist in the backend", datapoint_id)
        return None
    return {"inputs": found.get("inputs") or {}, "ground_truth": found.get("ground_truth"), "id": datapoint_id}


def _datapoint_of(row: Mapping[str, Any], index: int, problem: str | None = None) -> Datapoint:
    if own := _given_id(row):
        return Datapoint(index, wire_id(own), row, problem, own)
    content = _canonical(row)
    generated = LOCAL_PREFIX + _digest(f"{content}{index}")
    return Datapoint(index, generated, row, problem, generated, _digest(content))


def _given_id(row: Mapping[str, Any]) -> str:
    """The id in a row as text; empty if there is none. A NaN or NA in a row of a DataFrame is none."""
    given = (row[name] for name in ("id", "datapoint_id") if name in row and not _is_missing(row[name]))
    return next(filter(None, map(_id_text, given)), "")


def _id_text(value: Any) -> str:
    if isinstance(value, bytes):
        return repr(value)
    # Of NumPy's numbers, as of arrays, `text_of` shows the shape.
    return text_of(value.item() if getattr(value, "shape", None) == () else value)


def _canonical(value: Any) -> str:
    """JSON with sorted keys, as the official client hashes it. Values that JSON cannot represent become text."""
    try:
        return json.dumps(value, sort_keys=True, default=text_of)
    except (TypeError, ValueError, RecursionError):  # Keys of several types, or a value that contains itself.
        return json.dumps(plain(value), sort_keys=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_DIGITS]
