"""`evaluate`: a function over data points, each in a session of its own, scored, as one run."""

from __future__ import annotations

import contextvars
import dataclasses
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from opentelemetry.trace import TracerProvider

from hh_jupyter import settings as settings_table
from hh_jupyter.delivery.ask import BackendClient
from hh_jupyter.errors import SettingError
from hh_jupyter.experiments.checks import check_aggregate, check_arguments, look_over
from hh_jupyter.experiments.datapoint import SOURCE, Outcome, Task, run_datapoint
from hh_jupyter.experiments.dataset import Datapoint, Dataset, given_dataset, stored_dataset
from hh_jupyter.experiments.evaluators import name_of, named
from hh_jupyter.experiments.results import ExperimentResultSummary
from hh_jupyter.experiments.run import Run
from hh_jupyter.settings import Settings
from hh_jupyter.tracing.default import current_tracer
from hh_jupyter.tracing.tracer import HoneyHiveTracer

logger = logging.getLogger(__name__)

FLUSH_MILLIS: Final = 30_000
"""Longest wait for everything to arrive before the run is called completed."""


def evaluate(
    function: Callable[..., Any],
    *,
    dataset: Sequence[Mapping[str, Any]] | None = None,
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
) -> ExperimentResultSummary:
    """Run a function over a dataset and score its results; each data point is a session of the run.

    Works without a key as well: then everything stays here, the ids and the result included. What a data point or an
    evaluator raises ends neither the run nor the other evaluators; it is in the result and on the session.

    Example:
        >>> rows = [{"inputs": {"q": "2+2"}, "ground_truth": "4"}]
        >>> evaluate(answer, dataset=rows, evaluators=[exact])  # doctest: +SKIP

    Args:
        function: `f(datapoint)`, or `f(datapoint, tracer)`; a coroutine function runs on an event loop of its own.
        dataset: dicts with `inputs` and, if known, `ground_truth` and `id`.
        dataset_id: a dataset stored in the backend, instead of `dataset`.
        evaluators: `e(outputs, inputs, ground_truth)`, the last only where the data point has one; one that takes
            fewer gets those that it names, else the first ones. See `evaluator`.
        instrumentors: factories of instrumentors that are on while the run lasts.
        api_key, ingestion_api_key, server_url, project: as in `HoneyHiveTracer.init`; given none, those of the current
            tracer. The run itself needs the API key, the sessions are content with an ingestion key.
        name: of the run; default: `experiment-` and the beginning of the run's id.
        max_workers: data points at a time, each on a thread.
        aggregate_function: average, sum, min, max; a backend may know more.
        verbose: as in `HoneyHiveTracer.init`.
        print_results: print the result as a table; without it, failed data points are one warning.

    Raises:
        SettingError: arguments that contradict each other, or a dataset that does not exist. A ValueError.
        SettingTypeError: an argument of the wrong type. A TypeError as well.
        BackendError: the run could not be made. Nothing has been run then; later trouble is logged.
    """
    check_arguments(function, dataset, dataset_id, evaluators, max_workers)
    given = {"api_key": api_key, "ingestion_api_key": ingestion_api_key, "server_url": server_url, "project": project}
    with ExitStack() as stack:
        tracer = stack.enter_context(_tracer_for(given, verbose=verbose))
        backend = _backend_for(tracer.settings, aggregate_function, dataset_id)
        if backend is not None:
            stack.enter_context(backend)
        data = _given(dataset) if dataset is not None else _stored(backend, dataset_id)
        run = Run(backend, data, aggregate_function, run_id or str(uuid.uuid4()), (name or "").strip())
        task_evaluators = named(evaluators or ())
        stack.enter_context(_instrumented(instrumentors or (), tracer.provider))
        run.create(
            {
                "function": name_of(function),
                "evaluators": list(task_evaluators),
                "max_workers": max_workers,
                "aggregate_function": aggregate_function,
            }
        )
        task = Task(run.name, run.ids, function, name_of(function), task_evaluators, tracer)
        outcomes = _run_all(task, data.datapoints, max_workers)
        if not tracer.force_flush(FLUSH_MILLIS):
            reason = tracer.export_state().reason
            logger.warning("evaluate: not everything of run %s has arrived: %s", run.id, reason or "no answer in time")
        result = run.complete(outcomes, task.function_name)
    if print_results:
        result.print_table(run.name)
    elif bad := len({error.datapoint_id for error in result.errors}):
        logger.warning("evaluate: %d of %d data points failed; see result.errors", bad, len(outcomes))
    return result


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


def _given(rows: Sequence[Mapping[str, Any]]) -> Dataset:
    data = given_dataset(rows)
    look_over(rows)
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


def _run_all(task: Task, points: Sequence[Datapoint], max_workers: int) -> list[Outcome]:
    """Outcomes in the order of the data points. Ctrl-C lets none start that has not."""
    pool = ThreadPoolExecutor(max_workers, thread_name_prefix="hh_jupyter-evaluate")
    try:
        running = [pool.submit(contextvars.copy_context().run, run_datapoint, task, point) for point in points]
        return [future.result() for future in running]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
