"""Seals batches of ended spans: the only place that applies redaction, event types, limits and encoding.

The display and the backend both use the result.
"""

from __future__ import annotations

import functools
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from opentelemetry.sdk.resources import Resource

from hh_jupyter import attributes as keys
from hh_jupyter.delivery import api
from hh_jupyter.delivery.sealing.details import DetailStore
from hh_jupyter.delivery.sealing.encoding import encode
from hh_jupyter.delivery.sealing.kept_ids import with_ids
from hh_jupyter.delivery.sealing.late_events import add_to_kept, merged
from hh_jupyter.delivery.sealing.resource import OwnResource
from hh_jupyter.delivery.sealing.sealed_span import SealedSpan, SealPolicy, encodable, seal
from hh_jupyter.delivery.sealing.stamp import LateEvent
from hh_jupyter.delivery.sending.item import Call, Item
from hh_jupyter.delivery.sending.outbox import Outbox
from hh_jupyter.delivery.sending.target import Target
from hh_jupyter.delivery.spool.copies import Copies
from hh_jupyter.records.log import SpanLog
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.redaction import Redactor, RedactorWithFunction, key_rule
from hh_jupyter.settings import Settings

if TYPE_CHECKING:
    from hh_jupyter.delivery.sealing.stamp import EndedSpan

logger = logging.getLogger(__name__)

SHORTEST_KEY: Final = 8
"""Characters. Shorter keys are not redacted: they are placeholders and occur inside ordinary words."""


class Sealed(NamedTuple):
    """One span in its final form.

    Attributes:
        by_others: destinations that other exporters send it to.
        claimed: other exporters send it, and its own attributes name its session. The session start must be sent
            because the backend receives spans of that session.
    """

    span: SealedSpan
    record: SpanRecord
    by_others: tuple[Target, ...]
    claimed: bool


class BatchSealer:
    """Seals batches with fixed settings."""

    def __init__(self, settings: Settings, outbox: Outbox, log: SpanLog, details: DetailStore, copies: Copies) -> None:
        self.settings = settings
        self._policy = _policy(settings)
        self._outbox, self._log, self._details, self._copies = outbox, log, details, copies
        self._resources: dict[int, tuple[Resource, Resource]] = {}

    def prepare(
        self, *, spans: Sequence[EndedSpan], calls: Sequence[Call], late: Sequence[LateEvent] = ()
    ) -> Callable[[], None]:
        """Seal everything and return a function that hands over the result. Nothing is queued before it is called."""
        if late:
            spans, late = merged(spans, late)
        sealed = [one for entry in spans if (one := self._sealed(entry)) is not None]
        groups = _grouped(sealed, self.settings.max_export_batch_size)
        bodies = [(_item(group), group) for group in groups]
        requests = [(item, call.defer) for call in calls if (item := self._request(call)) is not None]
        return functools.partial(self._hand_over, requests, sealed, bodies, late)

    def _hand_over(
        self,
        requests: Sequence[tuple[Item, bool]],
        sealed: Sequence[Sealed],
        bodies: Sequence[tuple[Item, Sequence[Sealed]]],
        late: Sequence[LateEvent],
    ) -> None:
        """Queue the results: calls before spans, because a session start goes first.

        Copies go to disk before anything is queued for sending.
        """
        items = [request for request, defer in requests if not defer]
        for request, defer in requests:
            if defer:
                self._outbox.defer_start(request)
        for item, group in bodies:
            self._details.add(item.body, [one.record.span_id for one in group])
        for by_others, cells in _made(sealed).items():
            self._outbox.count_made(cells, by_others)
        if self.settings.otlp_enabled:
            items += [item for item, _ in bodies]
        kept = [item for item in items if not self._outbox.left_to(item.by_others)]
        known = [item.session_id for item in kept] + _claimed(sealed)
        starts = self._outbox.take_deferred(list(dict.fromkeys(known)))
        self._copies.add([*starts, *kept])
        self._outbox.add([*starts, *items])
        self._log.extend(one.record for one in sealed)
        if late:
            self._add_late(late)

    def _add_late(self, late: Sequence[LateEvent]) -> None:
        try:
            add_to_kept(late, self._policy, self._details, self._log)
        except Exception:  # boundary: the span is shown without these events.
            logger.debug("events that came late could not be added to their spans", exc_info=True)

    def _sealed(self, entry: EndedSpan) -> Sealed | None:
        try:
            span, record = seal(entry.span, entry.stamp, self._policy, self._resource_of(entry.span.resource))
            by_others = entry.stamp.by_others
            claimed = bool(by_others) and (entry.span.attributes or {}).get(keys.SESSION_ID) == record.session_id
            return Sealed(span, record, by_others, claimed)
        except Exception as error:  # boundary: a span that cannot be sealed must not affect the others.
            logger.debug("a span could not be sealed", exc_info=True)
            self._outbox.note_lost(f"a span could not be sealed and is lost ({type(error).__name__})")
            return None

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

    def _request(self, call: Call) -> Item | None:
        try:
            redacted = with_ids(call.document, self._policy.redactor.document(call.document))
            body = api.encode(redacted)
            return Item(call.kind, str(call.session_id), body)
        except Exception as error:  # boundary: a call that cannot be encoded must not affect the others.
            logger.debug("a call (%s) could not be encoded", call.kind, exc_info=True)
            self._outbox.note_lost(f"a call ({call.kind}) could not be encoded and is lost ({type(error).__name__})")
            return None


def _grouped(sealed: Iterable[Sealed], most: int) -> list[list[Sealed]]:
    """Group spans by session, cell and other exporters' destinations, with at most `most` spans per group."""
    groups: dict[object, list[Sealed]] = {}
    full: list[list[Sealed]] = []
    for one in sealed:
        key = (one.record.session_id, one.record.cell, one.by_others)
        group = groups.setdefault(key, [])
        group.append(one)
        if len(group) >= most:
            full.append(groups.pop(key))
    return [*full, *groups.values()]


def _made(sealed: Iterable[Sealed]) -> dict[tuple[Target, ...], Counter[str | None]]:
    """Count the spans per cell, grouped by the destinations that other exporters send them to."""
    found: dict[tuple[Target, ...], Counter[str | None]] = {}
    for one in sealed:
        found.setdefault(one.by_others, Counter())[one.record.cell] += 1
    return found


def _claimed(sealed: Iterable[Sealed]) -> list[str]:
    """Return the ids of the sessions whose spans other exporters send with a session id."""
    return [one.record.session_id for one in sealed if one.claimed and one.record.session_id]


def _item(group: Sequence[Sealed]) -> Item:
    """Encode the spans of one session and cell as one item."""
    spans = [one.span for one in group]
    first = group[0].record
    try:
        body = encode(spans)
    except (ValueError, TypeError):  # A value that protobuf rejects must not lose the batch.
        body = encode([encodable(span) for span in spans])
    by_others = group[0].by_others
    return Item("spans", first.session_id or "", body, spans=len(group), cell=first.cell, by_others=by_others)


def redactor_of(settings: Settings) -> Redactor | RedactorWithFunction:
    """Return the redactor for these settings. Delivery and display use the same rules."""
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


def _policy(settings: Settings) -> SealPolicy:
    """Return the part of the settings that sealing needs."""
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
