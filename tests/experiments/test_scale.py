"""A thousand data points and three evaluators: every session, score and error where it belongs, in bounded memory."""

from __future__ import annotations

import asyncio
import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import hh_jupyter as hh
from hh_jupyter.experiments.results import ExperimentResultSummary
from hh_jupyter.testing import Backend
from tests.experiments.runs import run, session_of, updates

MANY = 1_000
ROWS = [{"id": f"p{n}", "inputs": {"n": n}, "ground_truth": n * 2} for n in range(MANY)]
FAILING = {f"p{n}" for n in range(MANY) if n % 20 == 7}


def outcome_of(n: int) -> int:
    if n % 20 == 7:
        raise ValueError(f"no {n}")
    return n * 2


def plain(datapoint: dict[str, Any]) -> int:
    return outcome_of(datapoint["inputs"]["n"])


async def awaited(datapoint: dict[str, Any]) -> int:
    await asyncio.sleep(0)
    return outcome_of(datapoint["inputs"]["n"])


def exact(outputs: Any, inputs: Any, ground_truth: Any) -> bool:
    return bool(outputs == ground_truth)


async def index(outputs: Any, inputs: Any) -> int:
    await asyncio.sleep(0)
    return int(inputs["n"])


@hh.evaluator
def size(outputs: Any) -> dict[str, Any]:
    return {"score": outputs / MANY, "explanation": f"half of {outputs}"}


@pytest.mark.slow
@pytest.mark.parametrize("function", [plain, awaited])
def test_a_thousand_datapoints_are_in_their_sessions(backend: Backend, function: Callable[..., Any]) -> None:
    result = run(backend, function, ROWS, evaluators=[exact, index, size], max_workers=16)

    check_result(result)
    sessions = {session["session_id"]: session["metadata"]["datapoint_id"] for session in backend.sessions()}
    assert len(sessions) == MANY
    assert {row.session_id: f"EXT-{row.datapoint_id}" for row in result.rows} == sessions
    check_spans(backend, sessions, function.__name__)
    sent = updates(backend)
    assert {point for point, update in sent.items() if "error" in update.get("metadata", {})} == {
        f"EXT-{one}" for one in FAILING
    }
    assert all(sent[f"EXT-p{n}"]["outputs"] == {"result": n * 2} for n in range(MANY) if n % 20 != 7)


def check_result(result: ExperimentResultSummary) -> None:
    assert [row.index for row in result.rows] == list(range(MANY))
    assert [point.datapoint_id for point in result.datapoints] == [f"p{n}" for n in range(MANY)]
    assert set(result.failed) == {error.datapoint_id for error in result.errors} == FAILING
    assert result.metrics.get_all_metrics()["exact"].values == (True,) * (MANY - len(FAILING))
    assert all(row.metrics["index"] == row.index for row in result.rows if not row.error)


def check_spans(backend: Backend, sessions: dict[str, str], name: str) -> None:
    """The function's span and the decorated evaluator's: in the session of their data point, with its scores."""
    roots = {session_of(span): span["attributes"] for span in backend.spans(name)}
    assert len(roots) == len(backend.spans(name)) == MANY
    assert all(attrs["honeyhive_metadata.datapoint_id"] == sessions[one] for one, attrs in roots.items())
    key = "honeyhive_metrics.index"
    scored = {sessions[one]: attrs[key] for one, attrs in roots.items() if key in attrs}
    assert scored == {f"EXT-p{n}": n for n in range(MANY) if n % 20 != 7}
    below = [sessions[session_of(span)] for span in backend.spans("Evaluation")]
    assert sorted(below) == sorted(scored)


class Large(dict[str, Any]):
    """A dict that supports weak references."""

    __hash__ = object.__hash__  # type: ignore[assignment]


@pytest.mark.slow
def test_rows_and_outputs_are_freed_and_the_result_stays_small() -> None:
    alive: weakref.WeakSet[Large] = weakref.WeakSet()
    most = 0

    def large(text: str) -> Large:
        found = Large(text=text)
        alive.add(found)
        return found

    def task(datapoint: dict[str, Any]) -> Large:
        nonlocal most
        most = max(most, len(alive))
        return large(datapoint["inputs"]["text"].upper())

    rows = ({"inputs": large(f"{n} {'x' * 20_000}")} for n in range(300))
    result = run(None, task, rows, evaluators=[lambda outputs: len(outputs["text"])], max_workers=4)
    gc.collect()
    assert most < 40
    assert len(alive) < 10
    assert len(result.rows) == 300
    assert len(pickle.dumps(result)) < 300 * 2_000
