"""While a cell runs, the page is told what it does: after a second, only what changed, and only a page that is seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.kernel.driver import Kernel

AGENT = """
import os
import hh_jupyter as hh

@hh.trace(event_type="tool")
def look_up(seconds):
    time.sleep(seconds)

@hh.trace(event_type="chain")
def agent(steps, seconds=0.4, until=""):
    print("started")
    for step in range(steps):
        look_up(seconds)
        if os.path.exists(until):
            break
    print("ended")
"""


@pytest.fixture(scope="module")
def kernel(local: Kernel) -> Kernel:
    local.run(AGENT)
    return local


def running(kernel: Kernel, view: str) -> list[dict[str, Any]]:
    return [message for message in kernel.told if message["type"] == "running" and message["view"] == view]


def span_counts(kernel: Kernel, view: str) -> set[str]:
    facts = [fact for message in running(kernel, view) for fact in message["header"]["facts"]]
    return {fact for fact in facts if "span" in fact}


def test_a_long_cell_is_told_as_it_goes(kernel: Kernel, tmp_path: Path) -> None:
    """Names of what runs and counts of what ended; no output of ours before the body ends."""
    enough = tmp_path / "enough"
    source = f"agent(120, until={str(enough)!r})"
    cell = kernel.start(source, cell_id="long")
    kernel.wait_for(lambda: len(span_counts(kernel, "hh-long")) >= 2, "it is not told twice")
    assert "display" not in cell.kinds
    enough.touch()
    kernel.wait_for(lambda: any(told["type"] == "ended" for told in kernel.told), "nobody said that the cell ended")
    kernel.wait_for(lambda: bool(cell.outputs), "it is not shown")
    told = running(kernel, "hh-long")
    assert {message["source"] for message in told} == {source}
    headers = [message["header"] for message in told]
    assert {(header["title"], header["mark"]) for header in headers} == {("agent", "running")}
    assert all(header["elapsed_ms"] >= 900 for header in headers)
    # What was told each time, by bits of the column that says it, is in the page's tests; here: it was there at all.
    assert {"look_up", "agent"} <= set(headers[0]["names"])
    assert cell.kinds[-1] == "display"
    assert cell.kinds.count("display") == 1
    assert cell.stdout == "started\nended\n"
    kernel.told.clear()


def test_a_short_cell_is_not_told(kernel: Kernel) -> None:
    kernel.told.clear()
    kernel.run("agent(1, 0.05)", cell_id="short")
    kernel.run("time.sleep(1.5)", cell_id="after")
    assert [message for message in kernel.told if message["type"] == "running"] == []


def test_a_page_that_nobody_sees_is_told_nothing(kernel: Kernel, tmp_path: Path) -> None:
    """And is told again when somebody looks."""
    kernel.told.clear()
    kernel.ask({"type": "visibility", "visible": False})
    kernel.run("agent(5)", cell_id="unseen")
    assert running(kernel, "hh-unseen") == []
    kernel.ask({"type": "visibility", "visible": True})
    kernel.start(f"agent(120, until={str(tmp_path / 'seen')!r})", cell_id="seen")
    kernel.wait_for(lambda: bool(running(kernel, "hh-seen")), "nothing is told")
    (tmp_path / "seen").touch()
    kernel.run("1")


def test_questions_are_answered_while_a_cell_runs(kernel: Kernel, tmp_path: Path) -> None:
    """Over the page's subshell, though the hub itself has just spoken from elsewhere; also about what runs."""
    if kernel.versions[1] < 7:
        pytest.skip("ipykernel 6 has no subshells")
    kernel.told.clear()
    subshell = kernel.make_subshell()
    cell = kernel.start(f"agent(120, until={str(tmp_path / 'answered')!r})", cell_id="asked")
    kernel.wait_for(lambda: bool(running(kernel, "hh-asked")), "the cell is not shown")
    kernel.ask({"type": "rows", "view": "hh-long", "have": None}, subshell=subshell)
    kernel.wait_for(lambda: any(told["type"] == "rows" for told in kernel.told), "rows did not come")
    assert "ended" not in cell.stdout
    (tmp_path / "answered").touch()
    kernel.wait_for(lambda: bool(cell.outputs), "the cell does not end")


def test_names_of_what_runs_hold_no_secret(kernel: Kernel, tmp_path: Path) -> None:
    """A span that has not ended is redacted as one that has."""
    kernel.told.clear()
    agent = f"agent(120, until={str(tmp_path / 'told')!r})"
    kernel.start(f"with hh.get_tracer().start_span('sk-proj-' + 'a1B2' * 12):\n    {agent}", cell_id="secret")
    kernel.wait_for(lambda: bool(running(kernel, "hh-secret")), "nothing is told")
    (tmp_path / "told").touch()
    kernel.run("1")
    assert "[redacted" in running(kernel, "hh-secret")[0]["header"]["title"]
    assert "sk-proj-" + "a1B2" * 12 not in repr(kernel.told)
