"""`jupyter console`: a front end that shows only text."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

from tests.kernel.driver import kernel_environment

SECONDS = 90.0


def console(tmp_path: Path, *lines: str) -> str:
    """Return what the console prints when these lines are typed, each after its prompt."""
    master, slave = pty.openpty()
    env = kernel_environment(tmp_path, {"TERM": "dumb", "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime")})
    command = [sys.executable, "-m", "jupyter_console", "--simple-prompt", "--kernel=python3"]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=env, cwd=tmp_path) as process:
        os.close(slave)
        printed = ""
        for number, line in enumerate((*lines, "exit"), start=1):
            printed += _read_until(master, f"In [{number}]: ")
            os.write(master, f"{line}\n".encode())
        printed += _read_until(master, "")
        os.close(master)
        process.wait(SECONDS)
    return printed.replace("\r\n", "\n")


def _read_until(master: int, end: str) -> str:
    """Read up to this text, or to the end of the stream if it is empty."""
    printed, deadline = b"", time.monotonic() + SECONDS
    while not end or end.encode() not in printed:
        assert time.monotonic() < deadline, printed.decode("utf-8", "replace")
        try:
            part = os.read(master, 65_536)
        except OSError:  # The other end of the terminal is closed.
            part = b""
        if not part:
            break
        printed += part
    return printed.decode("utf-8", "replace")


def test_jupyter_console_prints_the_summary_and_the_output_of_show(tmp_path: Path) -> None:
    (tmp_path / "traced.py").write_text(
        'import hh_jupyter as hh\n\n@hh.trace(event_name="answer")\ndef answer(question):\n    return "because"\n'
    )
    printed = console(
        tmp_path, "%load_ext hh_jupyter", "from traced import answer", "answer('why')", "%hh show --detail full"
    )
    assert printed.count("✓ answer") == 2
    assert "local only" in printed
    assert '"question": "why"' in printed
    assert "because" in printed
    assert "<div" not in printed
    assert "Traceback" not in printed
