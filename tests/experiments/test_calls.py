"""Calls of functions and evaluators: signatures, retries, timeouts, Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import hh_jupyter as hh
from hh_jupyter.experiments import invocation
from hh_jupyter.testing import Backend
from tests.experiments.runs import ROWS, double, run, updates

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invocation, "BACKOFF_SECONDS", (0.001, 0.001))


def nothing() -> None: ...
def only_tracer(tracer: Any) -> None: ...
def three(datapoint: Any, model: Any, *, key: Any) -> None: ...
def no_outputs() -> None: ...
def four(outputs: Any, inputs: Any, ground_truth: Any, model: Any) -> None: ...
def named(outputs: Any, *, rubric: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (nothing, r"function nothing takes no datapoint; it is called as nothing\(datapoint\)"),
        (only_tracer, "function only_tracer takes no datapoint"),
        (three, "function three requires model, key as well"),
        (lambda: 1, "function <lambda> takes no datapoint"),
    ],
)
def test_a_function_with_an_unsuitable_signature_is_rejected(function: Any, message: str, backend: Backend) -> None:
    with pytest.raises(hh.SettingTypeError, match=message):
        run(backend, function)
    assert backend.requests == []


@pytest.mark.parametrize(
    ("evaluator", "message"),
    [
        (no_outputs, r"evaluator no_outputs takes no outputs; it is called with \(outputs, inputs, ground_truth\)"),
        (four, "evaluator four requires model as well"),
        (named, "evaluator named requires rubric as well"),
    ],
)
def test_an_evaluator_with_an_unsuitable_signature_is_rejected(evaluator: Any, message: str, backend: Backend) -> None:
    with pytest.raises(hh.SettingTypeError, match=message):
        run(backend, double, evaluators=[evaluator])
    assert backend.requests == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"retries": -1}, "retries must be 0 or more; got -1"),
        ({"retries": 1.5}, "retries must be a whole number; got float"),
        ({"timeout": 0}, "timeout must be more than 0 seconds; got 0"),
        ({"timeout": "5"}, "timeout must be seconds or None; got str"),
        ({"executor": 4}, r"executor must be a concurrent\.futures\.Executor; got int"),
        ({"config": ["gpt"]}, "config must be a dict; got list"),
    ],
)
def test_an_invalid_argument_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(hh.SettingError, match=message):
        run(None, double, **arguments)


def test_failed_calls_are_retried_and_their_errors_are_on_the_session(backend: Backend) -> None:
    tries = {"function": 0, "evaluator": 0}

    def flaky(datapoint: dict[str, Any]) -> int:
        tries["function"] += 1
        if tries["function"] < 3:
            raise ConnectionError(f"try {tries['function']}")
        return 1

    async def judge(outputs: Any) -> bool:
        tries["evaluator"] += 1
        if tries["evaluator"] < 2:
            raise TimeoutError("judge")
        return True

    result = run(backend, flaky, ROWS[:1], evaluators=[judge], retries=2)
    assert (result.success, result.rows[0].attempts, result.rows[0].metrics) == (True, 4, {"judge": True})
    (update,) = updates(backend).values()
    expected = ["ConnectionError: try 1", "ConnectionError: try 2", "TimeoutError: judge"]
    assert update["metadata"] == {"retried": expected}
    assert len(backend.spans("flaky")) == 1


def test_after_the_last_retry_its_error_is_in_the_result() -> None:
    def fails(datapoint: dict[str, Any]) -> int:
        calls.append(1)
        raise ConnectionError(f"try {len(calls)}")

    calls: list[int] = []
    result = run(None, fails, ROWS[:1], retries=2)
    assert (len(calls), result.errors[0].error) == (3, "ConnectionError: try 3")


def test_a_timeout_is_an_error_of_its_datapoint_only(backend: Backend) -> None:
    release, cancelled = threading.Event(), threading.Event()

    async def hangs(datapoint: dict[str, Any]) -> int:
        if datapoint["inputs"]["n"] == 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.set()
                raise
        return 1

    def judge(outputs: Any, inputs: Any) -> bool:
        if inputs["n"] == 3:
            release.wait(60)
        return True

    result = run(backend, hangs, evaluators=[judge], timeout=2)
    release.set()
    assert [(error.evaluator, error.error) for error in result.errors] == [
        (None, "TimeoutError: took longer than 2 s"),
        ("judge", "TimeoutError: took longer than 2 s"),
    ]
    assert result.rows[0].metrics == {"judge": True}
    assert cancelled.wait(10)


def test_a_function_with_a_timeout_has_its_session_and_span(backend: Backend) -> None:
    def task(datapoint: dict[str, Any]) -> None:
        hh.enrich_span(metadata={"mine": True})

    run(backend, task, ROWS[:1], timeout=30)
    assert backend.spans("task")[0]["attributes"]["honeyhive_metadata.mine"] is True


def test_a_function_may_start_another_run() -> None:
    async def inner(datapoint: dict[str, Any]) -> int:
        await asyncio.sleep(0)
        return 1

    def outer(datapoint: dict[str, Any]) -> int:
        return len(run(None, inner).passed)

    assert [row.outputs for row in run(None, outer).rows] == ["3", "3", "3"]


def test_sys_exit_in_a_function_fails_one_datapoint() -> None:
    def exits(datapoint: dict[str, Any]) -> int:
        if datapoint["inputs"]["n"] == 2:
            sys.exit("gone")
        return 1

    result = run(None, exits)
    assert [error.error for error in result.errors] == ["SystemExit: gone"]
    assert all(row.session_id for row in result.rows)  # Also for the datapoint that failed.


SCRIPT = """
import os, signal, sys, time
import hh_jupyter as hh

signal.signal(signal.SIGINT, signal.default_int_handler)  # Background processes of a shell ignore it.

def task(datapoint):
    if datapoint["inputs"]["n"] >= 4:
        print("started", flush=True)
        time.sleep(300)
    return 1

async def judge(outputs):
    return 1

started = time.monotonic()
rows = [{"inputs": {"n": n}} for n in range(100)]
result = hh.evaluate(task, dataset=rows, evaluators=[judge], max_workers=1, name="stopped")
print(result.status, len(result.rows), result.errors, flush=True)
os._exit(0 if time.monotonic() - started < 200 else 1)
"""


def test_ctrl_c_in_a_script_returns_the_partial_result_and_marks_the_run_as_cancelled(
    backend: Backend, tmp_path: Path
) -> None:
    import os

    environment = {**os.environ, "HH_API_KEY": "hh_key", "HH_API_URL": backend.url, "PYTHONPATH": str(ROOT)}
    program = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "started\n"
    program.send_signal(signal.SIGINT)
    try:
        printed, _ = program.communicate(timeout=60)
    finally:
        program.kill()
    assert program.returncode == 0
    assert "cancelled 4 ()" in printed
    assert "■ stopped" in printed
    ended = next(request for request in backend.requests if request.method == "PUT" and "/runs/" in request.path)
    assert (ended.body["status"], ended.body["metadata"]["interrupted"]) == ("cancelled", True)
    assert len(ended.body["event_ids"]) == 4
