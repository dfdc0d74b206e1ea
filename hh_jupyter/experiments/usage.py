"""Tokens and cost of each session of a run, counted while the run goes on."""

from __future__ import annotations

import queue
from collections.abc import Iterable
from dataclasses import dataclass
from math import fsum

from hh_jupyter.records import prices
from hh_jupyter.records.log import SpanLog
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.records.totals import Totals, summarize


@dataclass(frozen=True, slots=True)
class SessionUsage:
    """Tokens and cost of the model calls of a session.

    Attributes:
        cost: of the calls of the function in US dollars, as far as known; None if unknown.
        tokens: of the calls of the function; None without one.
        judge_cost: of the calls of the evaluators, as `cost`.
        complete: whether the cost of each call is known.
        estimated: whether some of the cost comes from the price table.
        calls: number of all calls, of which a recording answered `replayed`.
        saved: US dollars that those would have cost, as far as known; None if unknown.
    """

    cost: float | None = None
    tokens: int | None = None
    judge_cost: float | None = None
    complete: bool = True
    estimated: bool = False
    calls: int = 0
    replayed: int = 0
    saved: float | None = None


class UsageCounter:
    """Counts usage per session from the span log.

    Drops the records of a session once its root span has ended, and it is known when its evaluators began.
    """

    def __init__(self, log: SpanLog) -> None:
        self._log = log
        self._records: dict[str, list[SpanRecord]] = {}
        self._ended_sessions: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._unpriced: dict[str, list[SpanRecord]] = {}
        self._usage: dict[str, SessionUsage] = {}
        self._evaluators_began_ns: dict[str, int | None] = {}

    def __enter__(self) -> UsageCounter:
        self._log.listen(self._on_records)
        return self

    def __exit__(self, *_error: object) -> None:
        self._log.unlisten(self._on_records)

    def watch(self, session_id: str) -> None:
        """Start counting a session. Call this before its first span."""
        self._records[session_id] = []

    def end(self, session_id: str, evaluators_began_ns: int | None) -> None:
        """Take note of when the evaluators of a session began; None if none ran. Thread-safe."""
        self._evaluators_began_ns[session_id] = evaluators_began_ns

    def usage_of(self, session_id: str) -> SessionUsage:
        """Usage of a session so far."""
        return self._usage.get(session_id, SessionUsage())

    def total(self) -> SessionUsage:
        """Usage of all sessions so far."""
        each = self._usage.values()
        tokens = [used.tokens for used in each if used.tokens is not None]
        return SessionUsage(
            _sum(used.cost for used in each),
            sum(tokens) if tokens else None,
            _sum(used.judge_cost for used in each),
            all(used.complete for used in each),
            any(used.estimated for used in each),
            sum(used.calls for used in each),
            sum(used.replayed for used in each),
            _sum(used.saved for used in each),
        )

    def count(self) -> None:
        """Count ended sessions. Sessions that need the price table wait until it is loaded."""
        while True:
            try:
                session_id = self._ended_sessions.get_nowait()
            except queue.Empty:
                break
            records = self._records.pop(session_id, None)
            if records:
                self._unpriced[session_id] = records
        for session_id, records in list(self._unpriced.items()):
            if session_id not in self._evaluators_began_ns:
                continue
            if not prices.ready() and any(prices.needs_table(record.facts) for record in records):
                prices.load_in_background()
                continue
            del self._unpriced[session_id]
            self._store(session_id, records)

    def finish(self) -> None:
        """Count all sessions, and load the price table if necessary."""
        self.count()
        rest, self._records = self._records, {}
        self._unpriced |= {session_id: records for session_id, records in rest.items() if records}
        if any(prices.needs_table(record.facts) for records in self._unpriced.values() for record in records):
            prices.load()
        for session_id, records in self._unpriced.items():
            self._store(session_id, records)
        self._unpriced.clear()

    def _store(self, session_id: str, records: list[SpanRecord]) -> None:
        began = self._evaluators_began_ns.pop(session_id, None)
        if not any(record.facts.model or record.facts.usage for record in records):
            return  # No model call.
        judging = [record for record in records if began is not None and record.start_ns >= began]
        own = [record for record in records if began is None or record.start_ns < began] if judging else records
        found, judged = summarize(own), summarize(judging)
        self._usage[session_id] = SessionUsage(
            found.cost,
            _tokens(found),
            judged.cost,
            found.cost_complete and judged.cost_complete,
            any(one.cost_estimated or one.saved_estimated for one in (found, judged)),
            found.http_requests + judged.http_requests,
            found.replayed_calls + judged.replayed_calls,
            _sum((found.saved_cost, judged.saved_cost)),
        )

    def _on_records(self, records: tuple[SpanRecord, ...]) -> None:
        ended = []
        for record in records:  # On the export's thread, which must not wait for a lock of the program's.
            collected = self._records.get(record.session_id or "")
            if collected is not None:
                collected.append(record)
                if record.parent_id is None:
                    ended.append(record.session_id or "")
        for session_id in ended:
            self._ended_sessions.put(session_id)


def _sum(costs: Iterable[float | None]) -> float | None:
    known = [cost for cost in costs if cost is not None]
    return fsum(known) if known else None


def _tokens(totals: Totals) -> int | None:
    calls = totals.llm_calls or totals.embedding_calls
    return totals.total_tokens + totals.embedding_tokens if calls else None
