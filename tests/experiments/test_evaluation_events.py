"""Scores leave as OpenTelemetry's evaluation results, on the span of their row."""

from __future__ import annotations

from typing import Any

import pytest

import hh_jupyter as hh
from hh_jupyter.testing import Backend
from tests.experiments.runs import run

RESULT = "gen_ai.evaluation.result"


def results(backend: Backend, returned: Any) -> list[dict[str, Any]]:
    def score(outputs: Any) -> Any:
        if isinstance(returned, Exception):
            raise returned
        return returned

    run(backend, lambda datapoint: 1, [{"id": "q", "inputs": {}}], evaluators=[score])
    (span,) = backend.spans()
    events = [event["attributes"] for event in span["events"] if event["name"] == RESULT]
    assert all(event.pop("gen_ai.evaluation.name") == "score" for event in events)
    return events


VALUE, LABEL, EXPLANATION = (f"gen_ai.evaluation.{key}" for key in ("score.value", "score.label", "explanation"))


@pytest.mark.parametrize(
    ("returned", "event"),
    [
        (0.5, {VALUE: 0.5}),
        (3, {VALUE: 3.0}),
        (True, {VALUE: 1.0, LABEL: "yes"}),
        (False, {VALUE: 0.0, LABEL: "no"}),
        ("good", {LABEL: "good"}),
        (
            {"score": 0.5, "label": "fair", "explanation": "half"},
            {VALUE: 0.5, LABEL: "fair", EXPLANATION: "half"},
        ),
        ({"score": True, "reason": "because"}, {VALUE: 1.0, LABEL: "yes", EXPLANATION: "because"}),
        (ValueError("secret"), {"error.type": "ValueError"}),
        (10**400, {}),
        (float("nan"), {}),
    ],
)
def test_a_score_is_an_event_of_the_row(backend: Backend, returned: Any, event: dict[str, Any]) -> None:
    assert results(backend, returned) == [event]


@pytest.mark.parametrize("returned", [None, {"explanation": "no score"}, [1, 2]])
def test_without_a_score_there_is_no_event(backend: Backend, returned: Any) -> None:
    assert results(backend, returned) == []


def test_a_secret_in_an_explanation_is_redacted(backend: Backend) -> None:
    key = "sk-proj-" + "Ab3dEf6hIj" * 6
    (event,) = results(backend, {"score": 1, "explanation": f"it contains {key}"})
    assert key not in event[EXPLANATION]
    assert "it contains" in event[EXPLANATION]


def test_a_reader_shows_each_metric_once_as_the_evaluator_returned_it() -> None:
    def exact(outputs: Any) -> dict[str, Any]:
        return {"score": True, "explanation": "the same"}

    result = run(None, lambda datapoint: 1, [{"id": "q", "inputs": {}}], evaluators=[exact])
    found = hh.spans(session=result.rows[0].session_id)
    content = found.content(found[0])
    assert content is not None
    assert content.metrics == {"exact": True, "exact_explanation": "the same"}
