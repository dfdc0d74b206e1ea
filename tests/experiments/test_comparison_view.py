"""What the comparison of two runs says first, and how each row changed."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hh_jupyter as hh
from hh_jupyter.experiments.comparison_view import word_differences
from hh_jupyter.experiments.results import ExperimentResultSummary
from tests.experiments.runs import run

ROOT = Path(__file__).parents[2]
ROWS: list[dict[str, Any]] = [{"id": f"q{n}", "inputs": {"n": n}} for n in range(30)]


def scored(answer: Callable[[int], Any], rows: Any = ROWS, **scores: Callable[[int], Any]) -> ExperimentResultSummary:
    """A run with these metrics, each computed from the number of the row. An answer that is an error is raised."""

    def task(datapoint: dict[str, Any]) -> Any:
        found = answer(datapoint["inputs"]["n"])
        if isinstance(found, Exception):
            raise found
        return {"n": datapoint["inputs"]["n"], "text": found}

    def evaluator(name: str) -> Any:
        def score(outputs: Any) -> Any:
            return scores[name](outputs["n"])

        score.__name__ = name
        return score

    return run(None, task, rows, evaluators=[evaluator(name) for name in scores])


def sentence(new: ExperimentResultSummary, old: ExperimentResultSummary, **arguments: Any) -> str:
    return repr(new.compare(old, **arguments)).splitlines()[2]


def test_the_first_sentence_says_what_is_better_and_what_cannot_be_told() -> None:
    old = scored(lambda n: "a", right=lambda n: n % 2 == 0, near=lambda n: n, words=lambda n: 50 + n, fixed=lambda n: 1)
    new = scored(
        lambda n: TimeoutError() if n in (3, 4) else "a",
        right=lambda n: n % 2 == 0 or n == 7,
        near=lambda n: n + 1 + n % 3,
        words=lambda n: 60 + 2 * n,
        fixed=lambda n: 1,
    )
    assert sentence(new, old, lower_is_better=["words"]) == (
        "Better: near. Worse: words. The same: fixed. For right no difference can be told from n = 28. "
        "2 of 30 rows failed in a run and are not paired."
    )


def test_few_rows_are_counted_and_not_judged() -> None:
    old, new = scored(lambda n: "a", ROWS[:8], near=lambda n: n), scored(lambda n: "a", ROWS[:8], near=lambda n: n + 1)
    found = new.compare(old)
    assert sentence(new, old) == "Fewer than 20 rows tell no difference: near 8 better, 0 worse of 8 rows."
    (change,) = (one for one in found.changes if one.name == "near")
    assert (change.n, change.better, change.worse, change.verdict) == (8, 8, 0, "")
    assert "Difference" not in found._repr_html_()


def test_few_rows_that_are_the_same_have_no_interval() -> None:
    few, enough = (scored(lambda n: "a", ROWS[:size], right=lambda n: n % 2 == 0) for size in (2, 20))
    assert sentence(few, few) == sentence(enough, enough) == "The same: right."
    assert "0 points" not in repr(few.compare(few))
    assert "0 points" in repr(enough.compare(enough))


def test_labels_are_changed_or_the_same() -> None:
    old = scored(lambda n: "a", kind=lambda n: "good")
    new = scored(lambda n: "a", kind=lambda n: "bad" if n == 2 else "good")
    assert sentence(new, old) == "Changed: kind."
    assert sentence(old, old) == "The same: kind."


def test_each_metric_has_both_means_the_paired_difference_and_its_interval() -> None:
    old = scored(lambda n: "a", near=lambda n: n / 30)
    new = scored(lambda n: "a", near=lambda n: n / 30 + (0.2 if n % 2 else 0.1))
    (line,) = (line for line in repr(new.compare(old)).splitlines() if line.startswith("near"))
    assert re.match(
        r"near +0\.483 ± 0\.054 +0\.633 ± 0\.055 +\+0\.150 \+0\.131 to \+0\.169 +30 better, 0 worse +better$", line
    )
    page = re.sub(r"<[^>]*>", " ", new.compare(old)._repr_html_())
    assert "+0.150  +0.131 to +0.169" in page


def test_minus_is_a_minus_in_html_and_a_hyphen_in_text() -> None:
    old, new = scored(lambda n: "a", near=lambda n: -n), scored(lambda n: "a", near=lambda n: -n - 1 - n % 2 / 3)
    found = new.compare(old)
    assert "\N{MINUS SIGN}1.167" in found._repr_html_()
    assert "-1.167" in repr(found)
    assert "\N{MINUS SIGN}" not in repr(found)


def test_every_row_has_one_state_and_the_states_have_an_order() -> None:
    rows = ROWS[:9]

    def old_answer(n: int) -> Any:
        return ValueError("old") if n in (2, 4) else "same" if n != 7 else "one text"

    def new_answer(n: int) -> Any:
        return ValueError("new") if n in (0, 4) else "same" if n != 7 else "another text"

    old = scored(old_answer, rows, right=lambda n: n not in (3, 8), near=lambda n: 1 if n == 5 else 0.5)
    new = scored(
        new_answer, [*rows[1:6], rows[0], *rows[6:], {"id": "x", "inputs": {"n": 20}}],
        right=lambda n: n not in (1, 8), near=lambda n: 0.5 if n != 6 else 0.75,
    )  # fmt: skip
    found = new.compare(old)
    assert [(one.datapoint_id, one.state) for one in found.row_changes] == [
        ("q0", "newly failed"),
        ("q1", "newly wrong"),
        ("q3", "newly right"),
        ("q2", "newly right"),
        ("x", "added"),
        ("q4", "failed in both"),
        ("q8", "wrong in both"),
        ("q5", "worse"),
        ("q6", "better"),
        ("q7", "changed"),
    ]


def test_an_output_that_differs_only_at_its_end_is_changed() -> None:
    long = "word " * 200
    old, new = scored(lambda n: long + "a", ROWS[:2]), scored(lambda n: long + "b", ROWS[:2])
    assert [one.state for one in new.compare(old).row_changes] == ["changed", "changed"]
    assert [one.state for one in new.compare(new).row_changes] == ["same", "same"]


def test_rows_that_are_the_same_are_counted_but_not_listed() -> None:
    old = scored(lambda n: "a", right=lambda n: True)
    new = scored(lambda n: "b" if n == 4 else "a", right=lambda n: True)
    found = new.compare(old)
    assert "Rows: 1 changed, 29 same" in repr(found)
    assert found._repr_html_().count("<details>") == 1


def test_the_largest_change_comes_first() -> None:
    old, new = scored(lambda n: "a", near=lambda n: 0), scored(lambda n: "a", near=lambda n: n % 7)
    sizes = [one.new.metrics["near"] for one in new.compare(old).row_changes if one.new and one.state == "better"]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("detail", ["summary", "preview"])
def test_outputs_are_compared_by_words_if_they_may_be_saved(detail: str) -> None:
    old = scored(lambda n: f"The order {n} is refunded in full today.", ROWS[:2])
    new = scored(lambda n: f"The order {n} is replaced today.", ROWS[:2])
    with hh.HoneyHiveTracer.init(saved_detail=detail):
        found = new.compare(old)
        page = found._repr_html_()
        assert ("refunded in full" in page, "refunded in full" in repr(found)) == (detail != "summary",) * 2
    if detail == "preview":
        assert re.search(r'border-bottom:1px dotted">refunded in full</span> today\.', page)
        assert re.search(r'border-bottom:1px solid">replaced</span> today\.', page)


def test_word_differences_keep_every_word_of_both_texts() -> None:
    texts = ("a b  c d\ne", "b c x d e f")
    for side, (text, pieces) in enumerate(zip(texts, word_differences(*texts), strict=True)):
        assert "".join(piece.text for piece in pieces).split() == text.split()
        assert {piece.tone for piece in pieces} <= {"", ("old", "new")[side]}
    assert [piece.text for piece in word_differences("a b", "a b")[1]] == ["a b"]


def test_a_comparison_as_a_dataframe_has_both_runs() -> None:
    old = scored(lambda n: ValueError("x") if n else "a", ROWS[:2], near=lambda n: 0.5, outputs=lambda n: 1)
    new = scored(lambda n: "b", ROWS[:3], near=lambda n: 0.75, outputs=lambda n: 1)
    frame = new.compare(old).to_pandas()
    assert list(zip(frame["datapoint_id"], frame["state"], strict=True)) == [
        ("q1", "newly right"), ("q2", "added"), ("q0", "better")
    ]  # fmt: skip
    assert list(frame["new_near"]) == [0.75, 0.75, 0.75]
    assert list(frame["old_near"].isna()) == [True, True, False]
    assert frame["old_error"][0] == "ValueError: x"
    assert list(frame.columns).count("new_outputs") == 1
    assert "new_metric_outputs" in frame.columns


def test_many_metrics_are_counted() -> None:
    metrics = {f"m{n}": (lambda row: row) for n in range(5)}
    old, new = scored(lambda n: "a", **metrics), scored(lambda n: "a", **metrics)
    assert "5 metrics are compared, each interval for itself" in repr(new.compare(old))


def test_a_few_metrics_are_counted_only() -> None:
    two, one = scored(lambda n: "a", a=lambda n: n, b=lambda n: n), scored(lambda n: "a", a=lambda n: n)
    assert re.search(r"2 metrics are compared( |$)", repr(two.compare(two)), re.MULTILINE)
    assert "compared" not in repr(one.compare(one))


def test_a_metric_may_have_the_name_of_a_column() -> None:
    result = scored(lambda n: "a", ROWS[:2], time=lambda n: n, id=lambda n: True, error=lambda n: 0.5)
    assert re.search(r"^✓ q1 +1 +yes +0\.5 ", repr(result), re.MULTILINE)


SCRIPT = """
import hh_jupyter as hh
def right(outputs):
    return {"score": False, "explanation": "because it is shorter than what was expected"}
rows = [{"id": "r", "inputs": {"question": "What is asked here?"}, "ground_truth": "what is expected"}]
result = hh.evaluate(lambda row: "the answer", dataset=rows, evaluators=[right], name="n")
result.compare(result).print_table()
"""


def test_a_terminal_shows_texts_within_its_width(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "COLUMNS": "60"}
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=theirs, stderr=subprocess.DEVNULL, env=environment, cwd=tmp_path
    ):
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 10_000):
                shown += part
        except OSError:  # Linux says so when the other end is closed.
            pass
    os.close(ours)
    lines = shown.decode().splitlines()
    assert max(map(len, lines)) <= 60
    assert "    input What is asked here?   expected what is expected" in lines
    assert "    output the answer" in lines
    assert "    right because it is shorter than what was expected" in lines


def test_differences_that_only_rounding_makes_are_none() -> None:
    old = scored(lambda n: "a", shifted=lambda n: n / 10, equal=lambda n: 0.3)
    new = scored(lambda n: "a", shifted=lambda n: n / 10 - 0.5, equal=lambda n: 0.1 + 0.2)
    lines = {line.split()[0]: line for line in repr(new.compare(old)).splitlines() if line}
    assert re.search(r" -0\.5 -0\.5 to -0\.5 +0 better, 30 worse +worse$", lines["shifted"])
    assert re.match(r"equal +0\.3 ± 0 +0\.3 ± 0 +0 0 to 0 +same$", lines["equal"])


def test_a_row_whose_evaluator_failed_counts_for_its_other_metrics_and_the_sentence_says_so() -> None:
    old = scored(lambda n: "a", near=lambda n: n, right=lambda n: True)
    new = scored(lambda n: "a", near=lambda n: [] if n == 3 else n, right=lambda n: True)
    assert sentence(new, old).endswith(". An evaluator failed in 1 of 30 rows, which count for the other metrics only.")
    assert {change.name: change.n for change in new.compare(old).changes} == {
        "near": 29,
        "right": 30,
        "time a row": 30,
    }
