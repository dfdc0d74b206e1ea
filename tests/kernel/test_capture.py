"""Outputs are shown wherever the extension was loaded, and a capture holds the final state of what it captured."""

from __future__ import annotations

from pathlib import Path

import pytest

from hh_jupyter.testing import Backend
from tests.kernel.conftest import KEY, StartKernel
from tests.kernel.driver import PRELUDE, Kernel

LOADING = {
    "by %%capture": "%%capture\n%load_ext hh_jupyter",
    "by %%capture into a variable, nested": "%%capture outer\n%%capture inner\n%load_ext hh_jupyter",
    "by capture_output in a function": """
from IPython.utils import io
def load():
    with io.capture_output() as captured:
        get_ipython().run_line_magic("load_ext", "hh_jupyter")
    return captured
captured = load()""",
    "by redirect_stdout": """
import contextlib, io
with contextlib.redirect_stdout(io.StringIO()):
    get_ipython().run_line_magic("load_ext", "hh_jupyter")""",
    "by a publisher that the kernel replaces later": """
from IPython.core.displaypub import CapturingDisplayPublisher
real, get_ipython().display_pub = get_ipython().display_pub, CapturingDisplayPublisher()
get_ipython().run_line_magic("load_ext", "hh_jupyter")
get_ipython().display_pub = real""",
}


@pytest.mark.slow
@pytest.mark.parametrize("loading", LOADING.values(), ids=LOADING)
def test_a_captured_load_hides_no_later_output(loading: str, tmp_path: Path, backend: Backend) -> None:
    env = {"HH_API_KEY": KEY, "HH_API_URL": backend.url, "HH_CELL_FLUSH_SECONDS": "0.01"}
    with Kernel(tmp_path, env) as kernel:
        cell = kernel.run(loading)
        assert (cell.reply, cell.stderr, cell.outputs) == ("ok", "", [])
        kernel.run(PRELUDE)
        shown = kernel.run("span('shown')")
        assert "shown" in shown.output.text
        kernel.wait_for(lambda: "sent" in shown.output.text, "the output was never updated")
        late = kernel.run("started = hh.get_tracer().start_span('late'); _ = started.__enter__()")
        kernel.run("_ = started.__exit__(None, None, None)")
        kernel.wait_for(lambda: bool(late.outputs), "a span that ended late was never shown")
        assert "trouble" not in kernel.run("%hh").stdout


PLAIN_PUBLISHER = """
from IPython.core.displaypub import DisplayPublisher
class Plain(DisplayPublisher):
    def publish(self, data, metadata=None, source=None, *, transient=None, update=False, **kwargs):
        real.publish(data, metadata, transient=transient, update=update)
    def set_parent(self, parent):
        real.set_parent(parent)
    def clear_output(self, wait=False):
        real.clear_output(wait)
real, get_ipython().display_pub = get_ipython().display_pub, Plain()
"""


@pytest.mark.parametrize("order", ["before", "after"])
def test_a_publisher_with_publish_only_is_enough(order: str, tmp_path: Path, backend: Backend) -> None:
    """As those of xeus-python and Pyodide, which have no `parent_header` and no session."""
    env = {"HH_API_KEY": KEY, "HH_API_URL": backend.url, "HH_CELL_FLUSH_SECONDS": "0.01"}
    with Kernel(tmp_path, env) as kernel:
        first, second = (PLAIN_PUBLISHER, "%load_ext hh_jupyter")[:: 1 if order == "before" else -1]
        assert kernel.run(first).reply == kernel.run(second).reply == "ok"
        kernel.run(PRELUDE)
        shown = kernel.run("span('shown')")
        kernel.wait_for(lambda: "sent" in shown.output.text, "the output was never updated")
        assert "shown" in kernel.run("%hh show last").output.text
        assert kernel.run("1").outputs == []
        assert "trouble" not in kernel.run("%hh").stdout


def test_a_captured_cell_has_its_summary_on_the_page(fresh: Kernel) -> None:
    for _ in range(2):
        cell = fresh.run("%%capture c\nprint('hidden'); span('captured')")
        assert cell.stdout == ""
        assert "captured" in cell.output.text
    assert fresh.value("[c.stdout, len(c.outputs)]") == ["hidden\n", 1]  # The result of the last expression.


SLOW_RUN = """
from hh_jupyter.experiments import progress
progress.REDRAW_SECONDS = 0.0
def shout(datapoint): return datapoint["inputs"]["n"]
def run(): return hh.evaluate(shout, dataset=[{"inputs": {"n": n}} for n in range(4)], name="numbers")
"""

CAPTURED_RUNS = {
    "%%capture": ("%%capture c\nresult = run()", "c.outputs"),
    "nested captures": ("%%capture outer\n%%capture c\nresult = run()", "c.outputs"),
    "capture_output": (
        "from IPython.utils import io\nwith io.capture_output() as c:\n    result = run()\n    print('after')",
        "c.outputs",
    ),
    "as the last expression": ("%%capture c\nrun()", "c.outputs"),
}


@pytest.mark.parametrize(("code", "outputs"), CAPTURED_RUNS.values(), ids=CAPTURED_RUNS)
def test_a_captured_run_holds_its_result_once(fresh: Kernel, code: str, outputs: str) -> None:
    fresh.run(SLOW_RUN)
    cell = fresh.run(code)
    assert (cell.reply, cell.outputs) == ("ok", [])
    texts = fresh.value(f"[one.data['text/plain'] for one in {outputs}]")
    assert len(texts) == 1
    assert "4 rows" in texts[0]
    shown = fresh.run("c.show()")
    assert "4 rows" in shown.output.text


def test_a_captured_output_gets_the_changes_that_come_after_the_capture(
    start_kernel: StartKernel, backend: Backend
) -> None:
    kernel = start_kernel()
    kernel.run("started = hh.get_tracer().start_span('late'); _ = started.__enter__()\nspan('first')")
    kernel.run("%%capture c\n%hh show 2")
    assert kernel.value("[len(c.outputs), 'late' in c.outputs[0].data['text/plain']]") == [1, False]
    shown = kernel.run("c.show()")
    kernel.run("_ = started.__exit__(None, None, None)")
    kernel.wait_for(lambda: "late" in shown.output.text, "the shown copy was never updated")
    assert kernel.value("[len(c.outputs), 'late' in c.outputs[0].data['text/plain']]") == [1, True]


def test_a_run_in_an_output_widget_shows_its_result_without_updates(fresh: Kernel) -> None:
    """Clients do not update what such a widget holds."""
    fresh.run(SLOW_RUN)
    cell = fresh.run("import ipywidgets\nout = ipywidgets.Output()\nwith out:\n    result = run()")
    assert len(cell.outputs) == 1
    assert len(cell.output.versions) == 1
    assert "4 rows" in cell.output.text
    after = fresh.run("result = run()")
    assert len(after.output.versions) > 1
