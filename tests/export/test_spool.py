"""What the spool does on real files, with real processes beside it, that the tracer's public interface cannot show."""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from hh_jupyter.export import spool as spool_module
from hh_jupyter.export.model import Row
from hh_jupyter.export.spool import Spool
from hh_jupyter.export.spool_file import Record, SpoolFile
from hh_jupyter.export.spool_folder import LOCAL, SpoolFault
from tests.export.spool_processes import (
    HERE,
    ROOT,
    SESSION,
    THERE,
    adopted,
    files_in,
    kill,
    leave_behind,
    line_of,
    numbered,
    numbers_of,
    proceed,
    size_of,
    start,
)

OWNER = "spool.add(HERE, numbered(range(100)))\nprint('ready', flush=True)\nsys.stdin.readline()\n"
ADOPTING = """
print("ready", flush=True)
sys.stdin.readline()
print(*numbers_of(adopted(spool)), flush=True)
sys.stdin.readline()
"""
HOLDS_READING = """
file = SpoolFile.open_other(files_in(directory)[0], living=len(sys.argv) > 2)
print(len(file.bodies("1")), flush=True)
sys.stdin.readline()
"""


# Living and dead owners


def test_rows_of_a_killed_process_are_adopted_and_those_of_a_living_one_are_not(tmp_path: Path) -> None:
    with start(OWNER, tmp_path) as owner:
        line_of(owner)
        spool = Spool(tmp_path)
        assert adopted(spool) == []
        assert spool.sessions() == []
        assert spool.clear() == 0
        kill(owner)
    assert numbers_of(adopted(spool)) == list(range(100))
    assert spool.problem is None
    spool.close()
    assert numbers_of(adopted(Spool(tmp_path))) == list(range(100)), "they belong to the adopting process now"


@pytest.mark.slow
def test_a_living_process_is_never_blocked_by_processes_that_read_its_rows(tmp_path: Path) -> None:
    script = """
print("ready", flush=True)
failed = number = 0
while not (directory / "stop").exists():
    rows = numbered([number], size=500)  # However long it takes, the folder's limit is not reached.
    spool.add(HERE, rows)
    spool.mark([(rows[0].key, "sent", None)] if number % 2 else [(rows[0].key, None, None)])
    failed += spool.problem is not None or rows[0].key is None
    number += 1
print(failed, number, flush=True)
"""
    with start(script, tmp_path) as owner:
        line_of(owner)
        reading = Spool(tmp_path)
        seen = []
        while not reading.sessions(living=True):
            time.sleep(0.01)
        for _ in range(100):
            (session,) = reading.sessions(living=True)
            seen.append(len(reading.bodies(SESSION, living=True)))
            assert (session.living, session.here) == (True, False)
            assert session.spans <= seen[-1] + 1, "it may have deleted the row that was waiting"
        (tmp_path / "stop").touch()
        failed, number = map(int, line_of(owner).split())
    assert failed == 0
    # The row that was waiting may be deleted before the next look.
    assert all(later >= earlier - 1 for earlier, later in itertools.pairwise(seen))
    assert seen[-1] > seen[0]
    assert number // 2 >= seen[-1] - 1


def test_a_dead_file_that_is_being_read_still_counts_as_dead(tmp_path: Path) -> None:
    leave_behind(tmp_path, numbered(range(5)))
    with start(HOLDS_READING, tmp_path) as other:
        assert line_of(other) == "5"
        assert [session.spans for session in Spool(tmp_path).sessions()] == [5]
        kill(other)


def test_adoption_comes_back_to_a_file_that_is_being_read(tmp_path: Path) -> None:
    leave_behind(tmp_path, numbered(range(5)))
    spool = Spool(tmp_path)
    with start(HOLDS_READING, tmp_path) as other:
        line_of(other)
        steps = spool.adopt(HERE)
        assert next(steps) == []
        kill(other)
    assert numbers_of(row for rows in steps for row in rows) == list(range(5))
    spool.close()


def test_adoption_gives_up_on_a_file_that_stays_in_use(tmp_path: Path) -> None:
    leave_behind(tmp_path, numbered(range(5)))
    with start(HOLDS_READING, tmp_path) as other:
        line_of(other)
        assert set(map(len, Spool(tmp_path).adopt(HERE))) == {0}
        kill(other)
    assert numbers_of(adopted(Spool(tmp_path))) == list(range(5))


def test_two_adopting_processes_get_each_row_once(tmp_path: Path) -> None:
    for first in range(0, 400, 100):
        leave_behind(tmp_path, numbered(range(first, first + 100), size=5_000))
    with start(ADOPTING, tmp_path) as one, start(ADOPTING, tmp_path) as other:
        for step in (line_of, proceed):
            for process in (one, other):
                step(process)
        found = [int(number) for process in (one, other) for number in line_of(process).split()]
        kill(one)
        kill(other)
    assert sorted(found) == list(range(400))


def leave_two_destinations(directory: Path) -> None:
    """Leave a file as a process leaves it whose key has changed."""
    spool = Spool(directory)
    spool.add(HERE, numbered(range(10), size=1000))
    spool.add(THERE, numbered([100]))
    spool.close()


def test_a_file_that_takes_several_steps_goes_to_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a session's start and its spans are sent by two, in any order. The other one waits for what it leaves."""
    monkeypatch.setattr(spool_module, "CHUNK_BYTES", 2_000)
    leave_two_destinations(tmp_path)
    one, other, third = (Spool(tmp_path) for _ in range(3))
    steps, there, here = one.adopt(HERE), other.adopt(THERE), third.adopt(HERE)
    first = next(steps)
    for waiting in (there, here):
        assert not any(next(waiting) for _ in range(3 * spool_module.ADOPT_PASSES))
    assert numbers_of([*first, *(row for rows in steps for row in rows)]) == list(range(10))
    assert numbers_of(row for rows in there for row in rows) == [100]
    assert list(filter(None, here)) == []
    for spool in (one, other, third):
        spool.close()


def test_the_rest_of_a_file_goes_to_another_process_if_the_first_one_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "CHUNK_BYTES", 2_000)
    leave_behind(tmp_path, numbered(range(10), size=1000))
    script = """
spool_module.CHUNK_BYTES = 2_000
spool.add(THERE, numbered([100]))  # Its file, which the claim names, stays after it.
steps = spool.adopt(HERE)
print(*numbers_of(next(steps)), flush=True)
sys.stdin.readline()
"""
    with start(script, tmp_path) as process:
        assert line_of(process) == "0 1"
        monkeypatch.setattr(spool_module, "CLAIM_SECONDS", 0.0)
        assert adopted(Spool(tmp_path)) == [], "it is patient for some time only"
        kill(process)
    assert sorted(numbers_of(adopted(Spool(tmp_path)))) == list(range(10))


def test_a_crash_between_copying_and_deleting_duplicates_rows_but_loses_none(tmp_path: Path) -> None:
    leave_behind(tmp_path, numbered(range(10)))
    script = """
SpoolFile.mark = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
adopted(spool)
"""
    with start(script, tmp_path) as process:
        assert process.wait() == -signal.SIGKILL
    assert sorted(numbers_of(adopted(Spool(tmp_path)))) == sorted([*range(10), *range(10)])


@pytest.mark.slow
def test_ten_processes_share_a_folder(tmp_path: Path) -> None:
    """Six write, half of them are killed, two adopt meanwhile, two read meanwhile."""
    writing = """
first = int(sys.stdin.readline())
for number in range(first, first + 100):
    spool.add(HERE, numbered([number], size=5_000, session_id=str(first)))
    time.sleep(0.002)
print(spool.problem, flush=True)
os.kill(os.getpid(), signal.SIGKILL) if first % 200 else spool.close()
"""
    adopting = """
sys.stdin.readline()
found = []
while not (directory / "stop").exists():
    found += numbers_of(adopted(spool))
    time.sleep(0.01)
print(spool.problem, *found, flush=True)
spool.close()
"""
    reading = """
sys.stdin.readline()
most = 0
while not (directory / "stop").exists():
    most = max(most, len(spool.sessions(living=True)))
print(spool.problem, most, flush=True)
"""
    with ExitStack() as stack:
        scripts = [writing] * 6 + [adopting] * 2 + [reading] * 2
        processes = [stack.enter_context(start(script, tmp_path)) for script in scripts]
        for number, process in enumerate(processes):
            assert process.stdin is not None
            process.stdin.write(f"{number * 100}\n")
            process.stdin.flush()
        assert [line_of(process) for process in processes[:6]] == ["None"] * 6
        for process in processes[:6]:
            process.wait()
        time.sleep(0.3)
        (tmp_path / "stop").touch()
        adopters = [line_of(process).split() for process in processes[6:8]]
        readers = [line_of(process).split() for process in processes[8:]]
    assert {problem for problem, *_ in adopters + readers} == {"None"}
    assert max(int(most) for _, most in readers) >= 3
    found = [int(number) for _, *numbers in adopters for number in numbers]
    assert sorted(found) == list(range(600)), "each row once"


FORKED = """
spool.add(HERE, numbered(range(3)))
for ending in ("_exit", "exit", "use"):
    if os.fork() == 0:
        spool.abandon()
        if ending == "use":
            assert adopted(spool) == []
            spool.add(THERE, numbered([100]))
            assert [session.destination for session in spool.sessions(living=True)] == [THERE]
            spool.close()
        os._exit(0) if ending == "_exit" else sys.exit(0)
    assert os.wait()[1] == 0
    spool.add(HERE, numbered([10]))
print(spool.problem, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_forked_child_changes_nothing_however_it_ends(tmp_path: Path) -> None:
    with start(FORKED, tmp_path) as process:
        assert line_of(process) == "None"
    spool = Spool(tmp_path)
    assert numbers_of(adopted(spool)) == [0, 1, 2, 10, 10, 10]
    assert numbers_of(adopted(spool, THERE)) == [100]
    spool.close()


UNFINISHED = """
file = SpoolFile.create(directory, 10**9)
half, forked = threading.Event(), threading.Event()

def insert():
    with file._transaction() as db:
        for number in range(200):
            if number == 100:
                half.set()
                forked.wait()
            body = b"%d " % number + b"x" * 100_000
            values = (number + 1, HERE, body)
            db.execute("INSERT INTO records VALUES (?, ?, 'spans', 's', NULL, 1, 2e9, 0, NULL, ?)", values)

thread = threading.Thread(target=insert)
thread.start()
half.wait()
if (child := os.fork()) == 0:
    sys.exit(0)  # Ends the interpreter, which closes what it still knows.
os.waitpid(child, 0)
forked.set()
thread.join()
print("done", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_child_that_ends_does_not_undo_its_parents_unfinished_transaction(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with start(UNFINISHED, tmp_path) as process:
        assert line_of(process) == "done"
    spool = Spool(tmp_path)
    assert numbers_of(adopted(spool)) == list(range(200))
    assert spool.problem is None
    spool.close()


@pytest.mark.slow
def test_processes_that_read_the_same_dead_files_do_not_hide_them_from_each_other(tmp_path: Path) -> None:
    """Each recovers the WAL file that a killed process left, and writes it back."""
    for number in range(8):
        script = f"spool.add(HERE, numbered([1], session_id='{number}'))\nos.kill(os.getpid(), signal.SIGKILL)"
        with start(script, tmp_path) as owner:
            owner.wait()
    reading = """
print("ready", flush=True)
sys.stdin.readline()
print(min(len(spool.sessions()) for _ in range(100)), flush=True)
"""
    with ExitStack() as stack:
        processes = [stack.enter_context(start(reading, tmp_path)) for _ in range(3)]
        for step in (line_of, proceed):
            for process in processes:
                step(process)
        assert [line_of(process) for process in processes] == ["8"] * 3


# Statements: beside threads that compute, each gives up the interpreter for some 20 ms.


def test_few_statements_change_many_rows(tmp_path: Path) -> None:
    """As many as fit into one, without a transaction around it; several are all or none."""
    tmp_path.chmod(0o700)
    file = SpoolFile.create(tmp_path, 10**9)
    seen: list[str] = []
    file._db.set_trace_callback(lambda statement: seen.append(statement.split()[0]))

    def statements(change: Callable[[], object]) -> list[str]:
        seen.clear()
        change()
        return seen.copy()

    def records(keys: range) -> list[Record]:
        return [Record(key, HERE, "spans", "s", None, 1, 2e9, 0, None, b"%d" % key) for key in keys]

    assert statements(lambda: file.insert(records(range(1, 91)))) == ["INSERT"]
    several = statements(lambda: file.insert(records(range(91, 301))))
    assert several == ["BEGIN", "INSERT", "INSERT", "INSERT", "COMMIT"]
    assert statements(lambda: file.mark([(key, "sent", None) for key in range(1, 201)])) == ["UPDATE"]
    assert statements(lambda: file.redirect(range(1, 101), THERE)) == ["UPDATE"]
    mixed: list[tuple[int, str | None, str | None]] = [(1, None, None), (4, None, None), (4, "sent", None)]
    mixed += [(5, "rejected", "why"), (3, "sent", None), (3, "rejected", "why"), (2, "sent", None), (999, "sent", None)]
    assert statements(lambda: file.mark(mixed)) == ["BEGIN", "DELETE", "UPDATE", "UPDATE", "COMMIT"]
    with pytest.raises(SpoolFault):
        file.insert(records(range(400, 480)) + records(range(300, 401)))
    rows = {row.key: (row.destination, row.sent, row.reason, row.body) for row in file.records("1")}
    assert sorted(rows) == [key for key in range(1, 301) if key not in {1, 4}]
    assert rows[2] == (THERE, 1, None, b"2")
    assert rows[3] == (*rows[5][:3], b"3") == (THERE, 0, "why", b"3")
    assert [rows[key][:2] for key in (100, 101, 200, 201)] == [(THERE, 0), (HERE, 1), (HERE, 1), (HERE, 0)]
    assert statements(lambda: file.delete_where("destination = ?", (HERE,))) == ["BEGIN", "SELECT", "DELETE", "COMMIT"]
    assert len(file.records("1")) == 98
    file.close()


# Files


def test_without_shared_memory_the_file_is_kept_for_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder in place of the -shm file prevents WAL, like a file system without shared memory."""
    tmp_path.chmod(0o700)
    monkeypatch.setattr("secrets.token_hex", lambda _: "0123")
    (tmp_path / "spool-0123.sqlite3-shm").mkdir()
    spool = Spool(tmp_path)
    rows = numbered(range(3))
    spool.add(HERE, rows)
    spool.mark([(rows[0].key or 0, "sent", None)])
    assert spool.problem is None
    with start("print(spool.sessions(living=True), adopted(spool), flush=True)", tmp_path) as other:
        assert line_of(other) == "[] []"
    assert len(spool.bodies(SESSION)) == 3
    spool.close()
    monkeypatch.undo()
    with start(ADOPTING, tmp_path) as other:
        proceed(other)
        assert (line_of(other), line_of(other)) == ("ready", "1 2")
        kill(other)


def test_only_this_user_can_read_the_files(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        spool = Spool(tmp_path / "data" / "spool")
        spool.destination_name("https://api.example", "key")
        spool.add(HERE, numbered(range(3)))
        modes = {path.name[-8:]: path.stat().st_mode & 0o777 for path in spool.directory.iterdir()}
        assert modes == {".sqlite3": 0o600, "ite3-wal": 0o600, "ite3-shm": 0o600, "salt": 0o600}
        assert spool.directory.stat().st_mode & 0o777 == 0o700
        spool.close()
    finally:
        os.umask(before)


def test_rows_of_the_previous_release_are_adopted(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    connection = sqlite3.connect(tmp_path / "spool-0123456789abcdef.sqlite3", isolation_level=None)
    connection.execute("""CREATE TABLE records (
        key INTEGER PRIMARY KEY, destination TEXT NOT NULL, kind TEXT NOT NULL, session_id TEXT NOT NULL, cell TEXT,
        spans INTEGER NOT NULL, added REAL NOT NULL, parked TEXT, body BLOB NOT NULL)""")
    insert = "INSERT INTO records VALUES (?, ?, 'spans', 's', 'c 1', 1, ?, ?, ?)"
    connection.execute(insert, (1, HERE, time.time(), None, b"1 "))
    connection.execute(insert, (2, HERE, time.time(), "refused", b"2 "))
    connection.execute("PRAGMA user_version=1")
    connection.close()
    spool = Spool(tmp_path)
    rows = adopted(spool)
    assert numbers_of(rows) == [1, 2]
    assert [(row.state, row.reason, row.cell) for row in rows] == [
        ("waiting", None, "c 1"),
        ("rejected", "refused", "c 1"),
    ]
    spool.close()


def test_a_file_of_a_later_release_is_left_alone(tmp_path: Path) -> None:
    path = leave_behind(tmp_path, numbered(range(3)))
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=3")
    connection.close()
    spool = Spool(tmp_path, max_age_seconds=-1)
    assert adopted(spool) == []
    list(spool.keep_bounds())
    assert spool.clear() == 0
    assert (spool.sessions(), spool.problem, path.exists()) == ([], None, True)


@pytest.mark.parametrize("size", [1, 100, 4096, 5_000, 20_000, 300_000])
def test_a_truncated_file_is_set_aside_and_the_others_are_adopted(tmp_path: Path, size: int) -> None:
    path = leave_behind(tmp_path, numbered(range(20), size=50_000))
    os.truncate(path, size)
    leave_behind(tmp_path, numbered([100]))
    spool = Spool(tmp_path)
    assert numbers_of(adopted(spool)) == [100]
    assert f"set aside as {path.name}.broken" in (spool.problem or "")
    assert not path.exists()
    spool.clear()
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_what_sqlite_left_beside_a_deleted_file_is_deleted(tmp_path: Path) -> None:
    for end in ("-wal", "-shm", "-journal"):
        (tmp_path / f"spool-0123456789abcdef.sqlite3{end}").touch()
    (tmp_path / "spool-fedcba9876543210.sqlite3").touch()  # Its owner died before it wrote.
    (tmp_path / "notes-wal").touch()
    list(Spool(tmp_path).keep_bounds())
    assert [path.name for path in tmp_path.iterdir()] == ["notes-wal"]


@pytest.mark.parametrize("damage", ["delete", "overwrite"])
def test_a_new_file_is_begun_if_ours_is_lost_during_use(tmp_path: Path, damage: str) -> None:
    spool = Spool(tmp_path)
    spool.add(HERE, numbered(range(300), size=20_000))
    (path,) = files_in(tmp_path)
    if damage == "delete":
        path.unlink()
    else:
        code = "import sys; f = open(sys.argv[1], 'r+b'); f.write(b'scribble' * 600_000)"
        subprocess.run([sys.executable, "-c", code, path], check=True)
        spool.clear(["no such session"])
    spool.add(HERE, rows := numbered([1000]))
    assert rows[0].key is not None
    assert spool.load([rows[0].key]) == {rows[0].key: b"1000 "}
    assert ("set aside" in (spool.problem or "")) == (damage == "overwrite")
    spool.close()
    assert numbers_of(adopted(Spool(tmp_path))) == [1000]


def test_cleared_text_is_no_longer_on_disk(tmp_path: Path) -> None:
    leave_behind(tmp_path, [Row("spans", SESSION, b"a private prompt " * 1000), Row("spans", "other", b"kept")])
    spool = Spool(tmp_path)
    spool.add(LOCAL, [Row("spans", SESSION, b"a private prompt " * 1000, spans=1), Row("spans", "other", b"kept")])
    assert spool.clear([SESSION]) == 1
    everything = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path not in files_in(tmp_path))
    with start("print(b'a private prompt' in files_in(directory)[-1].read_bytes(), flush=True)", tmp_path) as other:
        assert line_of(other) == "False"
    assert b"a private prompt" not in everything
    assert {session.session_id for session in spool.sessions()} == {"other"}
    spool.close()
    assert not any(b"a private prompt" in path.read_bytes() for path in tmp_path.iterdir())


# Rows


def test_sent_rows_stay_readable_but_are_not_adopted(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    rows = numbered(range(3))
    spool.add(HERE, rows)
    spool.mark([(rows[0].key or 0, "sent", None), (rows[1].key or 0, "rejected", "422")])
    spool.close()
    adopter = Spool(tmp_path)
    assert [(row.state, row.reason) for row in adopted(adopter)] == [("rejected", "422"), ("waiting", None)]
    (session,) = adopter.sessions()
    assert (session.spans, session.unsent, session.here) == (3, 2, True)
    assert sorted(adopter.bodies(SESSION)) == [b"0 ", b"1 ", b"2 "]
    adopter.redirect([row.key or 0 for row in adopted(adopter)], THERE)
    adopter.close()


def test_bodies_above_the_memory_limit_stay_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "BODY_BYTES", 3_500)
    monkeypatch.setattr(spool_module, "CHUNK_BYTES", 2_000)
    leave_behind(tmp_path, numbered(range(10), size=1000))
    spool = Spool(tmp_path)
    steps = list(filter(None, spool.adopt(HERE)))
    assert [len(rows) for rows in steps] == [2] * 5
    rows = [row for rows in steps for row in rows]
    assert [bool(row.body) for row in rows] == [True] * 3 + [False] * 7
    assert {row.size for row in rows} == {1002}
    assert spool.load([row.key or 0 for row in rows])[rows[9].key or 0][:2] == b"9 "
    spool.close()


def test_local_rows_of_named_sessions_get_a_destination(tmp_path: Path) -> None:
    odd = "\udcff \0 'quoted'"
    leave_behind(tmp_path, [*numbered([1], session_id=odd), Row("session_start", odd, b"0 ")], LOCAL)
    leave_behind(tmp_path, numbered([5], session_id=odd), THERE)
    spool = Spool(tmp_path)
    spool.add(LOCAL, [*numbered([2], session_id=odd), *numbered([6], session_id="other")])
    assert numbers_of(spool.take_local([odd], HERE)) == [0, 1, 2]
    assert spool.take_local([odd], HERE) == []
    spool.close()
    assert numbers_of(adopted(Spool(tmp_path))) in ([0, 1, 2], [0, 2, 1])


def test_what_any_thread_may_call_is_passed_to_the_worker(tmp_path: Path) -> None:
    passed: list[object] = []

    def run(do: Callable[[], object]) -> object:
        passed.append(do)
        return do()

    spool = Spool(tmp_path, run=run)
    spool.add_document("run", "id", b"document")
    assert spool.bodies_of("run") == [b"document"]
    assert (len(spool.sessions()), spool.bodies("id"), spool.take_local(["other"], HERE)) == (1, [], [])
    spool.clear()
    assert len(passed) == 6
    spool.close()


# Room


def test_sent_rows_make_room_first_then_local_ones_and_unsent_ones_never(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=2_000_000)
    spool.add(LOCAL, numbered(range(10), size=50_000))
    spool.add(HERE, sent := numbered(range(10, 20), size=50_000))
    spool.mark([(row.key or 0, "sent", None) for row in sent])
    for row in (unsent := numbered(range(20, 80), size=50_000)):
        spool.add(HERE, [row])
        if spool.forgotten <= 10 and row.key is not None and spool.forgotten:
            assert sum(int(body.split()[0]) < 10 for body in spool.bodies(SESSION)) == 10
    kept = [row for row in unsent if row.key is not None]
    assert 20 < len(kept) < 40
    assert (spool.forgotten, spool.dropped) == (20, 0)
    assert "no room left" in (spool.problem or "")
    assert size_of(tmp_path) < 2_500_000
    spool.mark([(row.key or 0, None, None) for row in kept[:10]])
    spool.add(HERE, more := numbered([100]))
    assert (spool.problem, more[0].key is not None) == (None, True)
    spool.close()
    expected = [*range(30, 20 + len(kept)), 100]
    assert numbers_of(adopted(Spool(tmp_path, max_bytes=2_000_000))) == expected, "although both do not fit"


def test_dead_files_lose_old_rows_and_then_sent_local_and_unsent_ones(tmp_path: Path) -> None:
    for destination in (THERE, LOCAL, HERE):
        leave_behind(tmp_path, numbered(range(10), size=100_000), destination)
    with_sent = Spool(tmp_path)
    with_sent.add(HERE, rows := numbered(range(10), size=100_000))
    with_sent.mark([(row.key or 0, "sent", None) for row in rows])
    with_sent.close()

    def limited(max_bytes: int, max_age: float = 1e6) -> tuple[int, int]:
        spool = Spool(tmp_path, max_bytes, max_age)
        list(spool.keep_bounds())
        assert size_of(tmp_path) <= max_bytes
        return spool.forgotten, spool.dropped

    assert limited(5_000_000) == (0, 0)
    assert limited(3_700_000) in ((4, 0), (5, 0))
    assert [session.spans for session in Spool(tmp_path).sessions() if session.destination == LOCAL] == [10]
    forgotten, dropped = limited(2_100_000)
    assert (forgotten > 14, dropped) == (True, 0)
    assert limited(1_100_000)[1] in (9, 10)
    assert limited(2_000_000, -1)[1] in (10, 11)
    assert files_in(tmp_path) == []


def test_a_stopped_reader_cannot_make_the_folder_grow_above_its_limit(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=4_000_000)
    spool.add(HERE, numbered([0], size=20_000))
    script = HOLDS_READING.replace("len(sys.argv) > 2", "True").replace(
        "sys.stdin", "os.kill(os.getpid(), 19); sys.stdin"
    )
    with start(script, tmp_path) as reading:
        line_of(reading)
        for number in range(500):
            spool.add(HERE, rows := numbered([number], size=20_000))
            spool.mark([(row.key, None, None) for row in rows if row.key])
        assert "no room left" in (spool.problem or "")
        assert size_of(tmp_path) < 4_600_000
        kill(reading)
    spool.add(HERE, rows)
    assert (spool.problem, rows[0].key is not None) == (None, True)
    assert size_of(tmp_path) < 1_000_000
    spool.close()


FULL = """
import resource
def fill(number):
    global kept
    while (number := number + 1) < 10_000:
        spool.add(HERE, rows := numbered([number], size=20_000))
        if rows[0].key is None:
            break
        kept.append(rows[0])
    return number
kept = []
limit and resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
number = fill(0)
print(len(kept), spool.problem, flush=True)
spool.mark([(row.key, None, None) for row in kept[:20]])
sys.stdin.readline()
limit and resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
spool.add(HERE, rows := numbered([10_000], size=20_000))
print(rows[0].key is not None, spool.problem, flush=True)
spool.mark([])
os.kill(os.getpid(), signal.SIGKILL)
"""


def full_and_free_again(directory: Path, script: str, free: Path | None) -> None:
    with start(script, directory) as process:
        kept, _, problem = line_of(process).partition(" ")
        assert int(kept) > 20
        assert "no room left" in problem
        if free is not None:
            free.unlink()
        proceed(process)
        assert line_of(process) == "True None"
        process.wait()
    spool = Spool(directory)
    assert numbers_of(adopted(spool)) == [*range(21, int(kept) + 1), 10_000], "what was marked meanwhile, too"
    assert spool.problem is None
    spool.close()


def test_a_process_that_may_not_write_more_works_again_later(tmp_path: Path) -> None:
    full_and_free_again(tmp_path, "limit = 2_000_000\n" + FULL, None)


@pytest.mark.skipif(not sys.platform.startswith("linux") or os.geteuid() != 0, reason="only root mounts file systems")
def test_a_full_disk_works_again_when_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("this system mounts nothing")
    try:
        (disk / "ballast").write_bytes(b"x" * 4_000_000)
        full_and_free_again(disk / "spool", "limit = 0\n" + FULL, disk / "ballast")
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.mark.skipif(not sys.platform.startswith("linux") or os.geteuid() != 0, reason="only root mounts file systems")
def test_a_disk_that_is_full_from_the_start_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], capture_output=True).returncode:
        pytest.skip("this system mounts nothing")
    try:
        for ballast in range(64_000, 0, -4_096):
            (tmp_path / "ballast").write_bytes(b"x" * ballast)
            spool = Spool(tmp_path / "spool")
            spool.add(HERE, rows := numbered(range(3), size=50_000))
            assert [row.key for row in rows] == [None] * 3
            assert "no room left" in (spool.problem or "")
            spool.close()
            assert list((tmp_path / "spool").iterdir()) == []
        (tmp_path / "ballast").unlink()
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)


# Trouble


def test_creating_a_file_is_retried_after_a_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spool").write_text("a file in place of the folder")
    spool = Spool(tmp_path / "spool")
    spool.add(HERE, rows := numbered([1]))
    assert rows[0].key is None
    assert "cannot be used" in (spool.problem or "")
    (tmp_path / "spool").unlink()
    spool.add(HERE, rows)
    assert rows[0].key is None
    monkeypatch.setattr(spool_module, "RETRY_SECONDS", 0.0)
    spool = Spool(tmp_path / "spool")
    (tmp_path / "spool").write_text("again")
    spool.add(HERE, rows)
    (tmp_path / "spool").unlink()
    spool.add(HERE, rows)
    assert (spool.problem, rows[0].key is not None) == (None, True)
    spool.close()


def test_a_python_without_sqlite_is_reported(tmp_path: Path) -> None:
    leave_behind(tmp_path, numbered([1]))
    script = """
sys.modules["sqlite3"] = None
spool.add(HERE, rows := numbered([1]))
print(rows[0].key, spool.sessions(living=True), adopted(spool), spool.clear(), list(spool.keep_bounds()), flush=True)
print(spool.destination_name("https://a.example", "k")[:18], spool.problem, flush=True)
spool.close()
"""
    with start(script, tmp_path) as process:
        assert line_of(process) == "None [] [] 0 []"
        assert line_of(process) == "https://a.example# no copy on disk: this Python has no SQLite"
        assert process.wait() == 0
    assert len(files_in(tmp_path)) == 1


def test_nothing_is_loaded_or_created_before_the_first_row(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from hh_jupyter.export.spool import Spool;"
        "spool = Spool(Path(sys.argv[1])); list(spool.adopt('x')); list(spool.keep_bounds()); spool.sessions();"
        "spool.mark([(1, None, None)]); spool.close(); sys.exit('sqlite3' in sys.modules)"
    )
    directory = tmp_path / "spool"
    assert subprocess.run([sys.executable, "-c", script, str(directory)], cwd=ROOT).returncode == 0
    assert not directory.exists()


def test_the_default_folder_is_that_of_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert Spool(None).directory == tmp_path / "hh_jupyter" / "spool"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/user")
    assert Spool(None).directory == Path("/home/user/.local/share/hh_jupyter/spool")


def test_twenty_spools_leave_no_open_handle(tmp_path: Path) -> None:
    leave_behind(tmp_path, numbered([1]), LOCAL)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        spool = Spool(tmp_path)
        spool.add(HERE, numbered(range(3)))
        spool.sessions()
        spool.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
