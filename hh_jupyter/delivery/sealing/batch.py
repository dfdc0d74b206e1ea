"""From ended spans to their final form: the one place where redaction, event type, limits and encoding happen.

Both the display and the backend get what is made here.
"""

from __future__ import annotations

import functools
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.resources import Resource

from hh_jupyter import attributes as keys
from hh_jupyter.delivery import api
from hh_jupyter.delivery.sealing.details import DetailStore
from hh_jupyter.delivery.sealing.encoding import encode
from hh_jupyter.delivery.sealing.kept_ids import with_ids
from hh_jupyter.delivery.sealing.resource import OwnResource
from hh_jupyter.delivery.sealing.sealed_span import SealedSpan, SealPolicy, encodable, seal
from hh_jupyter.delivery.sending.outbox import Call, Item, Outbox
from hh_jupyter.delivery.spool.copies import Copies
from hh_jupyter.records.log import SpanLog
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.redaction import Redactor
from hh_jupyter.redaction_rules import key_rule
from hh_jupyter.redaction_with import RedactorWith
from hh_jupyter.settings import Settings

if TYPE_CHECKING:
    from hh_jupyter.delivery.sealing.seal import EndedSpan

logger = logging.getLogger(__name__)

SHORTEST_KEY: Final = 8
"""A shorter key is a made-up one, and stands in every other word."""

Sealed = tuple[SealedSpan, SpanRecord]


class BatchSealer:
    """Seals batches by the settings it was made with."""

    def __init__(self, settings: Settings, outbox: Outbox, log: SpanLog, details: DetailStore, copies: Copies) -> None:
        self.settings = settings
        self._policy = _policy(settings)
        self._outbox, self._log, self._details, self._copies = outbox, log, details, copies
        self._resources: dict[int, tuple[Resource, Resource]] = {}

    def prepare(self, *, spans: Sequence[EndedSpan], calls: Sequence[Call]) -> Callable[[], None]:
        """Make everything, and return what hands it over: nothing has happened until that is called."""
        sealed = [pair for entry in spans if (pair := self._sealed(entry)) is not None]
        groups = _grouped(sealed, self.settings.max_export_batch_size)
        bodies = [(_item(pairs), pairs) for pairs in groups]
        requests = [(item, call.defer) for call in calls if (item := self._request(call)) is not None]
        return functools.partial(self._hand_over, requests, sealed, bodies)

    def _hand_over(
        self,
        requests: Sequence[tuple[Item, bool]],
        sealed: Sequence[Sealed],
        bodies: Sequence[tuple[Item, Sequence[Sealed]]],
    ) -> None:
        """Calls before spans, since a session's start goes first; to disk before anything is sent."""
        items = [request for request, defer in requests if not defer]
        for request, defer in requests:
            if defer:
                self._outbox.defer_start(request)
        for item, pairs in bodies:
            self._details.add(item.body, [record.span_id for _, record in pairs])
        self._outbox.count_made(Counter(record.cell for _, record in sealed))
        if self.settings.otlp_enabled:
            items += [item for item, _ in bodies]
        items = [*self._outbox.take_deferred(list(dict.fromkeys(item.session_id for item in items))), *items]
        self._copies.add(items)
        self._outbox.add(items)
        self._log.extend(record for _, record in sealed)

    def _sealed(self, entry: EndedSpan) -> Sealed | None:
        try:
            return seal(entry.span, entry.stamp, self._policy, self._resource_of(entry.span.resource))
        except Exception as error:  # boundary: one span that cannot be sealed must not take the others with it.
            logger.debug("a span could not be sealed", exc_info=True)
            self._outbox.note_lost(f"a span could not be sealed and is lost ({type(error).__name__})")
            return None

    def _resource_of(self, resource: Resource) -> Resource:
        """The same object for the same resource: the encoder groups by identity."""
        known = self._resources.get(id(resource))
        if known is None:  # The pair keeps the resource alive, so its id stays its own.
            named = resource.for_tracer(self.settings) if isinstance(resource, OwnResource) else resource
            attributes, redacted = self._policy.redactor.attributes(dict(named.attributes))
            if redacted:  # OTEL_RESOURCE_ATTRIBUTES, or a command line.
                named = Resource(attributes, named.schema_url)
            known = self._resources[id(resource)] = (resource, named)
        return known[1]

    def _request(self, call: Call) -> Item | None:
        try:
            redacted = with_ids(call.document, self._policy.redactor.document(call.document))
            body = api.encode(redacted)
            return Item(call.kind, str(call.session_id), body)
        except Exception as error:  # boundary: nor may one call that cannot be encoded.
            logger.debug("a call (%s) could not be encoded", call.kind, exc_info=True)
            self._outbox.note_lost(f"a call ({call.kind}) could not be encoded and is lost ({type(error).__name__})")
            return None


def _grouped(sealed: Iterable[Sealed], most: int) -> list[list[Sealed]]:
    """Spans of one session and cell together, at most so many in one group."""
    groups: dict[tuple[str | None, str | None], list[Sealed]] = {}
    full: list[list[Sealed]] = []
    for pair in sealed:
        key = (pair[1].session_id, pair[1].cell)
        group = groups.setdefault(key, [])
        group.append(pair)
        if len(group) >= most:
            full.append(groups.pop(key))
    return [*full, *groups.values()]


def _item(pairs: Sequence[Sealed]) -> Item:
    """The body of spans of one session and cell."""
    spans = [span for span, _ in pairs]
    session_id, cell = pairs[0][1].session_id, pairs[0][1].cell
    try:
        body = encode(spans)
    except (ValueError, TypeError):  # One value that protobuf refuses must not take the whole batch with it.
        body = encode([encodable(span) for span in spans])
    return Item("spans", session_id or "", body, spans=len(pairs), cell=cell)


def redactor_of(settings: Settings) -> Redactor | RedactorWith:
    """The one set of rules by which secrets are taken out, before delivery and before display."""
    hidden = (settings.api_key, settings.ingestion_api_key, *_header_secrets(settings))
    rules = Redactor(
        enabled=settings.redact,
        keys=settings.redact_keys,
        patterns=settings.redact_patterns,
        environ=os.environ,
        secrets=[key for key in hidden if key and len(key) >= SHORTEST_KEY],
    )
    own = settings.redact_with if settings.redact else None
    return RedactorWith(rules, own) if own is not None else rules


def _policy(settings: Settings) -> SealPolicy:
    """The part of the settings that sealing needs."""
    redactor = redactor_of(settings)
    ids = {"run_id": settings.run_id, "dataset_id": settings.dataset_id, "datapoint_id": settings.datapoint_id}
    return SealPolicy(
        redactor=redactor,
        run_ids={name: value for name, value in ids.items() if value},
        experiment=redactor.attributes(_experiment(settings))[0],
        max_attributes=settings.max_attributes,
        max_events=settings.max_events,
        max_links=settings.max_links,
        max_span_size=settings.max_span_size,
    )


def _header_secrets(settings: Settings) -> list[str]:
    """Credentials among the headers of the settings; others, such as a region, stand in many a span."""
    given = (settings.otlp_headers or {}).items()
    return [text.rpartition(" ")[2] for name, text in given if key_rule(name)]  # "Bearer" is no secret.


def _experiment(settings: Settings) -> dict[str, Any]:
    """What the settings write on every span (contract, section 3)."""
    found = {key: getattr(settings, name) for name, key in keys.EXPERIMENT.items()}
    for name, value in (settings.experiment_metadata or {}).items():
        text = json.dumps(value, default=str) if isinstance(value, dict | list) else str(value)
        found[f"{keys.EXPERIMENT_METADATA}.{name}"] = None if value is None else text
    return {key: value for key, value in found.items() if value}
