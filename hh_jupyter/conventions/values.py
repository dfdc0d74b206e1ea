"""Reading attribute values that may be missing, of another type, or JSON in a string."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from sys import intern
from typing import Any

Groups = dict[int, dict[str, Any]]


def whole(value: Any) -> int | None:
    """A count, or None if the value is none: absent is not zero."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
        return int(value)
    return None


def amount(value: Any) -> float | None:
    """A number as float, or None."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def text(value: Any) -> str | None:
    """Text that is not empty, one copy for all spans: names of models and providers come again and again."""
    return intern(value) if type(value) is str and value else None


def parsed(value: Any) -> Any:
    """The JSON in a string, else the value itself: Python reprs and plain text stay what they are."""
    if isinstance(value, str) and value[:1] in "{[":
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def mapping(value: Any) -> Mapping[str, Any]:
    """The JSON object in a string, empty if there is none."""
    found = parsed(value)
    return found if isinstance(found, dict) else {}


def grouped(attributes: Iterable[tuple[str, Any]], prefix: str) -> list[dict[str, Any]]:
    """Flattened entries `prefix.N.rest` as one dict of `rest` for each N, in numeric order.

    Indexes have gaps and need not begin at 0: the SDK's limits remove the oldest attributes first.
    """
    groups: Groups = {}
    start = len(prefix) + 1
    for key, value in attributes:
        if key.startswith(prefix) and key[start - 1 : start] == ".":
            index, _, rest = key[start:].partition(".")
            if index.isdecimal():
                groups.setdefault(int(index), {})[rest] = value
    return [groups[index] for index in sorted(groups)]
