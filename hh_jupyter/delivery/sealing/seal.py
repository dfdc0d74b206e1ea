"""The sealer's queue and thread: seals ended spans and backend calls in order, in the background.

The sealing itself is in `batch`. The first batch imports it, so that creating spans does not wait for protobuf or the
redaction rules. A caller that creates spans faster than they can be sealed seals a batch itself. So memory stays
bounded, and callers never wait for disk or network.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, NamedTuple

from hh_jupyter.delivery.sealing.details import DetailStore
from hh_jupyter.delivery.sealing.stamp import EndedSpan, LateEvent
from hh_jupyter.delivery.sending.item import Call
from hh_jupyter.delivery.sending.outbox import Outbox
from hh_jupyter.delivery.spool.copies import Copies
from hh_jupyter.records.log import SpanLog
from hh_jupyter.settings import Settings

if TYPE_CHECKING:
    from hh_jupyter.delivery.sealing.batch import BatchSealer

logger = logging.getLogger(__name__)

GATHER_SECONDS: Final = 0.01
"""Seconds that the sealer waits for more spans. Fewer, larger batches cost the caller fewer thread switches."""

THREAD_PREFIX: Final = "hh_jupyter-"
BATCH: Final = 100
MAX_UNSEALED: Final = 2_000
"""If more entries than this are queued, the caller seals a batch itself."""

CALLER_WAIT: Final = 0.05
"""Seconds that a caller waits for the sealing lock. Bounded, because the caller may hold a lock that a destructor on
the sealing thread needs."""


class _Mark(NamedTuple):
    """A marker in the queue; `reached` is set when everything before it is sealed."""

    reached: threading.Event


class Sealer:
    """Seals spans in the order in which they ended, and calls in the order in which they were made.

    `put` takes no lock, because garbage collection may end a span at any point in any code, on any thread.

    Args:
        settings: the initial settings. Assign `settings` to use others for everything sealed later.
        outbox, log, details, copies: receive the results.
    """

    def __init__(self, settings: Settings, outbox: Outbox, log: SpanLog, details: DetailStore, copies: Copies) -> None:
        self.settings = settings
        self._outbox, self._log, self._details, self._copies = outbox, log, details, copies
        self._queue: deque[EndedSpan | Call | LateEvent | _Mark] = deque()
        self._batches: BatchSealer | None = None
        self._sealing = threading.Lock()
        self._sealing_thread: int | None = None
        self._idle = False
        self._stopping = False
        self._urgent = threading.Event()
        self._bell: SimpleQueue[None] = SimpleQueue()  # The only queue with a reentrant `put`.
        self._thread = threading.Thread(target=self._run, name=f"{THREAD_PREFIX}sealer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Seal the remaining entries and end the thread. Waits at most `timeout` seconds."""
        self._stopping = True
        self._urgent.set()
        self._bell.put(None)
        self._thread.join(timeout)

    def put(self, entry: EndedSpan | Call | LateEvent) -> None:
        """Queue an ended span, a call, or an event of a span that was queued earlier.

        Runs on the user's thread, without a lock and without I/O.
        """
        self._queue.append(entry)
        if self._idle:
            self._idle = False
            self._bell.put(None)
        elif len(self._queue) > MAX_UNSEALED and not self._inside():
            self._seal_on_caller()

    @property
    def busy(self) -> bool:
        """True if an entry is queued or being sealed."""
        return bool(self._queue) or self._sealing.locked()

    def may_wait(self) -> bool:
        """Return False where waiting would deadlock.

        That is on our own threads, and in a destructor that runs while this thread holds one of our locks.
        """
        return not self._inside() and not threading.current_thread().name.startswith(THREAD_PREFIX)

    def _inside(self) -> bool:
        """Return True in a destructor that interrupted this thread while it was sealing or held a related lock."""
        held = self._outbox.changed.held() or self._log.lock.held() or self._details.lock.held()
        held = held or self._copies.held()
        return held or self._sealing_thread == threading.get_ident()

    def barrier(self, timeout: float) -> bool:
        """Wait until every span that was queued earlier is in the log and the outbox.

        Args:
            timeout: seconds.

        Returns:
            False after a timeout, or if waiting would deadlock; see `may_wait`.
        """
        if not self.may_wait():
            return False
        if self._idle and not self.busy:
            return True  # Called after every cell; do not wake the thread if there are no spans.
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
            if self._queue:  # An entry came between the last check and setting the flag.
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
        """Seal the first entries of the queue. The caller must hold the lock."""
        taken: list[EndedSpan | Call | LateEvent | _Mark] = []
        self._sealing_thread = threading.get_ident()
        try:
            while self._queue and len(taken) < BATCH:
                taken.append(self._queue.popleft())
            hand_over = self._sealer_of_batches().prepare(
                spans=[entry for entry in taken if isinstance(entry, EndedSpan)],
                calls=[entry for entry in taken if isinstance(entry, Call)],
                late=[entry for entry in taken if isinstance(entry, LateEvent)],
            )
        except (KeyboardInterrupt, SystemExit):  # On a caller's thread: nothing was handed over, requeue all.
            self._queue.extendleft(reversed(taken))
            self._sealing_thread = None
            raise
        except Exception as error:  # boundary: must not end the thread or reach the user's `span.end()`.
            logger.debug("sealing failed inside hh_jupyter", exc_info=True)
            self._outbox.note_lost(f"spans could not be sealed and are lost ({type(error).__name__})")
            hand_over = _nothing
        try:
            hand_over()
        finally:
            self._sealing_thread = None
        for entry in taken:
            if isinstance(entry, _Mark):
                entry.reached.set()

    def _sealer_of_batches(self) -> BatchSealer:
        if self._batches is None or self._batches.settings is not self.settings:
            from hh_jupyter.delivery.sealing.batch import BatchSealer

            self._batches = BatchSealer(self.settings, self._outbox, self._log, self._details, self._copies)
        return self._batches


def _nothing() -> None:
    """Replace the handover of a failed batch."""
