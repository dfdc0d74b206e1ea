"""Notebook runners: a failing cell fails the run, traced cells pass, the saved file has only HTML and text."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillExecutionError

from hh_jupyter.testing import Backend
from notebooks.demo import joined
from tests.kernel.conftest import KEY
from tests.kernel.driver import PRELUDE, PYTHON, kernel_environment

TRACED = f"%load_ext hh_jupyter\n{PRELUDE}", "span('one')", "%%hh_session s\nawait asyncio.sleep(0)\nspan('two')"


@pytest.fixture
def down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """An unreachable backend, and an environment whose kernels send to it."""
    with Backend(refuse=True) as backend:
        env = {"HH_API_KEY": KEY, "HH_API_URL": backend.url, "HH_CELL_FLUSH_SECONDS": "0.2"}
        spec = {"argv": [PYTHON, "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "Python 3"}
        folder = tmp_path / "jupyter" / "kernels" / "python3"
        folder.mkdir(parents=True)
        (folder / "kernel.json").write_text(json.dumps({**spec, "language": "python"}))
        env["JUPYTER_PATH"] = str(tmp_path / "jupyter")
        for name, value in kernel_environment(tmp_path, env).items():
            monkeypatch.setenv(name, value)
        yield backend


def notebook(*cells: str) -> Any:
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return made


def saved_outputs(made: Any) -> list[dict[str, Any]]:
    return [output for cell in made.cells for output in cell.outputs if output.output_type == "display_data"]


@pytest.mark.slow
@pytest.mark.usefixtures("down")
def test_a_traced_notebook_passes_and_saves_only_html_and_text() -> None:
    made = NotebookClient(notebook(*TRACED), timeout=60, kernel_name="python3").execute()
    outputs = saved_outputs(made)
    assert [set(output["data"]) for output in outputs] == [{"text/html", "text/plain"}] * 2
    assert "widgets" not in made.metadata
    assert not [o for cell in made.cells for o in cell.outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert all(output["metadata"]["hh_jupyter"] for output in outputs)


@pytest.mark.slow
@pytest.mark.usefixtures("down")
def test_a_failing_cell_fails_once_and_stops_the_run() -> None:
    made = notebook(*TRACED, "%%hh_session s\nspan('three')\n1 / 0", "print('not reached')")
    with pytest.raises(CellExecutionError) as failure:
        NotebookClient(made, timeout=60, kernel_name="python3").execute()
    assert failure.value.ename == "ZeroDivisionError"
    errors = [output for cell in made.cells for output in cell.outputs if output.output_type == "error"]
    assert [error.ename for error in errors] == ["ZeroDivisionError"]
    assert made.cells[-1].outputs == []
    assert len(saved_outputs(made)) == 3


def run_papermill(tmp_path: Path, *cells: str) -> Any:
    source, result = tmp_path / "in.ipynb", tmp_path / "out.ipynb"
    nbformat.write(notebook(*cells), source)
    try:
        papermill.execute_notebook(source, result, progress_bar=False, kernel_name="python3")
    finally:
        made = nbformat.read(result, as_version=4)
    return made


@pytest.mark.slow
@pytest.mark.usefixtures("down")
def test_papermill_passes_a_traced_notebook(tmp_path: Path) -> None:
    assert len(saved_outputs(run_papermill(tmp_path, *TRACED))) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("down")
def test_papermill_fails_a_failing_one(tmp_path: Path) -> None:
    with pytest.raises(PapermillExecutionError, match="ZeroDivisionError"):
        run_papermill(tmp_path, *TRACED, "span('three')\n1 / 0")


WIDGETS = (
    "import ipywidgets\nhh.SpanView('all')",
    "ipywidgets.VBox([ipywidgets.IntSlider(), hh.SpanView('last')])",
    "%hh show all",
)


@pytest.mark.slow
@pytest.mark.usefixtures("down")
@pytest.mark.parametrize("cells", [WIDGETS[:1], WIDGETS], ids=["alone", "in a layout"])
def test_views_are_saved_as_html_and_text_without_state(cells: tuple[str, ...]) -> None:
    """Runners save the state of widgets: of ours there is none. A layout around a view has that of its own widgets."""
    made = NotebookClient(notebook(*TRACED, *cells), timeout=60, kernel_name="python3").execute()
    outputs = [output for cell in made.cells for output in cell.outputs if output.get("metadata")]
    assert "widget-view" not in str(made.cells)
    assert [set(output["data"]) for output in outputs] == [{"text/html", "text/plain"}] * (2 + len(cells))
    state = made.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    assert bool(state) == (len(cells) > 1)
    assert {"AnyModel", "anywidget"}.isdisjoint(str(state).split("'"))
    assert "hh" not in str(state)
    # The widgets of the layout refer to widgets that are there: a page that restores them all does not fail.
    referred = set(re.findall(r"IPY_MODEL_(\w+)", str(state)))
    assert referred <= set(state)
    for template in ("lab", "classic"):
        page, _ = HTMLExporter(template_name=template).from_notebook_node(made)
        assert page.count("<b>2 traces</b>") == page.count('id="hh-widget-')
        assert page.count('id="hh-widget-') == min(len(cells), 2)


RUNNERS = {
    "papermill": ["-m", "papermill", "{source}", "{result}", "--no-progress-bar"],
    "jupyter execute": ["-m", "jupyter", "execute", "{source}", "--output", "{result}"],
    "nbconvert": ["-m", "jupyter", "nbconvert", "--to", "notebook", "--execute", "{source}", "--output", "{result}"],
}


@pytest.mark.slow
@pytest.mark.usefixtures("down")
@pytest.mark.parametrize("runner", RUNNERS)
def test_a_runner_saves_the_outputs_and_names_the_session_after_the_notebook(tmp_path: Path, runner: str) -> None:
    source, result = tmp_path / "refund agent.ipynb", tmp_path / "result.ipynb"
    nbformat.write(notebook(*TRACED, "%hh_session"), source)
    words = [word.format(source=source, result=result) for word in RUNNERS[runner]]
    # A runner that is started from a notebook inherits the variable that names that notebook.
    done = subprocess.run(
        [sys.executable, *words],
        cwd=tmp_path,
        env={**os.environ, "JPY_SESSION_NAME": "outer.ipynb"},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    made = nbformat.read(result, as_version=4)
    outputs = saved_outputs(made)
    assert [set(output["data"]) for output in outputs] == [{"text/html", "text/plain"}] * 2
    assert "widgets" not in made.metadata
    streams = [output for cell in made.cells for output in joined(cell.outputs) if output.output_type == "stream"]
    assert [stream.name for stream in streams] == ["stdout"] * 2
    assert streams[-1].text.startswith("hh: session refund agent ")


@pytest.mark.slow
@pytest.mark.usefixtures("down")
def test_nbconvert_to_html_shows_the_outputs_without_widgets(tmp_path: Path) -> None:
    source = tmp_path / "agent.ipynb"
    nbformat.write(notebook(*TRACED), source)
    words = ["-m", "jupyter", "nbconvert", "--to", "html", "--execute", str(source)]
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    page = source.with_suffix(".html").read_text()
    assert len(re.findall(r"Not sent|Sending \d", page)) == 2
    assert "Error displaying widget" not in page
    assert "jupyter-widgets" not in page.partition("<body")[2]
