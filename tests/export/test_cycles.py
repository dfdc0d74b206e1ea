"""Creating and shutting down tracers leaves no resources behind."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.testing import Backend

FILES = Path("/proc/self/fd")
HOT_LOOP = """
import sys
from hh_jupyter import HoneyHiveTracer
tracer = HoneyHiveTracer.init(api_key="k", server_url=sys.argv[1])
for number in range(10_000):
    with tracer.start_span("hot", attributes={"number": number}):
        pass
assert tracer.force_flush()
state = tracer.export_state()
print(state.made, state.sent, state.dropped)
"""


def _open_files() -> int:
    gc.collect()
    return len(list(FILES.iterdir()))


@pytest.mark.slow
@pytest.mark.skipif(not FILES.is_dir(), reason="counts open files where /proc is")
@pytest.mark.parametrize("spool", [True, False], ids=["spool", "memory"])
def test_twenty_tracers_leave_no_thread_no_socket_and_no_file(backend: Backend, tmp_path: Path, spool: bool) -> None:
    def cycle() -> None:
        with HoneyHiveTracer.init(api_key="k", server_url=backend.url, spool=spool, spool_dir=str(tmp_path)) as tracer:
            with tracer.start_span("work"):
                pass
            assert tracer.force_flush()

    cycle()  # Anything loaded or cached once is not a leak.
    threads, files = set(threading.enumerate()), _open_files()
    for _ in range(20):
        cycle()
    # The stand-in backend's own connections end a moment after ours.
    assert backend.wait_for(lambda _: _open_files() <= files and set(threading.enumerate()) <= threads, 3.0)
    assert len(backend.spans()) == 21
    with HoneyHiveTracer.init(test_mode=True, spool=spool, spool_dir=str(tmp_path)) as tracer:
        stored = tracer.spool.sessions() if tracer.spool is not None else []
    found = [(session.spans, session.unsent) for session in stored if session.spans]
    assert found == ([(1, 0)] * 21 if spool else [])


def test_a_hot_loop_of_ten_thousand_spans_loses_none(backend: Backend) -> None:
    done = subprocess.run([sys.executable, "-c", HOT_LOOP, backend.url], capture_output=True, text=True, timeout=100)
    assert (done.stdout.split(), done.stderr) == (["10000", "10000", "0"], "")
    assert len({span["attributes"]["number"] for span in backend.spans("hot")}) == 10_000
