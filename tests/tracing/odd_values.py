"""Values that no documentation asks for, as arguments."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

ODD: tuple[Any, ...] = (
    None,
    True,
    5,
    -1,
    2**70,
    -(10**400),
    1.5,
    float("nan"),
    float("inf"),
    "",
    "text",
    "\ud800",
    b"bytes",
    [],
    [5],
    ["text"],
    [("a", "b"), "c"],
    {},
    {5: b"x"},
    {None: None},
    {1, 2},
    Decimal("1.5"),
    object(),
    len,
    dict,
)
