"""Run All twice, unload, restart, autoreload: what a day with a notebook does to an extension."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hh_jupyter.testing import Backend
from tests.kernel.conftest import KEY, StartKernel
from tests.kernel.driver import PRELUDE, PROJECT, Kernel

NOTEBOOK = {
    "load": f"%load_ext hh_jupyter\n{PRELUDE}",
    "define": "@hh.trace\ndef work(): span('inner')",
    "run": "work()",
    "session": "%%hh_session again\nawait asyncio.sleep(0)\nwork()",
}


def run_all(kernel: Kernel) -> dict[str, int]:
    """Run the cells of a notebook from the first to the last; how many outputs each has."""
    outputs = {}
    for cell_id, code in NOTEBOOK.items():
        cell = kernel.run(code, cell_id=cell_id)
        assert (cell.reply, cell.stderr, cell.errors) == ("ok", "", []), cell
        outputs[cell_id] = len(cell.outputs)
    return outputs


def test_run_all_twice_gives_the_same_outputs_and_each_span_once(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        first, second = run_all(kernel), run_all(kernel)
        assert first == second == {"load": 0, "define": 0, "run": 1, "session": 1}
        assert [name for name, _, _ in kernel.value("rows()")].count("inner") == 4
        assert "again #2" in str(list(kernel.value("get_ipython()._hh.titles()").values()))


AGAIN = {
    "get_tracer": "hh.get_tracer()",
    "init": "hh.HoneyHiveTracer.init()",
    "load": "%load_ext hh_jupyter",
}


@pytest.mark.slow
@pytest.mark.parametrize("again", AGAIN)
def test_after_unloading_functions_run_untraced_until_a_tracer_is_asked_for(fresh: Kernel, again: str) -> None:
    fresh.run("@hh.trace\ndef work(): return 7")
    assert len(fresh.run("work()").outputs) == 1
    fresh.run("%unload_ext hh_jupyter")
    assert (cell := fresh.run("work()")).results == ["7"]
    assert (cell.outputs, cell.stderr) == ([], "")
    assert fresh.value("hh.get_default_tracer()") is None
    fresh.run(f"before = len(span_log().records())\n{AGAIN[again]}")
    cell = fresh.run("work(); hh.get_tracer().wait_processed()\nprint(len(span_log().records()) - before)")
    assert cell.stdout.strip().splitlines()[-1] == "1"
    assert len(cell.outputs) == (1 if again == "load" else 0)


@pytest.mark.slow
def test_sessions_are_known_by_name_after_a_reload_and_numbered_on(sending: Kernel) -> None:
    sending.run("span('plain')")
    sending.run("%%hh_session triage\nspan('first')")
    sending.run("%reload_ext hh_jupyter")
    assert "first" in sending.run("%hh show triage").output.text
    sending.run("%%hh_session --join triage\nspan('joined')")
    sending.run("%%hh_session triage\nspan('second')")
    listed = [line.partition("  ")[0] for line in sending.run("%hh sessions").stdout.splitlines()]
    assert listed == ["session", "test-session", "triage", "triage #2"]
    shown = sending.run("%hh show triage --errors").stdout
    assert shown == "hh: no errors in triage #2, 1 span.\n"


@pytest.mark.slow
def test_instrumentors_of_the_users_own_are_neither_replaced_nor_undone(fresh: Kernel) -> None:
    fresh.run(
        "from openinference.instrumentation.openai import OpenAIInstrumentor\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "mine = OpenAIInstrumentor(); mine.instrument(tracer_provider=TracerProvider())\n"
        "import openai"
    )
    assert fresh.run("%hh instrument openai").reply == "ok"
    fresh.run("%unload_ext hh_jupyter")
    assert fresh.value("mine.is_instrumented_by_opentelemetry")
    assert fresh.value("hasattr(openai.OpenAI.request, '__wrapped__')")


@pytest.mark.slow
def test_a_restarted_kernel_begins_anew_and_loses_nothing(start_kernel: StartKernel, backend: Backend) -> None:
    kernel = start_kernel(HH_API_KEY=KEY, HH_API_URL=backend.url)
    kernel.run("span('before')")
    first = kernel.value("hh.get_tracer().session_id")
    kernel.run("late = hh.get_tracer().start_span('never-ended'); late.__enter__(); span('last')")
    kernel.restart()
    assert backend.wait_for(lambda b: b.spans("last")), "what had ended is delivered"
    loaded = kernel.run(f"%load_ext hh_jupyter\n{PRELUDE}")
    assert (loaded.reply, loaded.stderr) == ("ok", "")
    assert len(kernel.run("span('after')").outputs) == 1
    assert kernel.value("hh.get_tracer().session_id") != first
    assert backend.wait_for(lambda b: b.spans("after"))
    assert [len(backend.spans(name)) for name in ("before", "last", "after", "never-ended")] == [1, 1, 1, 0]


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the package whose files a test may change."""
    folder = tmp_path / "source"
    shutil.copytree(PROJECT / "hh_jupyter", folder / "hh_jupyter", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.slow
def test_autoreload_of_every_file_leaves_one_of_everything(tmp_path: Path, copied: Path) -> None:
    """As those who develop this package work: the hooks that are registered run the new code."""
    with Kernel(tmp_path, {"PYTHONPATH": str(copied)}) as kernel:
        if kernel.versions[0] < 9:
            pytest.skip("older autoreload runs a changed file again, and loses what the module keeps")
        kernel.run(f"%load_ext autoreload\n%autoreload 2\n%load_ext hh_jupyter\n{PRELUDE}")
        assert kernel.value("hh.__file__").startswith(str(copied))
        assert len(kernel.run("span('old')").outputs) == 1
        for path in copied.rglob("*.py"):
            path.write_text(f"{path.read_text()}\n# Changed.\n")
        cell = kernel.run("span('new')")
        assert (cell.reply, cell.stderr, cell.errors) == ("ok", "", [])
        assert "new" in cell.output.text
        assert len(kernel.run("%%hh_session reloaded\nawait asyncio.sleep(0)\nspan('newer')").outputs) == 1
        assert kernel.run("%hh").reply == "ok"
        assert kernel.run("%unload_ext hh_jupyter").stderr == ""
