"""What the spool keeps and tells, as plain data. Loads no SQLite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol

LOCAL: Final = "local"
"""The destination of records that stay on this machine until somebody names them."""

SPANS: Final = "spans"
SESSION_START: Final = "session_start"

Trouble = Literal["busy", "full", "broken", "other"]


class Storable(Protocol):
    """What can be put into the spool; an item of the outbox is one.

    Attributes:
        key: set by the spool: where the record is on disk, None while it is not there.
    """

    key: int | None

    @property
    def kind(self) -> str: ...

    @property
    def session_id(self) -> str: ...

    @property
    def body(self) -> bytes: ...

    @property
    def spans(self) -> int: ...

    @property
    def cell(self) -> str | None: ...


@dataclass(slots=True, eq=False)
class Stored:
    """A record as it was read back.

    Attributes:
        key: in this process's own file.
        spans: how many the body holds.
        added: Unix seconds when it was put into the spool.
        parked: why it was parked; None for one that waits.
        size: bytes of the body.
        body: empty where it was left on disk, to be had from `Spool.load`.
    """

    key: int | None
    destination: str
    kind: str
    session_id: str
    cell: str | None
    spans: int
    added: float
    parked: str | None
    size: int
    body: bytes


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session of the local trace store: one row for each destination that its records have.

    Attributes:
        name: from its start document; None if that is not kept.
        first, last: Unix seconds when its first and its last record were sealed.
        spans: how many are kept.
        here: this kernel made or adopted some of it; else the process that made it is dead.
    """

    session_id: str
    name: str | None
    first: float
    last: float
    spans: int
    destination: str
    here: bool


@dataclass(frozen=True, slots=True)
class LeftOver:
    """What dead processes left for one destination."""

    records: int = 0
    spans: int = 0

    def __add__(self, other: LeftOver) -> LeftOver:
        return LeftOver(self.records + other.records, self.spans + other.spans)


class SpoolFault(Exception):  # noqa: N818
    """Something that the disk or the file refused.

    Attributes:
        trouble: busy (its owner lives), full (the disk, or the file's own bound), broken (no SQLite file, or a
            damaged one), or other.
    """

    def __init__(self, trouble: Trouble, text: str) -> None:
        super().__init__(text)
        self.trouble: Trouble = trouble


def in_order(records: list[Stored]) -> list[Stored]:
    """The same records with each session's start before what else there is of the session."""
    starts: Mapping[str, Stored] = {r.session_id: r for r in reversed(records) if r.kind == SESSION_START}
    seen: set[int] = set()
    ordered: list[Stored] = []
    for record in records:
        for one in (starts.get(record.session_id), record):
            if one is not None and id(one) not in seen:
                seen.add(id(one))
                ordered.append(one)
    return ordered


def text_of(value: str) -> str:
    """The same text, if a database can hold it; else with a mark in place of each half of a character."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
