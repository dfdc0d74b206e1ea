"""What `start_span` was given, as OpenTelemetry takes it. Total: a wrong argument is told once and does without."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.trace import Link, SpanContext, SpanKind

from hh_jupyter.tracing.arguments import fits, tell
from hh_jupyter.tracing.serialize import INT64, scalar, text_of

CALLED: Final = "start_span"
MAX_LINKS: Final = 10_000
"""Looked at in what was given, which may have no end; how many a span keeps is a setting."""

_ELEMENTS: Final = (str, bool, int, float)


def span_kind(value: Any) -> SpanKind:
    """OpenTelemetry's kind; also from its name in any case, and internal for None."""
    if value is None:
        return SpanKind.INTERNAL
    if type(value) is SpanKind:
        return value
    if fits(value, str) and value.strip().upper() in SpanKind.__members__:
        return SpanKind[value.strip().upper()]
    words = ", ".join(word.lower() for word in SpanKind.__members__)
    tell(CALLED, "kind", value, f"an opentelemetry.trace.SpanKind, or one of {words}", "The kind is internal.")
    return SpanKind.INTERNAL


def start_attributes(value: Any, called: str = CALLED) -> dict[str, Any] | None:
    """Attributes that a span can hold: scalars and lists of one scalar type as they are, everything else as text.

    OpenTelemetry itself would drop the others.
    """
    if value is None:
        return None
    if type(value) is not dict and not fits(value, Mapping):
        tell(called, "attributes", value, "a dict", "The span has none; enrich_span(metadata=...) takes any value.")
        return None
    try:
        items = list(value.items())
    except Exception:  # boundary: a user's mapping may do anything when it is read; the span starts anyhow.
        items = []
    return {
        key if type(key) is str else text_of(key): item if _is_array(item) else scalar(item)
        for key, item in items
        if item is not None
    }


def _is_array(value: Any) -> bool:
    container = type(value)  # Not `isinstance`, which asks the value: a proxy may raise.
    if (container is not list and container is not tuple) or not value:
        return False
    kind = type(value[0])
    if not any(kind is one for one in _ELEMENTS):
        return False
    return all(type(item) is kind and (kind is not int or -INT64 <= item < INT64) for item in value)


def span_links(value: Any) -> list[Link] | None:
    """The links among what was given; a span's context is one as well."""
    if value is None:
        return None
    try:
        given = list(itertools.islice(value, MAX_LINKS))
    except Exception:  # boundary: one that is no iterable, or a user's iterable that fails; the span starts anyhow.
        given = [value]
    links = [Link(item) if fits(item, SpanContext) else item for item in given if fits(item, SpanContext, Link)]
    if len(links) < len(given):
        tell(CALLED, "links", value, "a list of opentelemetry.trace.Link", "What is no link is left out.")
    return links


def start_time_ns(value: Any) -> int | None:
    """Unix nanoseconds; also from a datetime, and None, which is now, for anything else."""
    if value is None:
        return None
    if fits(value, datetime.datetime):
        value = int(value.timestamp() * 1e9)
    if fits(value, int) and not fits(value, bool) and 0 <= value < INT64:
        return value  # type: ignore[no-any-return]
    tell(CALLED, "start_time", value, "Unix nanoseconds, as time.time_ns() gives them", "The span starts now.")
    return None
