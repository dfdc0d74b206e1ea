"""Workers that are forked after the tracer was created: spans of parent and children arrive once."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from hh_jupyter.testing import Backend
from tests.guide.conftest import Run
from tests.guide.received import QUESTION, SESSION, in_own_sessions, registered

PROGRAM = """
import os, sys, threading, time
from hh_jupyter import HoneyHiveTracer, trace

tracer = HoneyHiveTracer.init(session_name="workers")

@trace(event_type="tool")
def answer(question):
    return question.upper()

def serve(worker):
    for number in range(3):
        with tracer.with_session(f"{worker} {number}"):
            answer(f"{worker} {number}")

answer("before the fork")
children = []
for worker in ("a", "b"):
    child = os.fork()
    if child == 0:
        serve(worker)
        END
    children.append(child)
serve("parent")
for child in children:
    os.waitpid(child, 0)
"""
ENDINGS = {
    "sys.exit": "sys.exit(0)",
    "flush and os._exit": "os._exit(0 if tracer.flush() else 1)",
    "flush from another thread": (
        "done = threading.Thread(target=tracer.flush); done.start(); done.join(); os._exit(0)"
    ),
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
def test_spans_of_parent_and_children_arrive_once_in_their_sessions(backend: Backend, run: Run, ending: str) -> None:
    done = run(PROGRAM.replace("END", ending))
    assert (done.returncode, done.stderr) == (0, "")
    served = [f"{worker} {number}" for worker in ("a", "b", "parent") for number in range(3)]
    asked = Counter(span["attributes"][QUESTION] for span in backend.spans())
    assert asked == Counter(["before the fork", *served])
    (start_up,) = registered(backend, "workers")
    ids = {"before the fork": start_up, **{name: registered(backend, name)[0] for name in served}}
    assert in_own_sessions(backend, ids)
    assert len(backend.sessions()) == len(ids)
    assert len({span["span_id"] for span in backend.spans()}) == len(ids)


@pytest.mark.slow
def test_the_child_of_a_fork_right_after_the_tracers_creation_can_send(backend: Backend, run: Run) -> None:
    """A pre-fork server forks right after importing the application, while our threads are starting."""
    program = (
        PROGRAM.partition('answer("before')[0]
        + """
for wait in (0, 0.01, 0.02, 0.03, 0.05):
    child = os.fork()
    if child == 0:
        answer(str(wait))
        os._exit(0 if tracer.flush(10_000) else 1)
    time.sleep(wait)
    _, status = os.waitpid(child, 0)
    assert status == 0, wait
"""
    )
    for delay in ("0", "0.01", "0.02", "0.03"):
        done = run(program.replace("for wait", f"time.sleep({delay})\nfor wait"))
        assert (done.returncode, done.stderr) == (0, "")
    assert len(backend.spans()) == 20


def test_our_threads_import_nothing_after_a_fork(backend: Backend, run: Run) -> None:
    """An import lock that another thread holds during a fork is never released in the child."""
    program = (
        PROGRAM.partition('answer("before')[0]
        + """
class Watch:
    def find_spec(self, name, path=None, target=None):
        if threading.current_thread() is not threading.main_thread():
            print(threading.current_thread().name, "imports", name)

child = os.fork()
if child == 0:
    os._exit(0)
sys.meta_path.insert(0, Watch())
try:
    answer(7)
except AttributeError:
    answer("why?")
tracer.enrich_session(metadata={"key": "sk-" + 40 * "a"})
assert tracer.flush()
"""
    )
    for protocol in ("http/protobuf", "http/json"):
        done = run(f"import os\nos.environ['HH_OTLP_PROTOCOL'] = {protocol!r}\n{program}")
        assert (done.returncode, done.stderr, done.stdout) == (0, "", "")


POOLS = {
    "Pool": """
with multiprocessing.get_context(method).Pool(2) as pool:
    pool.map(answer, work, chunksize=1)
    pool.close()
    pool.join()
""",
    "ProcessPoolExecutor": """
from concurrent.futures import ProcessPoolExecutor
with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
    list(pool.map(answer, work))
""",
    "Process": """
children = [multiprocessing.get_context(method).Process(target=answer, args=(name,)) for name in work]
[child.start() for child in children]
[child.join() for child in children]
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
def test_multiprocessing_children_send_their_spans_before_they_exit(
    backend: Backend, tmp_path: Path, pool: str, method: str
) -> None:
    """The interpreter's exit hooks do not run in these processes."""
    begin = f'if __name__ == "__main__":\n    import multiprocessing\n    method, work = {method!r}, ["a", "b", "c"]\n'
    script = tmp_path / "workers.py"
    script.write_text(PROGRAM.partition('answer("before')[0] + begin + textwrap.indent(pool, "    "))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert Counter(span["attributes"][QUESTION] for span in backend.spans()) == Counter("abc")
    assert {span["attributes"][SESSION] for span in backend.spans()} <= set(registered(backend, "workers"))
