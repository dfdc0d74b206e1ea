"""`evaluate`: a function over data points, each in a session of its own, scored, as one run."""

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
from hh_jupyter.delivery.ask import BackendClient
from hh_jupyter.display import format as fmt
from hh_jupyter.display.experiments import ProgressView, progress_bundle, progress_text
from hh_jupyter.display.updatable_output import UpdatableOutput, open_updatable_output, record_shown
from hh_jupyter.errors import SettingError, SettingTypeError
from hh_jupyter.experiments import views
from hh_jupyter.experiments.calling import Patience, leave
from hh_jupyter.experiments.dataset import Dataset, given_dataset, stored_dataset
from hh_jupyter.experiments.evaluators import NAMES, name_of, named, parameters_of
from hh_jupyter.experiments.results import (
    AGGREGATES,
    COMPLETED,
    INTERRUPTED,
    LOCAL_ONLY,
    PARTLY_SENT,
    SENT,
    DatapointError,
    ExperimentResultSummary,
    Meter,
    result_from_outcomes,
    rows_of,
)
from hh_jupyter.experiments.runs import Run, without_secrets
from hh_jupyter.experiments.worker import SOURCE, Desk, Gathered, Pool, Task
from hh_jupyter.redaction import shown
from hh_jupyter.settings import Settings
from hh_jupyter.tracing.api import current_tracer
from hh_jupyter.tracing.recorded import span_log
from hh_jupyter.tracing.tracer import HoneyHiveTracer

# What `evaluate` is called with, looked over before anything runs.

logger = logging.getLogger(__name__)

READ_BY_NAME: Final = ("inputs", "ground_truth")
"""Keys of a row that mean something here; any other is the function's own."""

NEAR: Final = 0.8
"""How alike two keys must be (`difflib`) for one to be taken as a slip."""

_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_SEVERAL: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


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
    """Raise for an argument that cannot be meant.

    Raises:
        SettingTypeError: one of the wrong type.
        SettingError: one of a wrong value, or two that contradict each other.
    """
    if not callable(function):
        raise SettingTypeError(f"evaluate: function must be callable; got {type(function).__name__}.")
    if (dataset is None) == (dataset_id is None):
        both = "both" if dataset_id is not None else "neither"
        raise SettingError(f"evaluate: give either dataset or dataset_id; got {both}.")
    _check_function(function)
    functions = () if evaluators is None else evaluators
    listed = isinstance(functions, Collection) and not isinstance(functions, str | Mapping)
    if not listed or not all(callable(item) for item in functions):
        raise SettingTypeError(f"evaluate: evaluators must be a list of functions; got {_shown(evaluators)}.")
    for evaluator in functions:
        _check_evaluator(evaluator)
    _check_whole("max_workers", max_workers, 1)
    _check_whole("retries", retries, 0)
    _check_timeout(timeout)
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise SettingTypeError(
            f"evaluate: executor must be a concurrent.futures.Executor; got {type(executor).__name__}."
        )
    if config is not None and not isinstance(config, Mapping):
        raise SettingTypeError(f"evaluate: config must be a dict; got {type(config).__name__}.")


def _check_whole(name: str, value: Any, least: int) -> None:
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
    """One parameter for the datapoint, and maybe one called `tracer`; any other must have a default."""
    parameters = parameters_of(function)
    if parameters is None:
        return
    takes = [p for p in parameters if p.kind in (*_POSITIONAL, inspect.Parameter.VAR_POSITIONAL)]
    first = next((p for p in takes if p.name != "tracer"), None)
    needed = [p.name for p in parameters if _needed(p) and p is not first and p.name != "tracer"]
    if first is not None and not needed:
        return
    what = f"needs {', '.join(needed)} as well" if first is not None else "takes no datapoint"
    name = name_of(function)
    raise SettingTypeError(
        f"evaluate: function {name} {what}; it is called as {name}(datapoint), or {name}(datapoint, tracer=...)."
    )


def _check_evaluator(evaluator: Callable[..., Any]) -> None:
    """Some of outputs, inputs and ground_truth: up to three by position, or by these names."""
    parameters = parameters_of(evaluator)
    if parameters is None:
        return
    positional = [p for p in parameters if p.kind in _POSITIONAL]
    several = any(p.kind in _SEVERAL for p in parameters)
    needed = [p.name for p in positional if _needed(p)][len(NAMES) :]
    needed += [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and _needed(p) and p.name not in NAMES]
    by_name = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name in NAMES]
    if not needed and (positional or several or by_name):
        return
    what = f"needs {', '.join(needed)} as well" if needed else "takes no outputs"
    raise SettingTypeError(
        f"evaluate: evaluator {name_of(evaluator)} {what}; it is called with (outputs, inputs, ground_truth), the last "
        "only where the datapoint has one, or with fewer of these by their names."
    )


def _needed(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind not in _SEVERAL


def check_aggregate(name: Any, *, local: bool) -> None:
    """Raise for a word that nobody can count by; a backend may know more words, so there it is a warning.

    Raises:
        SettingTypeError: no text.
        SettingError: local mode, where the known words are all there are.
    """
    if isinstance(name, str) and name in AGGREGATES:
        return
    text = f"evaluate: aggregate_function must be one of {', '.join(AGGREGATES)}; got {_shown(name)}."
    if not isinstance(name, str):
        raise SettingTypeError(text)
    if local:
        raise SettingError(text)
    logger.warning("%s It is asked of the backend; nothing is counted by it here.", text)


def look_over(rows: Sequence[Mapping[Any, Any]]) -> None:
    """Say in one warning what a dataset seems to lack: rows, inputs, or a key that is nearly spelled as it must be."""
    if not rows:
        logger.warning("evaluate: dataset is empty, so that nothing is run.")
        return
    lacking = sum("inputs" not in row for row in rows)
    said = [f"{key!r:.40} is not read; did you mean {meant!r}?" for key, meant in _slips(rows).items()]
    if lacking:
        said.append(f"{lacking} of {len(rows)} rows have no 'inputs', so that evaluators and sessions get none.")
    if said:
        logger.warning("evaluate: dataset: %s", " ".join(said))


def _slips(rows: Sequence[Mapping[Any, Any]]) -> dict[str, str]:
    """Keys that nearly match one that is read by name, in rows that lack that one."""
    from difflib import get_close_matches

    found: dict[str, str] = {}
    for key in dict.fromkeys(key for row in rows for key in row if isinstance(key, str) and key not in READ_BY_NAME):
        near = get_close_matches(key.lower(), READ_BY_NAME, n=1, cutoff=NEAR)
        if near and any(key in row and near[0] not in row for row in rows):
            found[key] = near[0]
    return found


def _shown(value: Any) -> str:

    return shown("value", value)


# What a run takes place in: the tracer that it uses, the backend that answers, the instrumentors that are on.


@contextmanager
def tracer_for(given: Mapping[str, Any], *, verbose: bool) -> Iterator[HoneyHiveTracer]:
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


@contextmanager
def backend_for(settings: Settings, aggregate_function: str, dataset_id: str | None) -> Iterator[BackendClient | None]:
    """Who answers; None in local mode.

    Raises:
        SettingError: it could not answer what will be asked.
    """
    if not settings.local and settings.api_key is None:
        raise SettingError("evaluate: api_key is needed to make a run; an ingestion key may only send.")
    if settings.local and dataset_id is not None:
        raise SettingError("evaluate: dataset_id needs an api_key: the dataset is in the backend.")
    check_aggregate(aggregate_function, local=settings.local)
    if settings.local:
        yield None
        return
    with BackendClient(settings) as backend:
        yield backend


@contextmanager
def instrumented(factories: Sequence[Callable[[], Any]], provider: TracerProvider) -> Iterator[None]:
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


# Progress of a run: one line that becomes the result, in the notebook's output or in the terminal.

PAUSE: Final = 0.25
"""Seconds between two changes of what is shown."""

_CLEAR: Final = "\r\x1b[K"


class Progress:
    """What is shown of a run while it goes on. A context manager: on an error, the terminal's line is cleared.

    Args:
        name: of the run.
        total: data points, if anybody knows.
        meter: counts the cost so far.
        show: False shows nothing at all.
    """

    def __init__(self, name: str, total: int | None, meter: Meter, *, show: bool) -> None:
        self._name, self._total, self._meter, self._show = name, total, meter, show
        self._output: UpdatableOutput | None = open_updatable_output() if show else None
        self._terminal = show and self._output is None and sys.stderr is not None and sys.stderr.isatty()
        self._started = time.monotonic()
        self._next = self._started + PAUSE
        self._done = self._failed = 0
        self._drawn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._terminal and self._drawn:
            sys.stderr.write(_CLEAR)

    def tick(self, gathered: Gathered) -> None:
        """Something may have come back."""
        self._meter.count()
        for outcome in gathered.outcomes[self._done :]:
            self._failed += bool(outcome.error or outcome.evaluator_errors)
        self._done = len(gathered.outcomes)
        if time.monotonic() >= self._next:
            self._draw("")

    def sending(self) -> None:
        """All data points are done; what came of them is on its way."""
        if self._drawn:
            self._draw("sending")

    def become(self, result: ExperimentResultSummary) -> None:
        """Show the result in its place."""
        if self._output is not None:
            self._output.update(views.result_bundle(result))
            record_shown(self._output, result)
        elif self._show:
            if self._terminal and self._drawn:
                sys.stderr.write(_CLEAR)
                self._drawn = False
            result.print_table()

    def _draw(self, doing: str) -> None:
        self._next = time.monotonic() + PAUSE
        if self._output is not None:
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
        used = self._meter.total()
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


# The course of a run, from its first data point to its result.

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
