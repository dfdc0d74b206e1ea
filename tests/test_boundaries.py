"""Broad `except` clauses that swallow stand only where one side is protected from the other, and say so.

Catching BaseException is how a call is passed on (to a generator, to a waiting thread): there a comment is enough.
"""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "hh_jupyter"
MARKS = {"Exception": "# boundary", "BaseException": "# "}
"""What the line of a broad clause must hold."""


def _mark(handler: ast.ExceptHandler) -> str | None:
    names = [node.id for node in ast.walk(handler.type or ast.Name("Exception")) if isinstance(node, ast.Name)]
    return next((MARKS[name] for name in names if name in MARKS), None)


def _raises_again(handler: ast.ExceptHandler) -> bool:
    return any(isinstance(node, ast.Raise) for node in ast.walk(handler))


def test_every_broad_except_that_swallows_is_marked_as_a_boundary() -> None:
    unmarked = []
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ExceptHandler) and (mark := _mark(node)) and not _raises_again(node):
                line = source.splitlines()[node.lineno - 1].strip()
                if mark not in line:
                    unmarked.append(f"{path.relative_to(PACKAGE)}:{node.lineno}: {line}")
    assert not unmarked, "\n".join(unmarked)
