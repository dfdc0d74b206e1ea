"""The front end's own tests, where node is there, and its types, where `make js-types` has fetched TypeScript."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
TYPESCRIPT = PROJECT / ".venv-typescript" / "node_modules" / ".bin"
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
    """The types that the comments tell are those of the code."""
    compiler = shutil.which("tsc", path=TYPESCRIPT)
    if compiler is None:
        pytest.skip("needs TypeScript: make js-types")
    target = ["--target", "es2022", "--module", "es2022", "--lib", "es2022,dom,dom.iterable"]
    options = ["--strict", "--allowJs", "--checkJs", "--noEmit", *target]
    modules = sorted((PROJECT / "hh_jupyter" / "display" / "static").glob("*.js"))
    run = subprocess.run([compiler, *options, *modules], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
