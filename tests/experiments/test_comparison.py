"""`compare_runs`: the backend compares two runs, and the result lists the metrics that improved or degraded."""

from __future__ import annotations

from typing import Any

import pytest

import hh_jupyter as hh
from hh_jupyter.testing import Backend
from tests.experiments.runs import KEY, double, run

ANSWER = {
    "metrics": [
        {
            "metric_name": "exact",
            "old_aggregate": 0.5,
            "new_aggregate": 0.75,
            "found_count": 4,
            "improved_count": 2,
            "degraded_count": 1,
            "same_count": 1,
            "improved": ["a", "b"],
            "degraded": ["c"],
            "same": ["d"],
            "old_values": [0, 0, 1, 1],
            "new_values": [1, 1, 0, 1],
        },
        {"metric_name": "length", "improved_count": 3},
        {"metric_name": "speed", "degraded_count": 3},
    ],
    "commonDatapoints": ["a", "b", "c", "d"],
}


def test_improved_and_degraded_metrics_are_listed_with_their_counts() -> None:
    with Backend(comparison=ANSWER) as backend:
        found = hh.compare_runs("new run", "old run", aggregate_function="max", api_key=KEY, server_url=backend.url)
        (request,) = backend.requests
    assert (request.path, request.query) == (
        "/v1/runs/new%20run/compare-with/old%20run",
        {"aggregate_function": "max"},
    )
    assert (found.new_run_id, found.old_run_id, found.common_datapoints) == ("new run", "old run", 4)
    assert found.list_improved_metrics() == ["exact", "length"]
    assert found.list_degraded_metrics() == ["exact", "speed"]
    exact = found.metric_deltas["exact"]
    assert (exact["old_aggregate"], exact["new_aggregate"], exact["improved"]) == (0.5, 0.75, ["a", "b"])
    assert found.get_metric_delta("speed") == found.metric_deltas["speed"]
    assert found.get_metric_delta("nothing") is None


def test_an_empty_response_is_an_empty_comparison(backend: Backend) -> None:
    found = hh.compare_runs("new", "old", api_key=KEY, server_url=backend.url)
    assert (found.metric_deltas, found.common_datapoints, found.list_improved_metrics()) == ({}, 0, [])


def test_a_client_is_accepted_as_first_argument_as_in_the_official_client(backend: Backend) -> None:
    client = hh.HoneyHive(api_key=KEY, server_url=backend.url)
    made = run(backend, double)
    assert hh.get_run_result(client, made.run_id, aggregate_function="max").status == "completed"
    assert hh.compare_runs(client, made.run_id, "old", None, "sum").old_run_id == "old"
    assert [request.query for request in backend.requests[-2:]] == [
        {"aggregate_function": "max"},
        {"aggregate_function": "sum"},
    ]
    assert KEY not in repr(client)


def test_the_client_rejects_other_methods_and_a_missing_key(backend: Backend) -> None:
    with pytest.raises(AttributeError, match=r"HoneyHive\.events: the REST interface is not part of this package"):
        hh.HoneyHive(api_key=KEY, server_url=backend.url).events.list()
    with pytest.raises(ValueError, match="api_key is needed"):
        hh.HoneyHive(server_url=backend.url)


def test_missing_run_ids_are_named(backend: Backend) -> None:
    client = hh.HoneyHive(api_key=KEY, server_url=backend.url)
    with pytest.raises(hh.SettingTypeError, match="compare_runs: expected 2 run ids"):
        hh.compare_runs(client, "only one")
    with pytest.raises(hh.SettingTypeError, match="get_run_result: expected one run id"):
        hh.get_run_result(client)
    with pytest.raises(hh.SettingTypeError, match="get_run_result: expected one run id"):
        hh.get_run_result("run", "max")
    with pytest.raises(hh.SettingError, match="get_run_result: no run 'run' was made on this machine "):
        hh.get_run_result("run")
    assert backend.requests == []


@pytest.mark.parametrize("switch", ["test_mode", "disable_tracing"])
def test_no_request_is_sent_if_test_mode_or_disable_tracing_is_on(
    switch: str, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = hh.HoneyHive(api_key=KEY, server_url=backend.url)
    monkeypatch.setenv(f"HH_{switch.upper()}", "true")
    place = {"api_key": KEY, "server_url": backend.url}
    with pytest.raises(hh.SettingError, match=rf"compare_runs: {switch} is on \(HH_{switch.upper()}\)"):
        hh.compare_runs("new", "old", **place)
    with pytest.raises(hh.SettingError, match=f"get_run_result: {switch} is on"):
        hh.get_run_result(hh.HoneyHive(**place), "run")
    with (
        hh.HoneyHiveTracer.init(**place, **{switch: True}),
        pytest.raises(hh.SettingError, match=rf"get_run_result: {switch} is on \(argument\)"),
    ):
        hh.get_run_result("run")
    assert backend.requests == []
    assert hh.compare_runs(client, "new", "old").common_datapoints == 0


def test_the_label_of_a_score_is_no_metric_of_its_own() -> None:
    """Such as that of a judge. A label without a score is one."""

    def graded(right: bool, tone: str) -> Any:
        def kind(outputs: Any) -> dict[str, Any]:
            return {"score": right, "label": "yes" if right else "no", "explanation": "so it is"}

        def tone_label(outputs: Any) -> str:
            return tone

        return run(None, double, [{"inputs": {"n": n}} for n in range(3)], evaluators=[kind, tone_label])

    found = graded(False, "curt").compare(graded(True, "kind"))
    assert [change.name for change in found.changes if change.n and "row" not in change.name] == ["kind", "tone_label"]
    assert all(list(change.metrics) == ["kind", "tone_label"] for change in found.row_changes)
