"""The course of a run, from its first data point to its result."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Final

from hh_jupyter.experiments.counting import result_from_outcomes, rows_of
from hh_jupyter.experiments.datapoint import Desk
from hh_jupyter.experiments.dataset import Dataset
from hh_jupyter.experiments.here import leave
from hh_jupyter.experiments.meter import Meter
from hh_jupyter.experiments.pool import Gathered, Pool
from hh_jupyter.experiments.progress import Progress
from hh_jupyter.experiments.results import (
    COMPLETED,
    INTERRUPTED,
    LOCAL_ONLY,
    PARTLY_SENT,
    SENT,
    DatapointError,
    ExperimentResultSummary,
)
from hh_jupyter.experiments.run import Run
from hh_jupyter.experiments.work import Task
from hh_jupyter.tracing.recorded import span_log
from hh_jupyter.tracing.tracer import HoneyHiveTracer

logger = logging.getLogger(__name__)

FLUSH_MILLIS: Final = 30_000
"""Longest wait for everything to arrive before the run is called completed."""

SEAL_SECONDS: Final = 10.0


@dataclass(slots=True)
class Course:
    """What happens between making a run and having its result.

    Attributes:
        config: as it is shown, without secrets.
        show: progress and result.
    """

    tracer: HoneyHiveTracer
    run: Run
    task: Task
    data: Dataset
    aggregate_function: str
    config: Mapping[str, Any]
    show: bool

    def go(self, max_workers: int, executor: Executor | None) -> ExperimentResultSummary:
        """Work on every data point, send what came of it, and count."""
        started = time.monotonic()
        with Meter(span_log()) as meter, Progress(self.run.name, self.data.total, meter, show=self.show) as progress:
            desk = Desk(self.tracer, self.run.name, self.run.ids, meter.watch)
            try:
                gathered = Pool(desk, self.task, max_workers, executor, progress.tick).run(iter(self.data.points))
            finally:
                leave(self.task.run_id)
            delivery = self._deliver(progress)
            meter.finish()
            result = self._ended(self._count(gathered, meter, time.monotonic() - started, delivery))
            progress.become(result)
        return result

    def _ended(self, result: ExperimentResultSummary) -> ExperimentResultSummary:
        """Ctrl-C ends the wait for the backend's words about the run, too."""
        try:
            return self.run.end(result)
        except KeyboardInterrupt:
            logger.warning(
                "evaluate: the result of run %s is counted here, the backend was not waited for", self.run.id
            )
            return result

    def _deliver(self, progress: Progress) -> str:
        """Send what there is; Ctrl-C ends the wait, and what waits goes on its way."""
        here_only = self.tracer.destination is None
        if not here_only:
            progress.sending()
        try:
            self.tracer.seal(SEAL_SECONDS)
            if self.tracer.force_flush(FLUSH_MILLIS):
                return LOCAL_ONLY if here_only else SENT
        except KeyboardInterrupt:
            return PARTLY_SENT
        state = self.tracer.export_state()
        left = state.waiting or state.calls_waiting
        reason = state.reason or ("no answer in time" if left else "something was lost, as said before")
        logger.warning("evaluate: not everything of run %s has arrived: %s", self.run.id, reason)
        return PARTLY_SENT

    def _count(self, gathered: Gathered, meter: Meter, seconds: float, delivery: str) -> ExperimentResultSummary:
        outcomes, used = gathered.in_order(), meter.total()
        broken = f"the dataset ended with {gathered.broken}" if gathered.broken else None
        problem = DatapointError(datapoint_id="", session_id="", evaluator=None, error=broken or "")
        return result_from_outcomes(
            self.run.id,
            self.aggregate_function,
            outcomes,
            self.task.function_name,
            status=INTERRUPTED if gathered.interrupted or broken else COMPLETED,
            problems=(problem,) if broken else (),
            name=self.run.name,
            config=self.config,
            rows=rows_of(outcomes, meter),
            planned=self.data.total,
            seconds=seconds,
            cost=used.cost,
            cost_complete=used.complete,
            cost_estimated=used.estimated,
            tokens=used.tokens,
            delivery=delivery,
        )
