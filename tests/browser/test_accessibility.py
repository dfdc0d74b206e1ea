"""axe-core reports no violation in any state, light and dark, wide and narrow; focus and keyboard work."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, ViewportSize, expect

from tests.browser.accessibility import NARROW, WIDE, violations


@pytest.mark.slow
@pytest.mark.parametrize(
    ("theme", "size"), [("", WIDE), ("#dark", WIDE), ("", NARROW)], ids=["light", "dark", "narrow"]
)
def test_axe_finds_nothing(open_cells: Callable[..., Page], theme: str, size: ViewportSize) -> None:
    """One line, trees, error, running, notices, the list of keys, each kind of tab."""
    page = open_cells("fail", "run", "err", "replayed", "unrecorded", theme=theme)
    page.locator("#err").get_by_role("button", name="? keys").click()
    page.locator("#fail").get_by_role("button", name="answer_question").click()
    page.locator("#run").get_by_role("tab", name="Attributes").click()
    page.locator("#err").get_by_role("treeitem", name=re.compile("issue_refund")).click()
    page.locator("#err").get_by_role("tab", name="Input and output").click()
    expect(page.locator("#err").get_by_role("tabpanel")).to_contain_text("damaged_on_arrival")
    page.set_viewport_size(size)
    assert violations(page) == []


def test_axe_finds_nothing_in_a_big_trace(open_cells: Callable[..., Page]) -> None:
    """Virtual rows, folds and the minimap."""
    assert violations(open_cells("big")) == []


@pytest.mark.slow
def test_axe_finds_nothing_in_the_static_output(open_cells: Callable[..., Page]) -> None:
    """What a saved notebook shows, with and without a dark page."""
    page = open_cells("agent", "err", "fail")
    page.evaluate("window.stopHub()")
    expect(page.locator(".hh-view")).to_have_count(0)
    expect(page.get_by_role("link", name="Open session")).to_be_visible()
    assert violations(page) == []


def test_tab_goes_through_each_part_once(open_cells: Callable[..., Page]) -> None:
    """Bar, toolbar, the tree as one stop, the pane's buttons and one tab, the list of keys; then out."""
    page = open_cells("agent")
    page.get_by_role("button", name="support_agent").focus()
    stops = []
    for _ in range(30):
        page.keyboard.press("Tab")
        name = "() => document.activeElement.ariaLabel || document.activeElement.textContent.trim()"
        stops.append(page.evaluate(name) if page.evaluate("document.activeElement !== document.body") else "page")
        if stops[-1] == "page":
            break
    assert [re.sub(r"\s+", " ", stop)[:23] for stop in stops] == [
        "Open session ↗", "Search names and conten", "Errors", "Critical path", "Copy JSON", "Copy as Python",
        "Spans", "Run again", "Copy", "Wide details", "Whole screen", "Good", "Bad", "Note", "Messages",
        "You are a support agent",
        *["Copy this message"] * 7, "solid own work", "pale waiting", "dotted first token", "underlined critical pat",
        "?keys", "page",
    ]  # fmt: skip


@pytest.mark.slow
def test_every_focusable_element_keeps_shortcuts_away_by_itself(open_cells: Callable[..., Page]) -> None:
    """JupyterLab looks at the focused element only: without this, `x` cuts the cell."""
    page = open_cells("agent", "err", "fail")
    page.locator("#agent").get_by_role("button", name="? keys").click()
    focusable = "button, a[href], input, textarea, summary, [tabindex]"
    expect(page.locator(f".hh-view :is({focusable})").first).to_be_attached()
    expect(page.locator(f".hh-view :is({focusable}):not([data-lm-suppress-shortcuts=true])")).to_have_count(0)


@pytest.mark.slow
def test_a_system_prompt_opens_by_keyboard(open_cells: Callable[..., Page]) -> None:
    """It is clamped to a line, and that line is a button."""
    page = open_cells("agent")
    prompt = page.get_by_role("button", name=re.compile("You are a support agent"))
    prompt.press("Enter")
    expect(prompt).to_have_attribute("aria-expanded", "true")


@pytest.mark.slow
def test_reduced_motion_and_forced_colors(open_cells: Callable[..., Page]) -> None:
    """No animation if reduced motion is preferred; bars keep their colors in forced-colors mode."""
    page = open_cells("run")
    page.emulate_media(reduced_motion="reduce", forced_colors="active")
    expect(page.locator(".hh-mark-running")).to_have_css("animation-name", "none")
    for name in (".hh-strip", ".hh-kind"):
        expect(page.locator(name).first).to_have_css("forced-color-adjust", "none")
    expect(page.locator("[aria-selected=true][role=treeitem]")).to_have_css("outline-style", "solid")


@pytest.mark.slow
def test_texts_are_large_enough_to_read_and_targets_to_hit(open_cells: Callable[..., Page]) -> None:
    """Text of 11 px at least, buttons 24 px high."""
    page = open_cells("agent", "err", "one", "fail")
    page.locator("#agent").get_by_role("button", name="? keys").click()
    sizes = page.locator(".hh-view :visible").evaluate_all(
        """all => all.filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
            .map(e => [parseFloat(getComputedStyle(e).fontSize), e.className])"""
    )
    assert [entry for entry in sizes if entry[0] < 11] == []
    heights = page.locator(".hh-view button:visible").evaluate_all(
        "all => all.map(b => [b.getBoundingClientRect().height, b.textContent])"
    )
    assert heights
    assert [entry for entry in heights if entry[0] < 23.9] == []
