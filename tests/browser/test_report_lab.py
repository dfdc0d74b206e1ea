"""The result of a run, and its comparison with another, in a real JupyterLab: rows and texts come from the kernel."""

from __future__ import annotations

import json
from collections.abc import Iterator

import nbformat
import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.browser.lab import Jupyter, Lab

pytestmark = pytest.mark.slow

CELLS = (
    "import hh_jupyter as hh\n%load_ext hh_jupyter",
    """\
rows = [{"id": f"q{n}", "inputs": {"question": f"question {n} " + "word " * 60}} for n in range(80)]

def answer(datapoint, word="long"):
    n = int(datapoint["inputs"]["question"].split()[1])
    if n % 40 == 7:
        raise LookupError(f"no order {n}")
    return f"a {word} <b>answer</b> " + "and more " * 40 + f"the end of {n}"

def size(outputs, inputs):
    return {"score": int(inputs["question"].split()[1]) / 10, "explanation": "counted by hand"}

result = hh.evaluate(answer, dataset=rows, evaluators=[size], name="lab-run")""",
    """\
other = hh.evaluate(lambda row: answer(row, "short"), dataset=rows, evaluators=[size], print_results=False)
other.compare(result)""",
    "result",
)


@pytest.fixture(scope="module", params=["lab", "notebooks"], ids=["JupyterLab", "Notebook 7"])
def lab(request: pytest.FixtureRequest, browser: Browser, jupyter: Jupyter) -> Iterator[Lab]:
    """A notebook with a run, its comparison with another, and the run again, in another cell."""
    jupyter.write(f"report-{request.param}.ipynb", CELLS)
    with Lab(browser, jupyter.url, f"report-{request.param}.ipynb", app=request.param) as lab:
        lab.run_all(timeout=120_000)
        expect(lab.page.locator(".hh-report")).to_have_count(3, timeout=60_000)
        yield lab
        assert [error for error in lab.errors if "hh" in error] == []


def output(lab: Lab, cell: int) -> Locator:
    return lab.page.locator(".jp-CodeCell").nth(cell)


def test_rows_open_to_full_texts_and_their_spans(lab: Lab) -> None:
    shown = output(lab, 1).locator(".hh-report")
    expect(shown.locator(".hh-shown")).to_have_text("80 rows")
    expect(shown.locator(".hh-tr").first).to_have_attribute("aria-label", "q7, failed")
    shown.get_by_role("button", name="size").click()
    shown.get_by_role("button", name="size").click()
    expect(shown.locator(".hh-tr").first).to_have_attribute("aria-label", "q79, passed")
    shown.locator(".hh-tr").first.click()
    opened = shown.locator(".hh-opened")
    expect(opened).to_contain_text("and more the end of 79")
    expect(opened).to_contain_text("counted by hand")
    expect(opened.locator("b", has_text="answer")).to_have_count(0)
    opened.get_by_role("button", name="answer, finished").click()
    expect(opened.get_by_role("tab", name="Input and output")).to_be_visible()


def test_the_same_result_in_another_cell_and_its_comparison_are_live_too(lab: Lab) -> None:
    search = output(lab, 3).get_by_role("searchbox")
    search.fill("size>7.5")
    expect(output(lab, 3).locator(".hh-shown")).to_have_text("4 of 80 rows")
    compared = output(lab, 2).locator(".hh-report")
    expect(compared.locator(".hh-shown")).to_have_text("80 rows")
    compared.get_by_role("button", name="Changed 78").click()
    expect(compared.locator(".hh-tone-new").first).to_have_text("short")


def test_a_row_is_rated_and_added_to_a_dataset_beside_the_notebook(lab: Lab, jupyter: Jupyter) -> None:
    shown = output(lab, 1).locator(".hh-report")
    shown.get_by_role("searchbox").fill("failed")
    expect(shown.locator(".hh-tr")).to_have_count(2)
    shown.locator(".hh-tr").first.click()
    acts = shown.locator(".hh-acts")
    acts.get_by_role("button", name="Bad").click()
    expect(acts.get_by_role("button", name="Bad")).to_have_attribute("aria-pressed", "true")
    file = f"{lab.app}.jsonl"
    acts.get_by_label("File of the dataset").fill(file)
    acts.get_by_role("button", name="Add to a dataset").click()
    expect(acts.locator(".hh-added")).to_have_text(f"Added to {jupyter.folder / file}, which has 1 row now.")
    (row,) = map(json.loads, (jupyter.folder / file).read_text().splitlines())
    assert (row["id"], row["inputs"]["question"][:10]) == ("q7", "question 7")
    shown.locator(".hh-tr").first.click()
    shown.locator(".hh-tr").first.click()
    expect(shown.locator(".hh-acts").get_by_role("button", name="Bad")).to_have_attribute("aria-pressed", "true")


def test_columns_are_chosen_without_touching_cells(lab: Lab) -> None:
    """The keys of a check box are no shortcuts of the notebook."""
    before = lab.sources()
    shown = output(lab, 1).locator(".hh-report")
    shown.get_by_role("button", name="Columns").press("Enter")
    box = shown.get_by_role("group", name="Columns").get_by_label("Time")
    for key in ("x", "d", "d", "a", "Space"):
        box.press(key)
    expect(shown.locator(".hh-thead")).not_to_contain_text("Time")
    box.press("Escape")
    expect(shown.get_by_role("button", name="Columns")).to_be_focused()
    assert lab.sources() == before


def test_keys_do_not_touch_cells_and_texts_are_not_saved(lab: Lab, jupyter: Jupyter) -> None:
    before = lab.sources()
    grid = output(lab, 1).get_by_role("treegrid")
    for key in ("x", "d", "d", "a", "m", "0", "0"):
        grid.press(key)
    assert lab.sources() == before
    lab.save()
    saved = nbformat.read(jupyter.folder / f"report-{lab.app}.ipynb", nbformat.NO_CONVERT)
    outputs = str([cell.outputs for cell in saved.cells])
    assert "lab-run" in outputs
    assert "and more" not in outputs
    assert "question 7" not in outputs


def test_after_a_restart_the_static_form_is_shown(lab: Lab) -> None:
    lab.restart()
    expect(lab.page.locator(".hh-report")).to_have_count(0, timeout=30_000)
    expect(output(lab, 1).get_by_text("q7", exact=True).first).to_be_visible()
