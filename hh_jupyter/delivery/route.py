"""Where one tracer's spans go: the pipeline in force, and former ones that still deliver what was made for them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan

from hh_jupyter.delivery.details import DetailStore
from hh_jupyter.delivery.outbox import Kind
from hh_jupyter.delivery.pipeline import Pipeline
from hh_jupyter.delivery.seal import EndedSpan
from hh_jupyter.delivery.stamp import Stamp
from hh_jupyter.records.export_state import ExportState, combined
from hh_jupyter.records.log import SpanLog
from hh_jupyter.settings import Settings

IMMEDIATE_SECONDS: Final = 2.0
"""Longest wait for a verdict per call in immediate mode."""


class Route:
    """The way from a tracer to its backend; follows the tracer's settings.

    Args:
        log: where rows go.
        details: where encoded bodies are kept for displays.
    """

    def __init__(self, settings: Settings, log: SpanLog, details: DetailStore) -> None:
        self._log, self._details = log, details
        self._former: list[Pipeline] = []
        self._settings = settings
        self._pipeline = Pipeline(settings, log, details)

    @property
    def destination(self) -> str | None:
        """Host of the backend; None in local mode."""
        return self._pipeline.outbox.destination

    def follow(self, settings: Settings) -> bool:
        """Apply other settings to what comes from now on; True if they name another destination."""
        before, self._settings = self._settings, settings
        if _address(before) != _address(settings):
            # Records go to the destination they were made for, in their own time: the former pipeline stays.
            self._former.append(self._pipeline)
            self._pipeline = Pipeline(settings, self._log, self._details)
            return True
        self._pipeline.follow(settings)
        return False

    def put(self, span: ReadableSpan, stamp: Stamp) -> None:
        """Take an ended span; no lock and no wait, but in immediate mode."""
        self._pipeline.sealer.put(EndedSpan(span, stamp))
        if self._settings.disable_batch:
            self.wait_if_immediate()

    def call(self, kind: Kind, session_id: str, document: Mapping[str, Any], *, defer: bool = False) -> None:
        """Queue a call; see `Pipeline.call`."""
        self._pipeline.call(kind, session_id, document, defer=defer)

    def wait_if_immediate(self) -> None:
        """In immediate mode, wait for the verdict on what was handed over; not while the backend is failing."""
        if self._settings.disable_batch and not self._pipeline.outbox.failing:
            self._pipeline.flush(min(self._settings.api_timeout, IMMEDIATE_SECONDS), asked=False)

    def seal(self, seconds: float) -> bool:
        """Wait until every span that was put before is in the log."""
        return self._pipeline.sealer.barrier(seconds)

    def flush(self, seconds: float) -> bool:
        """Send what there is, also to former destinations; see `Pipeline.flush`."""
        deadline = time.monotonic() + seconds
        done = [pipeline.flush(max(0.0, deadline - time.monotonic())) for pipeline in (*self._former, self._pipeline)]
        return all(done)

    def state(self, cell: str | None = None) -> ExportState:
        """What became of the spans of one cell's run, or of all since the destination was last changed."""
        if cell is None:
            return self._pipeline.state()
        states = [pipeline.state(cell) for pipeline in (*self._former, self._pipeline)]
        return combined([state for state in states if state.made] or states[-1:])

    def close(self, seconds: float) -> bool:
        """Send what there is within `seconds` and end the threads."""
        deadline = time.monotonic() + seconds
        done = [pipeline.close(max(0.0, deadline - time.monotonic())) for pipeline in (*self._former, self._pipeline)]
        return all(done)


def _address(settings: Settings) -> tuple[str, str | None, bool]:
    return settings.server_url, settings.sending_key, settings.local
