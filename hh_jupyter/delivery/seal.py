"""From an ended span to its final form: the one place where redaction, event type, limits and encoding happen.

Both the display and the backend get what is made here. It runs on a thread of its own; a caller that makes spans
faster than they can be sealed seals a batch itself, so memory stays bounded and nobody waits for disk or network.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

from hh_jupyter.delivery import otlp
from hh_jupyter.delivery.details import DetailStore
from hh_jupyter.delivery.outbox import Item, Outbox
from hh_jupyter.delivery.sealed_span import HashedResource, SealedSpan, SealPolicy, encodable, seal
from hh_jupyter.delivery.stamp import Stamp
from hh_jupyter.records.log import SpanLog
from hh_jupyter.records.record import SpanRecord

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

logger = logging.getLogger(__name__)

GATHER_SECONDS: Final = 0.01
"""How long the sealer lets spans gather; fewer, larger batches cost the caller fewer thread switches."""

BATCH: Final = 100
MAX_UNSEALED: Final = 2_000
"""Above so many unsealed spans the caller seals a batch itself."""

CALLER_WAIT: Final = 0.05
"""Seconds a caller waits for its turn at sealing. Bounded, because the caller may hold a lock that a destructor on
the sealing thread wants."""


@dataclass(frozen=True, slots=True)
class _Mark:
    """A place in the queue; `reached` is set once everything before it is sealed."""

    reached: threading.Event


class Sealer:
    """Seals spans in the order in which they ended.

    `put` takes no lock: a span may be ended by garbage collection, at any point of any code, on any thread.
    """

    def __init__(self, policy: SealPolicy, outbox: Outbox, log: SpanLog, details: DetailStore) -> None:
        self.policy = policy
        self._outbox, self._log, self._details = outbox, log, details
        self._queue: deque[tuple[ReadableSpan, Stamp] | _Mark] = deque()
        self._resources: dict[int, tuple[Resource, HashedResource]] = {}
        self._sealing = threading.Lock()
        self._sealing_thread: int | None = None
        self._idle = False
        self._stopping = False
        self._urgent = threading.Event()
        self._bell: SimpleQueue[None] = SimpleQueue()  # Its `put` may interrupt itself, unlike that of any other queue.
        self._thread = threading.Thread(target=self._run, name="hh_jupyter-sealer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Seal what is there and end the thread, waiting at most `timeout` seconds."""
        self._stopping = True
        self._urgent.set()
        self._bell.put(None)
        self._thread.join(timeout)

    def put(self, span: ReadableSpan, stamp: Stamp) -> None:
        """Take an ended span. Called on the user's thread; no lock, no I/O."""
        self._queue.append((span, stamp))
        if self._idle:
            self._idle = False
            self._bell.put(None)
        elif len(self._queue) > MAX_UNSEALED and not self._inside():
            self._seal_on_caller()

    def _inside(self) -> bool:
        """A destructor, run while this thread is at work in one of the structures that sealing changes."""
        held = self._outbox.changed.held() or self._log.lock.held() or self._details.lock.held()
        return held or self._sealing_thread == threading.get_ident()

    def barrier(self, timeout: float) -> bool:
        """Wait until every span that was put before is in the log and the outbox.

        Args:
            timeout: seconds.

        Returns:
            False if the time was not enough, or on the sealing thread itself, which cannot wait for itself.
        """
        if self._inside() or threading.current_thread() is self._thread:
            return False
        mark = _Mark(threading.Event())
        self._queue.append(mark)
        self._urgent.set()
        self._bell.put(None)
        return mark.reached.wait(timeout)

    def _run(self) -> None:
        while True:
            with self._sealing:
                while self._queue:
                    self._seal_batch()
            self._idle = True
            if self._queue:  # Something came between the last look and the flag.
                continue
            if self._stopping:
                return
            self._bell.get()
            self._urgent.wait(GATHER_SECONDS)
            self._urgent.clear()

    def _seal_on_caller(self) -> None:
        if self._sealing.acquire(timeout=CALLER_WAIT):
            try:
                self._seal_batch()
            finally:
                self._sealing.release()

    def _seal_batch(self) -> None:
        """Seal the first spans of the queue. The caller holds the lock."""
        taken: list[tuple[ReadableSpan, Stamp] | _Mark] = []
        self._sealing_thread = threading.get_ident()
        try:
            while self._queue and len(taken) < BATCH:
                taken.append(self._queue.popleft())
            self._commit([self._sealed(*entry) for entry in taken if not isinstance(entry, _Mark)])
        except BaseException:  # Ctrl-C while a caller seals: nothing was committed, so everything goes back.
            self._queue.extendleft(reversed(taken))
            raise
        finally:
            self._sealing_thread = None
        for entry in taken:
            if isinstance(entry, _Mark):
                entry.reached.set()

    def _sealed(self, span: ReadableSpan, stamp: Stamp) -> tuple[SealedSpan, SpanRecord] | None:
        try:
            return seal(span, stamp, self.policy, self._resource_of(span.resource))
        except Exception:  # boundary: one span that cannot be sealed must not take the others with it.
            logger.exception("a span could not be sealed and is lost")
            return None

    def _resource_of(self, resource: Resource) -> HashedResource:
        known = self._resources.get(id(resource))
        if known is None:  # The pair keeps the resource alive, so its id stays its own.
            known = self._resources[id(resource)] = (resource, HashedResource(resource))
        return known[1]

    def _commit(self, sealed: list[tuple[SealedSpan, SpanRecord] | None]) -> None:
        """Encode per session and cell, then hand over: log, details, outbox."""
        groups: dict[tuple[str | None, str | None], list[tuple[SealedSpan, SpanRecord]]] = {}
        for pair in sealed:
            if pair is not None:
                groups.setdefault((pair[1].session_id, pair[1].cell), []).append(pair)
        items = [self._item(session_id, cell, pairs) for (session_id, cell), pairs in groups.items()]
        for item, pairs in zip(items, groups.values(), strict=True):
            self._details.add(item.body, [record.span_id for _, record in pairs])
        rows = [pair[1] for pair in sealed if pair is not None]
        self._outbox.count_made(Counter(row.cell for row in rows))
        self._outbox.add(items)
        self._log.extend(rows)

    def _item(self, session_id: str | None, cell: str | None, pairs: list[tuple[SealedSpan, SpanRecord]]) -> Item:
        spans = [span for span, _ in pairs]
        try:
            body = otlp.encode(spans)
        except (ValueError, TypeError):  # One value that protobuf refuses must not take the whole batch with it.
            body = otlp.encode([encodable(span) for span in spans])
        return Item("spans", session_id or "", body, spans=len(pairs), cell=cell)
