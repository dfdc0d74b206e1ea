"""One span, sealed: our own copy, redacted, stamped, typed and cut to its limits, and the row made from it.

The span that instrumentors and other processors share is read and never changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanContext, Status, StatusCode

from hh_jupyter import attributes as keys
from hh_jupyter.conventions import describe
from hh_jupyter.conventions.facts import SpanFacts
from hh_jupyter.delivery.stamp import Stamp, session_id_of, stamped_attributes
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.records.record_error import span_error
from hh_jupyter.redaction import Redactor


@dataclass(frozen=True, slots=True)
class SealPolicy:
    """What sealing needs to know of the tracer's settings.

    Attributes:
        run_ids: experiment ids by baggage key.
        max_attributes: attributes of the span's own, beside the stamped ones.
        max_span_size: bytes of keys and texts.
    """

    redactor: Redactor
    run_ids: Mapping[str, str] = field(default_factory=dict)
    max_attributes: int = 1024
    max_events: int = 1024
    max_links: int = 128
    max_span_size: int = 10 * 1024 * 1024


class SealedSpan(ReadableSpan):
    """The final copy. `dropped_attributes` counts what the SDK's limits and ours removed.

    Its attributes are in `final_attributes`; the encoder finds none under `attributes`, see `otlp.encode`.
    """

    def __init__(self, *, dropped: int, final_attributes: dict[str, Any], **fields: Any) -> None:
        super().__init__(**fields)
        self.final_attributes = final_attributes
        self._dropped = dropped

    @property
    def dropped_attributes(self) -> int:
        return self._dropped


class HashedResource(Resource):
    """A resource that hashes once: the encoder hashes it for every span, and the SDK's hash writes JSON each time."""

    def __init__(self, resource: Resource) -> None:
        super().__init__(resource.attributes, resource.schema_url)
        self._hash = hash(resource)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or super().__eq__(other)


@dataclass(slots=True)
class _Draft:
    """A span on its way to its final form."""

    name: str
    links: Sequence[Link]
    attributes: dict[str, Any]
    events: Sequence[Event]
    status: Status
    redacted: int
    dropped: int
    facts: SpanFacts = SpanFacts()


def seal(span: ReadableSpan, stamp: Stamp, policy: SealPolicy, resource: Resource) -> tuple[SealedSpan, SpanRecord]:
    """Make the final copy of an ended span, and its row."""
    draft = _redacted(span, policy.redactor)
    # Before the limits cut: instrumentors write model and usage last.
    draft.facts = describe(draft.name, draft.attributes, draft.events, span.start_time or 0)
    cut = _cut_to_limits(draft, policy)
    record = _record(span, stamp, draft)
    final = stamped_attributes(stamp, policy.run_ids)
    if stamp.baggage:  # Headers that others sent.
        final, number = policy.redactor.attributes(final)
        draft.redacted += number
    final.update(draft.attributes)
    final[keys.EVENT_TYPE] = draft.facts.event_type
    if cut:
        final[keys.TRUNCATED] = f"{cut} attributes"
    if draft.redacted:
        final[keys.REDACTED] = draft.redacted
    draft.attributes = final
    return _copy(span, stamp, draft, resource, policy), record


def encodable(span: SealedSpan) -> SealedSpan:
    """The same span with every value that protobuf cannot hold as text: lone surrogates, integers above 64 bits."""
    return SealedSpan(
        name=_clean(span.name),
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        final_attributes={_clean(key): _clean(value) for key, value in span.final_attributes.items()},
        events=[
            Event(_clean(e.name), {_clean(k): _clean(v) for k, v in (e.attributes or {}).items()}, e.timestamp)
            for e in span.events
        ],
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code, _clean(span.status.description))
        if span.status.description
        else span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
        dropped=span.dropped_attributes,
    )


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return str(value)
    return value if isinstance(value, bool | int | float | bytes | tuple) else str(value)


def _redacted(span: ReadableSpan, redactor: Redactor) -> _Draft:
    attributes, redacted = redactor.attributes(span.attributes or {})
    events: list[Event] = []
    for event in span.events:
        kept, number = redactor.attributes(event.attributes or {})
        name, in_name = redactor.text(event.name)
        events.append(Event(name, kept, event.timestamp) if number or in_name else event)
        redacted += number + in_name
    links: list[Link] = []
    for link in span.links:
        kept, number = redactor.attributes(link.attributes or {})
        links.append(Link(link.context, kept) if number else link)
        redacted += number
    status = span.status
    if status.description:
        text, number = redactor.text(status.description)
        status = Status(StatusCode.ERROR, text) if number else status
        redacted += number
    name, number = redactor.text(span.name)
    return _Draft(name, links, attributes, events, status, redacted + number, span.dropped_attributes)


def _cut_to_limits(draft: _Draft, policy: SealPolicy) -> int:
    """Leave out what is above the limits: the largest values first for size, the latest keys for number."""
    attributes = draft.attributes
    before = len(attributes)
    if before > policy.max_attributes:
        # The keys set last are what matters least, save for model and usage, which instrumentors write at the end.
        first, last = policy.max_attributes - policy.max_attributes // 8, policy.max_attributes // 8
        names = list(attributes)
        names = names[:first] + (names[-last:] if last else [])
        attributes = {name: attributes[name] for name in names}
    excess = sum([len(value) for value in attributes.values() if type(value) is str]) - policy.max_span_size
    if excess > 0:
        texts = (name for name, value in attributes.items() if type(value) is str)
        for name in sorted(texts, key=lambda name: len(attributes[name]), reverse=True):
            excess -= len(attributes.pop(name))
            if excess <= 0:
                break
    draft.events = draft.events[: policy.max_events]
    draft.attributes = attributes
    cut = before - len(attributes)
    draft.dropped += cut
    return cut


def _copy(span: ReadableSpan, stamp: Stamp, draft: _Draft, resource: Resource, policy: SealPolicy) -> SealedSpan:
    parent = span.parent
    if parent is not None and parent.span_id != stamp.parent_id:
        parent = _reparented(parent, stamp.parent_id)
    return SealedSpan(
        name=draft.name,
        context=span.context,
        parent=parent,
        resource=resource,
        final_attributes=draft.attributes,
        events=draft.events,
        links=draft.links[: policy.max_links],
        kind=span.kind,
        status=draft.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
        dropped=draft.dropped,
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
        name=draft.name,
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
