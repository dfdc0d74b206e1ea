"""The current pipeline of a tracer, plus previous ones that still have spans to send."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.trace import ReadableSpan

from hh_jupyter.delivery import away
from hh_jupyter.delivery.pipeline import Pipeline
from hh_jupyter.delivery.sealing.details import DetailStore
from hh_jupyter.delivery.sealing.stamp import EndedSpan, LateEvent, Stamp
from hh_jupyter.delivery.sending.item import Call, Kind
from hh_jupyter.delivery.sending.lanes import names_of, otlp_target
from hh_jupyter.delivery.sending.target import Target
from hh_jupyter.records.export_state import ExportState, combined
from hh_jupyter.records.log import SpanLog
from hh_jupyter.settings import Settings

if TYPE_CHECKING:
    from hh_jupyter.delivery.spool.store import Spool

IMMEDIATE_SECONDS: Final = 2.0
"""Maximum time in seconds that a call waits for its export result in immediate mode."""


class Route:
    """Connects a tracer to its backend and follows changes of the tracer's settings.

    Args:
        log: receives the span records.
        details: keeps encoded bodies for displays.
    """

    def __init__(self, settings: Settings, log: SpanLog, details: DetailStore) -> None:
        self._log, self._details = log, details
        self._former: list[Pipeline] = []
        self._settings = settings
        self._pipeline = Pipeline(settings, log, details)

    @property
    def destination(self) -> str | None:
        """Host of the backend, or hosts; None in local mode."""
        return self._pipeline.lanes.destination

    def follow(self, settings: Settings) -> bool:
        """Apply changed settings to everything queued from now on; return True if they change the destination."""
        before, self._settings = self._settings, settings
        if _address(before) != _address(settings):
            # Keep the previous pipeline: its records still go to the destination that they were created for.
            former = self._pipeline
            self._former.append(former)
            self._pipeline = Pipeline(settings, self._log, self._details)
            if _place(before) == _place(settings):
                # Only the key changed: retry with the new one what the rejected key held back.
                former.lanes.hand_to(self._pipeline.lanes)
            return True
        self._pipeline.follow(settings)
        return False

    def put(self, span: ReadableSpan, stamp: Stamp) -> None:
        """Queue an ended span; takes no lock and, except in immediate mode, does not wait."""
        if away.keep_span(span, stamp):
            return
        self._pipeline.sealer.put(EndedSpan(span, stamp))
        if self._settings.disable_batch:
            self.wait_if_immediate()

    def put_late(self, late: LateEvent) -> None:
        """Queue an event of a span that was put before; it is shown, but sent only if the span is not sealed yet."""
        self._pipeline.sealer.put(late)

    def call(self, kind: Kind, session_id: str, document: Mapping[str, Any], *, defer: bool = False) -> None:
        """Queue a call; see `Pipeline.call`."""
        if not away.keep_call(Call(kind, session_id, document, defer)):
            self._pipeline.call(kind, session_id, document, defer=defer)

    def take(self, spans: Iterable[EndedSpan], calls: Iterable[tuple[Call, str | None]]) -> None:
        """Queue the spans and calls that another process returned, without waiting for the backend.

        Args:
            calls: each with the cell or return address in which it was made.
        """
        for call, cell in calls:
            if not away.keep_call(call, cell):
                self._pipeline.call(call.kind, call.session_id, call.document, defer=call.defer)
        for entry in spans:
            if not away.keep_span(*entry):
                self._pipeline.sealer.put(entry)

    def note_lost(self, reason: str) -> None:
        """Record that something was lost before it was queued, with the reason."""
        self._pipeline.outbox.note_lost(reason)

    def wait_if_immediate(self) -> None:
        """In immediate mode, wait for the export result of everything queued, unless the backend is failing."""
        if self._settings.disable_batch and self._pipeline.lanes.worth_waiting():
            self._pipeline.flush(min(self._settings.api_timeout, IMMEDIATE_SECONDS), asked=False)

    def seal(self, seconds: float) -> bool:
        """Wait until every span put before is in the log; return False if that takes longer than `seconds`."""
        return self._pipeline.seal(seconds)

    def flush(self, seconds: float) -> bool:
        """Send everything queued, also to previous destinations; see `Pipeline.flush`."""
        deadline = time.monotonic() + seconds
        done = [pipeline.flush(max(0.0, deadline - time.monotonic())) for pipeline in (*self._former, self._pipeline)]
        return all(done)

    def state(self, cell: str | None = None) -> ExportState:
        """Return the export counts of one cell's run, or of all spans since the last change of destination."""
        if cell is None:
            return self._pipeline.state()
        states = [pipeline.state(cell) for pipeline in (*self._former, self._pipeline)]
        return combined([state for state in states if state.has_spans] or states[-1:])

    def left_to(self, others: tuple[Target, ...]) -> bool:
        """Return whether spans that other exporters send to these targets can be skipped here."""
        return self._pipeline.left_to(others)

    def release(self) -> None:
        """Retry everything that was rejected, given up or paused, at all destinations."""
        for pipeline in (*self._former, self._pipeline):
            pipeline.lanes.release()

    @property
    def spool(self) -> Spool | None:
        """The spool on disk; None if there is none."""
        return self._pipeline.copies.spool

    def send_again(self, session_ids: Collection[str] = ()) -> int:
        """Call `release` and queue the records that these sessions kept on this machine only; return their number."""
        self.release()
        return self._pipeline.send_local(session_ids)

    def hurry(self) -> None:
        """Stop waiting to fill batches from now on, because the program is ending."""
        for pipeline in (*self._former, self._pipeline):
            pipeline.hurry()

    def make_ready(self) -> None:
        """Load everything that sending needs, so that closing spends its time on the network only."""
        for pipeline in (*self._former, self._pipeline):
            pipeline.make_ready()

    def close(self, seconds: float) -> bool:
        """Send everything queued within `seconds` and end the threads."""
        deadline = time.monotonic() + seconds
        done = [pipeline.close(max(0.0, deadline - time.monotonic())) for pipeline in (*self._former, self._pipeline)]
        return all(done)


def _address(settings: Settings) -> tuple[object, ...]:
    """Return the settings that determine the destination, including whether anything is sent."""
    return settings.sending_key, *_place(settings)


def _place(settings: Settings) -> tuple[object, ...]:
    """Return the settings of `_address` without the key."""
    way = (
        (settings.spool, settings.spool_dir),
        names_of(settings),
        otlp_target(settings),
        settings.otlp_endpoint,
        settings.otlp_enabled,
        settings.disable_tracing,
    )
    return settings.server_url, settings.local, *way
