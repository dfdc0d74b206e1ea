"""The text of each kind of value. It is the same for equal values and in every process."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import functools
import io
import json
import subprocess
import sys
import types
import uuid
from collections import ChainMap, Counter, OrderedDict, deque
from collections.abc import Iterator
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from unittest.mock import Mock

import pytest

from hh_jupyter.values import flatten, json_text, plain, scalar, text_of


class Point(NamedTuple):
    x: int
    y: Any


class Colour(enum.Enum):
    RED = "red"
    NUMBERED = 4


class Level(str, enum.Enum):  # noqa: UP042  # most programs use this; its str() differs
    HIGH = "high"


@dataclasses.dataclass(slots=True)
class Order:
    when: datetime.date
    lines: list[Point]
    card: str = dataclasses.field(default="4111", repr=False)


class Thing:
    def method(self) -> None: ...


def numbers() -> Iterator[int]:
    yield 1


DAY = datetime.date(2024, 1, 2)
WRITTEN: dict[str, tuple[Any, Any]] = {
    "text": ("é\0", "é\0"),
    "lone surrogate": ("a\ud800b", "a?b"),
    "int64": (2**63 - 1, 2**63 - 1),
    "larger int": (2**63, "9223372036854775808"),
    "huge int": (10**5_000, "<int of 16,610 bits>"),
    "date": (DAY, "2024-01-02"),
    "datetime": (datetime.datetime(2024, 1, 2, 3, tzinfo=datetime.UTC), "2024-01-02T03:00:00+00:00"),
    "time": (datetime.time(3, 4), "03:04:00"),
    "timedelta": (datetime.timedelta(hours=1), "1:00:00"),
    "decimal": (Decimal("1.10"), "1.10"),
    "uuid": (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    "path": (PurePosixPath("/a/b"), "/a/b"),
    "enum": (Colour.RED, "red"),
    "enum of a number": (Colour.NUMBERED, 4),
    "enum of texts": (Level.HIGH, "high"),
    "bytes": (b"secret", "<6 bytes>"),
    "bytearray": (bytearray(2_000), "<2,000 bytes>"),
    "memoryview": (memoryview(b"secret"), "<6 bytes>"),
    "list": ([1, None, float("nan"), "é"], '[1, null, "nan", "é"]'),
    "tuple": ((1, "two"), '[1, "two"]'),
    "set": ({10, 9, 2, "a", "B"}, '[2, 9, 10, "B", "a"]'),
    "frozenset of tuples": (frozenset({(2, "b"), (1, "a")}), '[[1, "a"], [2, "b"]]'),
    "dict": ({1: 2, None: 3, (1, 2): 4, DAY: 5}, '{"1": 2, "None": 3, "(1, 2)": 4, "2024-01-02": 5}'),
    "ordered dict": (OrderedDict(b=1, a=2), '{"b": 1, "a": 2}'),
    "counter": (Counter("aab"), '{"a": 2, "b": 1}'),
    "chain map": (ChainMap({"a": 1}), '{"a": 1}'),
    "mapping proxy": (types.MappingProxyType({"a": 1}), '{"a": 1}'),
    "deque": (deque([1, 2]), "[1, 2]"),
    "dict views": ([{"b": 1, "a": 2}.keys(), {"b": 1}.values()], '[["b", "a"], [1]]'),
    "range": (range(10**12), "range(0, 1000000000000)"),
    "named tuple": (Point(1, b"ab"), '{"x": 1, "y": "<2 bytes>"}'),
    "dataclass": (Order(DAY, [Point(1, 2)]), '{"when": "2024-01-02", "lines": [{"x": 1, "y": 2}]}'),
    "namespace": (types.SimpleNamespace(a=1), '{"a": 1}'),
    "exception": (ValueError("boom"), "ValueError: boom"),
    "object": (Thing(), f"<{__name__}.Thing>"),
    "object inside": ([Thing()], f'["<{__name__}.Thing>"]'),
    "class": (Thing, f"<class '{__name__}.Thing'>"),
    "function": (numbers, "<function numbers>"),
    "method": (Thing().method, f"<bound method Thing.method of <{__name__}.Thing>>"),
    "partial": (functools.partial(numbers), "functools.partial(<function numbers>)"),
    "generator": (numbers(), "<generator object numbers>"),
    "module": (json, "<module json>"),
    "file": (io.BytesIO(b"x"), "<_io.BytesIO>"),
    "mock": (Mock(name="m"), "<Mock name='m'>"),
    "mock of a dict": (Mock(spec=dict), "<Mock spec='dict'>"),
}


@pytest.mark.parametrize(("value", "written"), WRITTEN.values(), ids=WRITTEN.keys())
def test_each_kind_of_value_has_its_text(value: Any, written: Any) -> None:
    """No text contains a memory address, which differs in every process, or a field excluded from the repr."""
    found = scalar(value)
    assert (type(found), found) == (type(written), written)


def test_nan_and_infinity_are_sent_as_numbers() -> None:
    assert str(scalar(float("nan"))) == "nan"
    assert flatten("key", [float("inf")]) == {"key.0": float("inf")}


def test_dicts_and_lists_are_flattened_and_other_values_are_one_attribute() -> None:
    value = {"m": {"n": [1, None, "x"]}, "none": None, "empty": {}, 5: Point(1, 2), "when": DAY}
    assert flatten("key", value) == {
        "key.m.n.0": 1,
        "key.m.n.2": "x",
        "key.5": '{"x": 1, "y": 2}',
        "key.when": "2024-01-02",
    }


def test_a_str_subclass_that_masks_its_text_stays_masked() -> None:
    class Masked(str):
        __slots__ = ()

        def __str__(self) -> str:
            return "***"

    assert (scalar(Masked("pw")), plain([Masked("pw")]), text_of(Masked("pw"))) == ("***", ["***"], "***")


def test_sets_are_written_alike_in_every_process() -> None:
    """The order of a set of strings depends on the hash seed of the process."""
    code = "from hh_jupyter.values import scalar; print(scalar({'one', 'two', 'three', ('four', 4)}))"
    run = functools.partial(subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len({run(env={"PYTHONHASHSEED": seed}).stdout for seed in ("1", "2", "3")}) == 1


class Silent:
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_json_text_leaves_text_as_it_is_and_shows_what_json_cannot_hold() -> None:
    endless: list[Any] = []
    endless.append(endless)
    values = ["text", {"a": "\u00e9"}, None, {(1, 2): 3}, [{1}], endless, [Silent()]]
    texts = ["text", '{"a": "\u00e9"}', "null", "{(1, 2): 3}", '["{1}"]', "[[...]]"]
    *shown, silent = map(json_text, values)
    assert shown == texts
    assert "RuntimeError" not in silent
