"""Fields added to the span that is running now, or to an event that exists already."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace as otel_trace
from opentelemetry.trace import Span

from hh_jupyter import attributes as keys
from hh_jupyter.tracing.arguments import fits, is_given, tell, tracer_or_none
from hh_jupyter.tracing.ids import random_uuid
from hh_jupyter.tracing.serialize import INT64, flatten, plain, scalar, text_of

if TYPE_CHECKING:
    from hh_jupyter.tracing.tracer import HoneyHiveTracer

logger = logging.getLogger(__name__)

EVENT_FIELDS: Final = ("metadata", "metrics", "feedback", "outputs", "config", "user_properties")
"""What an event that exists takes; all are objects (contract, section 1)."""

_REQUIRED: Final = frozenset({"inputs", "config"})
"""What a new event must have, if only as an empty object."""

_CREATED_TYPES: Final = (*keys.EVENT_TYPES, "session")
"""The backend takes no others here, while a span's type may be any text."""

_EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})


def span_attributes(
    fields: Mapping[str, Any],
    *,
    attributes: Any = None,
    error: Any = None,
    event_id: Any = None,
    extra: Mapping[str, Any] = _EMPTY,
) -> dict[str, Any]:
    """Attributes for enriching fields (contract, section 3).

    Args:
        fields: value by namespace: inputs, outputs, metadata, ...
        attributes: goes to metadata, like every unknown keyword in `extra`.
        error: text of `honeyhive_error`.
        event_id: text of `honeyhive_event_id`.
    """
    found: dict[str, Any] = {}
    for value in (attributes, dict(extra)):
        found.update(flatten(keys.METADATA, value) if is_given(value) else {})
    for name, value in fields.items():
        if value is not None:
            found.update(flatten(keys.NAMESPACES[name], value))
    if error is not None:
        found[keys.ERROR] = scalar(error)
    if event_id is not None:
        found[keys.EVENT_ID] = text_of(event_id)
    return found


def enrich_current_span(values: Mapping[str, Any]) -> bool:
    """Write attributes onto the running span; False if there is none."""
    span = otel_trace.get_current_span()
    if not span.is_recording():
        return False
    span.set_attributes(values)
    return True


def event_fields(
    *,
    inputs: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] = _EMPTY,
    **fields: Any,
) -> dict[str, Any]:
    """Fields of an update of an existing event: empty ones are left out, `inputs` and unknown ones go to metadata.

    Of the unknown ones `duration` is a field of its own, if it is a number (of milliseconds).
    """
    duration = extra.get("duration")
    more = {
        name: plain(value)
        for name, value in {"inputs": inputs, **extra}.items()
        if value is not None and not (name == "duration" and _is_number(value))
    }
    metadata = {name: value for name, value in more.items() if name != "inputs" or not _empty(value)}
    found = {name: value for name, given in fields.items() if not _empty(value := plain(given))}
    if metadata:
        found["metadata"] = {**as_object(found.get("metadata", {})), **metadata}
    found = {name: as_object(value) for name, value in found.items()}
    if _is_number(duration):
        found["duration"] = duration
    return found


def event(name: str | Mapping[str, Any], defaults: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """All fields of a new event.

    Args:
        name: the event's name, or a dict of all its fields, which then beat the others; `name` in it is the name too.
        defaults: the documented fields; those that the backend requires are filled in.
        more: any other field.
    """
    given: Any = plain(name) if fits(name, Mapping) else name
    if not fits(given, dict):
        given = {"event_name": given}
    elif given.get("event_name") is None and "name" in given:
        given = {**given, "event_name": given["name"]}
        del given["name"]
    found = {**defaults, **more, **given}
    for field in ("event_name", "event_type", "source", "project"):
        found[field] = None if found.get(field) is None else text_of(found[field])
    if found["event_type"] not in _CREATED_TYPES:
        tell("create_event", "event_type", found["event_type"], f"one of {', '.join(_CREATED_TYPES)}", "It is a tool.")
        found["event_type"] = "tool"
    for field in ("inputs", "config", *EVENT_FIELDS):
        value = found.get(field)
        found[field] = None if value is None and field not in _REQUIRED else as_object(plain(value))
    found["duration"] = _milliseconds(found.get("duration"))
    found["event_id"] = random_uuid() if found.get("event_id") is None else text_of(found["event_id"])
    return found


def as_object(value: Any) -> Mapping[str, Any]:
    """The backend takes objects only; anything else is kept under `value`, and None is an empty one."""
    return value if isinstance(value, Mapping) else ({} if value is None else {"value": value})


def _milliseconds(duration: Any) -> float:
    if _is_number(duration):
        return float(duration)
    if duration is not None:
        tell("create_event", "duration", duration, "a number of milliseconds", "It is sent as 0.")
    return 0.0


def _is_number(value: Any) -> bool:
    """A number that JSON can hold."""
    if fits(value, int) and not fits(value, bool):
        return bool(-INT64 <= value < INT64)
    return fits(value, float) and math.isfinite(value)


def _empty(value: Any) -> bool:
    """Whether there is nothing in plain data; False and 0 are something."""
    return value is None or (isinstance(value, str | dict | list) and not value)


class Enriched:
    """What the free `enrich_span` returns: true if there was a span, and usable in `with`, yielding that span."""

    def __init__(self, done: bool) -> None:
        self._done = done
        self._span = otel_trace.get_current_span()

    def __bool__(self) -> bool:
        return self._done

    def __repr__(self) -> str:
        return "<enriched>" if self._done else "<no span to enrich>"

    def __enter__(self) -> Span:
        return self._span

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None


def enrich_span(
    attributes: Any = None,
    metadata: Any = None,
    metrics: Any = None,
    feedback: Any = None,
    inputs: Any = None,
    outputs: Any = None,
    config: Any = None,
    error: Any = None,
    event_id: str | None = None,
    tracer: HoneyHiveTracer | None = None,
    user_properties: Any = None,
    update_event_id: str | None = None,
    **extra: Any,
) -> Enriched:
    """Add fields to the running span; with `event_id`, to that event instead.

    Example:
        >>> enrich_span(metrics={"score": 0.9}, feedback={"rating": 5})  # doctest: +SKIP

    Args:
        attributes: a dict for the metadata; unknown keywords go there as well.
        event_id: update this existing event through the backend, not the span.
        update_event_id: id that the span's event is to have.
        tracer: sends the update of `event_id`; default: the current tracer.

    Returns:
        true if there was something to enrich.
    """
    from hh_jupyter.tracing.default import current_tracer  # The default tracer is made above this module.

    fields = {
        "metadata": metadata,
        "metrics": metrics,
        "feedback": feedback,
        "inputs": inputs,
        "outputs": outputs,
        "config": config,
        "user_properties": user_properties,
    }
    if event_id is not None:
        found = tracer_or_none("enrich_span", "tracer", tracer) or current_tracer()
        if found is None:
            return Enriched(False)
        more = {**as_object(plain(attributes)), **({"error": error} if error is not None else {}), **extra}
        found.update_event(text_of(event_id), event_fields(**fields, extra=more))
        return Enriched(True)
    return Enriched(
        enrich_current_span(
            span_attributes(fields, attributes=attributes, error=error, event_id=update_event_id, extra=extra)
        )
    )
