"""The error that left a cell is named under it, and a cancelled call does not look like a success."""

from __future__ import annotations

import pytest

from tests.kernel.driver import Cell, Kernel

SETUP = """import asyncio, threading
from hh_jupyter import trace
@trace(event_name="inner")
def inner(): raise ValueError("no refund")
@trace(event_name="slow")
async def slow(): await asyncio.sleep(60)
class StopAgent(BaseException): pass
@trace(event_name="stopper")
def stopper(): raise StopAgent("enough")
"""


@pytest.fixture(scope="module")
def failing(local: Kernel) -> Kernel:
    local.run(SETUP)
    return local


def lines(cell: Cell) -> list[str]:
    """The summary line and the errors below it."""
    return cell.output.text.partition("\n\n")[0].splitlines()


CAUGHT = "try: inner()\nexcept ValueError: pass\n"

FAILURES = {
    "of a span": ("inner()", "▲ inner", ["  inner: ValueError: no refund  cell:4"]),
    "of the cell": (f"{CAUGHT}raise RuntimeError('of the cell')", "▲ inner", ["  RuntimeError: of the cell  cell:3"]),
    "of the cell, from that of a span": (
        "try: inner()\nexcept ValueError as error: raise RuntimeError('of the cell') from error",
        "▲ inner",
        ["  RuntimeError: of the cell  cell:2", "  caused by inner: ValueError: no refund  cell:4"],
    ),
    "the last of three": (
        "for i in range(3):\n    try: inner()\n    except ValueError:\n        if i == 2: raise",
        "▲ 3 traces",
        ["  inner: ValueError: no refund  cell:4"],
    ),
    "of a thread": (
        "thread = threading.Thread(target=inner); thread.start(); thread.join()",
        "▲ inner",
        ["  inner: ValueError: no refund  cell:4"],
    ),
    "of a cell that a magic runs": ("%%capture\ninner()", "▲ inner", ["  inner: ValueError: no refund  cell:4"]),
    "of the first of two cells that the cell runs": (
        "for code in ('inner()', '1'): get_ipython().run_cell(code)",
        "▲ inner",
        ["  inner: ValueError: no refund  cell:4"],
    ),
    "of a cancelled task": (
        "task = asyncio.create_task(slow()); await asyncio.sleep(0.01); task.cancel(); await task",
        "▲ slow",
        ["  slow: CancelledError  cell:6"],
    ),
    "a timeout": (
        "await asyncio.wait_for(slow(), 0.01)",
        "▲ slow",
        ["  TimeoutError  cell:1", "  caused by slow: CancelledError  cell:6"],
    ),
    "a user's own BaseException": ("stopper()", "▲ stopper", ["  stopper: StopAgent: enough  cell:9"]),
}


@pytest.mark.parametrize("name", FAILURES)
def test_the_error_that_left_the_cell_is_named(failing: Kernel, name: str) -> None:
    code, summary, errors = FAILURES[name]
    cell = failing.run(code)
    for shown in (cell, failing.run(f"%hh show {cell.count}")):
        first, *others = lines(shown)
        assert first.startswith(summary)
        assert others[: len(errors)] == errors
        assert "interrupted" not in first


def test_of_three_equal_errors_the_cell_caught_two(failing: Kernel) -> None:
    first = lines(failing.run(FAILURES["the last of three"][0]))[0]
    assert "1 error  2 caught" in first


CANCELLED = {
    "a timeout": "try: await asyncio.wait_for(slow(), 0.01)\nexcept TimeoutError: pass",
    "a deadline": "try:\n    async with asyncio.timeout(0.01): await slow()\nexcept TimeoutError: pass",
    "a task": "task = asyncio.create_task(slow()); await asyncio.sleep(0.01); task.cancel()\n"
    "try: await task\nexcept asyncio.CancelledError: pass",
    "a waited task": "task = asyncio.create_task(slow()); await asyncio.sleep(0.01); task.cancel()\n"
    "_ = await asyncio.wait([task])",
    "a user's own BaseException": "try: stopper()\nexcept StopAgent: pass",
}


@pytest.mark.parametrize("name", CANCELLED)
def test_a_cancelled_call_that_the_cell_handled_does_not_look_like_a_success(failing: Kernel, name: str) -> None:
    cell = failing.run(CANCELLED[name])
    assert (cell.reply, cell.errors) == ("ok", [])
    assert cell.output.text.startswith("⊘ ")
    assert "1 cancelled" in cell.output.text
    assert "⊘" in cell.output.html
    assert "error" not in cell.output.text


def test_a_secret_in_the_cells_own_error_is_redacted(failing: Kernel) -> None:
    cell = failing.run(f"{CAUGHT}raise RuntimeError('key sk-proj-' + 'a1B2' * 12)")
    assert "RuntimeError: key " in cell.output.text
    assert "a1B2a1B2" not in cell.output.text + cell.output.html
