"""IPython in a terminal: one line below a traced cell, the tree on an error or by request; never a bundle."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from hh_jupyter.testing import Backend
from tests.kernel.conftest import KEY
from tests.kernel.driver import PRELUDE, PYTHON, kernel_environment

NO_TITLE = "--TerminalInteractiveShell.term_title=False"
"""IPython 7 sets the terminal's title even where its output goes to a file."""


def ipython(tmp_path: Path, *cells: str, **env: str) -> str:
    """What a terminal session prints that executes the cells, typed one after the other."""
    typed = "".join(f"%cpaste -q\n{cell}\n--\n" if "\n" in cell else f"{cell}\n" for cell in cells)
    return run(tmp_path, "--simple-prompt", "--no-banner", typed=typed, env=env).stdout


def run(
    tmp_path: Path, *words: str, typed: str = "", code: int = 0, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """What `ipython` with these words says; it must end with this code."""
    done = subprocess.run(
        [PYTHON, "-m", "IPython", "--colors=NoColor", NO_TITLE, *words],
        input=typed,
        env=kernel_environment(tmp_path, {"PYTHONIOENCODING": "utf-8", **(env or {})}),
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert done.returncode == code, done
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_one_line_when_all_is_well(tmp_path: Path) -> None:
    said = ipython(tmp_path, "%load_ext hh_jupyter", PRELUDE, "span('well')")
    (line,) = [line for line in said.splitlines() if "✓ well" in line]
    assert line.endswith("local only")
    assert "Display" not in said
    assert "<div" not in said


def test_ascii_where_the_stream_carries_no_more(tmp_path: Path) -> None:
    said = ipython(tmp_path, "%load_ext hh_jupyter", PRELUDE, "span('plain')", PYTHONIOENCODING="ascii")
    assert "ok plain" in said


def test_the_tree_by_request(tmp_path: Path) -> None:
    said = ipython(tmp_path, "%load_ext hh_jupyter", PRELUDE, "span('a'), span('b')", "%hh show")
    assert said.count("2 spans") == 2
    assert len([line for line in said.splitlines() if " a " in line and "━" in line]) == 1


def test_a_session_cell_and_unloading_work_there_too(tmp_path: Path) -> None:
    said = ipython(
        tmp_path,
        "%load_ext hh_jupyter",
        PRELUDE,
        "%%hh_session chat\nspan('in-session')\n",
        "%hh",
        "%unload_ext hh_jupyter",
    )
    assert "in-session" in said
    assert "local mode" in said


LOADED = "hh: local mode, nothing leaves this machine. %hh login to send. %hh? for help"
WORK = "import hh_jupyter as hh\n\n@hh.trace\ndef work(): return 1\n\n"


def test_one_command_ends_with_its_line(tmp_path: Path) -> None:
    done = run(tmp_path, "-c", f"%load_ext hh_jupyter\n{WORK}work()\nprint('said')")
    first, said, line = done.stdout.splitlines()[:3]
    assert (first, said) == (LOADED, "said")
    assert line.startswith("✓ work")
    assert line.endswith("local only")
    assert done.stderr == ""


def test_one_command_that_fails_shows_where_and_its_exit_code_stays(tmp_path: Path) -> None:
    done = run(tmp_path, "--ext", "hh_jupyter", "-c", f"{WORK}work(); 1 / 0", code=1)
    assert done.stdout.count("ZeroDivisionError") >= 1
    assert [line for line in done.stdout.splitlines() if " work " in line]


@pytest.mark.parametrize("name", ["nightly.py", "nightly.ipy"])
def test_a_script_says_only_what_it_says_itself_and_its_spans_are_delivered(
    tmp_path: Path, backend: Backend, name: str
) -> None:
    load = "%load_ext hh_jupyter" if name.endswith("ipy") else "get_ipython().run_line_magic('load_ext', 'hh_jupyter')"
    (tmp_path / name).write_text(f"{load}\n{WORK}work()\nprint('script done')\n")
    done = run(tmp_path, name, env={"HH_API_KEY": KEY, "HH_API_URL": backend.url})
    host = backend.url.removeprefix("http://")
    assert done.stdout == f"hh: sending to {host} as dev, session nightly. %hh? for help\nscript done\n"
    assert done.stderr == ""
    assert [span["name"] for span in backend.spans()] == ["__main__.work"]
    assert [session["session_name"] for session in backend.sessions()] == ["nightly"]
