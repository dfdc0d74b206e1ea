"""Records are on disk when `add` returns, and are read back in order, only for their own destination."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hh_jupyter.delivery.spool.directory import default_directory, destination_id
from hh_jupyter.delivery.spool.record import LOCAL, LeftOver
from hh_jupyter.delivery.spool.store import Spool
from tests.delivery.spool.spooled import (
    HERE,
    OTHER_SESSION,
    ROOT,
    THERE,
    Record,
    files_in,
    leave_behind,
    numbered,
    numbers_of,
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "data" / "spool"


@pytest.fixture
def spool(directory: Path) -> Iterator[Spool]:
    opened = Spool.open(directory)
    yield opened
    assert opened.problem is None
    opened.close()


def test_every_field_is_restored(directory: Path, spool: Spool) -> None:
    leave_behind(directory, [Record("event_update", OTHER_SESSION, b"\0\xff", 0, None), Record(spans=7, cell="c 1")])
    update, spans = spool.adopt(HERE)
    assert (update.kind, update.session_id, update.body, update.size) == ("event_update", OTHER_SESSION, b"\0\xff", 2)
    assert (spans.spans, spans.cell, spans.destination, spans.parked) == (7, "c 1", HERE, None)
    assert update.added > 1.7e9, "Unix seconds"


def test_sent_records_are_removed(directory: Path) -> None:
    records = numbered(range(10))
    spool = Spool.open(directory)
    spool.add(HERE, records)
    spool.remove(records[:9])
    assert [record.key is None for record in records] == [True] * 9 + [False]
    spool.close()
    assert numbers_of(Spool.open(directory).adopt(HERE)) == [9]


def test_a_file_without_remaining_records_is_deleted(directory: Path, spool: Spool) -> None:
    records = numbered(range(3))
    other = Spool.open(directory)
    other.add(HERE, records)
    other.remove(records)
    other.close()
    assert list(directory.iterdir()) == []
    leave_behind(directory, numbered(range(3)))
    taken = spool.adopt(HERE)
    assert len(files_in(directory)) == 1, "the spool's own"
    spool.remove(taken)
    spool.close()
    assert list(directory.iterdir()) == []


def test_adopted_records_belong_to_the_adopting_spool(directory: Path, spool: Spool) -> None:
    """They are on disk under our keys, and the next process finds them."""
    leave_behind(directory, numbered(range(5)))
    taken = spool.adopt(HERE)
    spool.remove(taken[:2])
    assert spool.load(taken[4]) == b"4 "
    spool.close()
    assert numbers_of(Spool.open(directory).adopt(HERE)) == [2, 3, 4]


def test_only_records_of_the_same_destination_are_adopted_and_never_local_ones(directory: Path, spool: Spool) -> None:
    leave_behind(directory, numbered([1]), HERE)
    leave_behind(directory, numbered([2]), THERE)
    leave_behind(directory, [Record(body=b"3 ", spans=5), *numbered([4])], LOCAL)
    assert spool.adopt(LOCAL) == []
    assert numbers_of(spool.adopt(HERE)) == [1]
    assert spool.adopt(HERE) == []
    assert spool.left_over() == {THERE: LeftOver(1, 1), LOCAL: LeftOver(2, 6)}


def test_files_are_read_in_order_of_age_and_a_start_before_its_session(directory: Path, spool: Spool) -> None:
    second = leave_behind(directory, [*numbered([2, 3]), Record("session_start", body=b"1 ", spans=0)])
    first = leave_behind(directory, [Record(session_id=OTHER_SESSION, body=b"0 ")])
    os.utime(first, (1e9, 1e9))
    os.utime(second, (1.1e9, 1.1e9))
    assert numbers_of(spool.adopt(HERE)) == [0, 1, 2, 3]


def test_parked_records_stay_parked_unless_requested(directory: Path) -> None:
    records = numbered(range(2))
    spool = Spool.open(directory)
    spool.add(HERE, records)
    spool.park(records[:1], "the backend refused the request (422)")
    spool.close()
    heir = Spool.open(directory)
    assert [record.parked for record in heir.adopt(HERE)] == ["the backend refused the request (422)", None]
    heir.close()
    last = Spool.open(directory)
    assert [record.parked for record in last.adopt(HERE, include_parked=True)] == [None, None]
    last.close()
    assert [record.parked for record in Spool.open(directory).adopt(HERE)] == [None, None]


def test_records_can_follow_a_new_key(directory: Path, spool: Spool) -> None:
    records = numbered([1])
    before = Spool.open(directory)
    before.add(HERE, records)
    before.park(records, "the key was rejected (401)")
    before.redirect(records, THERE)
    before.close()
    assert spool.adopt(HERE) == []
    (taken,) = spool.adopt(THERE)
    assert taken.parked is None


def test_bodies_above_the_limit_stay_on_disk(directory: Path, spool: Spool) -> None:
    leave_behind(directory, numbered(range(10), size=1000))
    taken = spool.adopt(HERE, body_bytes=3_500)
    assert [bool(record.body) for record in taken] == [True] * 3 + [False] * 7
    assert [record.size for record in taken] == [1002] * 10
    assert [spool.load(record)[:2] for record in taken[8:]] == [b"8 ", b"9 "]


def test_a_body_that_is_not_on_disk_raises_a_key_error(spool: Spool) -> None:
    record = Record()
    with pytest.raises(KeyError):
        spool.load(record)
    spool.add(HERE, [record])
    key = record.key
    spool.remove([record])
    with pytest.raises(KeyError):
        spool.load(Record(key=key))


def test_any_text_can_be_a_session_or_a_cell(directory: Path, spool: Spool) -> None:
    odd = "\udcff \0 'quoted' \u4f1a"
    leave_behind(directory, [Record(session_id=odd, cell=odd)])
    assert spool.bodies(odd) == [b"body"]
    (taken,) = spool.adopt(HERE)
    assert taken.session_id == taken.cell == "? \0 'quoted' \u4f1a"


def test_only_this_user_can_read_the_spool(directory: Path, spool: Spool) -> None:
    before = os.umask(0)
    try:
        destination_id("https://api.example", "key", directory)
        spool.add(HERE, numbered(range(3)))
        destination_id("https://api.example", "key", directory)
        modes = {path.name[-8:]: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
        assert modes == {"-journal": 0o600, ".sqlite3": 0o600, "salt": 0o600}
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    finally:
        os.umask(before)


def test_a_folder_that_others_can_read_is_made_private(directory: Path, spool: Spool) -> None:
    directory.mkdir(parents=True, mode=0o755)
    spool.add(HERE, numbered([1]))
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_folder_that_is_used_for_other_things_keeps_its_mode(directory: Path, spool: Spool) -> None:
    directory.mkdir(parents=True)
    directory.chmod(0o755)
    (directory / "somebody's notes").touch()
    spool.add(HERE, numbered([1]))
    assert stat.S_IMODE(directory.stat().st_mode) == 0o755
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.glob("spool-*")} == {0o600}


def test_twenty_spools_leave_no_open_handle(directory: Path) -> None:
    leave_behind(directory, numbered([1]), LOCAL)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        spool = Spool.open(directory)
        spool.add(HERE, numbered(range(3)))
        spool.sessions()
        spool.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_nothing_is_loaded_or_created_before_the_first_record(directory: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from hh_jupyter.delivery.spool.store import Spool;"
        "spool = Spool.open(Path(sys.argv[1])); spool.adopt('x'); spool.sessions(); spool.close();"
        "sys.exit('sqlite3' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(directory)], cwd=ROOT).returncode == 0
    assert not directory.exists()


def test_the_default_folder_follows_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_directory() == tmp_path / "hh_jupyter" / "spool"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert default_directory() == Path("/home/somebody/.local/share/hh_jupyter/spool")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert default_directory() == Path("/home/somebody/Library/Application Support/hh_jupyter/spool")
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert default_directory() == tmp_path / "hh_jupyter" / "spool"
