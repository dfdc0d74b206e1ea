"""DataFrames and iterators as datasets. Iterators are read while the run goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hh_jupyter as hh
from hh_jupyter.testing import Backend
from tests.experiments.runs import calls, double, run


def test_columns_of_a_dataframe_are_inputs() -> None:
    frame = pd.DataFrame({"n": [1, 2], "note": ["a", None], "ground_truth": [2.0, None], "id": ["one", "two"]})
    got: list[Any] = []
    result = run(None, got.append, frame, max_workers=1)
    assert got == [
        {"inputs": {"n": 1, "note": "a"}, "ground_truth": 2.0, "id": "one"},
        {"inputs": {"n": 2, "note": None}, "id": "two"},
    ]
    assert type(got[0]["inputs"]["n"]) is int
    assert [row.datapoint_id for row in result.rows] == ["one", "two"]


def test_a_dataframe_with_a_column_inputs_equals_a_list_of_rows() -> None:
    rows = [{"inputs": {"n": 1}, "ground_truth": {"double": 2}}, {"inputs": {"n": 2}, "ground_truth": {"double": 4}}]
    frame, listed = run(None, double, pd.DataFrame(rows)), run(None, double, rows)
    assert [row.datapoint_id for row in frame.rows] == [row.datapoint_id for row in listed.rows]


def test_an_iterator_is_read_only_a_few_rows_ahead(backend: Backend) -> None:
    read, ahead = 0, []
    lock = threading.Lock()
    done = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal read
        for n in range(60):
            read += 1
            yield {"inputs": {"n": n}}

    def task(datapoint: dict[str, Any]) -> None:
        nonlocal done
        with lock:
            done += 1
            ahead.append(read - done)

    result = run(backend, task, rows(), max_workers=3)
    assert max(ahead) <= 6
    assert [row.index for row in result.rows] == list(range(60))
    made, ended = backend.requests[0].body, calls(backend, "PUT", f"/v1/runs/{result.run_id}")[0].body
    assert (made["datapoint_ids"], len(ended["datapoint_ids"])) == ([], 60)
    listed = run(None, task, [{"inputs": {"n": n}} for n in range(60)])
    assert [row.datapoint_id for row in result.rows] == [row.datapoint_id for row in listed.rows]


def test_an_invalid_first_row_raises_and_a_later_one_fails_alone(backend: Backend) -> None:
    with pytest.raises(hh.SettingError, match=r"dataset\[0\] has no key 'inputs' \(found 'n'\)"):
        run(backend, double, iter([{"n": 1}]))
    assert backend.requests == []
    result = run(None, double, iter([{"inputs": {"n": 1}}, "text", {"inputs": {"n": 2}}]))
    assert [row.error for row in result.rows] == [None, "ValueError: dataset[1] must be a dict; got str.", None]


def test_an_iterator_that_raises_ends_the_run_and_keeps_its_results() -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield {"inputs": {"n": 1}}
        yield {"inputs": {"n": 2}}
        raise OSError("disk gone")

    result = run(None, double, rows())
    assert (len(result.rows), result.status, result.success) == (2, "cancelled", False)
    assert result.errors[-1].error == "the dataset ended with OSError: disk gone"
    assert "disk gone" in repr(result)


def test_an_iterator_that_raises_before_its_first_row_raises_from_evaluate() -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield {"inputs": {"n": 1 // zero}}

    zero = 0
    with pytest.raises(ZeroDivisionError):
        run(None, double, rows())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"n": 1}], r"dataset\[0\] has no key 'inputs' \(found 'n'\)\. A datapoint looks like"),
        (
            [{"inputs": 1}, {"input": 2}],
            r"dataset\[1\] has no key 'inputs' \(found 'input'\)\. Rename 'input' to 'inputs'\.$",
        ),
        ([{}], r"dataset\[0\] has no key 'inputs' \(the row is empty\)"),
        ([{"ground_truth": 1}], r"dataset\[0\] has no key 'inputs'"),
    ],
)
def test_a_row_without_inputs_is_named_before_anything_runs(rows: Any, message: str, backend: Backend) -> None:
    with pytest.raises(hh.SettingError, match=message):
        run(backend, double, rows)
    assert backend.requests == []


@pytest.mark.parametrize("key", ["input", "Inputs", "INPUT", "imputs"])
def test_a_misspelled_key_is_named_with_the_right_one(key: str) -> None:
    hint = rf"dataset\[0\] has no key 'inputs' \(found '{key}'\)\. Rename '{key}' to 'inputs'\."
    for rows in ([{key: 1}], iter([{key: 1}])):
        with pytest.raises(hh.SettingError, match=hint):
            run(None, double, rows)


def test_a_misspelled_key_of_a_later_row_is_named_with_the_right_one(caplog: pytest.LogCaptureFixture) -> None:
    result = run(None, double, iter([{"inputs": {"n": 1}}, {"input": {"n": 2}}]))
    assert "Rename 'input' to 'inputs'." in result.errors[0].error
    run(None, double, [{"inputs": {"n": 1}}, {"Inputs": 2, "inputs": {"n": 1}, "groundtruth": 3}])
    assert "key 'groundtruth' is not used; did you mean 'ground_truth'?" in caplog.text


def test_ids_of_any_type_are_told_apart_and_missing_ones_are_none() -> None:
    ids = [0, False, 1.5, (1, 2), b"a", b"b", np.int64(7), np.int64(8), np.float64(0.5), np.str_("s"), np.array([1, 2])]
    result = run(None, lambda datapoint: 1, [{"id": one, "inputs": {}} for one in ids])
    texts = ["0", "False", "1.5", "(1, 2)", "b'a'", "b'b'", "7", "8", "0.5", "s"]
    assert [row.datapoint_id for row in result.rows][:-1] == texts
    missing = [None, "", float("nan"), np.float64("nan"), pd.NA, pd.NaT]
    result = run(None, lambda datapoint: 1, [{"id": one, "datapoint_id": "second", "inputs": {}} for one in missing])
    assert {row.datapoint_id for row in result.rows} == {"second"}


def odd_rows() -> list[dict[str, Any]]:
    """Rows that JSON cannot represent as they are."""
    cyclic: dict[str, Any] = {"n": 2}
    cyclic["itself"] = cyclic
    return [{"inputs": {"n": 1, 2: "a key of another type"}}, {"inputs": cyclic}, {"inputs": {"n": 3}}]


def test_rows_that_json_cannot_represent_run_like_others() -> None:
    listed, read = run(None, double, odd_rows()), run(None, double, iter(odd_rows()))
    for result in (listed, read):
        assert (result.errors, [row.outputs for row in result.rows]) == ((), ["2", "4", "6"])
    ids = [row.datapoint_id for row in listed.rows]
    assert len(set(ids)) == 3
    assert [row.datapoint_id for row in read.rows] == ids
    clustered = run(None, double, [{"inputs": {"n": 1}}] * 2, cluster=lambda row: {1: "x", "y": 2})
    assert len({row.cluster for row in clustered.rows}) == 1


def test_inputs_without_a_text_of_their_own_do_not_fail_the_row() -> None:
    class Silent:
        def __repr__(self) -> str:
            raise RuntimeError("no text")

    (row,) = run(None, lambda datapoint: "fine", [{"inputs": {"q": Silent(), "n": 1}}]).rows
    assert (row.error, row.outputs, row.inputs) == (None, "fine", "<dict without text>")


@pytest.mark.parametrize(("path", "reason"), [("gone.jsonl", "No such file or directory"), ("a\0b", "embedded null")])
def test_a_file_that_cannot_be_read_is_named_with_its_folder(path: str, reason: str) -> None:
    with pytest.raises(hh.SettingError, match=rf"evaluate: dataset: cannot read '/.*: {reason}"):
        run(None, double, path)
