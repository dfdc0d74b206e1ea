"""Where one tracer's spans go: the pipeline in force, and former ones that still deliver what was made for them."""

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
        return self._pipeline.lanes.destination

    def follow(self, settings: Settings) -> bool:
        """Apply other settings to what comes from now on; True if they name another destination."""
        before, self._settings = self._settings, settings
        if _address(before) != _address(settings):
            # Records go to the destination they were made for, in their own time: the former pipeline stays.
            former = self._pipeline
            self._former.append(former)
            self._pipeline = Pipeline(settings, self._log, self._details)
            if _place(before) == _place(settings):
                former.lanes.hand_to(self._pipeline.lanes)  # Only the key was wrong: this is the right one, maybe.
            return True
        self._pipeline.follow(settings)
        return False

    def put(self, span: ReadableSpan, stamp: Stamp) -> None:
        """Take an ended span; no lock and no wait, but in immediate mode."""
        if away.keep_span(span, stamp):
            return
        self._pipeline.sealer.put(EndedSpan(span, stamp))
        if self._settings.disable_batch:
            self.wait_if_immediate()

    def put_late(self, late: LateEvent) -> None:
        """Take an event of a span that was put before; it is shown, and sent only if the span is not sealed yet."""
        self._pipeline.sealer.put(late)

    def call(self, kind: Kind, session_id: str, document: Mapping[str, Any], *, defer: bool = False) -> None:
        """Queue a call; see `Pipeline.call`."""
        if not away.keep_call(Call(kind, session_id, document, defer)):
            self._pipeline.call(kind, session_id, document, defer=defer)

    def take(self, spans: Iterable[EndedSpan], calls: Iterable[tuple[Call, str | None]]) -> None:
        """Take what came back from another process; nobody waits for the backend.

        Args:
            calls: each with the cell, or return address, that it was made in.
        """
        for call, cell in calls:
            if not away.keep_call(call, cell):
                self._pipeline.call(call.kind, call.session_id, call.document, defer=call.defer)
        for entry in spans:
            if not away.keep_span(*entry):
                self._pipeline.sealer.put(entry)

    def note_lost(self, reason: str) -> None:
        """Something was lost before it came here."""
        self._pipeline.outbox.note_lost(reason)

    def wait_if_immediate(self) -> None:
        """In immediate mode, wait for the verdict on what was handed over; not while the backend is failing."""
        if self._settings.disable_batch and self._pipeline.lanes.worth_waiting():
            self._pipeline.flush(min(self._settings.api_timeout, IMMEDIATE_SECONDS), asked=False)

    def seal(self, seconds: float) -> bool:
        """Wait until every span that was put before is in the log."""
        return self._pipeline.seal(seconds)

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
        return combined([state for state in states if state.has_spans] or states[-1:])

    def left_to(self, others: tuple[Target, ...]) -> bool:
        """Whether spans that others send to these targets need not be sent from here."""
        return self._pipeline.left_to(others)

    def release(self) -> None:
        """Try everything again that was refused, given up or paused, at all destinations."""
        for pipeline in (*self._former, self._pipeline):
            pipeline.lanes.release()

    @property
    def spool(self) -> Spool | None:
        """What is kept on disk; None where nothing is."""
        return self._pipeline.copies.spool

    def send_again(self, session_ids: Collection[str] = ()) -> int:
        """`release`, and send what these sessions kept on this machine only; how many records that is."""
        self.release()
        return self._pipeline.send_local(session_ids)

    def hurry(self) -> None:
        """From now on nothing waits for others like it: this is the end of the program."""
        for pipeline in (*self._former, self._pipeline):
            pipeline.hurry()

    def make_ready(self) -> None:
        """Have everything at hand that sending needs, so that the time for closing is the network's."""
        for pipeline in (*self._former, self._pipeline):
            pipeline.make_ready()

    def close(self, seconds: float) -> bool:
        """Send what there is within `seconds` and end the threads."""
        deadline = time.monotonic() + seconds
        done = [pipeline.close(max(0.0, deadline - time.monotonic())) for pipeline in (*self._former, self._pipeline)]
        return all(done)


def _address(settings: Settings) -> tuple[object, ...]:
    """What decides where things go, or whether they go at all."""
    return settings.sending_key, *_place(settings)


def _place(settings: Settings) -> tuple[object, ...]:
    """The same without the key."""
    way = (
        (settings.spool, settings.spool_dir),
        names_of(settings),
        otlp_target(settings),
        settings.otlp_endpoint,
        settings.otlp_enabled,
        settings.disable_tracing,
    )
    return settings.server_url, settings.local, *way
