"""Experiment runs: create and complete them, at the backend or in local mode, and read their results."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from hh_jupyter import settings as settings_table
from hh_jupyter.errors import BackendError, SettingError, SettingTypeError
from hh_jupyter.experiments.dataset import Dataset, own_id, wire_id
from hh_jupyter.experiments.local_runs import LocalRun, choose_run, find_run, keep, local_runs
from hh_jupyter.experiments.results import (
    COMPLETED,
    AggregatedMetrics,
    DatapointError,
    DatapointResult,
    ExperimentResultSummary,
    MetricDetail,
    plain_result,
    result_from_plain,
)
from hh_jupyter.experiments.rows import ResultRow
from hh_jupyter.export.backend import BackendClient
from hh_jupyter.export.finalize import redactor_of
from hh_jupyter.export.spool import Spool
from hh_jupyter.redaction import Redactor, RedactorWithFunction, shown
from hh_jupyter.settings import Settings
from hh_jupyter.tracing.api import current_tracer
from hh_jupyter.tracing.tracer import HoneyHiveTracer
from hh_jupyter.values import plain

logger = logging.getLogger(__name__)

# Which backend to query


class HoneyHive:
    """URL and API key of a backend, for `get_run_result` and `compare_runs`. Opens no connection.

    In the official client, the class of this name is the whole REST interface. Here it only holds the two settings that
    those functions need, so that programs written for the official client keep working.

    Args:
        api_key: default: HH_API_KEY.
        server_url: default: HH_API_URL.
        base_url: alias of `server_url`.

    Raises:
        SettingError: the key is missing, or the URL is invalid.
    """

    def __init__(self, api_key: str | None = None, *, server_url: str | None = None, base_url: str | None = None):
        given = {"api_key": api_key, "server_url": server_url or base_url}
        self.settings: Settings = settings_table.resolve(given, called="HoneyHive")
        if self.settings.api_key is None:
            raise SettingError("HoneyHive: api_key is needed; pass it or set HH_API_KEY.")

    def __repr__(self) -> str:
        return f"<HoneyHive at {self.settings.server_url}>"

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"HoneyHive.{name}: the REST interface is not part of this package; use the honeyhive package. "
            "Here, a HoneyHive is only the first argument of get_run_result and compare_runs."
        )


MAX_NAMES: Final = 5
"""Runs that a message lists."""


def resolve_query(
    called: str,
    client: HoneyHive | str | None,
    run_ids: tuple[str | None, ...],
    *,
    api_key: str | None,
    server_url: str | None,
) -> tuple[Settings, tuple[str, ...]]:
    """Resolve the settings of the backend to query, and the ids of the runs to query.

    Args:
        called: name of the public function, for error messages.
        client: the first positional argument: a HoneyHive, or the first run id, which then shifts `run_ids` by one.
        run_ids: as many as the function needs.

    Raises:
        SettingTypeError: too few or too many ids.
        SettingError: there is no API key, or a setting disables requests.
    """
    given = run_ids if client is None or isinstance(client, HoneyHive) else (str(client), *run_ids)
    ids = [item for item in given if item]
    if len(ids) != len(run_ids):
        needed = "one run id" if len(run_ids) == 1 else f"{len(run_ids)} run ids"
        got = ", ".join(shown("run_id", item, 60) for item in given)
        raise SettingTypeError(f"{called}: expected {needed}, optionally after a HoneyHive client; got {got}.")
    settings = _settings(called, client if isinstance(client, HoneyHive) else None, api_key, server_url)
    for switch in ("test_mode", "disable_tracing"):
        if getattr(settings, switch):
            origin = settings.origins.get(switch, "default")
            raise SettingError(
                f"{called}: {switch} is on ({origin}), so no request is sent. Turn it off to read a run."
            )
    if settings.api_key is None:
        runs = local_runs(local_spool())
        here = list(dict.fromkeys(run.name for run in reversed(runs)))[:MAX_NAMES]
        unknown = next((item for item in ids if choose_run(item, runs) is None), ids[0])
        some = f"the latest are {', '.join(shown('run', name, 40) for name in here)}" if here else "there is none"
        text = f"no run {shown('run_id', unknown, 60)} was made on this machine ({some})"
        raise SettingError(f"{called}: {text}; to read one of HoneyHive, pass api_key or set HH_API_KEY.")
    return settings, tuple(ids)


def local_spool() -> Spool | None:
    """The spool of the current tracer, which stores local runs; None without a tracer or a spool."""
    found = current_tracer()
    return None if found is None else found.spool


def _settings(called: str, client: HoneyHive | None, api_key: str | None, server_url: str | None) -> Settings:
    """Settings of the client, else of the arguments, else of the current tracer, else of the environment."""
    if client is not None:
        return client.settings
    found = current_tracer()
    if api_key is None and server_url is None and found is not None:
        return found.settings
    return settings_table.resolve({"api_key": api_key, "server_url": server_url}, called=called)


# The state of the code: `metadata.git` of a run

GIT_BUDGET_SECONDS: Final = 2.0
"""Time limit in seconds for all git commands of a run together."""

COMMIT_FIELDS: Final = ("commit_hash", "commit_hash_short", "author_name", "author_email", "commit_message")
COMMIT_FORMAT: Final = "%H%x00%h%x00%an%x00%ae%x00%B"

# These commands must not take locks, prompt, or start programs that the repository's configuration names.
_ENVIRONMENT: Final = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
_COMMAND: Final = ("git", "-c", "core.fsmonitor=false", "-c", "log.showSignature=false")
_CREDENTIAL: Final = re.compile(r"^(\w[\w+.-]*://)[^/@]*@")


def git_metadata() -> dict[str, Any]:
    """Commit, branch, author and remote of the working directory's repository, and whether it has uncommitted changes.

    Returns:
        the fields that git returned within two seconds; empty outside a repository, without git, or without a commit.
        Credentials are removed from the URL of the remote.
    """
    deadline = time.monotonic() + GIT_BUDGET_SECONDS
    commit = _git(deadline, "log", "-1", f"--format={COMMIT_FORMAT}")
    if commit is None:
        return {}
    found: dict[str, Any] = dict(zip(COMMIT_FIELDS, (part.strip() for part in commit.split("\0")), strict=False))
    remote = _git(deadline, "config", "--get", "remote.origin.url")
    changes = _git(deadline, "status", "--porcelain")
    return {
        **found,
        **_present("branch", _git(deadline, "rev-parse", "--abbrev-ref", "HEAD")),
        **_present("remote_url", _CREDENTIAL.sub(r"\1", remote) if remote else None),
        **_present("is_dirty", None if changes is None else changes != ""),
    }


def _present(name: str, value: Any) -> dict[str, Any]:
    return {} if value is None else {name: value}


def _git(deadline: float, *arguments: str) -> str | None:
    """The output of a git command; None if git fails, is missing or times out."""
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments, no shell
            [*_COMMAND, *arguments],
            env={**os.environ, **_ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=max(0.01, deadline - time.monotonic()),
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None


# Redaction: `config` before it is sent, error texts before they are displayed

_last_redactor: tuple[Settings, Redactor | RedactorWithFunction] | None = None


def redactor_for(settings: Settings) -> Redactor | RedactorWithFunction:
    """The redactor that these settings configure for spans. The most recent one is cached."""
    global _last_redactor
    if _last_redactor is None or _last_redactor[0] is not settings:
        _last_redactor = settings, redactor_of(settings)
    return _last_redactor[1]


def without_secrets(value: Any, settings: Settings) -> Any:
    """The value as plain data, with secrets redacted."""
    return redactor_for(settings).document(plain(value))


def text_without_secrets(text: str) -> str:
    """The text with secrets redacted as the current tracer does it: notebooks are saved, committed and mailed."""
    return str(current_redactor().text(text)[0])


def current_redactor() -> Redactor | RedactorWithFunction:
    """The redactor of the current tracer; without one, as `_default_settings` says."""
    tracer = current_tracer()
    return redactor_for(tracer.settings if tracer is not None else _default_settings())


def _default_settings() -> Settings:
    """Settings of the last run in this process, else of the environment."""
    return _last_redactor[0] if _last_redactor is not None else settings_table.resolve({}, called="evaluate")


# Runs


class Run:
    """A run that is created and completed at the backend; in local mode it is stored in the spool.

    Args:
        backend: None in local mode.
        tracer: has the spool.
    """

    def __init__(
        self,
        backend: BackendClient | None,
        tracer: HoneyHiveTracer,
        data: Dataset,
        aggregate: str,
        run_id: str,
        name: str,
    ) -> None:
        self._backend, self._tracer, self._data, self._aggregate = backend, tracer, data, aggregate
        self._creation_body: dict[str, Any] = {}
        self.id = run_id
        self.name = name or f"experiment-{run_id[:8]}"

    @property
    def ids(self) -> dict[str, str]:
        """Ids that are set on the sessions and spans of the run."""
        return {"run_id": self.id, "dataset_id": self._data.id}

    def create(self, configuration: Mapping[str, Any]) -> None:
        """Create the run. If the backend returns another id, it replaces ours.

        Raises:
            BackendError: the run could not be created.
        """
        git = git_metadata() if self._tracer.settings.telemetry else {}
        self._creation_body = {
            "run_id": self.id,
            "name": self.name,
            "status": "pending",
            "metadata": {**({"git": git} if git else {}), **self._dataset_metadata},
            **({"dataset_id": self._data.id} if self._data.stored else {}),
            "event_ids": [],
            "datapoint_ids": list(self._data.ids),
            "configuration": configuration,
        }
        if self._backend is not None:
            self.id = self._backend.create_run(self._creation_body)

    @property
    def _dataset_metadata(self) -> dict[str, Any]:
        return {} if self._data.stored else {"offline_dataset_id": self._data.id}

    def complete(self, result: ExperimentResultSummary) -> ExperimentResultSummary:
        """Mark the run as ended and return its result: the backend's, or `result` if the backend returns none."""
        if self._backend is None:
            run = LocalRun(self._creation_body, self._completion_body(result), plain_result(result))
            keep(run, self._tracer.spool, redactor_for(self._tracer.settings))
            return result
        try:
            self._backend.update_run(self.id, self._completion_body(result))
        except BackendError as error:
            logger.warning("evaluate: run %s could not be marked as %s. %s", self.id, result.status, error)
        try:
            answer = self._backend.run_result(self.id, self._aggregate)
        except BackendError as error:
            logger.warning("evaluate: the result of run %s is computed locally. %s", self.id, error)
            return result
        return self._with_local_fields(result, answer)

    def _completion_body(self, result: ExperimentResultSummary) -> dict[str, Any]:
        """Body of the request that ends the run."""
        metadata = self._dataset_metadata
        if result.status != COMPLETED:
            metadata = {**metadata, "interrupted": True, "datapoints_run": len(result.rows)}
        fields: dict[str, Any] = {"name": self.name, "status": result.status}
        if result.rows and not self._data.ids:
            ids = {row.index: wire_id(row.datapoint_id) for row in result.rows}  # Trials of a row have one.
            fields["datapoint_ids"] = list(ids.values())
        sessions = [row.session_id for row in result.rows]
        return fields | {name: value for name, value in (("metadata", metadata), ("event_ids", sessions)) if value}

    def _with_local_fields(self, result: ExperimentResultSummary, answer: Mapping[str, Any]) -> ExperimentResultSummary:
        """The backend's result, completed with the fields that only this process has."""
        known = {
            name: getattr(result, name)
            for name in (
                "name",
                "config",
                "planned",
                "trials",
                "lower_is_better",
                "seconds",
                "cost",
                "judge_cost",
                "cost_complete",
                "cost_estimated",
                "tokens",
                "delivery",
            )
        }
        found = result_from_answer(self.id, self._aggregate, answer, result.errors, **known, rows=result.rows)
        if result.rows and not is_scored(found):
            logger.warning(
                "evaluate: the backend has not computed results for run %s yet; showing locally computed ones", self.id
            )
            return dataclasses.replace(result, status=found.status)
        return found


def get_run_result(
    client: HoneyHive | str | None = None,
    run_id: str | None = None,
    project_id: str | None = None,
    aggregate_function: str = "average",
    *,
    api_key: str | None = None,
    server_url: str | None = None,
) -> ExperimentResultSummary:
    """The result of an earlier run: `get_run_result(run_id)`, or `get_run_result(client, run_id)`.

    A run of local mode is read from this machine.

    Args:
        client: a `HoneyHive`; optional.
        project_id: ignored; the API key determines the project.
        api_key, server_url: default: those of the current tracer, else of the environment.

    Raises:
        SettingError: there is no API key, or the id is missing.
        BackendError: the run does not exist, or the backend returns no usable response.
    """
    local = find_run(client if run_id is None and isinstance(client, str) else run_id or "", local_spool())
    if local is not None:
        return result_from_plain(local.result)
    settings, (run,) = resolve_query("get_run_result", client, (run_id,), api_key=api_key, server_url=server_url)
    with BackendClient(settings) as backend:
        return result_from_answer(run, aggregate_function, backend.run_result(run, aggregate_function))


# Results in a response of the backend


def result_from_answer(
    run_id: str,
    aggregate_function: str,
    answer: Mapping[str, Any],
    errors: Sequence[DatapointError] = (),
    **more_fields: Any,
) -> ExperimentResultSummary:
    """Build a result from a response of the backend. Missing fields are empty; ids are those that the user gave.

    Args:
        more_fields: further fields of the result. `rows` are those of this process, with its ids.
    """
    rows: Sequence[ResultRow] = more_fields.pop("rows", ())
    ids = {wire_id(row.datapoint_id): row.datapoint_id for row in rows}

    def own_ids(items: Any) -> tuple[str, ...]:
        return tuple(ids.get(item) or own_id(item) for item in map(str, items or ()))

    metrics = answer.get("metrics") or {}
    details = tuple(
        dataclasses.replace(detail, datapoints={key: own_ids(value) for key, value in detail.datapoints.items()})
        for detail in (_part_from_answer(MetricDetail, "metric_name", item) for item in metrics.get("details") or ())
    )
    datapoints = tuple(
        dataclasses.replace(point, datapoint_id=own_ids([point.datapoint_id])[0])
        for point in (
            _part_from_answer(DatapointResult, "datapoint_id", item) for item in answer.get("datapoints") or ()
        )
    )
    run = answer.get("run_object") or {}
    passed, failed = own_ids(answer.get("passed")), own_ids(answer.get("failed"))
    known = {
        "name": str(run.get("name") or ""),
        "config": (run.get("configuration") or {}).get("config") or {},
        "rows": tuple(
            dataclasses.replace(row, passed=False) if row.trial is None and row.datapoint_id in failed else row
            for row in rows
        )
        or tuple(_row_from_answer(index, point, failed) for index, point in enumerate(datapoints)),
        **more_fields,
    }
    return ExperimentResultSummary(
        run_id=run_id,
        status=str(answer.get("status") or "unknown"),
        success=bool(answer.get("success")),
        passed=passed,
        failed=failed,
        metrics=AggregatedMetrics(
            aggregation_function=metrics.get("aggregation_function") or aggregate_function, details=details
        ),
        datapoints=datapoints,
        errors=errors,
        **known,
    )


def is_scored(result: ExperimentResultSummary) -> bool:
    """Whether the result has data points. The backend responds with an empty result before it has scored them."""
    return bool(result.passed or result.failed or result.datapoints or result.metrics.details)


def _row_from_answer(index: int, point: DatapointResult, failed: Sequence[str]) -> ResultRow:
    """The row of a data point in a response. Depending on the version, metrics have a `name` or a `metric_name`."""
    named = {item.get("name") or item.get("metric_name"): item.get("value") for item in point.metrics}
    return ResultRow(
        index=index,
        datapoint_id=point.datapoint_id,
        session_id=point.session_id or "",
        metrics={str(name): value for name, value in named.items() if name},
        passed=False if point.datapoint_id in failed else point.passed,
    )


def _part_from_answer(kind: Any, required: str, item: Mapping[str, Any]) -> Any:
    """Build `kind` from an object of a response. Ignores unknown fields of newer backends."""
    known = {name: item[name] for name in kind.__dataclass_fields__ if item.get(name) is not None}
    return kind(**{required: "", **known})
