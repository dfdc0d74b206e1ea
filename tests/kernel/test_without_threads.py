"""Where no thread can be started, as in Pyodide or a container's limit, everything is shown, and one line says why."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hh_jupyter.testing import Backend
from tests.kernel.conftest import KEY
from tests.kernel.driver import PRELUDE, Cell, Kernel

PATCHED = """
import threading
def refuse(thread):
    raise RuntimeError("can't start new thread")
real, threading.Thread.start = threading.Thread.start, refuse
"""
LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))"
WAYS = [
    pytest.param(PATCHED, id="patched"),
    pytest.param(LIMITED, id="limited", marks=pytest.mark.skipif(os.getuid() == 0, reason="root has no such limit")),
]


@pytest.fixture(params=WAYS)
def loading(request: pytest.FixtureRequest, tmp_path: Path, backend: Backend) -> Iterator[tuple[Kernel, Cell]]:
    """A kernel that sends and can start no thread, and the cell that loaded the extension."""
    with Kernel(tmp_path, {"HH_API_KEY": KEY, "HH_API_URL": backend.url}) as kernel:
        kernel.run(request.param)
        cell = kernel.run("%load_ext hh_jupyter")
        kernel.run(PRELUDE)
        yield kernel, cell


def test_loading_says_so_in_one_line_and_spans_are_shown_and_sent(
    loading: tuple[Kernel, Cell], backend: Backend
) -> None:
    kernel, cell = loading
    assert cell.reply == "ok"
    assert cell.stderr.count("\n") == 1
    assert "no thread can be started here" in cell.stderr
    for cell_id in (None, "a-notebooks"):
        traced = kernel.run("span('one')", cell_id=cell_id)
        assert (traced.reply, traced.stderr) == ("ok", "")
        assert "one" in traced.output.text
        assert "sent" in traced.output.text
    assert len(backend.spans()) == 2
    assert "one" in kernel.run("%hh show last").output.text
    status = kernel.run("%hh").stdout
    assert status.count("trouble") == 1
    assert "no thread can be started here" in status
    unloading = kernel.run("%unload_ext hh_jupyter")
    assert (unloading.reply, unloading.stderr) == ("ok", "")


def test_an_output_is_updated_by_the_next_cell(loading: tuple[Kernel, Cell]) -> None:
    kernel, _ = loading
    cell = kernel.run("started = hh.get_tracer().start_span('late'); _ = started.__enter__()\nspan('early')")
    silent = kernel.run("another = hh.get_tracer().start_span('later'); _ = another.__enter__()")
    kernel.run("_ = started.__exit__(None, None, None); _ = another.__exit__(None, None, None)")
    kernel.run("span('next')")
    kernel.wait_for(lambda: "late" in cell.output.text, "the output was not updated")
    kernel.wait_for(lambda: len(silent.outputs) == 1, "a span that ended late was not shown")


def test_costs_are_estimated(loading: tuple[Kernel, Cell]) -> None:
    kernel, _ = loading
    call = "with hh.get_tracer().start_span('call', attributes=dict(zip(KEYS, VALUES))): pass"
    names = ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model")
    usage = ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens")
    values = ("chat", "openai", "gpt-4o", 1_000, 1_000)
    cell = kernel.run(call.replace("KEYS", repr((*names, *usage))).replace("VALUES", repr(values)), cell_id="a")
    assert "$" in cell.output.text


def test_an_evaluation_runs_here(loading: tuple[Kernel, Cell]) -> None:
    kernel, _ = loading
    kernel.run("data = [{'inputs': {'n': n}} for n in range(4)]\ndef plain(datapoint): return datapoint['inputs']['n']")
    kernel.run("async def coroutine(datapoint): return 1")
    cell = kernel.run("result = hh.evaluate(plain, dataset=data, name='plain', timeout=5)")
    assert (cell.reply, cell.errors) == ("ok", [])
    assert kernel.value("[len(result.rows), len(result.failed)]") == [4, 0]
    cell = kernel.run("result = hh.evaluate(coroutine, dataset=data, name='coroutine')")
    assert (cell.reply, cell.errors) == ("ok", [])
    assert kernel.value("[len(result.rows), len(result.passed)]") == [4, 4]
    cell = kernel.run("result = await hh.aevaluate(coroutine, dataset=data, name='awaited')")
    assert (cell.reply, cell.errors) == ("ok", [])
    assert kernel.value("[len(result.rows), len(result.passed)]") == [4, 4]
