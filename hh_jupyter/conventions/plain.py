"""Spans that follow no convention for language models: HTTP clients, databases, the user's own code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from hh_jupyter.conventions.facts import EventLike, SpanContent, SpanFacts

FAMILY = "other"
_KINDS = {"http.request.method": "http", "http.method": "http", "db.system.name": "db", "db.system": "db"}
_GENAI = "gen_ai.operation.name"


def facts(
    attributes: Mapping[str, Any], events: Sequence[EventLike], start_ns: int, event_type: str
) -> SpanFacts | None:
    """The facts of an HTTP or database span, else None. A model client may note its HTTP method too."""
    for key, kind in _KINDS.items():
        if key in attributes:
            return None if _GENAI in attributes else shared(kind, event_type, FAMILY)
    return None


def content(attributes: Mapping[str, Any], events: Sequence[EventLike]) -> SpanContent | None:
    """None: all there is to say is in the attributes."""
    return None


@lru_cache(maxsize=256)
def shared(kind: str, event_type: str, family: str) -> SpanFacts:
    """One instance for all spans of which no more is known: most rows hold a reference only."""
    return SpanFacts(kind=kind, event_type=event_type, family=family)
