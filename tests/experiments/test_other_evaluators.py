"""Evaluators of other libraries, and evaluators that see the spans of their row."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from multiprocessing import get_context
from typing import Any

import autoevals
import pytest

import hh_jupyter as hh
from hh_jupyter.experiments.evaluators import by_unique_name, score
from tests.experiments.runs import run

ROWS = [{"inputs": {"q": "one"}, "ground_truth": "one"}, {"inputs": {"q": "two"}, "ground_truth": "too"}]


def echo(datapoint: dict[str, Any]) -> str:
    return str(datapoint["inputs"]["q"])


def test_autoevals_work_as_they_are() -> None:
    evaluators = [autoevals.Levenshtein(), autoevals.ExactMatch()]
    result = run(None, echo, ROWS, evaluators=evaluators)
    assert [row.evaluator_errors for row in result.rows] == [{}, {}]
    assert [row.metrics["Levenshtein"] for row in result.rows] == [1.0, pytest.approx(2 / 3)]
    assert [row.metrics["ExactMatch"] for row in result.rows] == [1, 0]


def test_an_object_that_has_a_name_gives_it_to_its_metric() -> None:
    """As classifiers of autoevals: all are of one type."""
    made = [autoevals.LLMClassifier(name, "{{output}}", {"A": 1}, model="m") for name in ("Kind", "Polite")]
    assert list(by_unique_name([*made, autoevals.ExactMatch(), echo])) == ["Kind", "Polite", "ExactMatch", "echo"]


class Grade(Enum):
    GOOD = "good"


@pytest.mark.parametrize(
    ("returned", "metrics"),
    [
        (Decimal("0.25"), {"e": 0.25}),
        (Fraction(1, 4), {"e": 0.25}),
        (Grade.GOOD, {"e": "good"}),
        ({"score": Decimal("0.25"), "grade": Grade.GOOD}, {"e": 0.25, "e_grade": "good"}),
    ],
)
def test_numbers_of_other_types_and_members_of_enumerations_are_scores(returned: Any, metrics: dict[str, Any]) -> None:
    found = score("e", returned)
    assert (dict(found.metrics), found.problem) == (metrics, None)
    assert {type(value) for value in found.metrics.values()} <= {float, str}


def by_name(expected: Any, output: Any, input: Any) -> str:  # noqa: A002 - the name is what is tested
    return f"{output} {input} {expected}"


def some_by_name(*, output: Any) -> str:
    return str(output)


def rest(output: Any, **rest: Any) -> str:
    return f"{output} {sorted(rest)}"


def by_position(answer: Any, question: Any, truth: Any) -> str:
    return f"{answer} {question} {truth}"


def official(inputs: Any, outputs: Any, ground_truth: Any) -> str:
    return f"{inputs} {outputs} {ground_truth}"


@pytest.mark.parametrize(
    ("evaluator", "expected"),
    [
        (by_name, "one {'q': 'one'} one"),
        (some_by_name, "one"),
        (rest, "one ['expected', 'input']"),
        (by_position, "one {'q': 'one'} one"),
        (official, "one {'q': 'one'} one"),  # By position, as in the official client, although its names differ.
    ],
)
def test_the_names_output_input_and_expected_are_filled_by_name(evaluator: Callable[..., Any], expected: str) -> None:
    result = run(None, echo, ROWS[:1], evaluators=[evaluator])
    assert result.rows[0].metrics == {evaluator.__name__: expected}


def test_without_an_expected_value_the_parameter_keeps_its_default() -> None:
    def graded(output: Any, expected: Any = "none") -> str:
        return f"{output} {expected}"

    result = run(None, echo, [{"inputs": {"q": "one"}}], evaluators=[graded])
    assert result.rows[0].metrics == {"graded": "one none"}


@dataclass
class OtherScore:
    score: Any = None
    reason: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    error: Any = None


@dataclass
class OtherReason:
    value: Any
    reason: str | None = None


@pytest.mark.parametrize(
    ("returned", "metrics"),
    [
        (OtherScore(0.5, "why"), {"e": 0.5, "e_reason": "why"}),
        (OtherScore(1, metadata={"rationale": "so", "choice": "A"}), {"e": 1, "e_rationale": "so", "e_choice": "A"}),
        (OtherScore(metadata={}), {}),
        (OtherReason(True, "why"), {"e": True, "e_reason": "why"}),
        (OtherReason("label"), {"e": "label"}),
        ({"length": OtherReason(3, "short"), "tone": 0.5}, {"e_length": 3, "e_length_reason": "short", "e_tone": 0.5}),
    ],
)
def test_results_of_other_libraries_are_read(returned: Any, metrics: dict[str, Any]) -> None:
    found = score("e", returned)
    assert (dict(found.metrics), found.problem) == (metrics, None)


def test_an_error_that_a_result_reports_is_the_rows() -> None:
    found = score("e", OtherScore(None, error=ValueError("no answer")))
    assert found.problem == "no answer"
    assert not found.metrics


def test_an_object_whose_score_is_a_method_is_no_result() -> None:
    class Model:
        def score(self) -> float:
            return 1.0

    assert score("e", Model()).problem == "returned a value of type Model; expected a number, bool, text or dict"


@hh.trace(event_type="tool", event_name="search")
def search(text: str) -> str:
    return text


def searching(datapoint: dict[str, Any]) -> str:
    for _ in range(len(datapoint["inputs"]["q"])):
        search("x")
    return "done"


def searches(spans: Any) -> int:
    return len([span for span in spans if span.name == "search"])


def with_answer(outputs: Any, spans: Any, inputs: Any) -> str:
    return f"{outputs} {len(spans)} {inputs['q']}"


def test_an_evaluator_sees_the_spans_of_its_row() -> None:
    rows = [{"inputs": {"q": "abc"}}, {"inputs": {"q": "a"}}]
    result = run(None, searching, rows, evaluators=[searches, with_answer], max_workers=2)
    assert [row.metrics for row in result.rows] == [
        {"searches": 3, "with_answer": "done 3 abc"},
        {"searches": 1, "with_answer": "done 1 a"},
    ]


@pytest.mark.slow
def test_an_evaluator_sees_the_spans_of_its_row_in_a_worker_process() -> None:
    rows = [{"inputs": {"q": "abc"}}, {"inputs": {"q": "a"}}]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        result = run(None, searching, rows, evaluators=[searches], executor=pool)
    assert [(row.metrics, row.evaluator_errors) for row in result.rows] == [
        ({"searches": 3}, {}),
        ({"searches": 1}, {}),
    ]


def after_spans(spans: Any, answer: Any) -> str:
    return f"{len(spans)} {answer}"


def test_the_first_other_parameter_gets_the_outputs_wherever_spans_stand() -> None:
    result = run(None, searching, [{"inputs": {"q": "ab"}}], evaluators=[after_spans])
    assert result.rows[0].metrics == {"after_spans": "2 done"}


def wrong(output: Any, other: Any) -> int:
    return 1


def wrong_beside_spans(*, spans: Any, other: Any) -> int:
    return 1


@pytest.mark.parametrize("evaluator", [wrong, wrong_beside_spans])
def test_a_parameter_without_a_meaning_is_named_before_anything_runs(evaluator: Any) -> None:
    with pytest.raises(hh.SettingTypeError, match=f"{evaluator.__name__} requires other as well; it is called with"):
        run(None, echo, ROWS, evaluators=[evaluator])
