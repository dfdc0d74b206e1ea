"""`make docs` builds a site that is whole: no warning, no dead link, nothing from a network, readable on any screen."""

from __future__ import annotations

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser

import hh_jupyter
import hh_jupyter.testing
from tests.pages import ROOT

pytest.importorskip("sphinx", reason="make docs installs it")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    options = ["-q", "-W", "--keep-going", "-d", str(folder / "cache"), "-c", "notebooks/site"]
    command = [sys.executable, "-m", "sphinx", *options, ".", str(folder / "html")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "html"


class Links(HTMLParser):
    """The addresses in a page, and its anchors."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors.update(filter(None, (given.get("id"), given.get("name"))))
        self.found.update(filter(None, (given.get("href"), given.get("src"))))


def test_every_link_leads_to_a_file_and_an_anchor_of_the_site(site: Path) -> None:
    pages = {path: Links(path) for path in site.rglob("*.html") if "_static" not in path.parts}
    assert len(pages) > 15
    dead = []
    for path, page in pages.items():
        for link in page.found:
            parts = urlsplit(link)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchors = pages[target].anchors if target in pages else set()
            if not parts.scheme and (not target.exists() or (unquote(parts.fragment) not in {"", *anchors})):
                dead.append((path.name, link))
    assert dead == []


def test_the_reference_has_every_public_name(site: Path) -> None:
    anchors = Links(site / "notebooks" / "site" / "api.html").anchors
    names = {f"{module.__name__}.{name}" for module in (hh_jupyter, hh_jupyter.testing) for name in module.__all__}
    assert sorted(names - anchors) == []


WIDER_THAN_THE_SCREEN = """() => {
  const box = document.querySelector(".content") ?? document.documentElement;  // The theme lets this box scroll.
  // An output hides what does not fit into its border; its cell scrolls.
  const outputs = [...document.querySelectorAll(".cell_output .hh-output")];
  return [box, ...outputs].some((one) => one.scrollWidth > one.clientWidth + (one === box ? 0 : 4));
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_no_page_needs_a_network_or_is_wider_than_the_screen(
    browser: Browser, site: Path, width: int, theme: str
) -> None:
    context = browser.new_context(color_scheme=theme, viewport={"width": width, "height": 900}, offline=True)  # type: ignore[arg-type]
    page = context.new_page()
    foreign: set[str] = set()
    problems: list[str] = []
    page.on("request", lambda request: foreign.add(request.url))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    for path in sorted(site.rglob("*.html")):
        page.goto(path.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        if page.evaluate(WIDER_THAN_THE_SCREEN):
            problems.append(f"{path.name} or an output in it is wider than {width} px")
    context.close()
    assert [address for address in sorted(foreign) if not address.startswith(("file:", "data:"))] == []
    assert problems == []


def test_the_search_finds_a_setting_without_a_server(browser: Browser, site: Path) -> None:
    page = browser.new_page()
    page.goto(f"{(site / 'search.html').as_uri()}?q=redact_patterns")
    page.locator("#search-results a", has_text="Reference").first.wait_for()
    page.close()
