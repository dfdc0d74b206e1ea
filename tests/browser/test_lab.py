"""The hub in a real JupyterLab: the summary opens into a tree fed by the kernel, and the notebook stays as it was."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.browser.lab import NOTEBOOK, Lab, lab_server, write_notebook

CELLS = (
    "%load_ext hh_jupyter",
    """\
import time
import hh_jupyter as hh

@hh.trace(event_type="tool")
def get_order(order_id):
    time.sleep(0.02)
    return {"order_id": order_id, "status": "delivered <b>today</b>"}

@hh.trace(event_type="tool")
def refund(order_id):
    raise ConnectionError("503 Service Unavailable")

@hh.trace(event_type="chain")
def support_agent(order_id, pay=False):
    order = get_order(order_id)
    return refund(order_id) if pay else order
""",
    "%%hh_session refund-triage\nreply = support_agent(48213)",
    "support_agent(48214, pay=True)",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def lab(browser: Browser, folder: Path) -> Iterator[Lab]:
    """A notebook with one traced cell that worked and one that failed, all run."""
    write_notebook(folder, CELLS)
    with lab_server(folder) as url:
        lab = Lab(browser, url)
        lab.run_all()
        lab.page.wait_for_selector(".hh-view", timeout=30_000)
        yield lab
        lab.page.close()
        assert [error for error in lab.errors if "hh" in error] == []


def output(lab: Lab, cell: int) -> Locator:
    return lab.page.locator(".jp-CodeCell").nth(cell).locator(".hh-view")


def test_the_summary_opens_into_the_tree(lab: Lab) -> None:
    """One line under the cell; a click opens tree and details, which the kernel sends."""
    view = output(lab, 2)
    expect(view.locator(".hh-bar")).to_contain_text("Local only")
    expect(view.get_by_role("tree")).to_have_count(0)
    view.get_by_role("button", name="support_agent").click()
    expect(view.get_by_role("treeitem")).to_have_count(2)
    view.get_by_role("treeitem", name=re.compile("get_order")).click()
    view.get_by_role("tab", name="Input and output").click()
    pane = view.get_by_role("tabpanel")
    expect(pane).to_contain_text("48213")
    expect(pane).to_contain_text("delivered <b>today</b>")
    expect(pane.locator(".hh-json b")).to_have_count(0)


def test_a_failed_cell_is_open_at_its_error(lab: Lab) -> None:
    """Under the failing cell the view is open, with the failing span selected and the user's own code in the stack."""
    view = output(lab, 3)
    expect(view.locator("[role=treeitem][aria-selected=true]")).to_have_attribute("aria-label", re.compile("refund"))
    expect(view.get_by_role("tabpanel")).to_contain_text("ConnectionError")
    expect(view.get_by_role("tabpanel")).to_contain_text("in refund")


def test_each_view_is_under_its_own_cell(lab: Lab) -> None:
    """Two traced cells, two views; none under the others."""
    assert [output(lab, index).count() for index in range(len(CELLS))] == [0, 0, 1, 1]


def restart(lab: Lab) -> None:
    """Restart the kernel, without the dialog."""
    lab.page.evaluate(
        "() => { window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart(); return 1; }"
    )


@pytest.mark.slow
def test_keys_in_the_tree_do_not_touch_cells(lab: Lab) -> None:
    """Shortcuts that cut, delete, insert, convert or restart do nothing while the focus is in the view."""
    before = lab.sources()
    view = output(lab, 3)
    for target in (
        view.get_by_role("tree"),
        view.get_by_role("button", name="Critical path"),
        view.get_by_role("tab").first,
    ):
        target.focus()
        for key in ("x", "a", "b", "m", "y", "0", "0"):
            lab.page.keyboard.press(key)
        expect(target).to_be_focused()
    view.get_by_role("tree").focus()
    lab.page.keyboard.press("d")  # Opens what changed, as a second one closes it.
    lab.page.keyboard.press("d")
    expect(view.get_by_role("tree")).to_be_focused()
    view.get_by_role("treeitem").first.click()
    for key in ("x", "d", "d"):
        lab.page.keyboard.press(key)
    assert lab.sources() == before
    expect(lab.page.locator(".jp-Dialog")).to_have_count(0)


@pytest.mark.slow
def test_the_view_searches_contents_takes_feedback_and_fills_the_screen(lab: Lab) -> None:
    """What an answer held is found; a thumb is kept as feedback; no key reaches the notebook, also in the dialog."""
    view = output(lab, 3)
    cells = lab.page.locator(".jp-Cell").count()
    view.get_by_role("searchbox").fill("delivered <b>TODAY")
    expect(view.locator(".hh-shown")).to_have_text("1 hit in 1 of 3 spans")
    expect(view.locator(".hh-args").first).to_contain_text("order_id=48214")
    view.get_by_role("searchbox").fill("")
    tree = view.get_by_role("tree")
    tree.press("f")
    dialog = lab.page.locator("dialog.hh-full")
    box, window = dialog.bounding_box(), lab.page.viewport_size
    assert box is not None
    assert window is not None
    assert (box["x"], box["y"]) == (16, 16)
    assert box["width"] == window["width"] - 32
    for key in ("x", "d", "d", "a", "m", "-", "Escape"):
        lab.page.keyboard.press(key)
    expect(dialog).to_have_count(0)
    expect(tree).to_be_focused()
    expect(view.get_by_role("button", name="Bad")).to_have_attribute("aria-pressed", "true")
    expect(view.locator("[aria-selected=true] .hh-rated")).to_be_visible()
    assert lab.page.locator(".jp-Cell").count() == cells


@pytest.mark.slow
def test_the_theme_follows_jupyterlab(lab: Lab) -> None:
    """Switching Lab to dark switches the views at once."""
    view = output(lab, 3)
    expect(view).to_have_css("background-color", "rgb(255, 255, 255)")
    set_theme = "name => { window.jupyterapp.commands.execute('apputils:change-theme', { theme: name }); return 1; }"
    lab.page.evaluate(set_theme, "JupyterLab Dark")
    expect(view).to_have_css("background-color", "rgb(20, 23, 28)")
    lab.page.evaluate(set_theme, "JupyterLab Light")
    expect(view).to_have_css("background-color", "rgb(255, 255, 255)")


def test_the_saved_file_holds_static_outputs_only(lab: Lab, folder: Path) -> None:
    """No widget state, no widget view, no error box: text/html and text/plain."""
    lab.save()
    notebook = nbformat.read(folder / NOTEBOOK, as_version=4)
    assert "widgets" not in notebook.metadata
    kinds = [
        set(out.data) for cell in notebook.cells for out in cell.get("outputs", []) if out.output_type == "display_data"
    ]
    assert kinds == [{"text/plain", "text/html"}] * 2
    assert "hh-view" not in (folder / NOTEBOOK).read_text()
    expect(lab.page.get_by_text("Error displaying widget")).to_have_count(0)


@pytest.mark.slow
def test_a_reloaded_page_is_interactive_again(lab: Lab) -> None:
    """The kernel lives: after a reload its outputs are found and mounted, and details come."""
    lab.page.reload()
    lab.wait_for_kernel()
    view = output(lab, 3)
    expect(view).to_be_visible(timeout=30_000)
    expect(view.get_by_role("tabpanel")).to_contain_text("ConnectionError")


@pytest.mark.slow
def test_after_a_restart_running_again_makes_every_output_interactive(lab: Lab) -> None:
    """The dead kernel's hub releases the outputs to the new kernel's hub."""
    for patient in (True, False):  # Before and after the dead kernel was noticed.
        restart(lab)
        if patient:
            expect(lab.page.locator(".hh-view")).to_have_count(0, timeout=30_000)
        lab.page.wait_for_timeout(1_000)
        lab.wait_for_kernel()
        lab.run_all()
        expect(lab.page.locator(".hh-view")).to_have_count(2)
        lab.page.wait_for_timeout(3_000)  # Longer than a view waits for a silent kernel before it gives up.
        expect(lab.page.locator(".hh-view")).to_have_count(2)


@pytest.mark.slow
def test_after_a_restart_the_static_outputs_are_back(lab: Lab) -> None:
    """The kernel that knew the spans is gone: static outputs, at once and after a reload, and no error box."""
    restart(lab)
    expect(lab.page.locator(".hh-view")).to_have_count(0, timeout=30_000)
    expect(lab.page.locator(".hh-output").first).to_be_visible()
    lab.page.reload()
    lab.wait_for_kernel()
    expect(lab.page.locator(".hh-output")).to_have_count(2)
    expect(lab.page.locator(".hh-view")).to_have_count(0)
    expect(lab.page.get_by_text("Error displaying widget")).to_have_count(0)
