"""Data types of the spool. This module does not load SQLite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol

LOCAL: Final = "local"
"""Destination of records that stay on this machine until the user sends their sessions."""

SPANS: Final = "spans"
SESSION_START: Final = "session_start"

Trouble = Literal["busy", "full", "broken", "other"]


class Storable(Protocol):
    """A record that can be added to the spool, such as an item of the outbox.

    Attributes:
        key: key of the record on disk, set by the spool; None while it is not on disk.
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
    """A record read from the spool.

    Attributes:
        key: key in this process's own file.
        spans: number of spans in the body.
        added: time at which it was added to the spool, in Unix seconds.
        parked: why it was parked; None if it is pending.
        size: size of the body in bytes.
        body: empty if it was left on disk; `Spool.load` returns it.
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
    """A session of the local trace store; there is one row for each destination of its records.

    Attributes:
        name: name from its start document; None if that is not stored.
        first, last: times at which its first and last record were added, in Unix seconds.
        spans: number of stored spans.
        here: whether this process created or adopted some of its records; if not, its process is dead.
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
    """Numbers of records and spans that dead processes left for one destination."""

    records: int = 0
    spans: int = 0

    def __add__(self, other: LeftOver) -> LeftOver:
        return LeftOver(self.records + other.records, self.spans + other.spans)


class SpoolFault(Exception):  # noqa: N818
    """An operation failed on the disk or the file.

    Attributes:
        trouble: busy (its owner is alive), full (the disk, or the file's own size limit), broken (damaged, or not an
            SQLite file), or other.
    """

    def __init__(self, trouble: Trouble, text: str) -> None:
        super().__init__(text)
        self.trouble: Trouble = trouble


def in_order(records: list[Stored]) -> list[Stored]:
    """Return the records in order, but each session's start before its other records."""
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
    """Return the text with each unpaired surrogate replaced by "?", because SQLite cannot store them."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
