"""Events that libraries write to OpenTelemetry's logs about a tracer's spans: messages, results of evaluations.

While its span is open an event is kept here, to become one of the span's; the span itself, which other exporters share,
is not changed. A process in which nobody has loaded OpenTelemetry's API of logs pays for none of it.
"""

from __future__ import annotations

import logging
from collections.abc import Container
from sys import modules
from typing import TYPE_CHECKING, Final

from hh_jupyter.delivery.sealing.stamp import LateEvent
from hh_jupyter.tracing.bounded import forget_oldest

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry._logs import LoggerProvider
    from opentelemetry.sdk.trace import Event
    from opentelemetry.trace import SpanContext

logger = logging.getLogger(__name__)

LOGS_API: Final = "opentelemetry._logs"
"""Loaded by each library that writes to logs, before it does."""

MAX_ENDED: Final = 10_000
"""Ended spans whose late events are still taken."""

_UNSEEN: Final = object()


class LogEvents:
    """The events of one tracer's spans, joined to the LoggerProvider as the processor is to the TracerProvider.

    Called on users' threads, inside destructors too: single operations on dicts, no lock.

    Args:
        open_spans: ids of the spans that have started and not ended.
        put_late: takes an event of a span that has ended.

    Attributes:
        awaited: events may come.
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
            join: those of a global LoggerProvider that somebody else made.
            set_global: become OpenTelemetry's global LoggerProvider where there is none.
        """
        self._on, self._join, self._set_global = True, join, set_global
        self._seen = _UNSEEN

    def switch_off(self) -> None:
        """Take none any more, and withdraw from the global LoggerProvider."""
        if self.awaited:
            from hh_jupyter.tracing import logger_provider

            logger_provider.withdraw(self)
        self._on = self.awaited = False
        self._kept.clear()
        self._ended.clear()

    def look(self) -> None:
        """Follow the global LoggerProvider where it has changed. Called whenever a span starts: cheap."""
        api = modules.get(f"{LOGS_API}._internal")
        if self._on and getattr(api, "_LOGGER_PROVIDER", None) is not self._seen:
            self.load()

    def load(self) -> None:
        """`look`, also where nobody has loaded the API of logs: what writes to it first may not start a span."""
        if not self._on:
            return
        try:
            from hh_jupyter.tracing import logger_provider

            self._seen = logger_provider.receive(self, join=self._join, set_global=self._set_global)
            self.awaited = True
        except Exception:  # boundary: spans are made and shown without the events of a LoggerProvider of an odd kind.
            logger.debug("the LoggerProvider could not be joined", exc_info=True)
            self._on = False

    def provider(self) -> LoggerProvider | None:
        """For instrumentors that ask for one; what they write also goes to the global one. None while switched off."""
        self.load()
        if not self.awaited:
            return None
        from hh_jupyter.tracing import logger_provider

        return logger_provider.OURS

    def knows(self, span_id: int) -> bool:
        """Whether the span is one of this tracer's that is open, or ended not long ago."""
        return span_id in self._open or span_id in self._ended

    def take(self, trace_id: int, span_id: int, event: Event) -> None:
        """Take an event of a span that is known."""
        if span_id in self._open:
            self._kept.setdefault(span_id, []).append((trace_id, event))
            if span_id in self._open:
                return
            # It has ended on another thread meanwhile, which may not have seen the event.
            if self._kept.pop(span_id, None) is None:
                return
        self._put_late(LateEvent(trace_id, span_id, event))

    def of(self, context: SpanContext) -> tuple[Event, ...]:
        """The events of a span that has just ended."""
        self._ended[context.span_id] = None
        forget_oldest(self._ended, MAX_ENDED)
        kept = self._kept.pop(context.span_id, ())
        return tuple(event for trace_id, event in kept if trace_id == context.trace_id)
