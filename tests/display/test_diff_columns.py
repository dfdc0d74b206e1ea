"""A difference as the page gets it: columns of the rows, and the texts of a span on demand, all as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hh_jupyter.display.diff import DiffView
from hh_jupyter.display.diff_columns import encode_change, encode_diff, encode_pieces
from hh_jupyter.records.diff import SpanChange, TreeDiff
from hh_jupyter.records.record import SpanDetails
from hh_jupyter.records.tree import SpanTree
from tests.browser.compared_runs import compared, refund_agent
from tests.browser.sample_cells import Cell, conversation


def diff_of(old: Cell, new: Cell, *, lost: bool = False) -> TreeDiff:
    kept = {one.span_id: cell.details[f"{one.span_id:016x}"] for cell in (old, new) for one in cell.records}
    trees = SpanTree.build(old.records), SpanTree.build(new.records)
    return TreeDiff(
        *trees, lambda rows: {} if lost else {(row.trace_id, row.span_id): kept[row.span_id] for row in rows}
    )


def encoded(old: Cell, new: Cell) -> dict[str, Any]:
    return json.loads(json.dumps(encode_diff(DiffView(diff_of(old, new), "run 3", "run 4")), allow_nan=False))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def edited() -> TreeDiff:
    return diff_of(refund_agent(1, "old"), refund_agent(2, "new"))


def row_of(diff: TreeDiff, name: str) -> SpanChange:
    return next(row for row in diff.rows if row.name == name)


def section(change: dict[str, Any], title: str) -> list[dict[str, Any]]:
    return next(one["texts"] for one in change["sections"] if one["title"] == title)


def test_rows_have_marks_times_and_words() -> None:
    sent = encoded(refund_agent(1, "old"), refund_agent(2, "new"))
    names = [sent["names"][index] for index in sent["name"]]
    rows = list(zip(sent["marks"], names, sent["old_ms"], sent["new_ms"], sent["tokens"], strict=True))
    assert rows[0] == (" ", "support_agent", 2840, 2720, 33)
    assert rows[-1] == ("≠", "write_reply", 787, 762, 25)
    assert ("+", "check_limit", None, 41, None) in rows
    assert ("−", "GET /orders/48213", 121, None, None) in rows
    assert sent["what"][str(len(rows) - 1)] == "max_tokens, temperature, system, tools, answer"
    assert [names[index] for index in sent["slower"]] == ["GET /orders/48213", "decide"]
    assert sent["counts"] == "2 changed, 1 added, 1 removed, 19 the same"
    assert sent["facts"][2] == "5,710 → 5,743 tokens"


def test_a_changed_span_has_its_texts_as_pieces(edited: TreeDiff) -> None:
    change = encode_change(row_of(edited, "write_reply"))
    assert change["facts"] == [
        ("787 → 762 ms", "−25 ms"), ("1,990 → 2,055 in", ""), ("92 → 52 out", ""), ("$0.0047 → $0.0045", "−$0.0002"),
    ]  # fmt: skip
    parameters = section(change, "Parameters")
    assert [one["pieces"] for one in parameters if "pieces" in one] == [[["400", "160"]], [["0.7", "0.2"]]]
    system, *others = section(change, "Messages")
    assert system["name"] == "system"
    assert system["lengths"] == "28 → 30 words"
    assert system["pieces"][0].endswith("Quote the policy you rely ")
    assert system["pieces"][1][1].startswith("on by its number.")
    assert [sorted(one) for one in others] == [["name", "text"]] * 3
    assert section(change, "Tools")[1]["lengths"] == "5 words"


def test_a_span_of_one_run_has_its_texts_as_they_are(edited: TreeDiff) -> None:
    change = encode_change(row_of(edited, "check_limit"))
    assert change["facts"] == [("41 ms", "")]
    assert [one["texts"] for one in change["sections"]] == [
        [{"name": "amount", "text": "34.0"}], [{"name": "allowed", "text": "true"}],
    ]  # fmt: skip


def test_content_that_is_no_longer_kept_is_missing() -> None:
    lost = diff_of(refund_agent(1, "old"), refund_agent(2, "new"), lost=True)
    sent = encode_diff(DiffView(lost, "run 3", "run 4"))
    assert sent["notes"] == ["21 spans compared without messages, inputs and outputs: they are no longer kept"]
    change = encode_change(row_of(lost, "write_reply"))
    assert (change["compared"], change["sections"]) == (False, [])


@pytest.mark.parametrize(
    ("old", "new", "pieces"),
    [
        ("one two three", "one two three", ["one two three"]),
        ("one two three", "one 2 three", ["one ", ["two ", "2 "], "three"]),
        ("one  two", "one two", [["one  two", "one two", True]]),
        ("", "new", [["", "new"]]),
    ],
)
def test_pieces_add_up_to_both_texts(old: str, new: str, pieces: list[Any]) -> None:
    found = encode_pieces(old, new)
    assert found == pieces
    assert "".join(one if isinstance(one, str) else str(one[0]) for one in found) == old
    assert "".join(one if isinstance(one, str) else str(one[1]) for one in found) == new


def test_long_odd_and_binary_texts_are_bounded_and_valid() -> None:
    """Half a megabyte of words, a lone surrogate, a picture in base64."""
    cells = []
    for number, word in enumerate(("old", "new"), start=1):
        cell = Cell(number)
        picture = "data:image/png;base64," + "iVBORw0KGgo" * 4_000
        text = f"{word} \ud800 " + "word " * 100_000
        messages = conversation({"role": "user", "content": text}, {"role": "assistant", "content": picture + word})
        cell.add("llm", "chat", 0, 10, attributes=messages)
        cells.append(cell)
    (row,) = diff_of(*cells).rows
    sent = json.dumps(encode_change(row), allow_nan=False)
    assert len(sent.encode()) < 300_000
    assert "iVBORw0KGgoiVBORw0KGgo" not in sent
    json.dumps(encode_change(row), ensure_ascii=False).encode()


def test_every_span_of_the_hostile_corpus_is_sent() -> None:
    (_, old), (_, new) = compared("hostile")
    diff = diff_of(old, new)
    sent = encoded(old, new)
    assert len(sent["marks"]) == len(diff.rows)
    for row in diff.rows:
        json.dumps(encode_change(row), ensure_ascii=False, allow_nan=False).encode()


def test_a_span_without_details_is_sent() -> None:
    cell = Cell(1)
    cell.add("tool", "look", 0, 10)
    cell.details = {key: SpanDetails(attributes={}) for key in cell.details}
    change = encode_change(diff_of(cell, cell).rows[0])
    assert (change["facts"], change["sections"]) == ([("10 ms", "")], [])
