"""A running cell is shown in the page: after a second, on every change, and only while the page is visible."""

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
    return [message for message in kernel.hub_messages if message["type"] == "running" and message["view"] == view]


def span_counts(kernel: Kernel, view: str) -> set[str]:
    facts = [fact for message in running(kernel, view) for fact in message["header"]["facts"]]
    return {fact for fact in facts if "span" in fact}


@pytest.mark.slow
def test_a_long_cell_is_shown_while_it_runs(kernel: Kernel, tmp_path: Path) -> None:
    """Shows names of open spans and counts of ended ones; the output itself follows at the end of the cell."""
    enough = tmp_path / "enough"
    source = f"agent(120, until={str(enough)!r})"
    cell = kernel.start(source, cell_id="long")
    kernel.wait_for(lambda: len(span_counts(kernel, "hh-long")) >= 2, "the page got fewer than two messages")
    assert "display" not in cell.kinds
    enough.touch()
    kernel.wait_for(
        lambda: any(message["type"] == "ended" for message in kernel.hub_messages),
        "the page was not notified that the cell ended",
    )
    kernel.wait_for(lambda: bool(cell.outputs), "the cell has no output")
    messages = running(kernel, "hh-long")
    assert {message["source"] for message in messages} == {source}
    headers = [message["header"] for message in messages]
    assert {(header["title"], header["mark"]) for header in headers} == {("agent", "running")}
    assert all(header["elapsed_ms"] >= 900 for header in headers)
    # The content of the messages is covered by the tests of the page.
    assert {"look_up", "agent"} <= set(headers[0]["names"])
    assert cell.kinds[-1] == "display"
    assert cell.kinds.count("display") == 1
    assert cell.stdout == "started\nended\n"
    kernel.hub_messages.clear()


def test_a_short_cell_is_not_shown_while_it_runs(kernel: Kernel) -> None:
    kernel.hub_messages.clear()
    kernel.run("agent(1, 0.05)", cell_id="short")
    kernel.run("time.sleep(1.5)", cell_id="after")
    assert [message for message in kernel.hub_messages if message["type"] == "running"] == []


def test_a_hidden_page_gets_no_messages(kernel: Kernel, tmp_path: Path) -> None:
    """It gets messages again as soon as it is visible."""
    kernel.hub_messages.clear()
    kernel.ask({"type": "visibility", "visible": False})
    kernel.run("agent(5)", cell_id="unseen")
    assert running(kernel, "hh-unseen") == []
    kernel.ask({"type": "visibility", "visible": True})
    kernel.start(f"agent(120, until={str(tmp_path / 'seen')!r})", cell_id="seen")
    kernel.wait_for(lambda: bool(running(kernel, "hh-seen")), "the page got no message")
    (tmp_path / "seen").touch()
    kernel.run("1")


def test_the_hub_answers_requests_while_a_cell_runs(kernel: Kernel, tmp_path: Path) -> None:
    """Also over a subshell while the hub sends from another thread, and for spans that are open."""
    if kernel.versions[1] < 7:
        pytest.skip("ipykernel 6 has no subshells")
    kernel.hub_messages.clear()
    subshell = kernel.make_subshell()
    cell = kernel.start(f"agent(120, until={str(tmp_path / 'answered')!r})", cell_id="asked")
    kernel.wait_for(lambda: bool(running(kernel, "hh-asked")), "the cell is not shown")
    kernel.ask({"type": "rows", "view": "hh-long", "have": None}, subshell=subshell)
    kernel.wait_for(lambda: any(message["type"] == "rows" for message in kernel.hub_messages), "the rows were not sent")
    assert "ended" not in cell.stdout
    (tmp_path / "answered").touch()
    kernel.wait_for(lambda: bool(cell.outputs), "the cell did not end")


def test_names_of_running_spans_are_redacted(kernel: Kernel, tmp_path: Path) -> None:
    """An open span is redacted like one that has ended."""
    kernel.hub_messages.clear()
    agent = f"agent(120, until={str(tmp_path / 'shown')!r})"
    kernel.start(f"with hh.get_tracer().start_span('sk-proj-' + 'a1B2' * 12):\n    {agent}", cell_id="secret")
    kernel.wait_for(lambda: bool(running(kernel, "hh-secret")), "the page got no message")
    (tmp_path / "shown").touch()
    kernel.run("1")
    assert "[redacted" in running(kernel, "hh-secret")[0]["header"]["title"]
    assert "sk-proj-" + "a1B2" * 12 not in repr(kernel.hub_messages)
