"""A run as the backend knows it, or kept on this machine: made, ended, summarised; and which backend is asked."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import subprocess
import time
from collections.abc import Mapping
from typing import Any, Final

from hh_jupyter import settings as settings_table
from hh_jupyter.delivery.ask import BackendClient
from hh_jupyter.delivery.local_runs import LocalRun, find_run, keep
from hh_jupyter.delivery.sealing.batch import redactor_of
from hh_jupyter.delivery.spool.store import Spool
from hh_jupyter.errors import BackendError, SettingError, SettingTypeError
from hh_jupyter.experiments.dataset import Dataset
from hh_jupyter.experiments.results import (
    COMPLETED,
    ExperimentResultSummary,
    is_scored,
    plain_result,
    result_from_answer,
    result_from_plain,
)
from hh_jupyter.redaction import Redactor, RedactorWithFunction, shown
from hh_jupyter.settings import Settings
from hh_jupyter.tracing.api import current_tracer
from hh_jupyter.tracing.tracer import HoneyHiveTracer
from hh_jupyter.values import plain

# Which backend to ask about runs: `HoneyHive`, under the name that programs for the official client use.


class HoneyHive:
    """An address and a key for `get_run_result` and `compare_runs`. It opens no connection.

    The official client's class of this name is its whole REST interface; here it stands for the two arguments that
    those functions need, so that programs which pass one go on working.

    Args:
        api_key: default: HH_API_KEY.
        server_url: default: HH_API_URL.
        base_url: another name of `server_url`.

    Raises:
        SettingError: there is no key, or the address is none.
    """

    def __init__(self, api_key: str | None = None, *, server_url: str | None = None, base_url: str | None = None):
        given = {"api_key": api_key, "server_url": server_url or base_url}
        self.settings: Settings = settings_table.resolve(given, called="HoneyHive")
        if self.settings.api_key is None:
            raise SettingError("HoneyHive: api_key is needed, also as HH_API_KEY.")

    def __repr__(self) -> str:
        return f"<HoneyHive at {self.settings.server_url}>"

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"HoneyHive.{name}: the REST interface is not part of this package; it is the honeyhive package's. "
            "Here a HoneyHive is the first argument of get_run_result and compare_runs."
        )


def asked(
    called: str,
    client: HoneyHive | str | None,
    run_ids: tuple[str | None, ...],
    *,
    api_key: str | None,
    server_url: str | None,
) -> tuple[Settings, tuple[str, ...]]:
    """Whom to ask about which runs.

    Args:
        called: the public function, for errors.
        client: what stood first: a HoneyHive, or the first run's id, which then moves the others by one.
        run_ids: as many as the function needs.

    Raises:
        SettingTypeError: too few ids or too many.
        SettingError: there is no API key, or a setting forbids to ask anybody.
    """
    given = run_ids if client is None or isinstance(client, HoneyHive) else (str(client), *run_ids)
    ids = [item for item in given if item]
    if len(ids) != len(run_ids):
        needed = "the run's id" if len(run_ids) == 1 else f"{len(run_ids)} ids of runs"

        got = ", ".join(shown("run_id", item, 60) for item in given)
        raise SettingTypeError(f"{called}: give {needed}, after a HoneyHive client if you have one; got {got}.")
    settings = _settings(called, client if isinstance(client, HoneyHive) else None, api_key, server_url)
    for switch in ("test_mode", "disable_tracing"):
        if getattr(settings, switch):
            origin = settings.origins.get(switch, "default")
            raise SettingError(
                f"{called}: {switch} is on ({origin}), so that no backend is asked. A run is read there."
            )
    if settings.api_key is None:
        raise SettingError(f"{called}: api_key is needed to read a run, also as HH_API_KEY.")
    return settings, tuple(ids)


def local_spool() -> Spool | None:
    """Where the current tracer keeps what was made in local mode; None without one."""
    found = current_tracer()
    return None if found is None else found.spool


def _settings(called: str, client: HoneyHive | None, api_key: str | None, server_url: str | None) -> Settings:
    """The client's, else what was given, else the current tracer's, else the environment's."""
    if client is not None:
        return client.settings
    found = current_tracer()
    if api_key is None and server_url is None and found is not None:
        return found.settings
    return settings_table.resolve({"api_key": api_key, "server_url": server_url}, called=called)


# The state of the code that a run was made with: `metadata.git` of the run (contract, section 10).

BUDGET: Final = 2.0
"""Seconds for all commands together: a run does not wait for a slow repository."""

FIELDS: Final = ("commit_hash", "commit_hash_short", "author_name", "author_email", "commit_message")
FORMAT: Final = "%H%x00%h%x00%an%x00%ae%x00%B"

# Asking must neither take locks nor prompt, nor start the programs that a repository may name in its configuration.
_ENVIRONMENT: Final = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
_COMMAND: Final = ("git", "-c", "core.fsmonitor=false", "-c", "log.showSignature=false")
_CREDENTIAL: Final = re.compile(r"^(\w[\w+.-]*://)[^/@]*@")


def git_metadata() -> dict[str, Any]:
    """Commit, branch, author, remote and whether anything is uncommitted, of the working directory's repository.

    Returns:
        what could be found out within two seconds; empty outside of a repository, without git, without a commit. A
        password in the remote's address is left out.
    """
    deadline = time.monotonic() + BUDGET
    commit = _git(deadline, "log", "-1", f"--format={FORMAT}")
    if commit is None:
        return {}
    found: dict[str, Any] = dict(zip(FIELDS, (part.strip() for part in commit.split("\0")), strict=False))
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
    """What git prints; None when it fails, is missing or takes too long."""
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


# Secrets out of what a run says about itself: `config` on its way to the backend, errors on their way to a display.

_last: tuple[Settings, Redactor | RedactorWithFunction] | None = None


def rules_of(settings: Settings) -> Redactor | RedactorWithFunction:
    """The rules by which secrets are taken out of spans; those of the last settings are kept."""
    global _last
    if _last is None or _last[0] is not settings:
        _last = settings, redactor_of(settings)
    return _last[1]


def without_secrets(value: Any, settings: Settings) -> Any:
    """Plain data without secrets."""
    return rules_of(settings).document(plain(value))


def text_without_secrets(text: str) -> str:
    """A text to be shown, by the rules of the current tracer: a notebook is saved, committed and mailed."""
    tracer = current_tracer()
    settings = tracer.settings if tracer is not None else _default_settings()
    return str(rules_of(settings).text(text)[0])


def _default_settings() -> Settings:
    """Those that the run was made with, if any was made; else the environment's."""
    return _last[0] if _last is not None else settings_table.resolve({}, called="evaluate")


logger = logging.getLogger(__name__)


class Run:
    """A run and what the backend is told about it; in local mode it is kept for whoever asks later.

    Args:
        backend: who is told; None in local mode.
        tracer: has the local store.
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
        self._made: dict[str, Any] = {}
        self.id = run_id
        self.name = name or f"experiment-{run_id[:8]}"

    @property
    def ids(self) -> dict[str, str]:
        """What sessions and spans carry of the run."""
        return {"run_id": self.id, "dataset_id": self._data.id}

    def create(self, configuration: Mapping[str, Any]) -> None:
        """Make the run; the backend's id for it replaces ours.

        Raises:
            BackendError: it could not be made.
        """
        git = git_metadata() if self._tracer.settings.telemetry else {}
        self._made = {
            "run_id": self.id,
            "name": self.name,
            "status": "pending",
            "metadata": {**({"git": git} if git else {}), **self._metadata},
            **({"dataset_id": self._data.id} if self._data.stored else {}),
            "event_ids": [],
            "datapoint_ids": list(self._data.ids),
            "configuration": configuration,
        }
        if self._backend is not None:
            self.id = self._backend.create_run(self._made)

    @property
    def _metadata(self) -> dict[str, Any]:
        return {} if self._data.stored else {"offline_dataset_id": self._data.id}

    def end(self, result: ExperimentResultSummary) -> ExperimentResultSummary:
        """Tell that the run is over, and return its result: the backend's, or without an answer the one given."""
        if self._backend is None:
            run = LocalRun(self._made, self._last_words(result), plain_result(result))
            keep(run, self._tracer.spool, rules_of(self._tracer.settings))
            return result
        try:
            self._backend.update_run(self.id, self._last_words(result))
        except BackendError as error:
            logger.warning("evaluate: run %s could not be marked as %s. %s", self.id, result.status, error)
        try:
            answer = self._backend.run_result(self.id, self._aggregate)
        except BackendError as error:
            logger.warning("evaluate: the result of run %s is counted here. %s", self.id, error)
            return result
        return self._merged(result, answer)

    def _last_words(self, result: ExperimentResultSummary) -> dict[str, Any]:
        """Body of the call that ends the run."""
        metadata = self._metadata
        if result.status != COMPLETED:
            metadata = {**metadata, "interrupted": True, "datapoints_run": len(result.rows)}
        fields: dict[str, Any] = {"name": self.name, "status": result.status}
        if result.rows and not self._data.ids:
            fields["datapoint_ids"] = [row.datapoint_id for row in result.rows]
        sessions = [row.session_id for row in result.rows]
        return fields | {name: value for name, value in (("metadata", metadata), ("event_ids", sessions)) if value}

    def _merged(self, result: ExperimentResultSummary, answer: Mapping[str, Any]) -> ExperimentResultSummary:
        """The backend's answer, with what only this process knows."""
        known = {
            name: getattr(result, name)
            for name in (
                "name",
                "config",
                "planned",
                "seconds",
                "cost",
                "cost_complete",
                "cost_estimated",
                "tokens",
                "delivery",
            )
        }
        found = result_from_answer(self.id, self._aggregate, answer, result.errors, **known, rows=result.rows)
        if result.rows and not is_scored(found):
            logger.warning(
                "evaluate: the result of run %s is counted here: the backend has scored nothing yet", self.id
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
    """The summary of a run that was made before: `get_run_result(run_id)`, or with a client before it.

    A run that was made in local mode, and is kept here, is read from here.

    Args:
        client: a `HoneyHive`; may be left out.
        project_id: of no effect; the key decides.
        api_key, server_url: given none, those of the current tracer, else the environment's.

    Raises:
        SettingError: there is no API key, or the id is missing.
        BackendError: no such run, or no usable answer.
    """
    local = find_run(client if run_id is None and isinstance(client, str) else run_id or "", local_spool())
    if local is not None:
        return result_from_plain(local.result)
    settings, (run,) = asked("get_run_result", client, (run_id,), api_key=api_key, server_url=server_url)
    with BackendClient(settings) as backend:
        return result_from_answer(run, aggregate_function, backend.run_result(run, aggregate_function))
