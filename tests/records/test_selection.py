"""Which session, run or cell is meant."""

from __future__ import annotations

import pytest

from hh_jupyter.records.selection import Candidate, SelectionError, choose, latest_run, matching

KNOWN = [
    Candidate("91312377-0000-4000-8000-000000000001", ("refund", "refund")),
    Candidate("91312378-0000-4000-8000-000000000002", ("refund #2", "refund")),
    Candidate("abcd0000-0000-4000-8000-000000000003", ("two words", "two words")),
    Candidate("beef0000-0000-4000-8000-000000000004", ("abcd", "abcd")),
    Candidate("cafe0000-0000-4000-8000-000000000005", ("-", "-")),
]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("refund #2", [2]),
        ("refund", [1, 2]),
        ("refund #1", [1]),
        ("two words", [3]),
        ("abcd", [4]),
        ("abcd0", [3]),
        ("ABCD0", [3]),
        ("91312378", [2]),
        ("9131", [1, 2]),
        ("91312377-0000-4000-8000-000000000001", [1]),
        ("913", []),
        ("refund #3", []),
        ("", []),
    ],
)
def test_a_title_or_name_is_meant_before_the_beginning_of_an_id(text: str, numbers: list[int]) -> None:
    assert [int(one.id[-1]) for one in matching(text, KNOWN)] == numbers


@pytest.mark.parametrize(
    ("text", "known", "message"),
    [
        ("refnd", KNOWN, "no session refnd. Did you mean refund?"),
        ("x", KNOWN, "no session x. Known: refund, refund #2, two words, abcd."),
        ("x", [], "no session x. This kernel has no sessions with spans yet."),
        ("9131", KNOWN, f"ambiguous session id prefix 9131 (2 matches): {KNOWN[0].id}, {KNOWN[1].id}."),
    ],
)
def test_a_mistake_names_what_is_near(text: str, known: list[Candidate], message: str) -> None:
    with pytest.raises(SelectionError) as caught:
        choose(text, known, str)
    assert str(caught.value) == message


def test_titles_in_a_message_are_made_fit_for_it() -> None:
    with pytest.raises(SelectionError, match="Known: RED"):
        choose("x", [Candidate("1", ("red",))], str.upper)


def test_a_cell_is_its_latest_run() -> None:
    runs = ["4-a", "5-b", "4-c", "14-d"]
    assert [latest_run(cell, runs) for cell in (4, "4", "last", "5", 6, "1", "4-a")] == [
        "4-c", "4-c", "14-d", "5-b", None, None, None,
    ]  # fmt: skip
    assert latest_run("last", []) is None
