"""`evaluate`: a function over data points, each in a session of its own, scored, as one run."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from typing import Any

from hh_jupyter.delivery.ask import BackendClient
from hh_jupyter.experiments.calling import Patience
from hh_jupyter.experiments.checks import check_arguments, look_over
from hh_jupyter.experiments.course import Course
from hh_jupyter.experiments.dataset import Dataset, given_dataset, stored_dataset
from hh_jupyter.experiments.evaluators import name_of, named
from hh_jupyter.experiments.hiding import without_secrets
from hh_jupyter.experiments.results import ExperimentResultSummary
from hh_jupyter.experiments.run import Run
from hh_jupyter.experiments.surroundings import backend_for, instrumented, tracer_for
from hh_jupyter.experiments.work import Task

logger = logging.getLogger(__name__)


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
    where = {"api_key": api_key, "ingestion_api_key": ingestion_api_key, "server_url": server_url, "project": project}
    judges = named(evaluators or ())
    with ExitStack() as stack:
        tracer = stack.enter_context(tracer_for(where, verbose=verbose))
        backend = stack.enter_context(backend_for(tracer.settings, aggregate_function, dataset_id))
        run_id = run_id or str(uuid.uuid4())
        data = _given(dataset, run_id) if dataset is not None else _stored(backend, dataset_id)
        run = Run(backend, tracer, data, aggregate_function, run_id, (name or "").strip())
        stack.enter_context(instrumented(instrumentors or (), tracer.provider))
        told = dict(without_secrets(config, tracer.settings)) if config else {}
        run.create(_configuration(function, judges, max_workers, aggregate_function, told))
        patience, keep_outputs = Patience(retries, timeout), tracer.settings.capture_outputs
        task = Task(run.id, function, name_of(function), judges, patience, keep_outputs)
        course = Course(tracer, run, task, data, aggregate_function, told, show=print_results)
        result = course.go(max_workers, executor)
    if not print_results:
        _warn_of_failures(result)
    return result


def _given(rows: Any, run_id: str) -> Dataset:
    data = given_dataset(rows, run_id)
    if data.total is not None:
        look_over([point.data for point in data.points])
    return data


def _stored(backend: BackendClient | None, dataset_id: str | None) -> Dataset:
    assert backend is not None
    assert dataset_id is not None
    return stored_dataset(backend, dataset_id)


def _configuration(
    function: Callable[..., Any],
    evaluators: Iterable[str],
    max_workers: int,
    aggregate_function: str,
    config: Mapping[str, Any],
) -> dict[str, Any]:
    """What the backend is told of how the run was made."""
    return {
        "function": name_of(function),
        "evaluators": list(evaluators),
        "max_workers": max_workers,
        "aggregate_function": aggregate_function,
        **({"config": config} if config else {}),
    }


def _warn_of_failures(result: ExperimentResultSummary) -> None:
    if bad := len({error.datapoint_id for error in result.errors}):
        logger.warning("evaluate: %d of %d data points failed; see result.errors", bad, len(result.rows))
