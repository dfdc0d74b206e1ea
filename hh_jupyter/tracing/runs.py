"""The run history of cells: the runs of this kernel are in the span log, those of earlier kernels on disk.

Nothing is stored for it: the key of a run, which its spans carry, holds a digest of the cell's id in the notebook
(`records/selection.py`). Where front ends give cells other ids when a notebook is opened again, or none, the runs of a
named session are found by its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from hh_jupyter.records.selection import MAX_RUNS, cell_number, cell_of, run_of_variant, runs_until
from hh_jupyter.tracing.api import current_tracer
from hh_jupyter.tracing.span_store import detail_store, session_titles, span_log

if TYPE_CHECKING:
    from hh_jupyter.export.spool import Spool, StoredRun
    from hh_jupyter.export.store import BodyStore
    from hh_jupyter.records.log import SpanLog
    from hh_jupyter.records.record import SpanRecord


class Run(NamedTuple):
    """A run of a cell.

    Attributes:
        key: as its spans carry it.
        stored: an earlier kernel made it; its spans are on disk.
        started_ns: when it started, in Unix nanoseconds.
    """

    key: str
    stored: bool = False
    started_ns: int = 0

    @property
    def number(self) -> str:
        """The cell's number in this run: the 4 of `In [4]`."""
        return cell_number(self.key)


class RunHistory:
    """Finds earlier runs of cells and their spans.

    Args:
        log: records of this process.
        store: loads the details of records.
        spool: returns what is kept on disk.
        titles: returns the titles of the sessions that the notebook has named, by id.
    """

    def __init__(
        self,
        log: SpanLog,
        store: BodyStore,
        spool: Callable[[], Spool | None],
        titles: Callable[[], Mapping[str, str]],
    ) -> None:
        self._log, self._store, self._spool, self._titles = log, store, spool, titles
        self._stored: tuple[StoredRun, ...] | None = None

    def until(self, key: str) -> list[Run]:
        """Return the runs of a cell up to this one, the oldest first, at most `MAX_RUNS`. Reads the disk once."""
        own = [Run(one, started_ns=self._start(one)) for one in runs_until(key, self._log.cells(), self.same_cell)]
        return [*self._earlier_kernels(key), *own][-MAX_RUNS:] if len(own) < MAX_RUNS else own

    def runs_here(self, key: str) -> int:
        """Return how many runs of a cell up to this one are of this kernel."""
        return len(runs_until(key, self._log.cells(), self.same_cell))

    def same_cell(self, key: str) -> str:
        """Return what the runs of one cell have in common: its digest, or else the name of its session."""
        return cell_of(key) or self._session_name(key)

    def records(self, run: Run) -> tuple[SpanRecord, ...]:
        """Return the records of a run; empty if they, or some of them, are no longer kept."""
        if not run.stored:
            return self._log.records(cell=run.key) if self._log.is_complete(run.key) else ()
        from hh_jupyter.export.otlp import records_of

        spool, found = self._spool(), []
        for body in spool.bodies_of_cell(run.key) if spool is not None else ():
            records = records_of(body, cell=run.key)
            self._store.run(partial(self._store.add, body, [record.span_id for record in records]))
            found += records
        return tuple(sorted(found, key=lambda record: record.end_ns or 0))

    def _earlier_kernels(self, key: str) -> list[Run]:
        cell, name = cell_of(key), self._session_name(key)
        if not cell and not name:
            return []
        if self._stored is None:
            spool = self._spool()
            here = set(self._log.cells())
            stored = spool.runs() if spool is not None else ()
            self._stored = tuple(
                one
                for one in stored
                if one.key not in here and run_of_variant(one.key) is None and self._log.is_complete(one.key)
            )
        same = [one for one in self._stored if cell and cell_of(one.key) == cell]
        same = same or [one for one in self._stored if name and one.session_name == name]
        return [Run(one.key, stored=True, started_ns=round(one.first * 1e9)) for one in same]

    def _start(self, key: str) -> int:
        return min((record.start_ns for record in self._log.records(cell=key)), default=0)

    def _session_name(self, key: str) -> str:
        """The name that the user gave to the session of a run; empty without one."""
        titles, records = self._titles(), self._log.records(cell=key)
        title = titles.get(records[-1].session_id or "") if records else None
        return _NUMBER.sub("", title) if title else ""


_NUMBER: Final = re.compile(r" #[0-9]+\Z")


def _current_spool() -> Spool | None:
    tracer = current_tracer()
    return tracer.spool if tracer is not None else None


_history = RunHistory(span_log(), detail_store(), _current_spool, session_titles)


def run_history() -> RunHistory:
    """The run history of this process."""
    return _history
