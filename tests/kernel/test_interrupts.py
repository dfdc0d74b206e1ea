"""Ctrl-C, again and again, in everything that waits for the backend: afterwards every flush works, with all spans."""

from __future__ import annotations

import re
import time
from typing import Any, Final

import pytest

from hh_jupyter.testing import Backend
from hh_jupyter.testing.responses import TRACES
from tests.kernel.conftest import KEY, StartKernel
from tests.kernel.driver import Kernel

STORM = """
import contextlib, io, os, random, signal
ended, draw = [], random.Random(7)

class Storm:
    'Sends SIGINT at random moments; it is ignored while the main thread is outside a function of ours with this name.'
    def __init__(self, name, seconds):
        self.name, self.hits, self.end = name, 0, time.monotonic() + seconds
        signal.signal(signal.SIGINT, self.interrupt)
        self.thread = threading.Thread(target=self.press)
        self.thread.start()
    def interrupt(self, _, frame):
        while frame is not None:
            if frame.f_code.co_name == self.name and "hh_jupyter" in frame.f_code.co_filename:
                self.hits += 1
                raise KeyboardInterrupt
            frame = frame.f_back
    def press(self):
        while time.monotonic() < self.end:
            time.sleep(draw.uniform(0.0005, 0.01))
            os.kill(os.getpid(), signal.SIGINT)
    def repeat(self, act):
        while time.monotonic() < self.end:
            try:
                act()
            except KeyboardInterrupt:
                pass
        self.thread.join()

def make():
    ended.append(span(f"n{len(ended)}"))

def flush():
    make()
    hh.get_tracer().force_flush(random.choice((1, 20, 200)))

def send(line):
    make()
    with contextlib.redirect_stdout(io.StringIO()):
        get_ipython().run_line_magic("hh", line)

def evaluate():
    dataset = [{"inputs": {"n": n}} for n in range(9)]
    hh.evaluate(lambda datapoint: make(), dataset=dataset, name="e", print_results=False)
"""
AFTER_CELL = "the flush after a cell"
CELLS = {
    "force_flush": "storm = Storm('force_flush', 2); storm.repeat(flush)",
    "send": "storm = Storm('send', 2); storm.repeat(lambda: send('send'))",
    "send a session": "%hh_session mine\nstorm = Storm('send', 2); storm.repeat(lambda: send('send mine'))",
    "save": "storm = Storm('save', 2); storm.repeat(lambda: send('save f.jsonl --force'))",
    AFTER_CELL: "storm = Storm('wait', 0.5)\nfor _ in range(9): make()",
    "evaluate": "storm = Storm('evaluate', 2); storm.repeat(evaluate)",
}


FAULTS: Final[dict[str, dict[str, Any]]] = {
    "slow": {"delay": {TRACES: 0.05}},
    "fails at times": {"statuses": {TRACES: [503, 200, 200, 200, 200] * 500}},
}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", FAULTS)
def test_after_a_storm_of_interrupts_anywhere_every_flush_works(start_kernel: StartKernel, fault: str) -> None:
    with Backend(**FAULTS[fault]) as backend:
        kernel = start_kernel(HH_API_KEY=KEY, HH_API_URL=backend.url)
        kernel.run(STORM)
        for place, code in CELLS.items():
            storm(kernel, backend, place, code, must_hit=fault == "slow" or place != AFTER_CELL)
        counts = re.search(r"([\d,]+) made, ([\d,]+) sent, 0 waiting, 0 rejected, 0 dropped", kernel.run("%hh").stdout)
        assert counts is not None
        assert counts[1] == counts[2]


def storm(kernel: Kernel, backend: Backend, place: str, code: str, *, must_hit: bool) -> None:
    """Run a cell in a storm, and check that everything works afterwards.

    Args:
        must_hit: what is interrupted takes so long that an interrupt hits it.
    """
    after_cell, hits = place == AFTER_CELL, 0
    for _ in range(5 if after_cell else 1):
        cell = kernel.run(code)
        assert (cell.reply, cell.tracebacks) == ("ok", []), place
        time.sleep(2 if after_cell else 0)  # The next cell begins with IPython's own handler.
        hits += kernel.value("storm.hits")
    assert hits or not must_hit, place
    kernel.run("hh.get_tracer().force_flush(20_000)")  # What was interrupted may be reported once more.
    for _ in range(3):
        kernel.run("make()")
        assert kernel.value("hh.get_tracer().force_flush(20_000)") is True, place
    ended = set(str(kernel.value("' '.join(ended)")).split())
    assert ended - {span["name"] for span in backend.spans()} == set(), place
