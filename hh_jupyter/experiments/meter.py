"""What the model calls of each session of a run come to, counted while the run goes on and then forgotten."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from math import fsum

from hh_jupyter.records import cost
from hh_jupyter.records.log import SpanLog
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.records.totals import Totals, summarize


@dataclass(frozen=True, slots=True)
class Used:
    """Of one session.

    Attributes:
        cost: US dollars, as far as known; None if nothing is known.
        tokens: None without a model call.
        complete: the cost of each call is known.
        estimated: some of the cost comes from the price table.
    """

    cost: float | None = None
    tokens: int | None = None
    complete: bool = True
    estimated: bool = False


class Meter:
    """Listens to the log while it is open; a session is counted when its root has ended, and its rows are let go."""

    def __init__(self, log: SpanLog) -> None:
        self._log = log
        self._rows: dict[str, list[SpanRecord]] = {}
        self._lock = threading.RLock()  # A span that garbage collection ends in here may bring rows itself.
        self._ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._waiting: dict[str, list[SpanRecord]] = {}
        self._used: dict[str, Used] = {}

    def __enter__(self) -> Meter:
        self._log.listen(self._arrived)
        return self

    def __exit__(self, *_error: object) -> None:
        self._log.unlisten(self._arrived)

    def watch(self, session_id: str) -> None:
        """Count this session, whose first span is still to come."""
        with self._lock:
            self._rows[session_id] = []

    def of(self, session_id: str) -> Used:
        """What it came to, as far as counted."""
        return self._used.get(session_id, Used())

    def total(self) -> Used:
        """Of all sessions counted so far."""
        each = self._used.values()
        costs = [used.cost for used in each if used.cost is not None]
        tokens = [used.tokens for used in each if used.tokens is not None]
        return Used(
            fsum(costs) if costs else None,
            sum(tokens) if tokens else None,
            all(used.complete for used in each),
            any(used.estimated for used in each),
        )

    def count(self) -> None:
        """Count what has ended; what needs the price table waits until that is loaded."""
        while True:
            try:
                session_id = self._ended.get_nowait()
            except queue.Empty:
                break
            with self._lock:
                rows = self._rows.pop(session_id, None)
            if rows:
                self._waiting[session_id] = rows
        for session_id, rows in list(self._waiting.items()):
            if not cost.ready() and any(cost.needs_table(row.facts) for row in rows):
                cost.load_in_background()
                continue
            del self._waiting[session_id]
            self._note(session_id, rows)

    def finish(self) -> None:
        """Count all that is there, with prices."""
        self.count()
        with self._lock:
            rest, self._rows = self._rows, {}
        self._waiting |= {session_id: rows for session_id, rows in rest.items() if rows}
        if any(cost.needs_table(row.facts) for rows in self._waiting.values() for row in rows):
            cost.load()
        for session_id, rows in self._waiting.items():
            self._note(session_id, rows)
        self._waiting.clear()

    def _note(self, session_id: str, rows: list[SpanRecord]) -> None:
        if not any(row.facts.model or row.facts.usage for row in rows):
            return  # No model call: nothing is remembered of it.
        found = summarize(rows)
        self._used[session_id] = Used(found.cost, _tokens(found), found.cost_complete, found.cost_estimated)

    def _arrived(self, rows: tuple[SpanRecord, ...]) -> None:
        ended = []
        with self._lock:
            for row in rows:
                kept = self._rows.get(row.session_id or "")
                if kept is not None:
                    kept.append(row)
                    if row.parent_id is None:
                        ended.append(row.session_id or "")
        for session_id in ended:
            self._ended.put(session_id)


def _tokens(totals: Totals) -> int | None:
    calls = totals.llm_calls or totals.embedding_calls
    return totals.total_tokens + totals.embedding_tokens if calls else None
