"""Every known fault of the recorded client has a test here, or a reason why it needs none."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.contract.faults import FAULTS

ROOT = Path(__file__).parents[2]
LAST = 34
"""Faults in section 11 of the contract."""


@cache
def _functions(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_each_fault_is_there_once() -> None:
    assert [fault.number for fault in FAULTS] == list(range(1, LAST + 1))


def test_each_has_tests_or_a_reason_and_not_both() -> None:
    assert [fault.number for fault in FAULTS if bool(fault.tests) == bool(fault.reason)] == []


@pytest.mark.parametrize("node", sorted({test for fault in FAULTS for test in fault.tests}))
def test_each_named_test_exists(node: str) -> None:
    path, _, function = node.partition("::")
    assert function.startswith("test_")
    assert function in _functions(ROOT / path)
