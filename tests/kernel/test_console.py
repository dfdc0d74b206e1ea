"""`jupyter console`: a front end of a kernel that shows text alone."""

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
    """What a console shows when these lines are typed, each after the prompt for it."""
    master, slave = pty.openpty()
    env = kernel_environment(tmp_path, {"TERM": "dumb", "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime")})
    command = [sys.executable, "-m", "jupyter_console", "--simple-prompt", "--kernel=python3"]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=env, cwd=tmp_path) as process:
        os.close(slave)
        said = ""
        for number, line in enumerate((*lines, "exit"), start=1):
            said += _read_until(master, f"In [{number}]: ")
            os.write(master, f"{line}\n".encode())
        said += _read_until(master, "")
        os.close(master)
        process.wait(SECONDS)
    return said.replace("\r\n", "\n")


def _read_until(master: int, end: str) -> str:
    """What arrives up to this text; to the end of all without one."""
    said, deadline = b"", time.monotonic() + SECONDS
    while not end or end.encode() not in said:
        assert time.monotonic() < deadline, said.decode("utf-8", "replace")
        try:
            part = os.read(master, 65_536)
        except OSError:  # A terminal whose other end is closed.
            part = b""
        if not part:
            break
        said += part
    return said.decode("utf-8", "replace")


def test_jupyter_console_prints_the_summary_and_the_output_of_show(tmp_path: Path) -> None:
    (tmp_path / "traced.py").write_text(
        'import hh_jupyter as hh\n\n@hh.trace(event_name="answer")\ndef answer(question):\n    return "because"\n'
    )
    said = console(
        tmp_path, "%load_ext hh_jupyter", "from traced import answer", "answer('why')", "%hh show --detail full"
    )
    assert said.count("✓ answer") == 2
    assert "local only" in said
    assert '"question": "why"' in said
    assert "because" in said
    assert "<div" not in said
    assert "Traceback" not in said
