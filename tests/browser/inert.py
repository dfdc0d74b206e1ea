"""What a view is made of, and what of it could run or load something."""

from __future__ import annotations

from playwright.sync_api import Page

OURS = {
    *("DIV", "SPAN", "B", "BUTTON", "CANVAS", "CODE", "DD", "DL", "DT"),
    *("I", "INPUT", "KBD", "P", "PRE", "TABLE", "TBODY", "TD", "TH", "THEAD", "TR", "WBR", "svg", "path"),
}
"""Elements that the view is made of."""
RISKY = ("src", "href", "srcdoc", "action", "autofocus")


def elements(page: Page, root: str) -> set[str]:
    return set(page.locator(f"{root} *").evaluate_all("all => all.map(e => e.tagName)"))


def handlers(page: Page, root: str) -> list[str]:
    """Attributes that run or load something."""
    names = page.locator(f"{root} *").evaluate_all("all => all.flatMap(e => [...e.attributes].map(a => a.name))")
    return [name for name in names if name.startswith("on") or name in RISKY]
