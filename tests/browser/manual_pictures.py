"""The manual's pictures of the interactive view, taken in JupyterLab: `make pictures` writes them to notebooks/images.

They are looked at, not compared: fonts differ from machine to machine.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import nbformat
from playwright.sync_api import Browser, Locator, sync_playwright

from tests.browser.conftest import FLAGS
from tests.browser.lab import PROJECT, Lab, lab_server
from tests.conftest import BROWSERS

NOTEBOOKS = PROJECT / "notebooks"


def opened(cell: Locator) -> None:
    """Open the tree."""
    cell.locator(".hh-view .hh-toggle").click()


def slow_tool(cell: Locator) -> None:
    """Select the slow tool: the last one."""
    opened(cell)
    cell.get_by_role("treeitem", name="Tool weather").last.click()


def answered(cell: Locator) -> None:
    """Select the model call that made the answer: the last one."""
    opened(cell)
    cell.get_by_role("treeitem", name="LLM").last.click()


def compared(cell: Locator) -> None:
    """Show what changed in the model call."""
    cell.get_by_role("treeitem", name="changed: LLM").click()


def row_opened(cell: Locator) -> None:
    """Open the second row of a result."""
    cell.locator(".hh-tr").nth(1).click()


PICTURES: dict[str, tuple[str, str, Callable[[Locator], None]]] = {
    "summary": ("01_quickstart", "session", answered),
    "sessions": ("02_sessions", "named", opened),
    "libraries": ("03_libraries", "own", opened),
    "agents": ("04_agents", "run", slow_tool),
    "recordings": ("05_recordings", "second", opened),
    "comparing": ("06_comparing", "words", compared),
    "experiment": ("07_experiments", "experiments-11", row_opened),
}
"""Picture -> notebook, id of the cell, and what is done with its output."""


def take(browser: Browser, url: str, picture: str) -> None:
    """Run the notebook up to the cell, and take its picture."""
    stem, cell_id, act = PICTURES[picture]
    cells = nbformat.read(NOTEBOOKS / f"{stem}.ipynb", as_version=4).cells
    index = next(number for number, cell in enumerate(cells) if cell.id == cell_id)
    with Lab(browser, url, f"notebooks/{stem}.ipynb", height=1400) as lab:
        for number in range(index + 1):
            if cells[number].cell_type == "code":
                lab.run(number)
        lab.scroll_to(index)
        cell = lab.page.locator(f'.jp-Cell[data-windowed-list-index="{index}"]')
        act(cell)
        lab.page.wait_for_timeout(800)  # Details come from the kernel.
        cell.screenshot(path=NOTEBOOKS / "images" / f"{picture}.png", animations="disabled")


def main(pictures: Sequence[str]) -> None:
    """Take the named pictures, or all of them."""
    chromium = next(path for name in BROWSERS if (path := shutil.which(name)))
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        shutil.copytree(NOTEBOOKS, folder / "notebooks")
        (folder / "tests").symlink_to(PROJECT / "tests")
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        with lab_server(folder) as url:
            for picture in pictures or PICTURES:
                take(browser, url, picture)
                print(picture)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1:])
