"""`EventType`: the event types by name, for programs that do not write them as text."""

from __future__ import annotations

import enum


class EventType(enum.StrEnum):
    """An event type. Each member is its own text, so it stands wherever an event type does.

    Example:
        >>> @trace(event_type=EventType.tool)
        ... def search(query: str) -> list[str]: ...
    """

    model = "model"
    tool = "tool"
    chain = "chain"
    session = "session"
    """A session itself; no span is one."""
