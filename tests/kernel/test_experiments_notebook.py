"""The experiments notebook runs in a real kernel with fake models and has the described outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.fake_llm import FakeLLM

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "02_experiments.ipynb"


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Executed code cells by the first word of their source."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    folder = tmp_path_factory.mktemp("notebook")
    with FakeLLM() as fake, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_BASE_URL", f"{fake.url}/v1")
        patch.setenv("OPENAI_API_KEY", "sk-fake")
        patch.setenv("XDG_DATA_HOME", str(folder / "data"))
        patch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
        resources = {"metadata": {"path": str(folder)}}
        NotebookClient(notebook, timeout=100, resources=resources, extra_arguments=["--log-level=ERROR"]).execute()
    return {cell.source.split()[0]: cell for cell in notebook.cells if cell.cell_type == "code"}


def text_of(cell: Any) -> str:
    (output,) = cell.outputs
    return str(output["data"]["text/plain"])


def test_each_run_is_one_output(cells: dict[str, Any]) -> None:
    for word, name in (("FIRST", "✗ first-prompt"), ("SECOND", "✓ second-prompt")):
        (output,) = cells[word].outputs
        assert output["output_type"] == "display_data"
        assert output["data"]["text/plain"].startswith(f"{name}  ")
        assert "8 rows  ~$" in output["data"]["text/plain"]
        assert output["data"]["text/html"].count("<details>") == 8


def test_the_comparison_shows_that_the_second_prompt_is_better_and_why(cells: dict[str, Any]) -> None:
    lines = text_of(cells["second.compare(first,"]).splitlines()
    assert lines[0].startswith("✓ second-prompt against first-prompt  8 rows in both")
    assert "Rows: 8 newly right" in lines
    assert "top_k 1 → 3" in lines
    rows = {line.split()[0]: line for line in lines if line}
    assert rows["correct"].endswith("  8 better, 0 worse")
    assert rows["length"].startswith("length less is better")


def test_outputs_of_runs_have_no_contents(cells: dict[str, Any]) -> None:
    for word in ("FIRST", "SECOND"):
        assert "refunded" not in str(cells[word].outputs)
