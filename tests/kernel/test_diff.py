"""A cell that is run again says what changed; `%hh diff` shows it. Runs are found by the cell's id, also on disk."""

from __future__ import annotations

import re

import pytest

from tests.kernel.conftest import StartKernel
from tests.kernel.driver import Cell, Kernel

CALL = """with hh.get_tracer().start_span("agent"):
    with hh.get_tracer().start_span("ask", attributes={{
        "openinference.span.kind": "LLM", "llm.token_count.prompt": {tokens}, "llm.token_count.completion": 5,
        "llm.input_messages.0.message.role": "user", "llm.input_messages.0.message.content": {question!r},
    }}):
        pass"""


def ask(question: str, tokens: int = 10) -> str:
    return CALL.format(question=question, tokens=tokens)


def shows(kernel: Kernel, cell: Cell, words: str) -> bool:
    kernel.wait_for(lambda: words in cell.output.text, f"no {words}")
    return True


def usage_error(kernel: Kernel, line: str) -> str:
    cell = kernel.run(line)
    assert cell.ename == "UsageError", cell
    return cell.stderr.removeprefix("UsageError: ").rstrip()


def test_a_cell_that_is_run_again_says_what_changed(local: Kernel) -> None:
    first = local.run(ask("Oslo?"), cell_id="bar")
    again = local.run(ask("Oslo?"), cell_id="bar")
    changed = local.run(ask("Bergen?", tokens=43), cell_id="bar")
    assert shows(local, changed, "Δ +33 tokens  1 call changed")
    assert "%hh diff" in changed.output.html
    assert "Against run" in changed.output.html
    other = local.run(ask("Bergen?"), cell_id="another")
    local.run("%hh diff")
    for cell in first, again, other:
        assert "Δ" not in cell.output.text


def test_the_last_two_runs_of_a_cell_are_compared(local: Kernel) -> None:
    numbers = []
    for question in "one?", "two?", "three?":
        local.run(ask(question), cell_id="runs")
        numbers.append(local.value("get_ipython().execution_count") - 1)
    for line in ("%hh diff", f"%hh diff {numbers[2]}", f"%hh diff {numbers[2]}~1 last", f"%hh diff {numbers[1]} last"):
        text = local.run(line).output.text
        assert f"run {numbers[1]}, " in text, line
        assert f"run {numbers[2]}, " in text, line
        assert re.search("≠ +llm +ask +user", text), line
    text = local.run(f"%hh diff {numbers[2]}~2 last --detail full").output.text
    assert "[-one?-] {+three?+}" in text
    shown = local.run(f"%hh show {numbers[2]}~1").output
    assert f"%hh show {numbers[1]} --detail full" in shown.text
    assert local.value(f"[len(hh.spans(cell='{numbers[2]}~2')), len(hh.diff().changed)]") == [2, 1]
    assert f"%hh diff {numbers[2]}~1" in local.complete(f"%hh diff {numbers[2]}")


def test_words_are_saved_only_if_the_setting_says_so(fresh: Kernel) -> None:
    fresh.run(ask("one?"), cell_id="a")
    fresh.run(ask("two?"), cell_id="a")
    shown = fresh.run("%hh diff").output
    assert "two?" not in shown.html + shown.text
    assert "hh_jupyter" in shown.metadata
    fresh.run("%config HHJupyter.saved_detail = 'preview'")
    assert "two?" in fresh.run("%hh diff").output.html


def test_a_mistake_says_what_can_be_compared(fresh: Kernel) -> None:
    assert usage_error(fresh, "%hh diff") == "%hh diff: no spans for any cell. No cell has spans yet."
    fresh.run(ask("one?"), cell_id="a")
    number = fresh.value("get_ipython().execution_count") - 1
    assert usage_error(fresh, "%hh diff") == "%hh diff: no run last~1: the cell was run once with spans."
    assert (
        usage_error(fresh, f"%hh show {number}~3") == f"%hh show: no run {number}~3: the cell was run once with spans."
    )
    assert usage_error(fresh, "%hh diff 99").startswith("%hh diff: no spans for cell 99. Cells with spans: ")
    assert usage_error(fresh, "%hh diff all").startswith("%hh diff: what has no run before needs two arguments")
    assert usage_error(fresh, "%hh diff nothing").startswith("%hh diff: no session nothing. ")


def test_sessions_of_one_name_are_compared(fresh: Kernel) -> None:
    fresh.run(f"%%hh_session refund\n{ask('one?')}")
    again = fresh.run(f"%%hh_session refund\n{ask('two?')}")
    assert shows(fresh, again, "Δ 1 call changed"), "runs without a cell id are found by the name of their session"
    text = fresh.run("%hh diff refund").output.text
    assert "refund, " in text
    assert "→ refund #2, " in text
    assert (
        usage_error(fresh, "%hh diff refund~1")
        == "%hh diff: no session refund~2: there is one earlier session of this name."
    )


@pytest.mark.parametrize(
    ("cell_id", "first", "found"),
    [
        ("9e3f5c1a", "", True),
        ("vscode-notebook-cell:/work/a.ipynb#W1sZmlsZQ%3D%3D", "", False),
        ("vscode-notebook-cell:/work/a.ipynb#W1sZmlsZQ%3D%3D", "%%hh_session refund\n", True),
    ],
)
def test_runs_of_an_earlier_kernel_are_found(start_kernel: StartKernel, cell_id: str, first: str, found: bool) -> None:
    with start_kernel() as kernel:
        kernel.run(first + ask("one?"), cell_id=cell_id)
    later = start_kernel()
    again = later.run(first + ask("two?"), cell_id=cell_id)
    if not found:
        assert usage_error(later, "%hh diff") == "%hh diff: no run last~1: the cell was run once with spans."
        return
    assert shows(later, again, "Δ 1 call changed")
    text = later.run("%hh diff --detail full").output.text
    assert "[-one?-] {+two?+}" in text
    assert "agent" in later.run("%hh show last~1").output.text
