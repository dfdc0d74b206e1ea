"""From ended spans to their final form: the one place where redaction, event type, limits and encoding happen.

Both the display and the backend get what is made here.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hh_jupyter.delivery import api, otlp
from hh_jupyter.delivery.details import DetailStore
from hh_jupyter.delivery.outbox import Call, Item, Outbox
from hh_jupyter.delivery.sealed_span import HashedResource, SealedSpan, SealPolicy, encodable, seal
from hh_jupyter.records.log import SpanLog
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.redaction import Redactor
from hh_jupyter.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

    from hh_jupyter.delivery.seal import EndedSpan

logger = logging.getLogger(__name__)

Sealed = tuple[SealedSpan, SpanRecord]


class BatchSealer:
    """Seals batches by the settings it was made with."""

    def __init__(self, settings: Settings, outbox: Outbox, log: SpanLog, details: DetailStore) -> None:
        self.settings = settings
        self._policy = _policy(settings)
        self._outbox, self._log, self._details = outbox, log, details
        self._resources: dict[int, tuple[Resource, HashedResource]] = {}

    def seal(self, *, spans: Sequence[EndedSpan], calls: Sequence[Call]) -> None:
        """Make everything first, then hand it over: calls before spans, since a session's start goes first."""
        sealed = [pair for entry in spans if (pair := self._sealed(entry)) is not None]
        groups: dict[tuple[str | None, str | None], list[Sealed]] = {}
        for pair in sealed:
            groups.setdefault((pair[1].session_id, pair[1].cell), []).append(pair)
        items = [_item(session_id, cell, pairs) for (session_id, cell), pairs in groups.items()]
        requests = [(self._request(call), call.defer) for call in calls]
        for request, defer in requests:
            if defer:
                self._outbox.defer_start(request)
            else:
                self._outbox.add([request])
        for item, pairs in zip(items, groups.values(), strict=True):
            self._details.add(item.body, [record.span_id for _, record in pairs])
        if sealed:
            self._outbox.count_made(Counter(record.cell for _, record in sealed))
            self._outbox.add(items)
            self._log.extend(record for _, record in sealed)

    def _sealed(self, entry: EndedSpan) -> Sealed | None:
        try:
            return seal(entry.span, entry.stamp, self._policy, self._resource_of(entry.span.resource))
        except Exception:  # boundary: one span that cannot be sealed must not take the others with it.
            logger.exception("a span could not be sealed and is lost")
            return None

    def _resource_of(self, resource: Resource) -> HashedResource:
        known = self._resources.get(id(resource))
        if known is None:  # The pair keeps the resource alive, so its id stays its own.
            known = self._resources[id(resource)] = (resource, HashedResource(resource))
        return known[1]

    def _request(self, call: Call) -> Item:
        return Item(call.kind, call.session_id, api.encode(self._policy.redactor.document(call.document)))


def _item(session_id: str | None, cell: str | None, pairs: Sequence[Sealed]) -> Item:
    spans = [span for span, _ in pairs]
    try:
        body = otlp.encode(spans)
    except (ValueError, TypeError):  # One value that protobuf refuses must not take the whole batch with it.
        body = otlp.encode([encodable(span) for span in spans])
    return Item("spans", session_id or "", body, spans=len(pairs), cell=cell)


def _policy(settings: Settings) -> SealPolicy:
    """The part of the settings that sealing needs."""
    redactor = Redactor(
        enabled=settings.redact,
        keys=settings.redact_keys,
        patterns=settings.redact_patterns,
        environ=os.environ,
        secrets=[key for key in (settings.api_key, settings.ingestion_api_key) if key],
    )
    ids = {"run_id": settings.run_id, "dataset_id": settings.dataset_id, "datapoint_id": settings.datapoint_id}
    return SealPolicy(
        redactor=redactor,
        run_ids={name: value for name, value in ids.items() if value},
        max_attributes=settings.max_attributes,
        max_events=settings.max_events,
        max_links=settings.max_links,
        max_span_size=settings.max_span_size,
    )
