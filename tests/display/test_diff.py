"""The words of the bar of a cell that was run again, and the difference of two runs as text and HTML."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from hh_jupyter.display.columns import encode_header
from hh_jupyter.display.delta import RunDelta, run_delta
from hh_jupyter.display.diff import MAX_BYTES, DiffView, diff_html, diff_text
from hh_jupyter.display.html import render
from hh_jupyter.display.text import render as render_text
from hh_jupyter.records.calls import key_of
from hh_jupyter.records.diff import TreeDiff
from hh_jupyter.records.record import SpanDetails, SpanRecord
from hh_jupyter.records.tree import SpanTree
from tests.display.hostile import HOSTILE
from tests.display.rendered import BARE, CONTROLS, TAGS, Page, sanitized, tags_as_text
from tests.display.views import agent_view
from tests.records.builders import UNAVAILABLE, span


def llm(end: float = 100, tokens: tuple[int, int] = (400, 40), cost: float = 0.001, **facts: Any) -> list[SpanRecord]:
    return [span(1, None, 0, end, "ask", kind="llm", tokens=tokens, cost=cost, **facts)]


def diff(
    old: Sequence[SpanRecord], new: Sequence[SpanRecord], texts: Mapping[str, tuple[str, str]] | None = None
) -> TreeDiff:
    """The difference of two runs; the first span has these attributes in the old and the new run."""
    trees = [SpanTree.build(replace(row, trace_id=trace) for row in rows) for trace, rows in ((1, old), (2, new))]
    details = {
        (trace, 1): SpanDetails({key: both[trace - 1] for key, both in (texts or {}).items()}) for trace in (1, 2)
    }
    return TreeDiff(
        trees[0], trees[1], lambda rows: {key_of(row): details.get(key_of(row), SpanDetails({})) for row in rows}
    )


def words(old: Sequence[SpanRecord], new: Sequence[SpanRecord], **texts: tuple[str, str]) -> tuple[str, ...]:
    delta = run_delta(diff(old, new, texts), "run 3 of this cell, 14:02", "%hh diff 4")
    return delta.words if delta is not None else ()


# The bar


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (2840, 2720, ()),  # Less than 10 %.
        (100, 140, ()),  # Less than 50 ms.
        (500, 560, ("+60 ms",)),
        (500, 440, ("-60 ms",)),
        (2000, 3190, ("+1.19 s",)),
    ],
)
def test_a_time_counts_as_changed_from_10_percent_and_50_ms_on(
    before: float, after: float, said: tuple[str, ...]
) -> None:
    assert words(llm(before), llm(after)) == said


def test_tokens_and_cost_count_as_changed_from_one_displayed_digit_on() -> None:
    assert words(llm(), llm(tokens=(401, 40))) == ("+1 token",)
    assert words(llm(cost=0.0091), llm(cost=0.0089)) == ("-$0.0002",)
    assert words(llm(cost=0.00911), llm(cost=0.00912)) == ()


def test_what_is_not_known_of_both_runs_is_not_compared() -> None:
    unknown = [span(1, None, 0, 100, "ask", kind="llm", model="a-model")]
    assert words(unknown, llm(model="a-model")) == ()


def test_what_failed_comes_first() -> None:
    assert words(llm(), llm(400, error=UNAVAILABLE))[0] == "1 call newly failed"
    assert "newly failed" not in " ".join(words(llm(error=UNAVAILABLE), llm(error=UNAVAILABLE)))


def test_calls_are_counted_and_spans_where_no_call_changed() -> None:
    assert words(llm(), llm(), **{"honeyhive_inputs.value": ("a", "b")}) == ("1 call changed",)
    tool = [span(1, None, 0, 100, "get_order", kind="tool")]
    assert words(tool, tool, **{"honeyhive_inputs.value": ("a", "b")}) == ("1 span changed",)
    more = [*llm(), span(2, 1, 10, 20, "other", kind="llm", tokens=(0, 0), cost=0.0)]
    assert words(llm(), more, **{"honeyhive_inputs.value": ("a", "b")}) == ("1 call changed, 1 added",)


DELTA = RunDelta(
    "1 call newly failed", "-120 ms", "+33 tokens", "-$0.0002", "2 calls changed", "run 3 of this cell, 14:02",
    "%hh diff 4",
)  # fmt: skip


def test_every_display_of_a_cell_says_what_changed() -> None:
    view = agent_view(delta=replace(DELTA, failed=""), mode="tree")
    assert "  Δ -120 ms  +33 tokens  -$0.0002  2 calls changed  sent" in render_text(view)
    assert "changes: %hh diff 4" in render_text(view)
    page = render(view)
    assert "Δ\xa0 −120 ms\xa0 +33 tokens\xa0 −$0.0002\xa0 2 calls changed" in page
    assert "%hh diff 4" in page
    assert "Against run 3 of this cell, 14:02" in page
    header = encode_header(view)["delta"]
    assert (header["time"], header["calls"]) == ("−120 ms", "2 calls changed")
    assert header["title"] == "Against run 3 of this cell, 14:02: open the diff (d)"
    assert encode_header(agent_view())["delta"] is None


def test_a_narrow_terminal_keeps_the_calls() -> None:
    line = render_text(agent_view(delta=DELTA), width=90).splitlines()[0]
    assert "Δ 1 call newly failed  2 calls changed" in line
    assert "tokens" not in line.partition("Δ")[2]
    assert "delta 1 call" in render_text(agent_view(delta=DELTA), unicode=False)


# The difference of two runs


def system(text: str) -> str:
    return json.dumps([{"role": "system", "parts": [{"type": "text", "content": text}]}])


PROMPTS = {
    "gen_ai.operation.name": ("chat", "chat"),
    "gen_ai.input.messages": (
        system("Quote the policy you rely on. Be friendly."), system("Quote the policy you rely on by its number.")
    ),
}  # fmt: skip


def view(found: TreeDiff, **changes: Any) -> DiffView:
    return DiffView(found, "run 3, 14:02", "run 4, 14:09", **changes)


def test_the_text_has_counts_and_a_table_of_what_differs() -> None:
    old = [*llm(500), span(2, 1, 10, 20, "get_order", kind="tool"), span(3, 1, 30, 40, "same", kind="tool")]
    new = [*llm(440, tokens=(433, 40)), span(3, 1, 30, 40, "same", kind="tool"), span(4, 1, 50, 60, "check_limit")]
    assert diff_text(view(diff(old, new, PROMPTS))).splitlines() == [
        "≠ ask  500 → 440 ms  $0.0010  440 → 473 tokens  1 changed, 1 added, 1 removed, 1 the same",
        "  run 3, 14:02 → run 4, 14:09",
        "",
        "   Span              Changed     Old     New  Change  Tokens",
        "≠  llm ask           system   500 ms  440 ms  -60 ms     +33",
        "-  tool get_order    removed   10 ms",
        "+  span check_limit  added             10 ms",
    ]


def test_nothing_that_differs_is_said_in_words() -> None:
    found = view(diff(llm(), llm()))
    assert diff_text(found).splitlines()[0] == "= ask  100 ms  $0.0010  440 tokens  1 the same"
    assert "Nothing differs" in diff_html(found)


def test_words_are_shown_from_preview_on() -> None:
    found = diff(llm(), llm(), PROMPTS)
    command = "%hh diff 3 4"
    for render_one in (diff_text, diff_html):
        assert "friendly" not in render_one(view(found, command=command))
        assert f"{command} --detail preview" in render_one(view(found, command=command))
        assert "friendly" in render_one(view(found, command=command, detail="preview"))
    assert "[-on. Be friendly.-] {+on by its number.+}" in diff_text(view(found, detail="full"))


def test_a_table_holds_as_many_rows_as_the_setting_allows_and_counts_the_rest() -> None:
    new = [*llm(), *(span(number, 1, number, number + 1, f"tool {number}") for number in range(2, 400))]
    for render_one in (diff_text, diff_html):
        page = render_one(view(diff(llm(), new), max_rows=7))
        assert "391 more difference" in page
    assert len(diff_html(view(diff(llm(), new), max_rows=10_000)).encode()) <= MAX_BYTES


def test_the_place_where_long_texts_differ_is_shown() -> None:
    texts = {"honeyhive_inputs.value": ("same " * 5_000 + "old end", "same " * 5_000 + "new end")}
    page = diff_html(view(diff(llm(), llm(), texts), detail="preview"))
    assert ">old</b> end" in page
    assert "5,002 → 5,002 words" in page
    assert len(page.encode()) < 10_000
    added = {"honeyhive_inputs.value": ("same " * 5_000, "same " * 5_000 + "new end")}
    assert ">new end</b>" in diff_html(view(diff(llm(), llm(), added), detail="preview"))


@pytest.mark.parametrize("new", ["a  b\nc", "a b c ", "a b c\x01"])
def test_a_difference_that_cannot_be_seen_is_said(new: str) -> None:
    found = view(diff(llm(), llm(), {"honeyhive_inputs.value": ("a b c", new)}), detail="preview")
    for render_one in (diff_text, diff_html):
        assert "only white space or control characters differ" in render_one(found)


def test_a_sanitizer_that_removes_all_styles_leaves_the_marks() -> None:
    found = diff([*llm(), span(2, 1, 10, 20, "gone", kind="tool")], llm(), PROMPTS)
    page = sanitized(diff_html(view(found, detail="preview")))
    assert tags_as_text(page) <= BARE
    assert re.search("<b[^>]*>on. Be friendly.</b>", page)
    assert "removed" in page


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_are_shown_as_text(name: str) -> None:
    bad = HOSTILE[name]
    old = [*llm(), span(2, 1, 10, 20, f"gone {bad[:200]}", kind="tool")]
    new = [*llm(), span(3, 1, 10, 20, f"came {bad[:200]}", kind="llm", model=bad[:200])]
    texts = {"honeyhive_inputs.value": (f"{bad} old", f"new {bad}"), f"honeyhive_inputs.{bad[:100]}": ("1", "2")}
    found = replace(view(diff(old, new, texts), detail="full", command="%hh diff"), old=f"run {bad[:60]}")
    page = diff_html(found)
    parsed = Page(page)
    assert {element for element, _ in parsed.elements} <= TAGS
    assert {name for _, attributes in parsed.elements for name in attributes} <= {
        "align",
        "class",
        "style",
        "title",
        "open",
    }
    assert "\n\n" not in page
    assert not CONTROLS.search(page.replace("\n", ""))
    text = diff_text(found)
    assert not CONTROLS.search(text)
    text.encode()
