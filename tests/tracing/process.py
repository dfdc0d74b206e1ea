"""Python programs in a process of their own."""

from __future__ import annotations

import subprocess
import sys
import textwrap


def run(program: str, *arguments: str) -> str:
    """Return what a program prints. OpenTelemetry's global provider can be set only once per process."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
