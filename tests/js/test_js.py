"""Run the front end's tests if node is installed, and check its types if `make node` has installed TypeScript."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
TYPESCRIPT = PROJECT / ".venv-node" / "node_modules" / ".bin"
TESTS = sorted(Path(__file__).parent.glob("*.test.mjs"))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_front_end(path: Path) -> None:
    """`node --test` passes."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    run = subprocess.run([node, "--test", path], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]


def test_types() -> None:
    """The types in the comments match the code."""
    compiler = shutil.which("tsc", path=TYPESCRIPT)
    if compiler is None:
        pytest.skip("needs TypeScript: make node")
    target = ["--target", "es2022", "--module", "es2022", "--lib", "es2022,dom,dom.iterable"]
    options = ["--strict", "--allowJs", "--checkJs", "--noEmit", *target]
    modules = sorted((PROJECT / "hh_jupyter" / "display" / "static").glob("*.js"))
    run = subprocess.run([compiler, *options, *modules], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
