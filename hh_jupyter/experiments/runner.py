"""`evaluate`: a function over data points, each in a session of its own, scored, as one run."""

from __future__ import annotations

import dataclasses
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from opentelemetry.trace import TracerProvider

from hh_jupyter import settings as settings_table
from hh_jupyter.delivery.ask import BackendClient
from hh_jupyter.errors import SettingError
from hh_jupyter.experiments.calling import Patience
from hh_jupyter.experiments.checks import check_aggregate, check_arguments, look_over
from hh_jupyter.experiments.counting import result_from_outcomes, rows_of
from hh_jupyter.experiments.datapoint import SOURCE, Desk
from hh_jupyter.experiments.dataset import Dataset, given_dataset, stored_dataset
from hh_jupyter.experiments.evaluators import name_of, named
from hh_jupyter.experiments.here import leave
from hh_jupyter.experiments.hiding import without_secrets
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
from hh_jupyter.settings import Settings
from hh_jupyter.tracing.default import current_tracer
from hh_jupyter.tracing.recorded import span_log
from hh_jupyter.tracing.tracer import HoneyHiveTracer

logger = logging.getLogger(__name__)

FLUSH_MILLIS: Final = 30_000
"""Longest wait for everything to arrive before the run is called completed."""

SEAL_SECONDS: Final = 10.0


def evaluate(
    function: Callable[..., Any],
    *,
    dataset: Iterable[Mapping[str, Any]] | None = None,
    dataset_id: str | None = None,
    evaluators: Sequence[Callable[..., Any]] | None = None,
    instrumentors: Sequence[Callable[[], Any]] | None = None,
    api_key: str | None = None,
    ingestion_api_key: str | None = None,
    server_url: str | None = None,
    project: str | None = None,
    name: str | None = None,
    run_id: str | None = None,
    max_workers: int = 10,
    aggregate_function: str = "average",
    verbose: bool = False,
    print_results: bool = True,
    executor: Executor | None = None,
    retries: int = 0,
    timeout: float | None = None,
    config: Mapping[str, Any] | None = None,
) -> ExperimentResultSummary:
    """Run a function over a dataset and score its results; each data point is a session of the run.

    Works without a key as well: then everything stays here, the run included, until `%hh send`. What a data point or an
    evaluator raises ends neither the run nor the other evaluators; it is in the result and on the session. Ctrl-C ends
    the run and gives the result of what had been done.

    Example:
        >>> rows = [{"inputs": {"q": "2+2"}, "ground_truth": "4"}]
        >>> evaluate(answer, dataset=rows, evaluators=[exact], config={"prompt": 2})  # doctest: +SKIP

    Args:
        function: `f(datapoint)`, or `f(datapoint, tracer)`; coroutine functions of a run share one event loop, on a
            thread of its own.
        dataset: dicts with `inputs` and, if known, `ground_truth` and `id`: a list, a DataFrame of pandas or polars, or
            an iterator, which is read while the run goes on.
        dataset_id: a dataset stored in the backend, instead of `dataset`.
        evaluators: `e(outputs, inputs, ground_truth)`, the last only where the data point has one; one that takes
            fewer gets those that it names, else the first ones. See `evaluator`.
        instrumentors: factories of instrumentors that are on while the run lasts.
        api_key, ingestion_api_key, server_url, project: as in `HoneyHiveTracer.init`; given none, those of the current
            tracer. The run itself needs the API key, the sessions are content with an ingestion key.
        name: of the run; default: `experiment-` and the beginning of the run's id.
        max_workers: data points at a time, each on a thread; an executor is given twice as many.
        aggregate_function: average, sum, min, max; a backend may know more.
        verbose: as in `HoneyHiveTracer.init`.
        print_results: show progress, and the result as a table; without it, failed data points are one warning.
        executor: where function and evaluators run instead: any `concurrent.futures.Executor`, of processes or of a
            cluster (`dask.distributed.Client().get_executor()`). Spans and sessions come back with the results.
        retries: how often a function or evaluator that raised is called again, after a growing pause; also how often a
            data point goes to an executor again that lost it.
        timeout: seconds that one call of the function or of an evaluator may take, per data point.
        config: whatever describes this run, such as model and prompt; stored on the run, compared by `compare`.

    Raises:
        SettingError: arguments that contradict each other, or a dataset that does not exist. A ValueError.
        SettingTypeError: an argument of the wrong type. A TypeError as well.
        BackendError: the run could not be made. Nothing has been run then; later trouble is logged.
    """
    check_arguments(
        function,
        dataset,
        dataset_id,
        evaluators,
        max_workers=max_workers,
        executor=executor,
        retries=retries,
        timeout=timeout,
        config=config,
    )
    given = {"api_key": api_key, "ingestion_api_key": ingestion_api_key, "server_url": server_url, "project": project}
    with ExitStack() as stack:
        tracer = stack.enter_context(_tracer_for(given, verbose=verbose))
        backend = _backend_for(tracer.settings, aggregate_function, dataset_id)
        if backend is not None:
            stack.enter_context(backend)
        run_id = run_id or str(uuid.uuid4())
        data = _given(dataset, run_id) if dataset is not None else _stored(backend, dataset_id)
        run = Run(backend, tracer, data, aggregate_function, run_id, (name or "").strip())
        task_evaluators = named(evaluators or ())
        stack.enter_context(_instrumented(instrumentors or (), tracer.provider))
        told = dict(without_secrets(config, tracer.settings)) if config else {}
        run.create(
            {
                "function": name_of(function),
                "evaluators": list(task_evaluators),
                "max_workers": max_workers,
                "aggregate_function": aggregate_function,
                **({"config": told} if told else {}),
            }
        )
        keep_outputs = tracer.settings.capture_outputs
        patience = Patience(retries, timeout)
        task = Task(run.id, function, name_of(function), task_evaluators, patience, keep_outputs)
        result = _Course(tracer, run, task, data, aggregate_function, told, show=print_results).go(
            max_workers, executor
        )
    if not print_results and (bad := len({error.datapoint_id for error in result.errors})):
        logger.warning("evaluate: %d of %d data points failed; see result.errors", bad, len(result.rows))
    return result


@dataclasses.dataclass(slots=True)
class _Course:
    """From the first data point to the result."""

    tracer: HoneyHiveTracer
    run: Run
    task: Task
    data: Dataset
    aggregate_function: str
    config: Mapping[str, Any]
    show: bool

    def go(self, max_workers: int, executor: Executor | None) -> ExperimentResultSummary:
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


@contextmanager
def _tracer_for(given: Mapping[str, Any], *, verbose: bool) -> Iterator[HoneyHiveTracer]:
    """The current tracer if it sends to the same place, so that all share one pipeline; else one for this run."""
    found = current_tracer()
    nothing_given = all(value is None for value in given.values())
    if found is not None and nothing_given:
        settings = found.settings
    else:
        settings = settings_table.resolve({**given, "verbose": verbose or None}, called="evaluate")
    if found is not None and not found.closed and _place(found.settings) == _place(settings):
        yield found
        return
    settings = dataclasses.replace(settings, source=SOURCE, session_id=None, skip_backend_session_creation=True)
    tracer = HoneyHiveTracer.from_settings(settings, name=SOURCE, join=False, register="never")
    try:
        yield tracer
    finally:
        tracer.shutdown()


def _place(settings: Settings) -> tuple[object, ...]:
    if settings.local:
        return (True, settings.project)
    return (False, settings.project, settings.server_url, settings.api_key, settings.ingestion_api_key)


def _backend_for(settings: Settings, aggregate_function: str, dataset_id: str | None) -> BackendClient | None:
    """Who answers; None in local mode."""
    if not settings.local and settings.api_key is None:
        raise SettingError("evaluate: api_key is needed to make a run; an ingestion key may only send.")
    if settings.local and dataset_id is not None:
        raise SettingError("evaluate: dataset_id needs an api_key: the dataset is in the backend.")
    check_aggregate(aggregate_function, local=settings.local)
    return None if settings.local else BackendClient(settings)


def _given(rows: Any, run_id: str) -> Dataset:
    data = given_dataset(rows, run_id)
    if data.total is not None:
        look_over([point.data for point in data.points])
    return data


def _stored(backend: BackendClient | None, dataset_id: str | None) -> Dataset:
    assert backend is not None
    assert dataset_id is not None
    return stored_dataset(backend, dataset_id)


@contextmanager
def _instrumented(factories: Sequence[Callable[[], Any]], provider: TracerProvider) -> Iterator[None]:
    """Instrumentors switched on for a while; what was on already is neither switched on twice nor off afterwards."""
    made = [factory() for factory in factories]
    ours = [item for item in made if not getattr(item, "is_instrumented_by_opentelemetry", False)]
    for item in ours:
        item.instrument(tracer_provider=provider)
    try:
        yield
    finally:
        for item in ours:
            item.uninstrument()
