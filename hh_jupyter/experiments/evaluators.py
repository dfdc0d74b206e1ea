"""Scoring functions: `@evaluator`, and how what one returns becomes metrics (contract, section 10)."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, overload

from hh_jupyter.tracing.decorators import trace

F = TypeVar("F", bound=Callable[..., Any])
Scalar = str | bool | int | float

SPAN_NAME: Final = "Evaluation"
"""The name that the official client gives to the spans of decorated evaluators; which one it was is in the metadata."""


REMEMBERED: Final = 64
"""Functions whose signature is remembered."""

NAMES: Final = ("outputs", "inputs", "ground_truth")
"""What an evaluator is given, in the order of its parameters."""

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
    """Make each call of a scoring function a span with arguments and result, under its data point's span.

    Plain functions are evaluators as well; they only have no span of their own. Bare or with empty parentheses.

    Example:
        >>> @evaluator
        ... def exact(outputs, inputs, ground_truth):
        ...     return outputs["answer"] == ground_truth["answer"]
    """
    if function is None:
        return evaluator
    decorate = trace(event_type="chain", event_name=SPAN_NAME, metadata={"func": name_of(function)})
    return decorate(function)


aevaluator = evaluator
"""The older name for coroutine functions; `evaluator` tells by itself."""


@dataclass(frozen=True, slots=True)
class Score:
    """What one evaluator said about one data point.

    Attributes:
        metrics: by name; the score under the evaluator's name, extras under `<evaluator>_<extra>`.
        left_out: extras that are no scalars.
        problem: why there is no score although something was returned, one sentence.
    """

    metrics: Mapping[str, Scalar] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    problem: str | None = None


def score(name: str, returned: Any) -> Score:
    """Metrics from what the evaluator `name` returned: a number, bool or text, or a dict with `score` and more.

    A list or tuple of one is unwrapped; None is no score, and that is no problem.
    """
    if isinstance(returned, list | tuple) and len(returned) == 1:
        returned = returned[0]
    returned = _plain_number(returned)
    if returned is None:
        return Score()
    if isinstance(returned, Scalar):
        return Score({name: returned})
    if not isinstance(returned, Mapping):
        return Score(problem=f"returned a {type(returned).__name__}; a score is a number, bool, text or dict")
    values = {str(key): _plain_number(value) for key, value in returned.items()}
    metrics = {
        name if key == "score" else f"{name}_{key}": value for key, value in values.items() if isinstance(value, Scalar)
    }
    left_out = (key for key, value in values.items() if value is not None and not isinstance(value, Scalar))
    return Score(metrics, tuple(left_out))


def arguments_for(evaluator: Callable[..., Any], given: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments of one call: as many of `given` as the evaluator takes.

    Args:
        given: `outputs`, `inputs` and, if the data point has one, `ground_truth`, in this order.

    One that takes all three gets them by position, whatever it calls them, as from the official client. One that takes
    fewer gets them by name if it uses these names, else the first ones.
    """
    parameters = parameters_of(evaluator)
    if parameters is None:
        return list(given.values()), {}
    kinds: dict[Any, set[str]] = {}
    for parameter in parameters:
        kinds.setdefault(parameter.kind, set()).add(parameter.name)
    only, plain, star, named_only, stars = (kinds.get(kind, set()) for kind in _KINDS)
    by_name = named_only
    if len(only | plain) >= len(NAMES) or star:
        count = len(given)
    elif only or not plain <= set(NAMES):
        count = len(only | plain)
    else:
        count, by_name = 0, named_only | plain
    rest = list(given)[count:]
    return list(given.values())[:count], {name: given[name] for name in rest if name in by_name or stars}


def parameters_of(function: Callable[..., Any]) -> tuple[inspect.Parameter, ...] | None:
    """Parameters of anything callable; None for a function without a signature, such as some builtins have."""
    try:
        return _remembered_parameters(function)
    except TypeError:  # It cannot be hashed.
        return _parameters(function)


def _parameters(function: Callable[..., Any]) -> tuple[inspect.Parameter, ...] | None:
    try:
        return tuple(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None


_remembered_parameters = functools.lru_cache(REMEMBERED)(_parameters)  # Reading a signature takes as long as a span.


def named(functions: Sequence[Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """Functions by name; a second one of the same name gets a number, so that no score replaces another."""
    found: dict[str, Callable[..., Any]] = {}
    for function in functions:
        name, number = name_of(function), 2
        while name in found:
            name, number = f"{name_of(function)}_{number}", number + 1
        found[name] = function
    return found


def name_of(function: Any) -> str:
    """The name of anything callable; of a `functools.partial`, the function's."""
    while not hasattr(function, "__name__") and hasattr(function, "func"):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def _plain_number(value: Any) -> Any:
    """Python's own number for a numpy or torch scalar."""
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value
