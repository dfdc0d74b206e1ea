"""The content of spans is in an output only on request: bounded, in the order of the spans, as plain text."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from hh_jupyter.conventions import describe
from hh_jupyter.display import html, text
from hh_jupyter.display.content import CONTENT_LIMITS, ContentBlock, collect_content, span_details
from hh_jupyter.display.view import CellView
from hh_jupyter.records.record import SpanDetails
from hh_jupyter.records.tree import SpanTree
from tests.browser.sample_cells import (
    ANSWER,
    QUESTION,
    SYSTEM,
    Cell,
    conversation,
    exchange,
    many,
    one_call,
    support_agent,
)
from tests.display.hostile import HOSTILE
from tests.display.rendered import CONTROLS, Page
from tests.display.states import with_content


def content_of(cell: Cell, detail: str) -> tuple[tuple[ContentBlock, ...], int]:
    view = with_content(cell, cell.view("hh-1", "4"), detail)  # type: ignore[arg-type]
    return view.content, view.content_omitted


def requested(cell: Cell, detail: str = "full", **changes: object) -> CellView:
    view = cell.view("hh-1", "4", mode="tree", content_requested=True, **changes)
    return with_content(cell, view, detail)  # type: ignore[arg-type]


@pytest.mark.parametrize("shown", [support_agent(1), support_agent(1, fails=True), one_call(2)])
def test_a_summary_contains_no_message_input_or_output(shown: Cell) -> None:
    """Notebooks are committed and mailed."""
    view = with_content(shown, shown.view("hh-1", "4", mode="tree", raised=True), "summary")
    page = html.render(view) + text.render(view)
    for secret in (QUESTION, SYSTEM, ANSWER, "cracked", "48213,", "idempotency", "damaged", "refund_id", "call_7Qa"):
        assert secret not in page
    assert view.content == ()
    assert "Messages: " in Page(html.render(view)).text[-1]
    assert Page(html.render(view)).text[-1].endswith(": %hh show 4 --detail full")


def test_a_question_in_messages_and_an_answer_as_a_value_are_both_shown() -> None:
    """OpenInference records agents and chains like this."""
    attributes = {
        "openinference.span.kind": "AGENT",
        "llm.input_messages.0.message.role": "user",
        "llm.input_messages.0.message.content": "Where is my order?",
        "output.value": "It arrives tomorrow.",
    }
    details = SpanDetails(attributes=attributes)
    record = replace(one_call(2).records[0], facts=describe("agent", attributes, (), 0))
    shown = span_details(record, details)
    assert [message["text"] for message in shown["messages"]] == ["Where is my order?"]
    assert (shown.get("input"), shown["output"]) == (None, "It arrives tomorrow.")
    content, _ = collect_content(SpanTree.build([record]), "full", lambda _: details)
    assert [(part.label, part.text) for part in content[0].parts] == [
        ("user", "Where is my order?"),
        ("output", "It arrives tomorrow."),
    ]


def test_a_preview_shows_model_calls_and_failed_spans() -> None:
    content, omitted = content_of(support_agent(1, fails=True), "preview")
    assert [(one.heading, one.name) for one in content] == [
        ("Messages", "plan"),
        ("Messages", "decide"),
        ("Error", "POST /refunds"),
    ]
    assert omitted == 0
    plan, decide, failed = content
    assert [part.label for part in plan.parts] == ["system", "user", "assistant"]
    assert plan.parts[1].text == QUESTION
    assert plan.parts[2].text == 'get_order({"order_id": 48213})  call_7Qa'
    assert decide.parts[3].label == "tool get_order"
    assert [part.label for part in failed.parts] == ["error", "input"]
    assert failed.parts[0].text.startswith("HTTPError: 503 Service Unavailable")
    assert "payments.py:41  in post_refund" in failed.parts[0].text
    assert "site-packages" not in failed.parts[0].text


def test_without_model_calls_a_preview_shows_the_roots() -> None:
    cell = Cell(1)
    root = cell.add("chain", "outer", 0, 9, attributes=exchange({"q": 1}, "done"))
    cell.add("tool", "inner", 1, 2, parent=root, attributes=exchange({"q": 2}))
    content, _ = content_of(cell, "preview")
    assert [(one.name, [(p.label, p.text) for p in one.parts]) for one in content] == [
        ("outer", [("input", '{"q": 1}'), ("output", "done")])
    ]


def test_cut_values_of_a_preview_show_their_full_length() -> None:
    cell = Cell(1)
    long = {"role": "user", "content": "ü" * 5_000}
    cell.add(
        "llm", "chat", 0, 9, model="m", attributes=conversation(*[long] * 7, {"role": "assistant", "content": "!"})
    )
    (one,), _ = content_of(cell, "preview")
    assert one.parts[0].text == "ü" * 1_000 + "… (5,000 characters)"
    assert one.size <= CONTENT_LIMITS["preview"].span_bytes + 100
    (whole,), _ = content_of(cell, "full")
    assert [part.text for part in whole.parts] == ["ü" * 5_000] * 7 + ["!"]


@pytest.mark.parametrize("detail", ["preview", "full"])
def test_failed_spans_take_precedence_and_omitted_spans_are_counted(detail: str) -> None:
    cell = many(1, examples=300)
    for record in cell.records:
        if record.facts.kind == "llm":
            key = f"{record.span_id:016x}"
            attributes = conversation({"role": "user", "content": record.name}, {"role": "assistant", "content": "x"})
            cell.details[key] = replace(cell.details[key], attributes=attributes)
    failing = cell.add("llm", "late failure", 1e6, 2e6, parent=cell.records[0].span_id, error=cell.records[0].error)
    content, omitted = content_of(cell, detail)
    assert len(content) == CONTENT_LIMITS[detail].spans
    assert content[-1].name == "late failure"
    assert failing == cell.records[-1].span_id
    assert omitted > 0
    assert sum(one.size for one in content) <= CONTENT_LIMITS[detail].total_bytes


def test_evicted_details_are_reported_as_no_longer_in_memory() -> None:
    content, _ = collect_content(one_call(1).view("v", "1").tree, "full", lambda record: None)
    assert [(one.heading, one.parts[0].text) for one in content] == [("Details", "no longer in memory")]


def test_html_folds_the_content_of_each_span_unless_there_is_only_one() -> None:
    def opened(view: CellView) -> list[bool]:
        return ["open" in attributes for tag, attributes in Page(html.render(view)).elements if tag == "details"]

    assert opened(requested(support_agent(1, fails=True), "preview")) == [True, False, False, False]
    assert opened(requested(one_call(1))) == [True, True]


def test_content_is_readable_without_styles() -> None:
    lines = "\n".join(Page(html.render(requested(one_call(1)))).text)
    assert "Messages: chat gpt-4.1-mini" in lines
    assert "user Explain idempotency keys in one sentence. <img src=x onerror=alert(1)>" in lines


def test_html_has_no_empty_line_which_would_end_html_in_markdown() -> None:
    cell = Cell(1)
    text_of = "one\n\n\n![x](https://evil.example/x.png)\n\n# two"
    cell.add("llm", "chat", 0, 9, attributes=conversation({"role": "user", "content": text_of}, {"role": "assistant"}))
    page = html.render(requested(cell))
    assert not re.search(r"\n\s*\n", page)
    assert "one&#10;&#10;&#10;![x](https://evil.example/x.png)" in page


def test_terminals_show_requested_content_wrapped() -> None:
    shown = text.render(requested(one_call(1)), width=60)
    assert shown.partition("\n\nMessages")[2].splitlines() == [
        ": chat gpt-4.1-mini",
        "  user",
        "    Explain idempotency keys in one sentence. <img src=x",
        "    onerror=alert(1)>",
        "  assistant",
        "    An idempotency key is a unique token sent with a request",
        "    so that the server can recognise a retry and return the",
        "    first result instead of acting twice.",
        "",
        "session refund-triage",
    ]


def test_text_without_requested_content_stays_short() -> None:
    shown = replace(requested(support_agent(1, fails=True), "full"), content_requested=False)
    assert len(text.render(shown).encode()) <= 4_000
    assert QUESTION not in text.render(shown)


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_hostile_messages_are_text(value: str) -> None:
    def page(value: str) -> Page:
        cell = Cell(1)
        messages = conversation({"role": value, "content": value}, {"role": "assistant", "content": value}, model=value)
        cell.add("llm", value, 0, 9, attributes=messages | exchange({value: value}))
        shown = requested(cell)
        drawn = text.render(shown)
        assert not CONTROLS.search(drawn)
        assert not re.search(r"\n\s*\n", html.render(shown))
        return Page(html.render(shown))

    def shape(page: Page) -> set[tuple[str, ...]]:
        return {(tag, *sorted(attributes)) for tag, attributes in page.elements}

    assert shape(page(value)) <= shape(page("x"))
