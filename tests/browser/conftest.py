"""One headless Chromium for all tests of this folder, and a page of sample cells."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.harness import Harness

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    """A browser that opens no connection of its own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def harness() -> Iterator[Harness]:
    """The server of the page of sample cells."""
    with Harness() as harness:
        yield harness


@pytest.fixture
def cells(browser: Browser, harness: Harness) -> Iterator[Page]:
    """The page, with every cell made interactive. A script error on it fails the test."""
    page = browser.new_page(viewport={"width": 1000, "height": 900})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(harness.url)
    page.wait_for_function("count => document.querySelectorAll('.hh-view').length === count", arg=len(harness.views))
    yield page
    page.close()
    assert errors == []
