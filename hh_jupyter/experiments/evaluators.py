"""Evaluators: the `@evaluator` decorator, their arguments, and the conversion of return values to metrics."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, overload

from hh_jupyter.tracing.decorators import trace
from hh_jupyter.values import python_number

F = TypeVar("F", bound=Callable[..., Any])
Scalar = str | bool | int | float

SPAN_NAME: Final = "Evaluation"
"""Name of the spans of decorated evaluators, as in the official client. The metadata has the function's name."""

CACHE_SIZE: Final = 64
"""Number of functions whose signature is cached."""

ARGUMENT_NAMES: Final = ("outputs", "inputs", "ground_truth")
"""Arguments of an evaluator, in positional order."""

_KINDS: Final = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
    inspect.Parameter.KEYWORD_ONLY,
    inspect.Parameter.VAR_KEYWORD,
)


@overload
def evaluator(function: F) -> F: ...
@overload
def evaluator() -> Callable[[F], F]: ...
def evaluator(function: Any = None) -> Any:
    """Trace each call of an evaluator: a span with arguments and result, below the data point's span.

    Undecorated functions are evaluators as well, without their own spans. Use it with or without parentheses.

    Example:
        >>> @evaluator
        ... def exact(outputs, inputs, ground_truth):
        ...     return outputs["answer"] == ground_truth["answer"]
    """
    if function is None:
        return evaluator
    decorate = trace(event_type="chain", event_name=SPAN_NAME, metadata={"func": callable_name(function)})
    return decorate(function)


aevaluator = evaluator
"""Alias of `evaluator`, which handles coroutine functions too."""


@dataclass(frozen=True, slots=True)
class Score:
    """The score of one evaluator for one data point.

    Attributes:
        metrics: values by metric: the score under the evaluator's name, other entries as `<evaluator>_<entry>`.
        ignored: entries that are not scalars.
        problem: why the returned value is not a score, in one sentence.
    """

    metrics: Mapping[str, Scalar] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    problem: str | None = None


def score(name: str, returned: Any) -> Score:
    """Convert the return value of an evaluator: a number, bool or text, or a dict with `score` and more entries.

    A list or tuple with one item is unwrapped. None means no score and is not a problem.
    """
    if isinstance(returned, list | tuple) and len(returned) == 1:
        returned = returned[0]
    returned = python_number(returned)
    if returned is None:
        return Score()
    if isinstance(returned, Scalar):
        return Score({name: returned})
    if not isinstance(returned, Mapping):
        return Score(problem=f"returned a {type(returned).__name__}; expected a number, bool, text or dict")
    values = {str(key): python_number(value) for key, value in returned.items()}
    metrics = {
        name if key == "score" else f"{name}_{key}": value for key, value in values.items() if isinstance(value, Scalar)
    }
    ignored = (key for key, value in values.items() if value is not None and not isinstance(value, Scalar))
    return Score(metrics, tuple(ignored))


def arguments_for(evaluator: Callable[..., Any], available: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments of one call.

    An evaluator with three parameters gets all values by position, whatever their names, as in the official client. One
    with fewer parameters gets values by name if it uses the names in `available`, else the first ones by position.

    Args:
        available: `outputs`, `inputs` and, if the data point has one, `ground_truth`, in this order.
    """
    parameters = parameters_of(evaluator)
    if parameters is None:
        return list(available.values()), {}
    kinds: dict[Any, set[str]] = {}
    for parameter in parameters:
        kinds.setdefault(parameter.kind, set()).add(parameter.name)
    positional_only, plain, var_positional, keyword_only, var_keyword = (kinds.get(kind, set()) for kind in _KINDS)
    by_name = keyword_only
    if len(positional_only | plain) >= len(ARGUMENT_NAMES) or var_positional:
        count = len(available)
    elif positional_only or not plain <= set(ARGUMENT_NAMES):
        count = len(positional_only | plain)
    else:
        count, by_name = 0, keyword_only | plain
    rest = list(available)[count:]
    return list(available.values())[:count], {name: available[name] for name in rest if name in by_name or var_keyword}


def parameters_of(function: Callable[..., Any]) -> tuple[inspect.Parameter, ...] | None:
    """Parameters of a callable; None if it has no signature, as some builtins."""
    try:
        return _cached_parameters(function)
    except TypeError:  # The function is not hashable.
        return _parameters(function)


def _parameters(function: Callable[..., Any]) -> tuple[inspect.Parameter, ...] | None:
    try:
        return tuple(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None


_cached_parameters = functools.lru_cache(CACHE_SIZE)(_parameters)  # Reading a signature takes as long as a span.


def by_unique_name(functions: Sequence[Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """Functions by name. A number is appended to repeated names, so that no score overwrites another."""
    found: dict[str, Callable[..., Any]] = {}
    for function in functions:
        name, number = callable_name(function), 2
        while name in found:
            name, number = f"{callable_name(function)}_{number}", number + 1
        found[name] = function
    return found


def callable_name(function: Any) -> str:
    """The name of a callable; for a `functools.partial`, the name of its function."""
    while not hasattr(function, "__name__") and hasattr(function, "func"):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))
