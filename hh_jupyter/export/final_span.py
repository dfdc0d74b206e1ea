"""The final copy of one ended span and its row: redacted, typed, within the limits, with the attributes of its origin.

Instrumentors and other processors share the original span, so it is only read and never changed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanContext, Status, StatusCode

from hh_jupyter import attributes as keys
from hh_jupyter.conventions import describe, readable_name
from hh_jupyter.conventions.facts import SpanFacts
from hh_jupyter.export.model import Origin, Session
from hh_jupyter.export.otlp import FinalSpan
from hh_jupyter.records import prices, replays
from hh_jupyter.records.record import CALL_KINDS, SpanRecord, event_id_of, failed_status, span_error
from hh_jupyter.redaction import Redactor, RedactorWithFunction
from hh_jupyter.values import copy_attributes, plain_values, valid_utf8


@dataclass(frozen=True, slots=True)
class FinalizePolicy:
    """The settings that finalizing needs.

    Attributes:
        run_ids: experiment ids by baggage key.
        experiment: attributes from the settings that every span gets.
        max_attributes: limit on the span's own attributes, not counting those of the origin.
        max_span_size: limit on keys and texts, in bytes.
    """

    redactor: Redactor | RedactorWithFunction
    run_ids: Mapping[str, str] = field(default_factory=dict)
    experiment: Mapping[str, Any] = field(default_factory=dict)
    max_attributes: int = 1024
    max_events: int = 1024
    max_links: int = 128
    max_span_size: int = 10 * 1024 * 1024


@dataclass(slots=True)
class _Draft:
    """The mutable state of a span while it is finalized."""

    name: str
    links: Sequence[Link]
    attributes: dict[str, Any]
    events: Sequence[Event]
    status: Status
    redacted: int
    dropped: int
    dropped_events: int
    dropped_links: int
    facts: SpanFacts = SpanFacts()


def final_span(
    span: ReadableSpan, origin: Origin, policy: FinalizePolicy, resource: Resource
) -> tuple[FinalSpan, SpanRecord]:
    """Return the final copy of an ended span, and its row."""
    draft = _redacted(span, origin.events, policy.redactor)
    # Runs before the limits are applied, because instrumentors write model and usage last.
    scope = span.instrumentation_scope
    draft.facts = describe(
        draft.name, draft.attributes, draft.events, span.start_time or 0, scope.name if scope else ""
    )
    _note_replay(draft, span)
    cut = _cut_to_limits(draft, policy)
    record = _record(span, origin, draft)
    final = origin_attributes(origin, policy.run_ids)
    if origin.baggage:  # It may come from headers of incoming requests.
        given = final
        final, number = policy.redactor.attributes(given)
        final = with_ids(given, final)
        draft.redacted += number
    final.update(policy.experiment)
    final.update(draft.attributes)
    final[keys.EVENT_TYPE] = draft.facts.event_type
    if cut:
        final[keys.TRUNCATED] = ", ".join(cut)
    if draft.redacted:
        final[keys.REDACTED] = draft.redacted
    draft.attributes = final
    return _copy(span, origin, draft, resource), record


def _note_replay(draft: _Draft, span: ReadableSpan) -> None:
    """Complete the span of a call that was answered from a recording; it may not have been current then."""
    facts = draft.facts
    if not facts.replayed and facts.kind in CALL_KINDS:
        ms = replays.find(facts.response_id, span.start_time, span.end_time)
        if ms is not None:
            facts = draft.facts = replace(facts, replayed=True, replayed_ms=ms)
            draft.attributes[keys.REPLAYED], draft.attributes[keys.REPLAYED_MS] = True, ms
    if facts.replayed and (saved := prices.saved_cost(facts)[0]) is not None:
        draft.attributes[keys.REPLAYED_COST] = saved


def redacted_events(given: Sequence[Event], redactor: Redactor | RedactorWithFunction) -> tuple[list[Event], int]:
    """Redact events and convert their values to plain ones. Returns the events and the number of redacted values."""
    events: list[Event] = []
    redacted = 0
    for event in given:
        attributes = copy_attributes(event.attributes)
        plain = plain_values(attributes)
        kept, number = redactor.attributes(plain)
        name, in_name = redactor.text(event.name)
        changed = number or in_name or plain is not attributes
        events.append(Event(name, kept, event.timestamp) if changed else event)
        redacted += number + in_name
    return events, redacted


def unchanged(span: ReadableSpan, context: SpanContext) -> FinalSpan:
    """Return the span as a `FinalSpan`, without redaction, limits or added attributes."""
    return FinalSpan(
        name=span.name,
        context=context,
        parent=span.parent,
        resource=span.resource,
        scope=span.instrumentation_scope,
        attributes=copy_attributes(span.attributes),
        events=span.events,
        links=span.links,
        kind=span.kind,
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        dropped=span.dropped_attributes,
        dropped_events=span.dropped_events,
        dropped_links=span.dropped_links,
    )


def encodable(span: FinalSpan) -> FinalSpan:
    """Return the span with values that protobuf rejects (lone surrogates, integers above 64 bits) changed to text."""
    resource, description = span.resource, span.status.description
    return span._replace(
        name=_clean(span.name),
        resource=Resource(_cleaned(resource.attributes), resource.schema_url),
        attributes=_cleaned(span.attributes),
        events=encodable_events(span.events),
        links=[Link(link.context, _cleaned(link.attributes)) for link in span.links],
        status=Status(span.status.status_code, _clean(description)) if description else span.status,
    )


def encodable_events(events: Sequence[Event]) -> list[Event]:
    """Return the events with values that protobuf rejects changed to text."""
    return [Event(_clean(event.name), _cleaned(event.attributes), event.timestamp) for event in events]


def _cleaned(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    return {_clean(key): _clean(value) for key, value in (attributes or {}).items()}


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return valid_utf8(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return str(value)
    if isinstance(value, list | tuple):
        return tuple(_clean(item) for item in value)
    return value if isinstance(value, bool | int | float | bytes) else _clean(str(value))


def _redacted(span: ReadableSpan, logged: Sequence[Event], redactor: Redactor | RedactorWithFunction) -> _Draft:
    attributes, redacted = redactor.attributes(plain_values(copy_attributes(span.attributes)))
    events: Sequence[Event] = (*span.events, *logged)
    if events:
        events, number = redacted_events(events, redactor)
        redacted += number
    links: list[Link] = []
    for link in span.links:
        given = copy_attributes(link.attributes)
        plain = plain_values(given)
        kept, number = redactor.attributes(plain)
        links.append(Link(link.context, kept) if number or plain is not given else link)
        redacted += number
    status = span.status
    if status.description:
        text, number = redactor.text(status.description)
        status = Status(StatusCode.ERROR, text) if number else status
        redacted += number
    name, number = redactor.text(span.name)
    dropped = span.dropped_attributes, span.dropped_events, span.dropped_links
    return _Draft(name, links, attributes, events, status, redacted + number, *dropped)


def _cut_to_limits(draft: _Draft, policy: FinalizePolicy) -> list[str]:
    """Apply the limits: the size limit removes the largest values first, the number limit removes late keys.

    Returns:
        Descriptions of what was removed, such as "4 events".
    """
    attributes = draft.attributes
    before = len(attributes)
    if before > policy.max_attributes:
        # Keys set late matter least, except the last ones: instrumentors write model and usage at the end.
        first, last = policy.max_attributes - policy.max_attributes // 8, policy.max_attributes // 8
        names = list(attributes)
        names = names[:first] + (names[-last:] if last else [])
        attributes = {name: attributes[name] for name in names}
    attributes, room = _drop_largest(attributes, policy.max_span_size)
    draft.attributes = attributes
    cut = before - len(attributes)
    if not (cut or draft.events or draft.links):  # Nearly all spans.
        return []
    events = []
    for event in draft.events[: policy.max_events]:
        given = copy_attributes(event.attributes)
        kept, room = _drop_largest(given, room)
        cut += len(given) - len(kept)
        events.append(event if kept is given else Event(event.name, kept, event.timestamp))
    links = draft.links[: policy.max_links]
    above = {"attributes": cut, "events": len(draft.events) - len(events), "links": len(draft.links) - len(links)}
    draft.events, draft.links = events, links
    draft.dropped += cut
    draft.dropped_events += above["events"]
    draft.dropped_links += above["links"]
    return [f"{number} {what}" for what, number in above.items() if number]


_NUMBER_SIZE: Final = 8
"""Approximate size of an encoded number, in bytes."""


def _drop_largest(attributes: dict[str, Any], room: int) -> tuple[dict[str, Any], int]:
    """Drop the largest attributes until keys and values together fit into `room`, in characters.

    Returns:
        The remaining attributes, and the unused part of the room, at least 0.
    """
    left = room - sum(map(len, attributes))
    for value in attributes.values():
        left -= len(value) if type(value) is str else _size(value)
    if left >= 0:
        return attributes, left
    sizes = {key: len(key) + _size(value) for key, value in attributes.items()}
    for key in sorted(sizes, key=sizes.__getitem__, reverse=True):
        left += sizes.pop(key)
        if left >= 0:
            break
    return {key: attributes[key] for key in sizes}, max(left, 0)


def _size(value: Any) -> int:
    if type(value) is str:
        return len(value)
    return sum(map(_size, value)) if isinstance(value, list | tuple) else _NUMBER_SIZE


def _copy(span: ReadableSpan, origin: Origin, draft: _Draft, resource: Resource) -> FinalSpan:
    parent = span.parent
    if parent is not None and parent.span_id != origin.parent_id:
        parent = _reparented(parent, origin.parent_id)
    return FinalSpan(
        name=draft.name,
        context=span.context,
        parent=parent,
        resource=resource,
        scope=span.instrumentation_scope,
        attributes=draft.attributes,
        events=draft.events,
        links=draft.links,
        kind=span.kind,
        status=draft.status,
        start_time=span.start_time,
        end_time=span.end_time,
        dropped=draft.dropped,
        dropped_events=draft.dropped_events,
        dropped_links=draft.dropped_links,
    )


def _reparented(parent: SpanContext, parent_id: int | None) -> SpanContext | None:
    if parent_id is None:
        return None
    return SpanContext(parent.trace_id, parent_id, is_remote=False, trace_flags=parent.trace_flags)


def _record(span: ReadableSpan, origin: Origin, draft: _Draft) -> SpanRecord:
    failed = draft.status.status_code is StatusCode.ERROR
    error = span_error(draft.attributes, draft.events, draft.status.description) if failed else None
    scope = span.instrumentation_scope
    return SpanRecord(
        trace_id=span.context.trace_id,
        span_id=span.context.span_id,
        parent_id=origin.parent_id,
        name=readable_name(draft.name, draft.attributes),
        start_ns=span.start_time or 0,
        end_ns=span.end_time,
        status=failed_status(error, draft.attributes) if failed else "ok",
        facts=draft.facts,
        scope=scope.name if scope else "",
        error=error,
        session_id=session_id_of(origin),
        cell=origin.cell,
        redacted=draft.redacted,
        dropped=draft.dropped,
        event_id=event_id_of(draft.attributes),
    )


# Attributes that every span carries

_OWN_BAGGAGE = frozenset(
    {
        keys.BAGGAGE_SESSION_ID,
        keys.BAGGAGE_PROJECT,
        keys.BAGGAGE_SOURCE,
        keys.BAGGAGE_PARENT_ID,
        keys.BAGGAGE_FOREIGN,
        *keys.BAGGAGE_RUN_KEYS,
    }
)
_TWICE = (
    (keys.SESSION_ID, keys.ASSOCIATION_PREFIX + keys.BAGGAGE_SESSION_ID),
    (keys.PROJECT, keys.ASSOCIATION_PREFIX + keys.BAGGAGE_PROJECT),
    (keys.SOURCE, keys.ASSOCIATION_PREFIX + keys.BAGGAGE_SOURCE),
    (keys.PARENT_ID, keys.ASSOCIATION_PREFIX + keys.BAGGAGE_PARENT_ID),
)


def session_id_of(origin: Origin) -> str | None:
    """Return the session id of a span. Baggage overrides the tracer's session (tests/contract/README.md, section 6)."""
    found = origin.baggage.get(keys.BAGGAGE_SESSION_ID)
    return str(found) if found else (origin.session.id if origin.session else None)


def origin_attributes(origin: Origin, run_ids: Mapping[str, str]) -> dict[str, Any]:
    """Return the attributes that every span carries (tests/contract/README.md, section 3).

    Args:
        origin: origin of the span.
        run_ids: the tracer's experiment ids by baggage key; baggage overrides them.
    """
    baggage, session = origin.baggage, origin.session
    session_id = session_id_of(origin)
    values: tuple[object, ...] = (session_id, None, None, baggage.get(keys.BAGGAGE_PARENT_ID))
    if session_id:
        own = session if session is not None else Session("", "")
        project = baggage.get(keys.BAGGAGE_PROJECT) or own.project
        values = (session_id, project, baggage.get(keys.BAGGAGE_SOURCE) or own.source, values[3])
    found: dict[str, Any] = {}
    for (key, twin), value in zip(_TWICE, values, strict=True):
        if value:
            found[key] = found[twin] = str(value)
    if session is not None and session.auto and session_id == session.id:
        found[keys.SESSION_AUTO_CREATE], found[keys.AUTO_SESSION_NAME] = True, session.name
    for name in keys.BAGGAGE_RUN_KEYS if baggage or run_ids else ():
        value = baggage.get(name) or run_ids.get(name)
        if value:
            found[f"{keys.METADATA}.{name}"] = str(value)
    if len(baggage) > 1 or (baggage and keys.BAGGAGE_SESSION_ID not in baggage):
        found.update({keys.BAGGAGE_PREFIX + k: str(v) for k, v in baggage.items() if k not in _OWN_BAGGAGE})
    return found


# Ids that assign a span or an event to its session, parent or run are protected from redaction: without them the
# backend could not file it. A pattern for card numbers, or a user's own function, may match a part of an id. Only a
# UUID counts as an id: any other value under such a key stays redacted.

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
