"""Loading registers one of everything, says one line and waits for nothing; unloading undoes all of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from hh_jupyter.testing import Backend
from tests.kernel.conftest import KEY, StartKernel
from tests.kernel.driver import PRELUDE, Kernel, row_of

REGISTERED = """{
    "hooks": [len(get_ipython().events.callbacks[name]) for name in ("pre_run_cell", "post_execute", "post_run_cell")],
    "transformers": len(get_ipython().input_transformers_cleanup),
    "configurables": sorted(n for c in get_ipython().configurables if (n := type(c).__name__).startswith("HH")),
    "magics": sorted(m for kind in get_ipython().magics_manager.magics.values() for m in kind if m.startswith("hh")),
    "registry": "HHMagics" in get_ipython().magics_manager.registry,
    "entry": hasattr(get_ipython(), "_hh"),
    "matchers": len(getattr(get_ipython().Completer, "custom_matchers", ())),
    "completers": len(get_ipython().strdispatchers["complete_command"].strs),
    "threads": sorted(t.name for t in __import__("threading").enumerate()),
    "comms": len(__import__("comm").get_comm_manager().comms),
    "wrapped": [__import__("threading").Thread.start.__module__,
                __import__("concurrent.futures").futures.ThreadPoolExecutor.submit.__module__,
                __import__("opentelemetry.trace").trace.set_tracer_provider.__module__],
    "log handlers": [len(__import__("logging").getLogger(name).handlers) for name in ("", "hh_jupyter")],
    "alive": (__import__("gc").collect(), sum(type(o).__name__ in ("Extension", "Cells", "Outputs", "HoneyHiveTracer")
              and type(o).__module__.startswith("hh_jupyter") for o in __import__("gc").get_objects()))[1],
    "baggage": dict(__import__("opentelemetry.context").context.get_current()),
}"""


def test_local_mode_is_reported_in_one_line(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        cell = kernel.run("%load_ext hh_jupyter")
        assert cell.stdout == ("hh: local mode, nothing leaves this machine. %hh login to send. %hh? for help\n")
        assert (cell.stderr, cell.outputs, cell.reply) == ("", [], "ok")


@pytest.mark.slow
def test_sending_is_reported_in_one_line_without_waiting_for_the_backend(tmp_path: Path) -> None:
    with Backend(hang=("/",)) as backend:
        env = {"HH_API_KEY": KEY, "HH_API_URL": backend.url, "HH_SESSION_NAME": "refund-agent"}
        with Kernel(tmp_path, env) as kernel:
            cell = kernel.run("%load_ext hh_jupyter")
            host = backend.url.removeprefix("http://")
            assert cell.stdout == f"hh: sending to {host} as dev, session refund-agent. %hh? for help\n"
            assert backend.requests == []


def test_the_loading_cell_is_traced_and_its_session_ends(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        cell = kernel.run(f"%load_ext hh_jupyter\n{PRELUDE}\nspan('while-loading')")
        assert "while-loading" in cell.output.text
        assert kernel.value("rows()")[0][2] == str(cell.count)
        after = kernel.run("span('after')")
        assert kernel.value("rows()")[1][2] == str(after.count)
        assert cell.stderr == after.stderr == ""


def test_loading_in_a_cell_with_await_works_the_same(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        cell = kernel.run(f"{PRELUDE}\nawait asyncio.sleep(0)\n%load_ext hh_jupyter\nspan('while-loading')")
        assert "while-loading" in cell.output.text
        after = kernel.run("span('after')")
        assert kernel.value("rows()")[1][2] == str(after.count)
        assert cell.stderr == after.stderr == ""


def assert_each_cell_has_its_own(kernel: Kernel) -> None:
    """The next cells, of both kinds, have outputs and numbers of their own, and are found by them."""
    for code in ("span('first')", "await asyncio.sleep(0); span('second')", "span('third')"):
        name = code.rpartition("span('")[2].partition("'")[0]
        cell = kernel.run(code)
        assert [name in output.text for output in cell.outputs] == [True]
        assert row_of(kernel, name).cell == str(cell.count)
    shown = kernel.run("%hh show last").output.text
    assert "third" in shown
    assert "first" not in shown


@pytest.mark.slow
def test_a_cell_that_loads_with_a_run_of_files_is_traced_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "setup.ipy").write_text(f"%load_ext hh_jupyter\n{PRELUDE}\nspan('in-setup')\n%run more.ipy\n")
    (tmp_path / "more.ipy").write_text("span('in-more')")
    with Kernel(tmp_path) as kernel:
        cell = kernel.run("%run setup.ipy\nspan('after-setup')")
        for name in ("in-setup", "in-more", "after-setup"):
            assert name in cell.output.html
            assert row_of(kernel, name).cell == str(cell.count)
        assert_each_cell_has_its_own(kernel)


@pytest.mark.slow
def test_a_cell_whose_setup_fails_after_loading_shows_its_spans(tmp_path: Path) -> None:
    (tmp_path / "setup.ipy").write_text(f"%load_ext hh_jupyter\n{PRELUDE}\nspan('in-setup')\n1 / 0\n")
    with Kernel(tmp_path) as kernel:
        cell = kernel.run("%run setup.ipy")
        assert cell.ename == "ZeroDivisionError"
        assert "in-setup" in cell.output.text
        assert_each_cell_has_its_own(kernel)


@pytest.mark.slow
def test_loading_after_another_file_has_run_traces_the_cell(tmp_path: Path) -> None:
    (tmp_path / "first.ipy").write_text("x = 1")
    with Kernel(tmp_path) as kernel:
        cell = kernel.run(f"%run first.ipy\n%load_ext hh_jupyter\n{PRELUDE}\nspan('while-loading')")
        assert "while-loading" in cell.output.text


@pytest.mark.slow
@pytest.mark.parametrize(
    "code", ["get_ipython().run_cell('%load_ext hh_jupyter', store_history=True)", "run('1')\n%load_ext hh_jupyter"]
)
def test_cells_keep_their_numbers_although_others_ran_in_the_one_that_loads(tmp_path: Path, code: str) -> None:
    with Kernel(tmp_path) as kernel:
        kernel.run(f"def run(code): get_ipython().run_cell(code, store_history=True)\n{code}")
        kernel.run(PRELUDE)
        assert_each_cell_has_its_own(kernel)


@pytest.mark.slow
def test_a_silent_request_that_loads_shows_nothing_and_is_no_cell(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        silent = kernel.run(f"%load_ext hh_jupyter\n{PRELUDE}\nspan('silent')", silent=True, store_history=False)
        assert (silent.reply, silent.outputs) == ("ok", [])
        assert row_of(kernel, "silent").cell is None
        assert_each_cell_has_its_own(kernel)


@pytest.mark.slow
def test_a_startup_file_in_ipythons_syntax_can_load_and_set_a_session(tmp_path: Path) -> None:
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00.ipy").write_text(f"%load_ext hh_jupyter\n{PRELUDE}\n%hh_session nightly\nspan('at-startup')")
    (startup / "01.ipy").write_text("%%hh_session warm-up\nspan('warm-up')")
    with Kernel(tmp_path) as kernel:
        assert_each_cell_has_its_own(kernel)
        titles = kernel.value("get_ipython()._hh.titles()")
        named = {name: titles[row_of(kernel, name).session] for name in ("at-startup", "warm-up", "first", "second")}
        assert named == {"at-startup": "nightly", "warm-up": "warm-up", "first": "nightly", "second": "nightly"}
        kernel.run("%hh_session --end\nspan('own')")
        assert titles.get(row_of(kernel, "own").session) is None


def registered(kernel: Kernel, *, comms: int = 0) -> dict[str, Any]:
    """What is registered, once so many comms are open: the hub opens after its first output was shown, on a thread.

    Another thread looks for what dead kernels left, and ends.
    """
    deadline = time.monotonic() + 60
    while True:
        found: dict[str, Any] = kernel.value(REGISTERED)
        if found["comms"] == comms and "hh_jupyter-adopter" not in found["threads"]:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


@pytest.mark.slow
def test_one_of_everything_after_ten_reloads(fresh: Kernel) -> None:
    fresh.run("span('traced')", cell_id="a-notebook's")
    before = registered(fresh, comms=2)
    for _ in range(10):
        cell = fresh.run("%reload_ext hh_jupyter")
        assert cell.stdout.count("hh: ") == 1
        assert cell.stderr == ""
    fresh.run("%load_ext hh_jupyter")
    cell = fresh.run("span('once')", cell_id="a-notebook's")
    after = registered(fresh, comms=2)
    assert {**after, "baggage": 0} == {**before, "baggage": 0}
    assert len(cell.outputs) == 1
    assert "once" in cell.output.text
    assert [name for name, _, _ in fresh.value("rows()")].count("once") == 1


@pytest.mark.slow
def test_unloading_leaves_nothing_behind(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        # What the extension imports starts no thread and registers nothing by itself.
        kernel.run("import hh_jupyter.notebook.extension, hh_jupyter.display.hub, anywidget")
        before = registered(kernel)
        kernel.run(f"%load_ext hh_jupyter\n{PRELUDE}")
        kernel.run("span('traced')", cell_id="a-notebook's")
        registered(kernel, comms=2)
        kernel.run("%hh instrument")
        unloading = kernel.run("span('last words')\n%unload_ext hh_jupyter\nprint('unloaded')")
        assert (unloading.reply, unloading.stderr) == ("ok", "")
        assert registered(kernel) == before
        after = kernel.run("import hh_jupyter as hh\n@hh.trace\ndef f(): return 1\nf()")
        assert (after.reply, after.outputs, after.results) == ("ok", [], ["1"])


@pytest.mark.slow
def test_a_tracer_made_before_loading_is_used_and_not_shut_down(tmp_path: Path, backend: Backend) -> None:
    with Kernel(tmp_path) as kernel:
        kernel.run(f"{PRELUDE}\nt = hh.HoneyHiveTracer.init(api_key={KEY!r}, server_url={backend.url!r})")
        assert "hh: sending to" in kernel.run("%load_ext hh_jupyter").stdout
        assert "sent" in kernel.run("span('theirs')").output.text
        kernel.run("%unload_ext hh_jupyter")
        kernel.run("span('still-theirs'); t.force_flush()")
        assert len(backend.spans("theirs") + backend.spans("still-theirs")) == 2


@pytest.mark.slow
def test_an_invalid_configuration_value_does_not_prevent_a_reload(fresh: Kernel) -> None:
    refused = fresh.run("%config HHJupyter.display = 'purple'")
    assert "one of auto, line, tree, off" in refused.stderr
    cell = fresh.run("%reload_ext hh_jupyter")
    assert cell.reply == "ok"
    assert cell.stdout.startswith("hh: ")
    assert len(fresh.run("span('still traced')").outputs) == 1


@pytest.mark.slow
def test_changed_variables_apply_to_the_next_cell(start_kernel: StartKernel, backend: Backend) -> None:
    kernel = start_kernel()
    kernel.run(f"import os\nos.environ |= {{'HH_API_KEY': {KEY!r}, 'HH_API_URL': {backend.url!r}}}")
    kernel.run("span('now-sent')")
    assert backend.wait_for(lambda b: b.spans("now-sent"))
