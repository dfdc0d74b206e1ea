"""Slow cases: Notebook 7, a notebook of 200 traced cells, a cell of 100,000 spans."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.lab import Jupyter, Lab

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TRACED = 'with hh.get_tracer().start_span("step {0}"):\n    with hh.get_tracer().start_span("inner {0}"):\n        pass'
LOAD = "import hh_jupyter as hh\n%load_ext hh_jupyter"

COUNT_REQUESTS = """
window.rowRequests = 0;
const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (data) {
  const text = typeof data === "string" ? data : new TextDecoder("latin1").decode(data);
  window.rowRequests += text.includes('"type":"rows"');
  return send.call(this, data);
};"""

COMMS = """\
from comm import get_comm_manager
len([one for one in get_comm_manager().comms.values() if one.target_name == "jupyter.widget"])"""


def test_notebook_7(browser: Browser, jupyter: Jupyter) -> None:
    """Live, after a reload, static after a restart; keys stay away from cells."""
    jupyter.write("seven.ipynb", (LOAD, TRACED.format(1), 'with hh.get_tracer().start_span("bad"):\n    1 / 0'))
    with Lab(browser, jupyter.url, "seven.ipynb", app="notebooks") as seven:
        seven.run_all()
        views = seven.page.locator(".hh-view")
        expect(views).to_have_count(2, timeout=30_000)
        expect(views.nth(1).get_by_role("tabpanel")).to_contain_text("ZeroDivisionError")
        views.nth(0).get_by_role("button", name="step 1").click()
        views.nth(0).get_by_role("tree").focus()
        before = seven.sources()
        for key in ("x", "d", "d", "a", "m", "0", "0"):
            seven.page.keyboard.press(key)
        assert seven.sources() == before
        seven.save()
        seven.page.reload()
        seven.wait_for_kernel()
        expect(views).to_have_count(2, timeout=30_000)
        seven.restart()
        expect(views).to_have_count(0, timeout=30_000)
        expect(seven.page.locator(".hh-output")).to_have_count(2)
        seven.page.reload()
        seven.wait_for_kernel()
        expect(seven.page.locator(".hh-output")).to_have_count(2)
        expect(seven.page.get_by_text("Error displaying widget")).to_have_count(0)


def test_two_hundred_traced_cells(browser: Browser, jupyter: Jupyter) -> None:
    """Run at once in a new page: one widget for all of them, few requests; the first, the middle and the last open and
    close."""
    count = 200
    jupyter.write("many.ipynb", (LOAD, *(TRACED.format(n) for n in range(count)), COMMS))
    with Lab(browser, jupyter.url, "many.ipynb", height=900, script=COUNT_REQUESTS) as lab:
        lab.command("notebook:run-all-cells")
        last = lab.page.locator(f'.jp-CodeCell[data-windowed-list-index="{count + 1}"]')
        lab.scroll_to(count + 1)
        # A widget's layout is a widget.
        expect(last.locator(".jp-OutputArea-output")).to_have_text("2", timeout=300_000)
        for index in (count, 1, count // 2, count):
            lab.scroll_to(index)
            cell = lab.page.locator(f'.jp-CodeCell[data-windowed-list-index="{index}"]')
            expect(cell.locator(".hh-view")).to_be_visible(timeout=30_000)
            cell.get_by_role("button", name=re.compile("^step")).click()
            expect(cell.get_by_role("treeitem")).to_have_count(2)
            cell.get_by_role("button", name=re.compile("^step")).click()
        assert 0 < lab.page.evaluate("window.rowRequests") < 4 * count


def test_a_hundred_thousand_spans(browser: Browser, jupyter: Jupyter) -> None:
    """Spans in memory are shown, evicted ones counted, and only few rows rendered."""
    loop = """\
tracer = hh.get_tracer()
with tracer.start_span("root"):
    for number in range(100_000):
        with tracer.start_span("step"):
            pass"""
    jupyter.write("huge.ipynb", (LOAD, loop))
    with Lab(browser, jupyter.url, "huge.ipynb") as lab:
        lab.run_all(timeout=300_000)
        view = lab.page.locator(".hh-view")
        expect(view).to_have_count(1, timeout=120_000)
        expect(view.locator(".hh-bar")).to_contain_text("20,000 of 100,001")
        view.locator(".hh-toggle").click()
        expect(view.get_by_role("tree")).to_be_visible()
        expect(view.get_by_role("treeitem")).to_have_count(2)
        view.get_by_role("treeitem", name=re.compile("times")).locator(".hh-twisty").click()
        expect(view.get_by_role("treeitem").nth(2)).to_be_visible()
        assert view.get_by_role("treeitem").count() < 60
