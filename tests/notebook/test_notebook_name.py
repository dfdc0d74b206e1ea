"""The notebook's name is found, or a default is used, whatever the machine offers to look it up."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from hh_jupyter.notebook.sessions import notebook_folder, notebook_name

LOADING = """
import pathlib, sys
sys.modules["psutil"] = None
read = pathlib.Path.read_text
def no_proc(path, *args, **kwargs):
    if str(path).startswith("/proc"):
        raise FileNotFoundError(path)
    return read(path, *args, **kwargs)
pathlib.Path.read_text = no_proc
from IPython.terminal.interactiveshell import TerminalInteractiveShell
shell = TerminalInteractiveShell.instance()
shell.run_line_magic("load_ext", "hh_jupyter")
"""


def test_loading_needs_neither_proc_nor_psutil(tmp_path: Path) -> None:
    """As in a terminal on macOS or Windows, and in Pyodide."""
    ran = subprocess.run([sys.executable, "-c", LOADING], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "hh: local mode" in ran.stdout
    assert "Error" not in ran.stdout + ran.stderr


class FakeError(Exception):
    """What psutil raises for a process that it may not read."""


@pytest.mark.parametrize("error", [FakeError, PermissionError, NotImplementedError])
def test_a_parent_process_that_cannot_be_read_names_no_notebook(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError))
    monkeypatch.setitem(sys.modules, "psutil", types.SimpleNamespace(Process=refuse))
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    assert notebook_name(types.SimpleNamespace(user_ns={}, kernel=object())) == "notebook"


def test_the_folder_is_that_of_the_notebook_wherever_the_kernel_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """VS Code and papermill may start kernels elsewhere; a front end may name a notebook that has been moved."""
    notebook = tmp_path / "work" / "agent.ipynb"
    notebook.parent.mkdir()
    notebook.touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    shell = types.SimpleNamespace(user_ns={}, kernel=object())
    assert notebook_folder(shell) == tmp_path
    shell.user_ns["__vsc_ipynb_file__"] = str(notebook)
    assert notebook_folder(shell) == notebook.parent
    shell.user_ns["__vsc_ipynb_file__"] = "work/agent.ipynb"
    assert notebook_folder(shell) == notebook.parent
    monkeypatch.chdir(notebook.parent)
    assert notebook_folder(shell) == notebook.parent
    shell.user_ns["__vsc_ipynb_file__"] = str(tmp_path / "gone" / "agent.ipynb")
    assert notebook_folder(shell) == notebook.parent
