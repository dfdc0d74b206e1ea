"""The log of rows is bounded, by cell as well as in all."""

from __future__ import annotations

from dataclasses import replace

from hh_jupyter.conventions.facts import SpanFacts
from hh_jupyter.records.log import SpanLog
from hh_jupyter.records.record import SpanRecord


def row(span_id: int, cell: str | None, session_id: str = "s") -> SpanRecord:
    return SpanRecord(1, span_id, None, f"span {span_id}", 0, 1, "ok", SpanFacts(), session_id=session_id, cell=cell)


def ids(rows: tuple[SpanRecord, ...]) -> list[int]:
    return [record.span_id for record in rows]


def test_the_oldest_records_are_evicted_and_counted() -> None:
    log = SpanLog(max_rows=3)
    log.extend([row(1, "a"), row(2, "b"), row(3, "a")])
    log.extend([row(4, None), row(5, "b")])
    assert ids(log.records()) == [3, 4, 5]
    assert (ids(log.records(cell="a")), ids(log.records(cell="b")), log.evicted) == ([3], [5], 2)
    log.resize(1)
    log.extend([row(6, "b")])
    assert (ids(log.records()), ids(log.records(cell="a"))) == ([6], [])


def test_rows_are_found_by_cell_and_by_session() -> None:
    log = SpanLog()
    log.extend([row(1, "a", "s"), row(2, "a", "t"), row(3, "b", "s")])
    assert ids(log.records(cell="a", session_id="s")) == [1]
    assert ids(log.records(session_id="s")) == [1, 3]
    log.clear()
    assert log.records() == log.records(cell="a") == ()


def test_a_span_is_found_by_the_id_that_code_chose_for_its_event() -> None:
    log = SpanLog(max_rows=4)
    chosen = [replace(row(number, "a"), event_id=f"AB-{number % 2}") for number in (1, 2, 3)]
    log.extend([*chosen, row(4, "a")])
    assert log.find_event("ab1") is chosen[2]
    log.replace(chosen[2], name="changed")
    assert [one and one.name for one in map(log.find_event, ("ab-1", "AB0", "ab2"))] == ["changed", "span 2", None]
    log.extend([row(5, "a"), row(6, None)])
    assert [one and one.name for one in map(log.find_event, ("ab1", "ab0"))] == ["changed", None]
    log.clear()
    assert log.find_event("ab1") is None


def test_listeners_receive_added_records_until_they_are_removed() -> None:
    log = SpanLog()
    heard: list[tuple[SpanRecord, ...]] = []
    listener = heard.append
    log.listen(listener)
    log.extend([row(1, "a")])
    log.unlisten(listener)
    log.extend([row(2, "a")])
    assert [ids(rows) for rows in heard] == [[1]]


def test_change_listeners_receive_changed_records_which_keep_their_position() -> None:
    log = SpanLog()
    log.extend([row(1, "a"), row(2, "a"), row(3, None)])
    heard: list[tuple[SpanRecord, ...]] = []
    watcher = heard.append
    log.listen_to_changes(watcher)
    second = log.find(1, 2)
    assert second is not None
    log.replace(second, redacted=7)
    assert [ids(rows) for rows in heard] == [[2]]
    for rows in (log.records(), log.records(cell="a")):
        assert [(record.span_id, record.redacted) for record in rows][:2] == [(1, 0), (2, 7)]
    log.unlisten(watcher)
    log.replace(second, redacted=8)
    assert (len(heard), log.find(2, 2)) == (1, None)
