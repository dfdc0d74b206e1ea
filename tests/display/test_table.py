"""Tables: the same columns as text and as HTML; what does not fit is left out by priority and counted."""

from __future__ import annotations

import html
import math
import re
from typing import Any

import pytest

from hh_jupyter.display.format import cell_width
from hh_jupyter.display.table import Column, Distribution, Piece, SpansLink, Table, table_html, text_lines
from tests.display.hostile import HOSTILE
from tests.display.rendered import PROPERTIES, TAGS, Page

Row = dict[str, Any]


def column(key: str, **more: Any) -> Column:
    return Column(key=key, title=key, value=lambda row: row.get(key), **more)


ROWS: list[Row] = [
    {"name": "first", "score": 0.25, "note": "a note", "text": "long text of the first row"},
    {"name": "second one", "score": 12, "note": ""},
]
COLUMNS = (
    column("name"),
    column("score", align="right", priority=1),
    column("note", priority=2),
    column("unused", priority=3),
    column("text", line=1),
)
TABLE = Table(columns=COLUMNS, rows=ROWS)


def lines_of(page: str) -> list[str]:
    return Page(page).text


def test_text_has_aligned_columns_and_long_texts_below_their_row() -> None:
    assert list(text_lines(TABLE, 10)) == [
        "name        score  note",
        "first        0.25  a note",
        "    text long text of the first row",
        "second one     12",
    ]


def test_html_has_the_same_columns_and_texts() -> None:
    assert lines_of(table_html(TABLE, 10)) == [
        "| name | score | note",
        "| first | 0.25 | a note",
        "text long text of the first row",
        "| second one | 12 |",
    ]
    assert 'colspan="3"' in table_html(TABLE, 10)


@pytest.mark.parametrize(
    ("width", "header"), [(40, "name        score  note"), (20, "name        score"), (11, "name")]
)
def test_a_narrow_terminal_leaves_out_the_columns_of_lowest_priority(width: int, header: str) -> None:
    lines = list(text_lines(TABLE, 10, width))
    assert lines[0] == header
    assert max(map(len, lines)) <= max(width, 12 + len("    "))


@pytest.mark.parametrize("width", [30, 60])
def test_long_cells_are_wrapped_or_cut_to_the_width(width: int) -> None:
    rows = [
        {"name": "a" * 50, "note": f"{'word ' * 20}", "text": "漢字 " * 40},
        {"name": "漢字" * 30, "note": "x" * 200},
    ]
    table = Table(columns=[column("name"), column("note"), column("text", line=1)], rows=rows)
    lines = list(text_lines(table, 10, width))
    assert all(cell_width(line) <= width for line in lines)
    assert sum("word" in line for line in lines) == 3


def test_rows_that_are_left_out_are_counted() -> None:
    many = Table(columns=COLUMNS, rows=ROWS * 10, more=lambda left: [Piece(f"{len(left)} left")])
    assert list(text_lines(many, 2))[-1] == "… 18 left"
    assert table_html(many, 2).count("<tr") == 1 + 3


def test_an_empty_table_is_nothing_in_html() -> None:
    assert table_html(Table(columns=COLUMNS, rows=[]), 10) == ""


@pytest.mark.parametrize("descending", [False, True])
def test_missing_values_and_nan_are_last_in_both_directions(descending: bool) -> None:
    values = [3, None, "b", float("nan"), True, 1.5, "a", -math.inf]
    table = Table(columns=[column("v")], rows=[{"v": value} for value in values])
    found = [values[number] for number in table.order("v", descending=descending)]
    known = [-math.inf, True, 1.5, 3, "a", "b"]
    assert found[:6] == (known[::-1] if descending else known)
    assert found[6] is None
    assert isinstance(found[7], float)
    assert math.isnan(found[7])


def test_numbers_inside_texts_are_sorted_by_size() -> None:
    expected = ["", "10 rows", "row", "row 2", "row 002.5", "row 10", "row 10 b", f"row {'9' * 5000}", "row x"]
    table = Table(columns=[column("v")], rows=[{"v": value} for value in reversed(expected)])
    found = [table.rows[number]["v"] for number in table.order("v")]
    assert found == expected


def test_ties_keep_their_order() -> None:
    rows = [{"v": 1, "n": 0}, {"v": 0, "n": 1}, {"v": 1, "n": 2}, {"v": 0, "n": 3}]
    table = Table(columns=[column("v"), column("n")], rows=rows)
    assert table.order("v") == [1, 3, 0, 2]
    assert table.order("v", descending=True) == [0, 2, 1, 3]
    assert table.order(matching=lambda row: row["n"] != 1) == [0, 2, 3]


def test_spans_of_a_row_unfold_in_its_first_cell() -> None:
    link = SpansLink("new run", "hh-session-1-new", "%hh show 1")
    page = table_html(Table(columns=COLUMNS, rows=ROWS, spans=lambda row: [link]), 1)
    (inside,) = re.findall(r"<details><summary>(.*?)</details>", page)
    assert "first" in inside.partition("</summary>")[0]
    assert '<div class="hh-output" id="hh-session-1-new"><div>Spans: <code>%hh show 1</code></div></div>' in inside


def test_distributions_are_drawn_as_bars_and_labels() -> None:
    cells = [Distribution(shares=[0.0, 0.5, 0.5]), Distribution(kind="yes_no", shares=[0.4]),
             Distribution(kind="labels", labels=["good 3", "bad 1"])]  # fmt: skip
    table = Table(columns=[column("v", cell=lambda row: row["v"])], rows=[{"v": cell} for cell in cells])
    assert list(text_lines(table, 5))[1:] == ["▁██", "████░░░░░░", "good 3, bad 1"]
    page = table_html(table, 5)
    assert page.count("height:14px") == 2
    assert "width:40%" in page


@pytest.mark.parametrize("text", list(HOSTILE.values()))
def test_hostile_texts_are_inert_in_cells_titles_and_lines(text: str) -> None:
    pieces = [Piece(text), Piece(f" {text} ", "old"), Piece(text, "below"), Piece(text, "code"), Piece(text, "failed")]
    labels = Distribution(kind="labels", labels=[text])
    columns = [
        Column(key="a", title=text, value=lambda row: text),
        Column(key="b", title=text, value=lambda row: text, cell=lambda row: pieces),
        Column(key="c", title=text, value=lambda row: text, cell=lambda row: labels),
        Column(key="d", title=text, value=lambda row: text, cell=lambda row: pieces, line=1),
    ]
    table = Table(columns=columns, rows=[{}], spans=lambda row: [SpansLink(text, text, text)])
    page = Page(table_html(table, 5))
    assert {tag for tag, _ in page.elements} <= TAGS
    allowed = {"style", "title", "id", "class", "align", "colspan"}
    assert {name for _, found in page.elements for name in found} <= allowed
    styles = ";".join(found["style"] or "" for _, found in page.elements if "style" in found)
    names = {one.partition(":")[0].strip() for one in html.unescape(styles).split(";") if one.strip()}
    assert names <= PROPERTIES | {"vertical-align", "position", "border-bottom"}
    for width in (None, 40):
        for line in text_lines(table, 5, width):
            assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", line)
