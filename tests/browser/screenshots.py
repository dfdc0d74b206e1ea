"""Every state of the view as a picture, light and dark, wide and narrow: `make screenshots` writes them to a folder.

They are looked at, not compared: fonts differ from machine to machine.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.conftest import FLAGS
from tests.browser.harness import SMALL, Harness
from tests.browser.sample_again import ARRIVING, ENDED, FAILED, sample_request
from tests.conftest import BROWSERS

ODD = ("limited", "stopped", "big", "pictures", "picture", "replayed", "partly", "unrecorded", "edited", "compared")
REPORTS = ("result", "compare")
STATES = (*SMALL, *ODD, *REPORTS, "chat")
WIDTHS = (1900, 1040, 760, 560)
THEMES = {"light": "", "dark": "#dark"}


def opened(page: Page) -> None:
    """More than is open by itself: a notice with its tree, the list of keys, a tool's exchange."""
    page.locator("#fail .hh-toggle").click()
    page.locator("#agent").get_by_role("treeitem", name="Tool get_order").click()
    page.locator("#agent").get_by_role("tree").press("?")  # Its button is not there in a narrow view.
    page.locator("#err").get_by_role("button", name="Errors").click()
    page.locator("#picture .hh-thumb").click()
    page.locator("#pictures .hh-thumb").first.click()
    page.locator("#chat").get_by_role("tree").press("w")  # Narrow views have no other form.
    for report in ("result", "compare"):
        page.locator(f"#{report} .hh-tr").nth(3).click()


def searched(page: Page) -> None:
    """A search with its current hit, the thumbs and a note."""
    page.locator("#chat").get_by_role("searchbox").first.fill("lid")
    page.locator("#chat .hh-arrows").wait_for()
    page.locator("#chat").get_by_role("searchbox").first.press("Enter")
    page.locator("#chat").get_by_role("button", name="Note").click()


def made_again(page: Page, harness: Harness, save: Callable[[str, str], None]) -> None:
    """The request of a model call as a draft with changes, and variants beside the original."""
    for name, variants in {"draft": (), "variants": (ENDED, ARRIVING), "failed": (ENDED, FAILED, ARRIVING)}.items():
        harness.again = sample_request(*variants)
        page.locator("#agent").get_by_role("treeitem", name="LLM write_reply").click()
        page.locator("#agent").get_by_role("button", name="Run again").click()
        page.locator("#agent .hh-go button").wait_for()
        if name == "draft":
            page.locator("#agent").get_by_label("temperature", exact=True).fill("0.7")
            page.locator("#agent").get_by_label("user message 2").fill("Is it covered?")
        save("agent", f"again-{name}")
        page.locator("#agent").get_by_role("button", name="Back to the trace").click()


def take(browser: Browser, harness: Harness, folder: Path, width: int, theme: str) -> None:
    """All states in one width and theme."""
    page = browser.new_page(viewport={"width": width, "height": 900}, device_scale_factor=1.5)
    page.goto(f"{harness.url}?cells={','.join(STATES)}{THEMES[theme]}")
    page.wait_for_function("count => document.querySelectorAll('.hh-view').length === count", arg=len(STATES))
    page.add_style_tag(content="main { max-width: none !important }")  # A window of 1900 px is to show a view as wide.
    page.wait_for_function("() => !document.querySelector('.hh-right:empty')")
    for state in STATES:
        page.locator(f"#{state}").screenshot(path=folder / f"{state}-{width}-{theme}.png", animations="disabled")

    def save(state: str, more: str) -> None:
        page.locator(f"#{state}").screenshot(path=folder / f"{state}-{more}-{width}-{theme}.png", animations="disabled")

    searched(page)
    save("chat", "search")
    opened(page)
    for state in ("fail", "agent", "err", "pictures", "picture", "result", "compare", "chat"):
        save(state, "more")
    made_again(page, harness, save)
    page.locator("#agent").get_by_role("button", name="Whole screen").click()
    page.screenshot(path=folder / f"full-{width}-{theme}.png", animations="disabled")
    page.locator("#agent").get_by_role("button", name="Whole screen").click()
    page.evaluate("window.stopHub()")
    for state in STATES:
        page.locator(f"#{state}").screenshot(path=folder / f"{state}-static-{width}-{theme}.png")
    page.close()


def main(folder: Path) -> None:
    """Take all pictures into a folder, which is made."""
    chromium = next(path for name in BROWSERS if (path := shutil.which(name)))
    folder.mkdir(parents=True, exist_ok=True)
    with Harness() as harness, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        for width in WIDTHS:
            for theme in THEMES:
                take(browser, harness, folder, width, theme)
        browser.close()
    print(f"{len(list(folder.glob('*.png')))} pictures in {folder}/")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
