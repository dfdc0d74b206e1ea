"""Every case of `tests/data/cases` is read as its file says."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conventions.cases import CASES, document, found

EXPECTED = [(name, key, wanted) for name in CASES for key, wanted in document(name)["expected"].items()]


@pytest.mark.parametrize(("name", "key", "wanted"), EXPECTED, ids=lambda value: str(value)[:60])
def test_a_case_is_read_as_its_instrumentor_meant_it(name: str, key: str, wanted: Any) -> None:
    got = found(name, key)
    if key.endswith("not_contains"):
        assert wanted not in got
    elif key.endswith("contains"):
        assert wanted in got
    elif isinstance(wanted, float):
        assert got == pytest.approx(wanted, rel=1e-3)
    else:
        assert got == wanted
