"""Helpers for tests of experiments: short runs, and what the backend received."""

from __future__ import annotations

from typing import Any

import hh_jupyter as hh
from hh_jupyter.experiments.results import ExperimentResultSummary
from hh_jupyter.testing import Backend, ReceivedRequest

KEY = "hh_project_key"
INGESTION_KEY = "hh_ingst_" + "A" * 24 + "_" + "b" * 64
ROWS = [
    {"inputs": {"n": 1}, "ground_truth": {"double": 2}},
    {"inputs": {"n": 2}, "ground_truth": {"double": 4}},
    {"inputs": {"n": 3}},
]


def run(backend: Backend | None, function: Any, dataset: Any = ROWS, **arguments: Any) -> ExperimentResultSummary:
    place = {} if backend is None else {"api_key": KEY, "server_url": backend.url}
    return hh.evaluate(function, dataset=dataset, **{"print_results": False, "name": "test run", **place, **arguments})


def double(datapoint: dict[str, Any]) -> dict[str, int]:
    return {"double": datapoint["inputs"]["n"] * 2}


def calls(backend: Backend, method: str, path: str) -> list[ReceivedRequest]:
    return [request for request in backend.requests if (request.method, request.path) == (method, path)]


def updates(backend: Backend) -> dict[str, Any]:
    """Bodies of session updates by the data point of the session."""
    points = {session["session_id"]: session["metadata"]["datapoint_id"] for session in backend.sessions()}
    return {points[call.body["event_id"]]: call.body for call in calls(backend, "PUT", "/events")}


def session_of(span: dict[str, Any]) -> str:
    return str(span["attributes"]["honeyhive.session_id"])
