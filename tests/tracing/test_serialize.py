"""Values that cannot be read or are endless are replaced by a marker. test_serialize_properties.py covers any value."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from hh_jupyter.values import flatten, plain, scalar


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


@pytest.mark.parametrize(
    "make",
    [Broken, dead_proxy, lambda: 10**5000, lambda: {"deep": Broken()}, lambda: [dead_proxy()]],
    ids=["mapping", "proxy", "huge", "deep mapping", "deep proxy"],
)
def test_a_value_that_cannot_be_read_is_replaced_by_its_type_name(make: Callable[[], Any]) -> None:
    """The values are made in the test, because pytest itself fails on some of them."""
    value = make()
    json.dumps(plain(value))
    assert isinstance(scalar(value), str)
    assert flatten("key", value)


def test_objects_that_refer_to_each_other_are_bounded() -> None:
    people = [Person(str(number)) for number in range(20)]
    for person in people:
        person.knows = people
    assert len(str(scalar(people))) < 1_000_000


def test_a_value_that_raises_while_it_is_read_keeps_the_entries_before() -> None:
    class Half(dict[str, Any]):
        def items(self) -> Any:
            yield "first", 1
            raise OSError("gone")

    assert plain(Half(a=1)) == {"first": 1, "...": "unreadable"}
    assert plain([1, dead_proxy(), 3]) == [1, "<ProxyType without text>", 3]


def test_a_cyclic_value_is_cut_at_the_cycle() -> None:
    value: dict[str, Any] = {"a": 1}
    value["again"] = [value]
    assert plain(value) == {"a": 1, "again": ["<cycle>"]}
    assert flatten("key", value) == {"key.a": 1, "key.again.0": "<cycle>"}
    shared = {"b": 2}
    assert plain([shared, shared]) == [shared, shared], "the same object twice is not a cycle"


def test_a_keyboard_interrupt_while_a_value_is_read_propagates() -> None:
    class Interrupted:
        def __str__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scalar([Interrupted()])
