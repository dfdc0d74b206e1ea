"""`Add to a dataset` of a row: which file has it then, or why it was not added."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

import hh_jupyter as hh
from hh_jupyter.notebook.transfer import add_to_dataset
from hh_jupyter.records.record import SpanRecord
from tests.experiments.runs import run

SECRET = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    (tmp_path / "work" / "data").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture(scope="module")
def records() -> list[SpanRecord]:
    """The spans of two rows of a run."""
    rows = [{"id": f"t-{n}", "inputs": {"q": f"ask {n} {SECRET}"}, "ground_truth": "yes"} for n in range(2)]
    found = [hh.spans(session=row.session_id) for row in run(None, lambda datapoint: "no", rows).rows]
    return [next(record for record in spans if record.parent_id is None) for spans in found]


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_row_is_appended_once(folder: Path, records: list[SpanRecord]) -> None:
    path = folder / "data" / "hard.jsonl"
    assert add_to_dataset(records[0], " data/hard.jsonl ") == f"Added to {path}, which has 1 row now."
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert add_to_dataset(records[1], "data/hard.jsonl") == f"Added to {path}, which has 2 rows now."
    assert add_to_dataset(records[0], "data/hard.jsonl") == f"{path} has this row already."
    assert [(row["id"], row["ground_truth"]) for row in rows_of(path)] == [("t-0", "yes"), ("t-1", "yes")]
    assert SECRET not in path.read_text()
    assert len(hh.evaluate(lambda datapoint: "yes", dataset=str(path), print_results=False).rows) == 2


def test_a_file_that_is_no_dataset_is_left_as_it_is(folder: Path, records: list[SpanRecord]) -> None:
    (folder / "spans.jsonl").write_text('{"resourceSpans": []}\n')
    (folder / "words.jsonl").write_text("not JSON\n")
    (folder / "folder.jsonl").mkdir()
    os.mkfifo(folder / "pipe.jsonl")
    assert add_to_dataset(records[0], "spans.jsonl") == "Not added: spans.jsonl is not a dataset."
    assert "words.jsonl, line 1: expected a JSON object" in add_to_dataset(records[0], "words.jsonl")
    assert add_to_dataset(records[0], "folder.jsonl") == "Not added: folder.jsonl is not a dataset."
    assert add_to_dataset(records[0], "pipe.jsonl") == "Not added: pipe.jsonl is not a dataset."
    assert (folder / "spans.jsonl").read_text() == '{"resourceSpans": []}\n'


@pytest.mark.parametrize("name", ["../out.jsonl", "/tmp/out.jsonl", "data/../../out.jsonl", "link/out.jsonl"])
def test_a_dataset_is_below_the_working_directory(name: str, folder: Path, records: list[SpanRecord]) -> None:
    (folder / "link").symlink_to(folder.parent)
    message = add_to_dataset(records[0], name)
    assert message == f"Not added: a dataset is in the working directory, {folder}, or in a folder below it."
    assert not (folder.parent / "out.jsonl").exists()


@pytest.mark.parametrize("name", ["", "  ", "hard", "hard.json", ".jsonl", "data/", "notes.md"])
def test_the_name_of_a_dataset_ends_with_jsonl(name: str, folder: Path, records: list[SpanRecord]) -> None:
    message = add_to_dataset(records[0], name)
    assert message == "Not added: the name of a dataset ends with .jsonl, such as dataset.jsonl."
    assert [path.name for path in folder.iterdir()] == ["data"]


@pytest.mark.parametrize("name", ["none/hard.jsonl", "\0.jsonl", "\ud800.jsonl", f"{'x' * 300}.jsonl"])
def test_a_file_that_cannot_be_written_is_reported(name: str, folder: Path, records: list[SpanRecord]) -> None:
    assert add_to_dataset(records[0], name).startswith("Not added: ")
    assert [path.name for path in folder.iterdir()] == ["data"]


def test_a_row_whose_span_is_gone_cannot_be_added(folder: Path) -> None:
    assert add_to_dataset(None, "hard.jsonl") == "Not added: the inputs of this row are no longer in memory."
    assert not (folder / "hard.jsonl").exists()
