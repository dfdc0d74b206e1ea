"""`evaluate`: run a function over a dataset and score the outputs. Each data point has its own session."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import TracerProvider

from hh_jupyter import settings as settings_table
from hh_jupyter.errors import SettingError
from hh_jupyter.experiments.arguments import check_aggregate, check_arguments, warn_about_rows
from hh_jupyter.experiments.dataset import Dataset, dataset_from_rows, fetch_dataset, with_clusters, with_trials
from hh_jupyter.experiments.evaluators import by_unique_name, callable_name, prefers_lower
from hh_jupyter.experiments.invocation import RetryPolicy
from hh_jupyter.experiments.loops import BlockedLoop, RunLoop
from hh_jupyter.experiments.pool import POLL_SECONDS, Pool, RunOutcomes
from hh_jupyter.experiments.progress import Progress
from hh_jupyter.experiments.results import (
    COMPLETED,
    INTERRUPTED,
    LOCAL_ONLY,
    PARTLY_SENT,
    SENT,
    DatapointError,
    ExperimentResultSummary,
    result_from_rows,
    with_usage,
)
from hh_jupyter.experiments.runs import Run, without_secrets
from hh_jupyter.experiments.usage import UsageCounter
from hh_jupyter.experiments.worker import SOURCE, DatapointSessions, Task
from hh_jupyter.export.backend import BackendClient
from hh_jupyter.settings import Settings
from hh_jupyter.threads import start_thread
from hh_jupyter.tracing.api import current_tracer
from hh_jupyter.tracing.span_store import span_log
from hh_jupyter.tracing.tracer import HoneyHiveTracer

if TYPE_CHECKING:
    from hh_jupyter.recordings.budget import Budget

logger = logging.getLogger(__name__)


def evaluate(
    function: Callable[..., Any],
    *,
    dataset: Iterable[Mapping[str, Any]] | str | os.PathLike[str] | None = None,
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
    max_cost: float | None = None,
    max_calls: int | None = None,
    trials: int = 1,
    cluster: str | Callable[[Mapping[str, Any]], Any] | None = None,
) -> ExperimentResultSummary:
    """Run a function over a dataset and score its outputs. Each data point has its own session.

    Without an API key, run and spans stay on this machine until `%hh send`. An exception of the function or of an
    evaluator is recorded in the result and on the session, and the run continues. Ctrl-C ends the run and returns the
    result so far.

    Coroutines are awaited on one event loop for all runs, and where a loop is running, as in a notebook, on that one:
    clients and locks that the program has used work in the run, and after it. There, prefer `await aevaluate(...)`,
    which does not block the loop.

    Example:
        >>> rows = [{"inputs": {"q": "2+2"}, "ground_truth": "4"}]
        >>> evaluate(answer, dataset=rows, evaluators=[exact], config={"prompt": 2})  # doctest: +SKIP

    Args:
        function: `f(datapoint)` or `f(datapoint, tracer)`, plain or coroutine function.
        dataset: dicts with `inputs` and optionally `ground_truth` and `id`: a list, a pandas or polars DataFrame, the
            path of a file of JSON lines, or an iterator, which is read while the run goes on.
        dataset_id: id of a dataset that is stored in the backend, instead of `dataset`.
        evaluators: `e(outputs, inputs, ground_truth)`, the last only if the data point has one. An evaluator with fewer
            parameters gets those that it names, else the first ones. See `evaluator`.
        instrumentors: factories of instrumentors that are enabled during the run.
        api_key, ingestion_api_key, server_url, project: as in `HoneyHiveTracer.init`; default: those of the current
            tracer. Creating a run needs the API key; for spans and sessions, an ingestion key is enough.
        name: name of the run; default: `experiment-` and the first characters of the run id.
        max_workers: number of data points at a time, each on a thread. An executor gets twice as many.
        aggregate_function: average, sum, min or max; a backend may support others.
        verbose: as in `HoneyHiveTracer.init`.
        print_results: show progress and the result. If False, one warning counts the failed data points.
        executor: any `concurrent.futures.Executor` to run function and evaluators on, such as a process pool or a
            cluster (`dask.distributed.Client().get_executor()`). Spans and sessions come back with the results.
        retries: how often to retry a function or evaluator that raises, with increasing pauses; also how often to
            submit a data point again that the executor lost.
        timeout: limit in seconds of one call of the function or of an evaluator.
        config: data that describes this run, such as model and prompt. It is stored with the run, and `compare` shows
            its changes.
        max_cost, max_calls: what the model calls of the whole run may cost, in US dollars, and how many there may be.
            Further calls are not sent: their clients raise the error for status 402. Default: the settings of these
            names. Calls that an executor makes in other processes are not limited, which a warning says.
        trials: how often to run each data point. The mean of its trials counts as its score, so that errors are over
            data points; the spread of the trials of one is shown beside them.
        cluster: groups data points that depend on each other, such as questions about one document, for the errors of
            means and comparisons: a key of `inputs`, or a function of the row.

    Raises:
        SettingError: contradicting arguments, or a dataset that does not exist. A ValueError.
        SettingTypeError: an argument has the wrong type. Also a TypeError.
        BackendError: the run could not be created; nothing has run. Later failures of the backend are logged.
    """
    return _evaluate(RunLoop(BlockedLoop.current()), **locals())


async def aevaluate(
    function: Callable[..., Any],
    *,
    dataset: Iterable[Mapping[str, Any]] | str | os.PathLike[str] | None = None,
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
    timeout: float | None = None,  # noqa: ASYNC109 - of one call, as in `evaluate`.
    config: Mapping[str, Any] | None = None,
    max_cost: float | None = None,
    max_calls: int | None = None,
    trials: int = 1,
    cluster: str | Callable[[Mapping[str, Any]], Any] | None = None,
) -> ExperimentResultSummary:
    """Do the same as `evaluate` without blocking the event loop. Coroutines are awaited on the loop of the caller.

    Plain functions run on threads. The dataset is read on a thread as well.

    Example:
        >>> result = await aevaluate(answer, dataset=rows, evaluators=[exact])  # doctest: +SKIP

    Args:
        function, dataset, evaluators, ...: as in `evaluate`.

    Raises:
        SettingError, SettingTypeError, BackendError: as in `evaluate`.
        CancelledError: the task was cancelled, as by Ctrl-C in a cell. The run is then ended as cancelled, and the
            result so far is displayed; a second cancellation does not wait for that.
    """
    arguments, run_loop = locals(), RunLoop(asyncio.get_running_loop())
    done: Future[ExperimentResultSummary] = Future()

    def call() -> None:
        try:
            done.set_result(_evaluate(run_loop, **arguments))
        except BaseException as error:  # boundary: raised again in the coroutine.
            done.set_exception(error)

    if start_thread(copy_context().run, "hh_jupyter-aevaluate", (call,)) is None:
        return _evaluate(RunLoop(BlockedLoop.current()), **arguments)
    work = asyncio.wrap_future(done)
    try:
        while not work.done():  # With a timeout, since ipykernel notices Ctrl-C when its loop wakes up.
            await asyncio.wait({work}, timeout=POLL_SECONDS)
    except asyncio.CancelledError:
        run_loop.interrupted = True
        await asyncio.wait({work})
        work.exception()  # Otherwise asyncio logs it.
        raise
    return work.result()


def _evaluate(
    run_loop: RunLoop,
    /,
    function: Callable[..., Any],
    *,
    dataset: Any,
    dataset_id: str | None,
    evaluators: Sequence[Callable[..., Any]] | None,
    instrumentors: Sequence[Callable[[], Any]] | None,
    name: str | None,
    run_id: str | None,
    max_workers: int,
    aggregate_function: str,
    verbose: bool,
    print_results: bool,
    executor: Executor | None,
    retries: int,
    timeout: float | None,
    config: Mapping[str, Any] | None,
    max_cost: float | None,
    max_calls: int | None,
    trials: int,
    cluster: str | Callable[[Mapping[str, Any]], Any] | None,
    **connection: str | None,
) -> ExperimentResultSummary:
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
        max_cost=max_cost,
        max_calls=max_calls,
        trials=trials,
        cluster=cluster,
        instrumentors=instrumentors,
        name=name,
        run_id=run_id,
    )
    evaluators_by_name = by_unique_name(evaluators or ())
    with ExitStack() as stack:
        tracer = stack.enter_context(tracer_for(connection, verbose=verbose))
        backend = stack.enter_context(backend_for(tracer.settings, aggregate_function, dataset_id))
        run_id = run_id or str(uuid.uuid4())
        data = _from_rows(dataset, run_id) if dataset is not None else _fetch(backend, dataset_id)
        data = with_trials(with_clusters(data, cluster), trials)
        run = Run(backend, tracer, data, aggregate_function, run_id, (name or "").strip())
        stack.enter_context(instrumented(instrumentors or (), tracer.provider))
        redacted_config = dict(without_secrets(config, tracer.settings)) if config else {}
        run.create(_configuration(function, evaluators_by_name, max_workers, aggregate_function, redacted_config))
        retry_policy, keep_outputs = RetryPolicy(retries, timeout), tracer.settings.capture_outputs
        task = Task(run.id, function, callable_name(function), evaluators_by_name, retry_policy, keep_outputs)
        budget = stack.enter_context(tracer.sessions.limited("evaluate(..., {name}={value})", max_cost, max_calls))
        execution = RunExecution(
            tracer, run, task, data, aggregate_function, redacted_config, trials, budget, show=print_results
        )
        result = execution.run_all(max_workers, executor, run_loop)
    if not print_results:
        _warn_of_failures(result)
    if budget is not None and budget.refused:
        from hh_jupyter.recordings.limit import line_to_raise, spending  # Late: without a limit, it is not needed.

        text = "evaluate: stopped at the limit: %s; %s model calls were not sent. To raise the limit: %s"
        logger.warning(text, spending(budget), f"{budget.refused:,}", line_to_raise(budget))
    return result


def _from_rows(rows: Any, run_id: str) -> Dataset:
    data = dataset_from_rows(rows, run_id)
    if data.total is not None:
        warn_about_rows([point.data for point in data.points])
    return data


def _fetch(backend: BackendClient | None, dataset_id: str | None) -> Dataset:
    assert backend is not None
    assert dataset_id is not None
    return fetch_dataset(backend, dataset_id)


def _configuration(
    function: Callable[..., Any],
    evaluators: Iterable[str],
    max_workers: int,
    aggregate_function: str,
    config: Mapping[str, Any],
) -> dict[str, Any]:
    """`configuration` of the run in the backend."""
    return {
        "function": callable_name(function),
        "evaluators": list(evaluators),
        "max_workers": max_workers,
        "aggregate_function": aggregate_function,
        **({"config": config} if config else {}),
    }


def _warn_of_failures(result: ExperimentResultSummary) -> None:
    failed = {row.index for row in result.rows if row.error or row.evaluator_errors}
    if failed:
        total = len({row.index for row in result.rows})
        logger.warning("evaluate: %d of %d data points failed; see result.errors", len(failed), total)
    for error in result.errors:
        if not error.session_id and not error.datapoint_id:
            logger.warning("evaluate: %s; the rows before it have run", error.error)


# Tracer, backend and instrumentors of a run


@contextmanager
def tracer_for(arguments: Mapping[str, Any], *, verbose: bool) -> Iterator[HoneyHiveTracer]:
    """The current tracer if it has the same destination, so that both share a pipeline; else a tracer for this run."""
    found = current_tracer()
    if found is not None and all(value is None for value in arguments.values()):
        settings = found.settings
    else:
        settings = settings_table.resolve({**arguments, "verbose": verbose or None}, called="evaluate")
    if found is not None and not found.closed and _destination_of(found.settings) == _destination_of(settings):
        yield found
        return
    settings = dataclasses.replace(settings, source=SOURCE, session_id=None, skip_backend_session_creation=True)
    tracer = HoneyHiveTracer.from_settings(settings, name=SOURCE, join=False, register="never")
    tracer.begin_replay()
    try:
        yield tracer
    finally:
        tracer.shutdown()


def _destination_of(settings: Settings) -> tuple[object, ...]:
    if settings.local:
        return (True, settings.project)
    return (False, settings.project, settings.server_url, settings.api_key, settings.ingestion_api_key)


@contextmanager
def backend_for(settings: Settings, aggregate_function: str, dataset_id: str | None) -> Iterator[BackendClient | None]:
    """A client of the backend; None in local mode.

    Raises:
        SettingError: the run needs an API key, or the aggregate function is unknown.
    """
    if not settings.local and settings.api_key is None:
        raise SettingError("evaluate: api_key is needed to create a run; an ingestion key can only send spans.")
    if settings.local and dataset_id is not None:
        raise SettingError("evaluate: dataset_id needs an api_key, since the dataset is stored in the backend.")
    check_aggregate(aggregate_function, local=settings.local)
    if settings.local:
        yield None
        return
    with BackendClient(settings) as backend:
        yield backend


@contextmanager
def instrumented(factories: Sequence[Callable[[], Any]], provider: TracerProvider) -> Iterator[None]:
    """Enable instrumentors inside the block. Those that are enabled already are left alone."""
    instrumentors = [factory() for factory in factories]
    ours = [item for item in instrumentors if not getattr(item, "is_instrumented_by_opentelemetry", False)]
    for item in ours:
        item.instrument(tracer_provider=provider)
    try:
        yield
    finally:
        for item in ours:
            item.uninstrument()


# The run itself, from the first data point to the result

FLUSH_MILLIS: Final = 30_000
"""Longest wait for the export before the run is marked as completed."""

PROCESSING_SECONDS: Final = 10.0
"""Longest wait until ended spans are processed."""


@dataclass(slots=True)
class RunExecution:
    """Runs all data points of a created run and makes its result.

    Attributes:
        config: `config` of `evaluate`, with secrets redacted.
        budget: the limits of its model calls; None without limits.
        show: whether to show progress and result.
    """

    tracer: HoneyHiveTracer
    run: Run
    task: Task
    data: Dataset
    aggregate_function: str
    config: Mapping[str, Any]
    trials: int
    budget: Budget | None
    show: bool

    def run_all(self, max_workers: int, executor: Executor | None, loop: RunLoop) -> ExperimentResultSummary:
        """Run every data point, flush, and return the result."""
        started = time.monotonic()
        with (
            UsageCounter(span_log()) as usage,
            Progress(
                self.run.name, self.data.total, usage, trials=self.trials, budget=self.budget, show=self.show
            ) as progress,
        ):
            sessions = DatapointSessions(self.tracer, self.run.name, self.run.ids, usage.watch, usage.end)
            pool = Pool(sessions, self.task, max_workers, executor, loop, progress.update)
            outcomes = pool.run(iter(self.data.points))
            delivery = self._flush(progress)
            usage.finish()
            result = self._complete(self._build_result(outcomes, usage, time.monotonic() - started, delivery))
            progress.show_result(result)
        return result

    def _complete(self, result: ExperimentResultSummary) -> ExperimentResultSummary:
        """Complete the run. After Ctrl-C, return the local result."""
        try:
            return self.run.complete(result)
        except KeyboardInterrupt:
            logger.warning(
                "evaluate: interrupted while waiting for the backend; the result of run %s is computed locally",
                self.run.id,
            )
            return result

    def _flush(self, progress: Progress) -> str:
        """Flush and return the delivery status. Ctrl-C ends the wait; sending continues in the background."""
        is_local = self.tracer.destination is None
        if not is_local:
            progress.show_sending()
        try:
            self.tracer.wait_processed(PROCESSING_SECONDS)
            if self.tracer.force_flush(FLUSH_MILLIS):
                return LOCAL_ONLY if is_local else SENT
        except KeyboardInterrupt:
            return PARTLY_SENT
        state = self.tracer.export_state()
        pending = state.waiting or state.requests_waiting
        reason = state.reason or ("no response in time" if pending else "spans were lost, see earlier warnings")
        logger.warning("evaluate: not all data of run %s was sent: %s", self.run.id, reason)
        return PARTLY_SENT

    def _build_result(
        self, outcomes: RunOutcomes, usage: UsageCounter, seconds: float, delivery: str
    ) -> ExperimentResultSummary:
        used, problem = usage.total(), None
        if outcomes.dataset_error:
            text = f"the dataset ended with {outcomes.dataset_error}"
            problem = DatapointError(datapoint_id="", session_id="", evaluator=None, error=text)
        return result_from_rows(
            self.run.id,
            self.aggregate_function,
            with_usage(outcomes.in_dataset_order(), usage),
            self.task.function_name,
            status=INTERRUPTED if outcomes.interrupted or problem else COMPLETED,
            problems=(problem,) if problem else (),
            name=self.run.name,
            config=self.config,
            planned=self.data.total,
            trials=self.trials,
            lower_is_better=tuple(name for name, one in self.task.evaluators.items() if prefers_lower(one)),
            seconds=seconds,
            cost=used.cost,
            judge_cost=used.judge_cost,
            cost_complete=used.complete,
            cost_estimated=used.estimated,
            calls=used.calls,
            replayed_calls=used.replayed,
            saved_cost=used.saved,
            tokens=used.tokens,
            delivery=delivery,
        )
