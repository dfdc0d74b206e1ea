"""Finalizes ended spans: the only place that applies redaction, event types, limits and encoding.

The display and the backend both use the result. Instrumentors and other processors share the original span, so it is
only read and never changed.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanContext, Status, StatusCode

from hh_jupyter import attributes as keys
from hh_jupyter.conventions import describe, readable_name
from hh_jupyter.conventions.facts import SpanFacts
from hh_jupyter.export import http, otlp
from hh_jupyter.export.model import EndedSpan, FinalSpan, LateEvent, Origin, Request, Session
from hh_jupyter.export.resource import OwnResource
from hh_jupyter.records import prices, replays
from hh_jupyter.records.record import CALL_KINDS, SpanRecord, event_id_of, failed_status, span_error
from hh_jupyter.redaction import Redactor, RedactorWithFunction
from hh_jupyter.secret_rules import key_rule
from hh_jupyter.settings import Settings
from hh_jupyter.values import copy_attributes, plain_values, valid_utf8

if TYPE_CHECKING:
    from hh_jupyter.export.store import BodyStore
    from hh_jupyter.records.log import SpanLog

logger = logging.getLogger(__name__)

SHORTEST_KEY: Final = 8
"""Characters. Shorter keys are not redacted: they are placeholders and occur inside ordinary words."""


class FinalBody(NamedTuple):
    """The final spans of one session and cell, encoded.

    Attributes:
        claimed: a span's own attributes name the session. If another exporter sends the spans, the backend receives
            spans of that session.
    """

    session_id: str
    cell: str | None
    data: bytes
    records: list[SpanRecord]
    claimed: bool


class Finalizer:
    """Finalizes spans and requests with fixed settings."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._policy = _policy(settings)
        self._resources: dict[int, tuple[Resource, Resource]] = {}
        self._lost: list[str] = []

    def bodies(self, spans: Sequence[EndedSpan]) -> list[FinalBody]:
        """Finalize spans, grouped by session and cell in order, with a limited number of spans in each body."""
        groups: dict[object, list[tuple[FinalSpan, SpanRecord, EndedSpan]]] = {}
        full: list[list[tuple[FinalSpan, SpanRecord, EndedSpan]]] = []
        for entry in spans:
            try:
                span, record = final_span(
                    entry.span, entry.origin, self._policy, self._resource_of(entry.span.resource)
                )
            except Exception as error:  # boundary: a span that cannot be finalized must not affect the others.
                logger.debug("a span could not be finalized", exc_info=True)
                self._lost.append(f"a span could not be finalized and is lost ({type(error).__name__})")
                continue
            key = record.session_id, record.cell
            group = groups.setdefault(key, [])
            group.append((span, record, entry))
            if len(group) >= self.settings.max_export_batch_size:
                full.append(groups.pop(key))
        return [body for group in [*full, *groups.values()] if (body := self._encoded(group)) is not None]

    def _encoded(self, group: Sequence[tuple[FinalSpan, SpanRecord, EndedSpan]]) -> FinalBody | None:
        """Encode the spans of one session and cell; those that cannot be encoded are lost, not the others."""
        try:
            data, kept = otlp.encode([span for span, _, _ in group]), list(group)
        except Exception:  # boundary: a value that protobuf rejects must not lose the batch.
            alone = [(self._encoded_alone(entry[0]), entry) for entry in group]
            kept = [entry for body, entry in alone if body is not None]
            data = otlp.join(body for body, _ in alone if body is not None)
        if not kept:
            return None
        first = kept[0][1]
        session_id = first.session_id or ""
        claimed = any((entry.span.attributes or {}).get(keys.SESSION_ID) == session_id for _, _, entry in kept)
        return FinalBody(session_id, first.cell, data, [record for _, record, _ in kept], claimed)

    def _encoded_alone(self, span: FinalSpan) -> bytes | None:
        try:
            return otlp.encode([encodable(span)])
        except Exception as error:  # boundary: such as a time that is no number.
            logger.debug("a span could not be encoded", exc_info=True)
            self._lost.append(f"a span could not be finalized and is lost ({type(error).__name__})")
            return None

    def request(self, request: Request) -> bytes | None:
        """Redact and encode the document of a request; None if that fails."""
        try:
            redacted = with_ids(request.document, self._policy.redactor.document(request.document))
            return http.encode(redacted)
        except Exception as error:  # boundary: a request that cannot be encoded must not affect the others.
            logger.debug("a request (%s) could not be encoded", request.kind, exc_info=True)
            reason = f"a request ({request.kind}) could not be encoded and is lost ({type(error).__name__})"
            self._lost.append(reason)
            return None

    def take_lost(self) -> list[str]:
        """Return why spans and requests were lost since the last call."""
        lost, self._lost = self._lost, []
        return lost

    def add_late(self, late: Sequence[LateEvent], store: BodyStore, log: SpanLog) -> None:
        """Add each event, redacted, to the stored copy of its span, and update the span's record in the log.

        The span is already encoded, queued and perhaps sent, and OTLP cannot update it.
        """
        for trace_id, span_id, event in late:
            record = log.find(trace_id, span_id)
            if record is None:
                continue
            events, redacted = redacted_events([event], self._policy.redactor)
            add = functools.partial(
                otlp.with_events,
                trace_id=trace_id,
                span_id=span_id,
                events=encodable_events(events),
                most=self._policy.max_events,
            )
            _change(record, add, store, log, redacted)

    def add_updates(self, updates: Sequence[Request], store: BodyStore, log: SpanLog) -> None:
        """Add the fields of each event update, redacted, to the stored copy of the span that it is about."""
        for request in updates:
            record = log.find_event(request.session_id)
            if record is None:
                continue
            attributes = otlp.update_attributes(self._policy.redactor.document(request.document))
            add = functools.partial(
                otlp.with_attributes, trace_id=record.trace_id, span_id=record.span_id, attributes=attributes
            )
            _change(record, add, store, log)

    def _resource_of(self, resource: Resource) -> Resource:
        """Return the redacted resource, always the same object per resource: the encoder groups by identity."""
        known = self._resources.get(id(resource))
        if known is None:  # Storing the resource keeps it alive, so its id is not reused.
            named = resource.for_tracer(self.settings) if isinstance(resource, OwnResource) else resource
            attributes, redacted = self._policy.redactor.attributes(dict(named.attributes))
            if redacted:  # Secrets come from OTEL_RESOURCE_ATTRIBUTES or a command line.
                named = Resource(attributes, named.schema_url)
            known = self._resources[id(resource)] = (resource, named)
        return known[1]


def _change(
    record: SpanRecord,
    change: Callable[[bytes], bytes | None],
    store: BodyStore,
    log: SpanLog,
    redacted: int = 0,
) -> None:
    """Change the stored copy of a span, and update its record in the log."""
    body = store.change(record.span_id, change)
    if body is not None:
        ids = record.trace_id, record.span_id
        again = next(each for each in otlp.records_of(body) if (each.trace_id, each.span_id) == ids)
        log.replace(record, facts=again.facts, redacted=record.redacted + redacted)


def merge_late(spans: Sequence[EndedSpan], late: Sequence[LateEvent]) -> tuple[list[EndedSpan], list[LateEvent]]:
    """Add events to the spans that are not finalized yet. Returns the spans, and the events that belong to none."""
    of_span: defaultdict[tuple[int, int], list[LateEvent]] = defaultdict(list)
    for one in late:
        of_span[one.trace_id, one.span_id].append(one)
    found = []
    for entry in spans:
        context, origin = entry.span.context, entry.origin
        events = tuple(one.event for one in of_span.pop((context.trace_id, context.span_id), ()))
        found.append(entry._replace(origin=origin._replace(events=(*origin.events, *events))) if events else entry)
    return found, [one for others in of_span.values() for one in others]


def redactor_of(settings: Settings) -> Redactor | RedactorWithFunction:
    """Return the redactor for these settings. Export and display use the same rules."""
    hidden = (settings.api_key, settings.ingestion_api_key, *_header_secrets(settings))
    rules = Redactor(
        enabled=settings.redact,
        keys=settings.redact_keys,
        patterns=settings.redact_patterns,
        environ=os.environ,
        secrets=[key for key in hidden if key and len(key) >= SHORTEST_KEY],
    )
    own = settings.redact_with if settings.redact else None
    return RedactorWithFunction(rules, own) if own is not None else rules


def _policy(settings: Settings) -> FinalizePolicy:
    """Return the part of the settings that finalizing needs."""
    redactor = redactor_of(settings)
    ids = {"run_id": settings.run_id, "dataset_id": settings.dataset_id, "datapoint_id": settings.datapoint_id}
    return FinalizePolicy(
        redactor=redactor,
        run_ids={name: value for name, value in ids.items() if value},
        experiment=redactor.attributes(_experiment(settings))[0],
        max_attributes=settings.max_attributes,
        max_events=settings.max_events,
        max_links=settings.max_links,
        max_span_size=settings.max_span_size,
    )


def _header_secrets(settings: Settings) -> list[str]:
    """Return the credentials in the configured headers.

    Other header values, such as a region, are not secret and may occur in many spans.
    """
    given = (settings.otlp_headers or {}).items()
    return [text.rpartition(" ")[2] for name, text in given if key_rule(name)]  # Without the scheme, such as "Bearer".


def _experiment(settings: Settings) -> dict[str, Any]:
    """Return the attributes that the settings add to every span (tests/contract/README.md, section 3)."""
    found = {key: getattr(settings, name) for name, key in keys.EXPERIMENT.items()}
    for name, value in (settings.experiment_metadata or {}).items():
        text = json.dumps(value, default=str) if isinstance(value, dict | list) else str(value)
        found[f"{keys.EXPERIMENT_METADATA}.{name}"] = None if value is None else text
    return {key: value for key, value in found.items() if value}


# One span


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
    if facts.replayed and (saved := prices.saved_cost(facts)) is not None:
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
    left = room - sum(map(len, attributes)) - sum(map(_size, attributes.values()))
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
    for name in keys.BAGGAGE_RUN_KEYS:
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
