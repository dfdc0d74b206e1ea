"""A run as the backend knows it: made, ended, summarised; in local mode it is kept here."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

from hh_jupyter.delivery.ask import BackendClient
from hh_jupyter.delivery.local_runs import LocalRun, find_run, keep
from hh_jupyter.errors import BackendError
from hh_jupyter.experiments.client import HoneyHive, asked, local_spool
from hh_jupyter.experiments.counting import is_scored, result_from_answer
from hh_jupyter.experiments.dataset import Dataset
from hh_jupyter.experiments.git import git_metadata
from hh_jupyter.experiments.hiding import rules_of
from hh_jupyter.experiments.results import COMPLETED, ExperimentResultSummary
from hh_jupyter.experiments.tables import plain_result, result_from_plain
from hh_jupyter.tracing.tracer import HoneyHiveTracer

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
