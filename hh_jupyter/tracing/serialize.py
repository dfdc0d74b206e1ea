"""Python value -> attribute. Total: whatever the value, the answer is an attribute or nothing, never an exception."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import itertools
import json
from collections.abc import Mapping, Sequence, Set
from decimal import Decimal
from typing import Any, Final

MAX_DEPTH: Final = 12
MAX_KEYS: Final = 1_000
"""Attributes made of one value; a data set given as metadata must not become a million of them."""

MAX_NODES: Final = 10_000
"""Containers looked at in one value: twenty objects that know each other are a tree without end."""

MAX_TEXT: Final = 1_000_000
"""Characters of one value; sealing cuts the span as a whole."""

INT64: Final = 2**63

Scalar = str | bool | int | float
_SCALAR_TYPES: Final = frozenset({str, bool, int, float})


def flatten(prefix: str, value: Any) -> dict[str, Scalar]:
    """Attributes for a value: dict keys and list indices are appended after a dot (contract, section 3).

    None and empty containers leave nothing. At most `MAX_KEYS` attributes are made; that some are missing is said.
    """
    found: dict[str, Scalar] = {}
    try:
        _flatten_into(found, prefix, value, ())
    except Exception:  # boundary: a user's container may do anything when it is read.
        found[prefix] = _unreadable(value)
    if len(found) >= MAX_KEYS:
        found[f"{prefix}.hh_truncated"] = f"more than {MAX_KEYS:,} values"
    return found


def _flatten_into(found: dict[str, Scalar], key: str, value: Any, inside: tuple[Any, ...]) -> None:
    if value is None:
        return
    if not isinstance(value, dict | list) or len(inside) >= MAX_DEPTH:
        found[key] = scalar(value)
        return
    for container in inside:
        if container is value:
            found[key] = "<cycle>"
            return
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    inside = (*inside, value)
    for name, item in items:
        if len(found) >= MAX_KEYS:
            return
        label = name if type(name) is str else text_of(name)
        if type(item) in _SCALAR_TYPES:  # Most are; a call for each would double the cost.
            found[f"{key}.{label}"] = scalar(item)
        else:
            _flatten_into(found, f"{key}.{label}", item, inside)


def scalar(value: Any) -> Scalar:
    """One attribute value: scalars as they are, containers as JSON, everything else as stable text."""
    kind = type(value)
    if kind is str:
        return _cut(value)
    if kind is bool or kind is float:
        return value  # type: ignore[no-any-return]
    if kind is int:
        return value if -INT64 <= value < INT64 else text_of(value)
    try:
        simple = plain(value)
        if type(simple) in _SCALAR_TYPES:
            return scalar(simple)
        return _cut(json.dumps(simple, ensure_ascii=False))
    except Exception:  # boundary: the call that is traced must not notice what its values do when they are read.
        return _unreadable(value)


def text_of(value: Any) -> str:
    """A text for anything: the same for equal values, without addresses where the type is known."""
    try:
        if isinstance(value, str):
            return str(value)
        if isinstance(value, bytes | bytearray | memoryview):
            return f"<{len(value)} bytes>"
        if isinstance(value, datetime.datetime | datetime.date | datetime.time):
            return value.isoformat()
        if isinstance(value, enum.Enum):
            return text_of(value.value)
        if isinstance(value, Decimal | datetime.timedelta):
            return str(value)
        shape = getattr(value, "shape", None)
        if isinstance(shape, tuple):  # numpy, pandas, torch: what it is, not what it holds.
            dtype = getattr(value, "dtype", None)
            return f"<{type(value).__name__} of shape {shape}{'' if dtype is None else f', {dtype}'}>"
        return str(value)
    except Exception:  # boundary: str() of a user's object may do anything; the call that is traced must not notice.
        return _unreadable(value)


def _unreadable(value: Any) -> str:
    return f"<{type(value).__name__} without text>"


def plain(value: Any) -> Any:
    """Data that JSON can hold. Deep, wide and entangled values are cut, and it says so."""
    try:
        return _plain(value, 0, [MAX_NODES])
    except Exception:  # boundary: as above.
        return _unreadable(value)


def _plain(value: Any, depth: int, left: list[int]) -> Any:
    if value is None or type(value) in (bool, str):
        return value
    if isinstance(value, int):
        return int(value) if abs(value) < INT64 * INT64 else text_of(value)
    if isinstance(value, float):
        return float(value) if value - value == 0 else str(value)
    if getattr(value, "shape", None) == () and callable(getattr(value, "item", None)):
        return _plain(value.item(), depth, left)  # A numpy scalar is a number.
    left[0] -= 1
    if depth >= MAX_DEPTH or left[0] <= 0:
        return f"<{type(value).__name__}>"
    fields = _fields_of(value)
    value = value if fields is None else fields
    if isinstance(value, Mapping):
        items = itertools.islice(value.items(), MAX_KEYS)
        found = {text_of(key): _plain(item, depth + 1, left) for key, item in items}
        return {**found, "...": f"{len(value) - MAX_KEYS:,} more"} if len(value) > MAX_KEYS else found
    if isinstance(value, Set):
        value = sorted(value, key=text_of)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview | range):
        kept = [_plain(item, depth + 1, left) for item in itertools.islice(value, MAX_KEYS)]
        return [*kept, f"... {len(value) - MAX_KEYS:,} more"] if len(value) > MAX_KEYS else kept
    return text_of(value)


def _fields_of(value: Any) -> Mapping[str, Any] | None:
    """The fields of a dataclass instance or a pydantic model; None for anything else."""
    if isinstance(value, type):
        return None
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    if hasattr(type(value), "model_fields") and hasattr(value, "__dict__"):
        return dict(value.__dict__)
    return None


def _cut(text: str) -> str:
    text = text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}... ({len(text):,} characters)"
    # Lone surrogates cannot be encoded; protobuf would refuse the whole span.
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
