"""What fails inside our hooks never reaches the cell: not its result, not its streams. `%hh` says it, once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel.driver import Kernel, kernel_with

BREAK = """
import hh_jupyter.notebook.guard as boundary
ext = get_ipython()._hh
outputs = ext._outputs
broken = []

def break_(owner, name, error):
    original = getattr(owner, name)
    def fail(*args, **kwargs):
        raise error("sk-live-4242424242424242 is what it said")
    broken.append((owner, name, original))
    setattr(owner, name, fail)

def mend():
    while broken:
        setattr(*broken.pop())
    boundary._failures.clear()

def module(name):
    import importlib
    return importlib.import_module("hh_jupyter.notebook." + name)
"""

PLACES = {
    "before the cell": ("ext._settings", "apply_changes"),
    "joining": ("ext._tracer.span_source", "join_later"),
    "opening": ("ext._cells", "_open"),
    "attaching": ("module('cells')", "with_cell"),
    "closing": ("ext._cells", "_undo"),
    "finishing": ("ext._cells", "_finished"),
    "sealing": ("module('outputs').registry", "seal_all"),
    "flushing": ("outputs._delivery", "wait"),
    "the view": ("module('views')", "summarize"),
    "the front end": ("outputs._front_end", "show"),
    "the parent": ("outputs._front_end", "current_parent"),
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
def test_a_failure_changes_no_cell_and_is_told_once(kernel: Kernel, place: str, error: str) -> None:
    owner, name = PLACES[place]
    assert kernel.run(f"break_({owner}, {name!r}, {error})").reply == "ok"
    cells = [
        kernel.run("span('sync'); 'sync'"),
        kernel.run("await asyncio.sleep(0); span('await'); 'await'"),
        kernel.run("hh.get_tracer().create_session('made'); 'made'"),
        kernel.run("print('before'); 1 / 0"),
    ]
    said = kernel.value("boundary.failure_lines()")
    kernel.run("mend()")
    kernel.run("%hh_session --end")
    assert [cell.results for cell in cells] == [["'sync'"], ["'await'"], ["'made'"], []]
    assert [cell.stdout for cell in cells] == ["", "", "", "before\n"]
    assert [cell.stderr for cell in cells] == [""] * 4
    assert [[name for name, _ in cell.errors] for cell in cells] == [[], [], [], ["ZeroDivisionError"]]
    if error == "RuntimeError":
        # What fails at a cell's end is tried again at the next one's start.
        assert len(said) == (2 if place == "closing" else 1), said
        assert "RuntimeError" in said[0]
    assert "4242" not in str(said)
    after = kernel.run("span('after')")
    assert "after" in after.output.text


def test_status_tells_it_and_where(kernel: Kernel) -> None:
    kernel.run("break_(ext._cells, '_finished', ZeroDivisionError)")
    kernel.run("1")
    kernel.run("2")
    said = kernel.run("%hh").stdout
    assert said.count("trouble") == 1
    assert "hh_jupyter failed in Cells.post_run_cell (ZeroDivisionError" in said
    assert "times; your cells are not affected" in said
    kernel.run("mend()")
    assert "trouble" not in kernel.run("%hh").stdout


def test_a_transformer_that_fails_leaves_the_cell_as_it_is(kernel: Kernel) -> None:
    kernel.run("break_(module('transform'), '_first_code', RuntimeError)")
    cells = kernel.run("1 + 1"), kernel.run("await asyncio.sleep(0)\n2 + 2")
    kernel.run("mend()")
    assert [cell.results for cell in cells] == [["2"], ["4"]]
    assert [cell.stderr for cell in cells] == ["", ""]
