"""Protects the ids that assign a span or an event to its session, parent or run from redaction.

Without these ids the backend could not file it. A pattern for card numbers, or a user's own function, may match a part
of an id. Only a UUID counts as an id: any other value under such a key stays redacted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

_NAMES: Final = frozenset({"session_id", "event_id", "parent_id", "run_id", "dataset_id", "datapoint_id"})
_PARTS: Final = frozenset({"session", "event"})
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def with_ids(given: Mapping[str, Any], redacted: dict[str, Any]) -> dict[str, Any]:
    """Restore in `redacted` the ids that `given` holds, and return `redacted`.

    Both are attributes, or the document of a request.
    """
    for key, value in given.items():
        if isinstance(value, str):
            if value != redacted.get(key) and key.rpartition(".")[2] in _NAMES and _UUID.fullmatch(value):
                redacted[key] = value
        elif key in _PARTS and isinstance(value, Mapping) and isinstance(redacted.get(key), dict):
            with_ids(value, redacted[key])
    return redacted
