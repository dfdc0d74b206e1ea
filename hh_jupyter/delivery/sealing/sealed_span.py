"""Seals one span: makes our own copy, redacted, stamped, typed and limited, and the row for the span log.

Instrumentors and other processors share the original span, so it is only read and never changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode

from hh_jupyter import attributes as keys
from hh_jupyter.conventions import describe, readable_name
from hh_jupyter.conventions.facts import SpanFacts
from hh_jupyter.delivery.sealing.kept_ids import with_ids
from hh_jupyter.delivery.sealing.stamp import Stamp, session_id_of, stamped_attributes
from hh_jupyter.records.record import SpanRecord, span_error
from hh_jupyter.redaction import Redactor, RedactorWithFunction
from hh_jupyter.values import copy_attributes, drop_largest, plain_values


@dataclass(frozen=True, slots=True)
class SealPolicy:
    """The settings that sealing needs.

    Attributes:
        run_ids: experiment ids by baggage key.
        experiment: attributes from the settings that every span gets.
        max_attributes: limit on the span's own attributes, not counting the stamped ones.
        max_span_size: limit on keys and texts, in bytes.
    """

    redactor: Redactor | RedactorWithFunction
    run_ids: Mapping[str, str] = field(default_factory=dict)
    experiment: Mapping[str, Any] = field(default_factory=dict)
    max_attributes: int = 1024
    max_events: int = 1024
    max_links: int = 128
    max_span_size: int = 10 * 1024 * 1024


class SealedSpan(NamedTuple):
    """The final copy. A tuple, because one is created for every span and tuples are cheap.

    Attributes:
        dropped, dropped_events, dropped_links: numbers of attributes, events and links removed by our and the SDK's
            limits.
    """

    name: str
    context: SpanContext
    parent: SpanContext | None
    resource: Resource
    scope: InstrumentationScope | None
    attributes: Mapping[str, Any]
    events: Sequence[Event]
    links: Sequence[Link]
    kind: SpanKind
    status: Status
    start_time: int | None
    end_time: int | None
    dropped: int
    dropped_events: int = 0
    dropped_links: int = 0


@dataclass(slots=True)
class _Draft:
    """The mutable state of a span while it is sealed."""

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


def seal(span: ReadableSpan, stamp: Stamp, policy: SealPolicy, resource: Resource) -> tuple[SealedSpan, SpanRecord]:
    """Return the final copy of an ended span, and its row."""
    draft = _redacted(span, stamp.events, policy.redactor)
    # Runs before the limits are applied, because instrumentors write model and usage last.
    scope = span.instrumentation_scope
    draft.facts = describe(
        draft.name, draft.attributes, draft.events, span.start_time or 0, scope.name if scope else ""
    )
    cut = _cut_to_limits(draft, policy)
    record = _record(span, stamp, draft)
    final = stamped_attributes(stamp, policy.run_ids)
    if stamp.baggage:  # It may come from headers of incoming requests.
        stamped = final
        final, number = policy.redactor.attributes(stamped)
        final = with_ids(stamped, final)
        draft.redacted += number
    final.update(policy.experiment)
    final.update(draft.attributes)
    final[keys.EVENT_TYPE] = draft.facts.event_type
    if cut:
        final[keys.TRUNCATED] = ", ".join(cut)
    if draft.redacted:
        final[keys.REDACTED] = draft.redacted
    draft.attributes = final
    return _copy(span, stamp, draft, resource), record


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


def unchanged(span: ReadableSpan, context: SpanContext) -> SealedSpan:
    """Return the span as a `SealedSpan`, without redaction, limits or added attributes."""
    return SealedSpan(
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


def encodable(span: SealedSpan) -> SealedSpan:
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
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return str(value)
    if isinstance(value, list | tuple):
        return tuple(_clean(item) for item in value)
    return value if isinstance(value, bool | int | float | bytes) else _clean(str(value))


def _redacted(span: ReadableSpan, logged: Sequence[Event], redactor: Redactor | RedactorWithFunction) -> _Draft:
    attributes, redacted = redactor.attributes(plain_values(copy_attributes(span.attributes)))
    events, number = redacted_events((*span.events, *logged) if logged else span.events, redactor)
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


def _cut_to_limits(draft: _Draft, policy: SealPolicy) -> list[str]:
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
    attributes, room = drop_largest(attributes, policy.max_span_size)
    draft.attributes = attributes
    cut = before - len(attributes)
    events = []
    for event in draft.events[: policy.max_events]:
        given = copy_attributes(event.attributes)
        kept, room = drop_largest(given, room)
        cut += len(given) - len(kept)
        events.append(event if kept is given else Event(event.name, kept, event.timestamp))
    links = draft.links[: policy.max_links]
    above = {"attributes": cut, "events": len(draft.events) - len(events), "links": len(draft.links) - len(links)}
    draft.events, draft.links = events, links
    draft.dropped += cut
    draft.dropped_events += above["events"]
    draft.dropped_links += above["links"]
    return [f"{number} {what}" for what, number in above.items() if number]


def _copy(span: ReadableSpan, stamp: Stamp, draft: _Draft, resource: Resource) -> SealedSpan:
    parent = span.parent
    if parent is not None and parent.span_id != stamp.parent_id:
        parent = _reparented(parent, stamp.parent_id)
    return SealedSpan(
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


def _record(span: ReadableSpan, stamp: Stamp, draft: _Draft) -> SpanRecord:
    failed = draft.status.status_code is StatusCode.ERROR
    scope = span.instrumentation_scope
    return SpanRecord(
        trace_id=span.context.trace_id,
        span_id=span.context.span_id,
        parent_id=stamp.parent_id,
        name=readable_name(draft.name, draft.attributes),
        start_ns=span.start_time or 0,
        end_ns=span.end_time,
        status="error" if failed else "ok",
        facts=draft.facts,
        scope=scope.name if scope else "",
        error=span_error(draft.attributes, draft.events, draft.status.description) if failed else None,
        session_id=session_id_of(stamp),
        cell=stamp.cell,
        redacted=draft.redacted,
        dropped=draft.dropped,
    )
