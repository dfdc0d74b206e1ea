"""What a run goes over: data points with their ids, from a list or from the backend (contract, section 10)."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hh_jupyter.delivery.ask import BackendClient
from hh_jupyter.errors import BackendError, SettingError, SettingTypeError
from hh_jupyter.tracing.serialize import text_of

logger = logging.getLogger(__name__)

LOCAL_PREFIX: Final = "EXT-"
"""Ids that the backend did not give; a hash of the content follows, so equal data has equal ids everywhere."""

HASH_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class Datapoint:
    """One row. `data` is the dict that the function gets, as it was given."""

    id: str
    data: Mapping[str, Any]

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
    """Data points in their order. `stored`: the backend holds the dataset and knows its id."""

    id: str
    datapoints: tuple[Datapoint, ...]
    stored: bool


def given_dataset(rows: Sequence[Mapping[str, Any]]) -> Dataset:
    """A dataset from a list of dicts with `inputs` and, if known, `ground_truth` and `id`.

    Raises:
        SettingTypeError: something else than a list of dicts.
    """
    if not isinstance(rows, list | tuple):
        raise SettingTypeError(f"evaluate: dataset must be a list of dicts; got {type(rows).__name__}.")
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise SettingTypeError(f"evaluate: dataset[{index}] must be a dict; got {type(row).__name__}.")
    points = tuple(Datapoint(_datapoint_id(row, index), row) for index, row in enumerate(rows))
    return Dataset(LOCAL_PREFIX + _digest(_canonical(list(rows))), points, stored=False)


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
    points = tuple(point for item in ids if (point := _stored_datapoint(backend, item)) is not None)
    if not points:
        raise SettingError(
            f"evaluate: none of the {len(ids)} data points of dataset {_shown(dataset_id)} can be fetched."
        )
    return Dataset(dataset_id, points, stored=True)


def _shown(dataset_id: str) -> str:
    from hh_jupyter.redaction import shown  # Its rules cost more to compile than a tracer to make.

    return shown("dataset_id", dataset_id)


def _stored_datapoint(backend: BackendClient, datapoint_id: str) -> Datapoint | None:
    try:
        found = backend.datapoint(datapoint_id)
    except BackendError as error:
        logger.warning("evaluate: a data point is left out. %s", error)
        return None
    if found is None:
        logger.warning("evaluate: data point %s is left out: the backend does not hold it", datapoint_id)
        return None
    data = {"inputs": found.get("inputs") or {}, "ground_truth": found.get("ground_truth"), "id": datapoint_id}
    return Datapoint(datapoint_id, data)


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
