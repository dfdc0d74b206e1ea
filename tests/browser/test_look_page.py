"""Searching contents, previews in rows, details that take more room, feedback, on the page of sample cells."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.accessibility import NARROW, WIDE, violations
from tests.browser.harness import Harness
from tests.browser.inert import OURS, elements, handlers
from tests.browser.sample_again import ARRIVING, ENDED, FAILED, sample_request

pytestmark = pytest.mark.slow


@pytest.fixture
def chat(open_cells: Callable[..., Page]) -> Page:
    """A page with a retrieval and a long chat."""
    return open_cells("chat")


def labels(page: Page) -> list[str]:
    """The first part of the labels of the rows."""
    rows = page.get_by_role("treeitem").evaluate_all("rows => rows.map(row => row.ariaLabel)")
    return [str(row).split(",")[0] for row in rows]


def search(page: Page, text: str) -> Locator:
    """Search, and wait for the kernel's answer."""
    field = page.get_by_role("searchbox").first
    field.fill(text)
    expect(page.locator(".hh-shown")).to_contain_text("hit")
    return field


def test_a_search_finds_contents_and_leaves_out_rows_without_a_hit(open_cells: Callable[..., Page]) -> None:
    """The spans above a hit stay; the way back shows the others, and their number of hits stays, too."""
    page = open_cells("agent")
    field = search(page, "damaged_on_arrival")
    expect(page.locator(".hh-shown")).to_have_text("3 hits in 3 of 21 spans")
    assert labels(page) == ["Agent support_agent", "LLM decide", "Tool issue_refund", "LLM write_reply"]
    expect(page.locator(".hh-hits")).to_have_text(["1", "1", "1"])
    expect(page.get_by_role("treeitem", name="LLM decide")).to_have_accessible_name(re.compile("1 hit$"))
    expect(field).to_be_focused()
    page.get_by_role("button", name="Show the 17 spans without a hit").click()
    assert len(labels(page)) == 10
    expect(page.locator(".hh-hits")).to_have_text(["1", "1", "1"])
    page.get_by_role("button", name="Show only the spans with").click()
    assert len(labels(page)) == 4
    field.fill("")
    assert len(labels(page)) == 10
    expect(page.locator(".hh-hits")).to_have_count(0)


def test_enter_goes_through_the_hits_of_all_spans(open_cells: Callable[..., Page]) -> None:
    """The current one is framed and in sight; Shift goes back; after the last one the first comes again."""
    page = open_cells("agent")
    field = search(page, "check the limit")
    expect(page.locator(".hh-shown")).to_have_text("0 hits in 0 of 21 spans")
    field = search(page, "qualifies")
    expect(page.locator(".hh-shown")).to_have_text("2 hits in 2 of 21 spans")
    current, row = page.locator("mark.hh-current"), page.locator("[role=treeitem][aria-selected=true] .hh-name")
    expect(current).to_have_count(0)
    for key, name in (
        ("Enter", "write_reply"),
        ("Enter", "decide"),
        ("Shift+Enter", "write_reply"),
        ("Enter", "decide"),
    ):
        field.press(key)
        expect(row).to_have_text(name)
        expect(current).to_have_text("qualifies")
        expect(current).to_be_in_viewport()
        expect(field).to_be_focused()


def test_the_first_tab_with_a_hit_opens(chat: Page) -> None:
    """Also one that only has attributes; what hides a hit unfolds when the search reaches it."""
    field = search(chat, "parcels and payments")
    expect(chat.get_by_role("tab", selected=True)).to_have_text("Request")
    expect(chat.get_by_role("tabpanel").locator("mark")).to_have_text("parcels and payments")
    field = search(chat, "customer_tier")
    expect(chat.get_by_role("tab", selected=True)).to_have_text("Attributes")
    field = search(chat, "question 0")
    expect(chat.get_by_role("button", name="6 earlier messages, 1 hit")).to_have_attribute("aria-expanded", "false")
    field.press("Enter")
    expect(chat.locator("mark.hh-current")).to_be_visible()
    field = search(chat, "name the policy")
    field.press("Enter")
    expect(chat.locator(".hh-clamp")).to_have_attribute("aria-expanded", "true")


def test_hits_are_marked_in_names_and_previews(chat: Page) -> None:
    search(chat, "SEARCH_policy")
    row = chat.get_by_role("treeitem", name="search_policy")
    expect(row.locator(".hh-name mark")).to_have_text("search_policy")
    search(chat, "cracked lid REFUND")
    expect(row.locator(".hh-args mark")).to_have_text("cracked lid refund")


def test_a_search_without_a_kernel_says_so(chat: Page) -> None:
    """Names are still searched, in the page."""
    chat.evaluate("""() => {
        const send = window.model.send;
        window.model.send = (message) => message.type === "search"
          ? window.model.tell({ type: "answer", number: message.number, value: null })
          : send.call(window.model, message);
    }""")
    chat.get_by_role("searchbox").first.fill("search_pol")
    expect(chat.locator(".hh-shown")).to_have_text("2 of 3 shown, only names were searched")


def test_rows_preview_arguments_answers_and_questions(open_cells: Callable[..., Page]) -> None:
    page = open_cells("agent")
    shown = page.locator(".hh-args")
    expect(shown.first).to_be_visible()
    texts = shown.evaluate_all("all => all.map(one => one.title)")
    assert texts == [
        '"Hi, order 48213 arrived with a cracked lid. Can I get m…"',
        "→ get_order",
        'query="damaged item refund window" k=4',
        "k=4",
        "order_id=48213",
        "→ issue_refund",
        "order_id=48213 amount_usd=34.0 reason=damaged_on_arrival",
        '→ "Sorry about the cracked lid. I have refunded $34.00 to…"',
    ]
    expect(page.get_by_role("treeitem", name="plan").locator(".hh-model")).to_be_hidden()


def test_previews_are_requested_for_the_rows_in_sight_only(open_cells: Callable[..., Page]) -> None:
    page = open_cells("big")
    page.wait_for_function("window.asked.some(message => message.type === 'previews')")
    page.locator(".hh-row", has_text="×402").locator(".hh-twisty").click()
    page.get_by_role("tree").focus()
    for _ in range(8):
        page.keyboard.press("PageDown")
    page.wait_for_timeout(200)
    asked = page.evaluate("window.asked.filter(message => message.type === 'previews').map(one => one.spans.length)")
    assert max(asked) <= 60
    assert sum(asked) < 300


def test_wide_details_show_the_request_beside_the_messages(chat: Page) -> None:
    """The tree is a rail of names and times; the same key goes back."""
    tree, pane = chat.get_by_role("tree"), chat.locator(".hh-right")
    before = pane.bounding_box()
    tree.press("w")
    after = pane.bounding_box()
    assert before is not None
    assert after is not None
    assert after["width"] > 1.5 * before["width"]
    expect(chat.get_by_role("button", name="Wide details")).to_have_attribute("aria-pressed", "true")
    expect(chat.get_by_role("tab")).to_have_text(["Messages", "Attributes"])
    expect(chat.get_by_role("tabpanel")).to_contain_text("max_tokens160")
    expect(chat.get_by_role("treeitem", name="write_reply")).to_have_text(re.compile("write_reply.*762 ms"))
    expect(chat.locator(".hh-strip")).to_have_count(0)
    tree.press("w")
    expect(chat.get_by_role("tab")).to_have_text(["Messages", "Request", "Attributes"])
    assert chat.locator(".hh-strip").count() > 0


def test_the_whole_screen_is_a_modal_dialog_that_escape_closes(chat: Page) -> None:
    """The focus stays where it was; Escape in the details goes to the tree first."""
    tree = chat.get_by_role("tree")
    tree.press("f")
    dialog = chat.get_by_role("dialog")
    box = dialog.bounding_box()
    assert box is not None
    assert box["width"] > 900
    expect(tree).to_be_focused()
    assert chat.evaluate("document.querySelector('dialog').matches(':modal')")
    tree.press("Enter")
    expect(chat.get_by_role("tab", selected=True)).to_be_focused()
    chat.keyboard.press("Escape")
    expect(tree).to_be_focused()
    chat.keyboard.press("/")
    chat.keyboard.press("Escape")
    expect(dialog).to_be_visible()
    chat.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(tree).to_be_focused()
    expect(chat.locator(".hh-output > .hh-view")).to_be_visible()


def test_an_update_leaves_the_whole_screen_as_it_is(chat: Page) -> None:
    """The output is replaced while the view fills the screen; then the kernel dies."""
    chat.get_by_role("tree").press("f")
    chat.evaluate("""() => {
        const old = document.querySelector(".hh-output"), html = old.cloneNode(true);
        html.querySelectorAll("dialog").forEach(one => one.remove());
        html.classList.remove("hh-live");
        old.replaceWith(html);
    }""")
    expect(chat.locator(".hh-output dialog .hh-view")).to_be_visible()
    assert chat.evaluate("document.querySelector('dialog').matches(':modal')")
    chat.evaluate("() => window.stopHub()")
    expect(chat.get_by_role("dialog")).to_have_count(0)
    expect(chat.locator(".hh-output table")).to_be_visible()


def test_a_long_chat_opens_at_its_newest_messages(chat: Page) -> None:
    """Below the system prompt, whose lines stay lines; one message can be copied."""
    panel = chat.get_by_role("tabpanel")
    newest = ["system", "user", "assistant", "user", "assistant"]
    expect(panel.locator(".hh-message:visible .hh-role")).to_have_text(newest)
    expect(panel).to_contain_text('"cracked": true')
    chat.get_by_role("button", name="6 earlier messages").click()
    expect(panel.get_by_text("Question 0: is the lid 0 cracked?")).to_be_visible()
    chat.locator(".hh-clamp").click()
    assert "\n1. Be brief.\n2. Name the policy." in panel.locator(".hh-role-system .hh-content").inner_text()
    chat.evaluate("() => { navigator.clipboard.writeText = async (text) => { window.copied = text; }; }")
    message = panel.locator(".hh-message").last
    message.hover()
    message.get_by_role("button", name="Copy this message").click()
    chat.wait_for_function("window.copied")
    assert chat.evaluate("window.copied").startswith("Sorry about the cracked lid.")
    assert not chat.evaluate("window.copied").startswith("assistant")
    expect(message.locator(".hh-mark-ok")).to_be_visible()


def test_json_in_a_message_stays_text_where_a_number_would_lose_digits(open_cells: Callable[..., Page]) -> None:
    page = open_cells("digits")
    expect(page.get_by_role("tabpanel").locator(".hh-text")).to_have_text(
        ["Which id?", '{"id": 12345678901234567890}'],
    )


def test_documents_are_a_table_with_scores(chat: Page) -> None:
    """A row opens to everything of the document."""
    chat.get_by_role("treeitem", name="search_policy").click()
    table = chat.get_by_role("table")
    expect(table.get_by_role("columnheader")).to_have_text(["#", "Score", "Source", "Text"])
    expect(table.get_by_role("row").nth(1)).to_contain_text(re.compile(r"^10\.91policy\.md §4\.2Items that arrive"))
    widths = table.locator(".hh-score i i").evaluate_all("bars => bars.map(bar => bar.offsetWidth)")
    assert widths == sorted(widths, reverse=True)
    expect(table).not_to_contain_text('"source"')
    table.get_by_role("button", name="Items that arrive").click()
    expect(table).to_contain_text('"source": "policy.md §4.2"')


def test_the_request_has_parameters_and_tools_with_signatures(chat: Page) -> None:
    chat.get_by_role("tab", name="Request").click()
    panel = chat.get_by_role("tabpanel")
    expect(panel).to_contain_text("2 offered, 0 called")
    expect(panel.locator(".hh-signature").last).to_have_text("check_limit(order_id: integer, amount?: number)")
    expect(panel.locator("pre")).to_be_hidden()
    panel.get_by_role("button", name="JSON of check_limit").click()
    expect(panel).to_contain_text('"required"')


@pytest.mark.parametrize("width", [1000, 700, 380])
def test_attributes_are_grouped_and_fit_at_every_width(chat: Page, width: int) -> None:
    """Names of at least some letters a line: JupyterLab once made them a column of single letters."""
    chat.set_viewport_size({"width": width, "height": 900})
    chat.get_by_role("tab", name="Attributes").click()
    panel = chat.get_by_role("tabpanel")
    assert panel.locator(".hh-group").all_inner_texts() == ["Span", "Call", "Server", "Yours"]
    expect(panel.locator("tr", has_text="customer_tier")).to_have_text("ticket.customer_tiergold")
    assert (
        panel.locator("tr:not(.hh-group) th").evaluate_all("all => Math.min(...all.map(th => th.clientWidth))") >= 110
    )
    assert panel.evaluate("pane => pane.scrollWidth <= pane.clientWidth")


def test_name_and_model_of_a_span_are_shown_in_full_at_every_width(chat: Page) -> None:
    for width in (1000, 830, 600, 320):
        chat.set_viewport_size({"width": width, "height": 900})
        for part in (".hh-name", ".hh-model"):
            assert chat.locator(f".hh-title {part}").evaluate("one => one.scrollWidth <= one.clientWidth"), (
                width,
                part,
            )


def test_a_changed_parameter_of_a_call_made_again_has_a_way_back(chat: Page) -> None:
    chat.get_by_role("button", name="Run again").click()
    temperature = chat.get_by_label("temperature", exact=True)
    expect(chat.get_by_role("button", name="Undo temperature")).to_have_count(0)
    temperature.fill("0.7")
    chat.get_by_role("button", name="Undo temperature").click()
    expect(temperature).to_have_value("0.2")
    expect(temperature).to_be_focused()
    expect(chat.get_by_role("button", name="Undo temperature")).to_have_count(0)


RIGHT = "one => one.getBoundingClientRect().right"


def test_what_ends_a_line_stays_together_at_its_end_if_it_has_to_go_to_the_next(
    open_cells: Callable[..., Page],
) -> None:
    page = open_cells("chat", "compare")
    page.get_by_role("searchbox").first.fill("lid")
    expect(page.get_by_text("13 hits")).to_be_visible()
    for width in (1000, 760, 650, 560):
        page.set_viewport_size({"width": width, "height": 900})
        edge = page.locator(".hh-view").first.evaluate(RIGHT)
        last = [page.get_by_role("button", name=name) for name in ("Copy as Python", "Columns", "? keys")]
        ends = [round(edge - one.first.evaluate(RIGHT)) for one in last if one.first.is_visible()]
        assert all(end < 16 for end in ends), (width, ends)
        python, json = (page.get_by_role("button", name=f"Copy {what}") for what in ("as Python", "JSON"))
        assert python.evaluate("one => one.offsetTop") == json.evaluate("one => one.offsetTop")


def test_a_variant_of_a_call_takes_feedback_beside_its_answer(
    open_cells: Callable[..., Page], harness: Harness, given: list[tuple[str, dict[str, object]]]
) -> None:
    harness.again = sample_request(ENDED, FAILED, ARRIVING)
    page = open_cells("chat")
    page.get_by_role("button", name="Run again").click()
    columns = [page.get_by_role("group", name=name) for name in ("Original", "Variant 1", "Variant 2", "Variant 3")]
    assert [column.get_by_role("button", name="Good").count() for column in columns] == [0, 1, 1, 0]
    bad = columns[2].get_by_role("button", name="Bad")
    bad.click()
    expect(bad).to_have_attribute("aria-pressed", "true")
    expect(bad).to_be_focused()
    bad.click()
    expect(bad).to_have_attribute("aria-pressed", "false")
    columns[1].get_by_role("button", name="Note").click()
    assert columns[2].get_by_role("button", name="Use as draft").evaluate("one => one.offsetHeight") < 40
    columns[1].get_by_label("Note").last.fill("shorter <b>")
    columns[1].get_by_role("button", name="Save").click()
    expect(columns[1]).to_contain_text("shorter <b>")
    columns[1].get_by_role("button", name="Note").click()
    columns[1].get_by_label("Note").last.fill("refuse")
    columns[1].get_by_role("button", name="Save").click()
    expect(columns[1]).to_contain_text("Not saved: the span is no longer in memory.")
    assert given == [
        (FAILED["span"], {"ok": False}),
        (FAILED["span"], {"ok": None}),
        (ENDED["span"], {"note": "shorter <b>"}),
    ]
    harness.again = sample_request()


def test_code_of_a_call_that_is_no_longer_kept_is_not_awaited(open_cells: Callable[..., Page]) -> None:
    page = open_cells("chat")
    page.get_by_role("button", name="Run again").click()
    page.get_by_role("button", name="To a new cell").click()
    expect(page.locator(".hh-go").get_by_role("status")).to_have_text("This call is no longer kept.")


def test_metrics_and_feedback_are_chips(chat: Page) -> None:
    expect(chat.locator(".hh-chips .hh-chip")).to_have_text(["grounded 0.92", "decision yes", "stars 4"])
    expect(chat.locator(".hh-chips .hh-chip").last).to_have_attribute("title", "Feedback stars")


@pytest.fixture
def given(harness: Harness) -> Iterator[list[tuple[str, dict[str, object]]]]:
    """The feedback that the page gives in this test; afterwards the span is as before."""
    harness.given.clear()
    kept = dict(harness.details_by_span)
    yield harness.given
    harness.details_by_span.update(kept)


def test_a_thumb_saves_at_once_and_is_taken_back(chat: Page, given: list[tuple[str, dict[str, object]]]) -> None:
    good, bad = chat.get_by_role("button", name="Good"), chat.get_by_role("button", name="Bad")
    bad.click()
    expect(bad).to_have_attribute("aria-pressed", "true")
    chat.get_by_role("tree").press("+")
    expect(good).to_have_attribute("aria-pressed", "true")
    expect(bad).to_have_attribute("aria-pressed", "false")
    good.click()
    expect(good).to_have_attribute("aria-pressed", "false")
    assert [one for _, one in given] == [{"ok": False}, {"ok": True}, {"ok": None}]


def test_a_note_is_saved_by_enter_and_shown_as_a_chip(chat: Page, given: list[tuple[str, dict[str, object]]]) -> None:
    """No key of the note reaches the page; a kernel that cannot save says so, and the note stays in the field."""
    chat.evaluate("() => { window.leaked = []; document.onkeydown = (event) => window.leaked.push(event.key); }")
    chat.get_by_role("button", name="Note").click()
    field = chat.get_by_role("textbox", name="Note")
    expect(field).to_be_focused()
    chat.keyboard.type("refuse dd")
    chat.keyboard.press("Enter")
    expect(chat.locator(".hh-unsaved")).to_have_text("Not saved: the span is no longer in memory.")
    expect(field).to_have_value("refuse dd")
    field.fill("no deadline")
    chat.get_by_role("button", name="Save").click()
    expect(chat.locator(".hh-chips")).to_contain_text("note no deadline")
    assert [one for _, one in given] == [{"note": "no deadline"}]
    assert chat.evaluate("window.leaked") == []


def test_the_legend_explains_itself_with_the_numbers_of_the_trace(chat: Page) -> None:
    word = chat.get_by_text("dotted first token")
    explained = chat.get_by_role("tooltip").filter(has_text="first token arrived")
    expect(explained).to_be_hidden()
    word.focus()
    expect(explained).to_be_visible()
    expect(explained).to_contain_text("after 298 ms in the middle of 1 call")
    expect(word).to_have_accessible_description(re.compile("after 298 ms"))


@pytest.mark.parametrize(
    ("theme", "size"), [("", WIDE), ("#dark", WIDE), ("", NARROW)], ids=["light", "dark", "narrow"]
)
def test_axe_finds_nothing(open_cells: Callable[..., Page], theme: str, size: dict[str, int]) -> None:
    """Hits, the request, documents, attributes, a note, wide details."""
    page = open_cells("chat", theme=theme)
    page.set_viewport_size(size)  # type: ignore[arg-type]
    search(page, "lid").press("Enter")
    expect(page.locator("mark.hh-current")).to_have_count(1)
    page.get_by_role("button", name="Note").click()
    assert violations(page) == []
    page.get_by_role("searchbox").first.fill("")
    for tab in ("Request", "Attributes"):
        page.get_by_role("tab", name=tab).click()
        assert violations(page) == []
    page.get_by_role("treeitem", name="search_policy").click()
    expect(page.get_by_role("columnheader").first).to_be_visible()
    assert violations(page) == []
    page.get_by_role("tree").press("w")
    assert violations(page) == []


def test_hostile_texts_are_inert_in_marks_and_previews(open_cells: Callable[..., Page]) -> None:
    page = open_cells("hostile")
    for text in ("<img src=x", "</script>", "javascript:", '" onmouseover='):
        field = search(page, text)
        expect(page.locator(".hh-args mark").first).to_have_text(re.compile(re.escape(text.split()[0]), re.IGNORECASE))
        field.press("Enter")
        expect(page.locator("mark.hh-current")).to_have_count(1)
        assert elements(page, ".hh-view") <= OURS | {"MARK"}
        assert handlers(page, ".hh-view") == []


def test_a_search_finds_every_text_that_it_is_given(open_cells: Callable[..., Page]) -> None:
    """Characters that mean something in a pattern are looked for as they are."""
    page = open_cells("hostile")
    for text in ("${1+1}", "[click](", "\\frac", "東京都", "{{7*7}}"):
        search(page, text)
        expect(page.locator(".hh-hits").first).to_be_visible()
