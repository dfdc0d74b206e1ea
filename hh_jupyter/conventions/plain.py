"""Spans without an LLM convention: HTTP clients, databases, the user's own code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from hh_jupyter import attributes as keys
from hh_jupyter.conventions.facts import EventLike, SpanContent, SpanFacts, as_count, first_of, parsed, text

FAMILY: Final = "other"
_KINDS: Final = {"http.request.method": "http", "http.method": "http", "db.system.name": "db", "db.system": "db"}
_OPERATION: Final = "gen_ai.operation.name"
_STATUS: Final = ("http.response.status_code", "http.status_code")
_METHOD: Final = ("http.request.method", "http.method")
_URL: Final = ("url.full", "http.url", "http.route", "url.path", "http.target")
_QUERY: Final = ("db.query.text", "db.statement")
_RESULTS: Final = frozenset({"db.query.result", "db.search.result"})
"""Events of OpenLLMetry's vector database instrumentors, one per result."""

_RESULT_FIELDS: Final = {
    "id": ("db.query.result.id", "db.search.result.id"),
    "text": ("db.query.result.document", "db.search.result.entity"),
    "score": ("db.query.result.score", "db.search.result.score"),
    "metadata": ("db.query.result.metadata",),
}
_DISTANCE: Final = ("db.query.result.distance", "db.search.result.distance")


def facts(
    attributes: Mapping[str, Any], events: Sequence[EventLike], start_ns: int, event_type: str
) -> SpanFacts | None:
    """Facts of an HTTP or database span; otherwise None. A GenAI span with an HTTP method is not an HTTP span."""
    for key, kind in _KINDS.items():
        if key in attributes:
            if _OPERATION in attributes:
                return None
            status = failed_status(first_of(attributes, _STATUS))
            return shared_facts(kind, event_type, FAMILY, None, status)
    return None


def content(attributes: Mapping[str, Any], events: Sequence[EventLike]) -> SpanContent | None:
    """Request and status of an HTTP span, query and results of a database span; None for other spans."""
    if not any(key in attributes for key in _KINDS):
        return None
    request = [text(first_of(attributes, names)) for names in (_METHOD, _URL)]
    query = first_of(attributes, _QUERY)
    return SpanContent(
        documents=tuple(_document(event.attributes) for event in events if event.name in _RESULTS and event.attributes),
        input=query if query is not None else " ".join(filter(None, request)) or None,
        output=first_of(attributes, _STATUS),
        truncated=text(attributes.get(keys.TRUNCATED)),
    )


def _document(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """One result of a vector database query as {id, text, score, metadata}, without missing fields.

    A distance is shown as text, because a number would be read as a score, where more is better.
    """
    found: dict[str, Any] = {}
    for name, fields in _RESULT_FIELDS.items():
        value = first_of(result, fields)
        if value is not None:
            found[name] = parsed(value)
    distance = first_of(result, _DISTANCE)
    return found if distance is None or "score" in found else {**found, "score": str(distance)}


def failed_status(value: Any) -> int | None:
    """The HTTP status if it is 400 or above, else None."""
    status = as_count(value)
    return status if status is not None and 400 <= status < 600 else None


@lru_cache(maxsize=512)
def shared_facts(
    kind: str, event_type: str, family: str, tool_name: str | None = None, http_status: int | None = None
) -> SpanFacts:
    """Facts without details. Equal ones are one instance, so that most records hold only a reference."""
    return SpanFacts(kind=kind, event_type=event_type, family=family, tool_name=tool_name, http_status=http_status)
