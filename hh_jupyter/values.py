"""Any Python value as an attribute, as plain data or as text: bounded, and never an exception.

It runs on the caller's time, so what is read of one value is bounded: `MAX_NODES`, `MAX_TEXT`, `MAX_DEPTH` and, where
reading runs the user's code, `MAX_SECONDS`. What is left out is said where it was.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import itertools
import json
import re
import time
from collections.abc import Iterable, Mapping, MappingView, Sequence, Set
from itertools import islice
from math import isfinite
from types import ModuleType, SimpleNamespace
from typing import Any, Final

__all__ = ["flatten", "plain", "scalar", "text_of"]

# One text for anything: the same for equal values, of bounded length, and never an exception.
#
# Nothing is imported to recognise a value: numpy, pandas, torch and the like are known by what their types offer.
# Questions are asked of `type(value)`, not of the value, since a proxy or a mock answers to everything.

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
    return f"<{type_name(type(value))} without text>"


def type_name(kind: type) -> str:
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
        return f"<{type_name(kind)} of {len(value):,} items>"
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
    return f"<{type_name(kind)} of shape {shape}{more}>"


def _columns_text(table: Any) -> str:
    columns, dtypes = getattr(table, "columns", None), getattr(table, "dtypes", None)
    if columns is None or dtypes is None:
        return ""
    shown = [
        f"{text_of(name)} {dtype}" for name, dtype in itertools.islice(zip(columns, dtypes, strict=False), MAX_SHOWN)
    ]
    more = len(columns) - len(shown)
    return f": {', '.join(shown)}{f' and {more:,} more' if more > 0 else ''}"


# The fields of records: dataclasses, named tuples, attrs, pydantic (1 and 2) and msgspec, none of them imported.
#
# A field that its class keeps out of the repr is left out here as well: that is where secrets are.


def fields_of(value: Any, kind: type) -> Mapping[str, Any] | None:
    """Fields by name, as declared; None if `kind`, the value's type, is no record."""
    if issubclass(kind, tuple):
        names = getattr(kind, "_fields", None)
        return dict(zip(names, tuple.__iter__(value), strict=False)) if isinstance(names, tuple) else None
    declared = getattr(kind, "__dataclass_fields__", None)
    if isinstance(declared, dict):
        return _read(value, (field.name for field in dataclasses.fields(value) if field.repr))
    for fields in (getattr(kind, "__pydantic_fields__", None), getattr(kind, "model_fields", None)):
        if isinstance(fields, Mapping):
            return _pydantic(value, fields)
    attributes = getattr(kind, "__attrs_attrs__", None)
    if isinstance(attributes, tuple):
        return _read(value, (attribute.name for attribute in attributes if attribute.repr))
    names = getattr(kind, "__struct_fields__", None)  # msgspec
    if isinstance(names, tuple):
        return _read(value, names)
    if issubclass(kind, SimpleNamespace) or isinstance(getattr(kind, "__fields__", None), dict):  # pydantic 1
        return dict(vars(value))
    return None


def _pydantic(value: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    """From the instance's own dict, since a model may compute on attribute access; undeclared fields come last."""
    found = vars(value)
    shown = {name: found[name] for name, field in fields.items() if name in found and getattr(field, "repr", True)}
    return {**shown, **(getattr(value, "__pydantic_extra__", None) or {})}


def _read(value: Any, names: Iterable[str]) -> dict[str, Any]:
    return {name: _attribute(value, name) for name in names}


def _attribute(value: Any, name: str) -> Any:
    try:
        return getattr(value, name, None)
    except Exception:  # boundary: a computed field may do anything; the others are still worth showing.
        return "<unreadable>"


MAX_DEPTH: Final = 20
MAX_KEYS: Final = 1_024
"""Attributes made of one value, as many as a span holds by default: a data set given as metadata must not become a
million of them."""

MAX_KEY: Final = 1_000
"""Characters of one key."""

MAX_NODES: Final = 10_000
"""Values looked at inside one value: twenty objects that know each other are a tree without end."""

MAX_SECONDS: Final = 0.5
"""For values whose reading runs the user's code: lazy rows, remote attributes. Looked at between two of them."""

INT64: Final = 2**63
_JSON_INT: Final = 2**126

Scalar = str | bool | int | float
_SCALAR_TYPES: Final = frozenset({str, bool, int, float})
_JSON_TYPES: Final = frozenset({str, bool, int, float, dict, list})
# Tuples, since a union written in an expression is made anew each time.
_FLATTENED: Final = (dict, list)
_LISTS: Final = (Sequence, Set, MappingView)
_SETS: Final = (set, frozenset)
_NO_LISTS: Final = (str, bytes, bytearray, memoryview, range)


def flatten(prefix: str, value: Any) -> dict[str, Scalar]:
    """Attributes for a value: dict keys and list indices are appended after a dot (contract, section 3).

    None and empty containers leave nothing. At most `MAX_KEYS` attributes are made; that some are missing is said.
    """
    found: dict[str, Scalar] = {}
    reader = _Reader()
    reader.flatten(found, prefix, value, ())
    if reader.cut:
        found[f"{prefix}.hh_truncated"] = f"more than {MAX_KEYS:,} values" if len(found) >= MAX_KEYS else "too large"
    return found


def scalar(value: Any) -> Scalar:
    """One attribute value: scalars as they are, containers as JSON, everything else as stable text."""
    kind = type(value)
    if kind is str:
        return clean(value)
    if kind is bool or kind is float:
        return value  # type: ignore[no-any-return]
    if kind is int and -INT64 <= value < INT64:
        return value  # type: ignore[no-any-return]
    return _Reader().scalar(value, ())


def plain(value: Any) -> Any:
    """Data that JSON can hold. Deep, wide and entangled values are cut, and it says so."""
    return _Reader().data(value, ())


class _Reader:
    """Reads one value within its budget.

    Attributes:
        cut: something was left out because there was too much.
    """

    __slots__ = ("_characters", "_deadline", "_nodes", "cut")

    def __init__(self) -> None:
        self.cut = False
        self._nodes = MAX_NODES
        self._characters = MAX_TEXT
        self._deadline = 0.0

    def flatten(self, found: dict[str, Scalar], key: str, value: Any, inside: tuple[int, ...]) -> None:
        """Write the attributes of `value` into `found`; `inside` are the ids of the containers it is in."""
        kind = type(value)
        if value is None:
            return
        if not issubclass(kind, _FLATTENED) or len(inside) >= MAX_DEPTH:
            found[key] = self.scalar(value, inside)
            return
        if id(value) in inside:
            found[key] = "<cycle>"
            return
        inside = (*inside, id(value))
        try:
            for name, item in self._entries(value, kind):
                if len(found) >= MAX_KEYS or self._nodes <= 0 or self._characters <= 0:
                    self.cut = True
                    return
                label = f"{key}.{self._key(name)}"
                leaf = type(item)
                if leaf is str:  # Texts and numbers are most of all; a call for each would double the cost.
                    found[label] = self._text(item)
                elif leaf is bool or leaf is float or (leaf is int and -INT64 <= item < INT64):
                    found[label] = item
                else:
                    self.flatten(found, label, item, inside)
        except Exception:  # boundary: a user's container may do anything when it is read.
            found[key] = unreadable(value)

    def scalar(self, value: Any, inside: tuple[int, ...]) -> Scalar:
        """One attribute value; containers as JSON."""
        try:
            if type(value) not in _JSON_TYPES:
                value = _reduced(value)
            kind = type(value)
            if kind is bool or kind is float or (kind is int and -INT64 <= value < INT64):
                self._nodes -= 1
                return value  # type: ignore[no-any-return]
            data = self.data(value, inside)
            return data if type(data) is str else json.dumps(data, ensure_ascii=False)
        except Exception:  # boundary: the call that is traced must not notice what its values do when they are read.
            return unreadable(value)

    def data(self, value: Any, inside: tuple[int, ...]) -> Any:
        """What JSON can hold."""
        self._nodes -= 1
        kind = type(value)
        if kind is str:
            return self._text(value)
        if value is None or kind is bool:
            return value
        if kind is int:
            return value if -_JSON_INT < value < _JSON_INT else text_of(value)
        if kind is float:
            return value if isfinite(value) else str(value)
        try:
            if kind is dict or kind is list:
                return self._container(value, kind, kind is dict, inside)
            return self._object(value, kind, inside)
        except Exception:  # boundary: as above.
            return unreadable(value)

    def _object(self, value: Any, kind: type, inside: tuple[int, ...]) -> Any:
        """Anything that is not of JSON's own types; reading it may run the user's code."""
        if self._late():
            return f"<{type_name(kind)}>"
        reduced = _reduced(value)
        if reduced is not value:
            return self.data(reduced, (*inside, id(value))) if len(inside) < MAX_DEPTH else text_of(reduced)
        fields = None if issubclass(kind, type) else fields_of(value, kind)
        if fields is not None:
            return self._container(fields, dict, True, (*inside, id(value))) if id(value) not in inside else "<cycle>"
        is_mapping = issubclass(kind, Mapping)
        if is_mapping or (issubclass(kind, _LISTS) and not issubclass(kind, _NO_LISTS)):
            return self._container(value, kind, is_mapping, inside)
        text = text_of(value)
        return self._text(f"{type_name(kind)}: {text}" if issubclass(kind, BaseException) else text)

    def _container(self, value: Any, kind: type, is_mapping: bool, inside: tuple[int, ...]) -> Any:
        if id(value) in inside:
            return "<cycle>"
        if len(inside) >= MAX_DEPTH or self._nodes <= 0:
            return f"<{type_name(kind)}>"
        inside = (*inside, id(value))
        found: dict[str, Any] = {}
        items: list[Any] = []
        read = 0
        try:
            for key, item in self._entries(value, kind):
                if self._nodes <= 0 or self._characters <= 0:
                    break
                if is_mapping:
                    found[self._key(key)] = self.data(item, inside)
                else:
                    items.append(self.data(item, inside))
                read += 1
            more = self._more(value, read)
        except Exception:  # boundary: what was read before it failed is worth having.
            more = "unreadable"
        if is_mapping:
            return {**found, "...": more} if more else found
        if issubclass(kind, _SETS):
            items.sort(key=_order)
        return [*items, f"... {more}"] if more else items

    def _entries(self, value: Any, kind: type) -> Iterable[tuple[Any, Any]]:
        """Key and item of a container's first entries. A dict is copied at once, since threads may change it."""
        if kind is dict:
            size = len(value)
            return list(value.items()) if size <= self._nodes else list(islice(value.items(), self._nodes + 1))
        return enumerate(value) if not issubclass(kind, Mapping) else islice(value.items(), self._nodes + 1)

    def _more(self, value: Any, read: int) -> str:
        """What is said of the entries that were not read; empty if all were."""
        left = len(value) - read
        if left <= 0:
            return ""
        self.cut = True
        return f"{left:,} more"

    def _late(self) -> bool:
        """Whether the time is over; the clock starts with the first object."""
        now = time.monotonic()
        self._deadline = self._deadline or now + MAX_SECONDS
        if now > self._deadline:
            self._nodes = 0
            self.cut = True
        return self._nodes <= 0

    def _key(self, key: Any) -> str:
        text: str = key if type(key) is str else text_of(key)
        if len(text) > MAX_KEY or not text.isascii():
            # The end stays too: long keys are paths, and differ there.
            text = clean(text if len(text) <= MAX_KEY else f"{text[: MAX_KEY // 2]}...{text[-MAX_KEY // 2 :]}")
        self._characters -= len(text)
        return text

    def _text(self, text: str) -> str:
        if len(text) > self._characters or not text.isascii():
            text = clean(text, max(self._characters, 0))
        self._characters -= len(text)
        return text


def _reduced(value: Any) -> Any:
    """The plain scalar inside enums, subclasses of scalars, and numbers of numpy and torch; else the value itself."""
    kind = type(value)
    if issubclass(kind, enum.Enum):
        return value._value_
    if kind in _SCALAR_TYPES:
        return value
    if issubclass(kind, str):
        return str.__str__(str(value))
    if issubclass(kind, int):
        return int.__pos__(value)
    if issubclass(kind, float):
        return float.__pos__(value)
    if getattr(kind, "shape", None) is not None and value.shape == () and callable(getattr(kind, "item", None)):
        return value.item()
    return value


def _order(data: Any) -> tuple[bool, float, str]:
    """Sorts members of a set: numbers first, by size, then everything else by its text."""
    is_number = isinstance(data, int | float)
    return (not is_number, data if is_number else 0, "" if is_number else json.dumps(data, sort_keys=True))


# Values that stand on other people's spans, made plain before they are redacted, cut and encoded.
#
# Anybody may write onto a span what OpenTelemetry lets through: subclasses of text (which no rule for texts would
# look at), numpy's numbers, lists with gaps, bytes, dicts. No code of theirs runs here, on the sealing thread.

_EXACT: Final = frozenset({str, bool, int, float})
_NUMBER: Final = 8  # bytes of one on the wire, about


def copy_attributes(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    """The attributes of a span, event or link as a dict of our own.

    OpenTelemetry's mapping copies itself ten times as fast as `dict` can read it, item by item.
    """
    copy = getattr(attributes, "copy", None)
    found = copy() if copy is not None else attributes or {}
    return found if type(found) is dict else dict(found)


def plain_values(attributes: dict[str, Any]) -> dict[str, Any]:
    """Attributes with texts, numbers and lists of them only; the same dict if it has no others."""
    if _EXACT.issuperset(map(type, attributes.values())):  # As nearly all spans have it.
        return attributes
    odd = {key: value for key, value in attributes.items() if type(value) not in _EXACT}
    changed = {key: plain for key, value in odd.items() if (plain := _plain_value(value)) is not value}
    return {**attributes, **changed} if changed else attributes


def drop_largest(attributes: dict[str, Any], room: int) -> tuple[dict[str, Any], int]:
    """Attributes without the largest ones, so many that the others fit.

    Args:
        room: characters of keys and values.

    Returns:
        what is kept, and what is then left of the room, at least 0.
    """
    left = room - sum(map(len, attributes)) - sum(map(_size, attributes.values()))
    if left >= 0:
        return attributes, left
    sizes = {key: len(key) + _size(value) for key, value in attributes.items()}
    dropped = set()
    for key in sorted(sizes, key=sizes.__getitem__, reverse=True):
        dropped.add(key)
        left += sizes[key]
        if left >= 0:
            break
    return {key: value for key, value in attributes.items() if key not in dropped}, max(left, 0)


def _size(value: Any) -> int:
    if type(value) is str:
        return len(value)
    return sum(map(_size, value)) if isinstance(value, list | tuple) else _NUMBER


def _plain_value(value: Any) -> Any:
    if isinstance(value, list | tuple):
        if all(item is None or type(item) in _EXACT for item in value):
            return value
        if any(isinstance(item, Mapping | list | tuple) for item in value):
            return _json(value)
        return tuple(_plain_value(item) for item in value)
    if value is None or type(value) in _EXACT:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__pos__(value)
    if isinstance(value, float):
        return float.__pos__(value)
    if isinstance(value, bytes):
        return _bytes_text(value)
    return _json(value) if isinstance(value, Mapping | Sequence) else _named(value)


def _bytes_text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"<{len(value):,} bytes>"


def _json(value: Any) -> str:
    """A container as our own are written; one without an end by the name of its type."""
    try:
        found = dict(value) if isinstance(value, Mapping) else value
        return json.dumps(found, ensure_ascii=False, skipkeys=True, default=_nested)
    except (ValueError, RecursionError):
        return _named(value)


def _nested(value: Any) -> Any:
    return (
        dict(value) if isinstance(value, Mapping) else _bytes_text(value) if isinstance(value, bytes) else _named(value)
    )


def _named(value: Any) -> str:
    return f"<{type(value).__name__}>"


# Dicts that threads fill and that must not grow: the oldest entries make room, without a lock.


def evict_oldest(kept: dict[Any, Any], limit: int) -> None:
    """Drop the entries that were put in first until `limit` are left.

    Takes no lock, since it runs inside destructors too. Other threads may fill and empty the dict at the same time.
    """
    while len(kept) > limit:
        try:
            oldest = next(iter(kept))
        except (RuntimeError, StopIteration):  # Another thread was here between the two calls.
            continue
        kept.pop(oldest, None)


def as_object(value: Any) -> Mapping[str, Any]:
    """The backend takes objects only; anything else is kept under `value`, and None is an empty one."""
    return value if isinstance(value, Mapping) else ({} if value is None else {"value": value})
