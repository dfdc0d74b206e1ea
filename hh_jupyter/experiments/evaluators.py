"""Evaluators: the `@evaluator` decorator, their arguments, and the conversion of return values to metrics."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from types import MappingProxyType, NoneType
from typing import Any, Final, TypeVar, overload

from hh_jupyter.conventions import evaluation_attributes
from hh_jupyter.experiments.metrics import EXPLANATIONS, LABEL
from hh_jupyter.tracing.decorators import trace
from hh_jupyter.values import python_number, text_of

F = TypeVar("F", bound=Callable[..., Any])
Scalar = str | bool | int | float

_BUILT_IN: Final = frozenset({str, bool, int, float, NoneType})

SPAN_NAME: Final = "Evaluation"
"""Name of the spans of decorated evaluators, as in the official client. The metadata has the function's name."""

CACHE_SIZE: Final = 64
"""Number of functions whose signature is cached."""

ARGUMENT_NAMES: Final = ("outputs", "inputs", "ground_truth")
"""Arguments of an evaluator, in positional order."""

OTHER_NAMES: Final = MappingProxyType({"outputs": "output", "inputs": "input", "ground_truth": "expected"})
"""Names under which the evaluators of other libraries, such as autoevals, expect the arguments."""

SPANS: Final = "spans"
"""Parameter of an evaluator that receives the spans of its row."""

LOWER_IS_BETTER: Final = "lower_is_better"
"""Attribute of an evaluator, True if a lower score is better."""

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
def evaluator(*, lower_is_better: bool = False) -> Callable[[F], F]: ...
def evaluator(function: Any = None, *, lower_is_better: bool = False) -> Any:
    """Trace each call of an evaluator: a span with arguments and result, below the data point's span.

    Undecorated functions are evaluators as well, without their own spans. Use it with or without parentheses.

    Example:
        >>> @evaluator
        ... def exact(outputs, inputs, ground_truth):
        ...     return outputs["answer"] == ground_truth["answer"]

    Args:
        lower_is_better: whether a lower score is better, such as a distance, and no is better than yes. Results and
            comparisons then say so. An undecorated callable may have an attribute of this name instead.
    """
    if function is None:
        return functools.partial(evaluator, lower_is_better=lower_is_better)
    decorate = trace(event_type="chain", event_name=SPAN_NAME, metadata={"func": callable_name(function)})
    traced = decorate(function)
    if lower_is_better:
        traced.lower_is_better = True
    return traced


aevaluator = evaluator
"""Alias of `evaluator`, which handles coroutine functions too."""


@dataclass(frozen=True, slots=True)
class Score:
    """The score of one evaluator for one data point.

    Attributes:
        metrics: values by metric: the score under the evaluator's name, other entries as `<evaluator>_<entry>`.
        ignored: entries that are not scalars.
        problem: why the returned value is not a score, in one sentence; or the error that it reports.
    """

    metrics: Mapping[str, Scalar] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    problem: str | None = None

    def result_attributes(self, name: str) -> dict[str, Any]:
        """Attributes of OpenTelemetry's event for the score of the evaluator of this name."""
        if len(self.metrics) == 1:
            return evaluation_attributes(name, self.metrics[name])
        texts = {ending: self.metrics.get(name + ending) for ending in (LABEL, *EXPLANATIONS)}
        label, *reasons = (text if isinstance(text, str) else None for text in texts.values())
        return evaluation_attributes(name, self.metrics[name], label, next(filter(None, reasons), None))


def score(name: str, returned: Any) -> Score:
    """Convert the return value of an evaluator to metrics.

    It is a number, bool or text, or a dict with `score` and more entries, or an object of another library with `score`
    or `value`, and perhaps `reason`, `metadata` and `error`. Entries of a dict may be such objects as well. A list or
    tuple with one item is unwrapped. None means no score and is not a problem.
    """
    if isinstance(returned, list | tuple) and len(returned) == 1:
        returned = returned[0]
    returned = _scalar(returned)
    if returned is None:
        return Score()
    if isinstance(returned, Scalar):
        return Score({name: returned})
    entries = dict(returned) if isinstance(returned, Mapping) else _entries_of(returned)
    if entries is None:
        return Score(
            problem=f"returned a value of type {type(returned).__name__}; expected a number, bool, text or dict"
        )
    values: dict[str, Any] = {}
    for key, value in entries.items():
        parts = None if type(value) in _BUILT_IN or isinstance(value, Mapping) else _entries_of(value)
        inner = {key: value} if parts is None else {_joined(key, part): found for part, found in parts.items()}
        values |= {str(each): _scalar(found) for each, found in inner.items()}
    metrics = {_joined(name, key): value for key, value in values.items() if isinstance(value, Scalar)}
    ignored = (key for key, value in values.items() if value is not None and not isinstance(value, Scalar))
    return Score(metrics, tuple(ignored), _text_or_none(getattr(returned, "error", None)))


def _entries_of(result: Any) -> dict[str, Any] | None:
    """The entries of another library's result: `score`, `reason` and those of its metadata; None for other objects."""
    value = getattr(result, "score", None)
    value = _scalar(getattr(result, "value", None) if value is None else value)
    metadata, reason = getattr(result, "metadata", None), _text_or_none(getattr(result, "reason", None))
    known = hasattr(result, "score") or hasattr(result, "value")
    if not known or not isinstance(value, Scalar | None):
        return None
    entries = {"score": value, **({"reason": reason} if reason else {})}
    return {**(dict(metadata) if isinstance(metadata, Mapping) else {}), **entries}


def _scalar(value: Any) -> Any:
    """A number of numpy, a Decimal or a Fraction as Python's number, a member of an enumeration as its value."""
    if type(value) in _BUILT_IN:
        return value
    value = value.value if isinstance(value, Enum) else python_number(value)
    return float(value) if isinstance(value, Decimal | Fraction) else value


def _joined(name: str, key: str) -> str:
    return name if key == "score" else f"{name}_{key}"


def _text_or_none(value: Any) -> str | None:
    return text_of(value) if value and not callable(value) else None


def arguments_for(
    evaluator: Callable[..., Any], available: Mapping[str, Any], spans: Callable[[], Any] | None = None
) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments of one call.

    A parameter `spans` gets the spans of the row. An evaluator that uses one of the names `output`, `input` and
    `expected`, as the evaluators of other libraries do, gets values by name. Otherwise, one with three parameters gets
    all values by position, whatever their names, as in the official client. One with fewer parameters gets values by
    name if it uses the names in `available`, else the first ones by position.

    Args:
        available: `outputs`, `inputs` and, if the data point has one, `ground_truth`, in this order.
        spans: returns the spans; called only for an evaluator that has the parameter.
    """
    try:
        positional, named = _cached_plan(evaluator, tuple(available), spans is not None)
    except TypeError:  # The evaluator is not hashable.
        positional, named = _plan(evaluator, tuple(available), spans is not None)
    values = {**available, SPANS: spans()} if spans is not None and SPANS in named.values() else available
    return [values[name] for name in positional], {parameter: values[name] for parameter, name in named.items()}


def _plan(
    evaluator: Callable[..., Any], available: tuple[str, ...], spans: bool
) -> tuple[Sequence[str], dict[str, str]]:
    """Which values an evaluator gets by position, and which ones by name of its parameters; see `arguments_for`."""
    parameters = parameters_of(evaluator)
    if parameters is None:
        return available, {}
    extra = {SPANS: SPANS} if spans and wants_spans(evaluator) else {}
    kinds: dict[Any, set[str]] = {}
    for parameter in parameters:
        if parameter.name != SPANS or parameter.kind is parameter.POSITIONAL_ONLY:
            kinds.setdefault(parameter.kind, set()).add(parameter.name)
    positional_only, plain, var_positional, keyword_only, var_keyword = (kinds.get(kind, set()) for kind in _KINDS)
    if not positional_only and (plain | keyword_only) & set(OTHER_NAMES.values()):
        others = {OTHER_NAMES[name]: name for name in available}
        named = {name: name for name in available} | others
        return (), {
            **{one: named[one] for one in named if one in plain | keyword_only or (var_keyword and one in others)},
            **extra,
        }
    by_name = keyword_only
    if len(positional_only | plain) >= len(ARGUMENT_NAMES) or var_positional:
        count = len(available)
    elif positional_only or not plain <= set(ARGUMENT_NAMES):
        count = len(positional_only | plain)
    else:
        count, by_name = 0, keyword_only | plain
    args = available[:count]
    given = {name: name for name in available[count:] if name in by_name or var_keyword}
    if extra and not positional_only and not var_positional:  # `spans` may stand before the others.
        ordered = [p.name for p in parameters if p.name in plain]
        return (), {**dict(zip(ordered, args, strict=False)), **given, **extra}
    return args, {**given, **extra}


_cached_plan = functools.lru_cache(CACHE_SIZE)(_plan)  # For each row and evaluator, a tenth of what a row takes.


def wants_spans(evaluator: Callable[..., Any]) -> bool:
    """Whether the evaluator has a parameter `spans` that can be passed by name."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return any(parameter.name == SPANS and parameter.kind in kinds for parameter in parameters_of(evaluator) or ())


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


def prefers_lower(evaluator: Any) -> bool:
    """Whether an evaluator says that a lower score is better; a `functools.partial`, what its function says."""
    while not hasattr(evaluator, LOWER_IS_BETTER) and hasattr(evaluator, "func"):
        evaluator = evaluator.func
    return getattr(evaluator, LOWER_IS_BETTER, False) is True


def callable_name(function: Any) -> str:
    """The name of a callable, or of the function of a `functools.partial`; else its `name`, or that of its type."""
    while not hasattr(function, "__name__") and hasattr(function, "func"):
        function = function.func
    own = getattr(function, "name", None)
    return str(getattr(function, "__name__", own if isinstance(own, str) and own else type(function).__name__))
