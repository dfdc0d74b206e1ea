"""Queries of rows: words, named filters and conditions, each of which must hold."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hh_jupyter.display.row_query import condition, row_query
from hh_jupyter.display.table import Column, Table
from tests.display.hostile import HOSTILE

Row = dict[str, Any]

ROWS: list[Row] = [
    {
        "id": "a",
        "score": 0.25,
        "right": True,
        "kind": "refund",
        "time": 1.5,
        "text": "Two glasses are chipped",
        "no": 1,
    },
    {"id": "b", "score": 0.6, "right": False, "kind": "Replace", "time": 0.2, "text": "the VOUCHER, failed", "no": 0},
    {"id": "c", "score": math.nan, "right": None, "kind": None, "time": None, "text": "glasses two", "no": 10**400},
    {"id": "d", "score": None, "right": True, "kind": "no", "time": 61.0, "text": "score<0.3 x", "no": -2},
]


def column(key: str, title: str = "") -> Column:
    return Column(key=key, title=title or key, value=lambda row: row[key])


TABLE = Table(
    columns=[column("score"), column("right"), column("kind", "The Kind"), column("time", "Time"), column("no")],
    rows=ROWS,
    text=lambda row: row["text"],
    filters={"failed": lambda row: row["id"] == "a"},
)


def found(query: str) -> str:
    return "".join(ROWS[number]["id"] for number in TABLE.order(matching=row_query(TABLE, query).matches))


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("", "abcd"),
        ("   ", "abcd"),
        ("glasses", "ac"),
        ("TWO glasses", "ac"),
        ('"two glasses"', "a"),
        ("voucher", "b"),
        ("failed", "a"),
        ('"failed"', "b"),
        ("score<0.6", "a"),
        ("score<=0.6", "ab"),
        ("score>0.25", "b"),
        ("score>=25%", "ab"),
        ("score=0.25", "a"),
        ("score!=0.25", "bcd"),
        ("score=nan", "c"),
        ("score=none", "d"),
        ("SCORE<.6 right=YES", "a"),
        ("right=no", "b"),
        ("right=true", "ad"),
        ("right=1", "ad"),
        ("right!=yes", "bc"),
        ("no=0", "b"),
        ("no=no", "b"),
        ("no<0", "d"),
        ("no>1000", "c"),
        ("kind=refund", "a"),
        ('"the kind"=replace', "b"),
        ("kind=no", "d"),
        ("kind<3", ""),
        ("time>1,000ms", "ad"),
        ("time<1s", "b"),
        ("time<$2", "ab"),
        ("score<0.6 kind=replace", ""),
        ("score<", "d"),
        ('"', "abcd"),
    ],
)
def test_a_query_selects_rows(query: str, ids: str) -> None:
    assert found(query) == ids


def test_what_looks_like_a_condition_of_an_unknown_column_is_a_text_and_is_said() -> None:
    assert row_query(TABLE, "nonsense<3").notes == ["no column nonsense"]
    assert found("nonsense<3") == ""
    assert row_query(TABLE, "score<3 glasses failed").notes == []


@pytest.mark.parametrize("name", ["score", "my metric", "a<b", 'with "quotes"', *HOSTILE.values()])
def test_a_written_condition_is_read_again(name: str) -> None:
    """For any name of a metric and any label, as far as quotes can hold them."""
    shown = name.replace('"', "")
    table = Table(columns=[Column(key=shown, title=shown, value=lambda row: row)], rows=[shown, "other"])
    if shown.strip():
        assert table.order(matching=row_query(table, condition(name, "=", name)).matches) == [0]


@pytest.mark.parametrize("query", [*HOSTILE.values(), "<" * 10_000, '"' * 10_001, "a=" * 10_000])
def test_any_query_is_answered(query: str) -> None:
    for row in ROWS:
        row_query(TABLE, query).matches(row)


def test_the_condition_of_a_click_finds_names_and_labels_with_quotes() -> None:
    """A query has no quotes inside quotes, so they do not count."""
    rows = [{'is "kind"': 'a "nice" one'}, {'is "kind"': "other"}]
    kind = Column(key='is "kind"', title='is "kind"', value=lambda row: row['is "kind"'])
    table = Table(columns=[kind], rows=rows, text=lambda row: "")
    query = row_query(table, condition('is "kind"', "=", 'a "nice" one'))
    assert ([query.matches(row) for row in rows], query.notes) == ([True, False], [])
