"""What `evaluate` is called with, looked over before anything runs."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from hh_jupyter.errors import SettingError, SettingTypeError
from hh_jupyter.experiments.results import AGGREGATES

logger = logging.getLogger(__name__)

READ_BY_NAME: Final = ("inputs", "ground_truth")
"""Keys of a row that mean something here; any other is the function's own."""

NEAR: Final = 0.8
"""How alike two keys must be (`difflib`) for one to be taken as a slip."""


def check_arguments(function: Any, dataset: Any, dataset_id: Any, evaluators: Any, max_workers: Any) -> None:
    """Raise for an argument that cannot be meant.

    Raises:
        SettingTypeError: one of the wrong type.
        SettingError: one of a wrong value, or two that contradict each other.
    """
    if not callable(function):
        raise SettingTypeError(f"evaluate: function must be callable; got {type(function).__name__}.")
    if (dataset is None) == (dataset_id is None):
        both = "both" if dataset_id is not None else "neither"
        raise SettingError(f"evaluate: give either dataset or dataset_id; got {both}.")
    functions = () if evaluators is None else evaluators
    listed = isinstance(functions, Collection) and not isinstance(functions, str | Mapping)
    if not listed or not all(callable(item) for item in functions):
        raise SettingTypeError(f"evaluate: evaluators must be a list of functions; got {_shown(evaluators)}.")
    if isinstance(max_workers, bool) or not isinstance(max_workers, int):
        raise SettingTypeError(f"evaluate: max_workers must be a whole number; got {type(max_workers).__name__}.")
    if max_workers < 1:
        raise SettingError(f"evaluate: max_workers must be 1 or more; got {max_workers}.")


def check_aggregate(name: Any, *, local: bool) -> None:
    """Raise for a word that nobody can count by; a backend may know more words, so there it is a warning.

    Raises:
        SettingTypeError: no text.
        SettingError: local mode, where the known words are all there are.
    """
    if isinstance(name, str) and name in AGGREGATES:
        return
    text = f"evaluate: aggregate_function must be one of {', '.join(AGGREGATES)}; got {_shown(name)}."
    if not isinstance(name, str):
        raise SettingTypeError(text)
    if local:
        raise SettingError(text)
    logger.warning("%s It is asked of the backend; nothing is counted by it here.", text)


def look_over(rows: Sequence[Mapping[Any, Any]]) -> None:
    """Say in one warning what a dataset seems to lack: rows, inputs, or a key that is nearly spelled as it must be."""
    if not rows:
        logger.warning("evaluate: dataset is empty, so that nothing is run.")
        return
    lacking = sum("inputs" not in row for row in rows)
    slips = _slips(rows)
    said = [f"{key!r:.40} is not read; did you mean {meant!r}?" for key, meant in slips.items()]
    if lacking and "inputs" not in slips.values():
        said.append(f"{lacking} of {len(rows)} rows have no 'inputs', so that evaluators and sessions get none.")
    if said:
        logger.warning("evaluate: dataset: %s", " ".join(said))


def _slips(rows: Sequence[Mapping[Any, Any]]) -> dict[str, str]:
    """Keys that nearly match one that is read by name, in rows that lack that one."""
    from difflib import get_close_matches

    found: dict[str, str] = {}
    for key in dict.fromkeys(key for row in rows for key in row if isinstance(key, str) and key not in READ_BY_NAME):
        near = get_close_matches(key.lower(), READ_BY_NAME, n=1, cutoff=NEAR)
        if near and any(key in row and near[0] not in row for row in rows):
            found[key] = near[0]
    return found


def _shown(value: Any) -> str:
    from hh_jupyter.redaction import shown  # Its rules cost more to compile than a tracer to make.

    return shown("value", value)
