"""The log record processor for LoggerProviders of the OpenTelemetry SDK; loaded only if one is set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord


class EventProcessor(LogRecordProcessor):
    """Passes the log records of one LoggerProvider on, unchanged.

    Args:
        deliver: takes a record; must not block or raise.
        awaited: returns whether a tracer takes events now.
    """

    def __init__(self, deliver: Callable[[LogRecord], None], awaited: Callable[[], bool]) -> None:
        self._deliver, self._awaited = deliver, awaited

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        self._deliver(log_record.log_record)

    def enabled(self, *, event_name: str | None = None, **_: Any) -> bool:
        """Whether a record with this name is an event that a tracer takes; others must not be emitted because of us."""
        return event_name is not None and self._awaited()

    def shutdown(self) -> None:
        """Nothing is kept here."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True
