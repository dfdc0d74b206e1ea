"""With any disk fault, the spool raises nothing, saves what can be saved, and reports the problem in one sentence."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from hh_jupyter.delivery.spool.store import Spool
from tests.delivery.spool.spooled import HERE, ROOT, THERE, Record, hear, leave_behind, numbered, numbers_of, start


def use_everything(spool: Spool) -> list[Record]:
    """Call every method, and return the added records."""
    records = numbered(range(3))
    spool.add(HERE, records)
    spool.park(records[:1], "refused")
    spool.redirect(records[:1], THERE)
    spool.adopt(HERE)
    spool.take_local(["some"], HERE)
    spool.left_over()
    spool.sessions()
    spool.bodies("some")
    return records


def unusable(spool: Spool, says: str) -> None:
    """Assert that the spool keeps nothing and reports why, and that its owner keeps the records in memory."""
    records = use_everything(spool)
    assert [record.key for record in records] == [None] * 3
    spool.remove(records)
    spool.clear()
    assert says in (spool.problem or "")
    assert "\n" not in (spool.problem or "")
    spool.close()


def test_a_file_in_place_of_the_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file")
    unusable(Spool.open(tmp_path / "spool"), "cannot be used")
    unusable(Spool.open(tmp_path / "spool" / "below"), "cannot be used")
    assert (tmp_path / "spool").read_text() == "a file"


def test_a_folder_that_cannot_be_created_is_reported() -> None:
    unusable(Spool.open(Path("/proc/self/spool")), "cannot be used")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_home_is_reported(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    unusable(Spool.open(tmp_path / "spool"), "Permission denied")
    tmp_path.chmod(0o700)


def test_a_folder_in_which_no_file_can_be_created_is_reported(tmp_path: Path) -> None:
    """In this test, because the process may not open any more files."""
    script = """
import resource
spool.add(HERE, numbered([1]))
spool.adopt(HERE)
used = os.open(os.devnull, os.O_RDONLY)
resource.setrlimit(resource.RLIMIT_NOFILE, (used, used))
other = Spool.open(Path(sys.argv[1]))
records = numbered([2])
other.add(HERE, records)
other.adopt(HERE)
print(records[0].key, other.problem, flush=True)
other.close()
"""
    with start(script, tmp_path) as process:
        said = hear(process)
    assert said.startswith("None no copy on disk")
    assert "takes no file (Too many open files)" in said


def test_a_missing_home_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    unusable(Spool.open(), "there is no home directory")


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    leave_behind(tmp_path / "elsewhere", numbered([1]))
    (tmp_path / "spool").symlink_to(tmp_path / "elsewhere")
    unusable(Spool.open(tmp_path / "spool"), "is a symbolic link")
    reading = Spool.open(tmp_path / "spool")
    assert reading.adopt(HERE) == []
    assert "is a symbolic link" in (reading.problem or "")
    assert numbers_of(Spool.open(tmp_path / "elsewhere").adopt(HERE)) == [1]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root gives files away")
def test_another_users_folder_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    os.chown(tmp_path / "spool", 12345, 12345)
    unusable(Spool.open(tmp_path / "spool"), "belongs to another user")


@pytest.mark.parametrize("size", [1, 100, 5_000, 20_000, 300_000, 900_000])
def test_a_truncated_file_is_set_aside(tmp_path: Path, size: int) -> None:
    path = leave_behind(tmp_path, numbered(range(20), size=50_000))
    leave_behind(tmp_path, numbered(range(100, 103)))
    os.truncate(path, size)
    spool = Spool.open(tmp_path)
    found = numbers_of(spool.adopt(HERE))
    assert found[-3:] == [100, 101, 102] or found[:3] == [100, 101, 102]
    assert set(found) <= {*range(20), 100, 101, 102}
    assert f"set aside as {path.name}.broken" in (spool.problem or "")
    assert path.with_name(path.name + ".broken").exists()
    assert not path.exists()
    spool.close()


def test_records_around_a_damaged_part_of_a_file_are_saved(tmp_path: Path) -> None:
    path = leave_behind(tmp_path, numbered(range(2000), size=3_000))
    pages = path.stat().st_size // 16384
    with path.open("r+b") as file:
        file.seek(16384 * (pages // 2))
        file.write(b"scribble" * 2048)
    spool = Spool.open(tmp_path)
    found = numbers_of(spool.adopt(HERE))
    assert 1990 <= len(found) < 2000
    assert {*range(500), *range(1500, 2000)} <= set(found)
    assert spool.sessions()[0].spans == len(found)
    assert path.name in (spool.problem or "")
    spool.close()


def test_files_that_are_not_spools_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "spool-notes.txt").write_text("mine")
    (tmp_path / "other.sqlite3").write_text("mine, too")
    (tmp_path / "spool-folder.sqlite3").mkdir()
    os.mkfifo(tmp_path / "spool-pipe.sqlite3")
    outside = tmp_path.parent / f"{tmp_path.name}-outside.sqlite3"
    outside.write_text("somebody else's")
    (tmp_path / "spool-link.sqlite3").symlink_to(outside)
    spool = Spool.open(tmp_path)
    use_everything(spool)
    spool.clear()
    assert spool.problem is None
    spool.close()
    assert len(list(tmp_path.iterdir())) == 5
    assert outside.read_text() == "somebody else's"


def test_a_foreign_file_with_a_spools_name_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "spool-0123456789abcdef.sqlite3").write_text("no database at all, but longer than a header. " * 50)
    spool = Spool.open(tmp_path)
    use_everything(spool)
    assert "set aside as spool-0123456789abcdef.sqlite3.broken" in (spool.problem or "")
    spool.clear()
    spool.close()
    assert list(tmp_path.iterdir()) == [], "cleared with everything else"


def test_a_file_of_another_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "spool-0123456789abcdef.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE records (something_else)")
        connection.execute("PRAGMA user_version=2")
    connection.close()
    spool = Spool.open(tmp_path)
    use_everything(spool)
    assert spool.problem is None
    spool.close()
    assert path.exists()


def test_a_file_whose_owner_died_before_it_wrote_is_deleted(tmp_path: Path) -> None:
    (tmp_path / "spool-0123456789abcdef.sqlite3").touch()
    (tmp_path / "spool-fedcba9876543210.sqlite3-journal").touch()
    spool = Spool.open(tmp_path)
    assert spool.adopt(HERE) == []
    assert spool.problem is None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_deleted_during_use_is_created_again(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path / "spool")
    records = numbered(range(2))
    spool.add(HERE, records[:1])
    for path in (tmp_path / "spool").iterdir():
        path.unlink()
    (tmp_path / "spool").rmdir()
    spool.remove(records[:1])
    spool.add(HERE, records[1:])
    assert spool.problem is None
    spool.close()
    assert numbers_of(Spool.open(tmp_path / "spool").adopt(HERE)) == [1]


def test_our_own_file_is_replaced_if_it_is_damaged_during_use(tmp_path: Path) -> None:
    """Records added afterwards are on disk, and readable earlier records are saved."""
    script = """
import subprocess
spool.add(HERE, numbered(range(300), size=20_000))
path, = files_in(Path(sys.argv[1]))
code = "import sys; f = open(sys.argv[1], 'r+b'); f.seek(16384 * 150); f.write(b'scribble' * 200_000)"
subprocess.run([sys.executable, "-c", code, path])
spool.sessions()
spool.clear(["no such session"])
records = numbered([1000])
spool.add(HERE, records)
print(records[0].key is not None, flush=True)
print(spool.problem, flush=True)
os.kill(os.getpid(), 9)
"""
    with start(script, tmp_path) as owner:
        assert hear(owner) == "True"
        assert ".broken" in hear(owner)
    spool = Spool.open(tmp_path)
    found = numbers_of(spool.adopt(HERE))
    assert found[-1] == 1000
    assert len(found) > 50
    spool.close()


def test_a_python_without_sqlite_is_reported(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['sqlite3'] = None; from pathlib import Path;"
        "from hh_jupyter.delivery.spool.store import Spool; from tests.delivery.spool.spooled import *;"
        "spool = Spool.open(Path(sys.argv[1])); spool.add(HERE, numbered([1])); spool.sessions(); spool.close();"
        "sys.exit(not (spool.problem or '').endswith('SQLite'))"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path / "spool")], cwd=ROOT).returncode == 0


def test_a_file_system_without_locks_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hh_jupyter.delivery.spool import opening

    def no_locks(connection: sqlite3.Connection, max_bytes: int) -> None:
        with opening.faults():
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_LOCK
            raise error

    monkeypatch.setattr(opening, "_set_up", no_locks)
    unusable(Spool.open(tmp_path / "spool"), "without locks")
    assert list((tmp_path / "spool").iterdir()) == []
