"""Events at the backend that are not spans: the fields of an update, and new events."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from hh_jupyter import attributes as keys
from hh_jupyter.export import endpoint
from hh_jupyter.export.exporter import Exporter
from hh_jupyter.threads import evict_oldest
from hh_jupyter.tracing.context import random_uuid
from hh_jupyter.tracing.validation import safe_isinstance, warn_argument_once
from hh_jupyter.values import INT64, as_object, plain, text_of

if TYPE_CHECKING:
    from hh_jupyter.records.record import SpanRecord

EVENT_FIELDS: Final = ("metadata", "metrics", "feedback", "outputs", "config", "user_properties")
"""Fields of an event that can be updated; each is a JSON object. See tests/contract/README.md."""

_REQUIRED: Final = frozenset({"inputs", "config"})
"""Fields that a new event must have, even if they are empty objects."""

_CREATED_TYPES: Final = (*keys.EVENT_TYPES, "session")
"""Event types that the backend accepts for a new event; a span's type may be any text."""


def queue_update(
    exporter: Exporter, event_id: str, fields: Mapping[str, Any], *, about: tuple[int, int] | None = None
) -> None:
    """Queue an update of an existing event; `about` is as in `Exporter.request`."""
    # Field by field, so that a large field does not use up the size limit of the others.
    document = {name: plain(value) for name, value in fields.items()}
    exporter.request("event_update", event_id, endpoint.event_update(event_id, document), about=about)
    exporter.wait_if_immediate()


def queue_event(exporter: Exporter, event: Mapping[str, Any], *, about: tuple[int, int] | None = None) -> str:
    """Queue a new event, which has a session, and return its id; `about` is as in `Exporter.request`."""
    document = {name: plain(value) for name, value in event.items()}
    exporter.request("event_create", event["session_id"], endpoint.event_create(document), about=about)
    exporter.wait_if_immediate()
    return str(event["event_id"])


class EventSource(Protocol):
    """What events need of a tracer."""

    @property
    def exporter(self) -> Exporter: ...

    @property
    def project(self) -> str | None: ...

    @property
    def source(self) -> str: ...


class FeedbackWriter:
    """Gives feedback to spans that are over.

    A span whose code chose an id for its event gets the feedback by an update of that event. For any other one, whose
    id at the backend is unknown here, an event `feedback` is created in its session, with the span's ids in its
    metadata; later feedback updates that event. The first span of a session that is one row of a run gives it to the
    event of the session instead, which the backend lists as that row.

    Args:
        tracer: queues the updates.
    """

    def __init__(self, tracer: EventSource) -> None:
        self._tracer = tracer
        self._events: dict[tuple[int, int], str] = {}

    def give(self, record: SpanRecord, feedback: Mapping[str, Any], *, of_session: bool = False) -> None:
        """Queue feedback on a span.

        Args:
            record: the span; without an id of its event it must have a session.
            feedback: values by name; None takes back what was given.
            of_session: the feedback is about the whole session of the span.

        Raises:
            ValueError: the span has neither an event id nor a session.
        """
        exporter, about = self._tracer.exporter, (record.trace_id, record.span_id)
        if record.event_id is not None:
            queue_update(exporter, record.event_id, {"feedback": feedback})
        elif (known := self._events.get(about)) is not None:
            queue_update(exporter, known, {"feedback": feedback}, about=about)
        elif record.session_id is None:
            raise ValueError(f"span {record.name!r} has no session")
        elif of_session:
            self._remember(about, record.session_id)
            queue_update(exporter, record.session_id, {"feedback": feedback}, about=about)
        else:
            span = {"span_id": f"{record.span_id:016x}", "trace_id": f"{record.trace_id:032x}", "span": record.name}
            fields = {"session_id": record.session_id, "metadata": span, "feedback": dict(feedback)}
            fields |= {"event_type": "tool", "project": self._tracer.project or "", "source": self._tracer.source}
            self._remember(about, queue_event(exporter, new_event("feedback", fields, {}), about=about))

    def _remember(self, about: tuple[int, int], event_id: str) -> None:
        self._events[about] = event_id
        evict_oldest(self._events, MAX_FEEDBACK_EVENTS)


MAX_FEEDBACK_EVENTS: Final = 1_000
"""Spans whose later feedback updates the same event; the latest ones."""


def event_fields(
    metadata: Any,
    metrics: Any,
    feedback: Any,
    outputs: Any,
    config: Any,
    user_properties: Any,
    *,
    inputs: Any,
    extra: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the fields for the update of an existing event.

    Empty fields are left out. `inputs` and unknown fields are added to the metadata, except for `duration` if it is a
    number (of milliseconds).
    """
    duration = extra.get("duration")
    plain_extra = {
        name: plain(value)
        for name, value in {"inputs": inputs, **extra}.items()
        if value is not None and not (name == "duration" and _is_number(value))
    }
    more = {name: value for name, value in plain_extra.items() if name != "inputs" or not _is_empty(value)}
    fields = zip(EVENT_FIELDS, (metadata, metrics, feedback, outputs, config, user_properties), strict=True)
    update = {name: value for name, argument in fields if not _is_empty(value := plain(argument))}
    if more:
        update["metadata"] = {**as_object(update.get("metadata", {})), **more}
    update = {name: as_object(value) for name, value in update.items()}
    if _is_number(duration):
        update["duration"] = duration
    return update


def new_event(name: str | Mapping[str, Any], defaults: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return all fields of a new event.

    Args:
        name: the event's name, or a dict of all its fields, which override the others; its key `name` is accepted for
            `event_name`.
        defaults: the documented fields; those that the backend requires are filled in.
        extra: any other fields.
    """
    named: Any = plain(name) if safe_isinstance(name, Mapping) else name
    if not safe_isinstance(named, dict):
        named = {"event_name": named}
    elif named.get("event_name") is None and "name" in named:
        named = {**named, "event_name": named["name"]}
        del named["name"]
    event = {**defaults, **extra, **named}
    for field in ("event_name", "event_type", "source", "project"):
        event[field] = None if event.get(field) is None else text_of(event[field])
    if event["event_type"] not in _CREATED_TYPES:
        warn_argument_once(
            "create_event", "event_type", event["event_type"], f"one of {', '.join(_CREATED_TYPES)}", "Using tool."
        )
        event["event_type"] = "tool"
    for field in ("inputs", "config", *EVENT_FIELDS):
        value = event.get(field)
        event[field] = None if value is None and field not in _REQUIRED else as_object(plain(value))
    event["duration"] = _milliseconds(event.get("duration"))
    event["event_id"] = random_uuid() if event.get("event_id") is None else text_of(event["event_id"])
    return event


def _milliseconds(duration: Any) -> float:
    if _is_number(duration):
        return float(duration)
    if duration is not None:
        warn_argument_once("create_event", "duration", duration, "a number of milliseconds", "Sending 0.")
    return 0.0


def _is_number(value: Any) -> bool:
    """Whether it is a number that JSON can represent."""
    if safe_isinstance(value, int) and not safe_isinstance(value, bool):
        return bool(-INT64 <= value < INT64)
    return safe_isinstance(value, float) and math.isfinite(value)


def _is_empty(value: Any) -> bool:
    """Whether plain data is None, or an empty string, dict or list; False and 0 are not empty."""
    return value is None or (isinstance(value, str | dict | list) and not value)
