"""The arguments of `evaluate`: checked before anything runs."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from hh_jupyter.errors import SettingError, SettingTypeError
from hh_jupyter.experiments.evaluators import ARGUMENT_NAMES, OTHER_NAMES, SPANS, callable_name, parameters_of
from hh_jupyter.experiments.results import AGGREGATES
from hh_jupyter.redaction import shown
from hh_jupyter.settings import check

logger = logging.getLogger(__name__)

ROW_KEYS: Final = ("inputs", "ground_truth")
"""Keys of a row that `evaluate` reads; the function may use others."""

SIMILARITY: Final = 0.8
"""`difflib` ratio from which a key counts as a misspelling."""

_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_VARIADIC: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


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
    max_cost: Any = None,
    max_calls: Any = None,
    trials: Any = 1,
    cluster: Any = None,
    instrumentors: Any = None,
    name: Any = None,
    run_id: Any = None,
) -> None:
    """Check the arguments of `evaluate`.

    Raises:
        SettingTypeError: an argument has the wrong type.
        SettingError: an argument has an invalid value, or two arguments contradict each other.
    """
    if not callable(function):
        raise SettingTypeError(f"evaluate: function must be callable; got {type(function).__name__}.")
    if (dataset is None) == (dataset_id is None):
        both = "both" if dataset_id is not None else "neither"
        raise SettingError(f"evaluate: pass either dataset or dataset_id; got {both}.")
    _check_function(function)
    wrap = "Wrap it in a function (outputs, inputs, ground_truth) that returns its result"
    for evaluator in _functions("evaluators", evaluators, "functions", wrap):
        _check_evaluator(evaluator)
    _functions(
        "instrumentors", instrumentors, "classes of instrumentors", "Pass its class, or a function that makes it"
    )
    _check_text("name", name)
    _check_text("run_id", run_id)
    _check_integer("max_workers", max_workers, 1)
    _check_integer("retries", retries, 0)
    _check_integer("trials", trials, 1)
    if cluster is not None and not isinstance(cluster, str) and not callable(cluster):
        kinds = "a key of inputs or a function of a row"
        raise SettingTypeError(f"evaluate: cluster must be {kinds}; got {type(cluster).__name__}.")
    for title, limit in (("max_cost", max_cost), ("max_calls", max_calls)):
        if limit is not None:
            check(title, limit, called="evaluate")
    _check_timeout(timeout)
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise SettingTypeError(
            f"evaluate: executor must be a concurrent.futures.Executor; got {type(executor).__name__}."
        )
    if config is not None and not isinstance(config, Mapping):
        raise SettingTypeError(f"evaluate: config must be a dict; got {type(config).__name__}.")


def _functions(name: str, given: Any, kind: str, hint: str) -> Collection[Callable[..., Any]]:
    """Require a list of functions; None is an empty one.

    Args:
        name: of the argument.
        kind: what the list must have.
        hint: what to do with an item that cannot be called.
    """
    must = f"evaluate: {name} must be a list of {kind}"
    if given is None:
        return ()
    if not isinstance(given, Collection) or isinstance(given, str | Mapping):
        raise SettingTypeError(f"{must}; got {_shown(given)}.")
    for index, item in enumerate(given):
        if not callable(item):
            raise SettingTypeError(f"{must}; {name}[{index}] is {_shown(item)}. {hint}.")
    return given


def _check_text(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise SettingTypeError(f"evaluate: {name} must be a text; got {type(value).__name__}.")


def _check_integer(name: str, value: Any, least: int) -> None:
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
    """Require one parameter for the datapoint, and allow `tracer`; any other needs a default."""
    name = callable_name(function)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise SettingTypeError(f"evaluate: function {name} is a generator; it must return the whole output.")
    parameters = parameters_of(function)
    if parameters is None:
        return
    positional = [p for p in parameters if p.kind in (*_POSITIONAL, inspect.Parameter.VAR_POSITIONAL)]
    first = next((p for p in positional if p.name != "tracer"), None)
    needed = [p.name for p in parameters if _is_required(p) and p is not first and p.name != "tracer"]
    if first is not None and not needed:
        return
    problem = f"requires {', '.join(needed)} as well" if first is not None else "takes no datapoint"
    raise SettingTypeError(
        f"evaluate: function {name} {problem}; it is called as {name}(datapoint), or {name}(datapoint, tracer=...)."
    )


def _check_evaluator(evaluator: Callable[..., Any]) -> None:
    """Require parameters for outputs, inputs or ground_truth: up to three by position, or by name; or for spans."""
    if isinstance(evaluator, type) and any("__call__" in vars(base) for base in evaluator.__mro__):
        made = f"{evaluator.__name__}()"
        raise SettingTypeError(f"evaluate: evaluator {evaluator.__name__} is a class; pass an object of it, {made}.")
    parameters = parameters_of(evaluator)
    if parameters is None:
        return
    names = {*ARGUMENT_NAMES, *OTHER_NAMES.values()}
    others = [p for p in parameters if p.name != SPANS or p.kind not in _BY_NAME]
    positional = [p for p in others if p.kind in _POSITIONAL]
    by_name = [p for p in others if p.kind is p.KEYWORD_ONLY and p.name in names]
    required = [p for p in positional if _is_required(p)]
    if not any(p.name in OTHER_NAMES.values() for p in others if p.kind in _BY_NAME):
        required = required[len(ARGUMENT_NAMES) :]
    required += [p for p in others if p.kind is p.KEYWORD_ONLY and _is_required(p)]
    needed = [p.name for p in required if p.name not in names or p.kind is p.POSITIONAL_ONLY]
    some = positional or by_name or len(others) < len(parameters) or any(p.kind in _VARIADIC for p in others)
    if not needed and some:
        return
    problem = f"requires {', '.join(needed)} as well" if needed else "takes no outputs"
    raise SettingTypeError(
        f"evaluate: evaluator {callable_name(evaluator)} {problem}; it is called with (outputs, inputs, ground_truth), "
        "the last only if the datapoint has one, with fewer of them by name, or with output, input, expected by name."
    )


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind not in _VARIADIC


def check_aggregate(name: Any, *, local: bool) -> None:
    """Check the aggregate function. A backend may support others, so there an unknown one is only a warning.

    Raises:
        SettingTypeError: the name is not a string.
        SettingError: the name is unknown, in local mode.
    """
    if isinstance(name, str) and name in AGGREGATES:
        return
    text = f"evaluate: aggregate_function must be one of {', '.join(AGGREGATES)}; got {_shown(name)}."
    if not isinstance(name, str):
        raise SettingTypeError(text)
    if local:
        raise SettingError(text)
    logger.warning("%s It is sent to the backend; locally computed aggregates are empty.", text)


def warn_about_rows(rows: Sequence[Mapping[Any, Any]]) -> None:
    """Log one warning if the dataset is empty, lacks inputs, or seems to have misspelled keys."""
    if not rows:
        logger.warning("evaluate: the dataset is empty; nothing to run.")
        return
    missing = sum("inputs" not in row for row in rows)
    problems = [
        f"key {key!r:.40} is not used; did you mean {meant!r}?" for key, meant in _misspelled_keys(rows).items()
    ]
    if missing:
        problems.append(f"{missing} of {len(rows)} rows have no 'inputs'; their evaluators and sessions get none.")
    if problems:
        logger.warning("evaluate: dataset: %s", " ".join(problems))


def _misspelled_keys(rows: Sequence[Mapping[Any, Any]]) -> dict[str, str]:
    """Keys that resemble one of `ROW_KEYS` in rows without that key, with the key that was probably meant."""
    from difflib import get_close_matches

    found: dict[str, str] = {}
    for key in dict.fromkeys(key for row in rows for key in row if isinstance(key, str) and key not in ROW_KEYS):
        similar = get_close_matches(key.lower(), ROW_KEYS, n=1, cutoff=SIMILARITY)
        if similar and any(key in row and similar[0] not in row for row in rows):
            found[key] = similar[0]
    return found


def _shown(value: Any) -> str:
    return shown("value", value)
