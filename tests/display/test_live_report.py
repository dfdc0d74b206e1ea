"""What an interactive page gets of a report, and which reports are kept for it."""

from __future__ import annotations

import json
from array import array
from typing import Any

import pytest

from hh_jupyter.display.hub import Hub
from hh_jupyter.display.live_report import BAD, MAX_PAGE, MAX_ROWS, MAX_SHOWN, LiveReport, ShownReports
from hh_jupyter.display.report import Report, Section, as_output, output_id, report_html
from hh_jupyter.display.table import Column, Distribution, Interval, Piece, RowDetails, SpansLink, Table
from tests.display.hostile import HOSTILE


def report(rows: list[dict[str, Any]], **more: Any) -> Report:
    columns = [
        Column(key="id", title="Row", value=lambda row: row["id"]),
        Column(key="score", title="score", value=lambda row: row["score"], align="right"),
    ]
    table = Table(columns=columns, rows=rows, **more)
    return Report(mark="ok", title="a run", facts=["3 rows"], sections=[Section(table=table, live="rows")])


ROWS: list[dict[str, Any]] = [{"id": "a", "score": 2}, {"id": "b", "score": None}, {"id": "c", "score": 1}]


def numbers(buffers: list[bytes]) -> list[int]:
    (found,) = buffers
    return array("I", found).tolist()


def test_the_header_has_a_byte_for_each_row() -> None:
    live = LiveReport(report(ROWS, height=lambda row: 2, bad=lambda row: row["id"] == "b"))
    header, (heights,) = live.header(with_rows=True)
    assert list(heights) == [2, 2 | BAD, 2]
    assert [one["title"] for one in header["columns"]] == ["Row", "score"]
    again, none = live.header(with_rows=False)
    assert (again["version"], none) == (header["version"], [])


def test_rows_are_sorted_and_filtered_here() -> None:
    live = LiveReport(report(ROWS, text=lambda row: row["id"]))
    assert numbers(live.order("", "score", descending=False)[1]) == [2, 0, 1]
    assert numbers(live.order("score>0", "score", descending=True)[1]) == [0, 2]
    assert live.order("other>0", "", descending=False)[0] == {"notes": ["no column other"]}
    assert live.rows([2, 0]) == [["c", "1"], ["a", "2"]]


def test_a_page_is_bounded() -> None:
    live = LiveReport(report([{"id": str(n), "score": n} for n in range(2_000)]))
    assert len(live.rows(list(range(2_000)))) == MAX_PAGE


@pytest.mark.parametrize("text", list(HOSTILE.values()))
def test_any_text_is_json_without_controls(text: str) -> None:
    """In titles, cells, details, labels of distributions, queries: what the page gets can be sent and is bounded."""
    details = RowDetails(
        texts=[(text, [Piece(text)])],
        beside=[(text, [Piece(f" {text} ", "old"), Piece(text, "new")])],
        values=[(text, [Piece(text)], [Piece(text)])],
    )
    table = Table(
        columns=[Column(key=text, title=text, value=lambda row: text, cell=lambda row: [Piece(text, "strong")])],
        rows=[{}],
        details=lambda row: details,
        spans=lambda row: [SpansLink(text[:9], "hh-session-1", "%hh show 1")],
    )
    cells = [Distribution(kind="labels", labels=[text], queries=[text]), Interval(low=-1.0, value=0.0, high=1.0)]
    metrics = Table(columns=[Column(key="m", title=text, value=str, cell=lambda row: row)], rows=cells)
    sections = [Section(lines=[[Piece(text)]], table=metrics, live="boxes"), Section(table=table, live="rows")]
    live = LiveReport(Report(mark="ok", title=text, facts=[text], chips=[(text, "error")], sections=sections))
    sent = json.dumps([live.header(with_rows=True)[0], live.rows([0]), live.row(0)], allow_nan=False)
    sent.encode()
    assert len(sent) < 1_500_000
    for part in json.loads(sent)[1:]:
        shown = json.dumps(part, ensure_ascii=False)
        assert not any(mark in shown for mark in ("\x1b", "\u202e", "\u2066", "\x00"))


def test_a_message_for_an_unknown_report_has_an_empty_answer() -> None:
    class Source:
        def view_of(self, view_id: str) -> None: ...

        def report_of(self, view_id: str) -> LiveReport | None:
            return LiveReport(report(ROWS)) if view_id == "known" else None

    hub = Hub(Source())  # type: ignore[arg-type]
    asked = {"number": 1, "rows": [0], "row": 0, "query": "", "key": "", "down": False}
    for kind in ("order", "page", "row"):
        reply = hub.reply({**asked, "type": kind, "view": "unknown"})
        assert reply == ({"type": "answer", "number": 1, "value": None}, [])
        reply = hub.reply({**asked, "type": kind, "view": "known"})
        assert reply is not None
        assert reply[0]["value"] is not None
    reply = hub.reply({"type": "rows", "view": "known", "have": None})
    assert reply is not None
    assert reply[0]["header"]["title"] == "a run"
    assert hub.reply({"type": "rows", "view": "unknown"}) == ({"type": "rows", "view": "unknown", "header": None}, [])


def test_only_the_latest_reports_are_kept_and_none_without_a_page() -> None:
    kept = ShownReports()
    kept.add("early", lambda: report(ROWS), 3)
    assert kept.get("early") is None
    shown: list[int] = []
    kept.on_show = lambda: shown.append(1)
    for number in range(MAX_SHOWN + 5):
        kept.add(f"r{number}", lambda: report(ROWS), 3)
    assert len(shown) == MAX_SHOWN + 5
    assert [kept.get(f"r{number}") is not None for number in (4, 5, MAX_SHOWN + 4)] == [False, True, True]
    first = kept.get("r9")
    assert first is kept.get("r9")
    kept.add("huge", lambda: report(ROWS), 2 * MAX_ROWS)
    kept.add("large", lambda: report(ROWS), MAX_ROWS)
    assert [kept.get(one) is not None for one in ("r9", "huge", "large")] == [False, False, True]
    kept.clear()
    assert kept.get("large") is None


def test_the_static_form_is_an_output_that_the_page_finds() -> None:
    page = report_html(report(ROWS))
    shown = as_output(page)
    assert f'<div id="{output_id(page)}" class="hh-output hh-run ' in shown
    assert as_output(report_html(report(ROWS))) == shown
    assert output_id(report_html(report(ROWS[:2]))) != output_id(page)
