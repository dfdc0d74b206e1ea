"""The log record processor beside the span processor, for LoggerProviders of the SDK; loaded where there is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord


class EventProcessor(LogRecordProcessor):
    """Delivers the events written to one LoggerProvider, and leaves the records as they are.

    Args:
        deliver: takes a record; must not block or raise.
        awaited: whether anybody takes events now.
    """

    def __init__(self, deliver: Callable[[LogRecord], None], awaited: Callable[[], bool]) -> None:
        self._deliver, self._awaited = deliver, awaited

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        self._deliver(log_record.log_record)

    def enabled(self, *, event_name: str | None = None, **_: Any) -> bool:
        """Only events are wanted: this must not switch on what other processors filter out."""
        return event_name is not None and self._awaited()

    def shutdown(self) -> None:
        """Nothing is kept here."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True
