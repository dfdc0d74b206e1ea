"""The log record processor for an SDK LoggerProvider; loaded only if such a provider is set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord


class EventLogRecordProcessor(LogRecordProcessor):
    """Passes the log records of one LoggerProvider on, unchanged.

    Args:
        dispatch: accepts a record; must not block or raise.
        has_subscribers: returns whether a tracer collects events now.
    """

    def __init__(self, dispatch: Callable[[LogRecord], None], has_subscribers: Callable[[], bool]) -> None:
        self._dispatch, self._has_subscribers = dispatch, has_subscribers

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        self._dispatch(log_record.log_record)

    def enabled(self, *, event_name: str | None = None, **_: Any) -> bool:
        """Whether a tracer collects events of this name. Libraries must not emit other records because of us."""
        return event_name is not None and self._has_subscribers()

    def shutdown(self) -> None:
        """Do nothing: no records are buffered."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True
