"""Check arguments: a wrong one raises during set-up, and logs one warning while the program runs.

`hh_jupyter.errors` states which calls count as set-up.
"""

from __future__ import annotations

import enum
import functools
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NoReturn, TypeVar

from hh_jupyter import attributes as keys
from hh_jupyter.errors import SettingTypeError
from hh_jupyter.settings import ARGUMENTS, TABLE
from hh_jupyter.values import text_of, type_name

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

logger = logging.getLogger(__name__)

FLUSH_MILLIS: Final = 30_000
LONGEST_MILLIS: Final = 86_400_000
A_TRACER: Final = "a HoneyHiveTracer"
TRACER_MARKER: Final = "is_honeyhive_tracer"
"""Class attribute by which this module recognizes a tracer without importing its class."""

MAX_WARNINGS: Final = 1_000
"""Distinct warnings that a process logs; further ones are dropped."""

_warned: set[tuple[str, str]] = set()


def safe_isinstance(value: Any, *types: type) -> bool:
    """`isinstance` that ignores `__class__`, which may raise on a proxy or a dead weak reference."""
    try:
        return issubclass(type(value), types)
    except Exception:  # boundary: abstract classes raise for a class whose metaclass is not hashable.
        return False


def argument_message(called: str, name: str, value: Any, rule: str, then: str) -> str:
    """The message for one wrong argument.

    Args:
        called: the call, as the user wrote it.
        name: the argument's name.
        rule: the end of the sentence "<name> must be ...".
        then: what to do, or what happens instead; a sentence.
    """
    from hh_jupyter.redaction import shown  # Compiling its rules takes longer than creating a tracer.

    return f"{called}: {name} must be {rule}; got {shown(name, value)} ({type_name(type(value))}). {then}"


def raise_argument_error(called: str, name: str, value: Any, rule: str, then: str) -> NoReturn:
    """Raise for a wrong argument during set-up.

    Raises:
        SettingTypeError: always.
    """
    raise SettingTypeError(argument_message(called, name, value, rule, then))


def warn_argument_once(called: str, name: str, value: Any, rule: str, then: str) -> None:
    """Log a warning for a wrong argument in a running program, once per argument of each call."""
    if _first_time(called, name):
        logger.warning("%s", argument_message(called, name, value, rule, then))


def warn_once(about: str, text: str, *values: Any) -> None:
    """Log a warning once per process.

    Args:
        about: identifies the warning; its text may differ between calls.
        text: the message, with a `{}` for each value.
        values: redacted if they look like secrets.
    """
    if _first_time("", about):
        from hh_jupyter.redaction import shown  # Not at import: see `complaint`.

        logger.warning("%s", text.format(*(shown(about, value) for value in values)))


def _first_time(called: str, about: str) -> bool:
    if (called, about) in _warned or len(_warned) >= MAX_WARNINGS:
        return False
    _warned.add((called, about))
    return True


def checked_event_type(called: str, value: Any, hint: str = "") -> str:
    """The text of an event type. Logs one warning for each value that is not a documented type; it is still sent.

    Args:
        hint: added to the warning if the value does not resemble any of the types.
    """
    text = value if type(value) is str else text_of(value)
    if text and text not in keys.EVENT_TYPES and text != "session" and _first_time("event_type", text[:80]):
        from difflib import get_close_matches

        from hh_jupyter.redaction import shown  # Lazy: see `argument_message`.

        near = get_close_matches(text.lower(), keys.EVENT_TYPES, n=1)
        unchanged = f"Sending {shown('event_type', text)} unchanged."
        then = f"Did you mean {near[0]!r}? {unchanged}" if near else f"{unchanged}{hint}"
        logger.warning(
            "%s", argument_message(called, "event_type", text, f"one of {', '.join(keys.EVENT_TYPES)}", then)
        )
    return text


def is_tracer(value: Any) -> bool:
    """Whether the value is a `HoneyHiveTracer` of this package; the official SDK's does not count."""
    try:
        return getattr(type(value), TRACER_MARKER, False) is True
    except Exception:  # boundary: attribute access on a class may raise anything (metaclass).
        return False


def tracer_or_none(called: str, name: str, value: T | None, then: str = "The current tracer is used.") -> T | None:
    """The given tracer; None for anything else, with a warning unless it is None."""
    if value is None or is_tracer(value):
        return value
    warn_argument_once(called, name, value, A_TRACER, then)
    return None


def checked_timeout_millis(called: str, value: Any) -> float:
    """A time limit in milliseconds, limited to 0 to one day; the documented 30 seconds if it is not a number."""
    if safe_isinstance(value, int, float) and not safe_isinstance(value, bool) and value == value:  # Not NaN.
        return float(max(0, min(value, LONGEST_MILLIS)))
    if value is not None:
        warn_argument_once(
            called, "timeout_millis", value, "a number of milliseconds", f"{FLUSH_MILLIS:,} ms are used."
        )
    return FLUSH_MILLIS


def is_given(value: Any) -> bool:
    """Whether the value is neither None nor empty text. Does not use `bool(value)`, which arrays do not support."""
    return value is not None and not (safe_isinstance(value, str, bytes) and not value)


def checked_bool(called: str, name: str, value: Any, *, default: bool) -> bool:
    """The value as a bool; the default, with a warning, if it is neither a bool nor a number."""
    if type(value) is bool:  # Quick: called for every span.
        return value
    if safe_isinstance(value, int, float):
        return bool(value)
    warn_argument_once(called, name, value, "True or False", f"{default} is used.")
    return default


def check_decorator_arguments(called: str, arguments: Mapping[str, Any]) -> None:
    """Check the parameters of a decorator.

    Data of any type is accepted; obvious mistakes raise, such as a function in place of a dict.

    Raises:
        SettingTypeError: a parameter has an impossible type.
    """
    for name, value in arguments.items():
        if value is None or name not in _DECORATOR_RULES:
            continue
        accepts, rule, then = _DECORATOR_RULES[name]
        if not accepts(value):
            raise_argument_error(called, name, value, rule, then)


def unknown_parameter_message(called: str, name: str, known: Iterable[str]) -> str:
    """The message for a keyword that a decorator does not have."""
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]}?" if near else "Pass extra fields in metadata={...}."
    return f"{called}: unknown parameter {name}. {hint}"


def _is_word(value: Any) -> bool:
    return safe_isinstance(value, str) or (safe_isinstance(value, enum.Enum) and safe_isinstance(value.value, str))


def _is_bool(value: Any) -> bool:
    return safe_isinstance(value, bool)


def _is_data(value: Any) -> bool:
    return not callable(value)


_READ_ONCE: Final = "It is read once, when the function is decorated; use enrich_span() to add values of one call."
_TEXTS: Final = ("source", "project", "session_id", "user_id", "session_name", "error", "event_id", "tags")
_DECORATOR_RULES: Final[dict[str, tuple[Callable[[Any], bool], str, str]]] = {
    "event_type": (_is_word, "text", f"Use one of {', '.join(keys.EVENT_TYPES)}."),
    "event_name": (_is_word, "text", "Omit it to use the function's own name."),
    "tracer": (is_tracer, A_TRACER, "Omit it to use the tracer that is current at each call."),
    **dict.fromkeys(
        ("capture_inputs", "capture_outputs"), (_is_bool, "True or False", "Omit it to use the tracer's setting.")
    ),
    **dict.fromkeys((*keys.NAMESPACES, "span_config"), (_is_data, "a dict", _READ_ONCE)),
    **dict.fromkeys(_TEXTS, (_is_data, "text", _READ_ONCE)),
}
"""Parameter -> what it accepts, the rule in words, and what to do."""


# The kind of a callable: function, coroutine function, generator function.


def callable_matches(function: Any, test: Callable[[Any], bool]) -> bool:
    """Whether a callable, or its `__call__` method, passes a test of `inspect` such as `iscoroutinefunction`."""
    function = unwrap_partial(function)
    return test(function) or (callable(function) and not inspect.isroutine(function) and test(type(function).__call__))


def unwrap_partial(function: Any) -> Any:
    """The function inside any number of `functools.partial`."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


# Config objects: the official SDK also accepts settings as objects in positional arguments.


def with_config_objects(objects: Mapping[str, Any], keywords: Mapping[str, Any], called: str) -> dict[str, Any]:
    """Merge config objects and keywords; later objects override earlier ones, and keywords override all objects.

    Args:
        objects: parameter name -> a dict, a pydantic model, or any object with settings as attributes. Of a model only
            explicitly set fields are used, not its defaults.
        keywords: None means not given.

    Raises:
        SettingTypeError: an object without settings, such as a key passed by position.
    """
    settings: dict[str, Any] = {}
    for name, value in objects.items():
        if value is not None:
            settings.update(_fields(called, name, value))
    settings.update({name: value for name, value in keywords.items() if value is not None})
    return settings


def _fields(called: str, name: str, value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        found: Mapping[Any, Any] = value
    elif callable(getattr(value, "model_dump", None)) and not isinstance(value, type):
        found = value.model_dump(exclude_unset=True)
    elif hasattr(value, "__dict__") and not callable(value) and _holds_settings(value):
        found = vars(value)
    else:
        raise SettingTypeError(
            f"{called}: {name} must be a dict or a config object; got {_kind(value)}. "
            "Pass settings by name: api_key=..."
        )
    return {str(field): item for field, item in found.items() if item is not None and not str(field).startswith("_")}


def _holds_settings(value: Any) -> bool:
    return any(field in TABLE or field in ARGUMENTS for field in vars(value))


def _kind(value: Any) -> str:
    """The type of a value; not the value itself, which may be a key: `HoneyHiveTracer("...")`."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    without = ", none of whose attributes is a setting" if hasattr(value, "__dict__") and not callable(value) else ""
    return f"a {type(value).__name__}{without}"
