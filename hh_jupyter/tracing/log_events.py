"""Collects the events about a tracer's spans that libraries write as log records: messages, evaluation results.

An event is kept while its span is open, and added to our copy of the span when it ends. The span itself, which other
exporters share, is not changed. The logs API is loaded only in a process that uses it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container
from sys import modules
from typing import TYPE_CHECKING, Final

from opentelemetry.sdk.trace import Event
from opentelemetry.trace import SpanContext

from hh_jupyter.export.model import LateEvent
from hh_jupyter.threads import evict_oldest

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider

logger = logging.getLogger(__name__)

LOGS_API: Final = "opentelemetry._logs"
"""The module that a library imports before it writes log records."""

MAX_ENDED: Final = 10_000
"""Number of ended spans that accept late events."""

_NOT_JOINED: Final = object()


class LogEventCollector:
    """Collects the events of one tracer's spans from the global LoggerProvider.

    Called on users' threads, also inside destructors: it uses only single dict operations and no lock.

    Args:
        open_spans: ids of the spans that have started and not ended.
        put_late: accepts an event of a span that has ended.

    Attributes:
        subscribed: a LoggerProvider was joined or set, so events may arrive.
    """

    def __init__(self, open_spans: Container[int], put_late: Callable[[LateEvent], None]) -> None:
        self._open, self._put_late = open_spans, put_late
        self._on = self._join = self._set_global = False
        self._joined: object = _NOT_JOINED
        self._events: dict[int, list[tuple[int, Event]]] = {}
        self._ended: dict[int, None] = {}
        self.subscribed = False

    def switch_on(self, *, join: bool, set_global: bool) -> None:
        """Collect events from now on.

        Args:
            join: also collect those written to a global LoggerProvider that other code has set.
            set_global: set our own global LoggerProvider if there is none.
        """
        self._on, self._join, self._set_global = True, join, set_global
        self._joined = _NOT_JOINED

    def switch_off(self) -> None:
        """Stop collecting events, and unsubscribe from the LoggerProvider."""
        if self.subscribed:
            from hh_jupyter.tracing import logger_provider

            logger_provider.unsubscribe(self)
        self._on = self.subscribed = False
        self._events.clear()
        self._ended.clear()

    def follow_global(self) -> None:
        """Join the global LoggerProvider if it has changed. Must be cheap: called at the start of every span."""
        api = modules.get(f"{LOGS_API}._internal")
        if self._on and getattr(api, "_LOGGER_PROVIDER", None) is not self._joined:
            self.join_global()

    def join_global(self) -> None:
        """Join the global LoggerProvider now, loading the logs API if needed: an event may come before any span."""
        if not self._on:
            return
        try:
            from hh_jupyter.tracing import logger_provider

            self._joined = logger_provider.subscribe(self, join=self._join, set_global=self._set_global)
            self.subscribed = True
        except Exception:  # boundary: with an unusual LoggerProvider, spans are shown without its events.
            logger.debug("could not join the LoggerProvider", exc_info=True)
            self._on = False

    def provider(self) -> LoggerProvider | None:
        """Return the LoggerProvider for instrumentors, which forwards to the global one; None while switched off."""
        self.join_global()
        if not self.subscribed:
            return None
        from hh_jupyter.tracing import logger_provider

        return logger_provider.OWN_PROVIDER

    def knows(self, span_id: int) -> bool:
        """Whether this tracer's span is open or has ended recently."""
        return span_id in self._open or span_id in self._ended

    def add(self, trace_id: int, span_id: int, event: Event) -> None:
        """Add an event of a span for which `knows` is true."""
        if span_id in self._open:
            self._events.setdefault(span_id, []).append((trace_id, event))
            if span_id in self._open:
                return
            # Another thread has ended the span meanwhile, perhaps without this event.
            if self._events.pop(span_id, None) is None:
                return
        self._put_late(LateEvent(trace_id, span_id, event))

    def pop(self, context: SpanContext) -> tuple[Event, ...]:
        """Return and remove the events of a span that has just ended."""
        self._ended[context.span_id] = None
        evict_oldest(self._ended, MAX_ENDED)
        events = self._events.pop(context.span_id, ())
        return tuple(event for trace_id, event in events if trace_id == context.trace_id)
