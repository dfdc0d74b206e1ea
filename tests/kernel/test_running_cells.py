"""While a cell runs, the page is told what it does: after a second, only what changed, and only a page that is seen."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kernel.driver import Kernel

AGENT = """
import hh_jupyter as hh

@hh.trace(event_type="tool")
def look_up(seconds):
    time.sleep(seconds)

@hh.trace(event_type="chain")
def agent(steps, seconds=0.4):
    print("started")
    for step in range(steps):
        look_up(seconds)
    print("ended")
"""


@pytest.fixture(scope="module")
def kernel(local: Kernel) -> Kernel:
    local.run(AGENT)
    return local


def running(kernel: Kernel, view: str) -> list[dict[str, Any]]:
    return [message for message in kernel.told if message["type"] == "running" and message["view"] == view]


def test_a_long_cell_is_told_as_it_goes(kernel: Kernel) -> None:
    """Names of what runs and counts of what ended; no output of ours before the body ends."""
    source = "agent(5)"
    cell = kernel.run(source, cell_id="long")
    kernel.wait_for(lambda: any(told["type"] == "ended" for told in kernel.told), "nobody said that the cell ended")
    told = running(kernel, "hh-long")
    assert {message["source"] for message in told} == {source}
    headers = [message["header"] for message in told]
    assert {(header["title"], header["mark"]) for header in headers} == {("agent", "running")}
    spans = [fact for header in headers for fact in header["facts"] if "span" in fact]
    assert len(set(spans)) >= 2
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


def test_a_page_that_nobody_sees_is_told_nothing(kernel: Kernel) -> None:
    """And is told again when somebody looks."""
    kernel.told.clear()
    for visible in (False, True):
        kernel.ask({"type": "sight", "visible": visible})
        kernel.run("agent(4)", cell_id=f"seen-{visible}")
        assert bool(running(kernel, f"hh-seen-{visible}")) is visible


def test_questions_are_answered_while_a_cell_runs(kernel: Kernel) -> None:
    """Over the page's subshell, though the hub itself has just spoken from elsewhere; also about what runs."""
    if kernel.versions[1] < 7:
        pytest.skip("ipykernel 6 has no subshells")
    kernel.told.clear()
    subshell = kernel.make_subshell()
    cell = kernel.start("agent(10)", cell_id="asked")
    kernel.wait_for(lambda: bool(running(kernel, "hh-asked")), "the cell is not shown")
    kernel.ask({"type": "rows", "view": "hh-long", "have": None}, subshell=subshell)
    kernel.wait_for(lambda: any(told["type"] == "rows" for told in kernel.told), "rows did not come")
    assert "ended" not in cell.stdout
    kernel.wait_for(lambda: bool(cell.outputs), "the cell does not end")


def test_names_of_what_runs_hold_no_secret(kernel: Kernel) -> None:
    """A span that has not ended is redacted as one that has."""
    kernel.told.clear()
    kernel.run("with hh.get_tracer().start_span('sk-proj-' + 'a1B2' * 12):\n    agent(4)", cell_id="secret")
    assert "[redacted" in running(kernel, "hh-secret")[0]["header"]["title"]
    assert "sk-proj-" + "a1B2" * 12 not in repr(kernel.told)
