"""Fields added to the span that is running now, or to an event that exists already."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace as otel_trace
from opentelemetry.trace import Span

from hh_jupyter import attributes as keys
from hh_jupyter.tracing.serialize import flatten, scalar, text_of

if TYPE_CHECKING:
    from hh_jupyter.tracing.tracer import HoneyHiveTracer

logger = logging.getLogger(__name__)

EVENT_FIELDS: Final = ("metadata", "metrics", "feedback", "outputs", "config", "user_properties")
"""What an event that exists takes; all are objects (contract, section 1)."""

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
    for value in (attributes, extra):
        found.update({} if _empty(value) else flatten(keys.METADATA, value))
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
    duration: float | None = None,
    extra: Mapping[str, Any] = _EMPTY,
    **fields: Any,
) -> dict[str, Any]:
    """Fields of an update of an existing event: empty ones are left out, `inputs` and unknown ones go to metadata."""
    metadata = {**({} if _empty(inputs) else {"inputs": inputs}), **extra}
    found = {name: value for name, value in fields.items() if not _empty(value)}
    if metadata:
        found["metadata"] = {**as_object(found.get("metadata", {})), **metadata}
    found = {name: as_object(value) for name, value in found.items()}
    if duration is not None:
        found["duration"] = duration
    return found


def event(name: str | Mapping[str, Any], defaults: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """All fields of a new event.

    Args:
        name: the event's name, or a dict of all its fields, which then beat the others.
        defaults: the documented fields; those that the backend requires are filled in.
        more: any other field.
    """
    given = dict(name) if isinstance(name, Mapping) else {"event_name": name}
    filled = {**defaults, "inputs": as_object(defaults["inputs"]), "duration": defaults["duration"] or 0.0}
    return {"config": {}, "event_id": str(uuid.uuid4()), **filled, **more, **given}


def as_object(value: Any) -> Mapping[str, Any]:
    """The backend takes objects only; anything else is kept under `value`, and None is an empty one."""
    return value if isinstance(value, Mapping) else ({} if value is None else {"value": value})


def _empty(value: Any) -> bool:
    """Whether there is nothing in it; asked of known types only, since an array has no truth value."""
    return value is None or (isinstance(value, str | Mapping | list | tuple | set) and not value)


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
    user_properties: Any = None,
    error: Any = None,
    event_id: str | None = None,
    update_event_id: str | None = None,
    tracer: HoneyHiveTracer | None = None,
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
        found = tracer or current_tracer()
        if found is None:
            return Enriched(False)
        more = {**as_object(attributes), **({"error": error} if error is not None else {}), **extra}
        found.update_event(text_of(event_id), event_fields(**fields, extra=more))
        return Enriched(True)
    return Enriched(
        enrich_current_span(
            span_attributes(fields, attributes=attributes, error=error, event_id=update_event_id, extra=extra)
        )
    )
