"""A cell that is run again says what changed; `%hh diff` shows it. Runs are found by the cell's id, also on disk."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.conftest import StartKernel
from tests.kernel.driver import Cell, Kernel

pytestmark = pytest.mark.slow

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


# In the page.


def ask_hub(kernel: Kernel, subshell: str | None = None, **message: Any) -> Any:
    """Send a question of the page until its answer is there, and return that."""
    for number in range(1_000, 1_100):
        kernel.hub_messages.clear()
        kernel.ask({**message, "number": number}, subshell=subshell)
        kernel.wait_for(lambda: any(one["type"] == "answer" for one in kernel.hub_messages), f"no answer to {message}")
        (value,) = [one["value"] for one in kernel.hub_messages if one["type"] == "answer"]
        if value != {"pending": True}:
            return value
        time.sleep(0.1)
    raise AssertionError(message)


def diff_of(kernel: Kernel, view: str, old: str | None = None, new: str | None = None, **more: Any) -> Any:
    return ask_hub(kernel, type="diff", view=view, old=old, new=new, **more)


def pieces_of(kernel: Kernel, diff: Any, row: int = -1) -> list[Any]:
    at = len(diff["marks"]) + row if row < 0 else row
    found = ask_hub(kernel, type="diff_span", diff=diff["id"], row=at)
    return [text["pieces"] for section in found["sections"] for text in section["texts"] if "pieces" in text]


def test_the_page_compares_any_two_runs_of_a_cell(fresh: Kernel) -> None:
    for question in "one?", "two?", "three?":
        fresh.run(ask(question), cell_id="runs")
    fresh.wait_for(lambda: fresh.comms == 2, "the hub is not open")
    found = diff_of(fresh, "hh-runs")
    numbers = [re.sub(", .*", "", run["name"]) for run in found["runs"]]
    assert len(numbers) == 3
    assert (found["old"], found["new"], found["marks"]) == (1, 2, " ≠")
    assert pieces_of(fresh, found) == [[["two?", "three?"]]]
    first, _, last = (run["key"] for run in found["runs"])
    assert pieces_of(fresh, diff_of(fresh, "hh-runs", old=first, new=last)) == [[["one?", "three?"]]]
    other = diff_of(fresh, "hh-runs", old=last, new=first)
    assert pieces_of(fresh, other) == [[["three?", "one?"]]]
    assert diff_of(fresh, "hh-runs", old=last, new=first)["id"] == other["id"], "it was compared twice"
    assert ask_hub(fresh, type="diff_span", diff=found["id"], row=1) is None, "more differences are kept than needed"
    assert ask_hub(fresh, type="diff_span", diff=other["id"], row=99) is None


def test_a_cell_that_was_run_once_has_nothing_to_compare(fresh: Kernel) -> None:
    fresh.run(ask("one?"), cell_id="once")
    fresh.wait_for(lambda: fresh.comms == 2, "the hub is not open")
    assert diff_of(fresh, "hh-once") is None
    assert diff_of(fresh, "hh-unknown") is None


def test_the_page_compares_while_a_cell_runs(fresh: Kernel, tmp_path: Path) -> None:
    if fresh.versions[1] < 7:
        pytest.skip("ipykernel 6 has no subshells")
    for question in "one?", "two?":
        fresh.run(ask(question), cell_id="runs")
    fresh.wait_for(lambda: fresh.comms == 2, "the hub is not open")
    subshell = fresh.make_subshell()
    end = tmp_path / "end"
    busy = fresh.start(
        f"import os\nprint('begins')\nwhile not os.path.exists({str(end)!r}): time.sleep(0.05)\nprint('ends')"
    )
    fresh.wait_for(lambda: "begins" in busy.stdout, "the cell did not start")
    found = diff_of(fresh, "hh-runs", subshell=subshell)
    assert found["marks"] == " ≠"
    assert "ends" not in busy.stdout
    end.touch()
    fresh.wait_for(lambda: "ends" in busy.stdout, "the cell did not end")


def test_the_output_of_the_command_is_the_same_view(fresh: Kernel) -> None:
    for question in "one?", "two?":
        fresh.run(ask(question), cell_id="runs")
    shown = fresh.run("%hh diff", cell_id="asks").output
    view_id = shown.metadata["hh_jupyter"]["view_id"]
    assert f'id="{view_id}"' in shown.html
    fresh.wait_for(lambda: fresh.comms == 2, "the hub is not open")
    fresh.hub_messages.clear()
    fresh.ask({"type": "rows", "view": view_id, "have": None})
    fresh.wait_for(lambda: any(one["type"] == "rows" for one in fresh.hub_messages), "no rows")
    (header,) = [one["header"] for one in fresh.hub_messages if one["type"] == "rows"]
    assert (header["diff"], header["open"], header["title"]) == (True, True, "agent")
    found = diff_of(fresh, view_id)
    assert [run["name"].partition(",")[0] for run in found["runs"]] == ["Run 2", "Run 3"]
    assert pieces_of(fresh, found) == [[["one?", "two?"]]]
    assert "Δ" not in shown.text
    assert len(shown.versions) == 1, "an update would show the spans in its place"


def test_the_command_shows_sessions_of_one_name_in_the_page(fresh: Kernel) -> None:
    fresh.run(f"%%hh_session refund\n{ask('one?')}")
    fresh.run(f"%%hh_session refund\n{ask('two?')}")
    shown = fresh.run("%hh diff refund", cell_id="asks").output
    fresh.wait_for(lambda: fresh.comms == 2, "the hub is not open")
    found = diff_of(fresh, shown.metadata["hh_jupyter"]["view_id"])
    assert pieces_of(fresh, found) == [[["one?", "two?"]]]


def test_runs_of_an_earlier_kernel_are_compared_in_the_page(start_kernel: StartKernel) -> None:
    with start_kernel() as kernel:
        kernel.run(ask("one?"), cell_id="9e3f5c1a")
    later = start_kernel()
    later.run(ask("two?"), cell_id="9e3f5c1a")
    later.wait_for(lambda: later.comms == 2, "the hub is not open")
    found = diff_of(later, "hh-9e3f5c1a")
    assert len(found["runs"]) == 2
    assert pieces_of(later, found) == [[["one?", "two?"]]]


def test_what_is_compared_in_the_page_is_redacted(fresh: Kernel) -> None:
    secret = "sk-proj-" + "a1B2c3D4e5" * 5
    for question in "one?", f"my key is {secret} now":
        fresh.run(ask(question), cell_id="runs")
    fresh.wait_for(lambda: fresh.comms == 2, "the hub is not open")
    sent = repr([pieces_of(fresh, diff_of(fresh, "hh-runs"))])
    assert "[redacted" in sent
    assert secret not in sent
