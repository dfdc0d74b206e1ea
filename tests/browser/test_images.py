"""Images of messages in the page: drawn from the answer's bytes, shown large, never fetched; in JupyterLab too."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import nbformat
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from hh_jupyter.display.html import mime_bundle
from tests.browser.accessibility import NARROW, WIDE, violations
from tests.browser.harness import Harness
from tests.browser.lab import Jupyter, Lab
from tests.browser.sample_cells import sample_views

pytestmark = pytest.mark.slow


@pytest.fixture
def page(open_cells: Callable[..., Page], harness: Harness) -> Iterator[Page]:
    """Both cells with pictures; all requests must go to the page's own server."""
    page = open_cells("picture", "pictures")
    foreign: list[str] = []
    page.on("request", lambda request: foreign.append(request.url))
    yield page
    assert [url for url in foreign if not url.startswith((harness.url, "blob:"))] == []


def widths(where: Locator) -> list[int]:
    found: list[int] = where.locator("img").evaluate_all("all => all.map(image => image.naturalWidth)")
    return found


def test_images_of_messages_are_drawn_with_type_size_and_pixels(page: Page) -> None:
    pane = page.locator("#pictures").get_by_role("tabpanel")
    expect(pane.locator("img")).to_have_count(3)
    for image in pane.locator("img").all():
        image.evaluate("image => image.decode()")
    assert widths(pane) == [640, 90, 900]
    for box in pane.locator("img").evaluate_all("all => all.map(image => image.getBoundingClientRect().height)"):
        assert 0 < box <= 240
    assert pane.locator(".hh-attached").all_inner_texts() == [
        "image/png, 2.7 kB, 640×480",
        "image/png, 1.4 kB, 90×400",
        "image https://example.org/listings/77/photos/front-garden.jpg",
        "image/svg+xml, 71 B SVG is not drawn: it may hold scripts",
        "floor plan.pdf, application/pdf, 1.0 kB",
        "audio/wav, 2.0 kB",
        "image hidden by OpenInference's 32 kB limit; OPENINFERENCE_BASE64_IMAGE_MAX_LENGTH raises it",
        "image/png, 3.0 MB, 1024×768 not drawn: over 2 MiB",
        "image/png, 3.2 kB, 900×500",
    ]
    expect(pane.locator("a")).to_have_count(0)


def test_a_tools_screenshot_is_drawn_beside_its_output(page: Page) -> None:
    page.locator("#pictures").get_by_role("treeitem", name=re.compile("take_screenshot")).click()
    pane = page.locator("#pictures").get_by_role("tabpanel")
    expect(pane).to_contain_text('"screenshot": "[image/png, 3.2 kB, 900×500]"')
    pane.locator("img").evaluate("image => image.decode()")
    assert widths(pane) == [900]


def test_no_base64_is_text_in_any_tab_or_copy(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    view = page.locator("#pictures")
    shown = ""
    for tab in ("Attributes", "Messages"):
        view.get_by_role("tab", name=tab).click()
        shown += view.get_by_role("tabpanel").inner_text()
    assert "[image/png, 2.7 kB, base64]" in shown
    for button in ("Copy JSON", "Copy as Python"):
        view.get_by_role("button", name=button).click()
        expect(view.get_by_role("button", name="Copied")).to_be_visible()
        shown += page.evaluate("navigator.clipboard.readText()")
        expect(view.get_by_role("button", name=button)).to_be_visible()
    assert "compare_photos" in shown
    assert not re.search(r"[A-Za-z0-9+/]{200}", shown)
    assert "iVBOR" not in shown


def test_a_click_shows_an_image_large_and_escape_closes_it(page: Page) -> None:
    """The keyboard alone will do; no key reaches the view below or the notebook, and the focus comes back."""
    view = page.locator("#pictures")
    thumb = view.get_by_role("button", name="Show large: image/png, 2.7 kB, 640×480")
    small = thumb.locator("img").bounding_box()
    thumb.focus()
    page.keyboard.press("Enter")
    dialog = view.get_by_role("dialog", name="image/png, 2.7 kB, 640×480")
    dialog.locator("img").evaluate("image => image.decode()")
    large = dialog.locator("img").bounding_box()
    assert small
    assert large
    assert large["height"] > 1.3 * small["height"]
    page.evaluate("window.keys = []; document.addEventListener('keydown', (e) => window.keys.push(e.key))")
    for key in ("x", "Tab", "e", "ArrowDown"):
        page.keyboard.press(key)
    expect(dialog.get_by_role("button", name="Close")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(thumb).to_be_focused()
    assert page.evaluate("window.keys") == []
    for click in ("img", "button"):
        thumb.click()
        dialog.locator(click).click()
        expect(dialog).to_have_count(0)


def test_a_large_image_stays_open_when_the_view_is_updated(page: Page) -> None:
    view = page.locator("#pictures")
    view.locator(".hh-thumb").first.click()
    page.evaluate("window.model.tell({type: 'changed', view: 'hh-pictures'}, [])")
    page.wait_for_function("() => window.asked.filter((m) => m.type === 'rows' && m.view === 'hh-pictures').length > 1")
    expect(view.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(view.get_by_role("dialog")).to_have_count(0)


def test_addresses_of_images_are_freed(open_cells: Callable[..., Page]) -> None:
    """However often the pane is drawn anew."""
    page = open_cells("picture")
    view = page.locator("#picture .hh-view")
    view.locator("img").evaluate("image => image.decode()")
    page.evaluate("""() => {
      window.made = 0;
      window.held = new Set();
      const { createObjectURL, revokeObjectURL } = URL;
      URL.createObjectURL = (blob) => {
        const url = createObjectURL.call(URL, blob);
        window.made += 1;
        window.held.add(url);
        return url;
      };
      URL.revokeObjectURL = (url) => { window.held.delete(url); revokeObjectURL.call(URL, url); };
    }""")
    for _ in range(3):
        view.get_by_role("tab", name="Attributes").click()
        view.get_by_role("tab", name="Messages").click()
        view.locator("img").evaluate("image => image.decode()")
    assert page.evaluate("window.made") == 3
    page.wait_for_function("() => window.held.size === 0")


def test_replies_with_images_are_evicted_sooner(open_cells: Callable[..., Page]) -> None:
    """They take megabytes. An evicted reply is requested again."""
    page = open_cells("album")

    def opened(number: int) -> int:
        """Number of requests for details so far."""
        page.locator("#album").get_by_role("treeitem", name=f"look {number}").click()
        expect(page.locator("#album .hh-head .hh-name")).to_have_text(f"look {number}")
        expect(page.locator("#album img")).to_have_count(1)
        return len(page.evaluate("window.asked.filter((message) => message.type === 'details')"))

    first = opened(0)
    assert opened(1) == first + 1
    assert opened(0) == first + 1
    assert [opened(number) for number in (2, 3, 4, 5)] == [first + more for more in (2, 3, 4, 5)]
    assert opened(5) == first + 5
    assert opened(0) == first + 6


@pytest.mark.parametrize(
    ("theme", "size"), [("", WIDE), ("#dark", WIDE), ("", NARROW)], ids=["light", "dark", "narrow"]
)
def test_axe_finds_nothing(open_cells: Callable[..., Page], theme: str, size: object) -> None:
    page = open_cells("picture", "pictures", theme=theme)
    page.set_viewport_size(size)  # type: ignore[arg-type]
    expect(page.locator("#pictures img").first).to_be_visible()
    page.locator("#picture .hh-thumb").click()
    assert violations(page) == []
    page.evaluate("window.stopHub()")
    page.locator("#picture details").evaluate_all("all => all.forEach(d => { d.open = true; })")
    assert violations(page) == []


TRACED = """\
import json
import hh_jupyter as hh
from tests.pictures import encoded, png

with hh.get_tracer().start_span("look") as span:
    part = {"type": "blob", "modality": "image", "mime_type": "image/png", "content": encoded(png(64, 48))}
    span.set_attributes({
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [part]}]),
    })
"""


def test_jupyterlab_shows_the_image_and_the_saved_file_has_none(browser: Browser, jupyter: Jupyter) -> None:
    """Live from the kernel's messages; in the file only at full detail."""
    path = jupyter.write("images.ipynb", ("%load_ext hh_jupyter", TRACED, "%hh show 2 --detail full"))
    with Lab(browser, jupyter.url, "images.ipynb") as lab:
        lab.run_all()
        view = lab.page.locator(".jp-CodeCell").nth(1).locator(".hh-view")
        view.get_by_role("button", name="look").click()
        view.locator("img").evaluate("image => image.decode()")
        assert widths(view) == [64]
        view.locator(".hh-thumb").click()
        lab.page.keyboard.press("x")
        lab.page.keyboard.press("Escape")
        expect(view.locator(".hh-thumb")).to_be_focused()
        expect(lab.page.locator(".jp-CodeCell")).to_have_count(3)
        lab.command("docmanager:save")
        lab.page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")
    cells = nbformat.read(path, as_version=4).cells
    quiet, full = (json.dumps(cells[index].outputs) for index in (1, 2))
    assert "image/png;base64" not in quiet
    assert full.count("data:image/png;base64,iVBOR") == 1


def test_an_untrusted_notebook_shows_the_images_of_its_file(browser: Browser, jupyter: Jupyter) -> None:
    """JupyterLab's sanitizer leaves them, and they are no larger than in the live view."""
    view = sample_views()[0]["picture"]
    output = nbformat.v4.new_output("display_data", dict(mime_bundle(view)))
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cell = nbformat.v4.new_code_cell("look()", execution_count=1, outputs=[output])
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), jupyter.folder / "untrusted-image.ipynb")
    with Lab(browser, jupyter.url, "untrusted-image.ipynb") as lab:
        shown = lab.page.locator(".hh-output")
        assert shown.get_attribute("data-jupyter-id") == "hh-picture"
        shown.locator("details").evaluate_all("all => all.forEach(d => { d.open = true; })")
        shown.locator("img").evaluate("image => image.decode()")
        assert widths(shown) == [320]
        assert "max-height:240px" in str(shown.locator("img").get_attribute("style"))
        assert shown.locator("img").bounding_box()
        assert shown.locator("img").get_attribute("alt") == "image/png, 1.2 kB, 320×200"
