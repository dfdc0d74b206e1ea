"""The experiments notebook runs in a real kernel with a fake model and has the described outputs."""

from __future__ import annotations

import re
from typing import Any

import pytest

from notebooks.demo import FOLDER, execute_alone


@pytest.fixture(scope="module")
def cells() -> dict[str, Any]:
    """Executed code cells by the first word of their source."""
    notebook = execute_alone(FOLDER / "07_experiments.ipynb")
    return {cell.source.split()[0]: cell for cell in notebook.cells if cell.cell_type == "code"}


def text_of(cell: Any) -> str:
    (output,) = cell.outputs
    return str(output["data"]["text/plain"])


@pytest.mark.slow
def test_each_run_is_one_output(cells: dict[str, Any]) -> None:
    for word, name in (("FIRST", "✗ first-prompt"), ("SECOND", "✗ second-prompt"), ("THIRD", "✗ more-rules")):
        (output,) = cells[word].outputs
        assert output["output_type"] == "display_data"
        assert output["data"]["text/plain"].startswith(f"{name}  ")
        assert re.search(r"  24 rows  ~\$[\d.]+ and judge ~\$[\d.]+  ", output["data"]["text/plain"])
        assert output["data"]["text/html"].count("<details>") == 24
        assert re.search(r"one_search +100\s% .* 24 yes +24 of 24", output["data"]["text/plain"])


def rows_of(cell: Any) -> dict[str, str]:
    return {line.split()[0]: line for line in text_of(cell).splitlines() if line}


def test_the_second_prompt_is_better_and_the_comparison_says_why(cells: dict[str, Any]) -> None:
    cell = cells["second.compare(first)"]
    lines = text_of(cell).splitlines()
    assert lines[0].startswith("✓ second-prompt against first-prompt  24 rows in both")
    assert lines[2].startswith("Better: correct, grounded and from_rules. ")
    assert "The same: one_search." in lines[2]
    assert re.search(r"20 better, 0 worse +better$", rows_of(cell)["correct"])


def test_three_more_right_rows_of_24_are_no_difference_that_can_be_told(cells: dict[str, Any]) -> None:
    cell = cells["third.compare(second)"]
    lines = text_of(cell).splitlines()
    assert "top_k 1 → 4" in lines
    assert "correct" in lines[2].split("For ")[1]
    assert re.search(r"3 better, 0 worse +no difference can be told from n = 24$", rows_of(cell)["correct"])
    cost = next(line for line in lines if line.startswith("cost a row"))
    assert cost.endswith("more expensive")


def test_outputs_of_runs_have_no_contents(cells: dict[str, Any]) -> None:
    for word in ("FIRST", "SECOND", "THIRD"):
        assert "refunded" not in str(cells[word].outputs)
