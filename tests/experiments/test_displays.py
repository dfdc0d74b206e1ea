"""Displays of a run: failures first, no secrets, no contents, escaped and small; progress in a terminal."""

from __future__ import annotations

import html.parser
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import hh_jupyter as hh
from hh_jupyter.display import experiments as run_display
from hh_jupyter.display.experiments import ProgressView
from hh_jupyter.experiments.results import ExperimentResultSummary
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
    labels = re.findall(r"[▲✗✓](?:</span>)? (p\d+)", result._repr_html_())
    assert labels[:8] == ["p49", "p99", "p149", "p199", "p3", "p0", "p1", "p2"]
    assert [line.split()[1] for line in repr(result).splitlines() if line[:1] in ("▲", "✓")][:5] == labels[:5]


def test_a_display_has_neither_secrets_nor_contents(result: ExperimentResultSummary) -> None:
    shown = result._repr_html_() + repr(result)
    assert "ConnectionError: key [redacted: api_key] refused" in shown
    for private in ("abcdefgh", "private", "answer", "because"):
        assert private not in shown


def test_saved_detail_preview_shows_the_first_characters_of_contents() -> None:
    with hh.HoneyHiveTracer.init(saved_detail="preview"):
        result = run(None, task, MANY[:1])
        assert "private 0" in result._repr_html_()
        assert "answer 0" in result._repr_html_()


def test_a_display_is_small_and_counts_omitted_rows(result: ExperimentResultSummary) -> None:
    page = result._repr_html_()
    assert len(page.encode()) <= 32_000
    shown = page.count("<details>")
    assert f"{200 - shown} more data points" in page
    assert len(repr(result)) <= 4_000
    assert repr(result).count("\n") <= 40
    assert "… 190 more data points" in repr(result)


def test_each_row_has_an_element_and_a_command_for_its_spans(result: ExperimentResultSummary) -> None:
    row = result.rows[49]
    assert f'<div class="hh-output" id="hh-session-{row.session_id}">' in result._repr_html_()
    assert f"%hh show {row.session_id[:8]}" in result._repr_html_()


def test_aggregates_have_spread_range_and_distribution(result: ExperimentResultSummary) -> None:
    lines = {line.split()[0]: line for line in reversed(repr(result).splitlines()) if line}
    assert re.match(r"score +0\.4[89]\d* +± 0\.28\d+ +0 to 0\.99 +196  0 [▁▂▃▄▅▆▇█]{12} 0\.99$", lines["score"])
    assert re.match(r"judge +1 +195 of 195 +195  █{10}$", lines["judge"])
    assert re.match(r"score_kind +196  long 196$", lines["score_kind"])
    assert "score_explanation" not in lines
    bars = re.findall(r"height:(\d+)px;margin-left:1px;background-color:#7f63dd", result._repr_html_())
    assert len(bars) == 12
    assert 18 in map(int, bars)


def test_a_dataframe_has_all_fields(result: ExperimentResultSummary) -> None:
    frame = result.to_pandas()
    assert len(frame) == 200
    assert list(frame.columns)[:5] == ["datapoint_id", "session_id", "passed", "score", "score_explanation"]
    assert frame["passed"].sum() == 195
    assert (frame["inputs"][7], frame["outputs"][7]) == ("private 7", "answer 7")
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
    failed = run(None, fails, rows, name=name, config={text: text})
    fine = run(None, lambda datapoint: text, rows, evaluators=[label], name=name, config={text: 1})
    for page in (failed._repr_html_(), fine._repr_html_(), failed.compare(fine)._repr_html_()):
        found = Elements(page)
        assert found.tags <= {
            "div", "span", "b", "code", "details", "summary", "table", "tr", "td"
        }  # fmt: skip
        assert found.attributes <= {"class", "style", "id", "title"}
        assert tags_as_text(sanitized(page)) - tags_as_text(page) <= BARE
    assert "\x1b" not in repr(failed) + repr(fine)


def test_an_empty_run_can_be_displayed() -> None:
    empty = run(None, task, [])
    assert repr(empty).startswith("✓ test run  ")
    assert "0 data points" in empty._repr_html_()


def test_progress_shows_count_rate_cost_and_failures() -> None:
    view = ProgressView(name="n", done="3 of 10", share=0.3, facts=["1.5/s", "~$0.01"], failures="1 failed")
    assert run_display.progress_text(view) == "○ n  ██████░░░░░░░░░░░░░░  3 of 10  1.5/s  ~$0.01  1 failed"
    assert run_display.progress_text(view, unicode=False).startswith("o n  ######--------------  3 of 10")
    assert "width:30%" in run_display.progress_html(view)


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
    assert "\r\x1b[K○ slow  " in shown
    assert " of 4  " in shown
    assert shown.endswith("\r\x1b[K")
    assert "\n" not in shown.replace("\r\n", "") or "api_key" in shown
    assert printed.startswith("✓ slow  ")


def test_no_progress_is_written_to_a_stream_that_is_not_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    run(None, task, MANY[:3], print_results=True)
    assert "○" not in capsys.readouterr().err
