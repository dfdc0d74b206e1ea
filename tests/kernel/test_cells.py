"""Spans land under the cell in which they started, in one output, always last; the cell itself is not changed."""

from __future__ import annotations

import pytest

from tests.kernel.driver import Cell, Kernel


def cell_of(kernel: Kernel, name: str) -> str:
    """Number of the cell whose run the span belongs to."""
    (found,) = [cell for span, _, cell in kernel.value("rows()") if span == name]
    return str(found)


def assert_quiet(*cells: Cell) -> None:
    """No noise of ours: not a word on stderr, least of all about contexts."""
    for cell in cells:
        assert cell.stderr == "", cell


def test_the_output_of_a_sync_cell_comes_last(local: Kernel) -> None:
    cell = local.run("print('working')\nspan('sync-one')\n'the result'")
    assert cell.kinds == ["stream", "result", "display"]
    assert "sync-one" in cell.output.text
    assert "sync-one" in cell.output.html
    assert set(cell.output.versions[0]) == {"text/plain", "text/html"}
    assert cell_of(local, "sync-one") == str(cell.count)
    assert_quiet(cell)


def test_a_cell_with_top_level_await_is_traced_like_any_other(local: Kernel) -> None:
    cell = local.run("await asyncio.sleep(0)\nspan('await-one')\nawait asyncio.sleep(0)\n'the result'")
    assert cell.kinds == ["result", "display"]
    assert cell_of(local, "await-one") == str(cell.count)
    assert_quiet(cell, local.run("1"))


def test_a_cell_without_spans_shows_nothing(local: Kernel) -> None:
    cell = local.run("1 + 1")
    assert cell.kinds == ["result"]


def test_an_error_is_shown_once_and_then_the_spans(local: Kernel) -> None:
    cell = local.run("span('before-error')\n1 / 0")
    assert (cell.reply, cell.ename) == ("error", "ZeroDivisionError")
    assert cell.kinds == ["error", "display"]
    assert_quiet(cell)


def test_a_syntax_error_leaves_no_frame_behind(local: Kernel) -> None:
    assert local.run("span('never'").ename in ("SyntaxError", "_IncompleteInputError")
    cell = local.run("span('after-syntax-error')")
    assert cell_of(local, "after-syntax-error") == str(cell.count)


@pytest.mark.parametrize(
    ("wait", "ename"),
    [("time.sleep(30)", "KeyboardInterrupt"), ("[await asyncio.sleep(0.01) for _ in range(3000)]", "CancelledError")],
    ids=["sync", "await"],
)
def test_an_interrupted_cell_shows_what_had_finished(local: Kernel, wait: str, ename: str) -> None:
    # One statement: between two, IPython compiles, and cannot format the traceback of an interrupt there.
    cell = local.run(f"span('finished')\nif True:\n    print('now', flush=True)\n    {wait}", interrupt_at="now")
    assert (cell.reply, cell.ename) == ("error", ename)
    local.wait_for(lambda: "interrupted" in cell.output.text, "the interrupted cell shows nothing")
    after = local.run("span('after-interrupt')")
    assert len(after.outputs) == 1
    assert_quiet(cell, after)


def test_blank_and_silent_cells_show_nothing_and_leave_the_next_cell_alone(local: Kernel) -> None:
    blank = local.run("   \n")
    silent = local.run("span('in-silence')", silent=True, store_history=False)
    unnumbered = local.run("_ = span('no-history')", store_history=False)
    after = local.run("_ = span('after-blank')")
    assert [cell.kinds for cell in (blank, silent, unnumbered, after)] == [[], [], [], ["display"]]
    assert cell_of(local, "after-blank") == str(after.count)
    assert_quiet(blank, silent, unnumbered, after)


@pytest.mark.parametrize("body", ["get_ipython().run_cell({!r})", "%%capture\n{}"], ids=["run_cell", "capture"])
def test_a_cell_run_by_another_belongs_to_the_outermost(local: Kernel, body: str) -> None:
    name = f"nested-{len(body)}"
    cell = local.run(body.format(f"span({name!r})"))
    assert len(cell.outputs) == 1
    assert name in cell.output.text
    assert cell_of(local, name) == str(cell.count)
    assert_quiet(cell)


def test_spans_of_threads_and_executors_land_in_their_cell(local: Kernel) -> None:
    cell = local.run(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "pool = ThreadPoolExecutor(1)\n"
        "pool.submit(span, 'in-pool').result()\n"
        "thread = threading.Thread(target=span, args=('in-thread',)); thread.start(); thread.join()\n"
        "await asyncio.gather(asyncio.to_thread(span, 'to-thread'), asyncio.to_thread(span, 'to-thread-2'))"
    )
    assert "4 spans" in cell.output.text
    # The pool's thread was started by the first cell; what is submitted later belongs to the later one.
    later = local.run("pool.submit(span, 'in-pool-later').result()")
    assert cell_of(local, "in-pool-later") == str(later.count)
    assert_quiet(cell, later)


def test_spans_that_end_later_change_their_own_cells_output(local: Kernel) -> None:
    cell = local.run(
        "go, gone = threading.Event(), threading.Event()\n"
        "def linger():\n    span('in-time')\n    gone.set()\n    go.wait(30)\n    span('too-late')\n"
        "threading.Thread(target=linger).start(); gone.wait(30)"
    )
    assert "too-late" not in cell.output.html
    other = local.run("go.set()\nspan('other')")
    local.wait_for(lambda: "+1 after the cell ended" in cell.output.text, "the late span is not shown")
    assert "too-late" in cell.output.html
    assert "too-late" not in other.output.html
    assert local.unknown_updates == []


def test_a_cell_whose_first_span_ends_later_gets_its_output_then(local: Kernel) -> None:
    cell = local.run("late = hh.get_tracer().start_span('long-running'); late.__enter__();")
    other = local.run("1")
    ending = local.run("late.__exit__(None, None, None)")
    local.wait_for(lambda: bool(cell.outputs), "the late span is not shown")
    assert "long-running" in cell.output.text
    assert other.outputs == ending.outputs == []
    assert cell_of(local, "long-running") == str(cell.count)
    assert_quiet(cell, other, ending)


def test_what_the_users_code_attached_outlives_a_cell_without_a_session(local: Kernel) -> None:
    local.run("from opentelemetry import baggage, context\nt = context.attach(baggage.set_baggage('mine', 'kept'))")
    cell = local.run("print(baggage.get_baggage('mine')); span('with-baggage')")
    assert cell.stdout.strip() == "kept"
    after = local.run("context.attach(baggage.remove_baggage('mine'));")
    assert_quiet(cell, after)


def test_a_failing_hook_never_reaches_the_cell(fresh: Kernel) -> None:
    fresh.run("import hh_jupyter.notebook.outputs as o\ndef fail(*a, **k): raise RuntimeError('broken display')")
    fresh.run("o.summarize = fail")
    cell = fresh.run("span('unseen')\n'fine'")
    assert (cell.reply, cell.errors, cell.results) == ("ok", [], ["'fine'"])


def test_threads_of_ours_that_start_each_other_form_no_circle_of_ids(local: Kernel) -> None:
    """ipykernel 6 looks for the cell of what a thread prints along the threads that made it; ids are used again."""
    local.run(
        """
import sys, threading
from hh_jupyter.threads import start_thread
made = []
def chain(left):
    made.append(getattr(sys.stderr, "_thread_to_parent", {}).get(threading.get_ident()))
    if left:
        start_thread(chain, "x", (left - 1,)).join()
start_thread(chain, "x", (3,)).join()
"""
    )
    assert local.value("made") == [None] * 4
