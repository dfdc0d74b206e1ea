"""Collects the events that libraries write to OpenTelemetry's logs about a tracer's spans: messages, evaluations.

An event is kept here while its span is open, and is added to our copy of the span when that ends; the span itself,
which other exporters share, is not changed. Nothing is loaded in a process that does not use OpenTelemetry's logs API.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container
from sys import modules
from typing import TYPE_CHECKING, Final

from opentelemetry.sdk.trace import Event
from opentelemetry.trace import SpanContext

from hh_jupyter.delivery.sealing.stamp import LateEvent
from hh_jupyter.values import evict_oldest

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider

logger = logging.getLogger(__name__)

LOGS_API: Final = "opentelemetry._logs"
"""The module that every library imports before it writes log records."""

MAX_ENDED: Final = 10_000
"""Number of ended spans that still accept late events."""

_UNSEEN: Final = object()


class LogEventCollector:
    """The events of one tracer's spans, joined to the LoggerProvider as the processor is to the TracerProvider.

    Called on users' threads, inside destructors too: single operations on dicts, no lock.

    Args:
        open_spans: ids of the spans that have started and not ended.
        put_late: takes an event of a span that has ended.

    Attributes:
        awaited: a LoggerProvider was joined or set, so events may arrive.
    """

    def __init__(self, open_spans: Container[int], put_late: Callable[[LateEvent], None]) -> None:
        self._open, self._put_late = open_spans, put_late
        self._on = self._join = self._set_global = False
        self._seen: object = _UNSEEN
        self._kept: dict[int, list[tuple[int, Event]]] = {}
        self._ended: dict[int, None] = {}
        self.awaited = False

    def switch_on(self, *, join: bool, set_global: bool) -> None:
        """Take events from now on.

        Args:
            join: take those written to a global LoggerProvider that other code has set.
            set_global: set our own global LoggerProvider if there is none.
        """
        self._on, self._join, self._set_global = True, join, set_global
        self._seen = _UNSEEN

    def switch_off(self) -> None:
        """Stop taking events, and withdraw from the global LoggerProvider."""
        if self.awaited:
            from hh_jupyter.tracing import logger_provider

            logger_provider.withdraw(self)
        self._on = self.awaited = False
        self._kept.clear()
        self._ended.clear()

    def follow_global(self) -> None:
        """Join the global LoggerProvider if it has changed. Cheap, since it is called at every span start."""
        api = modules.get(f"{LOGS_API}._internal")
        if self._on and getattr(api, "_LOGGER_PROVIDER", None) is not self._seen:
            self.join_global()

    def join_global(self) -> None:
        """Join the global LoggerProvider now, loading the logs API if needed: an event may come before any span."""
        if not self._on:
            return
        try:
            from hh_jupyter.tracing import logger_provider

            self._seen = logger_provider.receive(self, join=self._join, set_global=self._set_global)
            self.awaited = True
        except Exception:  # boundary: with an unusual LoggerProvider, spans are shown without its events.
            logger.debug("the LoggerProvider could not be joined", exc_info=True)
            self._on = False

    def provider(self) -> LoggerProvider | None:
        """The LoggerProvider to give to instrumentors; it forwards to the global one. None while switched off."""
        self.join_global()
        if not self.awaited:
            return None
        from hh_jupyter.tracing import logger_provider

        return logger_provider.OURS

    def knows(self, span_id: int) -> bool:
        """Whether this tracer's span is open or has ended recently."""
        return span_id in self._open or span_id in self._ended

    def take(self, trace_id: int, span_id: int, event: Event) -> None:
        """Take an event of a span for which `knows` is true."""
        if span_id in self._open:
            self._kept.setdefault(span_id, []).append((trace_id, event))
            if span_id in self._open:
                return
            # It has ended on another thread meanwhile, which may not have seen the event.
            if self._kept.pop(span_id, None) is None:
                return
        self._put_late(LateEvent(trace_id, span_id, event))

    def of(self, context: SpanContext) -> tuple[Event, ...]:
        """Return and forget the events of a span that has just ended."""
        self._ended[context.span_id] = None
        evict_oldest(self._ended, MAX_ENDED)
        kept = self._kept.pop(context.span_id, ())
        return tuple(event for trace_id, event in kept if trace_id == context.trace_id)
