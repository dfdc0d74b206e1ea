"""Runs in local mode: stored, read and compared on this machine, in this process and in a later one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import hh_jupyter as hh
from hh_jupyter.experiments import local_runs
from hh_jupyter.experiments.results import ExperimentResultSummary
from hh_jupyter.testing import Backend
from tests.experiments.runs import KEY, run

ROOT = Path(__file__).parents[2]
ROWS = [{"id": f"p{n}", "inputs": {"n": n}} for n in range(4)]


def scored(
    scores: dict[str, list[Any]], rows: Any = ROWS, backend: Backend | None = None, **arguments: Any
) -> ExperimentResultSummary:
    """A run with these scores by metric, one for each data point."""

    def evaluator(name: str) -> Any:
        def score(outputs: Any) -> Any:
            return scores[name][outputs]

        score.__name__ = name
        return score

    return run(
        backend, lambda point: point["inputs"]["n"], rows, evaluators=[evaluator(n) for n in scores], **arguments
    )


def test_runs_are_compared_by_datapoint() -> None:
    old = scored({"exact": [0.0, 0.5, 1.0, 1.0], "ok": [True] * 4, "label": ["a"] * 4}, name="old")
    new = scored({"exact": [1.0, 0.0, 1.0, None], "ok": [True, False, True, True], "label": ["a", "b", "a", "a"]})
    found = new.compare(old)
    assert (found.new_run_id, found.old_run_id, found.common_datapoints) == (new.run_id, old.run_id, 4)
    exact = found.metric_deltas["exact"]
    assert (exact["improved"], exact["degraded"], exact["same"]) == (["p0"], ["p1"], ["p2"])
    assert (exact["old_values"], exact["new_values"]) == ([0.0, 0.5, 1.0], [1.0, 0.0, 1.0])
    assert (exact["old_aggregate"], exact["found_count"]) == (0.5, 3)
    assert found.metric_deltas["ok"]["degraded"] == ["p1"]
    label = found.metric_deltas["label"]
    assert (label["same_count"], label["improved_count"], label["degraded_count"]) == (3, 0, 0)
    assert (found.list_improved_metrics(), found.list_degraded_metrics()) == (["exact"], ["exact", "ok"])


def test_lower_may_be_better() -> None:
    old, new = scored({"distance": [4, 3, 2, 1]}), scored({"distance": [1, 2, 3, 4]})
    found = new.compare(old, lower_is_better=["distance"])
    assert found.metric_deltas["distance"]["improved"] == ["p0", "p1"]
    with pytest.raises(hh.SettingTypeError, match="lower_is_better must be a list"):
        new.compare(old, lower_is_better="distance")
    with pytest.raises(
        hh.SettingError, match=r"lower_is_better: the runs have no metric 'distanc'\. Did you mean 'distance'\?"
    ):
        new.compare(old, lower_is_better=["distanc"])


def test_datapoints_in_one_run_only_are_counted_separately() -> None:
    old = scored({"exact": [1] * 4}, ROWS[:3])
    new = scored({"exact": [1] * 4}, ROWS[1:])
    found = new.compare(old)
    assert (found.common_datapoints, found.new_only_datapoints, found.old_only_datapoints) == (2, 1, 1)


def test_config_changes_are_listed_by_key() -> None:
    old = scored({}, config={"model": {"name": "a", "top_k": 3}, "prompt": "one", "gone": 1})
    new = scored({}, config={"model": {"name": "a", "top_k": 5}, "prompt": "one", "fresh": None, "also": 2})
    assert new.compare(old).config_changes == {"model.top_k": (3, 5), "gone": (1, None), "also": (None, 2)}


def test_the_config_is_stored_on_the_run_without_secrets(backend: Backend) -> None:
    config = {"model": "m", "client": {"api_key": "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"}}
    result = run(backend, lambda point: 1, ROWS[:1], config=config)
    made = backend.requests[0].body["configuration"]
    assert made["config"] == {"model": "m", "client": {"api_key": "[redacted: api_key]"}}
    assert "abcdefgh" not in repr(result) + result._repr_html_()
    run(backend, lambda point: 1, ROWS[:1])
    last = [request for request in backend.requests if request.path == "/v1/runs"][-1]
    assert "config" not in last.body["configuration"]


def test_compare_runs_takes_ids_names_and_results_of_local_runs() -> None:
    old, new = scored({"exact": [0] * 4}, name="old one"), scored({"exact": [1] * 4}, name="new one")
    expected = new.compare(old)
    assert hh.compare_runs(new.run_id, old.run_id) == expected
    assert hh.compare_runs("new one", old.run_id[:8]) == expected
    assert hh.compare_runs(new, old) == expected
    assert hh.compare_runs(None, new, old.run_id) == expected
    assert hh.get_run_result(new.run_id) == hh.get_run_result("new one") == new


def test_a_run_that_is_unknown_here_is_named_with_those_that_are_known() -> None:
    old, new = scored({"exact": [1] * 4}, name="known-old"), scored({"exact": [1] * 4}, name="known-new")
    for called, read in [
        ("get_run_result", lambda: new.compare("gone")),
        ("compare_runs", lambda: hh.compare_runs("gone", "old")),
    ]:
        with pytest.raises(hh.SettingError) as caught:
            read()
        text = f"{called}: no run 'gone' was made on this machine (the latest are 'known-new', 'known-old'"
        assert str(caught.value).startswith(text)
    for wrong in (5, None, [old]):
        with pytest.raises(
            hh.SettingTypeError, match="compare: the older run must be a result, or the id or name of a run"
        ):
            new.compare(wrong)  # type: ignore[arg-type]
    with pytest.raises(hh.SettingTypeError, match="lower_is_better must be a list of metrics; got None"):
        new.compare(old, lower_is_better=None)  # type: ignore[arg-type]


def test_a_local_run_is_compared_with_a_run_of_the_backend() -> None:
    datapoints = [
        {"datapoint_id": "EXT-p0", "session_id": "s", "passed": True, "metrics": [{"name": "exact", "value": 0.25}]}
    ]
    with Backend(result={"datapoints": datapoints}) as backend:
        new = scored({"exact": [1, 1, 1, 1]})
        found = hh.compare_runs(new, "there", api_key=KEY, server_url=backend.url)
    assert (found.metric_deltas["exact"]["improved"], found.common_datapoints) == (["p0"], 1)


def test_results_are_compared_locally_and_run_ids_by_the_backend(backend: Backend) -> None:
    new, old = scored({"exact": [1] * 4}, backend=backend), scored({"exact": [0] * 4}, backend=backend)
    request_count = len(backend.requests)
    assert new.compare(old).metric_deltas["exact"]["improved_count"] == 4
    assert len(backend.requests) == request_count
    hh.compare_runs(new.run_id, old.run_id, api_key=KEY, server_url=backend.url)
    assert backend.requests[-1].path == f"/v1/runs/{new.run_id}/compare-with/{old.run_id}"


def test_without_a_spool_the_latest_runs_are_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_runs, "REMEMBERED", 2)
    first, *others = [scored({}) for _ in range(3)]
    assert [hh.get_run_result(one.run_id).run_id for one in others] == [one.run_id for one in others]
    with pytest.raises(hh.SettingError, match="; to read one of HoneyHive, pass api_key or set HH_API_KEY"):
        hh.get_run_result(first.run_id)


SCRIPT = """
import sys
import hh_jupyter as hh

hh.HoneyHiveTracer.init(spool=True)
if sys.argv[1] == "make":
    hh.evaluate(
        lambda point: point["inputs"]["n"] * float(sys.argv[2]), dataset=[{"inputs": {"n": n}} for n in range(3)],
        evaluators=[lambda outputs: outputs], name=sys.argv[3], print_results=False,
    )
else:
    found = hh.compare_runs("new", "old")
    print(found.metric_deltas["<lambda>"]["improved_count"], hh.get_run_result("new").rows[2].metrics)
"""


@pytest.mark.slow
def test_with_a_spool_a_later_process_can_read_runs(tmp_path: Path) -> None:
    def program(*arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", SCRIPT, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=100)
        assert done.returncode == 0, done.stderr
        return done.stdout

    program("make", "1", "old")
    program("make", "2", "new")
    assert program("compare") == "2 {'<lambda>': 4.0}\n"


def test_runs_on_disk_have_no_secrets(tmp_path: Path) -> None:
    secret = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"

    def fails(datapoint: dict[str, Any]) -> None:
        raise ValueError(f"refused {secret}")

    with hh.HoneyHiveTracer.init(spool=True) as tracer:
        run(None, fails, [{"inputs": {"q": f"with {secret}"}}], name=f"run {secret}", config={"key": secret})
        assert tracer.spool is not None
        (body,) = tracer.spool.bodies_of(local_runs.KIND)
        assert b"abcdefgh" not in body
        assert b"[redacted: api_key]" in body


def test_a_comparison_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    old = scored({"exact": [0, 0.5, 1, 1], "distance": [1] * 4}, name="old", config={"prompt": 1})
    new = scored({"exact": [1, 0.25, 1, 1], "distance": [0] * 4}, name="new", config={"prompt": 2})
    new.compare(old, lower_is_better=["distance"]).print_table()
    printed = capsys.readouterr().out
    assert printed.startswith("✓ new against old  4 rows in both")
    lines = [line.split() for line in printed.splitlines()]
    assert ["prompt", "1", "→", "2"] in lines
    assert ["exact", "0.62", "±", "0.24", "0.81", "±", "0.19", "1", "better,", "1", "worse"] in lines
    assert ["distance", "less", "is", "better", "1", "±", "0", "0", "±", "0", "4", "better,", "0", "worse"] in lines
    assert ["✓", "p1", "worse", "exact", "0.5", "→", "0.25", "worse,", "distance", "1", "→", "0", "better"] in lines


def test_a_comparison_of_the_backend_can_be_displayed() -> None:
    delta = {"metric_name": "exact", "old_aggregate": 0.5, "new_aggregate": 0.75, "improved_count": 2,
             "degraded_count": 0, "same_count": 1, "found_count": 3, "improved": ["EXT-a", "EXT-b"], "degraded": [],
             "same": ["EXT-c"], "old_values": [], "new_values": []}  # fmt: skip
    with Backend(comparison={"metrics": [delta], "commonDatapoints": ["a", "b", "c"]}) as backend:
        found = hh.compare_runs("n" * 36, "o" * 36, api_key=KEY, server_url=backend.url)
    assert repr(found).startswith("✓ run nnnnnnnn against run oooooooo  3 rows in both")
    assert "+0.25" in found._repr_html_()
    assert [(one.datapoint_id, one.state) for one in found.row_changes] == [("a", "better"), ("b", "better")]
    assert re.search(r"^a +better +exact better$", repr(found), re.MULTILINE)
