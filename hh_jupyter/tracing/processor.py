"""The one span processor: a stamp when a span starts, `(span, stamp)` handed on when it ends, nothing else.

It runs on the user's thread, also inside destructors: no lock, no I/O, no exception.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from sys import modules
from typing import Final, cast

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import SpanKind, get_current_span

from hh_jupyter import attributes as keys
from hh_jupyter.delivery.sealing.stamp import LateEvent, Session, Stamp
from hh_jupyter.delivery.sending.target import Target
from hh_jupyter.tracing.bounded import forget_oldest
from hh_jupyter.tracing.log_events import LOGS_API, LogEvents
from hh_jupyter.tracing.open_spans import open_spans
from hh_jupyter.tracing.other_exporters import OtherExporters
from hh_jupyter.tracing.scope import CELL
from hh_jupyter.tracing.session_baggage import SESSION_KEYS, entries_for
from hh_jupyter.tracing.sessions import Sessions

ENTRANCES: Final = frozenset({SpanKind.SERVER, SpanKind.CONSUMER})
"""Kinds of spans that frameworks start for a request or message, before any handler can make its session."""

MAX_FILTERED: Final = 10_000
"""Filtered spans whose kept ancestor is remembered for children that start late."""


class StampingProcessor(SpanProcessor):
    """Stamps spans and hands them to the sealer.

    Args:
        sessions: tell the tracer's own session at any moment.
        put: takes an ended span and its stamp; must not lock or raise.
        put_late: takes an event of a span that was put before; must not lock or raise.
        flush: delivers what was put, within so many seconds.
        flush_last: the same within the budget of a program's end.
        filters: name prefixes to `include` and to `exclude`.

    Attributes:
        logs: collects the events that are written as log records.
    """

    def __init__(
        self,
        sessions: Sessions,
        put: Callable[[ReadableSpan, Stamp], None],
        put_late: Callable[[LateEvent], None],
        flush: Callable[[float], bool],
        flush_last: Callable[[], object],
        filters: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self._sessions, self._put, self._flush, self._flush_last = sessions, put, flush, flush_last
        self._include: tuple[str, ...] = ()
        self._exclude: tuple[str, ...] = ()
        self.filter(filters)
        # Single dict operations are atomic; a lock here could deadlock in a destructor.
        self._open: dict[int, Stamp] = {}
        self._kept_ancestor: dict[int, int | None] = {}
        self._watched = open_spans()
        self.logs = LogEvents(self._open, put_late)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Note where the span belongs."""
        if LOGS_API in modules:
            self.logs.follow_global()
        context = otel_context.get_current() if parent_context is None else parent_context
        parent = span.parent
        parent_id = None if parent is None else parent.span_id
        if parent_id is not None:
            parent_id = self._kept_ancestor.get(parent_id, parent_id)  # At once: another thread may forget it.
        span_id = span.context.span_id
        if (self._include or self._exclude) and not self.keeps(span.name):
            self._remember_filtered(span_id, parent_id)
            return
        stamp = self._open[span_id] = self._stamp(span, context, parent_id)
        if stamp.cell is not None and self._watched.wanted:
            self._watched.add(span, stamp.cell)

    def on_end(self, span: ReadableSpan, by_others: tuple[Target, ...] = ()) -> None:
        """Hand the span on, if the filters keep it and it is sampled.

        Args:
            by_others: where other exporters of its provider send it.
        """
        stamp = self._open.pop(span.context.span_id, None)
        if self._watched.wanted:
            self._watched.remove(span.context.span_id)
        if stamp is None:
            stamp = self._late_stamp(span)
        if stamp is None:
            return
        events = self.logs.of(span.context) if self.logs.awaited else ()
        if span.context.trace_flags.sampled:
            self._put(span, stamp._replace(by_others=by_others, events=events) if by_others or events else stamp)

    def _stamp(self, span: ReadableSpan, context: Context, parent_id: int | None) -> Stamp:
        cell = cast("str | None", context.get(CELL))
        sessions = self._sessions
        entries = entries_for(sessions, context)
        own = sessions.stamp
        if cell is None and sessions.elsewhere is not None:
            own = sessions.elsewhere
        session = own if own.id or keys.BAGGAGE_SESSION_ID in entries else sessions.minted_for(span)
        return Stamp(entries, session, cell, parent_id)

    def _late_stamp(self, span: ReadableSpan) -> Stamp | None:
        """The stamp of a span that started before this processor was there, or elsewhere: what is in force at its end.

        None for one that the filters left out.
        """
        if span.context.span_id in self._kept_ancestor or not self.keeps(span.name):
            return None
        parent_id = self.nearest_kept(None if span.parent is None else span.parent.span_id)
        return self._stamp(span, otel_context.get_current(), parent_id)

    def adopt(self, session: Session) -> None:
        """Take the request being served into the session that its handler makes: its SERVER span started before."""
        span = get_current_span()
        span_id = span.get_span_context().span_id
        stamp = self._open.get(span_id)
        if stamp is None or keys.BAGGAGE_SESSION_ID in stamp.baggage or getattr(span, "kind", None) not in ENTRANCES:
            return
        values = zip(SESSION_KEYS, (session.id, session.project, session.source), strict=True)
        entries = {**stamp.baggage, **{key: value for key, value in values if value}}
        self._open[span_id] = stamp._replace(baggage=entries)

    def nearest_kept(self, span_id: int | None) -> int | None:
        """The span itself, or the nearest ancestor that the filters keep; None if there is none."""
        return None if span_id is None else self._kept_ancestor.get(span_id, span_id)

    def filter(self, filters: Mapping[str, tuple[str, ...]] | None) -> None:
        """Use other filters for spans that start from now on."""
        self._include = tuple((filters or {}).get("include", ()))
        self._exclude = tuple((filters or {}).get("exclude", ()))

    def keeps(self, name: str) -> bool:
        """Whether the filters keep a span of this name: some include prefix or none given, and no exclude prefix."""
        if self._exclude and name.startswith(self._exclude):
            return False
        return not self._include or name.startswith(self._include)

    def _remember_filtered(self, span_id: int, ancestor: int | None) -> None:
        self._kept_ancestor[span_id] = ancestor
        forget_oldest(self._kept_ancestor, MAX_FILTERED)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """`HoneyHiveTracer.force_flush`, for those who know only the provider, as wrappers of Lambda handlers do."""
        return self._flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        """Deliver what there is: somebody shut the provider down. What comes after it is taken and sent as before."""
        self._flush_last()


class ProcessorSlot(SpanProcessor):
    """What is really registered with a provider, since a provider never gives a processor back.

    Inert while `processor` is None; a tracer made later takes the same slot.

    Args:
        others: what else sends the provider's spans.
    """

    def __init__(self, others: OtherExporters) -> None:
        self.processor: StampingProcessor | None = None
        self.others = others

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if self.processor is not None:
            self.processor.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        if self.processor is not None:
            self.processor.on_end(span, self.others.targets())

    def shutdown(self) -> None:
        if self.processor is not None:  # It stays: only its tracer's own `shutdown` ends tracing.
            self.processor.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self.processor is None or self.processor.force_flush(timeout_millis)
