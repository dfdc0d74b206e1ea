"""The worker: the one thread that takes what the program's threads append, and the only one that opens the spool.

The program's threads only append to a deque and put into a `SimpleQueue`, both of which are re-entrant: garbage
collection may end a span at any point in any code. Where they wait, they wait on a lock that was made for that one
wait. So an interrupt or a signal that stops such a thread anywhere leaves the exporter whole.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from _thread import LockType, allocate_lock
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, TypeVar

from opentelemetry import context as otel_context

from hh_jupyter.export import process
from hh_jupyter.threads import start_thread

logger = logging.getLogger(__name__)

T = TypeVar("T")

THREAD_PREFIX: Final = "hh_jupyter-"

GATHER_SECONDS: Final = 0.01
"""Seconds that the worker waits for more entries. Fewer, larger batches cost the program fewer thread switches."""

MAX_BATCH: Final = 1_000
"""Number of entries that are taken at once."""

MAX_ENTRIES: Final = 2_000
MAX_AGE_NS: Final = 20_000_000
"""Above this number of waiting entries, or this age of the oldest in nanoseconds, a producer waits for the worker."""

PRODUCER_WAIT: Final = 0.02
"""Longest wait of a producer, in seconds. Bounded, because it may hold a lock of the program that the worker needs."""

LONGEST_PAUSE: Final = 10.0
FORK_WAIT: Final = 1.0
"""Seconds that a fork waits for the worker to leave SQLite; then it continues, so as not to block the program."""

Entry = tuple[Any, Any, Any]
"""What was put: (plan, span, origin) for a span, (plan, None, request or event) for others, (None, None, message)."""


class Answer(Generic[T]):
    """The answer to one question, for the one thread that waits for it."""

    __slots__ = ("_lock", "value")

    def __init__(self) -> None:
        self.value: T | None = None
        self._lock: LockType = allocate_lock()
        self._lock.acquire()

    def give(self, value: T) -> None:
        """Answer; only the first answer counts."""
        if self._lock.locked():
            self.value = value
            self._lock.release()

    @property
    def given(self) -> bool:
        """Whether there is an answer."""
        return not self._lock.locked()

    def wait(self, seconds: float) -> bool:
        """Wait for the answer; return False if there is none after `seconds`."""
        if not self._lock.acquire(timeout=max(0.0, min(seconds, threading.TIMEOUT_MAX))):
            return False
        self._lock.release()
        return True


class Worker:
    """Runs `handle` for the entries that were put, in order, on one thread that starts with the first entry.

    Args:
        handle: handles a batch of entries without messages.
        end_turn: called whenever everything that was put is handled, and after at most `MAX_BATCH` entries.

    Attributes:
        signals: deferred while a thread of the program does the work.
    """

    def __init__(self, handle: Callable[[Sequence[Entry]], None], end_turn: Callable[[], None]) -> None:
        self._handle, self._end_turn = handle, end_turn
        self._numbers = itertools.count()
        self._own_threads: set[int] = set()
        self._warm = False
        self.signals = process.DeferredSignals()
        self.reset()

    def reset(self) -> None:
        """Start without entries and without a thread, as in a forked child."""
        self._inbox: deque[Entry] = deque()
        self._bell: SimpleQueue[bool] = SimpleQueue()
        self._held_back: deque[LockType] = deque()
        self._pauses: deque[tuple[Answer[None], Answer[None]]] = deque()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._thread: threading.Thread | None = None
        self._idle, self._stopping = True, False
        self._inline = False
        self._inline_thread: int | None = None
        self._role = allocate_lock()  # Held by the thread that works.
        self._oldest_ns = 0
        self._own_threads.clear()

    # Any thread

    def put(self, entry: Entry, end_ns: int = 0) -> None:
        """Hand over an entry. Takes no lock; above the bounds it waits at most `PRODUCER_WAIT` seconds.

        Args:
            end_ns: when the span ended, in Unix nanoseconds.
        """
        self._inbox.append(entry)
        if self._idle:  # Only the worker changes it, so that an interrupt between two lines here does no harm.
            self._bell.put(False)
            if self._thread is None and (not self._inline or len(self._inbox) > MAX_ENTRIES):
                self._start()
        elif len(self._inbox) > MAX_ENTRIES or (self._oldest_ns and end_ns - self._oldest_ns > MAX_AGE_NS):
            self._hold_back()

    def post(self, message: Callable[[], None]) -> None:
        """Run `message` on the worker, after everything that was put before, without waiting."""
        self._inbox.append((None, None, message))
        self._bell.put(True)
        if self._thread is None:
            self._start()
            if self._inline:
                self._run_inline()

    def ask(self, question: Callable[[], T], seconds: float = threading.TIMEOUT_MAX) -> T:
        """Run `question` on the worker, after everything that was put before, and return its result.

        Raises:
            TimeoutError: there is no result after `seconds`.
            Exception: what `question` raises.
        """
        if self._thread is threading.current_thread() or self._inline_thread == threading.get_ident():
            return question()
        answer: Answer[tuple[T | None, BaseException | None]] = Answer()

        def run() -> None:
            try:
                answer.give((question(), None))
            except BaseException as error:  # boundary: raised again on the thread that asked.
                answer.give((None, error))

        self.post(run)
        if not answer.wait(seconds):
            raise TimeoutError
        result, error = answer.value or (None, None)
        if error is not None:
            raise error
        return result  # type: ignore[return-value]

    def wait_handled(self, seconds: float) -> bool:
        """Wait until everything that was put is handled; return False if that takes longer, or on our own threads."""
        if self.is_own_thread():
            return False
        if self._idle and not self._inbox:
            return True  # Called after every cell; do not wake the thread if there are no spans.
        answer: Answer[None] = Answer()
        self.post(lambda: answer.give(None))
        return answer.wait(seconds)

    def waiting(self) -> list[Entry]:
        """Return the entries that wait. For a forked child, where nothing else runs."""
        return list(self._inbox)

    @property
    def busy(self) -> bool:
        """True if an entry waits or is being handled."""
        return bool(self._inbox) or not self._idle

    @property
    def running(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None

    def is_own_thread(self) -> bool:
        """Return whether the calling thread is one of ours, which must not wait for the worker."""
        thread = threading.get_ident()
        return thread in self._own_threads or thread == self._inline_thread

    def _hold_back(self) -> None:
        if not self._warm or threading.get_ident() in self._own_threads or self._inline:
            return  # The first batch imports modules, which takes longer.
        lock = allocate_lock()
        lock.acquire()
        self._held_back.append(lock)
        lock.acquire(timeout=PRODUCER_WAIT)

    def _start(self) -> None:
        """Start the thread. If two are started at once, even by a destructor in here, one of them ends at once.

        Without a thread, entries wait until there is a message, or too many of them.
        """
        self._inline = start_thread(self._run, f"{THREAD_PREFIX}worker") is None
        if self._inline and len(self._inbox) > MAX_ENTRIES:
            self._run_inline()

    def _run_inline(self) -> None:
        """Handle everything on the calling thread, because no thread can be started. Signals wait until it is done."""
        while self._inbox and self._role.acquire(blocking=False):
            self._inline_thread = threading.get_ident()
            try:
                with self.signals:
                    self._work_off()
            finally:
                self._inline_thread = None
                self._role.release()

    # The program's main thread around a fork, and at the end

    def pause(self, resume: Answer[None]) -> None:
        """Wait until the worker is between two batches, where it stays until `resume` is answered."""
        if self._thread is not None and not self.is_own_thread():
            reached: Answer[None] = Answer()
            self._pauses.append((reached, resume))
            self._bell.put(True)
            reached.wait(FORK_WAIT)

    def stop(self, seconds: float) -> None:
        """End the thread after everything that was put is handled. Waits at most `seconds`."""
        thread = self._thread
        if thread is None or self.is_own_thread():
            return

        def stop() -> None:
            self._stopping = True

        self.post(stop)
        thread.join(seconds)

    # The worker's thread

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Run `act` on the worker after `seconds`. Call this on the worker only."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._numbers), act))

    def ring(self) -> None:
        """Begin a turn soon, because there is something for `end_turn` to do."""
        self._bell.put(False)

    def add_own_thread(self) -> None:
        """Count the calling thread as one of ours, and suppress instrumentation on it."""
        self._own_threads.add(threading.get_ident())
        # The context ends with the thread, so it is never detached.
        otel_context.attach(otel_context.set_value(otel_context._SUPPRESS_INSTRUMENTATION_KEY, True))

    def remove_own_thread(self) -> None:
        """Undo `add_own_thread`, because the thread ends."""
        self._own_threads.discard(threading.get_ident())

    def _run(self) -> None:
        if not self._role.acquire(blocking=False):
            return
        self._thread = threading.current_thread()
        self.add_own_thread()
        self._idle = False
        while True:
            self._work_off()
            self._oldest_ns = 0
            self._idle = True
            if not self._inbox:  # Otherwise an entry came between the last check and setting the flag.
                if self._stopping:
                    break
                urgent = self._wait()
                self._idle = False
                if self._inbox:
                    self._oldest_ns = self._end_of(self._inbox[0])
                self._gather(urgent)
            self._idle = False
        self._thread, self._stopping = None, False
        self.remove_own_thread()
        self._role.release()
        if self._inbox:
            self._start()

    def _wait(self) -> bool:
        """Wait for the bell or the next timer; return whether there is no time to gather more entries."""
        try:
            if not self._timers:
                return self._bell.get()
            return self._bell.get(timeout=max(0.0, self._timers[0][0] - time.monotonic()))
        except Empty:
            return True

    def _gather(self, urgent: bool) -> None:
        deadline = time.monotonic() + GATHER_SECONDS
        while not urgent and (left := deadline - time.monotonic()) > 0:
            try:
                urgent = self._bell.get(timeout=left)
            except Empty:
                return

    def _work_off(self) -> None:
        """Handle everything that waits, in batches."""
        while True:
            while self._pauses:
                reached, resume = self._pauses.popleft()
                reached.give(None)
                resume.wait(LONGEST_PAUSE)
            taken: list[Entry] = []
            message: Callable[[], None] | None = None
            while self._inbox and len(taken) < MAX_BATCH and message is None:
                entry = self._inbox.popleft()
                if entry[0] is None:
                    message = entry[2]
                else:
                    taken.append(entry)
            if taken:
                self._oldest_ns = self._end_of(taken[0])
                self._run_guarded(partial(self._handle, taken))
                self._warm = True
            if message is not None:
                self._run_guarded(message)
            while self._timers and self._timers[0][0] <= time.monotonic():
                self._run_guarded(heapq.heappop(self._timers)[2])
            while self._held_back:
                self._held_back.popleft().release()
            self._run_guarded(self._end_turn)
            if not self._inbox and not self._pauses:
                return

    def _run_guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except BaseException:  # boundary: a bug must not end the thread and lose later spans.
            logger.debug("the exporter failed inside hh_jupyter", exc_info=True)

    @staticmethod
    def _end_of(entry: Entry) -> int:
        return int(getattr(entry[1], "end_time", 0) or 0)
