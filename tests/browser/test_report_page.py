"""Results of runs and comparisons in a page: all rows, sorted, filtered and opened, by mouse and keyboard."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, Route, ViewportSize, expect

from tests.browser.accessibility import NARROW, WIDE, violations
from tests.browser.harness import Harness, asked_by
from tests.browser.sample_reports import displayed, result, session_of

pytestmark = pytest.mark.slow


def report(page: Page, name: str = "result") -> Locator:
    """An interactive report whose first rows are there."""
    shown = page.locator(f"#{name}")
    expect(shown.locator(".hh-tr .hh-td").nth(3)).to_be_visible()
    return shown


def rows(shown: Locator) -> list[str]:
    """The labels of the rows in the page."""
    return [str(label) for label in shown.locator(".hh-tr").evaluate_all("rows => rows.map(row => row.ariaLabel)")]


def column(shown: Locator, key: str) -> list[str]:
    """The texts of a column in the page."""
    return shown.locator(f'.hh-tr [data-key="{key}"]').all_inner_texts()


def search(shown: Locator, query: str, found: str) -> None:
    shown.get_by_role("searchbox").fill(query)
    expect(shown.locator(".hh-shown")).to_have_text(found)


def test_all_rows_are_there_and_few_of_them_in_the_page(open_cells: Callable[..., Page], harness: Harness) -> None:
    harness.add_report("many", displayed(result(size=3_000)))
    shown = report(open_cells("many"), "many")
    expect(shown.locator(".hh-shown")).to_have_text("3,000 rows")
    expect(shown.get_by_role("treegrid")).to_have_attribute("aria-rowcount", "3001")
    assert shown.locator(".hh-tr").count() < 60
    shown.get_by_role("treegrid").press("End")
    expect(shown.locator("[aria-selected=true] .hh-td").first).to_contain_text("t-2999")
    assert shown.locator(".hh-tr").count() < 60
    shown.get_by_role("treegrid").press("Home")
    expect(shown.locator("[aria-selected=true] .hh-td").first).to_contain_text("t-04")
    expect(shown.locator(".hh-output > :not(.hh-view)").first).to_be_hidden()


def test_failed_and_wrong_rows_are_first_and_say_why(open_cells: Callable[..., Page]) -> None:
    shown = report(open_cells("result"))
    labels = rows(shown)
    assert labels[:3] == ["t-04, failed", "t-17, failed", "t-30, failed"]
    assert labels[3].endswith("wrong")
    assert column(shown, "output")[0].startswith("TimeoutError")
    expect(shown.locator(".hh-tr").nth(3).locator(".hh-why")).to_contain_text("grounded <img src=x onerror=alert(1)>")
    heights = shown.locator(".hh-tr").evaluate_all("rows => rows.map(row => row.offsetHeight)")
    assert heights[2:4] == [26, 43]


def test_the_boxes_say_mean_error_and_how_many_were_scored(open_cells: Callable[..., Page]) -> None:
    shown = report(open_cells("result"))
    box = shown.locator(".hh-metric").nth(1)
    expect(box).to_contain_text(re.compile(r"^grounded.*± .*36 of 40, 1 NaN scored"))
    expect(box.locator(".hh-whisker")).to_be_visible()
    box.locator(".hh-plot i").first.click()
    expect(shown.get_by_role("searchbox")).to_have_value(re.compile(r"^grounded>=0\.\d+ grounded<0\.\d+$"))
    expect(shown.locator(".hh-shown")).to_have_text(re.compile(r"^\d+ of 40 rows$"))
    shown.locator(".hh-toggle").click()
    expect(shown.locator(".hh-facts")).to_contain_text(re.compile(r"decision \d+.% ± .*40 rows"))


def test_a_column_sorts_up_then_down_then_not_and_unknown_values_stay_last(open_cells: Callable[..., Page]) -> None:
    shown = report(open_cells("result"))
    before = rows(shown)
    shown.get_by_role("button", name="grounded").click()
    header = shown.locator("[role=columnheader][aria-sort]")
    expect(header).to_have_attribute("aria-sort", "ascending")
    expect(shown.locator(".hh-tr").first).not_to_have_attribute("aria-label", before[0])  # The kernel sorts.
    up = [float(text) for text in column(shown, "grounded")]
    assert up == sorted(up)
    shown.get_by_role("button", name="grounded").click()
    expect(header).to_have_attribute("aria-sort", "descending")
    expect(shown.locator('.hh-tr [data-key="grounded"]').first).not_to_have_text(f"{up[0]:g}")
    down = [float(text) for text in column(shown, "grounded")]
    assert down == sorted(down, reverse=True)
    shown.get_by_role("treegrid").press("End")
    expect(shown.locator('.hh-tr [data-key="grounded"]').last).to_have_text("–")
    assert sorted(column(shown, "grounded")[-5:]) == ["NaN", *["–"] * 4]
    shown.get_by_role("button", name="grounded").click()
    expect(header).to_have_count(0)
    expect(shown.locator(".hh-tr").first).to_have_attribute("aria-label", before[0])


def test_rows_are_filtered_by_text_by_conditions_and_by_buttons(open_cells: Callable[..., Page]) -> None:
    shown = report(open_cells("result"))
    search(shown, "beschwerde", "8 of 40 rows")
    search(shown, 'beschwerde expected=escalate "ticket 1"', "3 of 40 rows")
    search(shown, "decision=no grounded<0.5", f"{len(wrong_and_low())} of 40 rows")
    assert rows(shown) == [f"{one}, wrong" for one in wrong_and_low()]
    search(shown, "", "40 rows")
    failed = shown.get_by_role("button", name="Failed 3")
    failed.click()
    expect(shown.get_by_role("searchbox")).to_have_value("failed")
    expect(failed).to_have_attribute("aria-pressed", "true")
    expect(shown.locator(".hh-tr")).to_have_count(3)
    failed.click()
    expect(shown.locator(".hh-shown")).to_have_text("40 rows")
    search(shown, "nonsense<3", "0 of 40 rows, no column nonsense")
    shown.get_by_role("button", name="Show all rows").click()
    expect(shown.locator(".hh-shown")).to_have_text("40 rows")


def wrong_and_low() -> list[str]:
    found = (row for row in result().rows if row.metrics.get("decision") is False)
    return [row.datapoint_id for row in found if row.metrics.get("grounded", 1.0) < 0.5]


def test_a_row_opens_to_its_texts_metrics_and_spans(open_cells: Callable[..., Page]) -> None:
    """Several may be open; what is below a row is not drawn again while the list is scrolled."""
    shown = report(open_cells("result"))
    shown.locator(".hh-tr").nth(3).click()
    opened = shown.locator(".hh-opened")
    expect(opened).to_contain_text("Two of the six glasses are chipped, please send those two again. Ticket 0.")
    expect(opened.get_by_role("row", name="grounded")).to_contain_text("none speaks of it")
    bar = opened.get_by_role("button", name="support_agent, finished")
    expect(bar).to_have_attribute("aria-expanded", "false")
    bar.click()
    expect(opened.get_by_role("tree")).to_be_visible()
    opened.get_by_role("tree").press("ArrowDown")
    expect(opened.get_by_role("tree")).to_be_focused()
    shown.get_by_role("treegrid").evaluate("list => { list.scrollTop += 40; }")
    expect(opened.get_by_role("tree")).to_be_focused()
    following, below = shown.locator(".hh-tr").nth(4).bounding_box(), opened.bounding_box()
    assert following is not None
    assert below is not None
    assert following["y"] == pytest.approx(below["y"] + below["height"], abs=1)
    shown.get_by_role("treegrid").evaluate("list => { list.scrollTop = 0; }")
    second = shown.get_by_role("row", name=re.compile("t-17"))
    expect(second).to_be_in_viewport()
    for count in (2, 1):
        second.click()
        expect(opened).to_have_count(count)


def test_the_keys_open_rows_and_go_to_the_next_that_failed_or_is_wrong(open_cells: Callable[..., Page]) -> None:
    page = open_cells("result")
    shown = report(page)
    grid = shown.get_by_role("treegrid")
    grid.press("ArrowDown")
    grid.press("e")
    selected = shown.locator(".hh-tr[aria-selected=true]")
    expect(selected).to_have_attribute("aria-label", "t-17, failed")
    grid.press("Enter")
    expect(selected).to_have_attribute("aria-expanded", "true")
    grid.press("ArrowLeft")
    expect(selected).to_have_attribute("aria-expanded", "false")
    grid.press("/")
    page.keyboard.type("card refused failed")
    expect(shown.locator(".hh-shown")).to_have_text("0 of 40 rows")
    page.keyboard.press("Escape")
    expect(grid).to_be_focused()


def test_a_comparison_marks_words_and_lists_what_newly_failed_first(open_cells: Callable[..., Page]) -> None:
    shown = report(open_cells("compare"), "compare")
    states = column(shown, "state")[:20]
    assert states == sorted(states, key=["newly failed", "newly wrong", "newly right"].index)
    expect(shown.locator(".hh-sum")).to_contain_text("Better: decision, grounded and words")
    expect(shown.locator(".hh-forest")).to_have_count(6)
    shown.get_by_role("button", name="Newly wrong").click()
    first = shown.locator(".hh-tr").first
    expect(first.locator('[data-key="new_output"] .hh-tone-new').first).to_contain_text("A new one leaves our house")
    expect(first.locator('[data-key="old_output"] .hh-tone-old').first).to_contain_text("I have refunded")
    expect(first.locator('[data-key="changes"]')).to_contain_text("decision yes → no worse")
    first.click()
    opened = shown.locator(".hh-opened")
    expect(opened.locator(".hh-sides .hh-tone-new").first).to_contain_text("A new one leaves our house")
    expect(opened.get_by_text("Spans of the new run")).to_be_visible()
    expect(opened.get_by_role("button", name="support_agent, finished")).to_have_count(2)


def columns(shown: Locator) -> list[str]:
    """The titles of the columns."""
    return shown.locator(".hh-thead button").all_inner_texts()


def choose(shown: Locator, *titles: str) -> None:
    """Show or hide columns by the keyboard."""
    button = shown.get_by_role("button", name="Columns")
    button.press("Enter")
    group = shown.get_by_role("group", name="Columns")
    for title in titles:
        group.get_by_label(title, exact=True).press("Space")
    group.get_by_role("checkbox").first.press("Escape")
    expect(group).to_be_hidden()
    expect(button).to_be_focused()


def test_columns_are_chosen_by_keyboard_and_stay_so(open_cells: Callable[..., Page], harness: Harness) -> None:
    page = open_cells("result")
    shown = report(page)
    shown.get_by_role("button", name="words").click()
    expect(shown.locator("[aria-sort]")).to_have_count(1)
    choose(shown, "words", "Tokens", "Session")
    assert columns(shown) == ["Row", "input", "expected", "output", "Session", "decision", "grounded", "one_search",
                              "tone", "Time", "Cost"]  # fmt: skip
    expect(shown.locator("[aria-sort]")).to_have_count(0)
    expect(shown.locator(".hh-tr").first).to_have_attribute("aria-label", "t-04, failed")
    expect(shown.locator('.hh-tr [data-key="session"]').first).to_have_text("00000000")
    view, static, _ = before = harness.reports["result"]
    try:
        harness.reports["result"] = (view, static, displayed(result(size=30))[2])
        page.evaluate("view => window.model.tell({ type: 'changed', view }, [])", view)
        expect(shown.locator(".hh-shown")).to_have_text("30 rows")
        assert "words" not in columns(shown)
        assert "Session" in columns(shown)
    finally:
        harness.reports["result"] = before


def test_a_chosen_column_stays_where_others_make_room(open_cells: Callable[..., Page]) -> None:
    page = open_cells("result")
    shown = report(page)
    page.set_viewport_size({"width": 760, "height": 900})
    expect(shown.get_by_role("button", name="expected")).to_have_count(0)
    choose(shown, "expected")
    assert "expected" in columns(shown)
    assert "Cost" not in columns(shown)
    page.set_viewport_size({"width": 560, "height": 900})
    row = shown.locator(".hh-tr").nth(3)
    expect(row.locator('[data-key="expected"]')).to_have_text("replace")
    assert row.evaluate("row => row.scrollHeight <= row.offsetHeight + 1")
    row.click()
    expect(shown.get_by_role("button", name="Add to a dataset")).to_be_visible()
    row.click()
    choose(shown, "output", "expected")
    expect(row.locator('[data-key="output"]')).to_have_count(0)
    assert row.evaluate("row => row.offsetHeight") == 65


def test_a_row_is_rated_and_added_to_a_dataset(open_cells: Callable[..., Page], harness: Harness) -> None:
    page = open_cells("result")
    shown = report(page)
    shown.locator(".hh-tr").first.click()
    acts = shown.locator(".hh-acts")
    expect(acts.get_by_role("button", name="Bad")).to_have_attribute("aria-pressed", "true")
    expect(acts).to_contain_text("misses the glasses")
    shown.get_by_role("treegrid").press("+")
    expect(acts.get_by_role("button", name="Good")).to_have_attribute("aria-pressed", "true")
    expect(acts.get_by_role("button", name="Bad")).to_have_attribute("aria-pressed", "false")
    session = f"hh-session-{session_of(4)}"
    assert harness.given[-1] == (session, {"ok": True})
    acts.get_by_role("button", name="Note").click()
    acts.get_by_role("textbox", name="Note").fill("refuse it")
    page.keyboard.press("Enter")
    expect(acts.locator(".hh-unsaved")).to_have_text("Not saved: the span is no longer in memory.")
    file = acts.get_by_label("File of the dataset")
    expect(file).to_have_value("dataset.jsonl")
    file.fill("hard.jsonl")
    acts.get_by_role("button", name="Add to a dataset").click()
    expect(acts.locator(".hh-added")).to_have_text(re.compile(r"^Added to /home/me/notebooks/hard\.jsonl, which has"))
    assert harness.added[-1] == (session, "hard.jsonl")
    shown.locator(".hh-tr").nth(1).click()
    expect(shown.locator(".hh-acts").nth(1).get_by_label("File of the dataset")).to_have_value("hard.jsonl")


@pytest.mark.parametrize("width", [1040, 760, 560])
def test_numbers_are_never_cut(open_cells: Callable[..., Page], harness: Harness, width: int) -> None:
    """In boxes, below their distributions, and in the rows."""
    found = result(size=20)
    rows = (
        dataclasses.replace(row, metrics={"f1": 0.0256437 * row.index, "far": -1_234_567.8 + row.index})
        for row in found.rows
    )
    harness.add_report("large", displayed(dataclasses.replace(found, rows=tuple(rows), name=f"large {width}")))
    page = open_cells("result", "large")
    page.set_viewport_size({"width": width, "height": 900})
    for name in ("result", "large"):
        shown = report(page, name)
        expect(shown.locator(".hh-ends").first).to_be_visible()
        assert cut(shown, ".hh-ends span, .hh-figure, .hh-td.hh-n, .hh-cells .hh-td") == []
    far = page.locator("#large .hh-metric", has_text="far")
    expect(far.locator(".hh-ends")).to_contain_text("\N{MINUS SIGN}1,234,567.8")


def cut(shown: Locator, selector: str) -> list[str]:
    """Texts that do not fit into their element, or leave the box around it."""
    return shown.locator(selector).evaluate_all(  # type: ignore[no-any-return]
        """all => all.filter(one => {
          const [box, own] = [one.closest(".hh-metric, .hh-tr").getBoundingClientRect(), one.getBoundingClientRect()];
          return one.scrollWidth > one.clientWidth + 1 && one.clientWidth > 0 || own.right > box.right + 1;
        }).map(one => one.textContent)"""
    )


def test_hostile_texts_are_text(open_cells: Callable[..., Page]) -> None:
    page = open_cells("result", "compare")
    for name in ("result", "compare"):
        shown = report(page, name)
        search(shown, "t-03", "1 of 40 rows")
        shown.locator(".hh-tr").click()
        expect(shown.locator(".hh-opened")).to_contain_text("<img src=x onerror=alert(1)> txt.exe")
        expect(shown.locator("img, script")).to_have_count(0)
        assert "\u202e" not in shown.inner_text()


def test_the_static_form_is_shown_when_the_kernel_is_gone(open_cells: Callable[..., Page]) -> None:
    page = open_cells("result")
    shown = report(page)
    page.evaluate("window.kernel.alive = false")
    shown.locator(".hh-tr").nth(2).click()
    expect(page.locator(".hh-view")).to_have_count(0, timeout=10_000)
    expect(shown.get_by_text("gpt-4.1-mini")).to_be_visible()
    page.evaluate("window.kernel.alive = true; window.model.tell({type: 'changed', view: 'x'})")
    expect(report(page).locator(".hh-tr").nth(2)).to_be_visible()


def test_a_narrow_page_shows_cards(open_cells: Callable[..., Page]) -> None:
    page = open_cells("result")
    page.set_viewport_size({"width": 560, "height": 900})
    shown = report(page)
    expect(shown.locator(".hh-thead")).to_be_hidden()
    row = shown.locator(".hh-tr").nth(3)
    expect(row).to_contain_text(re.compile("no.*0.75.*yes"))
    assert row.evaluate("row => row.offsetHeight") == 83
    for other in shown.locator(".hh-tr").all():
        assert other.evaluate("row => row.scrollHeight <= row.offsetHeight + 1")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.set_viewport_size({"width": 760, "height": 900})
    expect(shown.locator(".hh-thead")).to_be_visible()
    expect(shown.get_by_role("button", name="expected")).to_have_count(0)
    expect(shown.get_by_role("button", name="output")).to_be_visible()


SEEN_FACTS = """facts => [...facts.children].filter(one => one.offsetTop < facts.offsetTop + facts.offsetHeight)
    .map(one => [one.textContent, one.offsetLeft + one.offsetWidth <= facts.offsetLeft + facts.offsetWidth + 1])"""


def test_a_fact_of_the_bar_is_dropped_rather_than_cut_also_if_it_is_the_only_one(
    open_cells: Callable[..., Page],
) -> None:
    page = open_cells("compare")
    bar = report(page, "compare").locator(".hh-bar")
    facts = bar.locator(".hh-facts")
    for width, shown in ((1000, "40 rows in both"), (560, None)):
        page.set_viewport_size({"width": width, "height": 900})
        seen = facts.evaluate(SEEN_FACTS)
        assert all(whole for _, whole in seen), seen
        assert [text for text, _ in seen][:1] == ([shown] if shown else [])
        assert bar.locator(".hh-name").evaluate("name => name.scrollWidth <= name.clientWidth")  # Nor is the name.


def test_a_run_without_rows_or_with_one_is_shown(open_cells: Callable[..., Page], harness: Harness) -> None:
    harness.add_report("none", displayed(dataclasses.replace(result(size=0), name="none")))
    harness.add_report("single", displayed(result(size=1)))
    page = open_cells("none", "single")
    expect(page.locator("#none .hh-shown")).to_have_text("0 rows")
    expect(report(page, "single").locator(".hh-shown")).to_have_text("1 row")


@pytest.mark.parametrize(
    ("theme", "size"), [("", WIDE), ("#dark", WIDE), ("", NARROW)], ids=["light", "dark", "narrow"]
)
def test_axe_finds_nothing(open_cells: Callable[..., Page], theme: str, size: ViewportSize) -> None:
    page = open_cells("result", "compare", theme=theme)
    page.set_viewport_size(size)
    for name in ("result", "compare"):
        shown = report(page, name)
        shown.locator(".hh-tr").nth(3).click()
        expect(shown.locator(".hh-opened .hh-bar").first).to_be_visible()
        shown.get_by_role("button", name="Columns").click()
        expect(shown.get_by_role("group", name="Columns")).to_be_visible()
    assert violations(page) == []


def test_rows_that_change_while_they_are_on_their_way_are_requested_again(
    open_cells: Callable[..., Page], harness: Harness
) -> None:
    view, static, _ = harness.reports["result"]
    page = open_cells("result")
    shown = report(page)
    held: list[Route] = []

    def hold_first(route: Route) -> None:
        if held or asked_by(route.request)["type"] != "page":
            route.continue_()
        else:
            held.append(route)

    def change(rows: int) -> None:
        harness.reports["result"] = (view, static, displayed(result(size=rows))[2])
        page.evaluate("view => window.model.tell({ type: 'changed', view }, [])", view)
        expect(shown.locator(".hh-shown")).to_have_text(f"{rows} rows")

    before = harness.reports["result"]
    try:
        page.route("**/message", hold_first)
        change(20)
        change(30)
        held[0].continue_()
        expect(shown.locator(".hh-tr .hh-td").nth(3)).to_be_visible(timeout=5_000)
    finally:
        harness.reports["result"] = before
