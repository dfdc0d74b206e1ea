"""Values that stand on other people's spans, made plain before they are redacted, cut and encoded.

Anybody may write onto a span what OpenTelemetry lets through: subclasses of text (which no rule for texts would look
at), numpy's numbers, lists with gaps, bytes, dicts. No code of theirs runs here, on the sealing thread.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

_EXACT: Final = frozenset({str, bool, int, float})
_NUMBER: Final = 8  # bytes of one on the wire, about


def copied(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
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
    changed = {key: plain for key, value in odd.items() if (plain := _plain(value)) is not value}
    return {**attributes, **changed} if changed else attributes


def within(attributes: dict[str, Any], room: int) -> tuple[dict[str, Any], int]:
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


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        if all(item is None or type(item) in _EXACT for item in value):
            return value
        if any(isinstance(item, Mapping | list | tuple) for item in value):
            return _json(value)
        return tuple(_plain(item) for item in value)
    if value is None or type(value) in _EXACT:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__pos__(value)
    if isinstance(value, float):
        return float.__pos__(value)
    if isinstance(value, bytes):
        return _text(value)
    return _json(value) if isinstance(value, Mapping | Sequence) else _named(value)


def _text(value: bytes) -> str:
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
    return dict(value) if isinstance(value, Mapping) else _text(value) if isinstance(value, bytes) else _named(value)


def _named(value: Any) -> str:
    return f"<{type(value).__name__}>"
