"""The error of a failed span in one line: what was raised, what it said, and where in the user's own code."""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from hh_jupyter import attributes as keys
from hh_jupyter.conventions.facts import EventLike
from hh_jupyter.records.record import SpanError

MESSAGE_LENGTH: Final = 300

_EVENT: Final = "exception"
_TYPE: Final = "exception.type"
_MESSAGE: Final = "exception.message"
_STACK: Final = "exception.stacktrace"
_OTEL_TYPE: Final = "error.type"

# In the order of trust: a status that is called one, one that begins the text, one in a provider's error object.
_STATUS_TEXTS: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\b(?:error|status)[ _-]?code\W{0,4}([45]\d\d)\b",
        r"\b(?:HTTP(?:/\d(?:\.\d)?)?(?: error)?|status)\W{0,3}([45]\d\d)\b",
        r"^\W*([45]\d\d)(?-i:$|[ :,-]+[A-Z{])",
        r"\b(?:client|server) error\W{0,3}([45]\d\d)\b",
        r"""["']code["']: ([45]\d\d)\b""",
        r"\(([45]\d\d)\)",
    )
)
_SEARCHED_LENGTH: Final = 20_000

_FRAME = re.compile(r'^[ |+]*File "(?P<file>[^"\n]+)", line (?P<line>\d+)', re.MULTILINE)
# "RateLimitError: too many", as OpenInference and HoneyHive write a status; a sentence with a colon is no type.
_NAMED = re.compile(r"(?P<type>[A-Za-z_][\w.]*)(?:: (?P<message>.*))?", re.DOTALL)
_LIBRARY_PARTS: Final = frozenset({"site-packages", "dist-packages"})
_STDLIB_PART = re.compile(r"/lib(?:64)?/python3\.\d+/")
_STDLIB: Final = sysconfig.get_paths()["stdlib"]
_OWN_PACKAGE: Final = str(Path(__file__).resolve().parents[1])
_KERNEL_PART = re.compile(r"[\\/]ipykernel_\d+[\\/]|^<ipython-input-")


def span_error(
    attributes: Mapping[str, Any], events: Sequence[EventLike], status_message: str | None
) -> SpanError | None:
    """The error of a span whose status says ERROR; None if nothing tells what it was.

    The message comes from the last exception event, else the status, else `error.type`, else `honeyhive_error`. Ask
    only for failed spans: a span that handled an exception may carry its event too.

    Args:
        attributes: of the span, redacted.
        events: of the span, redacted.
        status_message: description of the status, redacted.
    """
    raised = next((event.attributes or {} for event in reversed(events) if event.name == _EVENT), None)
    if raised is not None and (raised.get(_TYPE) or raised.get(_MESSAGE)):
        return _error(raised.get(_TYPE), raised.get(_MESSAGE), user_code_location(str(raised.get(_STACK) or "")))
    kind = attributes.get(_OTEL_TYPE) or attributes.get(keys.ERROR_TYPE)
    said = status_message or attributes.get(keys.ERROR)
    if kind:
        named = _NAMED.fullmatch(said) if isinstance(said, str) else None
        repeated = named is not None and _class_name(named["type"]) == _class_name(str(kind))
        return _error(kind, (named["message"] or "") if named and repeated else said, None)
    if not said:
        return None
    named = _NAMED.fullmatch(str(said))
    if named and (named["message"] or named["type"].endswith(("Error", "Exception", "Interrupt"))):
        return _error(named["type"], named["message"], None)
    return _error("Error", said, None)


def user_code_location(stacktrace: str) -> str | None:
    """The innermost line of user code as "file.py:41"; of a chain of errors the last that has one. None without any.

    Frames of installed packages, of the standard library and of this package are passed over. A line of a notebook
    cell, whose file has no name that anybody knows, reads "cell:3".
    """
    for frame in reversed(list(_FRAME.finditer(stacktrace))):
        file = frame["file"]
        if _KERNEL_PART.search(file):
            return f"cell:{frame['line']}"
        if _is_user_code(file):
            return f"{file.replace(chr(92), '/').rpartition('/')[2]}:{frame['line']}"
    return None


@lru_cache(maxsize=1024)
def _is_user_code(file: str) -> bool:
    path = file.replace("\\", "/")
    return not (
        file.startswith(("<", _STDLIB, _OWN_PACKAGE))
        or not _LIBRARY_PARTS.isdisjoint(path.split("/"))
        or _STDLIB_PART.search(path)
    )


def _error(kind: Any, message: Any, location: str | None) -> SpanError:
    lines = str(message or "").strip().splitlines()
    first = lines[0].strip() if lines else ""
    if len(first) > MESSAGE_LENGTH:
        first = first[: MESSAGE_LENGTH - 1] + "…"
    name = _class_name(str(kind or "Error"))
    if name.isdecimal():  # OpenTelemetry allows a status as `error.type`; the message may repeat it.
        name, first = f"HTTP {name}", first.removeprefix(name).lstrip(" :-")
    return SpanError(type=name, message=first, location=location, http_status=_http_status(name, str(message or "")))


def _http_status(kind: str, message: str) -> int | None:
    """The HTTP status in an error's type, which may be one, or in its message, whose first line may not have it."""
    texts = (kind, message[:_SEARCHED_LENGTH])
    found = next((match for text in texts for pattern in _STATUS_TEXTS if (match := pattern.search(text))), None)
    return int(found[1]) if found else None


def _class_name(kind: str) -> str:
    return kind.rpartition(".")[2] or kind
