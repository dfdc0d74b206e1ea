"""Every call is counted once: however many spans tell of it, and whichever of them there are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hh_jupyter.conventions.facts import SpanFacts, Usage
from hh_jupyter.records.record import SpanRecord, record_of
from hh_jupyter.records.totals import summarize
from hh_jupyter.records.tree import SpanTree
from tests.conventions.cases import CASES, spans_of
from tests.records.builders import span
from tests.spans import RECORDINGS, recorded

SUMS = (
    "spans", "llm_calls", "llm_calls_failed", "http_requests", "streamed_calls", "prompt_tokens", "completion_tokens",
    "total_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens", "embedding_calls", "embedding_tokens",
    "tool_calls_requested", "tool_spans", "tools_run",
)  # fmt: skip
UNTOLD_ALONE = {
    # The extra error span of the official SDK is known by the span that it repeats.
    "honeyhive-sdk-mixed.json": {"tools_run"},
    # OpenLLMetry counts one token too many at the end of a stream; the client's own span beside it does not.
    "openllmetry-anthropic-tools.json": {"completion_tokens", "total_tokens"},
}
"""Fields in which spans that are right together tell more when some of them are missing."""
EVERYTHING = [*((name, True) for name in CASES), *((name, False) for name in RECORDINGS)]


def rows_of(name: str, *, case: bool) -> list[SpanRecord]:
    return [record_of(span) for span in (spans_of(name) if case else recorded(name))]


def llm(number: int, start: float, end: float, scope: str = "a", **facts: Any) -> SpanRecord:
    return replace(span(number, None, start, end, "call", kind="llm", trace=number, **facts), scope=scope)


@pytest.mark.parametrize(("name", "case"), EVERYTHING)
@given(data=st.data())
def test_order_repetition_and_subsets_never_give_more_than_the_whole(
    name: str, case: bool, data: st.DataObject
) -> None:
    rows = rows_of(name, case=case)
    whole = summarize(rows)
    some = data.draw(st.lists(st.sampled_from(rows), max_size=2 * len(rows)))
    part = summarize(some)
    more = {field for field in SUMS if getattr(part, field) > getattr(whole, field)}
    assert more <= UNTOLD_ALONE.get(name, set())
    assert summarize(data.draw(st.permutations(rows)) + some) == whole


def test_spans_of_two_instrumentors_are_one_call_although_one_knows_only_the_requested_model() -> None:
    outer = llm(1, 0, 10, "langchain", model="gpt-4o", tokens=(7, 3))
    inner = llm(2, 1, 9, "openai", model="gpt-4o-2024-08-06", model_requested="gpt-4o", response_id="r", tokens=(7, 3))
    totals = summarize([outer, inner])
    assert (totals.llm_calls, totals.models_served, totals.prompt_tokens) == (1, ("gpt-4o-2024-08-06",), 7)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("claude-3-5-sonnet-latest", "claude-3-5-sonnet-20241022"),
        ("openai/gpt-4o-mini", "gpt-4o-mini-2024-07-18"),
        ("us.anthropic.claude-sonnet-4-20250514-v1:0", "claude-sonnet-4-20250514-v1:0"),
        ("models/gemini-2.5-flash", "gemini-2.5-flash"),
    ],
)
def test_dated_and_undated_names_are_one_model(one: str, other: str) -> None:
    assert summarize([llm(1, 0, 10, "a", model=one), llm(2, 1, 9, "b", model=other)]).llm_calls == 1


def test_different_models_at_the_same_time_are_two_calls() -> None:
    assert summarize([llm(1, 0, 10, "a", model="gpt-4o"), llm(2, 1, 9, "b", model="gpt-4o-mini")]).llm_calls == 2


def test_streams_without_usage_that_run_side_by_side_are_paired_one_to_one() -> None:
    """The last one that starts ends first: each must find the only span it lies in."""
    outer = [llm(n, n, 100 - n, "langchain", model="m") for n in range(1, 41)]
    inner = [llm(100 + n, n + 0.5, 99.5 - n, "openai", model="m", response_id=f"r{n}") for n in range(1, 41)]
    assert summarize([*outer, *inner]).llm_calls == 40
    assert summarize([*outer, *inner[:30]]).llm_calls == 40


def test_hundreds_of_calls_that_run_at_once_keep_their_pairs() -> None:
    outer = [llm(n, n / 100, 50 + n / 100, "langchain", model="m", tokens=(n, 1)) for n in range(1, 251)]
    inner = [llm(1000 + n, 5 + n / 100, 45 + n / 100, "openai", model="m", response_id=f"r{n}") for n in range(1, 251)]
    assert summarize([*outer, *inner]).llm_calls == 250


def test_a_span_that_ends_a_moment_after_the_one_around_it_is_still_the_same_call() -> None:
    assert summarize([llm(1, 0, 10, "a", model="m"), llm(2, 1, 10.2, "b", model="m")]).llm_calls == 1


def test_a_stream_whose_span_ends_before_it_is_read_goes_on_to_its_first_token() -> None:
    outer = llm(1, 0, 5, "llama_index", model="m", streamed=True, first_token_ns=8_000_000)
    assert summarize([outer, llm(2, 6, 12, "openai", model="m", response_id="r")]).llm_calls == 1


def test_one_call_after_another_is_two() -> None:
    assert summarize([llm(1, 0, 10, "a", model="m"), llm(2, 10, 20, "b", model="m")]).llm_calls == 2


def test_numbers_that_differ_are_two_calls() -> None:
    rows = llm(1, 0, 10, "a", model="m", tokens=(7, 3)), llm(2, 1, 9, "b", model="m", tokens=(7, 30))
    assert summarize(rows).llm_calls == 2


def test_an_answer_from_a_cache_is_no_call_and_costs_nothing() -> None:
    asked = llm(1, 0, 10, "a", model="gpt-4o", tokens=(7, 3), response_id="r", cost=0.5)
    cached = llm(2, 20, 21, "a", model="gpt-4o", tokens=(7, 3), response_id="r", from_cache=True)
    alone, both = summarize([cached]), summarize([asked, cached])
    assert (alone.llm_calls, alone.total_tokens, alone.cost, alone.cost_complete) == (0, 0, None, True)
    assert (both.llm_calls, both.total_tokens, both.cost) == (1, 10, 0.5)


def test_a_replayed_call_counts_with_its_tokens_costs_nothing_and_says_what_it_saved() -> None:
    sent = llm(1, 0, 400, "a", model="gpt-4o", tokens=(7, 3), response_id="r", cost=0.5)
    again = llm(2, 500, 501, "a", model="gpt-4o", tokens=(7, 3), response_id="r", cost=0.5, replayed=True)
    alone, both = summarize([again]), summarize([sent, again])
    assert (alone.llm_calls, alone.replayed_calls, alone.total_tokens) == (1, 1, 10)
    assert (alone.cost, alone.cost_complete, alone.saved_cost) == (0, True, 0.5)
    assert (both.llm_calls, both.replayed_calls, both.cost, both.saved_cost) == (2, 1, 0.5, 0.5)
    assert summarize([sent]).saved_cost is None


def test_replays_of_one_recorded_response_at_the_same_time_are_several_calls() -> None:
    same: dict[str, Any] = {"model": "gpt-4o", "tokens": (7, 3), "response_id": "r", "replayed": True}
    assert summarize([llm(n, 0, 5, "a", **same) for n in range(1, 4)]).llm_calls == 3


def test_two_spans_of_one_replay_are_one_call() -> None:
    same: dict[str, Any] = {"model": "gpt-4o", "tokens": (7, 3), "response_id": "r"}
    totals = summarize([llm(1, 0, 9, "a", **same), llm(2, 1, 8, "b", **same, replayed=True, replayed_ms=700)])
    assert (totals.llm_calls, totals.replayed_calls, totals.cost) == (1, 1, 0)


def test_a_cached_answer_adds_no_tokens_to_the_row_above_it() -> None:
    root = span(1, None, 0, 40, "answer", kind="chain")
    asked, cached = (
        replace(llm(n, n, n + 5, tokens=(7, 3), from_cache=n == 20), parent_id=1, trace_id=1) for n in (10, 20)
    )
    assert [node.tokens for node in SpanTree.build([root, asked, cached]).nodes] == [10, 10, None]


def test_a_log_at_the_end_of_a_stream_belongs_to_the_stream_before_it() -> None:
    streams = [llm(n, n, n + 0.5, "logfire.openai", model="m", model_requested="m") for n in (1, 2)]
    ends = [
        llm(10 + n, 5 + n, 5 + n, "logfire.openai", model="m", model_requested="m", streamed=True, tokens=(7, n))
        for n in (1, 2)
    ]
    totals = summarize([*streams, *ends])
    assert (totals.llm_calls, totals.streamed_calls, totals.unknown_usage_calls, totals.total_tokens) == (2, 2, 0, 17)


def test_a_row_above_two_spans_of_one_call_counts_its_tokens_once() -> None:
    root = span(1, None, 0, 20, "answer", kind="chain")
    rows = [
        replace(llm(n, n, 20 - n, scope, model="m", tokens=(7, 3)), parent_id=1, trace_id=1)
        for n, scope in ((2, "a"), (3, "b"))
    ]
    tree = SpanTree.build([root, *rows])
    assert [node.tokens for node in tree.nodes] == [10, 10, 10]
    assert summarize([root, *rows]).total_tokens == 10


@pytest.mark.parametrize(
    ("given_as", "without_cached", "whole"),
    [
        (Usage(100, 10, 110, cached=60), False, Usage(100, 10, 110, cached=60)),
        (Usage(30, 25, 55, 2000, 500), False, Usage(2530, 25, 2555, 2000, 500)),
        (Usage(30, 25, 2555, 2000, 500), False, Usage(2530, 25, 2555, 2000, 500)),
        (Usage(3000, 25, 5025, 2000), False, Usage(5000, 25, 5025, 2000)),
        (Usage(3000, 25, None, 2000), False, Usage(3000, 25, None, 2000)),
        (Usage(3000, 25, None, 2000), True, Usage(5000, 25, None, 2000)),
        (Usage(None, 25, 25, 2000), False, Usage(2000, 25, 2025, 2000)),
        # Gemini counts thoughts beside the answer.
        (Usage(10, 5, 115, reasoning=100), False, Usage(10, 105, 115, reasoning=100)),
        (Usage(10, 5, None, reasoning=100), False, Usage(10, 105, None, reasoning=100)),
        (Usage(10, 105, 115, reasoning=100), False, Usage(10, 105, 115, reasoning=100)),
        (Usage(10, 5, 175, cached=60, reasoning=100), False, Usage(70, 105, 175, cached=60, reasoning=100)),
    ],
)
def test_what_was_counted_apart_is_added_to_its_whole(given_as: Usage, without_cached: bool, whole: Usage) -> None:
    assert given_as.with_all_parts(without_cached=without_cached) == whole
    assert whole.with_all_parts() == whole


def test_tokens_of_the_total_that_no_part_has_make_the_cost_a_lower_bound() -> None:
    facts = SpanFacts(kind="llm", model="m", usage=Usage(4299, 631, 58291))
    row = replace(span(1, None, 0, 1), facts=facts)
    totals = summarize([row], prices=lambda facts: 0.01)
    assert (totals.total_tokens, totals.cost, totals.cost_complete) == (58291, 0.01, False)
    assert SpanTree.build([row]).nodes[0].tokens == 58291
    told = replace(row, facts=replace(facts, cost=0.02))
    assert summarize([told]).cost_complete
