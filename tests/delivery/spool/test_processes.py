"""A killed process loses no added records, and records of a running process are not adopted."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from hh_jupyter.delivery.spool.record import LeftOver
from hh_jupyter.delivery.spool.store import Spool
from tests.delivery.spool.spooled import HERE, files_in, hear, kill, leave_behind, numbered, numbers_of, say, start

ADD_AND_REMOVE = """
waiting = []
print("ready", flush=True)
sys.stdin.readline()
for number in range(1_000_000):
    batch = numbered([number], size=20_000)
    spool.add(HERE, batch)
    print("added", number, flush=True)
    waiting += batch
    if number % 3 == 2:
        print("removing", number - 2, flush=True)
        spool.remove([waiting.pop(0)])
        print("removed", number - 2, flush=True)
        waiting = waiting[2:]
    time.sleep(0.0003)
"""
OWNER = "spool.add(HERE, numbered(range(100)))\nprint('ready', flush=True)\nsys.stdin.readline()\n"
HEIR = """
print("ready", flush=True)
sys.stdin.readline()
print(*(record.body.split()[0].decode() for record in spool.adopt(HERE)), flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("seed", [*range(15), *(pytest.param(n, marks=pytest.mark.slow) for n in range(15, 100))])
def test_kill_9_at_a_random_moment_loses_nothing_that_was_added(tmp_path: Path, seed: int) -> None:
    with start(ADD_AND_REMOVE, tmp_path) as process:
        hear(process)
        say(process)
        first = hear(process)  # Ensures that at least one record was added, even on a busy machine.
        time.sleep(random.Random(seed).uniform(0.0, 0.3))
        rest, _, _ = kill(process).rpartition("\n")  # The last line may be incomplete.
        whole = f"{first}\n{rest}"
    lines = [line.split() for line in whole.splitlines()]
    said = {verb: {int(n) for word, n in lines if word == verb} for verb in ("added", "removing", "removed")}
    spool = Spool.open(tmp_path)
    found = set(numbers_of(spool.adopt(HERE)))
    assert spool.problem is None
    assert len(said["added"]) > 0
    assert said["added"] - said["removing"] <= found
    assert not said["removed"] & found
    assert len(found - said["added"]) <= 1, "what was being added when it was killed"
    spool.close()


UNFINISHED = """
from hh_jupyter.delivery.spool.file import SpoolFile
from hh_jupyter.delivery.spool.record import Stored

def keys():
    for key in range(20_000):
        if key == 15_000:
            os.kill(os.getpid(), 9)
        yield key

def record(key):
    return Stored(key, HERE, "spans", "s", None, 1, 2e9, None, 0, b"%d " % key + b"x" * 500)

file = SpoolFile.create(Path(sys.argv[1]), 10**9)
file.insert(map(record, range(20_000)))
file.park(keys(), "refused")
"""


def test_a_process_killed_during_a_write_keeps_its_earlier_records(tmp_path: Path) -> None:
    """When it is killed, much of the unfinished transaction is already in the file."""
    tmp_path.chmod(0o700)
    with start(UNFINISHED, tmp_path) as process:
        assert process.wait() == -9
    spool = Spool.open(tmp_path)
    taken = spool.adopt(HERE)
    assert numbers_of(taken) == list(range(20_000))
    assert {record.parked for record in taken} == {None}
    assert spool.problem is None
    spool.close()


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(n, marks=pytest.mark.slow) for n in range(3, 30))])
def test_a_process_killed_while_adopting_loses_nothing(tmp_path: Path, seed: int) -> None:
    for _ in range(3):
        leave_behind(tmp_path, numbered(range(600), size=20_000))
    with start(HEIR, tmp_path) as heir:
        hear(heir)
        say(heir)
        time.sleep(random.Random(seed).uniform(0.0, 0.06))
        kill(heir)
    spool = Spool.open(tmp_path)
    found = numbers_of(spool.adopt(HERE, body_bytes=10**9))
    assert set(found) == set(range(600))
    assert 1800 <= len(found) <= 1800 + 500, "doubled at most is the piece that was being moved"
    spool.close()


def test_records_of_a_running_process_are_not_adopted(tmp_path: Path) -> None:
    with start(OWNER, tmp_path) as owner:
        hear(owner)
        spool = Spool.open(tmp_path)
        spool.add(HERE, numbered([1000]))
        assert spool.adopt(HERE) == []
        assert spool.left_over() == {}
        assert [session.spans for session in spool.sessions()] == [1]
        assert spool.clear() == 1
        kill(owner)
    assert spool.left_over() == {HERE: LeftOver(100, 100)}
    assert numbers_of(spool.adopt(HERE)) == list(range(100))
    spool.close()


def test_an_owner_with_a_full_disk_is_not_mistaken_for_dead(tmp_path: Path) -> None:
    script = """
spool = Spool.open(Path(sys.argv[1]), max_bytes=1_000_000)
kept = []
for number in range(100):
    batch = numbered([number], size=50_000)
    spool.add(HERE, batch)
    kept += [record for record in batch if record.key is not None]
print(len(kept), flush=True)
sys.stdin.readline()
"""
    with start(script, tmp_path) as owner:
        kept = int(hear(owner))
        assert 10 < kept < 20
        spool = Spool.open(tmp_path)
        assert spool.adopt(HERE) == []
        kill(owner)
    assert numbers_of(spool.adopt(HERE)) == list(range(kept))
    spool.close()


def test_only_one_of_two_adopting_processes_gets_each_record(tmp_path: Path) -> None:
    for first in range(0, 400, 100):
        leave_behind(tmp_path, numbered(range(first, first + 100), size=5_000))
    with start(HEIR, tmp_path) as one, start(HEIR, tmp_path) as other:
        heirs = one, other
        for act in (hear, say):
            for heir in heirs:
                act(heir)
        found = [int(number) for heir in heirs for number in hear(heir).split()]
        for heir in heirs:
            kill(heir)
    assert sorted(found) == list(range(400))
    assert len(files_in(tmp_path)) <= 2
