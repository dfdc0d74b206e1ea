"""axe-core, which finds accessibility faults in a page, and the page sizes that it is run at."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from playwright.sync_api import Page, ViewportSize

NARROW, WIDE = ViewportSize(width=540, height=900), ViewportSize(width=1000, height=900)


@cache
def axe_source() -> str:
    return files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


def violations(page: Page) -> list[str]:
    page.evaluate(axe_source())
    found = page.evaluate("async () => (await axe.run('main', { resultTypes: ['violations'] })).violations")
    return [f"{fault['id']}: {node['html'][:160]} {node['any'][:1]}" for fault in found for node in fault["nodes"]]
