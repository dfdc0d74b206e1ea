"""Which session, run or cell is meant."""

from __future__ import annotations

import pytest

from hh_jupyter.records.selection import (
    Candidate,
    SelectionError,
    cell_number,
    cell_of,
    choose,
    derived_id,
    latest_run,
    matching,
    no_run,
    run_key,
    run_of_variant,
    runs_until,
    steps_back,
    variant_key,
)

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


def test_a_session_is_meant_by_the_text_from_which_its_id_was_derived() -> None:
    own = Candidate(derived_id("customer-42"), ("chat", "chat"))
    assert matching("customer-42", [*KNOWN, own]) == [own]
    assert choose("customer-42", [*KNOWN, own], str) == [own]
    assert matching("customer-4", [*KNOWN, own]) == []
    assert matching("\ud800", [own]) == [], "text that is not valid Unicode has an id, too"


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


# Going back


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("4~2", ("4", 2)),
        ("4~", ("4", 1)),
        ("last~1", ("last", 1)),
        ("4~0", ("4", 0)),
        ("two words~3", ("two words", 3)),
        ("a~1~2", ("a~1", 2)),
        ("4", ("4", 0)),
        ("~1", ("~1", 0)),
        ("4~x", ("4~x", 0)),
        ("~/trace.jsonl", ("~/trace.jsonl", 0)),
        ("4~99999", ("4~99999", 0)),
    ],
)
def test_a_tilde_and_a_number_go_back(text: str, parts: tuple[str, int]) -> None:
    assert steps_back(text) == parts


def test_a_run_before_is_one_of_the_same_cell() -> None:
    runs = [run_key("1", "abc"), run_key("2", "other"), run_key("3", "abc"), run_key("4", None)]
    assert [latest_run(text, runs) for text in ("3", "3~1", "3~", "last", "3~2", "2~1", "4~1")] == [
        runs[2], runs[0], runs[0], runs[3], None, None, None,
    ]  # fmt: skip
    assert [cell_number(run) for run in runs] == ["1", "2", "3", "4"]
    assert cell_of(runs[0]) == cell_of(runs[2]) != cell_of(runs[1])
    assert cell_of(runs[3]) == ""


def test_the_session_before_is_one_of_the_same_name() -> None:
    found = [choose(text, KNOWN, str) for text in ("refund~1", "refund #2~1", "91312378~", "refund~0")]
    assert found == [[KNOWN[0]], [KNOWN[0]], [KNOWN[0]], [KNOWN[1]]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("refund~2", "no session refund~2: there is one earlier session of this name."),
        ("abcd~1", "no session abcd~1: there is no earlier session of this name."),
        ("refnd~1", "no session refnd. Did you mean refund?"),
    ],
)
def test_a_step_too_far_back_says_how_many_there_are(text: str, message: str) -> None:
    with pytest.raises(SelectionError) as caught:
        choose(text, KNOWN, str)
    assert str(caught.value) == message


def test_a_title_with_a_tilde_is_a_title_first() -> None:
    odd = Candidate("dddd0000-0000-4000-8000-000000000006", ("refund~1", "refund~1"))
    assert choose("refund~1", [*KNOWN, odd], str) == [odd]


def test_the_message_about_an_unknown_run_lists_the_known_ones() -> None:
    assert no_run("4~5", 3) == "no run 4~5. Known: 4, 4~1, 4~2."
    assert no_run("4~30", 20) == "no run 4~30. Known: 4, 4~1, ..., 4~19."
    assert no_run("4~1", 1) == "no run 4~1: the cell was run once with spans."


def test_a_call_that_was_made_again_is_no_run_of_its_cell() -> None:
    first, second = run_key("4", "a"), run_key("5", "a")
    keys = [first, variant_key(first, 1), second, variant_key(second, 1), variant_key(first, 2)]
    assert latest_run("last", keys) == latest_run(5, keys) == second
    assert latest_run(4, keys) == latest_run("5~1", keys) == first
    assert runs_until(second, keys) == [first, second]
    assert [run_of_variant(key) for key in keys] == [None, first, None, second, first]
    assert [cell_number(key) for key in keys] == ["4", "4", "5", "5", "4"]
