"""Gets events from OpenTelemetry's LoggerProvider: from the global one if it is set, else from one of ours.

Ours is built on the logs API alone, since nothing here is exported as a log and the SDK would cost 5 ms to load. A
LoggerProvider that is set later replaces it, and is joined in turn.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from sys import modules
from typing import TYPE_CHECKING, Any, Final, Protocol

from opentelemetry import _logs as otel_logs
from opentelemetry._logs import Logger, LoggerProvider, LogRecord, _internal
from opentelemetry.sdk.trace import Event

from hh_jupyter.values import copy_attributes, plain_values

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import LoggerProvider as SDKLoggerProvider


_LOG = logging.getLogger(__name__)
_SDK: Final = "opentelemetry.sdk._logs"
_BODY: Final = "gen_ai.event.content"
"""The span event attribute that holds the body of the log record."""
_OLD_NAME: Final = "event.name"
"""The attribute that held an event's name before log records had a field for it."""

_lock = threading.RLock()
_receivers: list[EventSubscriber] = []
_joined: weakref.WeakSet[SDKLoggerProvider] = weakref.WeakSet()


class EventSubscriber(Protocol):
    """A tracer's events, as `tracing.log_events.LogEventCollector` takes them."""

    def knows(self, span_id: int) -> bool: ...

    def take(self, trace_id: int, span_id: int, event: Event) -> None: ...


def receive(events: EventSubscriber, *, join: bool, set_global: bool) -> object:
    """Start delivering events to a tracer. Returns the LoggerProvider that is now global, None if there is none."""
    with _lock:
        if events not in _receivers:
            _receivers.append(events)
        current = otel_logs.get_logger_provider()  # The environment may name one.
        sdk = _sdk_provider(current)
        if sdk is not None and join and sdk not in _joined:
            from hh_jupyter.tracing.log_processor import EventProcessor

            sdk.add_log_record_processor(EventProcessor(deliver, lambda: bool(_receivers)))
            _joined.add(sdk)
        elif isinstance(current, _internal.ProxyLoggerProvider) and set_global:
            _set_global(OURS)
        return _internal._LOGGER_PROVIDER


def withdraw(events: EventSubscriber) -> None:
    """Undo `receive`. A joined provider keeps its processor, which cannot be removed but does nothing any more."""
    with _lock:
        if events in _receivers:
            _receivers.remove(events)
        if not _receivers and _internal._LOGGER_PROVIDER is OURS:
            _set_global(None)


def _set_global(provider: LoggerProvider | None) -> None:
    """Set the global LoggerProvider without using up the one call of `set_logger_provider` that OpenTelemetry allows.

    There is no public way. If OpenTelemetry moves the variable, no events arrive.
    """
    vars(_internal).update(_LOGGER_PROVIDER=provider)


def _sdk_provider(provider: object) -> SDKLoggerProvider | None:
    """The SDK's LoggerProvider: the given one, or the one inside a proxy such as Logfire's. None for any other."""
    sdk: Any = modules.get(_SDK)
    if sdk is None:
        return None
    found = provider if isinstance(provider, sdk.LoggerProvider) else getattr(provider, "provider", None)
    return found if isinstance(found, sdk.LoggerProvider) else None


def deliver(record: LogRecord) -> None:
    """Deliver a record to the tracers that know its span, if it is an event. Never raises."""
    try:
        name = _name(record)
        if name is None or not record.span_id or not record.trace_id:
            return
        concerned = [events for events in tuple(_receivers) if events.knows(record.span_id)]
        if concerned:
            event = _event(name, record)
            for events in concerned:
                events.take(record.trace_id, record.span_id, event)
    except Exception:  # boundary: the library that wrote the record must not fail.
        _LOG.debug("a log record could not be read", exc_info=True)


def _name(record: LogRecord) -> str | None:
    """The name of the event; None for an ordinary log record."""
    name = record.event_name or (record.attributes or {}).get(_OLD_NAME)
    return name if isinstance(name, str) and name else None


def _event(name: str, record: LogRecord) -> Event:
    """Convert a record to a span event. Values are copied now, since the library may change them later."""
    attributes = copy_attributes(record.attributes)
    attributes.pop(_OLD_NAME, None)
    if record.body is not None:
        attributes[_BODY] = record.body
    timestamp = record.timestamp or record.observed_timestamp or time.time_ns()
    return Event(name, plain_values(attributes), timestamp)


class EventLogger(Logger):
    """Delivers records, and forwards them to a global LoggerProvider that is not ours."""

    def __init__(self, name: str, *scope: Any) -> None:
        super().__init__(name, *scope)
        self._scope = (name, *scope)

    def emit(self, record: LogRecord | None = None, **fields: Any) -> None:
        """Write a record; the fields are those of `LogRecord`."""
        record = LogRecord(**fields) if record is None else record
        theirs = _theirs()
        if theirs is None or _sdk_provider(theirs) not in _joined:
            deliver(record)
        if theirs is not None:
            theirs.get_logger(*self._scope).emit(record)

    def enabled(self, **of: Any) -> bool:
        """Whether a record with this `event_name` has a receiver."""
        theirs = _theirs()
        if of.get("event_name") and _receivers:
            return True
        return theirs is not None and theirs.get_logger(*self._scope).enabled(**of)


class EventLoggerProvider(LoggerProvider):
    """Makes loggers that deliver events to all tracers of the process."""

    def get_logger(
        self, name: str, version: str | None = None, schema_url: str | None = None, attributes: Any = None
    ) -> Logger:
        return EventLogger(name, version, schema_url, attributes)


def _theirs() -> LoggerProvider | None:
    """The global LoggerProvider; None if it is not set, or ours."""
    provider: LoggerProvider | None = _internal._LOGGER_PROVIDER
    return None if provider is OURS else provider


OURS: Final = EventLoggerProvider()
