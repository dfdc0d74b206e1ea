"""Helpers that make records for the spool and start processes that use one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hh_jupyter.delivery.spool.record import Stored
from hh_jupyter.delivery.spool.store import Spool

ROOT = Path(__file__).parents[2]
HERE = "https://api.example#0001"
THERE = "https://api.example#0002"
SESSION = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
OTHER_SESSION = "00000000-4f89-41d3-9a0c-0305e82c3302"


@dataclass(slots=True, eq=False)
class Record:
    """A record as the outbox puts it into the spool."""

    kind: str = "spans"
    session_id: str = SESSION
    body: bytes = b"body"
    spans: int = 1
    cell: str | None = None
    key: int | None = None


def numbered(numbers: Iterable[int], size: int = 0) -> list[Record]:
    """Return records whose bodies begin with these numbers."""
    return [Record(body=b"%d " % number + b"x" * size) for number in numbers]


def numbers_of(stored: Iterable[Stored]) -> list[int]:
    """Return the numbers of records made by `numbered`."""
    return [int(record.body.split()[0]) for record in stored]


def leave_behind(directory: Path, records: list[Record], destination: str = HERE) -> Path:
    """Write a file with these records, as a process that has ended would leave it, and return its path."""
    before = set(files_in(directory))
    spool = Spool.open(directory)
    spool.add(destination, records)
    assert spool.problem is None
    spool.close()
    (path,) = set(files_in(directory)) - before
    return path


def files_in(directory: Path) -> list[Path]:
    """Return the database files in a spool's folder."""
    return sorted(directory.glob("spool-*.sqlite3"))


def start(script: str, directory: Path) -> subprocess.Popen[str]:
    """Start a Python process for a script that can use this module's names and an open `spool` in the folder."""
    prelude = (
        "import os, sys, threading, time\nfrom pathlib import Path\n"
        "from hh_jupyter.delivery.spool.store import Spool\nfrom tests.delivery.spool.spooled import *\n"
        "spool = Spool.open(Path(sys.argv[1]))\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", prelude + script, str(directory)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def say(process: subprocess.Popen[str], line: str = "go") -> None:
    """Resume a process that waits for a line of input."""
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> str:
    """Return the next line that a process prints."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"the process ended with {process.wait()}"
    return line.strip()


def kill(process: subprocess.Popen[str]) -> str:
    """Kill a process like `kill -9`, and return the rest of its output."""
    assert process.stdout is not None
    process.kill()
    rest = process.stdout.read()  # `communicate` would skip what `hear` has read ahead.
    process.communicate()
    return rest
