"""What `evaluate` is called with, looked over before anything runs."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from hh_jupyter.errors import SettingError, SettingTypeError
from hh_jupyter.experiments.evaluators import NAMES, name_of, parameters_of
from hh_jupyter.experiments.results import AGGREGATES

logger = logging.getLogger(__name__)

READ_BY_NAME: Final = ("inputs", "ground_truth")
"""Keys of a row that mean something here; any other is the function's own."""

NEAR: Final = 0.8
"""How alike two keys must be (`difflib`) for one to be taken as a slip."""

_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_SEVERAL: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def check_arguments(
    function: Any,
    dataset: Any,
    dataset_id: Any,
    evaluators: Any,
    *,
    max_workers: Any,
    executor: Any = None,
    retries: Any = 0,
    timeout: Any = None,
    config: Any = None,
) -> None:
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
    _check_function(function)
    functions = () if evaluators is None else evaluators
    listed = isinstance(functions, Collection) and not isinstance(functions, str | Mapping)
    if not listed or not all(callable(item) for item in functions):
        raise SettingTypeError(f"evaluate: evaluators must be a list of functions; got {_shown(evaluators)}.")
    for evaluator in functions:
        _check_evaluator(evaluator)
    _check_whole("max_workers", max_workers, 1)
    _check_whole("retries", retries, 0)
    _check_timeout(timeout)
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise SettingTypeError(
            f"evaluate: executor must be a concurrent.futures.Executor; got {type(executor).__name__}."
        )
    if config is not None and not isinstance(config, Mapping):
        raise SettingTypeError(f"evaluate: config must be a dict; got {type(config).__name__}.")


def _check_whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise SettingTypeError(f"evaluate: {name} must be a whole number; got {type(value).__name__}.")
    if value < least:
        raise SettingError(f"evaluate: {name} must be {least} or more; got {value}.")


def _check_timeout(value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SettingTypeError(f"evaluate: timeout must be seconds or None; got {type(value).__name__}.")
    if not (value > 0 and math.isfinite(value)):
        raise SettingError(f"evaluate: timeout must be more than 0 seconds; got {value}.")


def _check_function(function: Callable[..., Any]) -> None:
    """One parameter for the datapoint, and maybe one called `tracer`; any other must have a default."""
    parameters = parameters_of(function)
    if parameters is None:
        return
    takes = [p for p in parameters if p.kind in (*_POSITIONAL, inspect.Parameter.VAR_POSITIONAL)]
    first = next((p for p in takes if p.name != "tracer"), None)
    needed = [p.name for p in parameters if _needed(p) and p is not first and p.name != "tracer"]
    if first is not None and not needed:
        return
    what = f"needs {', '.join(needed)} as well" if first is not None else "takes no datapoint"
    name = name_of(function)
    raise SettingTypeError(
        f"evaluate: function {name} {what}; it is called as {name}(datapoint), or {name}(datapoint, tracer=...)."
    )


def _check_evaluator(evaluator: Callable[..., Any]) -> None:
    """Some of outputs, inputs and ground_truth: up to three by position, or by these names."""
    parameters = parameters_of(evaluator)
    if parameters is None:
        return
    positional = [p for p in parameters if p.kind in _POSITIONAL]
    several = any(p.kind in _SEVERAL for p in parameters)
    needed = [p.name for p in positional if _needed(p)][len(NAMES) :]
    needed += [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and _needed(p) and p.name not in NAMES]
    by_name = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name in NAMES]
    if not needed and (positional or several or by_name):
        return
    what = f"needs {', '.join(needed)} as well" if needed else "takes no outputs"
    raise SettingTypeError(
        f"evaluate: evaluator {name_of(evaluator)} {what}; it is called with (outputs, inputs, ground_truth), the last "
        "only where the datapoint has one, or with fewer of these by their names."
    )


def _needed(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind not in _SEVERAL


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
    said = [f"{key!r:.40} is not read; did you mean {meant!r}?" for key, meant in _slips(rows).items()]
    if lacking:
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
