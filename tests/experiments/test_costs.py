"""The cost of a run: that of the function and that of the evaluators, counted apart."""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import hh_jupyter as hh
from hh_jupyter.experiments.usage import SessionUsage
from hh_jupyter.experiments.views import progress_report
from hh_jupyter.recordings.budget import Budget
from hh_jupyter.testing import Backend
from hh_jupyter.tracing.api import current_tracer
from tests.experiments.runs import run

ROWS = [{"id": f"q{n}", "inputs": {"n": n}} for n in range(6)]


def call_model(cost: float, tokens: int) -> None:
    tracer = current_tracer()
    assert tracer is not None
    attributes = {
        "openinference.span.kind": "LLM",
        "llm.model_name": "some-model",
        "llm.token_count.prompt": tokens,
        "llm.cost.total": cost,
    }
    with tracer.start_span("chat", attributes=attributes):
        pass


def answer(datapoint: dict[str, Any]) -> int:
    call_model(0.01, 100)
    return int(datapoint["inputs"]["n"])


async def answer_later(datapoint: dict[str, Any]) -> int:
    call_model(0.01, 100)
    await asyncio.sleep(0)
    return int(datapoint["inputs"]["n"])


def kind(outputs: Any) -> bool:
    call_model(0.002, 30)
    return True


@hh.evaluator
async def brief(outputs: Any) -> bool:
    await asyncio.sleep(0)
    call_model(0.002, 30)
    return True


@pytest.mark.parametrize("function", [answer, answer_later])
@pytest.mark.parametrize("executor", [False, True])
def test_the_calls_of_evaluators_are_counted_apart(function: Any, executor: bool) -> None:
    with ThreadPoolExecutor(3) as pool:
        options: Any = {"executor": pool} if executor else {}
        result = run(None, function, ROWS, evaluators=[kind, brief], **options)

    assert [result.cost, result.judge_cost] == pytest.approx([0.06, 0.024])
    assert result.tokens == 600
    frame = result.to_pandas()
    assert list(frame["cost"]) == [pytest.approx(0.01)] * 6
    assert list(frame["judge_cost"]) == [pytest.approx(0.004)] * 6
    assert "$0.060 and judge $0.024" in repr(result)


def test_a_row_whose_function_raised_has_no_cost_of_evaluators() -> None:
    def fails(datapoint: dict[str, Any]) -> None:
        call_model(0.01, 100)
        raise ValueError

    result = run(None, fails, ROWS, evaluators=[kind])
    assert result.cost == pytest.approx(0.06)
    assert result.judge_cost is None
    assert "judge" not in repr(result)


def test_a_run_whose_evaluators_alone_call_models_names_only_their_cost() -> None:
    result = run(None, lambda datapoint: 1, ROWS, evaluators=[kind])
    assert (result.cost, result.tokens) == (None, None)
    assert "judge $0.012" in repr(result)


def test_the_result_of_a_backend_keeps_the_costs(backend: Backend) -> None:
    result = run(backend, answer, ROWS, evaluators=[kind])
    assert [result.cost, result.judge_cost] == pytest.approx([0.06, 0.012])


def test_the_cost_a_row_of_a_comparison_is_that_of_the_function() -> None:
    with_judge, without = run(None, answer, ROWS, evaluators=[kind]), run(None, answer, ROWS)
    change = next(one for one in with_judge.compare(without).changes if one.name == "cost a row")
    assert change.verdict == "same"


def test_progress_shows_both_costs_or_the_limit() -> None:
    def facts(**arguments: Any) -> list[str]:
        used = SessionUsage(cost=0.011, judge_cost=0.004, estimated=True)
        report = progress_report("run", Counter(passed=7), 40, 12.6, used, **arguments)
        return [*report.facts, *(text for text, _ in report.chips)]

    assert facts()[:2] == ["7 of 40 rows", "~$0.011 and judge ~$0.0040"]
    budget = Budget(0.5, None)
    budget.spent = 0.31
    assert facts(budget=budget)[1] == "~$0.31 of $0.50"
    budget.refused = 1
    assert "stopped at the limit" in facts(budget=budget)
    assert facts(trials=5)[0] == "7 of 40 trials"
