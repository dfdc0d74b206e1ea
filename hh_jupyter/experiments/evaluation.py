"""`evaluate`: run a function over a dataset and score the outputs. Each data point has its own session."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import math
import sys
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from opentelemetry.trace import TracerProvider

from hh_jupyter import settings as settings_table
from hh_jupyter.display import format as fmt
from hh_jupyter.display.experiments import ProgressView, progress_bundle, progress_text
from hh_jupyter.display.updatable_output import UpdatableOutput, open_updatable_output, record_shown
from hh_jupyter.errors import SettingError, SettingTypeError
from hh_jupyter.experiments import views
from hh_jupyter.experiments.dataset import Dataset, dataset_from_rows, fetch_dataset
from hh_jupyter.experiments.evaluators import ARGUMENT_NAMES, by_unique_name, callable_name, parameters_of
from hh_jupyter.experiments.invocation import RetryPolicy, close_run_loop
from hh_jupyter.experiments.results import (
    AGGREGATES,
    COMPLETED,
    INTERRUPTED,
    LOCAL_ONLY,
    PARTLY_SENT,
    SENT,
    DatapointError,
    ExperimentResultSummary,
    UsageCounter,
    result_from_outcomes,
    rows_of,
)
from hh_jupyter.experiments.runs import Run, without_secrets
from hh_jupyter.experiments.worker import SOURCE, DatapointSessions, Pool, RunOutcomes, Task
from hh_jupyter.export.backend import BackendClient
from hh_jupyter.redaction import shown
from hh_jupyter.settings import Settings
from hh_jupyter.tracing.api import current_tracer
from hh_jupyter.tracing.span_store import span_log
from hh_jupyter.tracing.tracer import HoneyHiveTracer

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
    """Run a function over a dataset and score its outputs. Each data point has its own session.

    Without an API key, run and spans stay on this machine until `%hh send`. An exception of the function or of an
    evaluator is recorded in the result and on the session, and the run continues. Ctrl-C ends the run and returns the
    result so far.

    Example:
        >>> rows = [{"inputs": {"q": "2+2"}, "ground_truth": "4"}]
        >>> evaluate(answer, dataset=rows, evaluators=[exact], config={"prompt": 2})  # doctest: +SKIP

    Args:
        function: `f(datapoint)` or `f(datapoint, tracer)`. Coroutine functions of a run share one event loop on its own
            thread.
        dataset: dicts with `inputs` and optionally `ground_truth` and `id`: a list, a pandas or polars DataFrame, or an
            iterator, which is read while the run goes on.
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

    Raises:
        SettingError: contradicting arguments, or a dataset that does not exist. A ValueError.
        SettingTypeError: an argument has the wrong type. Also a TypeError.
        BackendError: the run could not be created; nothing has run. Later failures of the backend are logged.
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
    connection = {
        "api_key": api_key,
        "ingestion_api_key": ingestion_api_key,
        "server_url": server_url,
        "project": project,
    }
    evaluators_by_name = by_unique_name(evaluators or ())
    with ExitStack() as stack:
        tracer = stack.enter_context(tracer_for(connection, verbose=verbose))
        backend = stack.enter_context(backend_for(tracer.settings, aggregate_function, dataset_id))
        run_id = run_id or str(uuid.uuid4())
        data = _from_rows(dataset, run_id) if dataset is not None else _fetch(backend, dataset_id)
        run = Run(backend, tracer, data, aggregate_function, run_id, (name or "").strip())
        stack.enter_context(instrumented(instrumentors or (), tracer.provider))
        redacted_config = dict(without_secrets(config, tracer.settings)) if config else {}
        run.create(_configuration(function, evaluators_by_name, max_workers, aggregate_function, redacted_config))
        retry_policy, keep_outputs = RetryPolicy(retries, timeout), tracer.settings.capture_outputs
        task = Task(run.id, function, callable_name(function), evaluators_by_name, retry_policy, keep_outputs)
        execution = RunExecution(tracer, run, task, data, aggregate_function, redacted_config, show=print_results)
        result = execution.run_all(max_workers, executor)
    if not print_results:
        _warn_of_failures(result)
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
    if failed := len({error.datapoint_id for error in result.errors}):
        logger.warning("evaluate: %d of %d data points failed; see result.errors", failed, len(result.rows))


# Validation of arguments

ROW_KEYS: Final = ("inputs", "ground_truth")
"""Keys of a row that `evaluate` reads; the function may use others."""

SIMILARITY: Final = 0.8
"""`difflib` ratio from which a key counts as a misspelling."""

_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def check_arguments(
    function: Any,
    dataset: Any,
    dataset_id: Any,
    evaluators: Any,
    *,
    max_workers: Any,
    executor: Any = None,
    retries: Any = 0,
    timeout: Any = None,
    config: Any = None,
) -> None:
    """Check the arguments of `evaluate`.

    Raises:
        SettingTypeError: an argument has the wrong type.
        SettingError: an argument has an invalid value, or two arguments contradict each other.
    """
    if not callable(function):
        raise SettingTypeError(f"evaluate: function must be callable; got {type(function).__name__}.")
    if (dataset is None) == (dataset_id is None):
        both = "both" if dataset_id is not None else "neither"
        raise SettingError(f"evaluate: pass either dataset or dataset_id; got {both}.")
    _check_function(function)
    functions = () if evaluators is None else evaluators
    listed = isinstance(functions, Collection) and not isinstance(functions, str | Mapping)
    if not listed or not all(callable(item) for item in functions):
        raise SettingTypeError(f"evaluate: evaluators must be a list of functions; got {_shown(evaluators)}.")
    for evaluator in functions:
        _check_evaluator(evaluator)
    _check_integer("max_workers", max_workers, 1)
    _check_integer("retries", retries, 0)
    _check_timeout(timeout)
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise SettingTypeError(
            f"evaluate: executor must be a concurrent.futures.Executor; got {type(executor).__name__}."
        )
    if config is not None and not isinstance(config, Mapping):
        raise SettingTypeError(f"evaluate: config must be a dict; got {type(config).__name__}.")


def _check_integer(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise SettingTypeError(f"evaluate: {name} must be a whole number; got {type(value).__name__}.")
    if value < least:
        raise SettingError(f"evaluate: {name} must be {least} or more; got {value}.")


def _check_timeout(value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SettingTypeError(f"evaluate: timeout must be seconds or None; got {type(value).__name__}.")
    if not (value > 0 and math.isfinite(value)):
        raise SettingError(f"evaluate: timeout must be more than 0 seconds; got {value}.")


def _check_function(function: Callable[..., Any]) -> None:
    """Require one parameter for the datapoint, and allow `tracer`; any other needs a default."""
    parameters = parameters_of(function)
    if parameters is None:
        return
    positional = [p for p in parameters if p.kind in (*_POSITIONAL, inspect.Parameter.VAR_POSITIONAL)]
    first = next((p for p in positional if p.name != "tracer"), None)
    needed = [p.name for p in parameters if _is_required(p) and p is not first and p.name != "tracer"]
    if first is not None and not needed:
        return
    problem = f"requires {', '.join(needed)} as well" if first is not None else "takes no datapoint"
    name = callable_name(function)
    raise SettingTypeError(
        f"evaluate: function {name} {problem}; it is called as {name}(datapoint), or {name}(datapoint, tracer=...)."
    )


def _check_evaluator(evaluator: Callable[..., Any]) -> None:
    """Require parameters for outputs, inputs or ground_truth: up to three by position, or with these names."""
    parameters = parameters_of(evaluator)
    if parameters is None:
        return
    positional = [p for p in parameters if p.kind in _POSITIONAL]
    variadic = any(p.kind in _VARIADIC for p in parameters)
    needed = [p.name for p in positional if _is_required(p)][len(ARGUMENT_NAMES) :]
    needed += [
        p.name for p in parameters if p.kind is p.KEYWORD_ONLY and _is_required(p) and p.name not in ARGUMENT_NAMES
    ]
    by_name = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name in ARGUMENT_NAMES]
    if not needed and (positional or variadic or by_name):
        return
    problem = f"requires {', '.join(needed)} as well" if needed else "takes no outputs"
    raise SettingTypeError(
        f"evaluate: evaluator {callable_name(evaluator)} {problem}; it is called with (outputs, inputs, ground_truth), "
        "the last only if the datapoint has one, or with fewer of them by name."
    )


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind not in _VARIADIC


def check_aggregate(name: Any, *, local: bool) -> None:
    """Check the aggregate function. A backend may support others, so there an unknown one is only a warning.

    Raises:
        SettingTypeError: the name is not a string.
        SettingError: the name is unknown, in local mode.
    """
    if isinstance(name, str) and name in AGGREGATES:
        return
    text = f"evaluate: aggregate_function must be one of {', '.join(AGGREGATES)}; got {_shown(name)}."
    if not isinstance(name, str):
        raise SettingTypeError(text)
    if local:
        raise SettingError(text)
    logger.warning("%s It is sent to the backend; locally computed aggregates are empty.", text)


def warn_about_rows(rows: Sequence[Mapping[Any, Any]]) -> None:
    """Log one warning if the dataset is empty, lacks inputs, or seems to have misspelled keys."""
    if not rows:
        logger.warning("evaluate: the dataset is empty; nothing to run.")
        return
    missing = sum("inputs" not in row for row in rows)
    problems = [
        f"key {key!r:.40} is not used; did you mean {meant!r}?" for key, meant in _misspelled_keys(rows).items()
    ]
    if missing:
        problems.append(f"{missing} of {len(rows)} rows have no 'inputs'; their evaluators and sessions get none.")
    if problems:
        logger.warning("evaluate: dataset: %s", " ".join(problems))


def _misspelled_keys(rows: Sequence[Mapping[Any, Any]]) -> dict[str, str]:
    """Keys that resemble one of `ROW_KEYS` in rows without that key, with the key that was probably meant."""
    from difflib import get_close_matches

    found: dict[str, str] = {}
    for key in dict.fromkeys(key for row in rows for key in row if isinstance(key, str) and key not in ROW_KEYS):
        similar = get_close_matches(key.lower(), ROW_KEYS, n=1, cutoff=SIMILARITY)
        if similar and any(key in row and similar[0] not in row for row in rows):
            found[key] = similar[0]
    return found


def _shown(value: Any) -> str:
    return shown("value", value)


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


# Progress: one line in the notebook's output or in the terminal, which the result replaces

REDRAW_SECONDS: Final = 0.25
"""Interval between updates of the display."""

_CLEAR: Final = "\r\x1b[K"


class Progress:
    """Shows the progress of a run. As a context manager, it clears the line in the terminal on exit.

    Args:
        name: name of the run.
        total: number of data points; None if unknown.
        usage: source of the cost so far.
        show: False to show nothing.
    """

    def __init__(self, name: str, total: int | None, usage: UsageCounter, *, show: bool) -> None:
        self._name, self._total, self._usage, self._show = name, total, usage, show
        self._output: UpdatableOutput | None = open_updatable_output() if show else None
        self._terminal = show and self._output is None and sys.stderr is not None and sys.stderr.isatty()
        self._started = time.monotonic()
        self._next = self._started + REDRAW_SECONDS
        self._done = self._failed = 0
        self._drawn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._terminal and self._drawn:
            sys.stderr.write(_CLEAR)

    def update(self, outcomes: RunOutcomes) -> None:
        """Take note of new outcomes, and redraw if it is time."""
        self._usage.count()
        for outcome in outcomes.outcomes[self._done :]:
            self._failed += bool(outcome.error or outcome.evaluator_errors)
        self._done = len(outcomes.outcomes)
        if time.monotonic() >= self._next:
            self._draw("")

    def show_sending(self) -> None:
        """Show that all data points have run and are being sent."""
        if self._drawn:
            self._draw("sending")

    def show_result(self, result: ExperimentResultSummary) -> None:
        """Replace the progress by the result."""
        if self._output is not None:
            self._output.update(views.result_bundle(result))
            record_shown(self._output, result)
        elif self._show:
            if self._terminal and self._drawn:
                sys.stderr.write(_CLEAR)
                self._drawn = False
            result.print_table()

    def _draw(self, doing: str) -> None:
        self._next = time.monotonic() + REDRAW_SECONDS
        if self._output is not None and self._output.can_update:
            self._output.update(progress_bundle(self._view(doing)))
        elif self._terminal:
            unicode = (sys.stderr.encoding or "").lower().replace("-", "") == "utf8"
            sys.stderr.write(_CLEAR + progress_text(self._view(doing), unicode=unicode))
            sys.stderr.flush()
        else:
            return
        self._drawn = True

    def _view(self, doing: str) -> ProgressView:
        seconds, total = time.monotonic() - self._started, self._total
        rate = self._done / seconds if seconds > 0 else 0.0
        used = self._usage.total()
        left = (total - self._done) / rate if total is not None and rate and not doing else 0.0
        facts = [
            f"{rate:,.1f}/s",
            fmt.duration(round(seconds * 1e9)),
            views.cost_text(used.cost, complete=True, estimated=used.estimated),
            f"{fmt.duration(round(left * 1e9))} left" if left >= 1 else "",
        ]
        return ProgressView(
            name=self._name,
            done=f"{self._done:,} of {total:,}" if total is not None else f"{self._done:,}",
            share=self._done / total if total else None,
            facts=[fact for fact in facts if fact],
            failures=f"{self._failed:,} failed" if self._failed else "",
            doing=doing,
        )


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
        show: whether to show progress and result.
    """

    tracer: HoneyHiveTracer
    run: Run
    task: Task
    data: Dataset
    aggregate_function: str
    config: Mapping[str, Any]
    show: bool

    def run_all(self, max_workers: int, executor: Executor | None) -> ExperimentResultSummary:
        """Run every data point, flush, and return the result."""
        started = time.monotonic()
        with (
            UsageCounter(span_log()) as usage,
            Progress(self.run.name, self.data.total, usage, show=self.show) as progress,
        ):
            sessions = DatapointSessions(self.tracer, self.run.name, self.run.ids, usage.watch)
            try:
                outcomes = Pool(sessions, self.task, max_workers, executor, progress.update).run(iter(self.data.points))
            finally:
                close_run_loop(self.task.run_id)
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
        pending = state.waiting or state.calls_waiting
        reason = state.reason or ("no response in time" if pending else "spans were lost, see earlier warnings")
        logger.warning("evaluate: not all data of run %s was sent: %s", self.run.id, reason)
        return PARTLY_SENT

    def _build_result(
        self, outcomes: RunOutcomes, usage: UsageCounter, seconds: float, delivery: str
    ) -> ExperimentResultSummary:
        in_order, used, problem = outcomes.in_dataset_order(), usage.total(), None
        if outcomes.dataset_error:
            text = f"the dataset ended with {outcomes.dataset_error}"
            problem = DatapointError(datapoint_id="", session_id="", evaluator=None, error=text)
        return result_from_outcomes(
            self.run.id,
            self.aggregate_function,
            in_order,
            self.task.function_name,
            status=INTERRUPTED if outcomes.interrupted or problem else COMPLETED,
            problems=(problem,) if problem else (),
            name=self.run.name,
            config=self.config,
            rows=rows_of(in_order, usage),
            planned=self.data.total,
            seconds=seconds,
            cost=used.cost,
            cost_complete=used.complete,
            cost_estimated=used.estimated,
            tokens=used.tokens,
            delivery=delivery,
        )
