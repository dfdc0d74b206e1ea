"""Errors inside our hooks never reach the cell, neither its result nor its streams. `%hh` reports each once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel.driver import Kernel, kernel_with

BREAK = """
import hh_jupyter.notebook.guard as guard
ext = get_ipython()._hh
outputs = ext._outputs
broken = []

def break_(owner, name, error):
    original = getattr(owner, name)
    def fail(*args, **kwargs):
        raise error("sk-live-4242424242424242 is in the message")
    broken.append((owner, name, original))
    setattr(owner, name, fail)

def restore():
    while broken:
        setattr(*broken.pop())
    guard._failures.clear()

def module(name):
    import importlib
    return importlib.import_module("hh_jupyter.notebook." + name)
"""

PLACES = {
    "before the cell": ("ext._settings", "apply_changes"),
    "joining": ("ext._tracer.provider_binding", "join_new_global_providers"),
    "opening": ("ext._cells", "_open"),
    "attaching": ("module('cells')", "with_cell"),
    "closing": ("ext._cells", "_undo"),
    "finishing": ("ext._cells", "_on_cell_end"),
    "sealing": ("module('outputs').registry", "wait_all_processed"),
    "flushing": ("outputs._delivery", "wait"),
    "the view": ("module('views')", "summarize"),
    "the front end": ("module('places').KernelPlace", "show"),
    "the place": ("outputs._front_end", "place_below"),
    "the listener": ("outputs", "_show_late"),
    "a session": ("type(ext._sessions)", "remember"),
    "the state": ("outputs._views", "export"),
}


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with kernel_with(tmp_path_factory.mktemp("kernel")) as made:
        assert made.run(BREAK).reply == "ok"
        yield made


# An interrupt in the user's own time, or in a thread, is the user's.
NOT_INTERRUPTED = {"the listener", "a session"}
CASES = [
    *((place, "RuntimeError") for place in PLACES),
    *((place, "KeyboardInterrupt") for place in PLACES if place not in NOT_INTERRUPTED),
]


@pytest.mark.parametrize(("place", "error"), CASES)
def test_a_failure_changes_no_cell_and_is_reported_once(kernel: Kernel, place: str, error: str) -> None:
    owner, name = PLACES[place]
    assert kernel.run(f"break_({owner}, {name!r}, {error})").reply == "ok"
    cells = [
        kernel.run("span('sync'); 'sync'"),
        kernel.run("await asyncio.sleep(0); span('await'); 'await'"),
        kernel.run("hh.get_tracer().create_session('made'); 'made'"),
        kernel.run("print('before'); 1 / 0"),
    ]
    reported = kernel.value("guard.failure_lines()")
    kernel.run("restore()")
    kernel.run("%hh_session --end")
    assert [cell.results for cell in cells] == [["'sync'"], ["'await'"], ["'made'"], []]
    assert [cell.stdout for cell in cells] == ["", "", "", "before\n"]
    assert [cell.stderr for cell in cells] == [""] * 4
    assert [[name for name, _ in cell.errors] for cell in cells] == [[], [], [], ["ZeroDivisionError"]]
    if error == "RuntimeError":
        # What fails at a cell's end is tried again at the next one's start.
        assert len(reported) == (2 if place == "closing" else 1), reported
        assert "RuntimeError" in reported[0]
    assert "4242" not in str(reported)
    after = kernel.run("span('after')")
    assert "after" in after.output.text


def test_status_reports_a_failure_with_its_place(kernel: Kernel) -> None:
    assert kernel.run("break_(ext._cells, '_on_cell_end', ZeroDivisionError)").reply == "ok"
    kernel.run("1")
    kernel.run("2")
    reported = kernel.run("%hh").stdout
    assert reported.count("trouble") == 1
    assert "hh_jupyter failed in Cells.post_run_cell (ZeroDivisionError" in reported
    assert "times; your cells are not affected" in reported
    kernel.run("restore()")
    assert "trouble" not in kernel.run("%hh").stdout


def test_a_failing_transformer_leaves_the_cell_unchanged(kernel: Kernel) -> None:
    assert kernel.run("break_(module('session_magic'), '_first_code', RuntimeError)").reply == "ok"
    cells = kernel.run("1 + 1"), kernel.run("await asyncio.sleep(0)\n2 + 2")
    kernel.run("restore()")
    assert [cell.results for cell in cells] == [["2"], ["4"]]
    assert [cell.stderr for cell in cells] == ["", ""]
