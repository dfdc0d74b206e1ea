"""Arguments that a call does not take: an exception at set-up, one warning while a program runs.

The rule for which is which stands in `hh_jupyter.errors`.
"""

from __future__ import annotations

import enum
import functools
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, NoReturn, TypeVar, cast

from hh_jupyter import attributes as keys
from hh_jupyter.errors import SettingTypeError
from hh_jupyter.values import text_of, type_name

T = TypeVar("T")


logger = logging.getLogger(__name__)

FLUSH_MILLIS: Final = 30_000
LONGEST_MILLIS: Final = 86_400_000
A_TRACER: Final = "a HoneyHiveTracer"
IS_TRACER: Final = "is_honeyhive_tracer"
"""Attribute of the class, by which this module knows a tracer without importing it."""

MOST_TOLD: Final = 1_000
"""Different things that a process is told once each; then silence."""

_told: set[tuple[str, str]] = set()


def fits(value: Any, *types: type) -> bool:
    """`isinstance` without asking the value for its class, at which a proxy or a dead weak reference may raise."""
    try:
        return issubclass(type(value), types)
    except Exception:  # boundary: a class whose metaclass cannot be hashed is refused by abstract classes.
        return False


def complaint(called: str, name: str, value: Any, rule: str, then: str) -> str:
    """The text for one wrong argument.

    Args:
        called: the call, as the user wrote it.
        name: of the argument.
        rule: the end of the sentence "<name> must be ...".
        then: what to do, or what is done instead; a sentence.
    """
    from hh_jupyter.redaction import shown  # Its rules cost more to compile than a tracer to make.

    return f"{called}: {name} must be {rule}; got {shown(name, value)} ({type_name(type(value))}). {then}"


def refuse(called: str, name: str, value: Any, rule: str, then: str) -> NoReturn:
    """Raise for a mistake in the set-up.

    Raises:
        SettingTypeError: always.
    """
    raise SettingTypeError(complaint(called, name, value, rule, then))


def tell(called: str, name: str, value: Any, rule: str, then: str) -> None:
    """Warn of a mistake in a running program, once for each argument of each call."""
    if _first_time(called, name):
        logger.warning("%s", complaint(called, name, value, rule, then))


def once(about: str, text: str, *values: Any) -> None:
    """Warn of something, once in the life of the process.

    Args:
        about: names it; the text may differ from time to time.
        text: with a `{}` for each of the values, which are hidden where they look like secrets.
    """
    if _first_time("", about):
        from hh_jupyter.redaction import shown  # Not at import: see `complaint`.

        logger.warning("%s", text.format(*(shown(about, value) for value in values)))


def _first_time(called: str, about: str) -> bool:
    if (called, about) in _told or len(_told) >= MOST_TOLD:
        return False
    _told.add((called, about))
    return True


def event_type_text(called: str, value: Any, hint: str = "") -> str:
    """The text of an event type; one that is none of the documented types is told, once for each, and kept.

    Args:
        hint: what else may have been meant; said unless it is nearly one of the types.
    """
    text = value if type(value) is str else text_of(value)
    if text and text not in keys.EVENT_TYPES and text != "session" and _first_time("event_type", text[:80]):
        from difflib import get_close_matches

        near = get_close_matches(text.lower(), keys.EVENT_TYPES, n=1)
        then = f"Did you mean {near[0]}? It is sent as it is." if near else f"It is sent as it is.{hint}"
        logger.warning("%s", complaint(called, "event_type", text, f"one of {', '.join(keys.EVENT_TYPES)}", then))
    return text


def is_tracer(value: Any) -> bool:
    """Whether it is a tracer of ours; the official SDK's has another make-up."""
    try:
        return getattr(type(value), IS_TRACER, False) is True
    except Exception:  # boundary: a metaclass may raise anything when it is asked for an attribute.
        return False


def tracer_or_none(called: str, name: str, value: T | None, then: str = "The current tracer is used.") -> T | None:
    """The tracer that was given; None, after a warning, for anything else."""
    if value is None or is_tracer(value):
        return value
    tell(called, name, value, A_TRACER, then)
    return None


def millis(called: str, value: Any) -> float:
    """A time limit in milliseconds, a day at most and no less than 0; the documented 30 s for what is no number."""
    if fits(value, int, float) and not fits(value, bool) and value == value:  # NaN is no number.
        return float(max(0, min(value, LONGEST_MILLIS)))
    if value is not None:
        tell(called, "timeout_millis", value, "a number of milliseconds", f"{FLUSH_MILLIS:,} ms are used.")
    return FLUSH_MILLIS


def is_given(value: Any) -> bool:
    """Whether there is anything; asked without the value's own truth, which arrays do not have."""
    return value is not None and not (fits(value, str, bytes) and not value)


def switch(called: str, name: str, value: Any, *, default: bool) -> bool:
    """True or False; the default for what is neither, nor a number."""
    if fits(value, int, float):
        return bool(value)
    tell(called, name, value, "True or False", f"{default} is used.")
    return default


def check_decoration(called: str, given: Mapping[str, Any]) -> None:
    """Look over the parameters of a decorator.

    Data of any type is kept; what is refused can only be a slip, such as a function where a dict belongs.

    Raises:
        SettingTypeError: one of them cannot be meant.
    """
    for name, value in given.items():
        if value is None:
            continue
        for names, fits, rule, then in _DECORATION:
            if name in names and not fits(value):
                refuse(called, name, value, rule, then)


def unknown_parameter(called: str, name: str, known: Iterable[str]) -> str:
    """The text for a keyword that a decorator does not have."""
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]}?" if near else "Extra fields go to metadata={...}."
    return f"{called}: unknown parameter {name}. {hint}"


def _is_word(value: Any) -> bool:
    return fits(value, str) or (fits(value, enum.Enum) and fits(value.value, str))


def _is_data(value: Any) -> bool:
    return not callable(value)


_DECORATION: Final[tuple[tuple[frozenset[str], Callable[[Any], bool], str, str], ...]] = (
    (frozenset({"event_type"}), _is_word, "text", f"The types are {', '.join(keys.EVENT_TYPES)}."),
    (frozenset({"event_name"}), _is_word, "text", "Leave it out for the function's own name."),
    (frozenset({"tracer"}), is_tracer, A_TRACER, "Leave it out for the tracer that is current at each call."),
    (
        frozenset({"capture_inputs", "capture_outputs"}),
        lambda value: fits(value, bool),
        "True or False",
        "Leave it out for the tracer's setting.",
    ),
    (
        frozenset({*keys.NAMESPACES, "span_config"}),
        _is_data,
        "a dict",
        "It is read once, when the function is decorated; enrich_span() adds what a call finds out.",
    ),
    (
        frozenset({"source", "project", "session_id", "user_id", "session_name", "error", "event_id", "tags"}),
        _is_data,
        "text",
        "It is read once, when the function is decorated; enrich_span() adds what a call finds out.",
    ),
)


# What kind of function a callable is, and blocks used as decorators.
#
# `inspect` tells functions apart by their code, which an object with `__call__` does not have.

F = TypeVar("F", bound=Callable[..., Any])


def is_kind(function: Any, test: Callable[[Any], bool]) -> bool:
    """Whether a callable passes a test of `inspect`, such as `iscoroutinefunction`, itself or by its `__call__`."""
    function = without_partial(function)
    return test(function) or (callable(function) and not inspect.isroutine(function) and test(type(function).__call__))


def without_partial(function: Any) -> Any:
    """The function below any `functools.partial`."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def each_call_in(called: str, function: F, block: Callable[[], AbstractContextManager[Any]]) -> F:
    """`function` with a block of its own around each call.

    Args:
        called: the call that made the block, for error messages.
        function: a function, coroutine function or generator function.
        block: makes a block; calls may overlap, so no two share one.

    Raises:
        SettingTypeError: it is no function, or an async generator function.
    """
    given: Any = function
    if inspect.isclass(given) or not callable(given):
        refuse(called, "function", function, "a function", f"As a block: with tracer.{called}(...).")
    if is_kind(given, inspect.isasyncgenfunction):
        then = f"Write the block, with tracer.{called}(...), inside it."
        refuse(called, "function", function, "no async generator function", then)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with block():
            return function(*args, **kwargs)

    @functools.wraps(function)
    async def coroutine_wrapper(*args: Any, **kwargs: Any) -> Any:
        with block():
            return await function(*args, **kwargs)

    @functools.wraps(function)
    def generator_wrapper(*args: Any, **kwargs: Any) -> Any:
        with block():
            return (yield from function(*args, **kwargs))

    if is_kind(given, inspect.isgeneratorfunction):
        return cast(F, generator_wrapper)
    return cast(F, coroutine_wrapper if is_kind(given, inspect.iscoroutinefunction) else wrapper)
