"""A strategy for any Python value, the hostile ones included: what a traced function may be called with."""

from __future__ import annotations

import datetime
import enum
import functools
import io
import types
import uuid
import weakref
from collections import ChainMap, Counter, UserDict, deque, namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any
from unittest.mock import MagicMock, Mock

from hypothesis import strategies as st

Point = namedtuple("Point", "x y")  # the plain form, which has no types


class Colour(enum.Enum):
    RED = "red"
    NONE = None


class Size(enum.IntEnum):
    SMALL = 1


class Word(str):  # noqa: SLOT000  # as most are
    """A text that is not quite one."""


class Number(int):
    pass


@dataclass
class Record:
    x: Any
    y: Any = None
    hidden: str = field(default="hidden-value", repr=False)


def fail(*_: Any, **__: Any) -> Any:
    raise RuntimeError("hostile")


class Hostile:
    """Everything that can be asked of it raises, its class included."""

    __class__ = property(fail)
    __repr__ = __str__ = __eq__ = __bool__ = __len__ = __iter__ = __getattr__ = fail
    __hash__ = __index__ = __float__ = __contains__ = __getitem__ = __call__ = fail
    shape = property(fail)


class Liar(dict[str, Any]):
    """A dict that says nothing true about itself."""

    def __len__(self) -> int:
        return 10**9

    items = keys = values = __iter__ = fail


class Gone(Mapping[str, Any]):
    """A lazy mapping whose backing store is gone after one entry."""

    def __getitem__(self, key: str) -> Any:
        return key

    def __iter__(self) -> Iterator[str]:
        yield "first"
        raise OSError("gone")

    def __len__(self) -> int:
        return 3


class Endless(Sequence[Any]):
    """A sequence that never ends."""

    def __getitem__(self, index: Any) -> Any:
        return index

    def __len__(self) -> int:
        return 2**62


class Odd(type):
    """Classes that cannot be hashed, compared or asked for their name."""

    __hash__ = None  # type: ignore[assignment]
    __name__ = property(fail)
    __eq__ = __getattribute__ = fail


class OddlyMade(metaclass=Odd):
    pass


class Array:
    """What an array looks like from outside."""

    dtype = "float32"

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    def item(self) -> float:
        return 0.5

    __bool__ = __iter__ = __str__ = fail


class Loud:
    """Ten million characters."""

    def __repr__(self) -> str:
        return "loud" * 2_500_000


def _dead_proxy() -> Any:
    return weakref.proxy(Record(1))


def _cycle() -> Any:
    found: dict[str, Any] = {"list": []}
    found["self"] = found
    found["list"].append(found)
    return found


def _deep() -> Any:
    found: Any = "bottom"
    for _ in range(5_000):
        found = [found]
    return found


def _generator() -> Iterator[int]:
    yield 1


MAKERS: tuple[Callable[[], Any], ...] = (
    Hostile,
    lambda: Liar(a=1),
    Gone,
    Endless,
    lambda: OddlyMade(),  # noqa: PLW0108  # comparing its class raises
    lambda: Array((2, 3)),
    lambda: Array(()),
    _dead_proxy,
    _cycle,
    _deep,
    _generator,
    Mock,
    MagicMock,
    lambda: Mock(spec=dict),
    object,
    lambda: Hostile,
    lambda: OddlyMade,
    lambda: print,
    lambda: functools.partial(print, 1),
    lambda: types,
    lambda: io.BytesIO(b"x"),
    lambda: memoryview(b"abc"),
    lambda: ValueError(Hostile()),
    lambda: 10**5_000,
    lambda: 2**63,
    lambda: "a\udcffb",
    lambda: "a\0b",
    lambda: {"a\udcffb": 1, "": 2, None: 3, (1, 2): 4},
    lambda: range(10**12),
    lambda: {1: 2}.items(),  # noqa: PLW0108  # made anew each time
    lambda: Counter("abca"),
    lambda: ChainMap({"a": 1}, {"b": 2}),
    lambda: UserDict({"a": Hostile()}),
    lambda: deque([1, Hostile()]),
    lambda: types.SimpleNamespace(a=Hostile()),
    lambda: Colour.NONE,
    lambda: Size.SMALL,
    lambda: Point(1, Hostile()),
    lambda: PurePosixPath("/a"),
    lambda: uuid.UUID(int=5),
    lambda: NotImplemented,
)
"""Makers, not values: generators and proxies are used up, and Hypothesis must never print or compare a hostile one."""

LARGE: tuple[Callable[[], Any], ...] = (
    Loud,
    lambda: [Loud()] * 500,
    lambda: "x" * 20_000_000,
    lambda: ["é" * 1_000] * 50_000,
    lambda: [{"id": number, "text": "x" * 50} for number in range(100_000)],
    lambda: {"k" * 10_000 + str(number): number for number in range(1_000)},
    lambda: {f"k{number}": {f"k{inner}": [inner] * 5 for inner in range(50)} for number in range(200)},
    lambda: set(range(200_000)),
    lambda: bytes(20_000_000),
    lambda: tuple(range(1_000_000)),
    lambda: {tuple(range(100_000)): 1},
    lambda: Record([[0.5] * 1_000] * 1_000),
)
"""Values much larger than what is kept of one."""


@dataclass(frozen=True, eq=False)
class Made:
    """A value to be made in the test, since Hypothesis prints what it draws."""

    make: Callable[[], Any]

    def __repr__(self) -> str:
        return f"Made({self.make})"


_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.text(st.characters())
    | st.binary()
    | st.dates()
    | st.datetimes(timezones=st.just(datetime.UTC))
    | st.timedeltas()
    | st.decimals()
    | st.uuids()
    | st.complex_numbers()
    | st.sampled_from([Colour.RED, Size.SMALL, Word("word"), Number(7), Decimal("1.10")])
).map(lambda value: Made(lambda: value)) | st.sampled_from([Made(make) for make in MAKERS])

_KEYS = st.text() | st.integers() | st.booleans() | st.none() | st.tuples(st.integers()) | st.sampled_from(Colour)


def _all(inner: Any) -> list[Any]:
    return [item.make() for item in inner]


def _containers(inner: st.SearchStrategy[Made]) -> st.SearchStrategy[Made]:
    lists = st.lists(inner, max_size=5)
    dicts = st.dictionaries(_KEYS, inner, max_size=5)
    return (
        lists.map(lambda items: Made(lambda: _all(items)))
        | lists.map(lambda items: Made(lambda: tuple(_all(items))))
        | lists.map(lambda items: Made(lambda: deque(_all(items))))
        | dicts.map(lambda items: Made(lambda: {key: item.make() for key, item in items.items()}))
        | st.tuples(inner, inner).map(lambda pair: Made(lambda: Record(*_all(pair))))
        | st.frozensets(_KEYS, max_size=5).map(lambda keys: Made(lambda: set(keys)))
    )


ANY_VALUE: st.SearchStrategy[Made] = st.recursive(_LEAVES, _containers, max_leaves=20)
"""`drawn.make()` gives the value."""
