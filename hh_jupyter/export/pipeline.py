"""The way from an ended span to a waiting row: finalize, show, store, queue. One pipeline for the whole process.

A span is put together with the plan that is in force when it ends. So a later change of settings does not apply to it,
and it goes to the destination that it was made for.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from hh_jupyter import attributes as keys
from hh_jupyter.export import process
from hh_jupyter.export.destination import MAX_BYTES, Destination, Destinations
from hh_jupyter.export.flush import Flush
from hh_jupyter.export.follow_ups import FollowUps, RowOwner
from hh_jupyter.export.model import EndedSpan, LateEvent, Request, Row
from hh_jupyter.export.sender import Senders
from hh_jupyter.export.store import BodyStore
from hh_jupyter.export.worker import Entry, Worker
from hh_jupyter.records.log import SpanLog, bare_event_id
from hh_jupyter.settings import Settings

if TYPE_CHECKING:
    from hh_jupyter.export.endpoint import SpanTarget
    from hh_jupyter.export.finalize import Finalizer
    from hh_jupyter.export.spool import Spool

logger = logging.getLogger(__name__)

ADOPT_PAUSE: Final = (0.005, 0.02)
"""Pause in seconds before the next file, so that the worker does other work in between."""

STOP_SECONDS: Final = 0.05
"""Minimum time in seconds for the threads to end."""
SPOOL_SECONDS: Final = 2.0
"""The same with a spool: first, what was put is written to disk, even if busy threads leave the worker little time."""

_MIB: Final = 1024 * 1024
_DAY: Final = 24 * 3600.0


class OpenExporter(Protocol):
    """What the pipeline needs of `export.exporter.Exporter`."""

    @property
    def destinations(self) -> tuple[Destination, ...]: ...

    def reset_in_child(self, unhandled: Iterable[tuple[Plan, Request]]) -> None: ...


class Plan:
    """What happens to spans and requests that are put under certain settings.

    Attributes:
        destinations: where rows are queued. In local mode, one without a host.
        elsewhere: those of them to which another exporter of the provider sends the same spans.
        spool: holds the rows on disk; None if the settings disable it.
        keeps_requests: whether requests are sent, or kept on disk.
    """

    def __init__(
        self,
        settings: Settings,
        destinations: tuple[Destination, ...],
        spool: Spool | None,
        log: SpanLog,
        store: BodyStore,
    ) -> None:
        self.settings, self.destinations, self.spool = settings, destinations, spool
        self.log, self.store = log, store
        self.elsewhere: frozenset[Destination] = frozenset()
        self.keeps_requests = spool is not None or any(one.host is not None for one in destinations)
        self._finalizer: Finalizer | None = None

    @property
    def finalizer(self) -> Finalizer:
        """Finalizes with these settings; loaded with the first span."""
        if self._finalizer is None:
            with process.taking_shared_locks():
                from hh_jupyter.export.finalize import Finalizer

            self._finalizer = Finalizer(self.settings)
        return self._finalizer

    def beside(self, targets: Sequence[SpanTarget]) -> Plan:
        """Return the plan for spans that other exporters send to these targets."""
        plan = Plan(self.settings, self.destinations, self.spool, self.log, self.store)
        plan.elsewhere = frozenset(one for one in self.destinations if one.target_is_among(targets))
        return plan


class Pipeline:
    """The worker, the senders, the destinations and the spools of this process.

    Attributes:
        exporters: those that are open.
        all: what the destinations share.
    """

    def __init__(self) -> None:
        self.exporters: set[OpenExporter] = set()
        self.spools: dict[str | None, Spool] = {}
        self.worker = Worker(self._handle, self._end_turn)
        self.all = Destinations(FollowUps(self.worker.ring))
        self.senders = Senders(self.all, self.worker)

    # On the worker

    def _handle(self, entries: Sequence[Entry]) -> None:
        """Finalize and queue entries, in order for each plan."""
        requests: dict[Plan, list[Request]] = {}
        spans: dict[Plan, tuple[list[EndedSpan], list[LateEvent]]] = {}
        for plan, span, about in entries:
            if isinstance(about, Request):
                requests.setdefault(plan, []).append(about)
            else:
                ended, late = spans.setdefault(plan, ([], []))
                late.append(about) if span is None else ended.append(EndedSpan(span, about))
        created = _event_ids(spans.values()) if requests else frozenset()

        def export_requests(*, of_these_spans: bool) -> None:
            for plan, some in requests.items():
                chosen = [one for one in some if (one.updates in created) is of_these_spans]
                if chosen and plan.keeps_requests:
                    self._export_guarded(plan, partial(self._export_requests, plan, chosen))

        # Requests of all plans go first: a session's start may have been put under another plan than its spans.
        export_requests(of_these_spans=False)
        for plan, parts in spans.items():
            self._export_guarded(plan, partial(self._export_spans, plan, *parts))
        export_requests(of_these_spans=True)
        for plan, some in requests.items():
            self._show_updates(plan, [one for one in some if one.kind == "event_update" or one.about is not None])
        with self.all.changed:
            busy = any(True for one in self.all.active for _ in one.unsettled())
        if busy:
            self.senders.start()
        self.all.follow_ups.write_log()

    def _export_guarded(self, plan: Plan, export: Callable[[], None]) -> None:
        try:
            export()
        except Exception as error:  # boundary: a bug must not affect the spans of other plans.
            logger.debug("exporting failed inside hh_jupyter", exc_info=True)
            self._note_lost(plan, [f"spans could not be finalized and are lost ({type(error).__name__})"])

    def _export_requests(self, plan: Plan, requests: Sequence[Request]) -> None:
        documents = [(request, document) for request in requests if (document := plan.finalizer.request(request))]
        for destination in plan.destinations:
            rows: list[Row] = []
            with self.all.changed:
                final = destination.final
                for request, document in documents if destination.accepts("session_start") else ():
                    row = Row(request.kind, str(request.session_id), document, creates=request.creates)
                    if request.defer and plan.settings.otlp_enabled:
                        final.defer(row)
                    else:
                        rows.append(row)
                rows = [*final.take_deferred(row.session_id for row in rows), *rows]
            self._queue(final, rows)
        self._note_lost(plan, plan.finalizer.take_lost())

    def _export_spans(self, plan: Plan, spans: Sequence[EndedSpan], late: Sequence[LateEvent]) -> None:
        finalizer = plan.finalizer
        if late:
            from hh_jupyter.export.finalize import merge_late

            spans, late = merge_late(spans, late)
        bodies = finalizer.bodies(spans)
        for body in bodies:
            plan.store.add(body.data, [record.span_id for record in body.records])
        for destination in plan.destinations:
            elsewhere, exported = destination in plan.elsewhere, plan.settings.otlp_enabled
            rows: list[Row] = []
            with self.all.changed:
                final = destination.final
                for body in bodies:
                    number, created = len(body.records), body.created
                    final.count_made(body.cell, number, elsewhere=elsewhere, exported=exported)
                    if exported and not elsewhere:
                        rows.append(Row("spans", body.session_id, body.data, number, body.cell, creates=created))
                # The start of a session is needed too if another exporter sends spans that name it.
                claimed = [body.session_id for body in bodies if elsewhere and body.claimed]
                rows = [*final.take_deferred([*(row.session_id for row in rows), *claimed]), *rows]
            self._queue(final, rows)
        plan.log.extend(record for body in bodies for record in body.records)
        if late:
            try:
                finalizer.add_late(late, plan.store, plan.log)
            except Exception:  # boundary: the span is shown without these events.
                logger.debug("events that came late could not be added to their spans", exc_info=True)
        self._note_lost(plan, finalizer.take_lost())

    def _show_updates(self, plan: Plan, updates: Sequence[Request]) -> None:
        """Show what event updates add to spans of this process."""
        try:
            if updates:
                plan.finalizer.add_updates(updates, plan.store, plan.log)
        except Exception:  # boundary: the span is shown as it was.
            logger.debug("an update of an event could not be shown", exc_info=True)

    def _queue(self, destination: Destination, rows: Sequence[Row]) -> None:
        """Write rows to the spool, then queue them: none may be sent before it is on disk."""
        if rows and destination.spool is not None:
            destination.spool.add(self.stored_name(destination, destination.spool), rows)
            self._store_again(destination, destination.spool, rows)
        with self.all.changed:
            final = destination.final
            if final is not destination:  # Its key was rejected since.
                self.all.follow_ups.move(final, rows)
                for row in rows:
                    destination.count_made(row.cell, -row.spans)
                    final.count_made(row.cell, row.spans)
            final.add(rows)
            self.all.keep_within(MAX_BYTES)

    def _store_again(self, owner: Destination, spool: Spool, added: Sequence[Row]) -> None:
        """If the spool's file was lost, write the rows in memory once more, and rename those that were just added."""
        if not spool.take_lost():
            return
        spool.redirect([row.key for row in added if row.key is not None], self.stored_name(owner, spool))
        with self.all.changed:
            kept = [(one, [row for row in one.all_rows() if row.key is not None]) for one in self.all.active]
            for destination, rows in kept:
                for row in rows if destination.spool is spool else ():
                    row.key = None
        for destination, rows in kept:
            if destination.spool is spool:
                spool.add(self.stored_name(destination, spool), [row for row in rows if row.body])

    @staticmethod
    def stored_name(destination: RowOwner, spool: Spool) -> str:
        """Return the name of a destination in the spool."""
        from hh_jupyter.export.spool_folder import LOCAL

        return LOCAL if destination.stored_as is None else spool.destination_name(*destination.stored_as)

    def _note_lost(self, plan: Plan, reasons: Iterable[str]) -> None:
        with self.all.changed:
            for reason in reasons:
                for destination in plan.destinations:
                    destination.note_lost(reason)
        self.all.follow_ups.write_log()

    def _end_turn(self) -> None:
        """Write to the spool what the senders have settled, and cut the rows that hold a rejected span."""
        with self.all.changed:
            changes = self.all.follow_ups.take()
        for spool in {mark[0] for mark in changes.marks}:
            spool.mark([(key, state, reason) for one, key, state, reason in changes.marks if one is spool])
        for destination, moved in changes.moves:
            if destination.spool is not None:
                destination.spool.redirect(moved, self.stored_name(destination, destination.spool))
        for destination, batch in changes.cuts:
            pieces = self._pieces(destination, batch.rows[0])
            with self.all.changed:
                destination.put_pieces(batch, pieces)
                self.all.changed.notify_all()

    def _pieces(self, destination: RowOwner, row: Row) -> list[Row]:
        """Return two rows with half of the spans of a row each, on disk in its place; none if it cannot be cut."""
        from hh_jupyter.export import otlp

        spool, key = destination.spool, row.key
        body = row.body or (spool.load([key]).get(key, b"") if spool is not None and key is not None else b"")
        halves = otlp.halves(body) if row.spans > 1 else None
        if halves is None:
            return []
        first = (row.spans + 1) // 2
        numbers = (first, row.spans - first)
        pieces = [
            Row("spans", row.session_id, half, number, row.cell) for half, number in zip(halves, numbers, strict=True)
        ]
        if spool is not None:
            spool.add(self.stored_name(destination, spool), pieces)
            if key is not None and all(piece.key is not None for piece in pieces):
                spool.mark([(key, None, None)])
        return pieces

    def adopt(self, destination: Destination) -> None:
        """Adopt the rows that dead processes left for a destination, a part at a time. First keep the bounds."""
        spool = destination.spool
        if spool is not None and destination in self.destinations():
            self._adopt_next(destination, self._parts(destination, spool))

    def _parts(self, destination: Destination, spool: Spool) -> Iterator[Sequence[Any]]:
        for _ in spool.keep_bounds():
            yield ()
        if destination.stored_as is not None:
            yield from spool.adopt(self.stored_name(destination, spool))

    def _adopt_next(self, destination: Destination, parts: Iterator[Sequence[Any]]) -> None:
        rows = next(parts, None)
        if rows is None or destination not in self.destinations():
            return
        if rows:
            self.adopt_rows(destination, rows)
        self.worker.later(0.0 if rows else random.uniform(*ADOPT_PAUSE), lambda: self._adopt_next(destination, parts))

    def adopt_rows(self, destination: Destination, rows: Sequence[Row]) -> None:
        """Queue rows from disk."""
        with self.all.changed:
            final = destination.final
            if final is not destination:
                self.all.follow_ups.move(final, rows)
            final.rows.adopt(rows)
            self.all.keep_within(MAX_BYTES)
        self.senders.start()

    def destinations(self) -> set[Destination]:
        """Return the destinations of all exporters."""
        return {one for exporter in tuple(self.exporters) for one in exporter.destinations}

    def with_lock(self, act: Callable[[], None]) -> None:
        """Run `act` on destinations, then let the senders look again. On the worker only."""
        with self.all.changed:
            act()
        self.senders.start()
        self.all.follow_ups.write_log()

    def begin(self, flush: Flush, destinations: Sequence[Destination]) -> None:
        """Begin a flush. Without sender threads, send here. On the worker only."""
        flush.begun.give(None)

        def begin() -> None:
            if not flush.expired:
                for destination in destinations:
                    destination.flush(flush)
                flush.check()

        self.with_lock(begin)
        self.senders.send_here(flush, self._end_turn)
        self.all.follow_ups.write_log()

    # On the program's threads

    def spool_of(self, settings: Settings) -> Spool | None:
        """Return the spool of the settings' folder; a process has one for each folder."""
        if not settings.spool:
            return None
        from hh_jupyter.export.spool import Spool

        folder = settings.spool_dir
        if folder not in self.spools:
            self.spools[folder] = Spool(
                Path(folder).expanduser() if folder else None,
                max_bytes=settings.spool_mib * _MIB,
                max_age_seconds=settings.spool_days * _DAY,
                run=self.worker.ask,
            )
        return self.spools[folder]

    def stop(self, seconds: float) -> None:
        """End the threads and close the files, because no exporter is left."""
        deadline = time.monotonic() + seconds
        self.worker.post(self.senders.stop)
        spools, self.spools = list(self.spools.values()), {}
        for spool in spools:
            self.worker.post(spool.close)
        self.worker.stop(max(SPOOL_SECONDS if spools else STOP_SECONDS, deadline - time.monotonic()))
        self.senders.join(max(STOP_SECONDS, deadline - time.monotonic()))

    def reset_in_child(self) -> None:
        """Start a forked child with its own threads, lock and queues; the parent sends what it has queued.

        Deferred session starts are kept, because either process may make the session's first span.
        """
        deferred = [
            (plan, about) for plan, _, about in self.worker.waiting() if isinstance(about, Request) and about.defer
        ]
        self.worker.reset()
        self.all = Destinations(FollowUps(self.worker.ring))
        self.senders = Senders(self.all, self.worker)
        for spool in self.spools.values():
            spool.abandon()
        for exporter in tuple(self.exporters):
            exporter.reset_in_child(deferred)


def _event_ids(spans: Iterable[tuple[Sequence[EndedSpan], object]]) -> frozenset[str]:
    """Return the ids that code chose for the events of spans, as `bare_event_id` returns them."""
    found = ((each.span.attributes or {}).get(keys.EVENT_ID) for ended, _ in spans for each in ended)
    return frozenset(bare_event_id(event_id) for event_id in found if isinstance(event_id, str))
