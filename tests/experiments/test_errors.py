"""Errors of a run are reported, and the rest of the run continues."""

from __future__ import annotations

from typing import Any

import pytest

import hh_jupyter as hh
from hh_jupyter.testing import Backend
from tests.experiments.runs import INGESTION_KEY, KEY, ROWS, calls, double, run, updates


def test_an_error_of_the_function_is_in_the_result_and_on_its_session(backend: Backend) -> None:
    def fails_on_two(datapoint: dict[str, Any]) -> dict[str, int]:
        if datapoint["inputs"]["n"] == 2:
            raise ValueError("two is too many")
        return double(datapoint)

    result = run(backend, fails_on_two, evaluators=[lambda outputs, inputs, ground_truth=None: 1])

    bad = calls(backend, "POST", "/v1/runs")[0].body["datapoint_ids"][1]
    assert [(error.datapoint_id, error.evaluator, error.error) for error in result.errors] == [
        (bad, None, "ValueError: two is too many")
    ]
    update = updates(backend)[bad]
    assert update["metadata"] == {"error": "ValueError: two is too many"}
    assert update["event_id"] == result.errors[0].session_id
    assert len(updates(backend)) == len(ROWS)


@pytest.mark.parametrize("timeout", [None, 30.0])
def test_the_stack_of_an_error_begins_in_the_users_function(backend: Backend, timeout: float | None) -> None:
    def fails(datapoint: dict[str, Any]) -> None:
        raise ValueError("no")

    async def fails_later(datapoint: dict[str, Any]) -> None:
        raise ValueError("no")

    for function in (fails, fails_later):
        run(backend, function, ROWS[:1], timeout=timeout)
        (span,) = backend.spans(function.__name__)
        (event,) = span["events"]
        first_frame = event["attributes"]["exception.stacktrace"].splitlines()[1]
        assert first_frame.endswith(f"in {function.__name__}")


def test_an_error_of_an_evaluator_is_on_the_session_and_the_others_run(backend: Backend) -> None:
    def raises(outputs: Any, inputs: Any, ground_truth: Any = None) -> None:
        raise RuntimeError("no judge")

    def pair(outputs: Any, inputs: Any, ground_truth: Any = None) -> tuple[int, int]:
        return (1, 2)

    def fine(outputs: Any, inputs: Any, ground_truth: Any = None) -> bool:
        return True

    result = run(backend, double, ROWS[:1], evaluators=[raises, pair, fine])

    assert [error.evaluator for error in result.errors] == ["raises", "pair"]
    (update,) = updates(backend).values()
    assert update["metadata"]["evaluator_errors"]["raises"] == "RuntimeError: no judge"
    (span,) = backend.spans("double")
    assert span["attributes"]["honeyhive_metrics.fine"] is True
    assert span["attributes"]["honeyhive_metadata.evaluator_errors.raises"] == "RuntimeError: no judge"


def test_a_run_that_cannot_be_created_raises_before_anything_runs() -> None:
    ran: list[Any] = []
    with (
        Backend(statuses={"/v1/runs": [500]}) as backend,
        pytest.raises(hh.BackendError, match=r"POST /v1/runs: 127.0.0.1:\d+ answered 500"),
    ):
        run(backend, ran.append)
    assert not ran
    with Backend(refuse=True) as nobody, pytest.raises(hh.BackendError, match="cannot be reached"):
        run(nobody, ran.append)
    assert not ran


@pytest.mark.parametrize("page", [b"<html>Please log in</html>", b"[]"])
def test_a_login_page_instead_of_a_response_raises(page: bytes) -> None:
    with (
        Backend(raw_body=page) as backend,
        pytest.raises(hh.BackendError, match="unexpected response") as raised,
    ):
        run(backend, double)
    assert KEY not in str(raised.value)


def test_if_the_backend_fails_later_the_result_is_computed_locally(caplog: pytest.LogCaptureFixture) -> None:
    with Backend(statuses={"/v1/runs/": [500, 503]}) as backend:
        result = run(backend, double, ROWS[:1])
    assert (result.status, result.success, len(result.passed)) == ("completed", True, 1)
    assert "could not be marked as completed" in caplog.text
    assert "is computed locally" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"dataset": None}, ValueError, "either dataset or dataset_id; got neither"),
        ({"dataset_id": "x"}, ValueError, "got both"),
        ({"dataset": None, "dataset_id": "x"}, ValueError, "dataset_id needs an api_key"),
        ({"dataset": ["text"]}, TypeError, r"dataset\[0\] must be a dict; got str"),
        (
            {"dataset": {"inputs": {}}},
            TypeError,
            "dataset must be a list of dicts, a DataFrame, .*; got dict",
        ),
        ({"max_workers": 0}, ValueError, "max_workers must be 1 or more; got 0"),
        ({"max_workers": "3"}, TypeError, "max_workers must be a whole number"),
        ({"evaluators": ["exact"]}, TypeError, "evaluators must be a list of functions"),
        ({"aggregate_function": "mode"}, ValueError, "aggregate_function must be one of average"),
        ({"ingestion_api_key": INGESTION_KEY}, ValueError, "api_key is needed to create a run"),
    ],
)
def test_an_invalid_argument_is_named(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run(None, double, **{"dataset": ROWS, **arguments})


def test_an_unknown_dataset_is_a_value_error(backend: Backend) -> None:
    with pytest.raises(ValueError, match="dataset_id 'nope' does not exist"):
        run(backend, double, dataset=None, dataset_id="nope")
