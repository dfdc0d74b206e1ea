"""With the extension every cell behaves exactly as without it, except for the extension's own output."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.kernel.driver import Cell, Kernel

Masks = tuple[tuple[re.Pattern[str], str], ...]

CELLS: Final = Path(__file__).parents[1] / "data" / "cells.txt"
"""The cells, each below a line `# %%` that may hold arguments of `Kernel.run` as JSON."""
PRELUDE: Final = """
import asyncio, contextvars, logging, os, subprocess, sys, threading, time, traceback, warnings
from concurrent.futures import ThreadPoolExecutor
from IPython.display import HTML, Image, Markdown, clear_output, display, update_display
from opentelemetry import trace as otel
tracer = otel.get_tracer("corpus")
var = contextvars.ContextVar("var", default="unset")

def interrupt_me():
    cell = threading.get_ident()
    def tell():
        while "interrupt_me" in str(traceback.extract_stack(sys._current_frames()[cell])):
            time.sleep(0.01)
        sys.stdout.write("now\\n")
    threading.Thread(target=tell).start()
"""
"""`tracer` makes spans with the extension, and does nothing without it.

`interrupt_me` says "now" from a thread when the cell has gone on, or the interrupt might meet it inside `print` itself.
It says it in one piece, as `print` does not: the line's end could come after the interrupt.
"""
HISTORY: Final = """(
    list(In), list(get_ipython().history_manager.input_hist_raw),
    {number: type(value).__name__ for number, value in Out.items()},
    [get_ipython().user_ns.get(name) for name in ("_i", "_ii", "_iii")], get_ipython().execution_count,
    list(get_ipython().history_manager.get_range(raw=True, output=True)),
)"""
NAMES: Final = "sorted(globals())"
MASKS: Final = (
    (re.compile(r"ipykernel_\d+"), "ipykernel_N"),
    (re.compile(r"0x[0-9a-f]{6,}"), "0xN"),
    (re.compile(r"[\d.e+-]+ (ns|[uµμ]s|ms|s)\b"), "N s"),
)
"""What differs between any two kernels: process, addresses, times."""
SESSION_MASKS: Final = (
    (re.compile(r"\x1b\[[\d;]*m"), ""),
    (re.compile(r"get_ipython\(\)\._hh\.enter\(.*?\)  # #\| hh_session same"), "#| hh_session: same"),
)
"""Tracebacks show, in colours, what the comment is rewritten to."""
IN_A_SESSION: Final = "#| hh_session: same\n"


class Run:
    """The cells executed in one kernel.

    Attributes:
        cells: what each cell did, without our own output.
        ours: number of our outputs under each.
    """

    def __init__(self, cwd: Path, first: str, before: str = "") -> None:
        cwd.mkdir()
        with Kernel(cwd) as kernel:
            assert kernel.run(first).reply == "ok"
            kernel.run(PRELUDE)
            ran = [kernel.run(before + code, **how) for code, how in corpus(before)]
            history = kernel.value(HISTORY)
            self.names = kernel.value(NAMES)
        masks = ((re.compile(re.escape(str(cwd))), "FOLDER"), *MASKS, *(SESSION_MASKS if before else ()))
        self.history = masked(history, masks)
        self.cells = [masked(seen(cell), masks) for cell in ran]
        self.ours = [len([kind for kind, content in cell.messages if is_ours(content)]) for cell in ran]


def corpus(before: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Return the cells; with a comment before them, only those whose first line may be a comment."""
    parts = re.split(r"^# %%(.*)\n", CELLS.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    cells = zip(parts[1::2], parts[::2], strict=True)
    return [
        (code.removesuffix("\n"), json.loads(how or "{}"))
        for code, how in cells
        if not before or (code.strip() and not code.startswith("%%") and "In[" not in code)
    ]


def is_ours(content: dict[str, Any]) -> bool:
    return "hh_jupyter" in content.get("metadata", {})


def seen(cell: Cell) -> dict[str, Any]:
    """Return what a front end receives for a cell: all messages in order, and the reply."""
    messages: list[Any] = []
    for kind, content in cell.messages:
        if is_ours(content):
            continue
        before = messages[-1] if messages else None
        if kind == "stream" and before and before[0] == kind and before[1]["name"] == content["name"]:
            before[1]["text"] += content["text"]  # The split into messages depends on timing.
        else:
            messages.append([kind, dict(content)])
    answer = {name: value for name, value in cell.answer.items() if name != "engine_info"}  # It names the kernel.
    return {"code": cell.code, "messages": messages, "answer": answer, "asked": cell.asked}


def masked(value: Any, masks: Masks) -> Any:
    """Return the same structure with everything that matches a mask replaced by its text."""
    if isinstance(value, str):
        for pattern, text in masks:
            value = pattern.sub(text, value)
        return value
    if isinstance(value, dict):
        return {masked(key, masks): masked(item, masks) for key, item in value.items()}
    return [masked(item, masks) for item in value] if isinstance(value, list | tuple) else value


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("same")


@pytest.fixture(scope="module")
def without(folder: Path) -> Run:
    return Run(folder / "without", "import hh_jupyter")


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Run:
    return Run(folder / "with", "%load_ext hh_jupyter\nimport hh_jupyter")


def differences(plain: Run, ours: Run) -> Iterator[tuple[Any, Any]]:
    return ((one, other) for one, other in zip(plain.cells, ours.cells, strict=True) if one != other)


def test_results_streams_errors_and_counts_are_the_same(without: Run, loaded: Run) -> None:
    assert len(without.cells) >= 60
    for plain, ours in differences(without, loaded):
        assert ours == plain


def test_history_and_names_are_the_same(without: Run, loaded: Run) -> None:
    def rest(history: list[Any]) -> list[Any]:
        """Compares all but the first cell, which loads the extension."""
        inputs, raw, *others, entries = history
        return [inputs[2:], raw[2:], *others, entries[1:]]

    assert rest(loaded.history) == rest(without.history)
    assert loaded.names == without.names


def test_only_cells_with_spans_have_an_output_of_the_extension_and_only_one(without: Run, loaded: Run) -> None:
    traced = re.compile(r"(?!%%writefile)(.*tracer\.start|%run)", re.DOTALL)
    assert loaded.ours == [1 if traced.match(code) else 0 for code, _ in corpus()]
    assert sum(without.ours) == 0


@pytest.mark.slow
def test_in_a_session_they_are_the_same_as_well(folder: Path) -> None:
    """Without the extension the comment is an ordinary comment."""
    plain = Run(folder / "comment", "import hh_jupyter", IN_A_SESSION)
    ours = Run(folder / "session", "%load_ext hh_jupyter\nimport hh_jupyter", IN_A_SESSION)
    for one, other in differences(plain, ours):
        assert other == one
    assert ours.names == plain.names
