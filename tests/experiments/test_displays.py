"""Displays of a run: failures first, no secrets, no contents, escaped and small; progress in a terminal."""

from __future__ import annotations

import html.parser
import os
import pty
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import hh_jupyter as hh
from hh_jupyter.display.report import report_html, report_text
from hh_jupyter.experiments.results import ExperimentResultSummary
from hh_jupyter.experiments.usage import SessionUsage
from hh_jupyter.experiments.views import progress_report
from tests.display.hostile import HOSTILE
from tests.display.rendered import BARE, sanitized, tags_as_text
from tests.experiments.runs import run

ROOT = Path(__file__).parents[2]
SECRET = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"
MANY = [{"id": f"p{n}", "inputs": {"question": f"private {n}"}} for n in range(200)]


def task(datapoint: dict[str, Any]) -> str:
    n = int(datapoint["inputs"]["question"].split()[1])
    if n % 50 == 49:
        raise ConnectionError(f"key {SECRET} refused")
    return f"answer {n}"


def score(outputs: Any) -> dict[str, Any]:
    return {"score": int(outputs.split()[1]) / 200, "explanation": f"because of {outputs}", "kind": "long"}


def judge(outputs: Any) -> bool:
    if outputs == "answer 3":
        raise RuntimeError("no verdict")
    return True


@pytest.fixture(scope="module")
def result() -> ExperimentResultSummary:
    return run(None, task, MANY, evaluators=[score, judge], name="many", config={"prompt": "x" * 100})


def test_failures_come_first_then_the_order_of_the_dataset(result: ExperimentResultSummary) -> None:
    labels = re.findall(r"[▲✗✓]</span> (?:<b>)?(p\d+)", result._repr_html_())
    assert labels[:8] == ["p49", "p99", "p149", "p199", "p3", "p0", "p1", "p2"]
    assert [line.split()[1] for line in repr(result).splitlines() if line[:2] in ("▲ ", "✓ ")][1:6] == labels[:5]


def test_a_display_has_neither_secrets_nor_contents(result: ExperimentResultSummary) -> None:
    shown = result._repr_html_() + repr(result)
    assert "ConnectionError: key [redacted: api_key] refused" in shown
    for private in ("abcdefgh", "private", "answer", "because"):
        assert private not in shown


def test_no_text_of_a_row_shows_a_secret() -> None:
    def told(outputs: Any) -> dict[str, Any]:
        return {"score": False, "explanation": f"it says {SECRET}"}

    def answer(datapoint: dict[str, Any]) -> Any:
        return f"the key is {SECRET}"

    rows = [{"id": f"id {SECRET}", "inputs": {"question": f"ask {SECRET}"}, "ground_truth": SECRET}]
    with hh.HoneyHiveTracer.init(saved_detail="full"):
        old = run(None, answer, rows, evaluators=[told], name=f"run {SECRET}", config={"key": SECRET})
        new = run(None, lambda datapoint: f"now {answer(datapoint)}", rows, evaluators=[told], name=f"again {SECRET}")
        for one in (old, new, new.compare(old)):
            for shown in (one._repr_html_(), repr(one)):
                assert "the key is [redacted" in shown
                assert SECRET[8:16] not in shown


LONG: list[dict[str, Any]] = [
    {"id": "r0", "inputs": {"question": f"ask 0 {'x' * 90}"}, "ground_truth": "wanted"},
    {"id": "r1", "inputs": {"question": "ask 1"}, "ground_truth": "wanted"},
]


@pytest.mark.parametrize("detail", ["summary", "preview", "full"])
def test_texts_in_a_saved_display_follow_saved_detail(detail: str) -> None:
    def checked(outputs: Any) -> dict[str, Any]:
        return {"score": outputs != "answer 0", "explanation": f"because of {outputs}"}

    with hh.HoneyHiveTracer.init(saved_detail=detail):
        result = run(None, task, LONG, evaluators=[checked])
        page, text = (re.sub(r"<[^>]*>", "", shown) for shown in (result._repr_html_(), repr(result)))
    for shown in (page, text):
        assert ("expected wanted" in shown, "output answer 0" in shown) == (detail != "summary",) * 2
        assert ("because of answer 0" in shown) is (detail != "summary")
        assert ("because of answer 1" in shown) is (detail == "full")  # The row is right.
        assert ("x" * 90 in shown, "input ask 0 xxx" in shown) == (detail == "full", detail != "summary")
        assert ("inputs and outputs: result.to_pandas()" in shown) is (detail == "summary")


def test_a_display_has_as_many_rows_as_the_setting_and_says_what_is_left_out(result: ExperimentResultSummary) -> None:
    page = result._repr_html_()
    assert page.count("<details>") == 60
    assert "140 more rows. All of them: <code" in page
    assert len(page.encode()) <= 16_000 + 60 * 1_000
    with hh.HoneyHiveTracer.init(display_rows=3):
        assert result._repr_html_().count("<details>") == 3
        assert "197 more rows, 2 of them failed. All of them: " in result._repr_html_()
    assert len(repr(result)) <= 4_000
    assert repr(result).count("\n") <= 40
    assert "… 190 more rows. All of them: result.to_pandas()" in repr(result)


def test_a_row_with_long_texts_does_not_make_the_display_large() -> None:
    rows = [{"id": f"{n} {'i' * 5_000}", "inputs": {"question": f"ask {n}"}} for n in range(100)]
    wide = run(None, task, rows, evaluators=[lambda outputs: {f"metric {n} {'m' * 900}": n for n in range(40)}])
    page = wide._repr_html_()
    assert len(page.encode()) <= 16_000 + 60 * 1_000
    assert "more rows" in page


def test_each_row_has_an_element_and_a_command_for_its_spans(result: ExperimentResultSummary) -> None:
    row = result.rows[49]
    assert f'<div class="hh-output" id="hh-session-{row.session_id}">' in result._repr_html_()
    assert f"%hh show {row.session_id[:8]}" in result._repr_html_()


def test_metrics_have_mean_standard_error_range_count_and_kind(result: ExperimentResultSummary) -> None:
    lines = {line.split()[0]: line for line in reversed(repr(result).splitlines()) if line}
    assert re.match(r"score +0\.495 +± 0\.021 +0 to 0\.99 +196 of 200  number +[▁▂▃▄▅▆▇█]{12}$", lines["score"])
    assert re.match(r"judge +100 % +± 0 +195 yes +195 of 200  yes or no +█{10}$", lines["judge"])
    assert re.match(r"score_kind +196 of 200  label +long 196$", lines["score_kind"])
    assert "score_explanation" not in lines
    bars = re.findall(r"height:(\d+)px;margin-left:1px;background-color:#7f63dd", result._repr_html_())
    assert len(bars) == 12
    assert 14 in map(int, bars)


def test_missing_scores_nan_bools_and_labels_are_shown_as_what_they_are() -> None:
    values: list[Any] = [float("nan"), 0.5, None, float("inf"), 10**400]
    kinds: list[Any] = ["good", "bad", None, True, False]

    def mixed(outputs: Any) -> Any:
        return values[int(outputs.split()[1])]

    def kind(outputs: Any) -> Any:
        return kinds[int(outputs.split()[1])]

    rows = [{"id": f"m{n}", "inputs": {"question": f"ask {n}"}} for n in range(5)]
    result = run(None, task, rows, evaluators=[mixed, kind])
    cells = {line.split()[1]: line.split()[2:-3] for line in repr(result).splitlines() if re.match(r"[✓✗·] m", line)}
    assert cells["m0"][:2] == ["NaN", "good"]
    assert cells["m1"][:2] == ["0.5", "bad"]
    assert cells["m2"] == []
    assert cells["m3"][:2] == ["infinite", "yes"]
    assert cells["m4"][:3] == ["infinite", "✗", "no"]
    assert re.search(r"^mixed +0\.5 +0\.5 to 0\.5 +4 of 5, 1 NaN, 2 infinite +number", repr(result), re.MULTILINE)


def graded(outputs: Any) -> dict[str, Any]:
    """A score with its label, such as that of a judge."""
    n = int(outputs.split()[1])
    return {"score": n / 2, "label": ("bad", "fair", "good")[n], "explanation": "so it is"}


def kind(outputs: Any) -> dict[str, Any]:
    yes = "1" not in outputs
    return {"score": yes, "label": "yes" if yes else "no"}


def test_the_label_of_a_score_stands_beside_it_and_has_no_column_of_its_own() -> None:
    """One that only repeats the score is left out."""
    result = run(None, task, MANY[:3], evaluators=[graded, kind], name="judged")
    shown = repr(result)
    assert "_label" not in shown + result._repr_html_()
    assert [line.split()[0] for line in shown.splitlines() if " 3 of 3 " in line] == ["graded", "kind"]
    rows = {line.split()[1]: line.split()[2:-3] for line in shown.splitlines() if re.match(r"[✓✗·] p", line)}
    assert rows == {"p0": ["0", "bad", "yes"], "p1": ["0.5", "fair", "✗", "no"], "p2": ["1", "good", "yes"]}
    assert re.search(r"0\.5<div style=\"[^\"]*white-space:normal\">fair</div>", result._repr_html_())
    assert list(result.to_pandas()["graded_label"]) == ["bad", "fair", "good"]


def test_a_label_whose_score_is_missing_stands_in_its_place() -> None:
    def judged(outputs: Any) -> dict[str, Any]:
        return {"score": None, "label": "unsure"} if "1" in outputs else {"score": 0.5, "label": "sure"}

    result = run(None, task, MANY[:2], evaluators=[judged])
    rows = {line.split()[1]: line.split()[2:-3] for line in repr(result).splitlines() if re.match(r"[✓✗·] p", line)}
    assert rows == {"p0": ["0.5", "sure"], "p1": ["unsure"]}


def test_what_only_looks_like_the_label_of_a_score_is_a_metric() -> None:
    """A number, a label without a score, a label beside a long text."""

    def numbered(outputs: Any) -> dict[str, Any]:
        return {"score": 0.5, "label": 7}

    def lone(outputs: Any) -> dict[str, Any]:
        return {"label": "kind"}

    def told(outputs: Any) -> dict[str, Any]:
        return {"score": "a long text about the answer", "label": "short"}

    result = run(None, task, MANY[:3], evaluators=[numbered, lone, told])
    header = next(line for line in repr(result).splitlines() if line.startswith("Row"))
    assert header.split()[1:5] == ["numbered", "numbered_label", "lone_label", "told_label"]
    metrics = [line.split()[0] for line in repr(result).splitlines() if " 3 of 3 " in line]
    assert metrics == ["numbered", "numbered_label", "lone_label", "told_label"]


def test_a_negative_mean_has_a_minus() -> None:
    result = run(None, task, MANY[:3], evaluators=[lambda outputs: -1.5 - int(outputs.split()[1])], name="negative")
    assert ">\N{MINUS SIGN}2.50<" in result._repr_html_()


def test_a_sum_has_no_standard_error() -> None:
    result = run(None, task, LONG, evaluators=[lambda outputs: 2], aggregate_function="sum")
    assert re.search(r"^<lambda> +4 +2 to 2 ", repr(result), re.MULTILINE)
    assert "Sum" in repr(result).splitlines()[2]


def test_a_dataframe_has_all_fields(result: ExperimentResultSummary) -> None:
    frame = result.to_pandas()
    assert len(frame) == 200
    assert list(frame.columns)[:5] == ["datapoint_id", "session_id", "passed", "score", "score_explanation"]
    assert frame["passed"].sum() == 195
    assert (frame["inputs"][7], frame["expected"][7], frame["outputs"][7]) == ("private 7", "", "answer 7")
    assert frame["evaluator_errors"][3] == {"judge": "RuntimeError: no verdict"}
    assert SECRET in frame["error"][49]  # DataFrames are not redacted.


class Elements(html.parser.HTMLParser):
    """Every element and attribute of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


@pytest.mark.parametrize("text", list(HOSTILE.values()))
def test_hostile_texts_are_escaped(text: str) -> None:
    def fails(datapoint: dict[str, Any]) -> None:
        raise ValueError(text)

    def label(outputs: Any) -> str:
        return text

    rows = [{"id": text or "x", "inputs": {"a": text}}]
    name = text.replace("\0", "") or "x"

    def explained(outputs: Any) -> dict[str, Any]:
        return {"score": False, "explanation": text, text: 1, "reason": text * 9}

    with hh.HoneyHiveTracer.init(saved_detail="full"):
        failed = run(None, fails, rows, name=name, config={text: text})
        fine = run(None, lambda datapoint: text, rows, evaluators=[label, explained], name=name, config={text: 1})
        longer = run(None, lambda datapoint: f"{text} {text}", rows, evaluators=[label, explained], name=name)
        pages = [one._repr_html_() for one in (failed, fine, failed.compare(fine), longer.compare(fine))]
    for page in pages:
        found = Elements(page)
        assert found.tags <= {
            "div", "span", "b", "code", "details", "summary", "table", "tr", "td"
        }  # fmt: skip
        assert found.attributes <= {"class", "style", "id", "title", "align", "colspan"}
        assert tags_as_text(sanitized(page)) - tags_as_text(page) <= BARE
    assert "\x1b" not in repr(failed) + repr(fine)


def test_an_empty_run_can_be_displayed() -> None:
    empty = run(None, task, [])
    assert repr(empty).startswith("✓ test run  ")
    assert "0 rows" in empty._repr_html_()


def test_progress_shows_time_count_cost_time_left_and_failures() -> None:
    used = SessionUsage(cost=0.011, estimated=True)
    report = progress_report("n", Counter(passed=2, failed=1), 10, 3.0, used)
    text = "◌ n  ██████░░░░░░░░░░░░░░  3.00 s  3 of 10 rows  ~$0.011  about 7.00 s left  1 failed"
    assert report_text(report) == text
    assert report_text(report, unicode=False).startswith("o n  ######--------------  3.00 s")
    assert report_text(report, width=40) == "◌ n  ██████░░░░░░░░░░░░░░  3.00 s  1 failed"
    assert "width:30%" in report_html(report)


SCRIPT = """
import time
import hh_jupyter as hh
hh.evaluate(lambda p: time.sleep(0.3), dataset=[{"inputs": {"n": n}} for n in range(4)], name="slow", max_workers=1)
"""


def test_a_terminal_shows_one_line_of_progress_and_then_the_result(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=theirs, env=environment, cwd=tmp_path, text=True
    ) as program:
        os.close(theirs)
        printed = program.stdout.read() if program.stdout else ""
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert "\r\x1b[K◌ slow  " in shown
    assert " of 4 rows" in shown
    assert shown.endswith("\r\x1b[K")
    assert "\n" not in shown.replace("\r\n", "") or "api_key" in shown
    assert printed.startswith("✓ slow  ")


def test_no_progress_is_written_to_a_stream_that_is_not_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    run(None, task, MANY[:3], print_results=True)
    assert "◌" not in capsys.readouterr().err
