"""Rows in any order, any subset, given twice, with circles of parents: nothing raises and the totals stay the same."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hh_jupyter.conventions.facts import SpanFacts, Usage
from hh_jupyter.records.record import SpanError, SpanRecord, record_of
from hh_jupyter.records.totals import Totals, summarize
from hh_jupyter.records.tree import SpanTree
from tests.spans import RECORDINGS, recorded

counts = st.none() | st.integers(0, 50)
usages = st.none() | st.builds(Usage, counts, counts, counts, counts, counts, counts)
facts = st.builds(
    SpanFacts,
    kind=st.sampled_from(["llm", "llm", "embedding", "tool", "agent", "chain", "http", "other"]),
    model=st.sampled_from([None, "gpt-4o-2024-08-06", "m"]),
    model_requested=st.sampled_from([None, "gpt-4o"]),
    usage=usages,
    cost=st.none() | st.just(0.25),
    response_id=st.sampled_from([None, None, "r1", "r2"]),
    tools_asked=st.sampled_from([(), ("look",)]),
    tool_name=st.sampled_from([None, "look"]),
    http_status=st.sampled_from([None, 429]),
)
ids = st.integers(1, 12)
errors = st.sampled_from([None, SpanError("E", "Error code: 429"), SpanError("F", "no")])
rows = st.builds(
    SpanRecord,
    trace_id=st.sampled_from([1, 1, 2]),
    span_id=ids,
    parent_id=st.none() | ids,
    name=st.sampled_from(["look", "call", "look_error", "handoff to X"]),
    start_ns=st.integers(0, 20),
    end_ns=st.none() | st.integers(0, 30),
    status=st.sampled_from(["ok", "error", "running"]),
    facts=facts,
    scope=st.sampled_from(["a", "b", "com.anthropic.sdk.python"]),
    error=errors,
)
traces = st.lists(rows, max_size=14, unique_by=lambda row: (row.trace_id, row.span_id))


def shape(tree: SpanTree) -> list[tuple[Any, ...]]:
    """What a display shows of a tree, in its order."""
    return [
        (node.record, node.depth, node.end_ns, node.own, node.critical, node.error, node.tokens) for node in tree.nodes
    ]


@pytest.mark.slow
@given(traces, st.randoms(use_true_random=False))
@settings(max_examples=200)
def test_order_and_repetition_change_nothing(trace: list[SpanRecord], chance: random.Random) -> None:
    shuffled = trace * 2
    chance.shuffle(shuffled)
    assert summarize(shuffled) == summarize(trace)
    tree = SpanTree.build(trace)
    assert shape(SpanTree.build(shuffled)) == shape(tree)
    assert sorted(map(id, (node.record for node in tree.nodes))) == sorted(map(id, trace))
    assert sum(row.spans for row in tree.rows()) == len(trace)


@given(st.sampled_from(RECORDINGS), st.data())
@settings(max_examples=60)
def test_any_subset_of_a_recording_is_summed_and_drawn(name: str, data: st.DataObject) -> None:
    every = [record_of(span) for span in recorded(name)]
    some = data.draw(st.lists(st.sampled_from(every), max_size=len(every)))
    found, whole = summarize(some), summarize(every)
    assert found.spans == len({(row.trace_id, row.span_id) for row in some})
    assert found.llm_calls <= whole.llm_calls
    assert found.total_tokens <= whole.total_tokens
    assert len(SpanTree.build(some).nodes) == found.spans


def row(number: int, parent: int | None, kind: str = "other", **facts_: Any) -> SpanRecord:
    error = facts_.pop("error", None)
    scope = "ab"[number % 2]
    status: Any = "error" if error else "ok"
    end = 10_000_000 - number
    return SpanRecord(
        1, number, parent, f"n{number % 7}", number, end, status, SpanFacts(kind=kind, **facts_), scope, error
    )


MOST, MANY, DEEP = 100_000, 10_000, 5_000
TOLD = Usage(5, 5, 10)
FAILED = SpanError("E", "Error code: 429")
SHAPES: dict[str, Callable[[], list[SpanRecord]]] = {
    "siblings": lambda: [row(0, None, "agent"), *(row(n, 0, "llm", usage=TOLD, model="m") for n in range(1, MOST))],
    "failing siblings": lambda: [row(0, None, "agent"), *(row(n, 0, "llm", error=FAILED) for n in range(1, MANY))],
    "one response id": lambda: [row(n, None, "llm", usage=TOLD, response_id="r") for n in range(MANY)],
    "tools": lambda: [row(n, None, "tool") for n in range(MANY)],
    "deep": lambda: [row(n, n - 1 if n else None, "llm", usage=TOLD) for n in range(DEEP)],
    "deep agents": lambda: [row(n, n - 1 if n else None, "agent", usage=TOLD) for n in range(DEEP)],
    "a call at each depth": lambda: [
        *(row(n, n - 1 if n else None) for n in range(DEEP)),
        *(row(DEEP + n, n, "llm", usage=TOLD) for n in range(DEEP)),
    ],
    "a circle": lambda: [row(n, (n - 1) % DEEP, "agent", usage=TOLD) for n in range(DEEP)],
    "many on a small circle": lambda: [row(n, (n + 1) % 2 if n < 2 else 0, "llm", usage=TOLD) for n in range(MANY)],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.timeout(60)
def test_many_and_deep_spans_take_no_recursion_and_no_quadratic_time(name: str) -> None:
    """A pair of loops over so many rows takes longer than the time limit, which is far above what linear work needs."""
    trace = SHAPES[name]()
    random.Random(0).shuffle(trace)
    totals, tree = summarize(trace), SpanTree.build(trace)
    assert totals.spans == len(tree.nodes) == len(trace)
    assert sum(line.spans for line in tree.rows()) == len(trace)


def test_a_circle_is_cut_at_its_earliest_span_and_what_hangs_on_it_stays() -> None:
    circle = [row(1, 3), row(2, 1), row(3, 2), row(4, 2), row(5, 5)]
    tree = SpanTree.build(circle)
    assert [node.record.span_id for node in tree.roots] == [1, 5]
    assert {node.record.span_id: node.depth for node in tree.nodes} == {1: 0, 2: 1, 3: 2, 4: 2, 5: 0}


def test_an_orphan_is_a_root_until_its_parent_comes() -> None:
    parent, child = row(1, None), row(2, 1)
    (root,) = SpanTree.build([child]).roots
    assert root.parent is None
    assert root.record.parent_id is not None
    (root,) = SpanTree.build([child, parent]).roots
    assert root.record.parent_id is None
    assert root.children[0].record is child


def test_of_a_running_and_an_ended_row_the_ended_one_counts() -> None:
    ended = row(1, None, "llm", usage=TOLD)
    running = replace(ended, end_ns=None, status="running", facts=SpanFacts(kind="llm"))
    assert summarize([ended, running]) == summarize([running, ended]) == summarize([ended])
    assert summarize([]) == Totals()
