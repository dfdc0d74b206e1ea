"""Any Python value becomes an attribute of bounded size, and reading it never harms the call."""

from __future__ import annotations

import json
import math
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hh_jupyter.tracing.serialize import MAX_KEYS, flatten, plain, scalar

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates() | st.decimals(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


class Broken(Mapping[str, Any]):
    """A mapping whose backing store is gone."""

    def __getitem__(self, key: str) -> Any:
        raise OSError("gone")

    def __iter__(self) -> Iterator[str]:
        raise OSError("gone")

    def __len__(self) -> int:
        return 3


@dataclass
class Person:
    name: str
    knows: list[Person] = field(default_factory=list)


def dead_proxy() -> Any:
    class Target:
        pass

    return weakref.proxy(Target())


class NumpyLike:
    """What a numpy scalar looks like from outside."""

    shape = ()

    def item(self) -> float:
        return 0.5


@given(VALUES)
def test_every_value_becomes_valid_attributes_and_valid_json(value: Any) -> None:
    for attribute in flatten("key", value).values():
        assert type(attribute) in (str, bool, int, float)
        if isinstance(attribute, int):
            assert -(2**63) <= attribute < 2**63
    json.dumps(plain(value))


@pytest.mark.parametrize(
    "make",
    [Broken, dead_proxy, lambda: 10**5000, lambda: {"deep": Broken()}, lambda: [dead_proxy()]],
    ids=["mapping", "proxy", "huge", "deep mapping", "deep proxy"],
)
def test_values_that_cannot_be_read_are_named_instead(make: Callable[[], Any]) -> None:
    """Made in the test: pytest itself trips over some of them."""
    value = make()
    json.dumps(plain(value))
    assert isinstance(scalar(value), str)
    assert flatten("key", value)


def test_numbers_of_numpy_are_numbers() -> None:
    assert (scalar(NumpyLike()), plain({"x": NumpyLike()}), flatten("m", {"x": NumpyLike()})) == (
        0.5,
        {"x": 0.5},
        {"m.x": 0.5},
    )


def test_objects_that_all_know_each_other_do_not_explode() -> None:
    people = [Person(str(number)) for number in range(20)]
    for person in people:
        person.knows = people
    assert len(str(scalar(people))) < 1_000_000


def test_what_is_cut_is_said() -> None:
    assert plain(deque(range(1_500)))[-1] == "... 500 more"
    assert flatten("key", list(range(5_000)))["key.hh_truncated"] == f"more than {MAX_KEYS:,} values"
    assert math.isfinite(len(str(scalar(dict.fromkeys(range(100000), "x")))))
