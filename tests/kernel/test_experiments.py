"""Runs in a notebook: one output for progress and result, sending local runs later, Ctrl-C."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from hh_jupyter.testing import Backend
from tests.kernel.conftest import KEY, StartKernel
from tests.kernel.driver import Kernel, kernel_with

SETUP = """
rows = [{"inputs": {"n": n}, "ground_truth": n * 2} for n in range(6)]

@hh.trace
def step(n):
    return n * 2

def double(datapoint):
    return step(datapoint["inputs"]["n"])

def exact(outputs, inputs, ground_truth):
    return outputs == ground_truth
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with kernel_with(tmp_path_factory.mktemp("kernel")) as kernel:
        kernel.run(SETUP)
        yield kernel


def test_a_cell_with_a_run_has_one_output_which_is_the_result(kernel: Kernel) -> None:
    cell = kernel.run("hh.evaluate(double, dataset=rows, evaluators=[exact], name='one')", cell_id="one-cell")
    assert cell.kinds == ["display"], cell
    assert cell.output.text.startswith("✓ one  ")
    assert "6 rows  local only" in cell.output.text
    assert cell.output.html.count("<details>") == 6
    assert "hh_jupyter" in cell.output.metadata


def test_hh_show_displays_the_spans_of_a_run(kernel: Kernel) -> None:
    cell = kernel.run("result = hh.evaluate(double, dataset=rows, evaluators=[exact], name='asked for')")
    shown = kernel.run(f"%hh show {cell.count}")
    assert "12 spans" in shown.output.text
    one = kernel.run("%hh show {result.rows[3].session_id}")
    assert "2 spans" in one.output.text
    assert "double" in one.output.text


def test_the_result_replaces_the_progress(kernel: Kernel) -> None:
    cell = kernel.run(
        "go = threading.Event()\n"
        "def slow(datapoint):\n"
        "    if datapoint['inputs']['n'] == 5:\n"
        "        go.wait(30)\n"
        "    return 1 / (datapoint['inputs']['n'] - 1)\n"
        "threading.Timer(1.5, go.set).start()\n"
        "result = hh.evaluate(slow, dataset=rows, name='slow one')\n"
    )
    texts = [version["text/plain"] for version in cell.output.versions]
    # The last version may have been drawn before or after the sixth data point.
    line = re.compile(r"◌ slow one  █████████████████░░░  \S+ m?s  5 of 6 rows  .*1 failed")
    assert any(line.match(text) for text in texts[:-1])
    assert texts[-1].startswith("▲ slow one")
    assert "ZeroDivisionError" in cell.output.html
    assert cell.kinds == ["display"]


def test_a_result_can_be_displayed_again(kernel: Kernel) -> None:
    kernel.run("kept = hh.evaluate(double, dataset=rows, name='kept')")
    assert kernel.run("kept").results[0].startswith("✓ kept")
    assert kernel.run("kept.compare(kept)").results[0].startswith("✓ kept against kept")


def test_a_run_under_a_running_event_loop_with_coroutines(kernel: Kernel) -> None:
    cell = kernel.run(
        "async def soon(datapoint):\n"
        "    await asyncio.sleep(0)\n"
        "    return step(datapoint['inputs']['n'])\n"
        "async def judge(outputs, inputs, ground_truth):\n"
        "    await asyncio.sleep(0)\n"
        "    return outputs == ground_truth\n"
        "await asyncio.sleep(0)\n"
        "result = hh.evaluate(soon, dataset=rows, evaluators=[judge], name='async')"
    )
    assert len(cell.outputs) == 1, cell
    assert kernel.value("result.metrics.get_metric('judge').values") == (True,) * 6


def test_two_runs_are_two_lines_of_hh_sessions(fresh: Kernel) -> None:
    fresh.run(SETUP)
    for name in ("first run", "second"):
        fresh.run(f"r = hh.evaluate(double, dataset=rows * 7, name={name!r}, print_results=False)")
    lines = fresh.run("%hh sessions").stdout.splitlines()
    assert [line.split("  ")[0] for line in lines[1:]] == [
        "first run", "second", "%hh sessions second lists each session of this name."
    ]  # fmt: skip
    assert "42 sessions" in lines[1]
    assert len(fresh.run("%hh sessions 'first run'").stdout.splitlines()) == 32
    assert "no session thrid" in fresh.run("%hh sessions thrid").stderr


def test_ctrl_c_returns_the_result_so_far(kernel: Kernel) -> None:
    cell = kernel.run(
        "def stuck(datapoint):\n"
        "    if datapoint['inputs']['n'] == 3:\n"
        "        print('reached', flush=True)\n"
        "        threading.Event().wait(20)\n"
        "    return datapoint['inputs']['n']\n"
        "result = hh.evaluate(stuck, dataset=rows, name='stopped', max_workers=1)\n"
        "print('went on')",
        interrupt_at="reached",
    )
    assert cell.reply == "ok", cell
    assert "went on" in cell.stdout
    assert cell.outputs[0].text.startswith("■ stopped")
    assert "interrupted  3 of 6 rows" in cell.outputs[0].text
    assert kernel.value("(result.status, result.success, [row.index for row in result.rows])") == (
        "cancelled", False, [0, 1, 2]
    )  # fmt: skip


def test_print_results_false_shows_neither_progress_nor_result(kernel: Kernel) -> None:
    cell = kernel.run("quiet = hh.evaluate(double, dataset=rows, name='quiet', print_results=False)")
    assert "quiet" not in cell.output.text  # The output is the summary of the cell's spans.
    assert "12 spans" in cell.output.text


@pytest.mark.slow
def test_a_run_of_local_mode_is_sent_by_name_with_its_sessions(start_kernel: StartKernel, backend: Backend) -> None:
    kernel = start_kernel()
    kernel.run(SETUP)
    kernel.run("hh.evaluate(double, dataset=rows, evaluators=[exact], name='nightly', config={'prompt': 2})")
    run_id = kernel.value("hh.get_run_result('nightly').run_id")
    assert backend.requests == []
    kernel.run(f"%env HH_API_KEY={KEY}\n%env HH_API_URL={backend.url}")
    cell = kernel.run("%hh send nightly")
    assert cell.stdout == f"hh: 12 spans of run nightly sent to {backend.url.removeprefix('http://')}.\n"
    made, *_, ended = backend.requests
    assert (made.method, made.path, made.body["run_id"]) == ("POST", "/v1/runs", run_id)
    assert made.body["configuration"]["config"] == {"prompt": 2}
    assert (ended.method, ended.path) == ("PUT", f"/v1/runs/{run_id}")
    sessions = {session["session_id"]: session for session in backend.sessions() if session["source"] == "evaluation"}
    assert set(ended.body["event_ids"]) == set(sessions)
    assert {session["metadata"]["run_id"] for session in sessions.values()} == {run_id}
    scores = [span["attributes"]["honeyhive_metrics.exact"] for span in backend.spans("double")]
    assert scores == [True] * 6
    assert "no session nightly" not in kernel.run("%hh send nightly").stderr
    again = [request for request in backend.requests if request.path == "/v1/runs"]
    assert len(again) == 1


@pytest.mark.slow
def test_a_run_that_the_backend_rejects_is_kept_and_reported(start_kernel: StartKernel) -> None:
    kernel = start_kernel()
    kernel.run(SETUP)
    kernel.run("hh.evaluate(double, dataset=rows, name='kept here')")
    with Backend(statuses={"/v1/runs": [500]}) as backend:
        kernel.run(f"%env HH_API_KEY={KEY}\n%env HH_API_URL={backend.url}")
        cell = kernel.run("%hh send 'kept here'")
    assert "run kept here was not sent. POST /v1/runs" in cell.stderr
    assert kernel.value("hh.get_run_result('kept here').name") == "kept here"
