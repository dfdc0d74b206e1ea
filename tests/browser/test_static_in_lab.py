"""Saved static outputs in a real JupyterLab, trusted and untrusted: what its sanitizer leaves of them is readable."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat.sign import NotebookNotary
from playwright.sync_api import Browser, Locator, Page, expect

from hh_jupyter.display.html import mime_bundle
from tests.browser.lab import IDLE, lab_server
from tests.display.hostile import HOSTILE
from tests.display.states import UNREACHABLE, states
from tests.display.views import view
from tests.records.builders import span

pytestmark = pytest.mark.slow
"""A JupyterLab of its own, for a minute; `test_lab.py` has one for the quick layer."""

STATES = states()
PATIENCE = 60_000
"""Milliseconds; the machine may be busy."""
expect.set_options(timeout=PATIENCE)

LOWEST_CONTRAST = """(output, background) => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (rgb) => rgb.map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = parts(background);
  const texts = [...output.querySelectorAll("*")].filter((e) => e.checkVisibility() && e.textContent.trim());
  const contrasts = texts.map((e) => {
    const [r, g, b, a = 1] = parts(getComputedStyle(e).color);
    let alpha = a;
    for (let node = e; node !== output; node = node.parentElement) alpha *= getComputedStyle(node).opacity;
    const seen = [r, g, b].map((part, index) => part * alpha + behind[index] * (1 - alpha));
    const [dark, light] = [luminance(seen), luminance(behind)].sort((x, y) => x - y);
    return alpha ? (light + 0.05) / (dark + 0.05) : 21;
  });
  return Math.min(...contrasts);
}"""
"""WCAG contrast of the faintest text of an output, with what is see-through taken into account."""
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
TAGS = ("DETAILS", "SUMMARY", "SPAN", "B", "DIV", "TABLE", "TBODY", "TR", "TD", "CODE")
TRUST = pytest.mark.parametrize("lab", ["trusted", "untrusted"], indirect=True)


COMPOSED = (
    "%load_ext hh_jupyter",
    """\
import ipywidgets
import hh_jupyter as hh

@hh.trace
def look_up(key):
    return {"a": 1}[key]

@hh.trace(event_type="chain")
def answer(key):
    look_up("a")
    return look_up(key)

try:
    answer("b")
except KeyError:
    pass
""",
    "%hh show 2 --errors",
    "ipywidgets.VBox([ipywidgets.Label('what happened'), hh.SpanView(2, errors=True), hh.SpanView('all')])",
    "ipywidgets.HBox([hh.SpanView(2), hh.SpanView('all')])",
)


def saved_notebook(name: str) -> nbformat.NotebookNode:
    """A cell for each state, with the output that a kernel would have left, and one with hostile texts.

    Its name is in it: a signature is one of the contents.
    """
    texts = [text[:2_000] for text in HOSTILE.values()]
    hostile = [span(i, None, 0, 9, text, kind="llm", model=text) for i, text in enumerate(texts, 1)]
    cells = []
    for state, shown in {**STATES, "hostile": view(hostile, mode="tree")}.items():
        metadata = {"hh_jupyter": {"view_id": shown.view_id}}
        output = nbformat.v4.new_output("display_data", dict(mime_bundle(shown)), metadata=metadata)
        cells.append(nbformat.v4.new_code_cell(f"# {state}", execution_count=1, outputs=[output]))
    return nbformat.v4.new_notebook(cells=cells, metadata={**KERNEL, "title": name})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("saved")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    """JupyterLab with the same notebook twice, of which one is signed as its own work."""
    for name in ("trusted", "untrusted"):
        nbformat.write(saved_notebook(name), folder / f"{name}.ipynb")
    composed = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, COMPOSED)), metadata=KERNEL)
    nbformat.write(composed, folder / "composed.ipynb")
    (folder / ".jupyter_data_dir").mkdir(exist_ok=True)
    notary = NotebookNotary(data_dir=str(folder / ".jupyter_data_dir"))
    notary.sign(nbformat.read(folder / "trusted.ipynb", as_version=4))
    notary.store.close()
    with lab_server(folder) as url:
        yield url


@pytest.fixture(scope="module")
def pages(browser: Browser, server: str) -> Iterator[dict[str, Page]]:
    """Both notebooks, opened; nothing in them may open a dialog or ask for anything elsewhere."""
    opened: dict[str, Page] = {}
    wrong: list[str] = []
    for name in ("trusted", "untrusted"):
        page = opened[name] = browser.new_page(viewport={"width": 1200, "height": 6000})
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.on("request", lambda request: wrong.append(request.url))
        page.goto(f"{server}/lab/tree/{name}.ipynb?reset")
        expect(page.locator(".hh-output")).to_have_count(len(STATES) + 1)
    yield opened
    for page in opened.values():
        page.close()
    assert [asked for asked in wrong if not asked.startswith((server, "data:", "blob:", "ws:"))] == []


@pytest.fixture
def lab(request: pytest.FixtureRequest, pages: dict[str, Page]) -> Page:
    return pages[request.param]


def output(lab: Page, state: str) -> Locator:
    return lab.locator(".jp-CodeCell").nth([*STATES, "hostile"].index(state)).locator(".hh-output")


def test_one_of_them_is_sanitized(pages: dict[str, Page]) -> None:
    """Or nothing below says anything about untrusted notebooks."""
    assert output(pages["trusted"], "ok").get_attribute("id") == "hh-ok"
    assert output(pages["untrusted"], "ok").get_attribute("id") is None
    assert output(pages["untrusted"], "ok").get_attribute("data-jupyter-id") == "hh-ok"


@TRUST
def test_summary_error_and_notice_are_seen_without_opening_anything(lab: Page) -> None:
    expect(output(lab, "ok").get_by_text("3 LLM calls")).to_be_visible()
    expect(output(lab, "ok").get_by_text("write_reply")).to_be_hidden()
    error = output(lab, "error")
    expect(error.get_by_text("HTTPError: 503 Service Unavailable")).to_be_visible()
    expect(error.get_by_text("through issue_refund, then support_agent (payments.py:41)")).to_be_visible()
    expect(output(lab, "not sent").get_by_text(UNREACHABLE)).to_be_visible()
    expect(output(lab, "not sent").get_by_text("%hh save FILE")).to_be_visible()
    output(lab, "ok").locator("summary").click()
    expect(output(lab, "ok").get_by_text("write_reply")).to_be_visible()


@TRUST
def test_rows_are_in_columns_with_bars_where_the_time_went(lab: Page) -> None:
    rows = output(lab, "error").locator("tr:not(:first-child)")
    expect(rows).to_have_count(11)
    boxes = [rows.nth(index).locator("td").last.locator("div").bounding_box() for index in range(11)]
    table = output(lab, "error").locator("table").bounding_box()
    assert table is not None
    for box in boxes:
        assert box is not None
        assert box["height"] == 9
        assert table["x"] + table["width"] * 0.5 < box["x"] < table["x"] + table["width"]
    first, last = boxes[0], boxes[-1]
    assert first is not None
    assert last is not None
    assert first["width"] > 3 * last["width"]
    assert last["x"] > first["x"] + first["width"] * 0.8
    heights = [rows.nth(index).evaluate("row => row.getBoundingClientRect().height") for index in range(11)]
    assert max(heights) < 30


@TRUST
def test_text_is_readable_in_the_light_and_the_dark_theme(lab: Page) -> None:
    theme = "name => { window.jupyterapp.commands.execute('apputils:change-theme', { theme: name }); return 1; }"
    for name, background in (("JupyterLab Dark", "rgb(17, 17, 17)"), ("JupyterLab Light", "rgb(255, 255, 255)")):
        lab.evaluate(theme, name)
        expect(lab.locator(".jp-Notebook").first).to_have_css("background-color", background)
        assert output(lab, "error").evaluate(LOWEST_CONTRAST, background) >= 4.5


@TRUST
def test_messages_are_plain_text_to_open(lab: Page) -> None:
    shown = output(lab, "one span in full")
    expect(shown.locator("pre")).to_contain_text(
        "Explain idempotency keys in one sentence. <img src=x onerror=alert(1)>"
    )
    preview = output(lab, "error with a preview")
    expect(preview.locator("pre").first).to_be_hidden()
    preview.get_by_text("Messages: decide").click()
    expect(preview.get_by_text("issue_refund({")).to_be_visible()


@TRUST
def test_hostile_text_makes_no_element(lab: Page) -> None:
    shown = output(lab, "hostile")
    tags = shown.evaluate("o => [...new Set([...o.querySelectorAll('*')].map(e => e.tagName))].sort()")
    assert set(tags) <= set(TAGS)
    expect(shown.get_by_text(re.compile("onerror=alert")).first).to_be_visible()


def test_nothing_is_said_about_missing_widgets(pages: dict[str, Page]) -> None:
    for page in pages.values():
        expect(page.get_by_text(re.compile("model not found|Error displaying widget"))).to_have_count(0)
        expect(page.locator(".hh-view")).to_have_count(0)


SESSION = "window.jupyterapp.shell.currentWidget.sessionContext.session"


def saved_with_widget_state(page: Page, folder: Path) -> nbformat.NotebookNode:
    """The notebook, saved with the state of widgets, as a setting of JupyterLab's says."""
    command = "@jupyter-widgets/jupyterlab-manager:saveWidgetState"
    page.evaluate("name => window.jupyterapp.commands.execute(name)", command)
    page.wait_for_function("name => window.jupyterapp.commands.isToggled(name)", arg=command)
    page.evaluate("() => window.jupyterapp.shell.currentWidget.context.save()")
    return nbformat.read(folder / "composed.ipynb", as_version=4)


def test_views_are_widgets_to_compose_with_others(browser: Browser, server: str, folder: Path) -> None:
    """Inside a layout, beside another widget and beside the view under the cell; each is a view of its own.

    The file holds their static form, which is back when the kernel is gone, and no widget of ours.
    """
    page = browser.new_page(viewport={"width": 1400, "height": 2400})
    address = f"{server}/lab/tree/composed.ipynb?reset"
    page.goto(address)
    page.wait_for_selector(".jp-CodeCell")
    page.wait_for_function(IDLE)
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); return 1; }")
    box = page.locator(".jp-CodeCell").nth(3).locator(".widget-vbox")
    expect(box.get_by_text("what happened")).to_be_visible(timeout=60_000)
    failed, everything = box.locator(".hh-view").first, box.locator(".hh-view").last
    expect(failed.get_by_role("treeitem")).to_have_count(2)
    expect(everything.get_by_role("treeitem")).to_have_count(3)
    expect(failed.get_by_role("tabpanel")).to_contain_text("KeyError")
    asked = page.locator(".jp-CodeCell").nth(2).locator(".hh-view")
    expect(asked.get_by_role("treeitem")).to_have_count(2)
    expect(asked.get_by_role("button", name="Errors")).to_have_attribute("aria-pressed", "true")
    beside = page.locator(".jp-CodeCell").nth(4).locator(".hh-view")
    expect(beside).to_have_count(2)
    left, right = (beside.nth(number).bounding_box() for number in (0, 1))
    assert left is not None
    assert right is not None
    assert left["width"] > 400
    assert left["width"] == pytest.approx(right["width"], rel=0.1)
    assert left["x"] + left["width"] <= right["x"] + 1
    everything.get_by_role("button", name="answer").click()
    expect(everything.get_by_role("tree")).to_have_count(0)
    expect(failed.get_by_role("tree")).to_have_count(1)
    saved = saved_with_widget_state(page, folder)
    assert "widget-view" not in str(saved.cells)
    assert "hh_jupyter." not in str(saved.metadata.get("widgets"))
    for close in ("kernel.restart()", None):
        if close:
            page.evaluate(f"() => {{ {SESSION}.{close}; return 1; }}")
        else:
            page.goto(address)  # Reloaded, it might restore the notebooks of other pages of this server as well.
        expect(page.locator(".hh-view, .hh-widgets")).to_have_count(0)
        expect(page.locator(".jp-CodeCell").nth(3).get_by_text("KeyError: 'b'").first).to_be_visible()
        expect(page.locator(".jp-CodeCell").nth(4).locator(".hh-box table")).to_have_count(2)
        expect(page.get_by_text(re.compile("model not found|Error displaying widget"))).to_have_count(0)
    page.close()
