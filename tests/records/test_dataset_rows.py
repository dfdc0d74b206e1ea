"""Rows of a dataset in a file of JSON lines."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from hh_jupyter.errors import SettingError
from hh_jupyter.records.dataset_rows import DatasetRows


def test_rows_are_appended_once_by_id(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert DatasetRows([{"id": "a", "inputs": {"n": 1}}, {"inputs": {"n": 2}}]).save(path) == 2
    assert DatasetRows([{"id": "a", "inputs": {"n": 9}}, {"id": "b", "inputs": {"n": 3}}]).save(path) == 1
    assert DatasetRows([{"id": "c", "inputs": {}}, {"id": "c", "inputs": {}}]).save(str(path)) == 1
    assert [row["inputs"] for row in DatasetRows.load(path)] == [{"n": 1}, {"n": 2}, {"n": 3}, {}]


def test_a_new_file_is_for_the_user_alone_and_a_given_one_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    DatasetRows([{"inputs": {}}]).save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    DatasetRows([{"inputs": {}}]).save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_last_line_without_an_end_is_not_joined_with_the_next_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('\ufeff{"inputs": {"n": 1}}\n\n{"inputs": {"n": 2}}', encoding="utf-8")
    DatasetRows([{"inputs": {"n": "drei ü \u2028"}}]).save(path)
    assert [row["inputs"]["n"] for row in DatasetRows.load(path)] == [1, 2, "drei ü \u2028"]


@pytest.mark.parametrize("line", ["not JSON", "[1]", "3", '{"inputs": '])
def test_a_line_that_is_no_object_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"inputs": {{}}}}\n{line}\n')
    with pytest.raises(SettingError, match=r"rows\.jsonl, line 2: expected a JSON object such as"):
        DatasetRows.load(path)


def test_values_without_a_form_in_json_become_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    DatasetRows([{"inputs": {"where": Path("x")}}]).save(path)
    assert json.loads(path.read_text()) == {"inputs": {"where": "x"}}


def test_its_text_says_what_the_rows_hold() -> None:
    rows = DatasetRows([{"inputs": {"question": 1}, "ground_truth": 2}, {"inputs": {"k": 1}}])
    assert repr(rows) == "2 rows (inputs: question, k; 1 with ground_truth)"
    assert repr(DatasetRows(rows[:1])) == "1 row (inputs: question; 1 with ground_truth)"
    assert repr(DatasetRows()) == "no rows"
