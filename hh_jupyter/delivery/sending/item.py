"""What waits for the network: one body to send, and the batch that a refused request becomes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from hh_jupyter.delivery.sending.target import Target

Kind = Literal["session_start", "event_update", "event_create", "spans"]


class Call(NamedTuple):
    """A call to the backend that is still to be redacted and encoded.

    Attributes:
        session_id: of the session, or of the event, whose calls keep their order.
        document: plain data, as JSON can hold it.
        defer: send it only before the session's first span or update.
    """

    kind: Kind
    session_id: str
    document: Mapping[str, Any]
    defer: bool = False


@dataclass(slots=True, eq=False)
class Item:
    """One body to send.

    Attributes:
        body: encoded; empty while only the spool holds it.
        spans: how many it holds; 0 for a call.
        cell: the notebook cell they started in.
        key: its row in the spool, None while it has none.
        size: bytes of the body, wherever it is.
        serial: its place in the order of arrival.
        tries: attempts that failed.
        not_before: moment of the next attempt, on the clock of `time.monotonic`.
        failed_at: moment of the first failure, 0 before it.
        gave_way: a session's start that no longer holds back its session.
        background: tried again long after it was given up; nobody waits for it.
        whole: of a piece that was cut from a larger item.
        by_others: where its spans arrive without us.
    """

    kind: Kind
    session_id: str
    body: bytes
    spans: int = 0
    cell: str | None = None
    key: int | None = None
    added: float = field(default_factory=time.monotonic)
    size: int = 0
    serial: int = 0
    tries: int = 0
    not_before: float = 0.0
    failed_at: float = 0.0
    gave_way: bool = False
    background: bool = False
    whole: Whole | None = None
    by_others: tuple[Target, ...] = ()

    def __post_init__(self) -> None:
        self.size = len(self.body)

    def fresh(self) -> None:
        """Forget what went wrong so far and be due at once."""
        self.added = self.not_before = self.failed_at = 0.0
        self.tries = 0
        self.gave_way = self.background = False


@dataclass(slots=True, eq=False)
class Whole:
    """An item that was cut into pieces: its row in the spool stays until all of them have their verdict.

    Attributes:
        pieces: how many.
        verdicts: why each of them was refused, None if it was accepted; those without a verdict are missing.
    """

    item: Item
    pieces: int
    verdicts: dict[Item, str | None] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Family:
    """All batches that a refused one was split into.

    Attributes:
        refusals_left: so many more of them may be refused before the rest is parked unsplit: a backend that refuses
            everything must not be asked about every span.
        accepted: one of them was accepted, so the trouble is not the backend's.
    """

    refusals_left: int
    accepted: bool = False


@dataclass(slots=True, eq=False)
class Batch:
    """Spans that were refused together and stay together, so that the one they suffer from can be found.

    Attributes:
        items: in their order.
        refusals: 5xx answers to exactly these spans.
        tries, not_before, failed_at: as in `Item`.
        family: once it is the half of another.
    """

    items: list[Item]
    refusals: int = 0
    tries: int = 0
    not_before: float = 0.0
    failed_at: float = 0.0
    family: Family | None = None

    @property
    def spans(self) -> int:
        """How many spans it holds."""
        return sum(item.spans for item in self.items)

    @property
    def serial(self) -> int:
        """Its place in the order of arrival."""
        return self.items[0].serial


@dataclass(slots=True, eq=False)
class Flight:
    """One request that is under way.

    Attributes:
        batch: if its spans were refused before.
        began: on the clock of `time.monotonic`.
        probe: it was sent to see whether the backend is back.
    """

    items: tuple[Item, ...]
    batch: Batch | None
    began: float
    probe: bool = False
