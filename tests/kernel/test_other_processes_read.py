"""Coding agents and people read the traces of a notebook that is running, from another process."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.programs import agent_of, environment
from tests.kernel.conftest import StartKernel

pytestmark = pytest.mark.slow

FAILING = """
@hh.trace
def refund(order):
    raise TimeoutError(f"the bank did not answer for {order}")

@hh.trace
def agent():
    refund(41)

try:
    agent()
except TimeoutError:
    pass
"""


def test_an_agent_finds_the_failing_span_of_a_notebook_that_is_running(
    start_kernel: StartKernel, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    kernel = start_kernel(HH_SPOOL_DIR=str(spool))
    kernel.run("span('fine')")
    kernel.run(FAILING)
    number = kernel.run("print(len(get_ipython().user_ns['In']) - 2)").stdout.strip()
    with agent_of(spool) as agent:
        assert "running" in agent.call("list_trace_sessions")
        found = agent.call("find_spans", errors=True)
        assert "the bank did not answer for 41" in found
        (span,) = re.findall(r'show_span\(span="(\w+)"\)', found)
        assert '{"order": 41}' in agent.call("show_span", span=span)
        cell = agent.call("show_trace", session=f"last/{number}")
        assert "refund" in cell
        assert "fine" not in cell
        kernel.run(FAILING.replace("41", "42"))  # The reader holds nothing back.
        again = agent.call("compare_traces", new="last/last", old=f"last/{number}", texts=True)
        assert "{+42+}" in again
    reply = kernel.run("print(hh.get_tracer().spool.problem)")
    assert reply.stdout.strip() == "None"


def test_a_person_finds_and_shows_it_in_a_terminal(start_kernel: StartKernel, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    kernel = start_kernel(HH_SPOOL_DIR=str(spool))
    kernel.run(FAILING)

    def command(*words: str) -> str:
        line = [sys.executable, "-m", "hh_jupyter", *words]
        done = subprocess.run(line, env=environment(spool), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    found = command("find", "--errors")
    (hint,) = re.findall(r"python -m hh_jupyter (show --span \w+)", found)
    assert "the bank did not answer for 41" in command(*hint.split())
    assert "refund" in command("show", "last")
