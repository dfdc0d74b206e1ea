"""Rows for the spool, and processes that use one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hh_jupyter.export.model import Row
from hh_jupyter.export.spool import Spool, StoredRow

ROOT = Path(__file__).parents[2]
HERE = "https://api.example#0001"
THERE = "https://api.example#0002"
SESSION = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"


def numbered(numbers: Iterable[int], size: int = 0, session_id: str = SESSION) -> list[Row]:
    """Return rows of one span each whose bodies begin with these numbers."""
    return [Row("spans", session_id, b"%d " % number + b"x" * size, spans=1) for number in numbers]


def numbers_of(rows: Iterable[StoredRow]) -> list[int]:
    """Return the numbers of rows made by `numbered`."""
    return [int(row.body.split()[0]) for row in rows]


def adopted(spool: Spool, destination: str = HERE) -> list[StoredRow]:
    """Return everything that the spool adopts for a destination."""
    return [row for rows in spool.adopt(destination) for row in rows]


def leave_behind(directory: Path, rows: list[Row], destination: str = HERE) -> Path:
    """Write a file with these rows, as a process that has ended would leave it, and return its path."""
    before = set(files_in(directory))
    spool = Spool(directory)
    spool.add(destination, rows)
    assert spool.problem is None
    spool.close()
    (path,) = set(files_in(directory)) - before
    return path


def files_in(directory: Path) -> list[Path]:
    """Return the database files in a spool's folder."""
    return sorted(directory.glob("spool-*.sqlite3"))


def size_of(directory: Path) -> int:
    """Return the size of all files in a folder in bytes."""
    return sum(path.stat().st_size for path in directory.iterdir())


@contextmanager
def start(script: str, directory: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a script in a Python process that can use this module's names and a `spool` in the folder.

    A test that fails meanwhile kills it.
    """
    prelude = (
        "import os, signal, sys, threading, time\nfrom pathlib import Path\n"
        "from hh_jupyter.export import spool as spool_module\n"
        "from hh_jupyter.export.spool import Spool\nfrom hh_jupyter.export.spool_file import SpoolFile\n"
        "from tests.export.spool_processes import *\n"
        "directory = Path(sys.argv[1])\nspool = Spool(directory)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", prelude + script, str(directory)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        except BaseException:  # boundary: no process may outlive a test that failed.
            process.kill()
            raise


def proceed(process: subprocess.Popen[str]) -> None:
    """Resume a process that waits for a line of input."""
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def line_of(process: subprocess.Popen[str]) -> str:
    """Return the next line that a process prints."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"the process ended with {process.wait()}"
    return line.strip()


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a process with SIGKILL and wait for its end."""
    process.kill()
    process.communicate()
