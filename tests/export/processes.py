"""Programs that keep spans on disk and end in a bad way, and tracers in the tests' process that come after them."""

from __future__ import annotations

import contextvars
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Self

from hh_jupyter import HoneyHiveTracer
from hh_jupyter.testing import Backend

KEY = "a-key-that-stands-in-no-file"
ADOPTED_SECONDS = 0.9
"""Longer than a new process needs to look for what others have left."""

SPOOL_FILES = "spool-*.sqlite3"
A_SPOOL_FILE = "spool-0123456789abcdef.sqlite3"
SALT = "salt"
ORPHANS = tuple(f"spool-fedcba9876543210.sqlite3-{end}" for end in ("journal", "wal", "shm"))
"""Files beside a spool file that SQLite makes, here without one."""

PRELUDE = """
import os, random, signal, sys, threading, time
from pathlib import Path
from hh_jupyter import HoneyHiveTracer
url, folder = sys.argv[1:3]

def tracer_for(key="KEY", **settings):
    given = dict(session_name="of a program", exit_flush_seconds=0.2, flush_interval=0.05, spool=True, spool_dir=folder)
    return HoneyHiveTracer.init(api_key=key, server_url=url, **{**given, **settings})

def work(tracer, names, size=0):
    for name in names:
        with tracer.start_span(str(name), attributes={"text": random.randbytes(size // 2).hex()}):
            pass

def wait_until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "took too long"
        time.sleep(0.005)

def on_disk(tracer, session_id=None):
    own = session_id or tracer.session_id
    return sum(row.spans for row in tracer.spool.sessions() if row.session_id == own)

def tell(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def listen():
    return sys.stdin.readline().strip()

def die():
    os.kill(os.getpid(), signal.SIGKILL)
""".replace("KEY", KEY, 1)


class Program:
    """A Python program with the names above. It is killed at the end of the `with` block, if it still runs.

    Args:
        code: what it does.
        url: of the backend; `url` in the program.
        folder: of the spool; `folder` in the program.
        arguments: further ones, from `sys.argv[3]` on.
        prefix: command that starts the interpreter.
    """

    def __init__(self, code: str, url: str, folder: Path, *arguments: str, prefix: Iterable[str] = ()) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # Closed with the program.
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-c", PRELUDE + code, url, str(folder), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kill_all()
        self.kill()
        self._errors.close()

    def say(self, line: str = "go") -> None:
        """Resume a program that waits for a line of input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        """Return the next line that the program prints."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the program ended with {self._process.wait()}: {self.errors()}"
        return line.strip()

    def kill(self) -> str:
        """Kill the program like `kill -9`, and return the rest of its output."""
        assert self._process.stdout is not None
        self._process.kill()
        rest = "" if self._process.stdout.closed else self._process.stdout.read()
        self._process.communicate()
        return rest

    def _kill_all(self) -> None:
        """Kill the program and the children it has left, which would keep its output open."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._process.terminate()

    def stop(self) -> None:
        """Stop the program: it lives, but does nothing until it is killed."""
        self._process.send_signal(signal.SIGSTOP)

    def interrupt(self) -> None:
        """Send SIGINT, as Ctrl-C does; nothing if the program has ended."""
        self._process.send_signal(signal.SIGINT)

    def wait(self, timeout: float = 60) -> tuple[int, str]:
        """Return the exit code and the rest of the output when the program has ended."""
        assert self._process.stdout is not None
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self._kill_all()

        timer = threading.Timer(timeout, give_up)
        timer.start()
        rest = self._process.stdout.read()  # First: a full pipe would keep the program from ending.
        code = self._process.wait()
        timer.cancel()
        assert not late.is_set(), f"the program still ran after {timeout} s: {self.errors()}"
        return code, rest

    def errors(self) -> str:
        """Return what the program has printed to its standard error so far."""
        self._errors.seek(0)
        return self._errors.read().decode()


def run(code: str, url: str, folder: Path, *arguments: str, ended: int = 0) -> str:
    """Run a program to its end and return what it prints. `ended` is its expected exit code."""
    with Program(code, url, folder, *arguments) as program:
        code_of_exit, output = program.wait()
        assert code_of_exit == ended, program.errors()
        return output.strip()


def next_tracer(url: str, folder: Path, key: str | None = KEY, **settings: Any) -> HoneyHiveTracer:
    """Return a tracer that adopts what ended processes left in the folder."""
    given = {"session_name": "of the next", "exit_flush_seconds": 0.2, "flush_interval": 0.05}
    return HoneyHiveTracer.init(api_key=key, server_url=url, spool=True, spool_dir=str(folder), **{**given, **settings})


def leave_behind(
    folder: Path, url: str, names: Iterable[object], size: int = 0, key: str | None = KEY, **settings: Any
) -> Path:
    """Leave spans in a file of their own, as a process that has ended, and return its path.

    Each span has a session of its own, so that it has a row of its own. The file is made in another folder with the
    same salt and then moved, because a tracer of this folder would adopt what is there already.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made_in = folder.parent / f"{folder.name}-{uuid.uuid4().hex}"
    made_in.mkdir(mode=0o700)
    if (folder / SALT).exists():
        shutil.copy2(folder / SALT, made_in)
    tracer = next_tracer(url, made_in, key, **{"exit_flush_seconds": 0.05, **settings})
    for name in names:
        contextvars.copy_context().run(_one_span, tracer, str(name), text(size))
    assert tracer.spool is not None
    deadline = time.monotonic() + 20
    while {session_of(name) for name in names} - {row.session_id for row in tracer.spool.sessions() if row.spans}:
        assert time.monotonic() < deadline, tracer.spool.problem
        time.sleep(0.01)
    tracer.shutdown()
    (path,) = files_in(made_in)
    _wait_until_closed(path)
    for made in made_in.iterdir():
        made.replace(folder / made.name)
    made_in.rmdir()
    return folder / path.name


def _wait_until_closed(path: Path) -> None:
    """The worker closes the file, perhaps when the time for `shutdown` is over."""
    deadline = time.monotonic() + 20
    while path.with_name(f"{path.name}-wal").exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def _one_span(tracer: HoneyHiveTracer, name: str, content: str) -> None:
    tracer.create_session(f"session of {name}", session_id=session_of(name))
    with tracer.start_span(name, attributes={"text": content}):
        pass


def session_of(name: object) -> str:
    """Return the session id of the span of this name that `leave_behind` made."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"session of {name}"))


def text(size: int) -> str:
    """Return random text of this length, which no compression makes shorter than half."""
    return random.randbytes(size // 2).hex()


def files_in(folder: Path) -> list[Path]:
    """Return the database files in a spool's folder."""
    return sorted(folder.glob(SPOOL_FILES))


def size_of(folder: Path) -> int:
    """Return the size of all files in the folder in bytes."""
    return sum(path.stat().st_size for path in folder.iterdir())


def settled(path: Path) -> Path:
    """Move what SQLite keeps beside a database file into it, and return the path."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return path


def counts(backend: Backend) -> Counter[str]:
    """Return how often each span arrived, by name."""
    return Counter(span["name"] for span in backend.spans())


def delivered(backend: Backend, folder: Path, done: Callable[[Counter[str]], object], **settings: Any) -> Counter[str]:
    """Start the next tracer, wait until `done(counts)`, and return how often each span arrived."""
    with next_tracer(backend.url, folder, **{"exit_flush_seconds": 20.0, **settings}):
        assert backend.wait_for(lambda backend: done(counts(backend)), timeout=30), counts(backend)
    return counts(backend)


def nothing_unsent_in(folder: Path, backend: Backend, **settings: Any) -> bool:
    """Return whether a further tracer with these settings has nothing to send but its own session."""
    before = len(backend.spans())
    with next_tracer(backend.url, folder, **settings):
        time.sleep(ADOPTED_SECONDS)
    return len(backend.spans()) == before
