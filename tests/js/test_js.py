"""The front end's own tests, where node is there."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

TESTS = sorted(Path(__file__).parent.glob("*.test.mjs"))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_front_end(path: Path) -> None:
    """`node --test` passes."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    run = subprocess.run([node, "--test", path], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
