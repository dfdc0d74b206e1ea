"""What an interactive page gets of a result and of a comparison: all rows, full texts, explanations, filters."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from typing import Any

import pytest

import hh_jupyter as hh
from hh_jupyter.display.live_report import LiveReport, shown_reports
from hh_jupyter.experiments.comparison_view import comparison_report, live_comparison
from hh_jupyter.experiments.results import ExperimentResultSummary, RunComparisonResult
from hh_jupyter.experiments.views import live_result, result_report
from tests.experiments.runs import run

SECRET = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"
LONG = "a long story " * 50
ROWS: list[dict[str, Any]] = [
    {"id": f"q{n}", "inputs": {"question": f"{LONG}<b>{n}</b>", "key": SECRET}, "ground_truth": {"n": n}}
    for n in range(12)
]


def answer(datapoint: dict[str, Any], word: str = "old") -> Any:
    n = datapoint["ground_truth"]["n"]
    if n == 3:
        raise LookupError(f"no order {SECRET}")
    return {"answer": f"{LONG} the {word} answer {n}", "n": n}


def right(outputs: Any) -> dict[str, Any]:
    return {"score": outputs["n"] not in (5, 6), "explanation": f"because of {SECRET} and {LONG}"}


def near(outputs: Any) -> Any:
    if outputs["n"] == 8:
        raise ValueError("no distance")
    return float("nan") if outputs["n"] == 2 else None if outputs["n"] == 1 else outputs["n"] / 10


@pytest.fixture(scope="module")
def result() -> ExperimentResultSummary:
    return run(None, answer, ROWS, evaluators=[right, near], name="live")


@pytest.fixture(scope="module")
def compared(result: ExperimentResultSummary) -> RunComparisonResult:
    def task(datapoint: dict[str, Any]) -> Any:
        if datapoint["ground_truth"]["n"] == 9:
            raise TimeoutError("too late")
        return answer(datapoint, "new")

    def all_right(outputs: Any) -> bool:
        return True

    all_right.__name__ = "right"
    return run(None, task, ROWS, evaluators=[all_right], name="newer").compare(result)


def live_of(shown: ExperimentResultSummary | RunComparisonResult) -> LiveReport:
    if isinstance(shown, ExperimentResultSummary):
        return LiveReport(live_result(shown, result_report(shown, None, 60, "summary")))
    return LiveReport(live_comparison(shown, comparison_report(shown, None, 60, "summary")))


def ids(live: LiveReport, query: str = "", key: str = "", *, down: bool = False) -> list[str]:
    (numbers,) = live.order(query, key, descending=down)[1]
    rows = live.rows(array("I", numbers).tolist())
    return ["".join(text for text, _ in row[0]).split()[1] for row in rows]


def test_rows_are_those_of_the_static_form_with_texts_beside_their_scores(result: ExperimentResultSummary) -> None:
    live = live_of(result)
    header, (heights,) = live.header(with_rows=True)
    titles = [one["title"] for one in header["columns"] if one["title"] and one["weight"]]
    assert titles == ["Row", "input", "expected", "output", "right", "near", "Time", "Tokens", "Cost"]
    assert ids(live)[:5] == ["q3", "q8", "q5", "q6", "q0"]
    assert [height & 0x7F for height in heights[:5]] == [1, 2, 2, 2, 1]
    assert [bool(height & 0x80) for height in heights[:5]] == [True] * 4 + [False]
    assert header["filters"] == [("failed", 2), ("wrong", 2), ("unclear", 0)]
    assert header["errors"] == "2 failed"


def test_unknown_and_nan_scores_are_last_and_conditions_find_rows(result: ExperimentResultSummary) -> None:
    live = live_of(result)
    assert ids(live, key="near", down=True)[:3] == ["q11", "q10", "q9"]
    assert set(ids(live, key="near", down=True)[-4:]) == set(ids(live, key="near")[-4:]) == {"q1", "q2", "q3", "q8"}
    assert ids(live, "near<0.6 right=no") == ["q5"]
    assert ids(live, "near=nan") == ["q2"]
    assert ids(live, "failed") == ["q3", "q8"]
    assert ids(live, "lookuperror") == ["q3"]
    assert ids(live, '"answer 11"') == []  # Beyond the beginning of the text.
    assert ids(live, "<b>11", "near") == []


def test_an_open_row_has_full_texts_scores_and_explanations(result: ExperimentResultSummary) -> None:
    """From its spans; redacted."""
    live = live_of(result)
    wrong = live.row(2)
    texts = {title: "".join(text for text, _ in pieces) for title, pieces in wrong["texts"]}
    assert texts["Input"].count("a long story") == 50
    assert "<b>5</b>" in texts["Input"]
    assert texts["Expected"] == "5"
    assert "the old answer 5" in texts["Output"]
    values = {name: ("".join(text for text, _ in value), why[0][0]) for name, value, why in wrong["values"]}
    assert values["right"][0] == "✗ no"
    assert values["right"][1].startswith("because of [redacted")
    assert values["near"] == ("0.5", "")
    assert wrong["spans"][0]["view"] == f"hh-session-{result.rows[5].session_id}"
    assert live.row(0)["texts"][-1][1][0][0].startswith("LookupError: no order [redacted")
    assert ["near", [["failed", "failed"]], [["ValueError: no distance", ""]]] in live.row(1)["values"]
    everything = json.dumps([live.row(number) for number in range(12)] + live.rows(list(range(12))))
    assert SECRET[8:20] not in everything


def test_a_row_whose_spans_are_gone_has_the_beginnings_of_its_texts() -> None:
    import dataclasses

    row = dataclasses.replace(run(None, answer, ROWS[:1]).rows[0], session_id="")
    gone = dataclasses.replace(run(None, answer, ROWS[:1]), rows=(row,))
    texts = dict(live_of(gone).row(0)["texts"])
    assert texts["Output"][0][0].startswith("{'answer': 'a long story")
    assert len(texts["Output"][0][0]) <= 200
    assert live_of(gone).row(0)["spans"] == []


def test_a_comparison_has_all_rows_and_the_words_that_differ(compared: RunComparisonResult) -> None:
    live = live_of(compared)
    assert ids(live)[:3] == ["q9", "q5", "q6"]
    filters = dict(live.header(with_rows=True)[0]["filters"])
    assert filters == {"newly-failed": 1, "newly-wrong": 0, "newly-right": 3, "worse": 1, "better": 3, "changed": 11}
    assert ids(live, "newly-failed") == ["q9"]
    assert ids(live, "worse right=yes") == []
    row = live.row(1)
    (_, old), (_, new) = row["beside"]
    assert [text for text, tone in old if tone == "old"] == ["old "]
    assert [text for text, tone in new if tone == "new"] == ["new "]
    assert row["values"][0][:2] == ["right", [["no → yes", ""], [" better", "better"]]]
    assert [link["label"] for link in row["spans"]] == ["new run", "old run"]
    failed = live.row(0)["beside"][1]
    assert failed == ["newer", [["TimeoutError: too late", "failed"]]]


def judged(outputs: Any) -> dict[str, Any]:
    return {"score": outputs["n"] / 12, "label": "high" if outputs["n"] > 5 else "low", "reason": "by the number"}


def judged_later(outputs: Any) -> dict[str, Any]:
    return {"score": 0.75, "label": "high"}


judged_later.__name__ = "judged"


def test_a_label_beside_its_score_is_a_column_that_can_be_chosen_and_found() -> None:
    live = live_of(run(None, answer, ROWS, evaluators=[judged], name="judged"))
    header, _ = live.header(with_rows=True)
    weights = {one["key"]: one["weight"] for one in header["columns"]}
    assert (weights["judged"], weights["judged_label"]) == (1, 0)
    assert [row[0] for row in header["sections"][0]["rows"]] == ["judged"]
    assert ids(live, "judged_label=high judged<0.6") == ["q6", "q7"]
    assert live.row(5)["values"] == [["judged", [["0.4167", ""], [" low", "below"]], [["by the number", ""]]]]


def test_a_comparison_shows_a_label_with_its_score() -> None:
    old = run(None, answer, ROWS, evaluators=[judged], print_results=False)
    live = live_of(run(None, answer, ROWS, evaluators=[judged_later], print_results=False).compare(old))
    values = live.row(ids(live).index("q0"))["values"]
    assert [one[:2] for one in values] == [["judged", [["0 low → 0.75 high", ""], [" better", "better"]]]]
    assert "judged_label" not in json.dumps(live.header(with_rows=False)[0]["foot"])


def test_many_metrics_and_those_with_the_name_of_another_column_can_be_chosen() -> None:
    def many(outputs: Any) -> dict[str, float]:
        return {f"m{n}": float(n) for n in range(7)}

    def time(outputs: Any) -> float:
        return 0.5

    header, _ = live_of(run(None, answer, ROWS, evaluators=[many, time])).header(with_rows=True)
    columns = {one["key"]: (one["title"], bool(one["weight"])) for one in header["columns"]}
    assert columns["many_m6"] == ("many_m6", False)
    assert columns["metric_time"] == ("time", False)
    assert columns["time"] == ("Time", True)
    assert columns["session"] == ("Session", False)
    assert len(columns) == len(header["columns"])


def test_an_open_row_names_the_span_that_holds_its_feedback(result: ExperimentResultSummary) -> None:
    live = live_of(result)
    (spans,) = live.row(2)["spans"]
    (root,) = [span for span in hh.spans(session=result.rows[5].session_id) if span.parent_id is None]
    assert (spans["span"], spans["feedback"]) == (f"{root.span_id:016x}", {"ok": None, "note": None})


def test_a_bar_of_a_metric_selects_its_rows(result: ExperimentResultSummary) -> None:
    """The queries of all bars together are all rows with a score."""
    live = live_of(result)
    boxes = live.header(with_rows=True)[0]["sections"][0]
    at = [one["key"] for one in boxes["columns"]].index("values")
    for row, scored in zip(boxes["rows"], (11, 8), strict=True):
        found = [one for query in row[at]["queries"] for one in ids(live, query)]
        assert len(found) == len(set(found)) == scored
        counts = [len(ids(live, query)) for query in row[at]["queries"]]
        shares = row[at]["shares"] if len(counts) > 2 else [row[at]["shares"][0], 1 - row[at]["shares"][0]]
        assert [count / scored for count in counts] == pytest.approx(shares)


@pytest.fixture
def page() -> Iterator[None]:
    """A page that may ask for reports."""
    shown_reports.on_show = lambda: None
    yield
    shown_reports.clear()


@pytest.mark.usefixtures("page")
def test_a_displayed_result_can_be_asked_for_by_the_id_of_its_output(result: ExperimentResultSummary) -> None:
    page = result._repr_mimebundle_()[0]["text/html"]
    view_id = page.split('id="', 1)[1].split('"', 1)[0]
    found = shown_reports.get(view_id)
    assert found is not None
    assert found.size == 12
    assert "hh-output" not in result._repr_html_().split(">", 1)[0]


def test_without_a_page_nothing_is_kept(result: ExperimentResultSummary) -> None:
    page = result._repr_mimebundle_()[0]["text/html"]
    assert shown_reports.get(page.split('id="', 1)[1].split('"', 1)[0]) is None


def test_each_trial_is_a_row() -> None:
    result = run(None, answer, ROWS[:2], evaluators=[right], trials=3)
    live = live_of(result)
    assert ids(live) == ["q0"] * 3 + ["q1"] * 3


def test_a_condition_may_name_a_metric_that_has_no_column() -> None:
    def scores(outputs: Any) -> dict[str, Any]:
        return {"score": 1.0, **{f"part_{n}": outputs["n"] * n for n in range(1, 9)}}

    shown = run(None, answer, ROWS, evaluators=[scores], name="many")
    live = live_of(shown)
    assert ids(live, "scores_part_8>=80") == ["q10", "q11"]
