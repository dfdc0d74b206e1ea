"""IPython in a terminal: one line below a traced cell, the tree on an error or by request; never a bundle."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.kernel.driver import PRELUDE, kernel_environment


def ipython(tmp_path: Path, *cells: str, **env: str) -> str:
    """What a terminal session prints that executes the cells, typed one after the other."""
    typed = "".join(f"%cpaste -q\n{cell}\n--\n" if "\n" in cell else f"{cell}\n" for cell in cells)
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--simple-prompt", "--no-banner", "--colors=NoColor"],
        input=typed,
        env=kernel_environment(tmp_path, {"PYTHONIOENCODING": "utf-8", **env}),
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


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
