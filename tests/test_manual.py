"""The manual is complete: its notebooks are executed, its links and pictures exist, its table comes from the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from hh_jupyter.notebook.libraries import LIBRARIES
from notebooks.demo import comparable
from tests.readme_tables import LIBRARIES_NOTEBOOK, notebook_with_table

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
INDEX = (FOLDER / "README.md").read_text(encoding="utf-8")
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list[Any]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def prose(path: Path) -> str:
    return "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")


def links(text: str) -> list[str]:
    """The links to files, without those inside code."""
    return [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link]


@each_notebook
def test_it_is_stored_executed_from_top_to_bottom(path: Path) -> None:
    nbformat.validate(read(path))
    assert [cell.execution_count for cell in code_cells(path)] == [*range(1, len(code_cells(path)) + 1)]


@each_notebook
def test_only_cells_that_are_to_fail_hold_an_error(path: Path) -> None:
    failed = {cell.id for cell in code_cells(path) for output in cell.outputs if output.output_type == "error"}
    assert failed == {cell.id for cell in code_cells(path) if "raises-exception" in cell.metadata.get("tags", ())}


@each_notebook
def test_it_has_5_to_15_cells_and_says_where_to_read_on(path: Path) -> None:
    assert 5 <= len(code_cells(path)) <= 15
    assert "## Where to read on" in read(path).cells[-1].source


@each_notebook
def test_no_output_is_on_standard_error(path: Path) -> None:
    streams = [output for cell in code_cells(path) for output in cell.outputs if output.output_type == "stream"]
    assert [stream.text for stream in streams if stream.name == "stderr"] == []


@each_notebook
def test_what_it_links_to_exists(path: Path) -> None:
    assert links(prose(path))
    assert [link for link in links(prose(path)) if not (FOLDER / link).exists()] == []


@each_notebook
def test_it_says_how_to_talk_to_a_real_model(path: Path) -> None:
    assert re.search(r"`client = openai\.(Async)?OpenAI\(\)`", prose(path))


def test_the_index_has_every_notebook_with_a_picture_and_its_links_exist() -> None:
    assert [link for link in links(INDEX) if not (FOLDER / link).exists()] == []
    pictured = re.findall(r"\[!\[[^\]]+\]\(images/[^)]+\)\]\(([^)]+)\)", INDEX)
    assert pictured == [path.name for path in NOTEBOOKS]


def test_the_sections_that_the_index_names_exist() -> None:
    named = re.findall(r', "([^"]+)"\]\(([^)]+)\)', INDEX)
    assert named
    missing = [(title, name) for title, name in named if f"## {title}\n" not in prose(FOLDER / name) + "\n"]
    assert missing == []


def test_the_table_of_libraries_is_the_one_in_the_code() -> None:
    stored = LIBRARIES_NOTEBOOK.read_text(encoding="utf-8")
    assert notebook_with_table(stored) == stored, "run: make readme"
    assert set(re.findall(r"^\| `(\w+)` \|", prose(LIBRARIES_NOTEBOOK), re.MULTILINE)) == set(LIBRARIES)
    assert "| `anthropic` | `anthropic` | OpenInference; " in prose(LIBRARIES_NOTEBOOK)


def printed(text: str) -> Any:
    return {"output_type": "stream", "name": "stdout", "text": text}


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("✓ reply  1.20 s  31 tokens", "✓ reply  980 ms  31 tokens", True),
        ("✓ reply  1.20 s  Δ 1 call changed", "✓ reply  1.40 s  Δ -94 ms  1 call changed", True),
        ("session prompt 2f324718", "session prompt 9ef3e6e7", True),
        ("2026-11-29 12:27", "2027-01-02 09:00", True),
        ("✓ reply  1.20 s  31 tokens", "✓ reply  1.20 s  32 tokens", False),
        ("refund-triage #2", "refund-triage #3", False),
    ],
)
def test_an_output_is_stored_anew_only_if_more_than_times_and_ids_differ(before: str, after: str, same: bool) -> None:
    assert (comparable([printed(before)]) == comparable([printed(after)])) is same
