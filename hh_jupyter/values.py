"""Python value -> attribute. Total: whatever the value, the answer is an attribute or nothing, never an exception.

It runs on the caller's time, so what is read of one value is bounded: `MAX_NODES`, `MAX_TEXT`, `MAX_DEPTH` and, where
reading runs the user's code, `MAX_SECONDS`. What is left out is said where it was.
"""

from __future__ import annotations

import enum
import json
import time
from collections.abc import Iterable, Mapping, MappingView, Sequence, Set
from itertools import islice
from math import isfinite
from typing import Any, Final

from hh_jupyter.tracing.value_fields import fields_of
from hh_jupyter.tracing.value_text import MAX_TEXT, clean, name_of, text_of, unreadable

__all__ = ["flatten", "plain", "scalar", "text_of"]

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
            return f"<{name_of(kind)}>"
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
        return self._text(f"{name_of(kind)}: {text}" if issubclass(kind, BaseException) else text)

    def _container(self, value: Any, kind: type, is_mapping: bool, inside: tuple[int, ...]) -> Any:
        if id(value) in inside:
            return "<cycle>"
        if len(inside) >= MAX_DEPTH or self._nodes <= 0:
            return f"<{name_of(kind)}>"
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
