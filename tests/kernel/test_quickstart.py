"""`make demo` works on a clone: the quickstart runs in a real kernel, traced, without a key."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, str, str]:
    """The executed notebook, its HTML page and the output of the demo."""
    folder = tmp_path_factory.mktemp("demo")
    keys = ("HH_", "HONEYHIVE_", "OTEL_", "OPENAI_", "FAKE_")
    done = subprocess.run(
        [sys.executable, "notebooks/demo.py", "--no-lab", "--output", str(folder)],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith(keys)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    notebook = nbformat.read(folder / "01_quickstart.ipynb", as_version=4)
    return notebook, (folder / "01_quickstart.html").read_text(encoding="utf-8"), done.stdout


def _outputs(notebook: Any, cell_id: str) -> list[Any]:
    (cell,) = [cell for cell in notebook.cells if cell.id == cell_id]
    return list(cell.outputs)


def test_every_traced_cell_ends_with_one_output_of_ours(executed: tuple[Any, str, str]) -> None:
    notebook, _, _ = executed
    for cell_id in ("first-call", "session", "async-session", "caught-error", "uncaught-error"):
        outputs = _outputs(notebook, cell_id)
        ours = [output for output in outputs if "hh_jupyter" in output.get("metadata", {})]
        assert ours == outputs[-1:], cell_id
        assert set(ours[0].data) == {"text/plain", "text/html"}


def test_cells_without_spans_show_nothing_of_ours(executed: tuple[Any, str, str]) -> None:
    notebook, _, _ = executed
    assert _outputs(notebook, "agent") == []


def test_the_summary_counts_what_the_agent_did(executed: tuple[Any, str, str]) -> None:
    """Three model calls and two tool calls below one agent span."""
    notebook, _, _ = executed
    data = _outputs(notebook, "session")[-1].data
    assert "6 spans" in data["text/plain"]
    assert "3 LLM calls" in data["text/plain"]
    for name in ("refund_agent", "look_up_order", "refund_policy"):
        assert name in data["text/html"]


def test_an_exception_shows_once_as_python_shows_it(executed: tuple[Any, str, str]) -> None:
    notebook, _, _ = executed
    errors = [output for cell in notebook.cells for output in cell.get("outputs", []) if output.output_type == "error"]
    assert [error.ename for error in errors] == ["KeyError"]


def test_the_demo_stays_local_and_says_where_the_results_are(executed: tuple[Any, str, str]) -> None:
    notebook, page, printed = executed
    assert "local mode" in str(_outputs(notebook, "load"))
    assert "01_quickstart.html" in printed
    assert "refund_agent" in page
    assert 'src="http' not in page, "the page needs no network"
