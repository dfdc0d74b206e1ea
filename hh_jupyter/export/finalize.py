"""Finalizes ended spans and requests under fixed settings, in batches, and encodes them.

The display and the backend both use the result. What happens to a single span is in `export.final_span`.
"""

from __future__ import annotations

import functools
import json
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from hh_jupyter import attributes as keys
from hh_jupyter.export import endpoint, otlp
from hh_jupyter.export.final_span import (
    FinalizePolicy,
    encodable,
    encodable_events,
    final_span,
    redacted_events,
    with_ids,
)
from hh_jupyter.export.model import EndedSpan, LateEvent, Request
from hh_jupyter.export.otlp import FinalSpan
from hh_jupyter.export.resource import OwnResource
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.redaction import Redactor, RedactorWithFunction
from hh_jupyter.secret_rules import key_rule
from hh_jupyter.settings import Settings
from hh_jupyter.threads import evict_oldest

if TYPE_CHECKING:
    from hh_jupyter.export.store import BodyStore
    from hh_jupyter.records.log import SpanLog

logger = logging.getLogger(__name__)

SHORTEST_KEY: Final = 8
"""Characters. Shorter keys are not redacted: they are placeholders and occur inside ordinary words."""

MAX_RESOURCES: Final = 1_000
"""Number of resources, and of scopes, that a finalizer remembers; those of received spans may be any number."""


class FinalBody(NamedTuple):
    """The final spans of one session and cell, encoded."""

    session_id: str
    cell: str | None
    data: bytes
    records: list[SpanRecord]
    spans: Sequence[EndedSpan]

    @property
    def claimed(self) -> bool:
        """Whether a span's own attributes name the session. The backend then receives it from other exporters, too."""
        return any((each.span.attributes or {}).get(keys.SESSION_ID) == self.session_id for each in self.spans)

    @property
    def created(self) -> list[str]:
        """The ids that code chose for the events of the spans."""
        return [record.event_id for record in self.records if record.event_id is not None]


class Finalizer:
    """Finalizes spans and requests with fixed settings."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._policy = _policy(settings)
        self._resources: dict[int, tuple[Resource, Resource]] = {}
        self._scopes: dict[int, tuple[InstrumentationScope, InstrumentationScope]] = {}
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
            if span.scope is not None and span.scope.attributes:  # Few have any.
                span = span._replace(scope=self._scope_of(span.scope))
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
        records = [record for _, record, _ in kept]
        return FinalBody(records[0].session_id or "", records[0].cell, data, records, [entry for *_, entry in kept])

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
            return endpoint.encode(redacted)
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
        """Add the fields of each event update, redacted, to the stored copy of the span that it is about.

        Of an event that is not the span's own, the span gets the feedback only.
        """
        for request in updates:
            record = log.find(*request.about) if request.about else log.find_event(request.session_id)
            if record is None:
                continue
            document = self._policy.redactor.document(request.document)
            if request.about:
                document = {"feedback": document.get("event", document).get("feedback")}
            attributes = otlp.update_attributes(document)
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
            evict_oldest(self._resources, MAX_RESOURCES)
        return known[1]

    def _scope_of(self, scope: InstrumentationScope) -> InstrumentationScope:
        """Return the redacted scope, the same object as long as it is remembered; see `_resource_of`."""
        known = self._scopes.get(id(scope))
        if known is None:
            attributes, redacted = self._policy.redactor.attributes(dict(scope.attributes or {}))
            kept = InstrumentationScope(scope.name, scope.version, scope.schema_url, attributes) if redacted else scope
            known = self._scopes[id(scope)] = (scope, kept)
            evict_oldest(self._scopes, MAX_RESOURCES)
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
