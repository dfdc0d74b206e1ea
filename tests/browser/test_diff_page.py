"""What changed between two runs, in place of the tree: mouse, keyboard, and what the page asks of the kernel."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Dialog, Locator, Page, Request, expect

from tests.browser.accessibility import NARROW, WIDE, violations
from tests.browser.harness import Harness
from tests.browser.inert import OURS, elements, handlers
from tests.browser.lab import Jupyter, Lab

pytestmark = pytest.mark.slow

WORDS = {"DEL", "INS", "SELECT", "OPTION", "LABEL", "SECTION", "DETAILS", "SUMMARY"} | {
    *("TABLE", "THEAD", "TBODY", "TR", "TH", "TD")
}


@pytest.fixture
def edited(open_cells: Callable[..., Page]) -> Page:
    """A cell that was run again with another prompt, and the difference open."""
    page = open_cells("edited")
    page.get_by_role("button", name="2 calls changed").click()
    expect(page.get_by_role("tree", name="Spans of both runs")).to_be_visible()
    return page


def row(page: Page, name: str) -> Locator:
    return page.get_by_role("treeitem", name=name)


def labels(page: Page) -> list[str]:
    return [str(one) for one in page.get_by_role("treeitem").evaluate_all("rows => rows.map(r => r.ariaLabel)")]


def selected(page: Page) -> Locator:
    return page.locator("[role=treeitem][aria-selected=true]")


def pane(page: Page) -> Locator:
    return page.get_by_role("group", name="What differs")


def asked(page: Page, kind: str) -> int:
    return int(page.evaluate("kind => window.asked.filter(({ type }) => type === kind).length", kind))


def test_the_delta_opens_the_aligned_tree_at_the_first_changed_span(edited: Page) -> None:
    """Totals of both runs in the bar; marks, words, times; only the content of the selected span is asked for."""
    bar = edited.locator(".hh-bar")
    expect(bar).to_contain_text("5,710 → 5,743 tokens")
    expect(bar).to_contain_text("2 changed, 1 added, 1 removed, 19 the same")
    assert labels(edited) == [
        "the same: Agent support_agent, 2.72 s, −120 ms",
        "the same: LLM plan, 352 ms, +12 ms",
        "the same: Retrieval search_policy, 329 ms, −13 ms",
        "the same: Embedding embed_chunk, 12 times, 47 ms, =",
        "the same: Retrieval vector_query, 61 ms, −7 ms",
        "the same: Tool get_order, 548 ms, =",
        "removed: HTTP GET /orders/48213",
        "the same: HTTP GET /orders/48213, 506 ms, +108 ms",
        "changed: LLM decide, max_tokens, temperature, system, tools, 655 ms, −137 ms",
        "added: Tool check_limit, 41 ms",
        "the same: Tool issue_refund, 318 ms, −5 ms",
        "changed: LLM write_reply, max_tokens, temperature, system, tools, answer, 762 ms, −25 ms",
    ]
    expect(selected(edited)).to_have_attribute("aria-label", re.compile("^changed: LLM decide, "))
    expect(edited.get_by_text("2 of 4 changes")).to_be_visible()
    assert asked(edited, "diff") == 1
    assert asked(edited, "diff_span") == 1
    assert set(edited.evaluate("window.asked.map(({ type }) => type)")) <= {
        "visibility", "rows", "details", "previews", "diff", "diff_span",
    }  # fmt: skip


def test_a_changed_span_shows_its_texts_side_by_side_with_their_words(edited: Page) -> None:
    row(edited, "write_reply").click()
    shown = pane(edited)
    expect(shown).to_contain_text("787 → 762 ms −25 ms")
    expect(shown).to_contain_text("Parameters 2 changed, 3 the same")
    expect(shown.get_by_role("row", name="temperature 0.7 0.2")).to_be_visible()
    expect(shown).to_contain_text("Messages 1 changed, 3 the same")
    expect(shown).to_contain_text("Tools 1 added, 1 the same")
    prompt = shown.locator(".hh-pair", has_text="28 → 30 words")
    old, new = prompt.locator(".hh-half").all()
    expect(old).to_have_text(re.compile("^You are .* rely on. Be friendly and apologise for the trouble.$"))
    expect(new).to_have_text(re.compile("^You are .* rely on by its number. Answer in at most two sentences.$"))
    assert old.locator("del").all_inner_texts() == ["on. Be friendly and apologise for the trouble."]
    assert new.locator("ins").all_inner_texts() == ["on by its number. Answer in at most two sentences."]
    same = shown.locator("details", has_text="Can I get my money back?")
    expect(same.locator(".hh-text")).to_be_hidden()
    same.locator("summary").click()
    expect(same.locator(".hh-text")).to_have_text(re.compile("ending 4410.$"))


def test_the_bar_says_that_the_runs_differ_as_the_static_form_does_and_the_way_back_is_at_its_end(edited: Page) -> None:
    bar = edited.locator(".hh-bar")
    expect(bar.locator(".hh-sign")).to_have_text("≠")
    expect(bar.locator(".hh-status")).to_have_count(0)
    for width in (1000, 560):
        edited.set_viewport_size({"width": width, "height": 900})
        end = bar.evaluate("bar => bar.getBoundingClientRect().right")
        assert end - bar.get_by_role("button", name="Back").evaluate("one => one.getBoundingClientRect().right") < 16
    bar.get_by_role("button", name="Back").click()
    expect(bar.locator(".hh-status")).to_have_text("✓")


def test_both_texts_in_one_on_request_and_where_it_is_narrow(edited: Page) -> None:
    row(edited, "write_reply").click()
    prompt = pane(edited).locator(".hh-pair", has_text="28 → 30 words")
    edited.get_by_role("radio", name="Side by side").press("ArrowRight")
    expect(edited.get_by_role("radio", name="Unified")).to_be_focused()
    expect(edited.get_by_role("radio", name="Unified")).to_have_attribute("aria-checked", "true")
    expect(prompt.locator(".hh-both")).to_contain_text("trouble. on by its number.")
    expect(prompt.locator(".hh-half")).to_have_count(0)
    edited.keyboard.press("u")
    expect(prompt.locator(".hh-half")).to_have_count(2)
    expect(prompt.locator(".hh-both")).to_be_hidden()
    edited.set_viewport_size(NARROW)
    expect(prompt.locator(".hh-both")).to_be_visible()
    expect(prompt.locator(".hh-half").first).to_be_hidden()
    expect(edited.get_by_role("radiogroup")).to_be_hidden()


def test_keys_go_through_the_changes(edited: Page) -> None:
    """`n` and `N` with a wrap, `s` leaves out what is the same, Enter to the texts, Esc back step by step."""
    edited.get_by_role("tree").focus()
    seen = []
    for key in ("n", "n", "n", "n", "N"):
        edited.keyboard.press(key)
        seen.append(re.sub(r"^\w+: \S+ |,.*", "", str(selected(edited).get_attribute("aria-label"))))
    assert seen == ["check_limit", "write_reply", "GET /orders/48213", "decide", "GET /orders/48213"]
    edited.keyboard.press("s")
    expect(edited.get_by_role("button", name="Changes only")).to_have_attribute("aria-pressed", "true")
    assert [re.sub(r"^[\w ]+: \S+ |,.*", "", label) for label in labels(edited)] == [
        "support_agent", "get_order", "GET /orders/48213", "decide", "check_limit", "write_reply",
    ]  # fmt: skip
    edited.get_by_role("button", name="17 more spans are the same").click()
    expect(edited.get_by_role("treeitem")).to_have_count(12)
    edited.get_by_role("tree").focus()
    edited.keyboard.press("?")
    expect(edited.get_by_text("change before")).to_be_visible()
    edited.keyboard.press("Enter")
    expect(pane(edited)).to_be_focused()
    edited.keyboard.press("Escape")
    expect(edited.get_by_role("tree", name="Spans of both runs")).to_be_focused()
    edited.keyboard.press("Escape")
    expect(edited.get_by_role("tree", name="Spans", exact=True)).to_be_focused()
    expect(edited.get_by_role("button", name="2 calls changed")).to_be_visible()


def test_d_opens_it_from_the_tree_and_the_folded_bar(open_cells: Callable[..., Page]) -> None:
    page = open_cells("edited")
    page.get_by_role("tree").press("d")
    expect(page.get_by_role("tree", name="Spans of both runs")).to_be_focused()
    page.keyboard.press("d")
    expect(page.get_by_role("tree", name="Spans", exact=True)).to_be_focused()
    toggle = page.get_by_role("button", name="support_agent, finished")
    toggle.click()
    expect(page.get_by_role("tree")).to_have_count(0)
    toggle.press("d")
    expect(page.get_by_role("tree", name="Spans of both runs")).to_be_visible()
    page.get_by_role("button", name="Back to the trace").click()
    expect(page.get_by_role("tree", name="Spans", exact=True)).to_be_visible()


def test_other_runs_can_be_chosen(edited: Page) -> None:
    """The focus stays on what was chosen; two equal runs differ in nothing."""
    old = edited.get_by_role("combobox", name="Old run")
    assert old.locator("option").all_inner_texts() == ["Run 2, 13:51", "Run 3, 14:02"]
    edited.get_by_role("combobox", name="New run").select_option("Run 2, 13:51")
    expect(edited.locator(".hh-bar")).to_contain_text("22 the same")
    expect(edited.get_by_text("0 changes")).to_be_visible()
    edited.keyboard.press("n")
    old.focus()
    old.select_option("Run 4, 14:09")
    expect(row(edited, "removed: Tool check_limit")).to_be_visible()
    expect(old).to_be_focused()


def test_the_output_of_the_command_opens_with_the_difference(open_cells: Callable[..., Page]) -> None:
    page = open_cells("compared")
    expect(row(page, "changed: LLM write_reply")).to_be_visible()
    page.get_by_role("button", name="Back to the trace").click()
    expect(page.get_by_role("treeitem", name="LLM write_reply, 762 ms")).to_be_visible()


def test_a_difference_that_takes_long_is_asked_for_again(open_cells: Callable[..., Page], harness: Harness) -> None:
    """The page says that it waits, and can be left meanwhile."""
    page = open_cells("edited")
    harness.runs.pending = 5
    page.get_by_role("tree").press("d")
    expect(page.get_by_text("Comparing the two runs…")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("tree", name="Spans", exact=True)).to_be_visible()
    page.keyboard.press("d")
    expect(row(page, "write_reply")).to_be_visible()
    assert harness.runs.pending == 0
    assert asked(page, "diff") >= 6


def test_a_difference_that_the_kernel_no_longer_keeps_is_computed_again(edited: Page, harness: Harness) -> None:
    harness.runs.forgets = True
    row(edited, "write_reply").click()
    expect(pane(edited)).to_contain_text("rely on by its number.")
    assert asked(edited, "diff") == 2


def test_where_there_is_nothing_to_compare_the_page_says_so(open_cells: Callable[..., Page]) -> None:
    page = open_cells("agent")
    page.get_by_role("tree").press("d")
    expect(page.get_by_text("There is no earlier run of this cell to compare with.")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("tree", name="Spans")).to_be_focused()


def test_a_kernel_that_does_not_reply_leaves_the_static_output(open_cells: Callable[..., Page]) -> None:
    page = open_cells("edited")
    page.evaluate("window.kernel.alive = false")
    page.get_by_role("tree").press("d")
    expect(page.locator(".hh-view")).to_have_count(0, timeout=15_000)


def test_errors_lead_back_to_the_trace(open_cells: Callable[..., Page]) -> None:
    page = open_cells("err")
    page.get_by_role("tree").press("d")
    expect(page.get_by_text("There is no earlier run")).to_be_visible()
    page.get_by_role("button", name="1 error").click()
    expect(selected(page)).to_have_attribute("aria-label", "HTTP POST /refunds, 230 ms, error: 503")


def test_a_long_text_with_few_changes_folds_what_is_the_same(open_cells: Callable[..., Page]) -> None:
    page = open_cells("lengthy")
    page.get_by_role("button", name="chat, finished").press("d")
    new = pane(page).locator(".hh-half").nth(1)
    expect(new.locator("ins")).to_have_text("Bergen?")
    expect(new.get_by_role("button")).to_have_count(2)
    expect(new).to_contain_text(re.compile("^… 3[0-9]+ words the same … word-3[0-9]+ .* word-399 Bergen[?] word-0 "))
    new.get_by_role("button").first.click()
    expect(new).to_contain_text(re.compile("^word-0 word-1 .* word-399 Bergen[?] word-0 "))
    expect(new.get_by_role("button")).to_have_count(1)


@pytest.mark.parametrize(("theme", "size"), [("", WIDE), ("#dark", WIDE), ("", NARROW), ("#dark", NARROW)])
def test_axe_finds_nothing(open_cells: Callable[..., Page], theme: str, size: dict[str, int]) -> None:
    """Texts of a changed span, of a removed one, both layouts, the keys."""
    page = open_cells("edited", theme=theme)
    page.set_viewport_size(size)  # type: ignore[arg-type]
    page.get_by_role("button", name="2 calls changed").click()
    page.get_by_role("treeitem", name="removed: HTTP GET /orders/48213").click()
    expect(pane(page)).to_contain_text("no content")
    assert violations(page) == []
    row(page, "write_reply").click()
    expect(pane(page)).to_contain_text("Answer")
    page.keyboard.press("?")
    assert violations(page) == []
    page.keyboard.press("u")
    page.keyboard.press("s")
    row(page, "check_limit").click()
    expect(pane(page)).to_contain_text("amount")
    assert violations(page) == []


def test_every_control_is_large_enough_and_keeps_shortcuts_away(edited: Page) -> None:
    row(edited, "write_reply").click()
    edited.keyboard.press("?")
    focusable = "button, a[href], input, select, summary, [tabindex]"
    expect(edited.locator(f".hh-view :is({focusable}):not([data-lm-suppress-shortcuts=true])")).to_have_count(0)
    small = """all => all.filter(e => e.getBoundingClientRect().height < 23.9).map(e => e.outerHTML)"""
    assert edited.locator(".hh-view :is(button, select, summary):visible").evaluate_all(small) == []
    tiny = """all => all.filter(e => parseFloat(getComputedStyle(e).fontSize) < 11).map(e => e.outerHTML)"""
    assert edited.locator(".hh-view :visible").evaluate_all(tiny) == []


def test_hostile_texts_are_only_text(browser: Browser, harness: Harness) -> None:
    """Every span of the corpus, of which every second one changed; the names of the runs too."""
    page = browser.new_page(viewport={"width": 1000, "height": 1400})
    seen: list[str] = []
    allowed = (harness.url, "blob:", "data:,")

    def dismiss(dialog: Dialog) -> None:
        seen.append(dialog.message)
        dialog.dismiss()

    def note(request: Request) -> None:
        if not request.url.startswith(allowed):
            seen.append(request.url)

    page.on("dialog", dismiss)
    page.on("pageerror", lambda error: seen.append(str(error)))
    page.on("request", note)
    page.goto(f"{harness.url}?cells=hostile")
    tree = page.get_by_role("tree")
    tree.press("d")
    expect(page.get_by_role("tree", name="Spans of both runs")).to_be_focused()
    shown = ""
    for number in range(page.get_by_role("treeitem").count() and 60):
        page.keyboard.press("n")
        expect(pane(page).locator(".hh-section").first).to_be_attached()
        shown += pane(page).inner_text()
        if number % 6 == 0:
            assert elements(page, ".hh-view") <= OURS | WORDS
            assert handlers(page, ".hh-view") == []
    assert "<img src=x onerror=alert(1)>" in shown
    assert page.evaluate("document.querySelectorAll('script').length") == 1
    page.close()
    assert seen == []


def test_of_thousands_of_rows_only_those_in_sight_are_in_the_page(open_cells: Callable[..., Page]) -> None:
    page = open_cells("big")
    page.get_by_role("tree").press("d")
    expect(page.get_by_role("tree", name="Spans of both runs")).to_be_visible(timeout=60_000)
    expect(page.get_by_text("1 of 8 changes")).to_be_visible()
    expect(selected(page)).to_have_attribute("aria-label", "added: Chain run_example, 730 ms")
    assert page.get_by_role("treeitem").count() < 60


# In JupyterLab.

SETUP = """\
%load_ext hh_jupyter
import hh_jupyter as hh

def ask(question):
    with hh.get_tracer().start_span("agent"), hh.get_tracer().start_span("ask", attributes={
        "openinference.span.kind": "LLM", "llm.input_messages.0.message.role": "user",
        "llm.input_messages.0.message.content": question,
    }):
        pass
runs = iter(["Where is Oslo?", "Where is Bergen?"])
"""


@pytest.fixture(scope="module")
def lab(browser: Browser, jupyter: Jupyter) -> Iterator[Lab]:
    """A notebook whose second cell was run twice, and whose third shows the difference."""
    jupyter.write("diff.ipynb", (SETUP, "ask(next(runs))", "%hh diff"))
    lab = Lab(browser, jupyter.url, "diff.ipynb")
    lab.run_all(2)
    lab.run(1)
    lab.run(2)
    yield lab
    lab.page.close()
    assert [error for error in lab.errors if "hh" in error] == []


def test_it_opens_in_jupyterlab(lab: Lab) -> None:
    """Keys do not reach the notebook; the words that differ are marked."""
    cell = lab.page.locator(".jp-CodeCell").nth(1)
    cell.get_by_role("button", name="1 call changed").click(timeout=30_000)
    cell.get_by_role("tree", name="Spans of both runs").press("n")
    assert cell.get_by_role("group", name="What differs").locator("ins:visible").all_inner_texts() == ["Bergen?"]
    lab.page.keyboard.press("x")
    expect(lab.page.locator(".jp-CodeCell")).to_have_count(3)


def test_the_command_shows_the_same_in_jupyterlab(lab: Lab) -> None:
    cell = lab.page.locator(".jp-CodeCell").nth(2)
    expect(cell.get_by_role("group", name="What differs")).to_contain_text("Where is Bergen?", timeout=30_000)
    expect(cell.locator(".hh-run")).to_be_hidden()
