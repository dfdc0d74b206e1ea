"""Span content is only text: it causes no dialog, request or element, in the static and the interactive view."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Dialog, Page, expect

from tests.browser.harness import Harness
from tests.browser.inert import OURS, elements, handlers
from tests.display.hostile import HOSTILE

STATIC = {
    *("DIV", "DETAILS", "SUMMARY", "SPAN", "B", "CODE", "TABLE", "TBODY", "TR", "TD", "PRE"),
}


@pytest.fixture
def watched(browser: Browser, harness: Harness) -> Iterator[Page]:
    """A page that notes dialogs, requests to elsewhere, and script errors."""
    page = browser.new_page(viewport={"width": 1000, "height": 1400})
    seen: list[str] = []

    def note(what: str) -> None:
        seen.append(what)

    def note_dialog(dialog: Dialog) -> None:
        note(f"dialog {dialog.message}")
        dialog.dismiss()

    allowed = (harness.url, "blob:", "data:,")
    page.on("dialog", note_dialog)
    page.on("pageerror", lambda error: note(f"error {error}"))
    page.on("request", lambda request: None if request.url.startswith(allowed) else note(request.url))
    yield page
    page.close()
    assert seen == []


def test_static_output(watched: Page, harness: Harness) -> None:
    watched.goto(f"{harness.url}?cells=hostile&static")
    watched.locator("details").evaluate_all("all => all.forEach(d => { d.open = true; })")
    for part in ("table", "pre"):
        expect(watched.locator(f".hh-output {part}").first).to_contain_text("<img src=x onerror=alert(1)>")
    assert elements(watched, ".hh-output") <= STATIC
    assert handlers(watched, ".hh-output") == []
    assert watched.evaluate("document.querySelectorAll('script').length") == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_live_view(watched: Page, harness: Harness) -> None:
    """Every span is selected and every tab of it opened."""
    watched.goto(f"{harness.url}?cells=hostile")
    tree = watched.locator(".hh-view [role=tree]")
    tree.focus()
    watched.keyboard.press("Home")
    shown = ""
    for _ in HOSTILE:
        watched.locator(".hh-right .hh-head").evaluate_all(
            "all => all.forEach(head => { head.className += ' before'; })"
        )
        watched.keyboard.press("ArrowDown")
        expect(watched.locator(".hh-head:not(.before) + .hh-tabs")).to_be_attached()
        for tab in range(watched.get_by_role("tab").count()):
            watched.get_by_role("tab").nth(tab).click()
            shown += watched.get_by_role("tabpanel").inner_text()
            assert elements(watched, ".hh-view") <= OURS
            assert handlers(watched, ".hh-view") == []
        tree.focus()
    for name in ("image with a handler", "script", "link", "markdown", "template"):
        assert HOSTILE[name] in shown
    assert watched.evaluate("document.querySelectorAll('script').length") == 1
