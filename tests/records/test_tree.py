"""The tree says who called whom, where time went and where an error began, for any rows."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from hh_jupyter.records.record import SpanError, SpanRecord, record_of
from hh_jupyter.records.totals import summarize
from hh_jupyter.records.tree import Ending, SpanNode, SpanTree
from tests.records.builders import MS, START, UNAVAILABLE, agent_rows, span
from tests.spans import recorded

OTHER = SpanError("ValueError", "no refund")


def names(nodes: tuple[SpanNode, ...] | list[SpanNode]) -> list[str]:
    return [node.record.name for node in nodes]


def by_name(tree: SpanTree) -> dict[str, SpanNode]:
    return {node.record.name: node for node in tree.nodes}


def millis(intervals: tuple[tuple[int, int], ...]) -> list[tuple[float, float]]:
    return [((start - START) / MS, (end - START) / MS) for start, end in intervals]


def errors(tree: SpanTree) -> dict[str, str]:
    return {node.record.name: node.error for node in tree.nodes if node.error}


def test_order_depends_on_start_times_only() -> None:
    rows = agent_rows(failing=True)
    expected = names(SpanTree.build(rows).nodes)
    random.Random(7).shuffle(rows)
    assert names(SpanTree.build(rows).nodes) == expected
    assert expected[:3] == ["support_agent", "plan", "search_policy"]
    assert expected[-3:] == ["issue_refund", "POST /refunds", "POST /refunds"]


def test_spans_without_a_known_parent_are_roots() -> None:
    tree = SpanTree.build([span(2, 99, 5, 6, "orphan"), span(1, None, 0, 9, "root"), span(3, 2, 5, 6, "child")])
    assert names(tree.roots) == ["root", "orphan"]
    assert [(node.record.name, node.depth) for node in tree.nodes] == [("root", 0), ("orphan", 0), ("child", 1)]
    assert tree.title == "root"


def test_equal_span_ids_of_two_traces_are_two_spans() -> None:
    tree = SpanTree.build([span(1, None, 0, 1, trace=1), span(1, None, 2, 3, trace=2), span(2, 1, 2, 3, trace=2)])
    assert [len(root.children) for root in tree.roots] == [0, 1]
    assert tree.title == "2 traces"


def test_the_last_row_of_a_span_counts() -> None:
    tree = SpanTree.build([span(1, None, 0, None, "root"), span(1, None, 0, 4, "root")])
    assert (len(tree.nodes), tree.running, tree.end_ns - tree.start_ns) == (1, False, 4 * MS)


def test_circles_of_parents_lose_no_span() -> None:
    tree = SpanTree.build([span(1, 1, 0, 1), span(2, 3, 0, 1), span(3, 2, 0, 1), span(4, 3, 0, 1)])
    assert sorted(names(tree.nodes)) == ["span 1", "span 2", "span 3", "span 4"]


def test_no_rows_make_an_empty_tree() -> None:
    tree = SpanTree.build([])
    assert (tree.nodes, tree.rows(), tree.title, tree.start_ns, tree.end_ns) == ((), [], "no spans", 0, 0)


def test_running_spans_last_until_the_latest_known_time() -> None:
    tree = SpanTree.build([span(1, None, 0, None, "root"), span(2, 1, 1, 7, "done"), span(3, 1, 9, None, "running")])
    assert tree.running
    assert [(node.end_ns - START) / MS for node in tree.nodes] == [9, 7, 9]


def test_own_time_is_the_duration_without_the_union_of_the_children() -> None:
    children = [(10, 30), (20, 40), (22, 25), (60, 130)]
    rows = [span(1, None, 0, 100), *(span(index, 1, *times) for index, times in enumerate(children, start=2))]
    assert millis(SpanTree.build(rows).roots[0].own) == [(0, 10), (40, 60)]


def test_the_critical_path_walks_back_through_the_child_that_finished_last() -> None:
    path = {name: millis(node.critical) for name, node in by_name(SpanTree.build(agent_rows(failing=False))).items()}
    assert path["support_agent"] == [(0, 12), (352, 364), (910, 918), (1710, 1718), (2041, 2049), (2836, 2842)]
    assert path["get_order"] == [(364, 392), (896, 910)]
    assert path["GET /orders/48213"] == [(392, 896)]
    assert path["search_policy"] == [], "it had ended before get_order, which decided when the next step could begin"


def test_the_critical_path_covers_the_root_exactly_once() -> None:
    tree = SpanTree.build(agent_rows(failing=True))
    parts = sorted(part for node in tree.nodes for part in node.critical)
    assert parts[0][0] == tree.start_ns
    assert parts[-1][1] == tree.end_ns
    assert all(before[1] == after[0] for before, after in pairwise(parts))


def test_a_child_that_outlives_its_parent_is_not_on_its_critical_path() -> None:
    tree = SpanTree.build([span(1, None, 0, 10, "root"), span(2, 1, 5, 50, "background")])
    assert millis(by_name(tree)["root"].critical) == [(0, 10)]
    assert by_name(tree)["background"].critical == ()


def test_an_error_is_counted_once_where_it_began() -> None:
    tree = SpanTree.build(agent_rows(failing=True))
    assert [node.error for node in tree.nodes if node.error] == ["propagated", "propagated", "caught", "uncaught"]
    assert (tree.errors, tree.caught) == (1, 1)
    assert tree.deepest_error is tree.nodes[-1]
    assert (tree.roots[0].errors, tree.roots[0].caught) == (1, 1)


def test_an_error_that_a_parent_caught_is_caught_at_its_origin() -> None:
    rows = [
        span(1, None, 0, 9, "root"),
        span(2, 1, 1, 5, "tool", error=UNAVAILABLE),
        span(3, 2, 2, 4, "call", error=UNAVAILABLE),
    ]
    tree = SpanTree.build(rows)
    assert errors(tree) == {"tool": "propagated", "call": "caught"}
    assert (tree.errors, tree.caught, tree.deepest_error) == (0, 1, None)


def test_an_error_that_left_a_root_is_caught_if_the_caller_ended_without_it() -> None:
    """One of a thread that ended later was not."""
    rows = [span(1, None, 0, 9, "root", error=UNAVAILABLE), span(2, 1, 1, 5, "call", error=UNAVAILABLE)]
    late = span(3, None, 2, 20, "late", error=OTHER)
    tree = SpanTree.build([*rows, late], ending=Ending(rows[0].end_ns or 0))
    assert errors(tree) == {"root": "propagated", "call": "caught", "late": "uncaught"}
    assert (tree.errors, tree.caught) == (1, 1)


def test_an_error_that_another_one_was_raised_from_began_below() -> None:
    converted = replace(OTHER, causes=((UNAVAILABLE.type, UNAVAILABLE.message),))
    rows = [span(1, None, 0, 9, "root", error=converted), span(2, 1, 1, 5, "call", error=UNAVAILABLE)]
    assert errors(SpanTree.build(rows)) == {"root": "propagated", "call": "uncaught"}
    assert errors(SpanTree.build([replace(rows[0], error=OTHER), rows[1]])) == {"root": "uncaught", "call": "caught"}


def test_an_error_after_which_something_else_was_tried_was_caught() -> None:
    rows = [
        span(1, None, 0, 9, "root", error=OTHER),
        span(2, 1, 1, 3, "call", error=UNAVAILABLE),
        span(3, 1, 4, 5, "fallback"),
    ]
    assert errors(SpanTree.build(rows)) == {"root": "uncaught", "call": "caught"}


def test_failures_side_by_side_are_all_uncaught() -> None:
    """A group of tasks fails as one; none of them was a retry of another."""
    rows = [span(1, None, 0, 9, "root", error=UNAVAILABLE)]
    rows += [span(index, 1, 1, 5 + index / 10, f"call {index}", error=UNAVAILABLE) for index in range(2, 5)]
    tree = SpanTree.build(rows)
    assert (tree.errors, tree.caught) == (3, 0)


def test_the_deepest_uncaught_error_is_found() -> None:
    rows = [
        span(1, None, 0, 5, "shallow", trace=1, error=OTHER),
        span(1, None, 6, 9, "root", trace=2, error=UNAVAILABLE),
        span(2, 1, 7, 8, "deep", trace=2, error=UNAVAILABLE),
    ]
    deepest = SpanTree.build(rows).deepest_error
    assert deepest is not None
    assert deepest.record.name == "deep"


def test_errors_without_a_message_are_placed_too() -> None:
    rows = [span(1, None, 0, 9, "root", error=False), span(2, 1, 1, 5, "call", error=False)]
    assert errors(SpanTree.build(rows)) == {"root": "propagated", "call": "uncaught"}


def test_tokens_repeated_by_an_enclosing_span_count_once() -> None:
    rows = [
        span(1, None, 0, 9, "run", kind="agent", tokens=(30, 10)),
        span(2, 1, 1, 4, "wrapper", kind="llm", tokens=(20, 5)),
        span(3, 2, 1, 4, "call", kind="llm", tokens=(20, 5)),
        span(4, 1, 5, 8, "call", kind="llm", tokens=(10, 5)),
        span(5, 1, 8, 9, "tool"),
    ]
    assert [node.tokens for node in SpanTree.build(rows).nodes] == [40, 25, 25, 15, None]


def repeats(*names: str, **facts: object) -> list[SpanRecord]:
    children = [span(index, 1, index, index + 0.5, name, **facts) for index, name in enumerate(names, start=2)]
    return [span(1, None, 0, 99, "root"), *children]


@pytest.mark.parametrize(
    ("calls", "folds"),
    [("aaa", [0, 0, 0]), ("aaaa", [4]), ("aabaa", [0, 0, 0, 0, 0]), ("aaaaab", [5, 0]), ("baaaabbbb", [0, 4, 4])],
)
def test_four_adjacent_repeats_are_one_row(calls: str, folds: list[int]) -> None:
    rows = SpanTree.build(repeats(*calls)).rows()
    assert [len(row.items) for row in rows[1:]] == folds
    assert sum(row.spans for row in rows) == len(calls) + 1


def test_repeats_of_another_kind_are_not_folded() -> None:
    rows = repeats(*"aaaa")
    rows[2] = span(3, 1, 3, 3.5, "a", kind="llm")
    assert [row.items for row in SpanTree.build(rows).rows()] == [()] * 5


@pytest.mark.parametrize("parent", [1, 6], ids=["the repeat itself", "a span below it"])
def test_errors_are_never_inside_a_fold(parent: int) -> None:
    rows = [*repeats(*"aaaaaaaa"), span(20, parent, 6.1, 6.2, "a", error=UNAVAILABLE)]
    shown = SpanTree.build(rows).rows()
    assert [row.node.record.span_id for row in shown if row.node.record.status == "error"] == [20]
    assert not any(item.caught for row in shown for item in row.items)


def test_a_fold_has_the_median_duration_and_the_sum_of_tokens() -> None:
    rows = [span(1, None, 0, 99, "root")]
    rows += [span(10 + index, 1, index * 10, index * 10 + index, "a", tokens=(index, 0)) for index in range(1, 6)]
    fold = SpanTree.build(rows).rows()[1]
    assert (len(fold.items), fold.duration_ns, fold.tokens) == (5, 3 * MS, 15)


def test_depth_and_number_have_no_limit() -> None:
    deep = [span(index, index - 1 or None, index / 1e3, 1e3 - index / 1e3) for index in range(1, 5_001)]
    tree = SpanTree.build(deep)
    assert (tree.nodes[-1].depth, tree.roots[0].spans, len(tree.rows())) == (4_999, 4_999, 5_000)
    assert len(list(tree.nodes[-1].ancestors)) == 4_999

    wide = [span(1, None, 0, 1e4), *(span(index, 1, index, index + 2) for index in range(2, 10_002))]
    assert len(SpanTree.build(wide).rows()) == 10_001


SEVERAL_TRACERS = ["mixed-double-openai.json", "openinference-langchain-and-openai.json", "otel-anthropic-tools.json"]


@pytest.mark.parametrize("name", SEVERAL_TRACERS)
def test_a_call_that_several_tracers_describe_is_one_row_as_in_the_totals(name: str) -> None:
    records = [record_of(one) for one in recorded(name)]
    tree, totals = SpanTree.build(records), summarize(records)
    calls = [row for row in tree.rows() if row.node.record.facts.kind == "llm"]
    assert len(calls) == totals.llm_calls
    assert sum(row.spans for row in tree.rows()) == len(records)


def call_rows(*, traced: bool) -> list[SpanRecord]:
    """A chain whose tracer works with callbacks, so that the client's span is a root or beside it."""
    call: dict[str, Any] = {"kind": "llm", "model": "gpt-4o", "tokens": (10, 5)}
    above = 9 if traced else None
    rows = [
        span(1, above, 0, 9, "chain"),
        span(2, 1, 1, 8, "ChatOpenAI", **call),
        span(3, above, 2, 7, "ChatCompletion", trace=1 if traced else 2, **call),
    ]
    rows[2] = replace(rows[2], scope="client")
    return [span(9, None, 0, 10, "traced"), *rows] if traced else rows


@pytest.mark.parametrize("traced", [False, True], ids=["a root", "beside the chain"])
def test_a_detached_span_of_a_call_is_below_the_call(*, traced: bool) -> None:
    tree = SpanTree.build(call_rows(traced=traced))
    nodes = by_name(tree)
    assert nodes["ChatCompletion"].parent is nodes["ChatOpenAI"]
    assert (len(tree.roots), tree.roots[0].tokens) == (1, 15)
    assert names([row.node for row in tree.rows()])[-2:] == ["chain", "ChatOpenAI"]
    assert tree.title == tree.roots[0].record.name


def test_a_failed_call_is_one_error_at_the_row_of_the_call() -> None:
    wrapped = SpanError("OpenAIRateLimitError", "Error code: 429")
    rows = call_rows(traced=False)
    rows = [replace(row, status="error", error=wrapped) for row in rows[:2]] + [
        replace(rows[2], status="error", error=SpanError("RateLimitError", "Error code: 429"))
    ]
    tree = SpanTree.build(rows)
    assert errors(tree) == {"chain": "propagated", "ChatOpenAI": "uncaught", "ChatCompletion": "propagated"}
    assert names([row.node for row in tree.rows()]) == ["chain", "ChatOpenAI"]


def test_concurrent_calls_get_their_own_spans() -> None:
    rows = []
    for number in range(3):
        call: dict[str, Any] = {"kind": "llm", "model": "gpt-4o", "tokens": (10 + number, 5)}
        rows.append(span(1, None, number, 90 + number, f"chat {number}", trace=10 + number, **call))
        client = span(1, None, 10 + number, 80 - number, f"client {number}", trace=20 + number, **call)
        rows.append(replace(client, scope="client"))
    tree = SpanTree.build(rows)
    assert [(root.record.name, names(root.children)) for root in tree.roots] == [
        (f"chat {number}", [f"client {number}"]) for number in range(3)
    ]


def test_a_moved_span_takes_what_is_below_along_and_stays_visible() -> None:
    rows = [*call_rows(traced=False), span(4, 3, 3, 6, "POST", kind="http", trace=2)]
    tree = SpanTree.build(rows)
    assert [(node.record.name, node.depth) for node in tree.nodes][-2:] == [("ChatCompletion", 2), ("POST", 3)]
    assert names([row.node for row in tree.rows()]) == names(tree.nodes)
