"""Adds events that arrive after their span has ended.

If the span is not sealed yet, the event becomes part of it. A sealed span is already encoded, queued and perhaps sent,
and OTLP cannot update it: then the event is added only to the copy that displays read, as long as that is kept.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hh_jupyter.delivery.sealing.details import DetailStore
from hh_jupyter.delivery.sealing.encoding import with_events
from hh_jupyter.delivery.sealing.sealed_span import SealPolicy, encodable_events, redacted_events
from hh_jupyter.delivery.sealing.stamp import LateEvent
from hh_jupyter.delivery.sealing.stored_spans import records_of
from hh_jupyter.records.log import SpanLog

if TYPE_CHECKING:
    from hh_jupyter.delivery.sealing.stamp import EndedSpan


def merged(spans: Sequence[EndedSpan], late: Sequence[LateEvent]) -> tuple[list[EndedSpan], list[LateEvent]]:
    """Add the events to their spans. Returns the spans, and the events that belong to none of them."""
    of_span: defaultdict[tuple[int, int], list[LateEvent]] = defaultdict(list)
    for one in late:
        of_span[one.trace_id, one.span_id].append(one)
    found = []
    for entry in spans:
        context, stamp = entry.span.context, entry.stamp
        events = tuple(one.event for one in of_span.pop((context.trace_id, context.span_id), ()))
        found.append(entry._replace(stamp=stamp._replace(events=(*stamp.events, *events))) if events else entry)
    return found, [one for others in of_span.values() for one in others]


def add_to_kept(late: Sequence[LateEvent], policy: SealPolicy, details: DetailStore, log: SpanLog) -> None:
    """Add each event, redacted, to the stored copy of its span, and update the span's row in the log."""
    for trace_id, span_id, event in late:
        row = log.find(trace_id, span_id)
        if row is None:
            continue
        events, redacted = redacted_events([event], policy.redactor)
        add = functools.partial(
            with_events,
            trace_id=trace_id,
            span_id=span_id,
            events=encodable_events(events),
            most=policy.max_events,
        )
        body = details.change(span_id, add)
        if body is not None:
            again = next(each for each in records_of(body) if (each.trace_id, each.span_id) == (trace_id, span_id))
            log.replace(row, facts=again.facts, redacted=row.redacted + redacted)
