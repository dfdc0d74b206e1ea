"""Rows of a dataset in a file of JSON lines."""

from __future__ import annotations

import json
import re
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


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"not JSON", "it is not JSON: Expecting value at character 1."),
        (b"[1]", "it is a JSON array."),
        (b"3", "it is a JSON number."),
        (b"null", "it is a JSON null."),
        (b'{"inputs": ', "it is not JSON: Expecting value at character 11."),
        ('{"inputs": "é"}'.encode("latin-1"), "byte 13 is not UTF-8; save the file as UTF-8."),
        (b"\xff\xfe{\0", "byte 1 is not UTF-8; save the file as UTF-8."),
        (b"[" * 100_000, "it cannot be read: maximum recursion depth exceeded"),
    ],
)
def test_a_line_that_is_no_object_is_named_and_not_quoted(tmp_path: Path, line: bytes, problem: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"inputs": {}}\n' + line + b"\n")
    with pytest.raises(SettingError) as caught:
        DatasetRows.load(path)
    assert re.search(
        r"rows\.jsonl, line 2: expected a JSON object such as .*; " + re.escape(problem), str(caught.value)
    )


def test_values_without_a_form_in_json_become_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    DatasetRows([{"inputs": {"where": Path("x")}}]).save(path)
    assert json.loads(path.read_text()) == {"inputs": {"where": "x"}}


def test_its_text_says_what_the_rows_hold() -> None:
    rows = DatasetRows([{"inputs": {"question": 1}, "ground_truth": 2}, {"inputs": {"k": 1}}])
    assert repr(rows) == "2 rows (inputs: question, k; 1 with ground_truth)"
    assert repr(DatasetRows(rows[:1])) == "1 row (inputs: question; 1 with ground_truth)"
    assert repr(DatasetRows()) == "no rows"
