"""The folder stays within its limits for size and age: local records go first, and deletions are counted."""

from __future__ import annotations

from pathlib import Path

from hh_jupyter.delivery.spool.record import LOCAL
from hh_jupyter.delivery.spool.store import Spool
from tests.delivery.spool.spooled import HERE, THERE, Record, files_in, hear, leave_behind, numbered, numbers_of, start


def test_a_full_disk_keeps_its_records_and_the_rest_stays_in_memory(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path, max_bytes=2_000_000)
    records = numbered(range(100), size=50_000)
    for record in records:
        spool.add(HERE, [record])
    kept = [record for record in records if record.key is not None]
    assert 20 < len(kept) < 40
    assert "no room left" in (spool.problem or "")
    assert spool.dropped == 0
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2_500_000
    spool.remove(kept[:10])
    spool.add(HERE, records[-5:])
    assert spool.problem is None, "there is room again"
    spool.close()
    heir = Spool.open(tmp_path, max_bytes=2_000_000)
    expected = [*range(10, len(kept)), *range(95, 100)]
    assert numbers_of(heir.adopt(HERE)) == expected, "its file may be moved although there is no room for both"
    heir.close()


def test_local_records_are_deleted_first_starting_with_the_oldest(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path, max_bytes=2_000_000)
    spool.add(LOCAL, numbered(range(15), size=50_000))
    unsent = numbered(range(100, 115), size=50_000)
    spool.add(HERE, unsent)
    for record in numbered(range(15, 60), size=50_000):
        spool.add(LOCAL, [record])
        assert record.key is not None
    assert all(record.key is not None for record in unsent)
    assert spool.problem is None
    assert (spool.dropped, spool.forgotten > 0) == (0, True)
    spool.close()
    heir = Spool.open(tmp_path, max_bytes=2_000_000)
    assert numbers_of(heir.adopt(HERE)) == list(range(100, 115))
    local = [int(body.split()[0]) for body in heir.bodies(Record().session_id)][:-15]
    assert local == list(range(60 - len(local), 60))
    assert spool.forgotten == 60 - len(local)


def test_records_that_are_too_old_are_deleted_and_counted(tmp_path: Path) -> None:
    leave_behind(tmp_path, numbered([1]), HERE)
    leave_behind(tmp_path, [Record(spans=3)], THERE)
    leave_behind(tmp_path, [Record(spans=5)], LOCAL)
    fresh = Spool.open(tmp_path, max_age_seconds=3600)
    fresh.adopt(LOCAL)
    assert (fresh.dropped, fresh.forgotten, len(files_in(tmp_path))) == (0, 0, 3)
    strict = Spool.open(tmp_path, max_age_seconds=-1)
    assert strict.adopt(HERE) == []
    assert (strict.dropped, strict.forgotten) == (4, 5)
    assert files_in(tmp_path) == []


def test_a_folder_above_its_limit_loses_local_records_first(tmp_path: Path) -> None:
    for destination in (HERE, LOCAL, LOCAL, THERE):
        leave_behind(tmp_path, numbered(range(10), size=100_000), destination)
    spool = Spool.open(tmp_path, max_bytes=2_700_000)
    spool.adopt(LOCAL)
    assert spool.dropped == 0
    assert 10 < spool.forgotten < 20
    spool = Spool.open(tmp_path, max_bytes=1_200_000)
    spool.adopt(LOCAL)
    assert spool.dropped > 0, "there was no other way"
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 1_300_000
    assert LOCAL not in spool.left_over()


def test_records_that_do_not_fit_stay_where_they_are(tmp_path: Path) -> None:
    leave_behind(tmp_path, numbered(range(40), size=50_000))
    script = """
import resource
spool.add(HERE, numbered([100]))
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
print(len(spool.adopt(HERE)), spool.problem, flush=True)
os.kill(os.getpid(), 9)
"""
    with start(script, tmp_path) as process:
        said = hear(process)
    assert said.startswith("0 no copy on disk")
    assert "no room left" in said
    assert sorted(numbers_of(Spool.open(tmp_path).adopt(HERE))) == [*range(40), 100]
