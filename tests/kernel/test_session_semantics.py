"""Which session a cell's spans belong to: by the notebook's name, a magic, or the user's own calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.conftest import StartKernel
from tests.kernel.driver import PRELUDE, Kernel, row_of

AWAIT = "await asyncio.sleep(0)\n"
KINDS = pytest.mark.parametrize("wait", ["", AWAIT], ids=["sync", "await"])


def session_name(kernel: Kernel) -> str:
    """Of the session in force, without its id."""
    return kernel.run("%hh_session").stdout.removeprefix("hh: session ").rpartition(" ")[0]


@pytest.fixture(scope="module")
def own(local: Kernel) -> str:
    """The notebook's own session."""
    local.run("span('own')")
    return row_of(local, "own").session


def assert_back(kernel: Kernel, own: str, after: str) -> None:
    """Following cells of both kinds are in the notebook's session."""
    for number, wait in enumerate(("", AWAIT)):
        kernel.run(f"{wait}span('{after}-{number}')")
        assert row_of(kernel, f"{after}-{number}").session == own


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env", "before_load", "name"),
    [
        ({"JPY_SESSION_NAME": "/home/me/work/refund agent.v2.ipynb"}, "", "refund agent.v2"),
        ({"JPY_SESSION_NAME": "console-1"}, "", "notebook"),
        ({"JPY_SESSION_NAME": "x.ipynb"}, "__vsc_ipynb_file__ = '/home/me/vs code.ipynb'", "vs code"),
        ({"JPY_SESSION_NAME": "x.ipynb", "HH_SESSION_NAME": "nightly"}, "", "nightly"),
        ({}, "", "notebook"),
    ],
    ids=["jupyter", "console", "vs code", "variable", "nobody"],
)
def test_the_first_session_has_the_name_of_the_notebook(
    tmp_path: Path, env: dict[str, str], before_load: str, name: str
) -> None:
    with Kernel(tmp_path, env) as kernel:
        kernel.run(before_load, silent=True, store_history=False)
        kernel.run(f"%load_ext hh_jupyter\n{PRELUDE}")
        assert session_name(kernel) == name


def test_a_notebook_name_set_after_loading_is_used_until_the_first_cell(tmp_path: Path) -> None:
    """A startup file loads while the kernel starts; VS Code sets its variable after that."""
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "50-hh.py").write_text("get_ipython().extension_manager.load_extension('hh_jupyter')")
    with Kernel(tmp_path) as kernel:
        kernel.run("__vsc_ipynb_file__ = '/home/me/told late.ipynb'", silent=True, store_history=False)
        kernel.run(PRELUDE)
        assert session_name(kernel) == "told late"
        kernel.run("span('in-it'); __vsc_ipynb_file__ = '/home/me/other.ipynb'")
        assert session_name(kernel) == "told late"


@pytest.mark.parametrize(
    "cell",
    [
        "span({0!r})",
        "await asyncio.sleep(0); span({0!r})",
        "%%time\nspan({0!r})",
        "%%capture\nspan({0!r})",
        'get_ipython().run_cell("span({0!r})")',
        "%timeit -n1 -r1 span({0!r})",
        "thread = threading.Thread(target=span, args=[{0!r}]); thread.start(); thread.join()",
        "await asyncio.gather(asyncio.to_thread(span, {0!r}))",
    ],
    ids=["sync", "await", "time", "capture", "run_cell", "timeit", "thread", "gather"],
)
@pytest.mark.parametrize("wait", ["", AWAIT], ids=["set in sync", "set in await"])
def test_the_line_magic_lasts_across_cells_of_every_kind(local: Kernel, own: str, wait: str, cell: str) -> None:
    name = f"lasting-{len(cell)}-{len(wait)}"
    local.run(f"{wait}%hh_session lasting\nspan('at {name}')")
    ran = local.run(cell.format(name))
    assert (ran.reply, ran.stderr) == ("ok", "")
    assert row_of(local, name).session == row_of(local, f"at {name}").session != own
    local.run("%hh_session --end")
    assert_back(local, own, f"after {name}")


BLOCKS = {
    "with_session": "with hh.get_tracer().with_session('block'):\n    {call}",
    "async with_session": "async with hh.get_tracer().with_session('block'):\n    {call}",
    "span": "with hh.get_tracer().start_span('block'):\n    {call}",
    "traced": "@hh.trace\ndef traced():\n    {call}\ntraced()",
    "traced async": "@hh.trace\nasync def traced():\n    {call}\nawait traced()",
    "task": "async def task():\n    {call}\nawait asyncio.create_task(task())",
    "thread": "def thread():\n    {call}\nawait asyncio.to_thread(thread)",
    "started thread": "def thread():\n    {call}\nt = threading.Thread(target=thread); t.start(); t.join()",
}


@pytest.mark.parametrize("block", BLOCKS)
def test_a_session_created_in_a_block_a_task_or_a_thread_ends_there(local: Kernel, own: str, block: str) -> None:
    inside, after = f"inside {block}", f"after {block}"
    call = f"hh.get_tracer().create_session('inner'); span({inside!r})"
    cell = local.run(f"{BLOCKS[block].format(call=call)}\nspan({after!r})")
    assert (cell.reply, cell.stderr) == ("ok", "")
    assert row_of(local, inside).session != own
    assert row_of(local, after).session == own
    assert session_name(local) == "notebook"
    assert_back(local, own, f"next after {block}")


@KINDS
@pytest.mark.parametrize("call", ["{t}.create_session('made')", "await {t}.acreate_session('made')", "make()"])
def test_a_session_created_in_a_session_cell_continues_after_it(local: Kernel, own: str, wait: str, call: str) -> None:
    name = f"made-{len(call)}-{len(wait)}"
    local.run("def make(): return hh.get_tracer().create_session('made')")
    cell = local.run(
        f"%%hh_session around\n{wait}span('around-{name}')\n{call.format(t='hh.get_tracer()')};span('{name}')"
    )
    assert (cell.reply, cell.stderr) == ("ok", "")
    local.run(f"span('next-{name}')")
    local.run(f"{AWAIT}span('third-{name}')")
    made = row_of(local, name).session
    assert made not in (own, row_of(local, f"around-{name}").session)
    assert row_of(local, f"next-{name}").session == row_of(local, f"third-{name}").session == made
    local.run("%hh_session --end")
    assert_back(local, own, f"end-{name}")


@pytest.mark.slow
@KINDS
@pytest.mark.parametrize("where", ["hh_jupyter.notebook.cells.detach", "hh_jupyter.notebook.cells.otel.get_current"])
def test_an_interrupt_inside_the_hook_ends_the_session(start_kernel: StartKernel, where: str, wait: str) -> None:
    kernel = start_kernel()
    kernel.run("span('own')")
    kernel.run(
        "import hh_jupyter.notebook.cells as cells, types\n"
        f"real = {where.replace('hh_jupyter.notebook.', '')}\n"
        "hits = []\n"
        "def interrupted(*args):\n"
        "    import sys\n"
        "    if sys._getframe(1).f_code.co_name == '_undo' and not hits:\n"
        "        hits.append(1); raise KeyboardInterrupt\n"
        "    return real(*args)\n"
    )
    if "otel" in where:
        kernel.run("cells.otel = types.SimpleNamespace(**vars(cells.otel)); cells.otel.get_current = interrupted")
    else:
        kernel.run("cells.detach = interrupted")
    kernel.value("hits.clear()")
    cell = kernel.run(f"%%hh_session hit\n{wait}span('in-hit')")
    assert (cell.reply, cell.stderr, cell.errors) == ("ok", "", [])
    assert kernel.value("len(hits)") == (0 if wait else 1), "an await cell has nothing to undo"
    assert_back(kernel, row_of(kernel, "own").session, "after-hit")
    assert len(kernel.run("span('shown')").outputs) == 1
