"""One text for anything: the same for equal values, of bounded length, and never an exception.

Nothing is imported to recognise a value: numpy, pandas, torch and the like are known by what their types offer.
Questions are asked of `type(value)`, not of the value, since a proxy or a mock answers to everything.
"""

from __future__ import annotations

import datetime
import enum
import itertools
import re
from types import ModuleType
from typing import Any, Final

MAX_TEXT: Final = 1_000_000
"""Characters of one value; sealing cuts the span as a whole."""

MAX_NAME: Final = 200
"""Characters of a type's name, which may be made up at run time."""

MAX_SHOWN: Final = 20
"""Columns of a table, and members of a tuple, that are named."""

_ADDRESS: Final = re.compile(r"(?: object)? at 0x[0-9A-Fa-f]+|(?<=[ <])id='\d+'| id='\d+'")
"""Where an object is in memory, as default reprs and mocks tell it: another one in every process."""

_BYTES: Final = (bytes, bytearray)
_DATES: Final = (datetime.date, datetime.time)
_CONTAINERS: Final = (tuple, list, dict, set, frozenset)


def text_of(value: Any) -> str:
    """The text that stands for a value: as a key, a name, a message."""
    kind = type(value)
    if kind is str:
        return clean(value)
    try:
        return clean(_text(value, kind))
    except Exception:  # boundary: str() of a user's object may do anything; the call that is traced must not notice.
        return unreadable(value)


def unreadable(value: Any) -> str:
    """What stands for a value that cannot be read."""
    return f"<{name_of(type(value))} without text>"


def name_of(kind: type) -> str:
    """A type's name, not asking its metaclass."""
    name: str = type.__dict__["__name__"].__get__(kind)
    return clean(name, MAX_NAME)


def clean(text: str, limit: int = MAX_TEXT) -> str:
    """The text cut to `limit` characters, saying how many there were, in a form that the wire can hold."""
    if len(text) > limit:
        text = f"{text[:limit]}... ({len(text):,} characters)"
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:  # Lone surrogates: protobuf would refuse the whole span.
        return text.encode("utf-8", "replace").decode("utf-8")
    return text


def _text(value: Any, kind: type) -> str:
    if issubclass(kind, enum.Enum):
        return text_of(value._value_)
    if issubclass(kind, str | BaseException):
        return str.__str__(str(value))
    if issubclass(kind, int) and int.bit_length(value) > 10_000:  # Python refuses to write out longer ones.
        return f"<int of {int.bit_length(value):,} bits>"
    if issubclass(kind, _CONTAINERS) and len(value) > MAX_SHOWN:
        return f"<{name_of(kind)} of {len(value):,} items>"
    if issubclass(kind, _BYTES):
        return f"<{len(value):,} bytes>" if len(value) != 1 else "<1 byte>"
    if issubclass(kind, memoryview):
        return f"<{value.nbytes:,} bytes>"
    if issubclass(kind, _DATES):
        return str(value.isoformat())
    if issubclass(kind, ModuleType):
        return f"<module {value.__name__}>"
    shaped = _shape_text(value, kind)
    return _ADDRESS.sub("", clean(str(value))) if shaped is None else shaped


def _shape_text(value: Any, kind: type) -> str | None:
    """Arrays, tensors and tables by what they are, not by what they hold; None for anything else."""
    if getattr(kind, "shape", None) is None:
        return None
    try:
        shape = tuple(int(length) for length in itertools.islice(value.shape, MAX_SHOWN))
    except (TypeError, ValueError):  # A circle has a shape too.
        return None
    dtype = getattr(value, "dtype", None)
    more = _columns_text(value) if dtype is None else f", {dtype}"
    return f"<{name_of(kind)} of shape {shape}{more}>"


def _columns_text(table: Any) -> str:
    columns, dtypes = getattr(table, "columns", None), getattr(table, "dtypes", None)
    if columns is None or dtypes is None:
        return ""
    shown = [
        f"{text_of(name)} {dtype}" for name, dtype in itertools.islice(zip(columns, dtypes, strict=False), MAX_SHOWN)
    ]
    more = len(columns) - len(shown)
    return f": {', '.join(shown)}{f' and {more:,} more' if more > 0 else ''}"
