"""One headless Chromium for all tests of this folder, and a page of sample cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.harness import SMALL, Harness
from tests.browser.lab import Jupyter, lab_server

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
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jupyter]:
    """A JupyterLab that tests share."""
    folder = tmp_path_factory.mktemp("jupyter")
    with lab_server(folder) as url:
        yield Jupyter(url, folder)


@pytest.fixture(scope="session")
def harness() -> Iterator[Harness]:
    """The server of the page of sample cells."""
    with Harness() as harness:
        yield harness


@pytest.fixture
def open_cells(browser: Browser, harness: Harness) -> Iterator[Callable[..., Page]]:
    """Open a page of sample cells, by default the small ones. A script error on it fails the test."""
    errors: list[str] = []
    with ExitStack() as pages:

        def show(*names: str, theme: str = "") -> Page:
            page = browser.new_page(viewport={"width": 1000, "height": 900})
            pages.callback(page.close)
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto(f"{harness.url}?cells={','.join(names or SMALL)}{theme}")
            wait = "count => document.querySelectorAll('.hh-view').length === count"
            page.wait_for_function(wait, arg=len(names or SMALL))
            return page

        yield show
    assert errors == []


@pytest.fixture
def cells(open_cells: Callable[..., Page]) -> Page:
    """The page of the small sample cells, all of them interactive."""
    return open_cells()
