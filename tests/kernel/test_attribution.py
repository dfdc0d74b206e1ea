"""A span belongs to the cell in which it started, wherever it ends: tasks, threads, callbacks, subshells."""

from __future__ import annotations

import pytest

from tests.kernel.driver import Cell, Kernel, row_of

BACKGROUND_TASK = """
go_{n} = asyncio.Event()
async def work_{n}():
    with hh.get_tracer().start_span("outlives-{n}"):
        await go_{n}.wait()
    for number in range(3):
        span(f"late-{n}-{{number}}")
{first}
task_{n} = asyncio.ensure_future(work_{n}())
await asyncio.sleep(0.01)
"""


def assert_quiet(*cells: Cell) -> None:
    for cell in cells:
        assert (cell.stderr, cell.errors) == ("", []), cell


@pytest.mark.parametrize("first", ["span('in-time')", ""], ids=["with output", "without"])
def test_spans_of_a_task_that_outlives_its_cell_update_that_cells_output(local: Kernel, first: str) -> None:
    n = len(first)
    cell = local.run(BACKGROUND_TASK.format(n=n, first=first))
    other = local.run(f"go_{n}.set(); span('other-{n}')\nawait task_{n}")
    assert_quiet(cell, other)
    local.wait_for(lambda: bool(cell.outputs) and "+4 after the cell ended" in cell.output.text, "no late spans")
    assert f"late-{n}-2" in cell.output.html
    assert f"late-{n}" not in other.output.html
    assert row_of(local, f"outlives-{n}").cell == row_of(local, f"late-{n}-2").cell == str(cell.count)


def test_a_task_keeps_the_session_of_its_cell(local: Kernel) -> None:
    local.run("%%hh_session of-the-task\n" + BACKGROUND_TASK.format(n="s", first="span('first-s')"))
    local.run("%%hh_session of-another-cell\nspan('in-another'); go_s.set()\nawait task_s")
    assert row_of(local, "late-s-0").session == row_of(local, "first-s").session
    assert row_of(local, "late-s-0").session != row_of(local, "in-another").session


ELSEWHERE = {
    "timer": "threading.Timer(0.01, span, ['timer']).start()",
    "call_later": "asyncio.get_running_loop().call_later(0.01, span, 'call_later'); await asyncio.sleep(0)",
    "in_executor": "await asyncio.get_running_loop().run_in_executor(None, span, 'in_executor')",
    "callback": "ThreadPoolExecutor(1).submit(time.sleep, 0.05).add_done_callback(lambda _: span('callback'))",
    "mapped": "list(ThreadPoolExecutor(2).map(span, ['mapped']))",
    "subclass": "class Own(threading.Thread):\n    def run(self): span('subclass')\nOwn().start()",
    "nested": "get_ipython().run_cell('get_ipython().run_cell(\"span(1 * \\'nested\\')\")')",
    "file": (
        "open('s.py', 'w').write('import hh_jupyter as hh; hh.get_tracer().start_span(\"file\").__enter__().end()')\n"
        "%run s.py"
    ),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_calls_on_other_threads_belong_to_the_cell_that_started_them(local: Kernel, name: str) -> None:
    cell = local.run(f"from concurrent.futures import ThreadPoolExecutor\n{ELSEWHERE[name]}")
    assert cell.reply == "ok", cell
    after = local.run("await asyncio.sleep(0.05)")
    local.wait_for(lambda: bool(cell.outputs), f"no output for {name}")
    assert row_of(local, name).cell == str(cell.count)
    assert after.outputs == []
    assert_quiet(cell, after)


def test_spans_outside_cells_are_shown_on_request_and_belong_to_the_current_session(local: Kernel) -> None:
    """A thread that was started earlier has no cell in its context, like a widget callback on the kernel's thread."""
    assert "no spans outside cells" in local.run("%hh show background").stderr
    local.run(
        "import queue, contextvars; calls = queue.Queue()\n"
        "def serve():\n    while (name := calls.get()) is not None: span(name); calls.task_done()\n"
        "contextvars.Context().run(threading.Thread(target=serve, daemon=True).start)"
    )
    first = local.run("span('seen'); calls.put('unseen-1'); calls.join()")
    assert "unseen" not in first.output.text
    local.run("%hh_session chat")
    second = local.run("calls.put('unseen-2'); calls.join()")
    assert second.outputs == []
    shown = local.run("%hh show background")
    assert "unseen-1" in shown.output.text
    assert "unseen-2" in shown.output.text
    assert "seen " not in shown.output.text.replace("unseen", "")
    local.run("span('in-chat')\n%hh_session --end")
    local.run("calls.put('unseen-3'); calls.join()")
    own = row_of(local, "unseen-1").session
    assert row_of(local, "unseen-2").session == row_of(local, "in-chat").session != own
    assert row_of(local, "unseen-3").session == own == row_of(local, "seen").session


def test_spans_of_a_widget_callback_are_outside_cells(local: Kernel) -> None:
    local.run("import ipywidgets; button = ipywidgets.Button(); button.on_click(lambda _: span('clicked'))")
    local.value("button.click()")
    assert row_of(local, "clicked").cell is None


def test_a_cell_in_a_subshell_and_a_concurrent_cell_keep_their_own_spans(local: Kernel) -> None:
    """Their hooks interleave: the main cell starts first and ends while the other is still running."""
    if local.versions[1] < 7:
        pytest.skip("ipykernel 6 has no subshells")
    before = local.run("begun, go = threading.Event(), threading.Event()\n%hh_session for-both").count
    assert before is not None
    main, sub = local.run_with_subshell(
        "span('main-1'); begun.set(); go.wait(30); span('main-2')",
        "begun.wait(30); span('sub-1'); go.set(); time.sleep(0.3); span('sub-2')",
    )
    local.wait_for(lambda: bool(main.outputs and sub.outputs), "outputs")
    assert_quiet(main, sub)
    assert "2 spans" in main.output.text
    assert "2 spans" in sub.output.text
    rows = {name: row_of(local, name) for name in ("main-1", "main-2", "sub-1", "sub-2")}
    cells = {rows[name].cell for name in ("main-1", "main-2")}, {rows[name].cell for name in ("sub-1", "sub-2")}
    assert [len(of) for of in cells] == [1, 1]
    # In either order. IPython 8 increments the number at the end of a cell, so that both have the same one.
    numbers = {str(before + 1), str(before + 2)} if local.versions[0] >= 9 else {str(before + 1)}
    assert set.union(*cells) == numbers
    assert len({row.session for row in rows.values()}) == 1
    after = local.run("span('after-both')")
    assert row_of(local, "after-both").session == rows["sub-1"].session
    assert len(after.outputs) == 1
    local.run("%hh_session --end")
