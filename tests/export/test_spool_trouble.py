"""With any fault of the disk, spans are sent all the same, what can be saved is saved, and the problem is reported."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.testing import Backend
from tests.export.processes import (
    A_SPOOL_FILE,
    ADOPTED_SECONDS,
    ORPHANS,
    Program,
    counts,
    delivered,
    files_in,
    leave_behind,
    next_tracer,
    run,
    session_of,
    settled,
    size_of,
)

AS_ROOT = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can be another user")


def problem_of(tracer: HoneyHiveTracer) -> str:
    """Return the problem of the tracer's spool."""
    assert tracer.spool is not None
    assert "\n" not in (tracer.spool.problem or "")
    return tracer.spool.problem or ""


def unusable(backend: Backend, folder: Path, says: str) -> None:
    """Assert that nothing can be kept in the folder, that the reason is reported, and that spans are sent."""
    before = len(backend.spans("sent"))
    with next_tracer(backend.url, folder) as tracer:
        with tracer.start_span("sent"):
            pass
        assert tracer.force_flush()
        assert tracer.spool is not None
        assert (tracer.spool.sessions(), tracer.spool.bodies("some"), tracer.spool.clear()) == ([], [], 0)
        assert problem_of(tracer).startswith("no copy on disk")
        assert says in problem_of(tracer)
    assert len(backend.spans("sent")) == before + 1


def test_a_file_in_place_of_the_folder_is_reported(backend: Backend, tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file")
    unusable(backend, tmp_path / "spool", "cannot be used")
    unusable(backend, tmp_path / "spool" / "below", "cannot be used")
    assert (tmp_path / "spool").read_text() == "a file"


def test_a_folder_that_cannot_be_created_is_reported(backend: Backend) -> None:
    unusable(backend, Path("/proc/self/spool"), "cannot be used")


def test_a_symbolic_link_is_not_followed(backend: Backend, tmp_path: Path) -> None:
    leave_behind(tmp_path / "elsewhere", backend.url, [1], key=None)
    (tmp_path / "spool").symlink_to(tmp_path / "elsewhere")
    unusable(backend, tmp_path / "spool", "is a symbolic link")
    assert len(files_in(tmp_path / "elsewhere")) == 1
    with next_tracer(backend.url, tmp_path / "elsewhere") as tracer:
        assert tracer.send_again([session_of(1)]) > 0
        assert tracer.force_flush()
    assert counts(backend)["1"] == 1


@AS_ROOT
def test_another_users_folder_is_not_used(backend: Backend, tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    os.chown(tmp_path / "spool", 12345, 12345)
    unusable(backend, tmp_path / "spool", "belongs to another user")


AS_OTHER = """
import sqlite3
first = tracer_for(spool_dir=folder + "/first")  # Loads every module while it may read them.
work(first, ["first"])
assert first.force_flush()
first.spool.sessions()
os.environ.pop("HOME", None)
os.environ.pop("XDG_DATA_HOME", None)
os.setuid(54321)
tracer = tracer_for(spool_dir=sys.argv[3] or None)
work(tracer, ["sent"])
assert tracer.force_flush()
tell(tracer.spool.problem)
os._exit(0)
"""


@AS_ROOT
def test_a_read_only_home_is_reported(backend: Backend, tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)  # That another user comes so far.
    said = run(AS_OTHER, backend.url, tmp_path, str(tmp_path / "spool"))
    assert said.startswith("no copy on disk")
    assert "Permission denied" in said
    assert counts(backend)["sent"] == 1


@AS_ROOT
def test_a_missing_home_is_reported(backend: Backend, tmp_path: Path) -> None:
    assert run(AS_OTHER, backend.url, tmp_path, "") == "no copy on disk: there is no home directory"
    assert counts(backend)["sent"] == 1


def test_the_default_folder_is_in_the_users_data(backend: Backend, tmp_path: Path) -> None:
    with HoneyHiveTracer.init(api_key="k", server_url=backend.url, spool=True) as tracer:
        assert tracer.spool is not None
        assert tracer.spool.directory == Path(os.environ["XDG_DATA_HOME"], "hh_jupyter", "spool")


NO_FILES = """
import resource
first = tracer_for()
work(first, [1])
wait_until(lambda: on_disk(first) == 1)
time.sleep(0.7)
used = os.open(os.devnull, os.O_RDONLY)
resource.setrlimit(resource.RLIMIT_NOFILE, (used, used))
tracer = tracer_for(spool_dir=folder + "/other")
work(tracer, [2])
wait_until(lambda: tracer.spool.problem)
tell(tracer.spool.problem)
os._exit(0)
"""


def test_a_folder_in_which_no_file_can_be_created_is_reported(tmp_path: Path) -> None:
    """In this test, because the process may not open any more files."""
    with Backend(refuse=True) as backend:
        said = run(NO_FILES, backend.url, tmp_path)
    assert said.startswith("no copy on disk")
    assert "Too many open files" in said


NO_SQLITE = """
sys.modules["sqlite3"] = None
tracer = tracer_for(exit_flush_seconds=20.0)
work(tracer, ["sent"])
assert tracer.force_flush()
assert (tracer.spool.sessions(), tracer.spool.bodies("some"), tracer.spool.clear()) == ([], [], 0)
tell(tracer.spool.problem)
"""


def test_a_python_without_sqlite_is_reported(backend: Backend, tmp_path: Path) -> None:
    said = run(NO_SQLITE, backend.url, tmp_path)
    assert said.startswith("no copy on disk")
    assert said.endswith("SQLite")
    assert counts(backend) == {"sent": 1}


NO_LOCKS = """
import functools, sqlite3

class NoLocks(sqlite3.Connection):
    def execute(self, sql, *args):
        if "EXCLUSIVE" in sql or "WAL" in sql.upper():
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_LOCK
            raise error
        return super().execute(sql, *args)

sqlite3.connect = functools.partial(sqlite3.connect, factory=NoLocks)
tracer = tracer_for(exit_flush_seconds=20.0)
work(tracer, ["sent"])
assert tracer.force_flush()
tell(tracer.spool.problem)
"""


def test_a_file_system_without_locks_is_reported(backend: Backend, tmp_path: Path) -> None:
    said = run(NO_LOCKS, backend.url, tmp_path)
    assert said.startswith("no copy on disk")
    assert "without locks" in said
    assert counts(backend) == {"sent": 1}
    assert files_in(tmp_path) == []


SIZES = [100, 20_000, 900_000, *(pytest.param(size, marks=pytest.mark.slow) for size in (1, 5_000, 300_000))]


@pytest.mark.parametrize("size", SIZES)
def test_a_truncated_file_is_set_aside(tmp_path: Path, size: int) -> None:
    with Backend(refuse=True) as backend:
        path = settled(leave_behind(tmp_path, backend.url, range(20), size=50_000))
        leave_behind(tmp_path, backend.url, range(100, 103))
        os.truncate(path, size)
        backend.listen()
        with next_tracer(backend.url, tmp_path, exit_flush_seconds=20.0) as tracer:
            assert backend.wait_for(lambda backend: {"100", "101", "102"} <= counts(backend).keys())
            deadline = time.monotonic() + 10
            while not problem_of(tracer) and time.monotonic() < deadline:
                time.sleep(0.02)
            assert f"set aside as {path.name}.broken" in problem_of(tracer)
    assert counts(backend).keys() <= {str(number) for number in (*range(20), 100, 101, 102)}
    assert path.with_name(path.name + ".broken").exists()
    assert not path.exists()


def test_files_that_are_not_spools_are_left_alone(backend: Backend, tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    folder.mkdir()
    (folder / "spool-notes.txt").write_text("mine")
    (folder / "other.sqlite3").write_text("mine, too")
    (folder / "spool-folder.sqlite3").mkdir()
    os.mkfifo(folder / "spool-pipe.sqlite3")
    (tmp_path / "outside").write_text("of another program")
    (folder / "spool-link.sqlite3").symlink_to(tmp_path / "outside")
    before = set(folder.iterdir())
    with next_tracer(backend.url, folder) as tracer:
        time.sleep(ADOPTED_SECONDS)
        assert tracer.spool is not None
        tracer.spool.sessions()
        tracer.spool.clear()
        assert problem_of(tracer) == ""
    assert before <= set(folder.iterdir())
    assert (tmp_path / "outside").read_text() == "of another program"


def test_a_foreign_file_with_a_spools_name_is_set_aside_and_can_be_cleared(backend: Backend, tmp_path: Path) -> None:
    (tmp_path / A_SPOOL_FILE).write_text("no database at all, but longer than a header. " * 50)
    with next_tracer(backend.url, tmp_path) as tracer:
        assert tracer.spool is not None
        tracer.spool.sessions()
        time.sleep(ADOPTED_SECONDS)
        assert f"set aside as {A_SPOOL_FILE}.broken" in problem_of(tracer)
        assert (tmp_path / f"{A_SPOOL_FILE}.broken").exists()
        tracer.spool.clear()
    assert not any(path.name.startswith(A_SPOOL_FILE) for path in tmp_path.iterdir())


def test_a_file_of_a_newer_version_is_left_alone(backend: Backend, tmp_path: Path) -> None:
    path = tmp_path / A_SPOOL_FILE
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE records (something_else)")
        connection.execute("INSERT INTO records VALUES ('theirs')")
        connection.execute("PRAGMA user_version=99")
        connection.commit()
    with next_tracer(backend.url, tmp_path) as tracer:
        time.sleep(ADOPTED_SECONDS)
        assert tracer.spool is not None
        tracer.spool.sessions()
        tracer.spool.clear(["some"])
        assert problem_of(tracer) == ""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM records").fetchall() == [("theirs",)]


def test_a_file_whose_owner_died_before_it_wrote_is_deleted(backend: Backend, tmp_path: Path) -> None:
    names = (A_SPOOL_FILE, *ORPHANS)
    for name in names:
        (tmp_path / name).touch()
    with next_tracer(backend.url, tmp_path) as tracer:
        time.sleep(ADOPTED_SECONDS)
        assert problem_of(tracer) == ""
        assert not any((tmp_path / name).exists() for name in names)


def after_deletion(folder: Path, delete: Callable[[], object]) -> None:
    """Assert that a span that ends after the deletion is kept for the next process."""
    with Backend(refuse=True) as backend:
        with next_tracer(backend.url, folder) as tracer:
            with tracer.start_span("before"):
                pass
            assert not tracer.force_flush(300)
            delete()
            with tracer.start_span("after"):
                pass
            assert not tracer.force_flush(300)
            assert problem_of(tracer) == ""
        assert len(files_in(folder)) == 1
        backend.listen()
        with next_tracer(backend.url, folder, exit_flush_seconds=20.0):
            time.sleep(ADOPTED_SECONDS)
        assert counts(backend)["after"] == 1


def test_a_file_that_is_deleted_during_use_is_created_again(tmp_path: Path) -> None:
    def delete() -> None:
        for path in tmp_path.glob("spool-*"):
            path.unlink()

    after_deletion(tmp_path, delete)


def test_a_folder_that_is_deleted_during_use_is_created_again(tmp_path: Path) -> None:
    after_deletion(tmp_path / "spool", lambda: shutil.rmtree(tmp_path / "spool"))


DAMAGED = """
import subprocess
tracer = tracer_for()
for number in range(300):
    tracer.create_session(f"session {number}")
    work(tracer, [number], 20_000)
wait_until(lambda: sum(row.spans for row in tracer.spool.sessions()) == 300)
path, = Path(folder).glob("spool-*.sqlite3")
code = "import sys; f = open(sys.argv[1], 'r+b'); f.seek(16384 * 150); f.write(b'scribble' * 200_000)"
subprocess.run([sys.executable, "-c", code, path])
tracer.spool.sessions()
tracer.spool.clear(["no such session"])
work(tracer, ["after"])
tracer.force_flush(500)
tell(tracer.spool.problem)
die()
"""


def test_our_own_file_is_set_aside_if_it_is_damaged_during_use(tmp_path: Path) -> None:
    """The spans are still in memory, so that they arrive if the process lives on."""
    with Backend(refuse=True) as backend:
        said = run(DAMAGED, backend.url, tmp_path, ended=-signal.SIGKILL)
        with next_tracer(backend.url, tmp_path) as tracer:
            deadline = time.monotonic() + 10
            while "set aside" not in said + problem_of(tracer) and time.monotonic() < deadline:
                time.sleep(0.02)
            assert "set aside" in said + problem_of(tracer)


FULL = """
import resource
tracer = tracer_for()
work(tracer, ["own"])
wait_until(lambda: on_disk(tracer) == 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
time.sleep(1.5)
tell(tracer.spool.problem)
die()
"""


def test_spans_that_cannot_be_moved_to_a_full_disk_stay_where_they_are(tmp_path: Path) -> None:
    with Backend(refuse=True) as backend:
        leave_behind(tmp_path, backend.url, range(40), size=50_000)
        said = run(FULL, backend.url, tmp_path, ended=-signal.SIGKILL)
        assert "no room left" in said
        backend.listen()
        arrived = delivered(backend, tmp_path, lambda arrived: len(arrived) == 41)
    assert max(arrived.values()) == 1


ON_A_FULL_DISK = """
ballast = Path(folder) / "ballast"
ballast.write_bytes(b"x" * 1_000_000)
tracer = tracer_for()
numbers = iter(range(1000))
while not tracer.spool.problem:
    work(tracer, [next(numbers)], 20_000)
    tracer.force_flush(20)
tell(tracer.spool.problem)
ballast.unlink()
wait_until(lambda: work(tracer, [next(numbers)]) or tracer.force_flush(20) or not tracer.spool.problem)
tell(next(numbers))
listen()
import shutil
for path in Path(folder).iterdir():  # What the next process finds.
    shutil.copy2(path, sys.argv[3])
die()
"""

TMPFS = """mount -t tmpfs -o size=2m,mode=700 none "$0" && exec "$@" """


def can_mount(folder: Path) -> bool:
    """Return whether a program may have a file system of its own."""
    if shutil.which("unshare") is None:
        return False
    return (
        subprocess.run(["unshare", "-rm", "sh", "-c", TMPFS, str(folder), "true"], capture_output=True).returncode == 0
    )


def test_a_full_disk_is_reported_until_there_is_room_again(tmp_path: Path) -> None:
    full, copy = tmp_path / "full", tmp_path / "copy"
    full.mkdir()
    copy.mkdir(mode=0o700)
    if not can_mount(full):
        pytest.skip("needs a file system of its own")
    prefix = ["unshare", "-rm", "sh", "-c", TMPFS, str(full)]
    with Backend(refuse=True) as backend:
        with Program(ON_A_FULL_DISK, backend.url, full, str(copy), prefix=prefix) as program:
            assert "no room left" in program.hear()
            made = int(program.hear())
            program.say()
            assert program.wait()[0] == -signal.SIGKILL
        assert size_of(copy) > 500_000
        backend.listen()
        arrived = delivered(backend, copy, lambda arrived: arrived[str(made - 1)])
    assert {str(number) for number in range(10)} <= arrived.keys()
    assert max(arrived.values()) == 1
