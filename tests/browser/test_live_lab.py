"""The hub in a real JupyterLab while things happen: running cells, a slow backend, two notebooks, cleared outputs."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, expect

from hh_jupyter.testing import Backend
from hh_jupyter.testing.responses import TRACES
from tests.browser.lab import CELLS, Jupyter, Lab

SETUP = """\
import time
import hh_jupyter as hh

@hh.trace(event_type="tool")
def look_up(number):
    time.sleep(0.4)
    return {"number": number}

@hh.trace(event_type="chain")
def agent(steps):
    print("begins")
    for number in range(steps):
        look_up(number)
    print("ends")
"""
LONG = "agent(8)"
SHORT = "agent(1)"

GIVE_UP = """
const timeout = AbortSignal.timeout;
let first = true;
AbortSignal.timeout = (ms) => {
  if (ms === 2000 && first) [first, window.gaveUp, ms] = [false, true, 0];
  return timeout.call(AbortSignal, ms);
};"""
"""Makes anywidget drop the first model as if its start had taken 2 s: it receives no messages."""


@pytest.fixture(scope="module")
def lab(browser: Browser, jupyter: Jupyter) -> Iterator[Lab]:
    """A notebook whose last cell runs for some seconds; all but that are run."""
    jupyter.write("live.ipynb", ("%load_ext hh_jupyter", SETUP, SHORT, "1 + 1", LONG))
    lab = Lab(browser, jupyter.url, "live.ipynb")
    lab.run_all(4)
    yield lab
    lab.page.close()
    assert [error for error in lab.errors if "hh" in error] == []


def code_cell(lab: Lab, index: int) -> Locator:
    return lab.page.locator(".jp-CodeCell").nth(index)


@pytest.mark.slow
def test_a_running_cell_shows_its_spans(lab: Lab) -> None:
    """Below its code after a second, growing; its output, which is not split, takes the view over as it was."""
    cell = code_cell(lab, 4)
    lab.start(4)
    running = cell.locator(".hh-beside .hh-view")
    expect(running.locator(".hh-bar")).to_contain_text("agent", timeout=30_000)
    expect(running.locator(".hh-mark-running")).to_be_visible()
    running.get_by_role("button", name="agent, running").click()
    expect(running.get_by_role("treeitem", name=re.compile("^Chain agent, running"))).to_be_visible()
    output = cell.locator(".hh-output .hh-view")
    expect(output.get_by_role("button", name="agent, finished")).to_be_visible(timeout=60_000)
    expect(output.get_by_role("treeitem", name=re.compile("look_up, 8 times"))).to_be_visible()
    expect(cell.locator(".hh-beside")).to_have_count(0)
    expect(cell.locator(".jp-OutputArea-child")).to_have_count(2)
    expect(cell.locator(".jp-OutputArea-child").first).to_have_text("begins\nends\n")


def test_running_again_leaves_one_output(lab: Lab) -> None:
    for _ in range(2):
        lab.run(2)
        expect(code_cell(lab, 2).locator(".hh-view")).to_have_count(1)
        expect(code_cell(lab, 2).locator(".jp-OutputArea-child")).to_have_count(2)


def test_cleared_outputs_are_gone_and_come_back(lab: Lab) -> None:
    """No part of the view stays in the page."""
    lab.command("notebook:clear-all-cell-outputs")
    expect(lab.page.locator(".hh-view")).to_have_count(0)
    lab.run(2)
    expect(code_cell(lab, 2).locator(".hh-view")).to_be_visible()
    expect(lab.page.locator(".hh-view")).to_have_count(1)


@pytest.mark.slow
def test_two_notebooks_side_by_side(lab: Lab, jupyter: Jupyter) -> None:
    """Each view gets its data from its own kernel, and both stay."""
    jupyter.write("other.ipynb", ("%load_ext hh_jupyter", SETUP, SHORT))
    lab.open_beside("other.ipynb")
    lab.run_all()
    views = lab.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .hh-view")
    expect(views).to_have_count(2, timeout=30_000)
    for view in (views.nth(0), views.nth(1)):
        view.get_by_role("button", name="agent").click()
        view.get_by_role("treeitem", name=re.compile("look_up")).click()
        view.get_by_role("tab", name="Input and output").click()
        expect(view.get_by_role("tabpanel")).to_contain_text("number")
    # Longer than the timeout of a hub: neither has sent requests to the other kernel.
    lab.page.wait_for_timeout(4_000)
    expect(views).to_have_count(2)


@pytest.mark.slow
def test_a_slow_backend_leaves_traces_under_their_cells(browser: Browser, jupyter: Jupyter, backend: Backend) -> None:
    """Two cells whose spans are under way for a while: each trace under its own, none under the third; the word changes
    in place."""
    backend.behaviour.delay = {TRACES: 1.5}
    environment = f'import os\nos.environ.update(HH_API_KEY="hh_key_of_a_test", HH_API_URL="{backend.url}")'
    jupyter.write("slow.ipynb", (environment, "%load_ext hh_jupyter", SETUP, SHORT, SHORT, "1 + 1"))
    with Lab(browser, jupyter.url, "slow.ipynb") as lab:
        lab.run_all()
        for index in (3, 4):
            expect(code_cell(lab, index).locator(".hh-view")).to_have_count(1, timeout=30_000)
            expect(code_cell(lab, index).locator(".hh-delivery")).to_have_text(re.compile("Sent$"), timeout=60_000)
        expect(lab.page.locator(".hh-output")).to_have_count(2)


@pytest.mark.slow
def test_a_view_is_interactive_while_the_next_cells_run(browser: Browser, jupyter: Jupyter) -> None:
    """All cells at once in a new page: the requests for rows do not wait until the last cell ends."""
    cells = ("%load_ext hh_jupyter", SETUP, SHORT, SHORT, "while True:\n    time.sleep(0.1)")
    jupyter.write("behind.ipynb", cells)
    with Lab(browser, jupyter.url, "behind.ipynb") as lab:
        lab.command("notebook:run-all-cells")
        expect(lab.page.locator(".hh-output .hh-view")).to_have_count(2, timeout=30_000)
        expect(code_cell(lab, 4).locator(".jp-InputPrompt")).to_have_text("[*]:")
        lab.command("notebook:interrupt-kernel")
        expect(code_cell(lab, 4).locator(".jp-OutputArea-output")).to_contain_text("KeyboardInterrupt")


STARTS_WORK = ("threading.Timer(1.5, agent, [1]).start()", "task = asyncio.create_task(later())")


@pytest.mark.slow
def test_a_cell_that_only_starts_work_gets_its_view_when_the_work_is_done(browser: Browser, jupyter: Jupyter) -> None:
    setup = f"{SETUP}\nimport asyncio, threading\nasync def later():\n    await asyncio.sleep(1.5); agent(1)"
    jupyter.write("starts.ipynb", ("%load_ext hh_jupyter", setup, *STARTS_WORK, "1 + 1"))
    with Lab(browser, jupyter.url, "starts.ipynb") as lab:
        lab.run_all()
        for index in (2, 3):
            bar = code_cell(lab, index).locator(".hh-view .hh-bar")
            expect(bar).to_contain_text("agent", timeout=30_000)
        expect(lab.page.locator(".hh-output")).to_have_count(2)
        assert lab.errors == []


@pytest.mark.slow
def test_a_page_that_receives_nothing_gets_another_model(browser: Browser, jupyter: Jupyter) -> None:
    """This happens if the page is busy while the hub opens, for example with many outputs to render."""
    jupyter.write("no_messages.ipynb", ("%load_ext hh_jupyter", SETUP, SHORT))
    with Lab(browser, jupyter.url, "no_messages.ipynb", script=GIVE_UP) as lab:
        lab.run_all()
        expect(code_cell(lab, 2).locator(".hh-view")).to_be_visible(timeout=60_000)
        assert lab.page.evaluate("window.gaveUp")


CALL = """\
import time
with hh.get_tracer().start_span("ask", attributes={
    "openinference.span.kind": "LLM", "llm.model_name": "gpt-4o",
    "llm.input_messages.0.message.role": "user", "llm.input_messages.0.message.content": f"What is {time.time()}?",
}):
    pass
"""


@pytest.mark.slow
def test_the_code_of_a_call_replaces_a_cell_or_stands_below_it(browser: Browser, jupyter: Jupyter) -> None:
    jupyter.write("edit.ipynb", ("%load_ext hh_jupyter\nimport hh_jupyter as hh", CALL, "%hh edit", "1\n%hh edit ask"))
    with Lab(browser, jupyter.url, "edit.ipynb") as lab:
        lab.run_all(4)
        lab.page.wait_for_function(f"{CELLS}.length === 5")
        found = [source for _, source in lab.sources()]
        assert found[:2] + found[3:4] == ["%load_ext hh_jupyter\nimport hh_jupyter as hh", CALL, "1\n%hh edit ask"]
        for source in found[2], found[4]:
            assert source.startswith(
                "# The same request again:\nimport openai\nopenai.OpenAI().chat.completions.create("
            )
            assert "What is " in source
        lab.start(1)
        expect(code_cell(lab, 1).locator(".hh-bar")).to_contain_text("1 call changed", timeout=30_000)
