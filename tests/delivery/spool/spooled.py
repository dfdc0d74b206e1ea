"""Records for the spool, and processes that use one."""

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
    """What the outbox puts into the spool."""

    kind: str = "spans"
    session_id: str = SESSION
    body: bytes = b"body"
    spans: int = 1
    cell: str | None = None
    key: int | None = None


def numbered(numbers: Iterable[int], size: int = 0) -> list[Record]:
    """Records whose bodies begin with a number."""
    return [Record(body=b"%d " % number + b"x" * size) for number in numbers]


def numbers_of(stored: Iterable[Stored]) -> list[int]:
    """The numbers of records made by `numbered`."""
    return [int(record.body.split()[0]) for record in stored]


def leave_behind(directory: Path, records: list[Record], destination: str = HERE) -> Path:
    """The file of a process that ended with these records in it."""
    before = set(files_in(directory))
    spool = Spool.open(directory)
    spool.add(destination, records)
    assert spool.problem is None
    spool.close()
    (path,) = set(files_in(directory)) - before
    return path


def files_in(directory: Path) -> list[Path]:
    """The database files of a spool's folder."""
    return sorted(directory.glob("spool-*.sqlite3"))


def start(script: str, directory: Path) -> subprocess.Popen[str]:
    """A Python process that runs a script in which `spool` is open in the folder and this module's names are known."""
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
    """Let a process that reads a line go on."""
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> str:
    """The next line that a process prints."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"the process ended with {process.wait()}"
    return line.strip()


def kill(process: subprocess.Popen[str]) -> str:
    """End a process as `kill -9` does; what it had still printed."""
    assert process.stdout is not None
    process.kill()
    rest = process.stdout.read()  # `communicate` would pass over what `hear` has read ahead.
    process.communicate()
    return rest
