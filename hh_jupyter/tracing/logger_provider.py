"""Receives events from the global LoggerProvider, or from a LoggerProvider of ours if no global one is set.

Ours uses only the logs API: no logs are exported, and the SDK would take 5 ms to load. A LoggerProvider that other
code sets later replaces ours and is joined in turn.
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
    from opentelemetry.sdk._logs import LogRecordProcessor


_LOG = logging.getLogger(__name__)
_SDK: Final = "opentelemetry.sdk._logs"
_BODY_ATTRIBUTE: Final = "gen_ai.event.content"
"""The span event attribute that holds the body of the log record."""
_NAME_ATTRIBUTE: Final = "event.name"
"""The attribute that held an event's name before log records had a field for it."""

_lock = threading.RLock()
_subscribers: list[EventSubscriber] = []
_joined: weakref.WeakSet[SDKLoggerProvider] = weakref.WeakSet()


class EventSubscriber(Protocol):
    """Collects the events of one tracer; see `tracing.log_events.LogEventCollector`."""

    def knows(self, span_id: int) -> bool: ...

    def add(self, trace_id: int, span_id: int, event: Event) -> None: ...


def subscribe(subscriber: EventSubscriber, *, join: bool, set_global: bool) -> object:
    """Start passing events to a subscriber.

    Args:
        join: receive the events of a global SDK LoggerProvider that other code has set.
        set_global: make our LoggerProvider the global one if there is none.

    Returns:
        The LoggerProvider that is global now, or None.
    """
    with _lock:
        if subscriber not in _subscribers:
            _subscribers.append(subscriber)
        current = otel_logs.get_logger_provider()  # Sets the one that the environment names.
        sdk = _sdk_provider(current)
        if sdk is not None and join and sdk not in _joined:
            sdk.add_log_record_processor(_event_processor())
            _joined.add(sdk)
        elif isinstance(current, _internal.ProxyLoggerProvider) and set_global:
            _set_global(OWN_PROVIDER)
        return _internal._LOGGER_PROVIDER


def _event_processor() -> LogRecordProcessor:
    """Return a processor that dispatches the records of an SDK LoggerProvider, which has loaded the SDK of logs."""
    from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord

    class EventLogRecordProcessor(LogRecordProcessor):
        def on_emit(self, log_record: ReadWriteLogRecord) -> None:
            dispatch(log_record.log_record)

        def enabled(self, *, event_name: str | None = None, **_: Any) -> bool:
            """Whether a tracer collects events of this name. Libraries must not emit other records because of us."""
            return event_name is not None and bool(_subscribers)

        def shutdown(self) -> None:
            """Do nothing: no records are buffered."""

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return True

    return EventLogRecordProcessor()


def unsubscribe(subscriber: EventSubscriber) -> None:
    """Undo `subscribe`. A joined provider keeps its processor, which cannot be removed but then does nothing."""
    with _lock:
        if subscriber in _subscribers:
            _subscribers.remove(subscriber)
        if not _subscribers and _internal._LOGGER_PROVIDER is OWN_PROVIDER:
            _set_global(None)


def _set_global(provider: LoggerProvider | None) -> None:
    """Set the global LoggerProvider, leaving the one permitted call of `set_logger_provider` to the program.

    There is no public way. If OpenTelemetry moves the variable, no events arrive.
    """
    vars(_internal).update(_LOGGER_PROVIDER=provider)


def _sdk_provider(provider: object) -> SDKLoggerProvider | None:
    """Return the SDK LoggerProvider: the provider itself, or the one inside a proxy such as Logfire's, or None."""
    sdk: Any = modules.get(_SDK)
    if sdk is None:
        return None
    found = provider if isinstance(provider, sdk.LoggerProvider) else getattr(provider, "provider", None)
    return found if isinstance(found, sdk.LoggerProvider) else None


def dispatch(record: LogRecord) -> None:
    """Pass a record, if it is an event, to the subscribers that know its span. Never raises."""
    try:
        name = _name(record)
        if name is None or not record.span_id or not record.trace_id:
            return
        subscribers = [subscriber for subscriber in tuple(_subscribers) if subscriber.knows(record.span_id)]
        if subscribers:
            event = _event(name, record)
            for subscriber in subscribers:
                subscriber.add(record.trace_id, record.span_id, event)
    except Exception:  # boundary: the library that wrote the record must not fail.
        _LOG.debug("could not read a log record", exc_info=True)


def _name(record: LogRecord) -> str | None:
    """Return the name of the event; None for an ordinary log record."""
    name = record.event_name or (record.attributes or {}).get(_NAME_ATTRIBUTE)
    return name if isinstance(name, str) and name else None


def _event(name: str, record: LogRecord) -> Event:
    """Convert a record to a span event. Values are copied, since the library may change them later."""
    attributes = copy_attributes(record.attributes)
    attributes.pop(_NAME_ATTRIBUTE, None)
    if record.body is not None:
        attributes[_BODY_ATTRIBUTE] = record.body
    timestamp = record.timestamp or record.observed_timestamp or time.time_ns()
    return Event(name, plain_values(attributes), timestamp)


class EventLogger(Logger):
    """Dispatches records, and forwards them to a global LoggerProvider that is not ours."""

    def __init__(self, name: str, *scope: Any) -> None:
        super().__init__(name, *scope)
        self._scope = (name, *scope)

    def emit(self, record: LogRecord | None = None, **fields: Any) -> None:
        """Write a record; the fields are those of `LogRecord`."""
        record = LogRecord(**fields) if record is None else record
        foreign = _foreign_provider()
        if foreign is None or _sdk_provider(foreign) not in _joined:
            dispatch(record)
        if foreign is not None:
            foreign.get_logger(*self._scope).emit(record)

    def enabled(self, **criteria: Any) -> bool:
        """Whether a tracer or the foreign LoggerProvider wants a record with this `event_name`."""
        foreign = _foreign_provider()
        if criteria.get("event_name") and _subscribers:
            return True
        return foreign is not None and foreign.get_logger(*self._scope).enabled(**criteria)


class EventLoggerProvider(LoggerProvider):
    """Makes loggers that pass events to all tracers of the process."""

    def get_logger(
        self, name: str, version: str | None = None, schema_url: str | None = None, attributes: Any = None
    ) -> Logger:
        return EventLogger(name, version, schema_url, attributes)


def _foreign_provider() -> LoggerProvider | None:
    """Return the global LoggerProvider; None if it is not set, or is ours."""
    provider: LoggerProvider | None = _internal._LOGGER_PROVIDER
    return None if provider is OWN_PROVIDER else provider


OWN_PROVIDER: Final = EventLoggerProvider()
