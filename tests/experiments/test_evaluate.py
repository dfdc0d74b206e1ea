"""`evaluate`: sessions, spans, threads and event loops, over real HTTP."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import context as otel_context

import hh_jupyter as hh
from hh_jupyter.experiments.results import ExperimentResultSummary
from hh_jupyter.testing import Backend
from hh_jupyter.tracing.api import current_tracer
from tests.experiments.runs import INGESTION_KEY, KEY, ROWS, calls, double, run, session_of, updates

ROOT = Path(__file__).parents[2]


def test_each_datapoint_has_a_session_of_the_run_with_its_inputs_outputs_and_truth(backend: Backend) -> None:
    result = run(backend, double)

    run_made = calls(backend, "POST", "/v1/runs")[0].body
    by_point = {session["metadata"]["datapoint_id"]: session for session in backend.sessions()}
    assert sorted(by_point) == sorted(run_made["datapoint_ids"])
    for row, datapoint_id in zip(ROWS, run_made["datapoint_ids"], strict=True):
        session = by_point[datapoint_id]
        assert (session["session_name"], session["source"]) == ("test run", "evaluation")
        assert session["inputs"] == row["inputs"]
        assert session["metadata"]["run_id"] == result.run_id == run_made["run_id"]
        assert session["metadata"]["dataset_id"] == run_made["metadata"]["offline_dataset_id"]
    sent = [updates(backend)[datapoint_id] for datapoint_id in run_made["datapoint_ids"]]
    assert [(update["outputs"], update.get("feedback")) for update in sent] == [
        ({"double": 2}, {"ground_truth": {"double": 2}}),
        ({"double": 4}, {"ground_truth": {"double": 4}}),
        ({"double": 6}, None),
    ]


def test_the_run_is_completed_after_all_its_data_was_sent(backend: Backend) -> None:
    result = run(backend, double)

    paths = [(request.method, request.path) for request in backend.requests]
    assert paths[0] == ("POST", "/v1/runs")
    assert paths[-2:] == [("PUT", f"/v1/runs/{result.run_id}"), ("GET", f"/v1/runs/{result.run_id}/result")]
    completed = backend.requests[-2].body
    assert completed["status"] == "completed"
    assert set(completed["event_ids"]) == {session["session_id"] for session in backend.sessions()}


def test_function_and_evaluators_are_inside_one_chain_span_of_their_own_session(backend: Backend) -> None:
    @hh.trace(event_type="tool", event_name="step")
    def step(n: int) -> int:
        return n * 2

    def task(datapoint: dict[str, Any]) -> dict[str, int]:
        return {"double": step(datapoint["inputs"]["n"])}

    @hh.evaluator
    def first(outputs: Any, inputs: Any, ground_truth: Any = None) -> float:
        return 0.5

    @hh.evaluator()
    async def second(outputs: Any, inputs: Any, ground_truth: Any = None) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"score": inputs["n"], "explanation": "as given"}

    run(backend, task, evaluators=[first, second])

    roots = {session_of(span): span for span in backend.spans("task")}
    assert len(roots) == len(ROWS)
    for root in roots.values():
        assert root["parent_span_id"] is None
        assert root["attributes"]["honeyhive_event_type"] == "chain"
        assert root["attributes"]["honeyhive_metrics.first"] == 0.5
        assert root["attributes"]["honeyhive_metrics.second_explanation"] == "as given"
    assert sorted(root["attributes"]["honeyhive_metrics.second"] for root in roots.values()) == [1, 2, 3]
    below = [*backend.spans("step"), *backend.spans("Evaluation")]
    assert len(below) == 3 * len(ROWS)
    assert all(span["parent_span_id"] == roots[session_of(span)]["span_id"] for span in below)


@pytest.mark.parametrize(
    ("returned", "kept"),
    [(2, {"result": 2}), (["a"], {"result": ["a"]}), ("text", {"result": "text"}), ({(1, 2): {3}}, {"(1, 2)": [3]})],
)
def test_outputs_of_any_type_reach_the_session(backend: Backend, returned: Any, kept: Any) -> None:
    run(backend, lambda datapoint: returned, ROWS[:1])
    (update,) = updates(backend).values()
    assert update["outputs"] == kept


def test_coroutine_functions_run_also_under_a_running_event_loop(backend: Backend) -> None:
    async def task(datapoint: dict[str, Any], tracer: hh.HoneyHiveTracer) -> dict[str, int]:
        await asyncio.sleep(0)
        with tracer.start_span("inner"):
            return double(datapoint)

    async def notebook() -> ExperimentResultSummary:
        return run(backend, task)

    result = asyncio.run(notebook())

    assert not result.errors
    assert {session_of(span) for span in backend.spans("inner")} == {session_of(span) for span in backend.spans("task")}


def test_as_many_datapoints_run_at_once_as_there_are_workers() -> None:
    together = threading.Barrier(3, timeout=10)

    def task(datapoint: dict[str, Any]) -> None:
        together.wait()

    assert not run(None, task, max_workers=3).errors


def test_spans_are_sent_with_the_ingestion_key_and_other_requests_with_the_api_key(backend: Backend) -> None:
    run(backend, double, ROWS[:1], ingestion_api_key=INGESTION_KEY)
    for request in backend.requests:
        key = KEY if request.path.startswith("/v1/") else INGESTION_KEY
        assert request.headers["authorization"] == f"Bearer {key}", request.path


def test_the_current_tracer_is_used_if_it_has_the_same_destination(backend: Backend) -> None:
    tracer = hh.HoneyHiveTracer.init(api_key=KEY, server_url=backend.url, session_name="notebook")

    def task(datapoint: dict[str, Any], tracer: Any) -> None:
        used.append(tracer)

    used: list[Any] = []
    with tracer.start_span("cell"):
        hh.evaluate(task, dataset=ROWS[:1], print_results=False)
        run(backend, task, ROWS[:1])

    assert used == [tracer, tracer]
    assert tracer.is_initialized
    assert all(span["parent_span_id"] is None for span in backend.spans("task"))
    assert tracer.session_id not in {session_of(span) for span in backend.spans("task")}
    assert {span["attributes"]["honeyhive.source"] for span in backend.spans("task")} == {"evaluation"}
    assert {session["source"] for session in backend.sessions()[1:]} == {"evaluation"}


def test_a_tracer_created_for_the_run_is_shut_down_after_it(backend: Backend) -> None:
    run(backend, double)
    assert current_tracer() is None
    assert not [thread for thread in threading.enumerate() if thread.name == "hh_jupyter-sender"]


def test_datapoints_run_in_a_copy_of_the_callers_context() -> None:
    seen: list[str] = []
    variable = contextvars.ContextVar("variable", default="unset")

    def task(datapoint: dict[str, Any]) -> None:
        seen.append(variable.get())
        variable.set("changed")

    variable.set("caller")
    before = otel_context.get_current()
    run(None, task, max_workers=1)

    assert seen == ["caller"] * len(ROWS)
    assert variable.get() == "caller"
    assert otel_context.get_current() is before


def test_instrumentors_are_enabled_during_the_run() -> None:
    events: list[str] = []

    class Instrumentor:
        def instrument(self, tracer_provider: Any) -> None:
            events.append("on" if tracer_provider is not None else "on without provider")

        def uninstrument(self) -> None:
            events.append("off")

    run(None, lambda datapoint: events.append("ran"), ROWS[:1], instrumentors=[Instrumentor])
    assert events == ["on", "ran", "off"]


def test_capture_settings_apply_to_sessions_too(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HH_CAPTURE_INPUTS", "false")
    monkeypatch.setenv("HH_CAPTURE_OUTPUTS", "false")
    run(backend, double, ROWS[:1])
    assert "inputs" not in backend.sessions()[0]
    assert not updates(backend)


def test_experiments_are_imported_on_first_use() -> None:
    code = (
        "import sys, hh_jupyter\n"
        "assert not [name for name in sys.modules if name.startswith('hh_jupyter.experiments') or name == 'requests']\n"
        "from hh_jupyter import evaluate\n"
        "assert 'requests' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
