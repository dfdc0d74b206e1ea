"""A run as the backend knows it: made, completed, summarised."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from hh_jupyter.delivery.ask import BackendClient
from hh_jupyter.errors import BackendError
from hh_jupyter.experiments.client import HoneyHive, asked
from hh_jupyter.experiments.datapoint import Outcome
from hh_jupyter.experiments.dataset import Dataset
from hh_jupyter.experiments.git import git_metadata
from hh_jupyter.experiments.results import (
    ExperimentResultSummary,
    errors_of,
    is_scored,
    result_from_answer,
    result_from_outcomes,
)

logger = logging.getLogger(__name__)


class Run:
    """A run and what the backend is told about it; in local mode nobody is told."""

    def __init__(self, backend: BackendClient | None, data: Dataset, aggregate: str, run_id: str, name: str) -> None:
        self._backend, self._data, self._aggregate = backend, data, aggregate
        self.id = run_id
        self.name = name or f"experiment-{run_id[:8]}"

    @property
    def ids(self) -> dict[str, str]:
        """What sessions and spans carry of the run."""
        return {"run_id": self.id, "dataset_id": self._data.id}

    def create(self, configuration: Mapping[str, Any]) -> None:
        """Make the run; the backend's id for it replaces ours."""
        if self._backend is None:
            return
        git = git_metadata() if self._backend.settings.telemetry else {}
        run = {
            "run_id": self.id,
            "name": self.name,
            "status": "pending",
            "metadata": {**({"git": git} if git else {}), **self._metadata},
            **({"dataset_id": self._data.id} if self._data.stored else {}),
            "event_ids": [],
            "datapoint_ids": [point.id for point in self._data.datapoints],
            "configuration": configuration,
        }
        self.id = self._backend.create_run(run)

    @property
    def _metadata(self) -> dict[str, Any]:
        return {} if self._data.stored else {"offline_dataset_id": self._data.id}

    def complete(self, outcomes: Sequence[Outcome], function_name: str) -> ExperimentResultSummary:
        """Tell that the run is over and fetch its summary; without an answer the result is counted here."""
        counted_here = result_from_outcomes(self.id, self._aggregate, outcomes, function_name)
        if self._backend is None:
            return counted_here
        sessions = [outcome.session_id for outcome in outcomes]
        fields: dict[str, Any] = {"name": self.name, "status": "completed"}
        fields |= {name: value for name, value in (("metadata", self._metadata), ("event_ids", sessions)) if value}
        try:
            self._backend.update_run(self.id, fields)
        except BackendError as error:
            logger.warning("evaluate: run %s could not be marked as completed. %s", self.id, error)
        try:
            answer = self._backend.run_result(self.id, self._aggregate)
        except BackendError as error:
            logger.warning("evaluate: the result of run %s is counted here. %s", self.id, error)
            return counted_here
        result = result_from_answer(self.id, self._aggregate, answer, errors_of(outcomes))
        if outcomes and not is_scored(result):
            logger.warning(
                "evaluate: the result of run %s is counted here: the backend has scored nothing yet", self.id
            )
            return dataclasses.replace(counted_here, status=result.status)
        return result


def get_run_result(
    client: HoneyHive | str | None = None,
    run_id: str | None = None,
    project_id: str | None = None,
    aggregate_function: str = "average",
    *,
    api_key: str | None = None,
    server_url: str | None = None,
) -> ExperimentResultSummary:
    """The backend's summary of a run that was made before: `get_run_result(run_id)`, or with a client before it.

    Args:
        client: a `HoneyHive`; may be left out.
        project_id: of no effect; the key decides.
        api_key, server_url: given none, those of the current tracer, else the environment's.

    Raises:
        SettingError: there is no API key, or the id is missing.
        BackendError: no such run, or no usable answer.
    """
    settings, (run,) = asked("get_run_result", client, (run_id,), api_key=api_key, server_url=server_url)
    with BackendClient(settings) as backend:
        return result_from_answer(run, aggregate_function, backend.run_result(run, aggregate_function))
