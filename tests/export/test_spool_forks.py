"""A forked child does not change what its parent keeps on disk, however it exits, and delivers its own spans."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from hh_jupyter.export.follow_ups import FollowUps
from hh_jupyter.testing import Backend
from tests.export.processes import (
    ADOPTED_SECONDS,
    Program,
    counts,
    delivered,
    leave_behind,
    next_tracer,
    nothing_unsent_in,
    run,
)

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")

CHILDREN = """
import gc, multiprocessing, subprocess

tracer = tracer_for()
stop = False
made = []

def keep_working():
    number = 0
    while not stop:
        work(tracer, [number], 50_000)
        time.sleep(0.004)
        number += 1
    made.append(number)

def raise_in_child():
    raise ValueError("in a child")

def use_in_child():
    tracer.create_session("of a child")
    work(tracer, ["child"])
    tracer.spool.sessions()
    tracer.shutdown()

def forget_in_child():
    global tracer
    tracer.create_session("of a child")
    work(tracer, ["child"])
    tracer.shutdown()
    del tracer
    gc.collect()

ways = {
    "_exit": lambda: os._exit(0),
    "sys.exit": lambda: sys.exit(0),
    "exception": raise_in_child,
    "exec": lambda: os.execv(sys.executable, [sys.executable, "-c", "pass"]),
    "end": lambda: None,
    "use": use_in_child,
    "close": tracer.shutdown,
    "forget": forget_in_child,
    "clear": lambda: tracer.spool.clear(["no such session"]),
}
thread = threading.Thread(target=keep_working)
thread.start()
wait_until(lambda: on_disk(tracer) > 3)
sys.stderr = open(os.devnull, "w")
for way in ways.values():
    if os.fork() == 0:
        way()
        sys.exit(0)
    os.wait()
for method in ("fork", "spawn", "forkserver"):
    child = multiprocessing.get_context(method).Process(target=time.sleep, args=(0,))
    child.start()
    child.join()
subprocess.run([sys.executable, "-c", "pass"])
stop = True
thread.join()
wait_until(lambda: on_disk(tracer) == made[0])
tell(tracer.spool.problem, made[0])
die()
"""


@pytest.mark.slow
def test_a_forked_child_changes_nothing_however_it_exits(tmp_path: Path) -> None:
    with Backend(refuse=True) as backend:
        problem, made = run(CHILDREN, backend.url, tmp_path, ended=-signal.SIGKILL).split()
        assert problem == "None"
        backend.listen()
        expected = Counter({"child": 2, **{str(number): 1 for number in range(int(made))}})
        assert delivered(backend, tmp_path, lambda arrived: arrived.total() >= expected.total()) == expected
        assert nothing_unsent_in(tmp_path, backend)


WHILE_LOGGING = """
import io

class SlowTerminal(io.RawIOBase):
    began = threading.Event()

    def writable(self):
        return True

    def write(self, data):
        self.began.set()
        time.sleep(0.5)
        return len(data)

sys.stderr = io.TextIOWrapper(io.BufferedWriter(SlowTerminal()))
tracer = tracer_for()
work(tracer, range(3))
assert SlowTerminal.began.wait(20)
if os.fork() == 0:
    signal.alarm(10)
    print("a line of the child", file=sys.stderr, flush=True)
    os._exit(0)
tell(os.wait()[1])
"""


def test_a_child_forked_while_a_thread_logs_can_write_to_standard_error(tmp_path: Path) -> None:
    """The thread does not exist in the child; the buffer that it had locked would stay locked there."""
    with Backend(refuse=True) as backend:
        assert run(WHILE_LOGGING, backend.url, tmp_path) == "0"


def test_lines_of_the_log_wait_until_a_fork_is_over(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG, "hh_jupyter")
    monkeypatch.setattr("hh_jupyter.export.follow_ups._log_is_off", False)  # Another test's signal may have done it.
    follow_ups = FollowUps(lambda: None)
    follow_ups.log(logging.WARNING, "a line")
    follow_ups.hold_log(1)
    follow_ups.write_log()
    assert caplog.messages == []
    follow_ups.release_log()
    follow_ups.write_log()
    assert caplog.messages == ["a line"]


OWN = """
tracer = tracer_for()
work(tracer, range(5))
wait_until(lambda: on_disk(tracer) == 5)
if os.fork() == 0:
    work(tracer, ["child"])
    wait_until(lambda: on_disk(tracer) >= 1)
    time.sleep(0.05)
    die()
os.wait()
tell("forked")
listen()
"""


def test_a_forked_child_keeps_its_own_spans(tmp_path: Path) -> None:
    """The child is dead and its parent lives: only the child's spans are adopted."""
    with Backend(refuse=True) as backend:
        with Program(OWN, backend.url, tmp_path) as parent:
            parent.hear()
            parent.stop()
            backend.listen()
            assert delivered(backend, tmp_path, lambda arrived: arrived["child"]) == {"child": 1}
            assert nothing_unsent_in(tmp_path, backend)
            parent.kill()
        assert delivered(backend, tmp_path, lambda arrived: len(arrived) == 6) == Counter(["child", *"01234"])


MANY = """
tracer = tracer_for(exit_flush_seconds=20.0)
stop = threading.Event()
numbers = iter(range(100_000))

def keep_working():
    while not stop.wait(0.002):
        work(tracer, [next(numbers)], 20_000)

thread = threading.Thread(target=keep_working)
thread.start()
children = []
for number in range(15):
    time.sleep(random.uniform(0.0, 0.03))
    child = os.fork()
    if child == 0:
        work(tracer, [f"child {number}"])
        tracer.shutdown()
        os._exit(0)
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
stop.set()
thread.join()
tell(next(numbers), *codes)
"""


def test_children_that_are_forked_while_their_parent_writes_send_their_own_spans(
    backend: Backend, tmp_path: Path
) -> None:
    made, *codes = run(MANY, backend.url, tmp_path).split()
    assert codes == ["0"] * 15
    assert counts(backend) == Counter([*map(str, range(int(made))), *(f"child {number}" for number in range(15))])


SLOW = """
def slowly(path, value):
    if value == "slow":
        time.sleep(6)
    return value

tracer = tracer_for(redact_with=slowly)
work(tracer, range(3))
wait_until(lambda: on_disk(tracer) == 3)
with tracer.start_span("slow", attributes={"text": "slow"}):
    pass
time.sleep(0.3)
begin = time.monotonic()
if os.fork() == 0:
    os._exit(0)
tell(time.monotonic() - begin < 4)
os._exit(0)
"""


def test_a_fork_waits_for_a_slow_redaction_for_a_limited_time(backend: Backend, tmp_path: Path) -> None:
    assert run(SLOW, backend.url, tmp_path) == "True"


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_adopted_spans_belong_to_the_parent_and_not_to_its_child(tmp_path: Path) -> None:
    with Backend(refuse=True) as backend:
        leave_behind(tmp_path, backend.url, range(20))
        with next_tracer(backend.url, tmp_path) as tracer:
            time.sleep(ADOPTED_SECONDS)
            child = os.fork()
            if child == 0:
                tracer.force_flush(300)
                os._exit(0)
            os.waitpid(child, 0)
        backend.listen()
        assert delivered(backend, tmp_path, lambda arrived: len(arrived) == 20) == Counter(map(str, range(20)))
