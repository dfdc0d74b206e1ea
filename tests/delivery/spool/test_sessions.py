"""In the local trace store, sessions of this kernel and of dead ones can be listed, read, sent by name and deleted."""

from __future__ import annotations

import json
from pathlib import Path

from hh_jupyter.delivery.spool.record import LOCAL, LeftOver
from hh_jupyter.delivery.spool.store import Spool
from tests.delivery.spool.spooled import HERE, OTHER_SESSION, SESSION, THERE, Record, files_in, leave_behind, numbers_of


def session_start(name: str, session_id: str = SESSION) -> Record:
    document = {"session": {"session_name": name, "session_id": session_id}}
    return Record("session_start", session_id, json.dumps(document).encode(), 0)


def test_sessions_of_this_kernel_and_of_dead_ones_are_listed(tmp_path: Path) -> None:
    leave_behind(tmp_path, [session_start("triage"), Record(spans=2), Record(spans=3)], LOCAL)
    leave_behind(tmp_path, [Record(spans=10)], LOCAL)
    spool = Spool.open(tmp_path)
    (alone,) = spool.sessions()
    assert (alone.spans, alone.here) == (15, False)
    spool.add(HERE, [session_start("chat", OTHER_SESSION), Record(session_id=OTHER_SESSION)])
    dead, own = spool.sessions()
    assert (dead.session_id, dead.name, dead.spans, dead.destination, dead.here) == (
        SESSION,
        "triage",
        15,
        LOCAL,
        False,
    )
    assert (own.session_id, own.name, own.spans, own.destination, own.here) == (OTHER_SESSION, "chat", 1, HERE, True)
    assert 1.7e9 < dead.first < dead.last <= own.first
    spool.add(LOCAL, [Record(spans=1)])
    assert [(row.spans, row.here) for row in spool.sessions()] == [(16, True), (1, True)]
    spool.close()


def test_a_session_with_two_destinations_has_two_rows_under_one_name(tmp_path: Path) -> None:
    leave_behind(tmp_path, [session_start("triage"), Record(spans=2)], LOCAL)
    leave_behind(tmp_path, [Record(spans=3)], HERE)
    rows = Spool.open(tmp_path).sessions()
    assert [(row.name, row.spans, row.destination) for row in rows] == [("triage", 2, LOCAL), ("triage", 3, HERE)]


def test_a_session_start_that_is_not_a_document_has_no_name(tmp_path: Path) -> None:
    odd = [b"no json", b"[]", b'{"session": 1}', b'{"session": {"session_name": 5}}', b"\xff"]
    leave_behind(tmp_path, [Record("session_start", str(n), body, 0) for n, body in enumerate(odd)], LOCAL)
    assert [row.name for row in Spool.open(tmp_path).sessions()] == [None] * len(odd)


def test_a_sessions_spans_can_be_read_from_any_file(tmp_path: Path) -> None:
    leave_behind(tmp_path, [session_start("triage"), Record(body=b"1"), Record(session_id=OTHER_SESSION)], LOCAL)
    spool = Spool.open(tmp_path)
    spool.add(HERE, [Record(body=b"2"), Record("event_update", body=b"no spans", spans=0)])
    assert spool.bodies(SESSION) == [b"1", b"2"]
    assert spool.bodies("unknown") == []
    spool.close()


def test_local_sessions_get_a_destination_only_when_named(tmp_path: Path) -> None:
    leave_behind(tmp_path, [Record(body=b"1 "), session_start("triage")], LOCAL)
    leave_behind(tmp_path, [Record(body=b"5 "), Record(body=b"6 ", session_id=OTHER_SESSION)], THERE)
    spool = Spool.open(tmp_path)
    own = [Record(body=b"2 "), Record(body=b"3 ", session_id=OTHER_SESSION)]
    spool.add(LOCAL, own)
    taken = spool.take_local([SESSION], HERE)
    assert [record.kind for record in taken] == ["session_start", "spans", "spans"]
    assert numbers_of(taken[1:]) == [1, 2]
    assert {record.destination for record in taken} == {HERE}
    assert taken[2].key == own[0].key, "it is the same record"
    assert [spool.load(record) for record in taken] == [record.body for record in taken]
    assert spool.take_local([SESSION], HERE) == []
    spool.close()
    heir = Spool.open(tmp_path)
    assert heir.left_over() == {HERE: LeftOver(3, 2), LOCAL: LeftOver(1, 1), THERE: LeftOver(2, 2)}
    assert len(heir.adopt(HERE)) == 3


def test_bodies_of_named_sessions_above_the_limit_stay_on_disk(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path)
    spool.add(LOCAL, [Record(body=b"1" * 100), Record(body=b"2" * 100)])
    first, second = spool.take_local([SESSION], HERE, body_bytes=150)
    assert (first.body, second.body) == (b"1" * 100, b"")
    assert spool.load(second) == b"2" * 100
    spool.close()


def test_clearing_one_session_leaves_the_others(tmp_path: Path) -> None:
    leave_behind(tmp_path, [Record(spans=3), Record(session_id=OTHER_SESSION)], LOCAL)
    spool = Spool.open(tmp_path)
    spool.add(HERE, [Record(spans=4), Record(session_id=OTHER_SESSION)])
    assert spool.clear([SESSION]) == 7
    assert {row.session_id for row in spool.sessions()} == {OTHER_SESSION}
    assert spool.clear() == 2
    assert spool.sessions() == []
    spool.close()
    assert files_in(tmp_path) == []


def test_cleared_data_is_no_longer_on_disk(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path)
    spool.add(LOCAL, [Record(body=b"a private prompt " * 1000), Record(session_id=OTHER_SESSION)])
    spool.clear([SESSION])
    spool.close()
    (path,) = files_in(tmp_path)
    assert b"a private prompt" not in path.read_bytes()
