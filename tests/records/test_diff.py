"""What changed of a span, in words and texts."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hh_jupyter.records.calls import key_of
from hh_jupyter.records.diff import Piece, TreeDiff, word_pieces
from hh_jupyter.records.record import SpanDetails, SpanError, SpanRecord
from hh_jupyter.records.tree import SpanTree
from tests.records.builders import agent_rows, span

CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "gpt-4.1",
    "gen_ai.request.temperature": 0.7,
}


def messages(*pairs: tuple[str, str]) -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]} for role, text in pairs])


def diff_of(old: Mapping[str, Any], new: Mapping[str, Any], **facts: Any) -> TreeDiff:
    """The difference of two runs of one span with these attributes."""
    runs = span(1, None, 0, 100, "ask", trace=1, **facts), span(1, None, 0, 100, "ask", trace=2, **facts)
    details = {key_of(run): SpanDetails(values) for run, values in zip(runs, (old, new), strict=True)}
    trees = [SpanTree.build([run]) for run in runs]
    return TreeDiff(trees[0], trees[1], lambda records: {key_of(one): details[key_of(one)] for one in records})


def what(old: Mapping[str, Any], new: Mapping[str, Any], **facts: Any) -> tuple[str, ...]:
    return diff_of(old, new, **facts).rows[0].what


def test_a_changed_call_says_which_parts_of_it_changed() -> None:
    tool = {"type": "function", "name": "search", "description": "Find.", "parameters": {}}
    old = {
        **CHAT,
        "gen_ai.input.messages": messages(("system", "Be brief."), ("user", "Hi")),
        "gen_ai.output.messages": messages(("assistant", "Hello")),
    }
    new = {
        **CHAT,
        "gen_ai.request.temperature": 0.2,
        "gen_ai.tool.definitions": json.dumps([tool]),
        "gen_ai.input.messages": messages(("system", "Be very brief."), ("user", "Hi")),
        "gen_ai.output.messages": messages(("assistant", "Hello!")),
    }
    found = diff_of(old, new, kind="llm").changed
    assert [one.what for one in found] == [("temperature", "system", "tools", "answer")]
    texts = {(text.section, text.name): (text.old, text.new) for text in found[0].texts if not text.same}
    assert texts[("Messages", "system")] == ("Be brief.", "Be very brief.")
    assert texts[("Parameters", "temperature")] == ("0.7", "0.2")
    assert ("Messages", "user") not in texts
    assert len(diff_of(old, new, kind="llm").calls("changed")) == 1


def test_an_added_message_does_not_change_those_around_it() -> None:
    old = {**CHAT, "gen_ai.input.messages": messages(("user", "one"), ("assistant", "two"), ("user", "three"))}
    new = messages(("user", "one"), ("assistant", "two"), ("user", "between"), ("assistant", "yes"), ("user", "three"))
    texts = diff_of(old, {**CHAT, "gen_ai.input.messages": new}, kind="llm").changed[0].texts
    assert [(text.name, text.old, text.new) for text in texts if not text.same] == [
        ("user", "", "between"),
        ("assistant", "", "yes"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ({"honeyhive_inputs.city": "Oslo"}, {"honeyhive_inputs.city": "Bergen"}, ("city",)),
        ({"honeyhive_outputs.result": "rain"}, {"honeyhive_outputs.result": "sun"}, ("output",)),
        ({"honeyhive_inputs.city": "Oslo"}, {"honeyhive_inputs.city": "Oslo", "honeyhive_inputs.k": 4}, ("k",)),
        (
            {"openinference.span.kind": "TOOL", "input.value": '{"a": {"x": 1, "y": 2}, "b": 2}'},
            {"openinference.span.kind": "TOOL", "input.value": '{"b": 2,   "a": {"y": 2, "x": 1}}'},
            (),
        ),
        (
            {"openinference.span.kind": "TOOL", "input.value": '{"a": {"x": 1, "y": 2}, "b": 2}'},
            {"openinference.span.kind": "TOOL", "input.value": '{"a": {"x": 1, "y": 3}, "b": 2}'},
            ("a",),
        ),
        (
            {"honeyhive_inputs.o": "<Client object at 0x7f2a01b40>"},
            {"honeyhive_inputs.o": "<Client object at 0x7fe3c0910>"},
            (),
        ),
        ({"honeyhive_inputs.o": "0x12"}, {"honeyhive_inputs.o": "0x13"}, ("o",)),
    ],
)
def test_arguments_are_compared_by_what_they_say(old: dict[str, Any], new: dict[str, Any], words: tuple[str]) -> None:
    assert what(old, new, kind="tool") == words


def test_ids_that_differ_in_every_run_are_no_difference() -> None:
    def run(number: int) -> dict[str, Any]:
        call = {"id": f"call_{number}", "type": "tool_call", "name": "search", "arguments": {"q": "lid"}}
        answer = {"type": "tool_call_response", "id": f"call_{number}", "response": "found"}
        return {
            **CHAT,
            "gen_ai.response.id": f"chatcmpl-{number}",
            "gen_ai.input.messages": json.dumps([{"role": "tool", "parts": [answer]}]),
            "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [call]}]),
        }

    assert what(run(1), run(2), kind="llm") == ()


def failing(*, error: bool) -> SpanTree:
    failed = SpanError("HTTPError", "503") if error else None
    rows = [span(1, None, 0, 100, "agent", error=failed), span(2, 1, 10, 20, "refund", kind="tool", error=failed)]
    return SpanTree.build(rows)


def test_a_call_that_failed_before_has_not_newly_failed() -> None:
    def names(old: SpanTree, new: SpanTree) -> list[str]:
        return [row.name for row in TreeDiff(old, new, lambda _: {}).newly_failed]

    assert names(failing(error=False), failing(error=True)) == ["refund"]
    assert names(failing(error=True), failing(error=True)) == []
    assert names(failing(error=True), failing(error=False)) == []
    fixed = TreeDiff(failing(error=True), failing(error=False), lambda _: {})
    assert [row.what for row in fixed.changed] == [("no longer failed",), ("no longer failed",)]


def test_a_call_that_was_moved_says_from_where() -> None:
    def run(*names: str) -> SpanTree:
        steps = [span(place, 1, place * 10, place * 10 + 5, name, kind="tool") for place, name in enumerate(names, 2)]
        return SpanTree.build([span(1, None, 0, 100, "agent"), *steps])

    diff = TreeDiff(run("a", "b", "c"), run("c", "a", "b"), lambda _: {})
    assert [(row.name, row.what) for row in diff.moved] == [("c", ("moved, was third",))]


def test_spans_without_details_are_compared_by_their_facts_and_counted() -> None:
    rows: list[SpanRecord] = agent_rows(failing=False)
    diff = TreeDiff(SpanTree.build(rows), SpanTree.build(rows), lambda _: {})
    assert not diff.different
    assert diff.not_compared == len(rows)


# Words


def test_a_lone_equal_word_between_two_changes_joins_them() -> None:
    old, new = "Quote the policy on its page and stop now please", "Quote the policy by its number and stop now thanks"
    assert word_pieces(old, new) == [
        Piece("Quote the policy ", "Quote the policy "),
        Piece("on its page ", "by its number "),
        Piece("and stop now ", "and stop now "),
        Piece("please", "thanks"),
    ]


def test_white_space_alone_is_no_change_of_words() -> None:
    assert all(piece.same for piece in word_pieces("one two\nthree", "one  two three"))


@given(st.text(alphabet="ab \n\t", max_size=60), st.text(alphabet="ab \n\t", max_size=60))
def test_the_pieces_are_the_texts(old: str, new: str) -> None:
    pieces = word_pieces(old, new)
    assert ("".join(piece.old for piece in pieces), "".join(piece.new for piece in pieces)) == (old, new)
    assert all(one.same != other.same for one, other in pairwise(pieces))


def test_a_long_text_is_compared_by_lines_first() -> None:
    lines = [f"line {number} says something else" for number in range(2_000)]
    other = [*lines[:1_000], "line 1000 says nothing at all", *lines[1_001:]]
    pieces = word_pieces("\n".join(lines), "\n".join(other))
    assert [piece for piece in pieces if not piece.same] == [Piece("something else\n", "nothing at all\n")]


@pytest.mark.parametrize("words", [["a "], ["a ", "b "], ["a\n", "b\n", "c "]])
def test_texts_of_few_words_repeated_are_not_compared_word_by_word(words: list[str]) -> None:
    """It would take quadratic time."""
    chance = random.Random(1)
    old, new = (start + "".join(chance.choices(words, k=3_900)) + end for start, end in ("xy", "zw"))
    assert word_pieces(old, new) == [Piece(old, new)]


def test_thousands_of_equal_messages_end_soon() -> None:
    old = {**CHAT, "gen_ai.input.messages": messages(*[("user", "same")] * 4_000)}
    new = {**CHAT, "gen_ai.input.messages": messages(("user", "other"), *[("user", "same")] * 3_000, ("user", "end"))}
    assert diff_of(old, new, kind="llm").changed[0].what == ("user",)


def test_a_changed_status_is_said_as_what_happened() -> None:
    """Rather than as a text that differs."""
    runs = [span(1, None, 0, 1, "step", trace=trace, error=error) for trace, error in ((1, None), (2, FAILED))]
    details = {key_of(run): SpanDetails({}) for run in runs}
    fine, failed = (SpanTree.build([run]) for run in runs)
    for old, new, words in (failed, fine, ("no longer failed",)), (fine, failed, ("failed",)), (failed, failed, ()):
        assert TreeDiff(old, new, lambda records: details).rows[0].what == words


FAILED = SpanError("ValueError", "no")
