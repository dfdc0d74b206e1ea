"""From ended spans to their final form: the one place where redaction, event type, limits and encoding happen.

Both the display and the backend get what is made here.
"""

from __future__ import annotations

import functools
import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

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

SHORTEST_KEY: Final = 8
"""A shorter key is a made-up one, and stands in every other word."""

Sealed = tuple[SealedSpan, SpanRecord]


class BatchSealer:
    """Seals batches by the settings it was made with."""

    def __init__(self, settings: Settings, outbox: Outbox, log: SpanLog, details: DetailStore) -> None:
        self.settings = settings
        self._policy = _policy(settings)
        self._outbox, self._log, self._details = outbox, log, details
        self._resources: dict[int, tuple[Resource, HashedResource]] = {}

    def prepare(self, *, spans: Sequence[EndedSpan], calls: Sequence[Call]) -> Callable[[], None]:
        """Make everything, and return what hands it over: nothing has happened until that is called."""
        sealed = [pair for entry in spans if (pair := self._sealed(entry)) is not None]
        groups: dict[tuple[str | None, str | None], list[Sealed]] = {}
        for pair in sealed:
            groups.setdefault((pair[1].session_id, pair[1].cell), []).append(pair)
        items = [_item(session_id, cell, pairs) for (session_id, cell), pairs in groups.items()]
        requests = [(item, call.defer) for call in calls if (item := self._request(call)) is not None]
        return functools.partial(self._hand_over, requests, sealed, list(zip(items, groups.values(), strict=True)))

    def _hand_over(
        self,
        requests: Sequence[tuple[Item, bool]],
        sealed: Sequence[Sealed],
        bodies: Sequence[tuple[Item, Sequence[Sealed]]],
    ) -> None:
        """Calls before spans, since a session's start goes first."""
        for request, defer in requests:
            if defer:
                self._outbox.defer_start(request)
            else:
                self._outbox.add([request])
        for item, pairs in bodies:
            self._details.add(item.body, [record.span_id for _, record in pairs])
        if sealed:
            self._outbox.count_made(Counter(record.cell for _, record in sealed))
            self._outbox.add([item for item, _ in bodies])
            self._log.extend(record for _, record in sealed)

    def _sealed(self, entry: EndedSpan) -> Sealed | None:
        try:
            return seal(entry.span, entry.stamp, self._policy, self._resource_of(entry.span.resource))
        except Exception:  # boundary: one span that cannot be sealed must not take the others with it.
            logger.exception("a span could not be sealed and is lost")
            self._outbox.note_lost("a span could not be sealed")
            return None

    def _resource_of(self, resource: Resource) -> HashedResource:
        known = self._resources.get(id(resource))
        if known is None:  # The pair keeps the resource alive, so its id stays its own.
            known = self._resources[id(resource)] = (resource, HashedResource(resource))
        return known[1]

    def _request(self, call: Call) -> Item | None:
        try:
            body = api.encode(self._policy.redactor.document(call.document))
            return Item(call.kind, str(call.session_id), body)
        except Exception:  # boundary: nor may one call that cannot be encoded.
            logger.exception("a call (%s) could not be encoded and is lost", call.kind)
            self._outbox.note_lost("a call could not be encoded")
            return None


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
        secrets=[key for key in (settings.api_key, settings.ingestion_api_key) if key and len(key) >= SHORTEST_KEY],
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
