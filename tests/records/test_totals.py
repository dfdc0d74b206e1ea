"""Totals of real recordings, and of the ways in which instrumentors count one call twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hh_jupyter.conventions.facts import SpanFacts, Usage
from hh_jupyter.records.record import SpanError, SpanRecord, record_of
from hh_jupyter.records.totals import Totals, summarize
from tests.records.builders import span
from tests.spans import RECORDINGS, expected, recorded

NUMBERS = (
    "llm_calls", "llm_calls_failed", "streamed_calls", "prompt_tokens", "completion_tokens", "total_tokens",
    "cached_tokens", "cache_write_tokens", "reasoning_tokens", "embedding_calls", "embedding_tokens",
    "tool_calls_requested", "tool_spans", "errors", "error_statuses",
)  # fmt: skip
LIMIT = SpanError("RateLimitError", "Error code: 429 - slow down", http_status=429)


def total(*rows: SpanRecord, price: float | None = None) -> Totals:
    return summarize(rows, prices=lambda facts: price)


def llm(number: int, parent: int | None, start: float, end: float, scope: str = "a", **facts: Any) -> SpanRecord:
    return replace(span(number, parent, start, end, "call", kind="llm", **facts), scope=scope)


@pytest.mark.parametrize("field", NUMBERS)
@pytest.mark.parametrize("name", RECORDINGS)
def test_recordings_add_up_to_what_was_served(name: str, field: str) -> None:
    assert summarize(recorded(name)).to_dict()[field] == expected(name)[field]


@pytest.mark.parametrize("name", RECORDINGS)
def test_order_and_repetition_of_spans_change_nothing(name: str) -> None:
    rows = [record_of(span) for span in recorded(name)]
    assert summarize([*reversed(rows), *rows]) == summarize(rows)


# Names that no attribute of these spans tells: a routed or requested name only, content that was hidden or that stands
# in log records (tests/tracing/test_log_events.py replays those as well), callbacks that report no embeddings.
UNTOLD = {
    "models_requested": set(),
    "models_served": {
        "openinference-litellm-cost.json",
        "openinference-llamaindex-rag.json",
        "openllmetry040-anthropic.json",
    },
    "tool_call_names": {
        "openinference-openai-redacted.json",
        "otel-openai-events.json",
        "otel-openaiv2-legacy-events.json",
    },
    "embedding_models": {"openinference-langchain-rag.json", "otel-langchain-agent.json"},
}


@pytest.mark.parametrize(("field", "untold"), UNTOLD.items())
@pytest.mark.parametrize("name", RECORDINGS)
def test_model_and_tool_names_are_those_that_the_server_saw(name: str, field: str, untold: set[str]) -> None:
    same = summarize(recorded(name)).to_dict()[field] == expected(name)[field]
    assert same is (name not in untold)


@pytest.mark.parametrize("name", RECORDINGS)
def test_calls_without_usage_from_the_server_are_counted_as_unknown(name: str) -> None:
    kept_back = expected(name).get("not_reported_by_server", {}).get("calls", 0)
    assert summarize(recorded(name)).unknown_usage_calls == kept_back + LOST.get(name, 0)


LOST = {"openllmetry040-openai-tools-stream.json": 2, "openllmetry040-anthropic.json": 1}
"""Streams of which OpenLLMetry 0.40 loses the usage, although the server sent it."""


@pytest.mark.parametrize("name", RECORDINGS)
def test_tools_that_ran_are_those_with_a_span(name: str) -> None:
    """Tools without a span of their own ran unseen; a hand-off has one and is none."""
    totals, wanted = summarize(recorded(name)), expected(name)
    seen = wanted["tools_run"] if totals.tool_spans else 0
    assert totals.tools_run == seen
    if seen and name != "honeyhive-sdk-mixed.json":  # Its tool is a traced function of another name.
        assert list(totals.tools_run_names) == wanted["tools_run_names"]


@pytest.mark.parametrize("name", RECORDINGS)
def test_http_requests_are_the_calls_described_by_spans(name: str) -> None:
    unseen = 2 if name in ("openinference-langchain-rag.json", "otel-langchain-agent.json") else 0  # embeddings
    assert summarize(recorded(name)).http_requests == expected(name)["http_requests"] - unseen


def test_the_extra_error_span_of_the_official_sdk_is_no_tool_that_ran() -> None:
    totals = summarize(recorded("honeyhive-sdk-mixed.json"))
    assert (totals.tool_spans, totals.tools_run, totals.tools_run_names) == (2, 1, ("lookup",))


def test_no_spans_are_no_calls_and_no_cost() -> None:
    assert total() == Totals()
    assert Totals().to_dict()["models_served"] == []


def test_equal_response_ids_are_one_call_in_whatever_trace_and_the_larger_prompt_counts() -> None:
    outer = llm(1, None, 0, 10, "langchain", response_id="r", tokens=(7, 3))
    inner = llm(2, None, 1, 9, "openai", response_id="r", tokens=(9, 3), trace=2)
    totals = total(inner, outer)
    assert (totals.llm_calls, totals.prompt_tokens, totals.completion_tokens) == (1, 9, 3)


def test_an_id_that_comes_again_for_another_call_is_two_calls() -> None:
    assert (
        total(
            llm(1, None, 0, 10, response_id="1", tokens=(7, 3)), llm(2, None, 20, 30, response_id="1", tokens=(9, 4))
        ).llm_calls
        == 2
    )


def test_nested_model_spans_are_one_call_and_gaps_are_filled_from_the_inner_one() -> None:
    totals = total(
        llm(1, None, 0, 10),
        span(2, 1, 1, 9, kind="http"),
        llm(3, 2, 2, 8, tokens=(5, 2), tools_asked=("look",), streamed=True),
    )
    assert (totals.llm_calls, totals.total_tokens, totals.tool_calls_requested, totals.streamed_calls) == (1, 7, 1, 1)


def test_zero_written_for_unknown_does_not_hide_a_number() -> None:
    zero = replace(llm(1, None, 0, 10), facts=SpanFacts(kind="llm", usage=Usage(0, 0, 0)))
    assert total(zero, llm(2, 1, 1, 9, tokens=(5, 2))).total_tokens == 7


@pytest.mark.parametrize("between", ["tool", "agent", "chain"])
def test_a_tool_or_an_agent_between_makes_another_call(between: str) -> None:
    rows = llm(1, None, 0, 10, tokens=(1, 1)), span(2, 1, 1, 9, kind=between), llm(3, 2, 2, 8, tokens=(5, 2))
    assert total(*rows).llm_calls == 2


def test_a_traced_function_typed_model_around_several_calls_is_none_itself() -> None:
    totals = total(
        replace(llm(1, None, 0, 100, "honeyhive"), status="ok"),
        llm(2, 1, 10, 20, response_id="a", tokens=(5, 2)),
        llm(3, 1, 30, 40, response_id="b", tokens=(6, 3)),
    )
    assert (totals.llm_calls, totals.total_tokens, totals.unknown_usage_calls) == (2, 16, 0)


def test_retries_below_a_call_are_not_calls_and_the_call_did_not_fail() -> None:
    totals = total(llm(1, None, 0, 100, "langchain"), llm(2, 1, 10, 20, error=LIMIT), llm(3, 1, 30, 40, tokens=(5, 2)))
    assert (totals.llm_calls, totals.llm_calls_failed, totals.errors) == (1, 0, 1)


def test_a_failure_recorded_by_two_instrumentors_is_one_failed_call() -> None:
    rows = llm(1, None, 0, 10, "a", error=LIMIT), llm(2, None, 1, 9, "b", error=LIMIT, trace=2)
    totals = total(*rows)
    assert (totals.llm_calls, totals.llm_calls_failed, totals.errors) == (1, 1, 1)
    assert totals.error_statuses == ("429",)


def test_two_failures_of_one_instrumentor_are_two() -> None:
    totals = total(llm(1, None, 0, 10, error=LIMIT), llm(2, None, 1, 9, error=LIMIT, trace=2))
    assert (totals.llm_calls_failed, totals.errors) == (2, 2)


def test_failures_of_one_instrumentor_stay_apart_beside_those_of_another() -> None:
    totals = total(
        llm(1, None, 0, 10, "a", error=LIMIT),
        llm(2, None, 1, 9, "a", error=LIMIT, trace=2),
        llm(3, None, 20, 30, "b", error=LIMIT, trace=3),
    )
    assert totals.llm_calls_failed == 3


def test_an_agents_sum_counts_only_if_no_call_below_has_usage() -> None:
    agent = span(1, None, 0, 10, kind="agent", tokens=(50, 5))
    inner = span(2, 1, 0, 9, kind="agent", tokens=(50, 5))
    assert total(agent, inner).total_tokens == 55
    assert total(agent, inner, llm(3, 2, 1, 2, tokens=(40, 4))).total_tokens == 44


def test_a_traced_function_called_as_a_tool_is_one_tool() -> None:
    outer = replace(span(1, None, 0, 10, "look", kind="tool"), scope="langchain")
    assert total(outer, replace(span(2, 1, 1, 9, "app.look", kind="tool"), scope="hh")).tools_run == 1
    assert total(outer, replace(span(2, 1, 1, 9, "app.other", kind="tool"), scope="hh")).tools_run == 2


@pytest.mark.timeout(10)
def test_a_span_that_names_itself_as_parent_ends_the_sum() -> None:
    assert total(span(1, 1, 0, 10, kind="agent", tokens=(1, 1))).total_tokens == 2


def test_cost_comes_from_the_span_and_is_estimated_elsewhere() -> None:
    told, untold = llm(1, None, 0, 1, cost=0.5, tokens=(1, 1)), llm(2, None, 2, 3, tokens=(1, 1))
    assert (total(told).cost, total(told).cost_complete, total(told).cost_estimated) == (0.5, True, False)
    both = total(told, untold, price=0.25)
    assert (both.cost, both.cost_complete, both.cost_estimated) == (0.75, True, True)


def test_unknown_cost_is_none_and_never_zero() -> None:
    untold = total(llm(1, None, 0, 1, tokens=(1, 1)))
    assert (untold.cost, untold.cost_complete) == (None, False)
    some = total(llm(1, None, 0, 1, cost=0.5), llm(2, None, 2, 3, tokens=(1, 1)))
    assert (some.cost, some.cost_complete) == (0.5, False)


def test_a_failed_call_without_tokens_costs_nothing() -> None:
    totals = total(llm(1, None, 0, 1, cost=0.5), llm(2, None, 2, 3, error=LIMIT))
    assert (totals.cost, totals.cost_complete, totals.llm_calls_failed) == (0.5, True, 1)


def test_siblings_of_two_instrumentors_without_an_id_are_one_call_where_time_model_and_tokens_agree() -> None:
    outer, inner = llm(1, None, 0, 10, "a", tokens=(7, 3), model="m"), llm(2, None, 1, 9, "b", tokens=(7, 3), model="m")
    assert total(inner, outer).llm_calls == 1
    assert total(replace(inner, scope="a"), outer).llm_calls == 2
    assert total(replace(inner, facts=replace(inner.facts, model="other")), outer).llm_calls == 2
    assert total(replace(inner, start_ns=outer.end_ns or 0, end_ns=(outer.end_ns or 0) + 1), outer).llm_calls == 2
    ids = [replace(row, facts=replace(row.facts, response_id=str(row.span_id))) for row in (outer, inner)]
    assert total(*ids).llm_calls == 2


def test_calls_side_by_side_are_paired_one_to_one() -> None:
    rows = [llm(n, None, n, 100 + n, "a", tokens=(7, 3), model="m") for n in range(10)]
    rows += [llm(100 + n, None, n + 0.5, 99 + n, "b", tokens=(7, 3), model="m") for n in range(10)]
    assert (total(*rows).llm_calls, total(*rows).prompt_tokens) == (10, 70)


def test_a_failure_is_the_same_if_its_http_status_is() -> None:
    said = llm(1, None, 0, 10, "a", error=LIMIT, model="m")
    client = llm(2, None, 1, 9, "b", error=SpanError("rate_limit_error", ""), model="m", http_status=429)
    totals = total(said, client)
    assert (totals.llm_calls, totals.llm_calls_failed, totals.error_statuses) == (1, 1, ("429",))


def test_what_a_client_counted_itself_beats_what_an_instrumentor_added_up() -> None:
    rival = llm(1, None, 0, 10, "rival", response_id="r", tokens=(13, 23))
    client = llm(2, None, 1, 9, "com.anthropic.sdk.python", response_id="r", tokens=(13, 22))
    assert total(rival, client).completion_tokens == 22


def test_a_tool_seen_by_two_instrumentors_side_by_side_is_one_tool() -> None:
    one = replace(span(1, None, 0, 10, "execute_tool look", kind="tool", tool_name="look"), scope="a")
    other = replace(span(2, None, 1, 9, "look.tool", kind="tool", tool_name="look"), scope="b")
    assert (total(one, other).tools_run, total(one, other).tools_run_names) == (1, ("look",))
    assert total(one, replace(other, scope="a")).tools_run == 2


def test_a_step_between_two_embedding_spans_is_a_step_of_the_same_call() -> None:
    def embedding(number: int, parent: int | None, start: float, end: float) -> SpanRecord:
        return span(number, parent, start, end, "embed", kind="embedding", tokens=(5, 0) if parent else None)

    rows = embedding(1, None, 0, 10), span(2, 1, 1, 9, kind="chain"), embedding(3, 2, 2, 8)
    assert (total(*rows).embedding_calls, total(*rows).embedding_tokens) == (1, 5)
    between = replace(rows[1], facts=SpanFacts(kind="tool"))
    assert total(rows[0], between, rows[2]).embedding_calls == 2
