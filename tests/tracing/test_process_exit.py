"""A process sends its spans before it ends, however it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hh_jupyter.testing import Backend

BEGIN = """
import os, signal, sys, threading, time
from hh_jupyter import HoneyHiveTracer
tracer = HoneyHiveTracer.init(api_key="k", server_url=sys.argv[1], exit_flush_seconds=float(sys.argv[2]))
def work(name):
    with tracer.start_span(name):
        pass
"""


def run(program: str, url: str, directory: Path, budget: float = 20.0) -> subprocess.CompletedProcess[str]:
    """Run a program from a file, as multiprocessing requires."""
    script = directory / "program.py"
    script.write_text(BEGIN + program)
    return subprocess.run([sys.executable, script, url, str(budget)], capture_output=True, text=True, timeout=60)


def test_sigterm_flushes_and_then_terminates_the_process(backend: Backend, tmp_path: Path) -> None:
    done = run("work('last'); os.kill(os.getpid(), signal.SIGTERM); time.sleep(30)", backend.url, tmp_path)
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, "")
    assert [span["name"] for span in backend.spans()] == ["last"]


@pytest.mark.slow
def test_sigterm_ends_the_process_within_the_budget_if_the_backend_hangs(tmp_path: Path) -> None:
    program = """
begin = time.monotonic()
ready, tell = os.pipe()
pid = os.fork()
if not pid:
    work('last')
    os.write(tell, b'.')
    signal.pause()
os.read(ready, 1)
os.kill(pid, signal.SIGTERM)
_, status = os.waitpid(pid, 0)
print(os.WTERMSIG(status) == signal.SIGTERM, time.monotonic() - begin < 20)
os._exit(0)
"""
    with Backend(hang=True) as hanging:
        done = run(program, hanging.url, tmp_path, budget=1.0)
    assert done.stdout.strip() == "True True"
    assert "not everything was sent" in done.stderr


STOPPED = {
    "in a log handler": """
import logging
class Stop(logging.StreamHandler):
    def emit(self, record):
        os.kill(os.getpid(), signal.SIGTERM)
work('last')
log = logging.getLogger('hh_jupyter')
log.addHandler(Stop())
log.warning('a line of this package, while its threads may log, too')
""",
    "in an import": """
work('last')
class Stop:
    def find_spec(self, name, path, target=None):
        if name == 'requests' and threading.current_thread() is threading.main_thread():
            os.kill(os.getpid(), signal.SIGTERM)
sys.meta_path.insert(0, Stop())
import requests
""",
}


@pytest.mark.parametrize("ending", ["", "time.sleep(30)"], ids=["exiting", "running"])
@pytest.mark.parametrize("place", STOPPED)
def test_sigterm_that_interrupts_code_holding_a_needed_lock_still_flushes(
    backend: Backend, tmp_path: Path, place: str, ending: str
) -> None:
    """The main thread must not wait there for the flush, which waits for the lock."""
    done = run(f"{STOPPED[place]}{ending}", backend.url, tmp_path)
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, "")
    assert [span["name"] for span in backend.spans()] == ["last"]


def test_repeated_sigterm_during_the_flush_ends_the_process_once(tmp_path: Path) -> None:
    """The process ends when everything is sent."""
    program = """
work('last')
def again():
    for _ in range(200):
        time.sleep(0.002)
        os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=again, daemon=True).start()
time.sleep(30)
"""
    with Backend(delay={"/opentelemetry/v1/traces": 0.6}) as slow:
        done = run(program, slow.url, tmp_path)
        assert (done.returncode, done.stderr) == (-signal.SIGTERM, "")
        assert [span["name"] for span in slow.spans()] == ["last"]


def test_the_programs_own_sigterm_handler_is_kept(backend: Backend, tmp_path: Path) -> None:
    program = """
tracer.shutdown()
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
handler = lambda *_: sys.exit(7)
signal.signal(signal.SIGTERM, handler)
tracer = HoneyHiveTracer.init(api_key="k", server_url=sys.argv[1])
assert signal.getsignal(signal.SIGTERM) is handler
work('last')
os.kill(os.getpid(), signal.SIGTERM)
"""
    done = run(program, backend.url, tmp_path)
    assert (done.returncode, done.stderr) == (7, "")
    assert [span["name"] for span in backend.spans()] == ["last"]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("ending", ["", "; sys.exit(3)", "; raise ValueError('the end')"], ids=["end", "exit", "error"])
def test_a_multiprocessing_worker_flushes_before_it_exits(
    backend: Backend, tmp_path: Path, method: str, ending: str
) -> None:
    program = f"""
import multiprocessing
def target(name):
    work(name){ending}
if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    children = [context.Process(target=target, args=(f"child {{n}}",)) for n in range(2)]
    [child.start() for child in children]
    [child.join() for child in children]
    work("parent")
"""
    done = run(program, backend.url, tmp_path)
    assert done.returncode == 0
    assert "hh_jupyter" not in done.stderr
    assert sorted(span["name"] for span in backend.spans()) == ["child 0", "child 1", "parent"]


def test_a_tracer_created_in_a_worker_is_flushed_too(backend: Backend, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text("""
import multiprocessing, sys
def target(url):
    from hh_jupyter import HoneyHiveTracer
    with HoneyHiveTracer.init(api_key="k", server_url=url).start_span("made there"):
        pass
if __name__ == "__main__":
    for method in ("fork", "spawn"):
        child = multiprocessing.get_context(method).Process(target=target, args=(sys.argv[1],))
        child.start(), child.join()
""")
    done = subprocess.run([sys.executable, script, backend.url], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert [span["name"] for span in backend.spans()] == ["made there"] * 2


def test_one_hanging_backend_does_not_delay_the_flush_of_other_tracers(backend: Backend, tmp_path: Path) -> None:
    program = """
others = [HoneyHiveTracer.init(api_key="k", server_url=sys.argv[3], exit_flush_seconds=5.0) for _ in range(3)]
last = HoneyHiveTracer.init(api_key="k", server_url=sys.argv[1], exit_flush_seconds=5.0)
for tracer in (*others, last):
    work("last")
"""
    script = tmp_path / "program.py"
    script.write_text(BEGIN + program)
    with Backend(hang=True) as hanging:
        command = [sys.executable, str(script), backend.url, "5.0", hanging.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert [span["name"] for span in backend.spans()] == ["last"]
