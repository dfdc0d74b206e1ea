"""Datasets, their ids, and the result of a run."""

from __future__ import annotations

import re
from typing import Any

import pytest

import hh_jupyter as hh
from hh_jupyter.testing import Backend
from tests.experiments.runs import KEY, calls, double, run, updates


def test_without_a_key_ids_and_result_are_computed_locally(capsys: pytest.CaptureFixture[str]) -> None:
    def exact(outputs: Any, inputs: Any, ground_truth: Any) -> float:
        return float(outputs == ground_truth)

    result = run(None, double, evaluators=[exact, lambda outputs, inputs, ground_truth=None: "fine"])
    result.print_table("mine")

    assert result.status == "completed"
    assert (len(result.passed), len(result.failed), result.success) == (2, 1, False)
    assert result.metrics.list_metrics() == ["exact"]
    assert result.metrics.get_all_metrics()["exact"].values == (1.0, 1.0)
    metric = result.metrics.get_metric("exact")
    assert metric is not None
    assert metric.aggregate == 1.0
    assert result.errors[0].error.startswith("TypeError: ")
    assert {"datapoints", "errors", "failed", "metrics", "passed", "run_id", "status", "success"} <= {
        *result.model_dump()
    }
    printed = capsys.readouterr().out
    assert re.match(r"▲ mine  \S+ ms  3 rows  1 failed  local only\n", printed)
    assert re.search(r"^exact +1 +± 0 +1 to 1 +2 of 3 +number ", printed, re.MULTILINE)
    assert f"run {result.run_id}" in printed


def test_equal_rows_have_equal_ids_and_given_ids_are_kept() -> None:
    rows: list[dict[str, Any]] = [{"inputs": {"b": 1, "a": 2}}] * 2 + [{"id": "mine", "inputs": {}}]
    other_order: list[dict[str, Any]] = [{"inputs": {"a": 2, "b": 1}}] * 2 + [{"id": "mine", "inputs": {}}]
    once, again = (run(None, lambda datapoint: 1, data) for data in (rows, other_order))
    ids = [point.datapoint_id for point in once.datapoints]
    assert ids == [point.datapoint_id for point in again.datapoints]
    assert len(set(ids)) == 3
    assert ids[2] == "mine"


def test_a_stored_dataset_is_fetched_and_a_missing_datapoint_is_skipped(caplog: pytest.LogCaptureFixture) -> None:
    stored = {"id": "ds", "name": "stored", "datapoints": ["p1", "gone"]}
    point = {"id": "p1", "inputs": {"n": 4}, "ground_truth": {"double": 8}}
    with Backend(datasets=[stored], datapoints={"p1": point}, server_picks_run_id=True) as backend:
        result = run(backend, double, dataset=None, dataset_id="ds")
        made = calls(backend, "POST", "/v1/runs")[0]

    assert (made.body["dataset_id"], made.body["datapoint_ids"]) == ("ds", ["p1"])
    assert "offline_dataset_id" not in made.body["metadata"]
    assert result.run_id == made.answer["run_id"] != made.body["run_id"]
    assert updates(backend)["p1"]["outputs"] == {"double": 8}
    assert "gone" in caplog.text


def test_a_result_can_be_read_again(backend: Backend) -> None:
    made = run(backend, double)
    read = hh.get_run_result(made.run_id, api_key=KEY, server_url=backend.url)
    assert (read.run_id, read.status) == (made.run_id, "completed")


def test_the_table_counts_omitted_rows_and_shows_each_error_on_one_line() -> None:
    def task(datapoint: dict[str, Any]) -> None:
        raise ValueError("first\nsecond \x1b[31m")

    lines = repr(run(None, task, [{"inputs": {"n": n}} for n in range(25)])).splitlines()

    assert lines.count("… 15 more rows, 15 of them failed. All of them: result.to_pandas()") == 1
    assert lines.count("    ValueError: first second") == 10
