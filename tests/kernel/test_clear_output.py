"""A `clear_output(wait=True)` that waits for the next output is the user's: no output of ours ends it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.kernel.driver import PROJECT, Cell, Kernel, kernel_with

SETUP = "from IPython.display import clear_output, display\nimport ipywidgets\nout = ipywidgets.Output()"


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with kernel_with(tmp_path_factory.mktemp("kernel")) as made:
        made.run(SETUP)
        yield made


def page(cell: Cell) -> list[str]:
    """What a client shows under the cell in the end."""
    shown: list[str] = []
    waits, last = False, ""
    for kind, content in cell.messages:
        if kind == "clear_output":
            waits = content["wait"]
            shown, last = shown if waits else [], ""
        if kind not in ("stream", "display_data", "execute_result", "error"):
            continue
        if waits:
            shown, waits = [], False
        if kind == last == "stream":  # The kernel may send a line in several parts.
            shown[-1] += content["text"]
            continue
        last = kind
        shown.append(content.get("text") or content.get("ename") or content["data"]["text/plain"])
    return shown


KEPT = {
    "at the end": ("print('kept'); span('one'); clear_output(wait=True)", ["kept\n"]),
    "positional": ("print('kept'); span('one'); clear_output(True)", ["kept\n"]),
    "at the end of a loop": (
        "for n in range(3):\n    span('one'); print(n)\n    clear_output(wait=True)",
        ["2\n"],
    ),
    "in a session": ("%%hh_session kept\nprint('kept'); span('one'); clear_output(wait=True)", ["kept\n"]),
    "with await": ("await asyncio.sleep(0); print('kept'); span('one'); clear_output(wait=True)", ["kept\n"]),
    "by the publisher": ("print('kept'); span('one'); get_ipython().display_pub.clear_output(wait=True)", ["kept\n"]),
    "with a result that is None": ("print('kept'); span('one'); clear_output(wait=True); None", ["kept\n"]),
    "in a thread": (
        "print('kept'); span('one')\nt = threading.Thread(target=clear_output, args=(True,)); t.start(); t.join()",
        ["kept\n"],
    ),
}


@pytest.mark.parametrize(("code", "kept"), KEPT.values(), ids=KEPT)
def test_what_the_cell_shows_stays(kernel: Kernel, code: str, kept: list[str]) -> None:
    cell = kernel.run(code)
    assert cell.reply == "ok"
    assert page(cell) == kept
    assert "one" in kernel.run("%hh show last").output.text


SHOWN = {
    "text after it": ("span('one'); clear_output(wait=True); print('new')", "new\n"),
    "text without a line end": ("span('one'); clear_output(wait=True); print('new', end='')", "new"),
    "text on stderr": ("import sys; span('one'); clear_output(wait=True); print('new', file=sys.stderr)", "new\n"),
    "a display after it": ("span('one'); clear_output(wait=True); display('new')", "'new'"),
    "a result after it": ("span('one'); clear_output(wait=True); 'new'", "'new'"),
    "an error after it": ("print('old'); span('one'); clear_output(wait=True); 1 / 0", "ZeroDivisionError"),
    "one that does not wait": ("span('one'); print('old'); clear_output()", None),
    "one that does not wait after it": ("span('one'); print('old'); clear_output(True); clear_output()", None),
    "a figure that is flushed after the cell": (
        """
def flush():
    get_ipython().events.unregister('post_execute', flush); display('new')
get_ipython().events.register('post_execute', flush)
print('old'); span('one'); clear_output(wait=True)""",
        "'new'",
    ),
}


@pytest.mark.parametrize(("code", "last"), SHOWN.values(), ids=SHOWN)
def test_the_summary_is_shown_where_it_erases_nothing(kernel: Kernel, code: str, last: str | None) -> None:
    shown = page(kernel.run(code))
    assert "one" in shown[-1]
    assert shown[:-1] == ([] if last is None else [last])


@pytest.mark.parametrize("clear", ["out.clear_output(wait=True)", "with out: clear_output(wait=True)"])
def test_a_clear_in_an_output_widget_is_the_widgets(kernel: Kernel, clear: str) -> None:
    cell = kernel.run(f"print('kept'); span('one')\n{clear}")
    assert [one for one in cell.kinds if one == "display"] == ["display"]
    assert "one" in cell.output.text


def test_a_clear_in_the_cell_counts_although_a_widget_was_used(kernel: Kernel) -> None:
    cell = kernel.run("with out:\n    print('in the widget')\nprint('kept'); span('one'); clear_output(wait=True)")
    assert cell.outputs == []


def test_a_late_span_erases_nothing(kernel: Kernel) -> None:
    cell = kernel.run("print('kept'); s = hh.get_tracer().start_span('late'); s.__enter__(); clear_output(wait=True)")
    kernel.run("s.__exit__(None, None, None)")
    kernel.run("span('next')")
    assert page(cell) == ["kept\n"]


def test_a_late_span_erases_nothing_that_a_thread_shows(kernel: Kernel) -> None:
    kernel.run("""
def show():
    while not Path('go').exists():
        time.sleep(0.01)
    print('kept'); clear_output(wait=True)""")
    folder = Path(kernel.run("from pathlib import Path; print(Path.cwd())").stdout.strip())
    cell = kernel.run(
        "threading.Thread(target=show).start(); s = hh.get_tracer().start_span('late'); _ = s.__enter__()"
    )
    (folder / "go").touch()
    kernel.wait_for(lambda: any(kind == "clear_output" for kind, _ in cell.messages), "nothing was cleared")
    kernel.run("_ = s.__exit__(None, None, None)")
    kernel.run("%reload_ext hh_jupyter")  # Makes pending updates first.
    assert page(cell) == ["kept\n"]


def test_the_hint_for_untraced_libraries_erases_nothing(fresh: Kernel) -> None:
    fresh.run(f"{SETUP}\nget_ipython()._hh._untraced.for_cell = lambda cell: 'hh: a hint'")
    assert page(fresh.run("print('kept'); clear_output(wait=True)")) == ["kept\n"]
    assert page(fresh.run("print('text')")) == ["text\nhh: a hint\n"]


def test_unloading_restores_the_session(tmp_path: Path) -> None:
    with kernel_with(tmp_path) as kernel:
        sends = "'send' in get_ipython().kernel.session.__dict__"
        assert kernel.value(sends)
        kernel.run("%unload_ext hh_jupyter")
        assert not kernel.value(sends)


def test_a_saved_notebook_keeps_the_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    code = (
        "%load_ext hh_jupyter\nimport hh_jupyter as hh\nfrom IPython.display import clear_output, display",
        """
for n in range(2):
    with hh.get_tracer().start_span('step'):
        display(f'figure {n}')
    clear_output(wait=True)""",
        "with hh.get_tracer().start_span('next'):\n    print('text')",
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in code])
    NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert [one["data"]["text/plain"] for one in notebook.cells[1].outputs] == ["'figure 1'"]
