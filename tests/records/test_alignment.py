"""Which span of a run is which one of the run before: a corpus of known edits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hh_jupyter.records.calls import key_of
from hh_jupyter.records.diff import TreeDiff
from hh_jupyter.records.record import SpanDetails, SpanRecord
from hh_jupyter.records.tree import SpanTree
from tests.records import edits
from tests.records.builders import span
from tests.records.edits import EDITS, Program, Step, edited

Edit = Callable[[Step, Program], None]

by_name = pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)


@by_name
def test_the_calls_of_an_edited_program_are_found_and_no_others(edit: Edit) -> None:
    scores = []
    for seed in range(12):
        both = edited(edit, seed)
        scores.append(both.score(both.diff()))
    recalls, precisions = zip(*scores, strict=True)
    assert mean(recalls) >= 0.99, recalls
    assert mean(precisions) >= 0.99, precisions
    assert min(*recalls, *precisions) >= 0.85


@pytest.mark.parametrize(
    ("edit", "only"),
    [
        (edits.retried, "added"),
        (edits.added, "added"),
        (edits.wrapped, "added"),
        (edits.removed, "removed"),
        (edits.unwrapped, "removed"),
        (edits.moved, "moved"),
        (edits.reordered, "moved"),
        (edits.prompts, "changed"),
        (edits.answers, "changed"),
        (edits.renamed_leaf, "changed"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_an_edit_is_called_what_it_is(edit: Edit, only: str) -> None:
    marks: Counter[str] = Counter()
    for seed in range(6):
        marks.update(row.mark for row in edited(edit, seed, 40).diff().rows)
    assert marks[only]
    others = sum(marks[mark] for mark in ("added", "removed", "moved", "changed") if mark != only)
    assert others <= marks[only] / 10


@pytest.mark.parametrize("edit", [edits.unchanged, edits.parallel], ids=lambda edit: edit.__name__)
def test_nothing_differs_when_a_program_runs_again_also_where_parallel_calls_start_in_another_order(edit: Edit) -> None:
    for seed in range(8):
        assert not edited(edit, seed).diff().different


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(EDITS), min_size=1, max_size=4), st.integers(0, 10**6), st.integers(1, 40))
def test_every_span_of_both_runs_is_in_one_row(several: list[Edit], seed: int, size: int) -> None:
    def edit(root: Step, program: Program) -> None:
        for one in several:
            one(root, program)

    both = edited(edit, seed, size)
    rows = both.diff().rows
    for tree, found in (both.old, [row.old for row in rows]), (both.new, [row.new for row in rows]):
        nodes = [node for node in found if node is not None]
        assert sorted(map(id, nodes)) == sorted(map(id, tree.nodes))
    assert [row.new for row in rows if row.new] == list(both.new.nodes)


def chain(depth: int, changed: int) -> SpanTree:
    rows: list[SpanRecord] = []
    for level in range(1, depth + 1):
        name = "changed" if level == changed else f"level {level % 3}"
        rows.append(span(level, level - 1 or None, level, 20_000 - level, name))
    return SpanTree.build(rows)


def test_a_chain_of_thousands_of_calls_needs_no_recursion() -> None:
    diff = TreeDiff(chain(3_000, 0), chain(3_000, 1_500), lambda _: {})
    assert [row.what for row in diff.different] == [("was level 0",)]


def test_of_equal_calls_the_last_one_is_the_one_that_counted() -> None:
    old = [span(1, None, 0, 100, "agent"), span(2, 1, 10, 20, "GET /orders")]
    new = [span(1, None, 0, 100, "agent"), span(2, 1, 10, 20, "GET /orders"), span(3, 1, 30, 40, "GET /orders")]
    diff = TreeDiff(SpanTree.build(old), SpanTree.build(new), lambda _: {})
    assert [(row.mark, row.node.record.span_id) for row in diff.rows] == [("same", 1), ("added", 2), ("same", 3)]


def test_a_call_whose_request_was_edited_is_found_among_others_of_its_name() -> None:
    prompts = ["Plan the steps of the refund for this customer", "Write a friendly reply about the cracked lid"]
    runs = [prompts, [f"{prompt} in two sentences" for prompt in reversed(prompts)]]
    rows = [[span(1, None, 0, 100, "agent", trace=trace), *asks(trace)] for trace in (1, 2)]
    details = {(trace, 1): SpanDetails({}) for trace in (1, 2)}
    details |= {
        (trace, number): SpanDetails({"honeyhive_inputs.q": text})
        for trace, run in enumerate(runs, 1)
        for number, text in enumerate(run, 2)
    }
    diff = TreeDiff(
        SpanTree.build(rows[0]),
        SpanTree.build(rows[1]),
        lambda records: {key_of(one): details[key_of(one)] for one in records},
    )
    pairs = [(row.old.record.span_id, row.new.record.span_id) for row in diff.rows if row.old and row.new]
    assert pairs == [(1, 1), (3, 2), (2, 3)]


def asks(trace: int) -> list[SpanRecord]:
    return [span(number, 1, 10 * number, 10 * number + 5, "ask", kind="llm", trace=trace) for number in (2, 3)]
