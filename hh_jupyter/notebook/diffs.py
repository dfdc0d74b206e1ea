"""Differences of two runs for the page, computed on a thread: neither the page nor a running cell waits for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from itertools import count
from typing import Any, Final, Generic, NamedTuple, TypeVar

from hh_jupyter.display.delta import clock
from hh_jupyter.records import prices
from hh_jupyter.records.diff import TreeDiff
from hh_jupyter.records.record import SpanRecord
from hh_jupyter.records.tree import SpanTree
from hh_jupyter.threads import evict_oldest, start_thread
from hh_jupyter.tracing.runs import run_history
from hh_jupyter.tracing.span_store import detail_store, span_log

T = TypeVar("T")

WAIT_SECONDS: Final = 0.1
"""How long a reply waits for what is computed. After that the page is asked to come again."""

PENDING: Final = {"pending": True}
"""The reply while the value is not there yet."""

MAX_DIFFS: Final = 2
"""Differences that are kept. One holds the content of both runs in memory."""

MAX_SPANS: Final = 16
"""What differs of single spans: kept until the page has come again for it."""


class Computed(Generic[T]):
    """Values that take long to compute: one at a time, on a thread, and the latest are kept.

    Args:
        limit: number of values to keep.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._futures: dict[Hashable, Future[T]] = {}
        self._one = threading.Lock()

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return the value of a key, computed when it is first asked for. Without threads, it is computed here.

        Raises:
            TimeoutError: it is not there within WAIT_SECONDS.
        """
        future = self._futures.get(key)
        if future is None:
            future = self._futures[key] = Future()
            evict_oldest(self._futures, self._limit)
            if start_thread(self._compute, "hh-diff", (future, compute)) is None:
                self._compute(future, compute)
        return future.result(WAIT_SECONDS)

    def kept(self) -> list[T]:
        """Return the values that have been computed."""
        return [one.result() for one in list(self._futures.values()) if one.done() and one.exception() is None]

    def _compute(self, future: Future[T], compute: Callable[[], T]) -> None:
        with self._one:
            try:
                future.set_result(compute())
            except Exception as error:  # boundary: raised again where the value is asked for
                future.set_exception(error)


class Pair(NamedTuple):
    """Two sets of spans that a command compares, the old ones first.

    Attributes:
        names: Example: ("refund", "refund #2").
    """

    names: tuple[str, str]
    records: tuple[Sequence[SpanRecord], Sequence[SpanRecord]]

    @property
    def key(self) -> str:
        """The key of the run that the new spans are of; empty if they are not those of one run."""
        return _run_of(self.records[1])


class RunDiff(NamedTuple):
    """A difference that the page shows.

    Attributes:
        id: by which the page asks for what differs of a span.
        diff: None if the spans of one run are no longer kept.
        reply: as the page gets it.
    """

    id: str
    diff: TreeDiff | None
    reply: dict[str, Any]


class RunDiffs:
    """Compares runs of cells as the page asks for them."""

    def __init__(self) -> None:
        self._diffs: Computed[RunDiff | None] = Computed(MAX_DIFFS)
        self._spans: Computed[dict[str, Any]] = Computed(MAX_SPANS)
        self._ids = count(1)

    def of_runs(self, key: str, old: str | None = None, new: str | None = None) -> dict[str, Any] | None:
        """Return the difference of two runs of a cell; None if there is no run before.

        Args:
            key: of the run that the page shows.
            old, new: keys of the runs to compare; None: the run before, and the one that is shown.
        """
        log, history = span_log(), run_history()
        lengths = [len(log.records(cell=one)) for one in (key, old, new) if one is not None]

        def compare() -> RunDiff | None:
            runs = history.until(key)
            keys = [run.key for run in runs]
            at = keys.index(new) if new in keys else len(keys) - 1
            before = keys.index(old) if old in keys else at - 1
            if before < 0:
                return None
            names = [f"Run {run.number}, {clock(run.started_ns, runs[-1].started_ns)}" for run in runs]
            choices = [{"key": key, "name": name} for key, name in zip(keys, names, strict=True)]
            return self._compared((history.records(runs[before]), history.records(runs[at])), choices, before, at)

        return self._reply((key, old, new, *lengths, log.changes), compare)

    def of_pair(self, view_id: str, pair: Pair) -> dict[str, Any] | None:
        """Return the difference that a command shows; if it compares two runs of a cell, others can be chosen."""
        old, new = _run_of(pair.records[0]), pair.key
        if old and new and {old, new} <= {run.key for run in run_history().until(new)}:
            return self.of_runs(new, old, new)
        choices = [{"key": "", "name": name} for name in pair.names]
        return self._reply((view_id, span_log().changes), lambda: self._compared(pair.records, choices, 0, 1))

    def span(self, diff_id: str, row: int) -> dict[str, Any] | None:
        """Return what differs of a span; None if the difference is no longer kept.

        Args:
            diff_id: id of the difference.
            row: index of the span's row in it.
        """
        from hh_jupyter.display.diff_columns import encode_change

        found = next((one for one in self._diffs.kept() if one is not None and one.id == diff_id), None)
        if found is None or found.diff is None or not 0 <= row < len(found.diff.rows):
            return None
        change = found.diff.rows[row]
        try:
            return self._spans.get((diff_id, row), lambda: encode_change(change))
        except TimeoutError:
            return PENDING

    def _reply(self, version: Hashable, compare: Callable[[], RunDiff | None]) -> dict[str, Any] | None:
        try:
            found = self._diffs.get(version, compare)
        except TimeoutError:
            return PENDING
        return None if found is None else found.reply

    def _compared(
        self, records: tuple[Sequence[SpanRecord], Sequence[SpanRecord]], runs: list[dict[str, str]], old: int, new: int
    ) -> RunDiff:
        from hh_jupyter.display.diff import DiffView
        from hh_jupyter.display.diff_columns import encode_diff

        reply: dict[str, Any] = {"id": f"{next(self._ids)}", "runs": runs, "old": old, "new": new}
        if not all(records):
            return RunDiff(reply["id"], None, reply)
        if any(prices.needs_table(record.facts) for one in records for record in one):
            prices.load()
        diff = TreeDiff(SpanTree.build(records[0]), SpanTree.build(records[1]), detail_store().load_all)
        return RunDiff(reply["id"], diff, reply | encode_diff(DiffView(diff, runs[old]["name"], runs[new]["name"])))


def _run_of(records: Sequence[SpanRecord]) -> str:
    """Return the key of the run that all these spans are of; empty if there is none."""
    keys = {record.cell or "" for record in records}
    return keys.pop() if len(keys) == 1 else ""
