"""Converts any Python value to attributes, plain data or text. The results are bounded, and nothing here raises.

Conversion runs while the caller waits, so `MAX_NODES`, `MAX_TEXT` and `MAX_DEPTH` limit what is read of one value, and
`MAX_SECONDS` limits the time if reading runs the user's code. A marker stands in place of what is left out.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import re
import time
from collections.abc import Iterable, Mapping, MappingView, Sequence, Set
from itertools import islice
from math import isfinite
from types import ModuleType, SimpleNamespace
from typing import Any, Final

# Text for any value: bounded, and the same for equal values.
#
# No library is imported to recognise its values: numpy, pandas and torch are recognised by attributes of their types.
# Attributes are looked up on `type(value)`, not on the value, since a proxy or a mock has every attribute.

MAX_TEXT: Final = 1_000_000
"""Number of characters of one value. The whole span is limited again before export."""

MAX_NAME: Final = 200
"""Number of characters of a type's name, which may be generated at run time."""

MAX_SHOWN: Final = 20
"""Number of columns of a table, and of items of a container used as a key, that are written out."""

_ADDRESS: Final = re.compile(r"(?: object)? at 0x[0-9A-Fa-f]+|(?<=[ <])id='\d+'| id='\d+'")
"""An object's memory address in default reprs and mocks; it differs in every process."""

_BYTES: Final = (bytes, bytearray, memoryview)
_DATES: Final = (datetime.date, datetime.time)
_CONTAINERS: Final = (tuple, list, dict, set, frozenset)


def text_of(value: Any) -> str:
    """Return text for a value that is used as a key, a name or a message."""
    kind = type(value)
    if kind is str:
        return clean(value)
    try:
        return clean(_text(value, kind))
    except Exception:  # boundary: str() of a user's object may raise; the traced call must not fail.
        return unreadable(value)


def unreadable(value: Any) -> str:
    """Return the text for a value whose reading raises."""
    return f"<{type_name(type(value))} without text>"


def type_name(kind: type) -> str:
    """Return a type's name without calling its metaclass."""
    name: str = type.__dict__["__name__"].__get__(kind)
    return clean(name, MAX_NAME)


def clean(text: str, limit: int = MAX_TEXT) -> str:
    """Return the text as valid UTF-8, cut to `limit` characters. Cut text ends with its original length."""
    if len(text) > limit:
        text = f"{text[:limit]}... ({len(text):,} characters)"
    return valid_utf8(text)


def valid_utf8(text: str) -> str:
    """Return the text with lone surrogates replaced by "?": UTF-8 has none, and protobuf and SQLite reject them."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode("utf-8")
    return text


def _text(value: Any, kind: type) -> str:
    if issubclass(kind, enum.Enum):
        return text_of(value._value_)
    if issubclass(kind, str | BaseException):
        return str.__str__(str(value))
    if issubclass(kind, int) and int.bit_length(value) > 10_000:  # Python does not convert longer ones to text.
        return f"<int of {int.bit_length(value):,} bits>"
    if issubclass(kind, _CONTAINERS) and len(value) > MAX_SHOWN:
        return f"<{type_name(kind)} of {len(value):,} items>"
    if issubclass(kind, _BYTES):
        size = memoryview(value).nbytes
        return f"<{size:,} bytes>" if size != 1 else "<1 byte>"
    if issubclass(kind, _DATES):
        return str(value.isoformat())
    if issubclass(kind, ModuleType):
        return f"<module {value.__name__}>"
    shaped = _shape_text(value, kind)
    return _ADDRESS.sub("", clean(str(value))) if shaped is None else shaped


def _shape_text(value: Any, kind: type) -> str | None:
    """Describe an array, tensor or table by type, shape and dtypes; None for anything else."""
    if getattr(kind, "shape", None) is None:
        return None
    try:
        shape = tuple(int(length) for length in islice(value.shape, MAX_SHOWN))
    except (TypeError, ValueError):  # Objects other than arrays may have a `shape`.
        return None
    dtype = getattr(value, "dtype", None)
    more = _columns_text(value) if dtype is None else f", {dtype}"
    return f"<{type_name(kind)} of shape {shape}{more}>"


def _columns_text(table: Any) -> str:
    columns, dtypes = getattr(table, "columns", None), getattr(table, "dtypes", None)
    if columns is None or dtypes is None:
        return ""
    pairs = islice(zip(columns, dtypes, strict=False), MAX_SHOWN)
    shown = [f"{text_of(name)} {dtype}" for name, dtype in pairs]
    more = len(columns) - len(shown)
    return f": {', '.join(shown)}{f' and {more:,} more' if more > 0 else ''}"


# Fields of dataclasses, named tuples, attrs, pydantic (1 and 2) and msgspec classes; none of these is imported.
#
# A field that its class excludes from the repr is left out, since it may hold a secret.


def _fields_of(value: Any, kind: type) -> Mapping[str, Any] | None:
    """Return the declared fields by name; None if `kind`, the value's type, declares no fields."""
    if issubclass(kind, tuple):
        names = getattr(kind, "_fields", None)
        return dict(zip(names, tuple.__iter__(value), strict=False)) if isinstance(names, tuple) else None
    declared = getattr(kind, "__dataclass_fields__", None)
    if isinstance(declared, dict):
        return _read_attributes(value, (field.name for field in dataclasses.fields(value) if field.repr))
    for fields in (getattr(kind, "__pydantic_fields__", None), getattr(kind, "model_fields", None)):
        if isinstance(fields, Mapping):
            return _pydantic_fields(value, fields)
    attributes = getattr(kind, "__attrs_attrs__", None)
    if isinstance(attributes, tuple):
        return _read_attributes(value, (attribute.name for attribute in attributes if attribute.repr))
    names = getattr(kind, "__struct_fields__", None)  # msgspec
    if isinstance(names, tuple):
        return _read_attributes(value, names)
    if issubclass(kind, SimpleNamespace) or isinstance(getattr(kind, "__fields__", None), dict):  # pydantic 1
        return dict(vars(value))
    return None


def _pydantic_fields(value: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Read the instance's dict, since attribute access may run code; undeclared fields come last."""
    values = vars(value)
    declared = {name: values[name] for name, field in fields.items() if name in values and getattr(field, "repr", True)}
    return {**declared, **(getattr(value, "__pydantic_extra__", None) or {})}


def _read_attributes(value: Any, names: Iterable[str]) -> dict[str, Any]:
    return {name: _read_attribute(value, name) for name in names}


def _read_attribute(value: Any, name: str) -> Any:
    try:
        return getattr(value, name, None)
    except Exception:  # boundary: a computed field may raise; the other fields are still recorded.
        return "<unreadable>"


# Attributes and plain data for any value.

MAX_DEPTH: Final = 20
"""Number of nested containers that are read."""

MAX_KEYS: Final = 1_024
"""Number of attributes made of one value, the default limit of a span: a data set as metadata may have a million."""

MAX_KEY: Final = 1_000
"""Number of characters of one key."""

MAX_NODES: Final = 10_000
"""Number of values that are read inside one value: twenty objects that refer to each other form an endless tree."""

MAX_SECONDS: Final = 0.5
"""Time limit for values whose reading runs the user's code, such as lazy rows. It is checked between two of them."""

FEW_KEYS: Final = 16
SHORT_TEXT: Final = 1_000
"""Number of keys, and of characters of each value, within which no limit above is reached."""

INT64: Final = 2**63
_JSON_INT: Final = 2**126

Scalar = str | bool | int | float
_SCALAR_TYPES: Final = frozenset({str, bool, int, float})
_JSON_TYPES: Final = frozenset({str, bool, int, float, dict, list})
# Tuples, since a union in an expression is created each time.
_NUMBERS: Final = (int, float)
_FLATTENED: Final = (dict, list)
_LISTS: Final = (Sequence, Set, MappingView)
_SETS: Final = (set, frozenset)
_NOT_LISTS: Final = (str, bytes, bytearray, memoryview, range)


def flatten(prefix: str, value: Any) -> dict[str, Scalar]:
    """Return attributes for a value: dict keys and list indices are appended to the prefix, separated by dots.

    None and empty containers make no attributes. At most `MAX_KEYS` attributes are made; if some are missing,
    `<prefix>.hh_truncated` gives the reason.
    """
    if type(value) is dict and len(value) <= FEW_KEYS and (flat := _flat(prefix, value)) is not None:
        return flat
    attributes: dict[str, Scalar] = {}
    reader = _Reader()
    reader.flatten(attributes, prefix, value, ())
    if reader.cut:
        reason = f"more than {MAX_KEYS:,} values" if len(attributes) >= MAX_KEYS else "too large"
        attributes[f"{prefix}.hh_truncated"] = reason
    return attributes


def _flat(prefix: str, value: dict[Any, Any]) -> dict[str, Scalar] | None:
    """Return what `flatten` does for a dict of short ASCII text and numbers, which most results are; None for others.

    It runs on the caller's thread after every traced call, and takes a third of the time.
    """
    attributes: dict[str, Scalar] = {}
    for name, item in list(value.items()):  # Copied at once, since other threads may change it.
        kind = type(item)
        if type(name) is not str or not name.isascii() or len(name) > MAX_KEY:
            return None
        if (
            (kind is str and len(item) <= SHORT_TEXT and item.isascii())
            or kind is float
            or (kind is int and -INT64 <= item < INT64)
            or kind is bool
        ):
            attributes[f"{prefix}.{name}"] = item
        elif item is not None:
            return None
    return attributes


def scalar(value: Any) -> Scalar:
    """Return one attribute value: scalars as they are, containers as JSON, everything else as text."""
    kind = type(value)
    if kind is str:
        return clean(value)
    if kind is bool or kind is float or (kind is int and -INT64 <= value < INT64):
        return value  # type: ignore[no-any-return]
    return _Reader().scalar(value, ())


def plain(value: Any) -> Any:
    """Return the value as data that JSON can represent. Large, deep and cyclic values are cut and marked."""
    return None if value is None else _Reader().data(value, ())


def json_text(value: Any) -> str:
    """Return text unchanged, and anything else as JSON in full; for values that came from a span or a model."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except Exception:  # boundary: str() of a user's object may raise; so do cycles and keys that are not text.
        return text_of(value)


def as_object(value: Any) -> Mapping[str, Any]:
    """Return a JSON object, as the backend requires: None as an empty one, anything else as `{"value": ...}`."""
    return value if isinstance(value, Mapping) else ({} if value is None else {"value": value})


class _Reader:
    """Reads one value within the limits.

    Attributes:
        cut: whether something was left out because of a limit.
    """

    __slots__ = ("_characters", "_deadline", "_nodes", "cut")

    def __init__(self) -> None:
        self.cut = False
        self._nodes = MAX_NODES
        self._characters = MAX_TEXT
        self._deadline = 0.0

    def flatten(self, attributes: dict[str, Scalar], key: str, value: Any, parents: tuple[int, ...]) -> None:
        """Add the attributes for `value`; `parents` are the ids of the containers that it is in."""
        kind = type(value)
        if value is None:
            return
        if not issubclass(kind, _FLATTENED) or len(parents) >= MAX_DEPTH:
            attributes[key] = self.scalar(value, parents)
            return
        if id(value) in parents:
            attributes[key] = "<cycle>"
            return
        parents = (*parents, id(value))
        try:
            for name, item in self._entries(value, kind):
                if len(attributes) >= MAX_KEYS or self._nodes <= 0 or self._characters <= 0:
                    self.cut = True
                    return
                item_key = f"{key}.{self._key(name)}"
                item_type = type(item)
                if item_type is str:  # Most items are text or numbers; a recursive call for each would double the cost.
                    attributes[item_key] = self._text(item)
                elif item_type is bool or item_type is float or (item_type is int and -INT64 <= item < INT64):
                    attributes[item_key] = item
                else:
                    self.flatten(attributes, item_key, item, parents)
        except Exception:  # boundary: reading a user's container may raise.
            attributes[key] = unreadable(value)

    def scalar(self, value: Any, parents: tuple[int, ...]) -> Scalar:
        """Return one attribute value; containers as JSON."""
        try:
            if type(value) not in _JSON_TYPES:
                value = _to_scalar(value)
            kind = type(value)
            if kind is bool or kind is float or (kind is int and -INT64 <= value < INT64):
                self._nodes -= 1
                return value  # type: ignore[no-any-return]
            data = self.data(value, parents)
            return data if type(data) is str else json.dumps(data, ensure_ascii=False)
        except Exception:  # boundary: reading a value may raise; the traced call must not fail.
            return unreadable(value)

    def data(self, value: Any, parents: tuple[int, ...]) -> Any:
        """Return the value as data that JSON can represent."""
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
                return self._container(value, kind, kind is dict, parents)
            return self._object(value, kind, parents)
        except Exception:  # boundary: as above.
            return unreadable(value)

    def _object(self, value: Any, kind: type, parents: tuple[int, ...]) -> Any:
        """Return data for a value of any type that is not JSON's; reading it may run the user's code."""
        if self._timed_out():
            return f"<{type_name(kind)}>"
        converted = _to_scalar(value)
        if converted is not value:
            return self.data(converted, (*parents, id(value))) if len(parents) < MAX_DEPTH else text_of(converted)
        fields = None if issubclass(kind, type) else _fields_of(value, kind)
        if fields is not None:
            return self._container(fields, dict, True, (*parents, id(value))) if id(value) not in parents else "<cycle>"
        is_mapping = issubclass(kind, Mapping)
        if is_mapping or (issubclass(kind, _LISTS) and not issubclass(kind, _NOT_LISTS)):
            return self._container(value, kind, is_mapping, parents)
        text = text_of(value)
        return self._text(f"{type_name(kind)}: {text}" if issubclass(kind, BaseException) else text)

    def _container(self, value: Any, kind: type, is_mapping: bool, parents: tuple[int, ...]) -> Any:
        if id(value) in parents:
            return "<cycle>"
        if len(parents) >= MAX_DEPTH or self._nodes <= 0:
            return f"<{type_name(kind)}>"
        parents = (*parents, id(value))
        entries: dict[str, Any] = {}
        items: list[Any] = []
        read = 0
        try:
            for key, item in self._entries(value, kind):
                if self._nodes <= 0 or self._characters <= 0:
                    break
                if is_mapping:
                    entries[self._key(key)] = self.data(item, parents)
                else:
                    items.append(self.data(item, parents))
                read += 1
            omitted = self._omitted(value, read)
        except Exception:  # boundary: reading a user's container may raise; the items before are recorded.
            omitted = "unreadable"
        if is_mapping:
            return {**entries, "...": omitted} if omitted else entries
        if issubclass(kind, _SETS):
            items.sort(key=_sort_key)
        return [*items, f"... {omitted}"] if omitted else items

    def _entries(self, value: Any, kind: type) -> Iterable[tuple[Any, Any]]:
        """Return keys and items, up to the limit. A dict is copied, since other threads may change it."""
        if kind is dict:
            size = len(value)
            return list(value.items()) if size <= self._nodes else list(islice(value.items(), self._nodes + 1))
        return enumerate(value) if not issubclass(kind, Mapping) else islice(value.items(), self._nodes + 1)

    def _omitted(self, value: Any, read: int) -> str:
        """Return how many entries were not read, as "5 more"; empty if all were read."""
        left = len(value) - read
        self.cut = self.cut or left > 0
        return f"{left:,} more" if left > 0 else ""

    def _timed_out(self) -> bool:
        """Whether `MAX_SECONDS` or `MAX_NODES` is used up; the time starts with the first object."""
        now = time.monotonic()
        self._deadline = self._deadline or now + MAX_SECONDS
        if now > self._deadline:
            self._nodes = 0
            self.cut = True
        return self._nodes <= 0

    def _key(self, key: Any) -> str:
        text: str = key if type(key) is str else text_of(key)
        if len(text) > MAX_KEY or not text.isascii():
            # The end is kept too: long keys are often paths, which differ there.
            text = clean(text if len(text) <= MAX_KEY else f"{text[: MAX_KEY // 2]}...{text[-MAX_KEY // 2 :]}")
        self._characters -= len(text)
        return text

    def _text(self, text: str) -> str:
        if len(text) > self._characters or not text.isascii():
            text = clean(text, max(self._characters, 0))
        self._characters -= len(text)
        return text


def _to_scalar(value: Any) -> Any:
    """Convert enums, subclasses of scalars, and numbers of numpy and torch to scalars; return others unchanged."""
    kind = type(value)
    if kind in _SCALAR_TYPES:
        return value
    if issubclass(kind, enum.Enum):
        return value._value_
    if issubclass(kind, str):
        return str.__str__(str(value))
    return _base_value(value) if issubclass(kind, _NUMBERS) else python_number(value)


def _base_value(value: str | float) -> Scalar:
    """Convert an instance of a subclass to `str`, `int` or `float`; its class's own code does not run."""
    if isinstance(value, str):
        return str.__str__(value)
    return int.__pos__(value) if isinstance(value, int) else float.__pos__(value)


def python_number(value: Any) -> Any:
    """Convert a number of numpy or torch to Python's; return any other value unchanged."""
    kind = type(value)
    if getattr(kind, "shape", None) is not None and value.shape == () and callable(getattr(kind, "item", None)):
        return value.item()
    return value


def _sort_key(data: Any) -> tuple[bool, float, str]:
    """The sort key for items of a set: numbers first, then everything else by its JSON text."""
    return (False, data, "") if isinstance(data, int | float) else (True, 0, json.dumps(data, sort_keys=True))


# Attributes of spans that other code made, converted before they are redacted, cut and encoded.
#
# OpenTelemetry accepts subclasses of str (which redaction would miss), numpy's numbers, lists with None, bytes and
# dicts. None of the values' own code may run here, since this runs on the exporter's thread.


def copy_attributes(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a new dict with the attributes of a span, event or link.

    The `copy` method of OpenTelemetry's mapping is ten times as fast as `dict(attributes)`.
    """
    copy = getattr(attributes, "copy", None)
    result = copy() if copy is not None else attributes or {}
    return result if type(result) is dict else dict(result)


def plain_values(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes with only text, numbers and lists of these; the same dict if nothing had to change."""
    if _SCALAR_TYPES.issuperset(map(type, attributes.values())):  # True for nearly all spans.
        return attributes
    changed = {key: plain for key, value in attributes.items() if (plain := _plain_value(value)) is not value}
    return {**attributes, **changed} if changed else attributes


def _plain_value(value: Any) -> Any:
    if value is None or type(value) in _SCALAR_TYPES:
        return value
    if isinstance(value, list | tuple):
        if all(item is None or type(item) in _SCALAR_TYPES for item in value):
            return value
        if any(isinstance(item, Mapping | list | tuple) for item in value):
            return _json(value)
        return tuple(map(_plain_value, value))
    if isinstance(value, str | int | float):
        return _base_value(value)
    if isinstance(value, bytes):
        return _bytes_text(value)
    return _json(value) if isinstance(value, Mapping | Sequence) else _type_text(value)


def _bytes_text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"<{len(value):,} bytes>"


def _json(value: Any) -> str:
    """Return a container as JSON; the name of its type if it is cyclic or too deep."""
    try:
        data = dict(value) if isinstance(value, Mapping) else value
        return json.dumps(data, ensure_ascii=False, skipkeys=True, default=_json_default)
    except (ValueError, RecursionError):
        return _type_text(value)


def _json_default(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return _bytes_text(value) if isinstance(value, bytes) else _type_text(value)


def _type_text(value: Any) -> str:
    return f"<{type_name(type(value))}>"
