"""A forked child does not change its parent's spool, however it exits."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from hh_jupyter.delivery.spool.store import Spool
from tests.delivery.spool.spooled import HERE, hear, kill, numbered, numbers_of, start

CHILDREN = """
import multiprocessing, subprocess

stop = False
added = []

def keep_adding():
    number = 0
    while not stop:
        spool.add(HERE, numbered([number], size=50_000))
        time.sleep(0.002)
        number += 1
    added.append(number)

thread = threading.Thread(target=keep_adding)
thread.start()

def raise_in_child():
    raise ValueError("in a child")

def use_in_child():
    spool.add(HERE, numbered([-1]))
    spool.adopt(HERE)
    spool.sessions()
    spool.close()

doors = {
    "_exit": lambda: os._exit(0),
    "sys.exit": lambda: sys.exit(0),
    "exception": raise_in_child,
    "exec": lambda: os.execv(sys.executable, [sys.executable, "-c", "pass"]),
    "end": lambda: None,
    "use": use_in_child,
    "close": spool.close,
}
sys.stderr = open(os.devnull, "w")
for round in range(2):
    for door in doors.values():
        if os.fork() == 0:
            door()
            sys.exit(0)
        os.wait()
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        child = context.Process(target=time.sleep, args=(0,))
        child.start()
        child.join()
    subprocess.run([sys.executable, "-c", "pass"])
stop = True
thread.join()
print(spool.problem, added[0], flush=True)
os.kill(os.getpid(), 9)
"""


def test_a_forked_child_changes_nothing_however_it_exits(tmp_path: Path) -> None:
    with start(CHILDREN, tmp_path) as process:
        problem, number = hear(process).split()
    assert problem == "None"
    spool = Spool.open(tmp_path)
    found = numbers_of(spool.adopt(HERE, body_bytes=10**9))
    assert [n for n in found if n >= 0] == list(range(int(number)))
    assert found.count(-1) == 2, "what the children themselves added"
    spool.close()


UNFINISHED = """
from hh_jupyter.delivery.spool.file import SpoolFile
from hh_jupyter.delivery.spool.record import Stored

file = SpoolFile.create(Path(sys.argv[1]), 10**9)
half, forked = threading.Event(), threading.Event()

def records():
    for number in range(200):
        if number == 100:
            half.set()
            forked.wait()
        yield Stored(number + 1, HERE, "spans", "s", None, 1, 2e9, None, 0, b"%d " % number + b"x" * 100_000)

thread = threading.Thread(target=lambda: file.insert(records()))
thread.start()
half.wait()
child = os.fork()
if child == 0:
    sys.exit(0)  # Ends the interpreter, which closes whatever it still knows.
os.waitpid(child, 0)
forked.set()
thread.join()
print("done", flush=True)
os.kill(os.getpid(), 9)
"""


def test_a_child_that_ends_does_not_undo_its_parents_unfinished_transaction(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with start(UNFINISHED, tmp_path) as process:
        assert hear(process) == "done"
    spool = Spool.open(tmp_path)
    assert numbers_of(spool.adopt(HERE, body_bytes=10**9)) == list(range(200))
    assert spool.problem is None
    spool.close()


def test_a_forked_child_keeps_its_own_records(tmp_path: Path) -> None:
    script = """
spool.add(HERE, numbered(range(5)))
if os.fork() == 0:
    spool.add(HERE, numbered([100]))
    os.kill(os.getpid(), 9)
os.wait()
print("forked", flush=True)
sys.stdin.readline()
"""
    with start(script, tmp_path) as process:
        hear(process)
        spool = Spool.open(tmp_path)
        assert numbers_of(spool.adopt(HERE)) == [100], "the child is dead, its parent lives"
        kill(process)
    assert numbers_of(spool.adopt(HERE)) == list(range(5))
    spool.close()


def test_a_child_never_closes_its_parents_connection(tmp_path: Path) -> None:
    script = """
import gc
spool.add(HERE, numbered([1]))
path, = files_in(Path(sys.argv[1]))
if os.fork() == 0:
    spool.add(HERE, numbered([2]))
    spool.close()
    del spool
    gc.collect()
    handles = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    print(str(path) in handles, flush=True)
    os._exit(0)
os.wait()
spool.close()
"""
    with start(script, tmp_path) as process:
        assert hear(process) == "True"


def forked_after(spool: Spool, seconds: float) -> tuple[bool, float]:
    """Fork while another thread holds the spool's lock for `seconds`.

    Returns whether the child found that thread done, and the duration of the fork in seconds.
    """
    inside, done = threading.Event(), threading.Event()

    def use() -> None:
        lock = spool.locks()[-1]
        lock.acquire()
        inside.set()
        time.sleep(seconds)
        done.set()
        lock.release()

    thread = threading.Thread(target=use)
    thread.start()
    inside.wait()
    before = time.monotonic()
    child = os.fork()
    if child == 0:
        os._exit(done.is_set())
    took = time.monotonic() - before
    _, status = os.waitpid(child, 0)
    thread.join()
    return bool(os.waitstatus_to_exitcode(status)), took


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_fork_waits_until_no_thread_is_inside_sqlite(tmp_path: Path) -> None:
    """SQLite has its own locks, which in the child would be held by a thread that does not exist there."""
    spool = Spool.open(tmp_path)
    spool.add(HERE, numbered([1]))
    assert forked_after(spool, 0.2)[0]
    spool.add(HERE, numbered([2]))
    assert spool.problem is None
    spool.close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_fork_waits_for_a_hanging_disk_for_a_limited_time(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path)
    spool.add(HERE, numbered([1]))
    done, took = forked_after(spool, 5)
    assert not done
    assert took < 4
    spool.close()
