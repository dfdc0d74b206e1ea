"""Test modules do not import each other: what two of them need is in a helper module beside them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent


def imported_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_test_module(name: str) -> bool:
    path = TESTS.parent.joinpath(*name.split("."))
    return path.name.startswith("test_") and path.with_suffix(".py").exists()


def test_no_test_module_is_imported() -> None:
    paths = sorted(TESTS.rglob("*.py"))
    assert any(path.name.startswith("test_") for path in paths)
    imports = {(str(path.relative_to(TESTS)), name) for path in paths for name in imported_modules(path)}
    assert ("testing/test_backend.py", "hh_jupyter.testing") in imports
    assert sorted((path, name) for path, name in imports if is_test_module(name)) == []
